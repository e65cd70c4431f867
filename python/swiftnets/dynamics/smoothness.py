"""Which nets have the derivatives that a map's tangents are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter

from swiftnets.nets.activations import Activation
from swiftnets.nets.layer import Layer
from swiftnets.nets.layers import MaxPool2d, Residual
from swiftnets.nets.network import BaseNetwork
from swiftnets.network import Network

__all__ = ["lowest_jump", "require_smooth"]


def __dir__() -> list[str]:
    return __all__


def require_smooth(net: Network, what: str, *, twice: bool = False) -> None:
    """A ValueError if the net's gradient jumps somewhere.

    Parameters
    ----------
    net : Network or MLP
    what : str
        Needs it, for the message.
    twice : bool
        Whether the second derivative must not jump either: those of Huber's loss and the ELU do.

    Raises
    ------
    ValueError
        Naming the layer or the loss.
    """
    order, layer = lowest_jump(net)
    if order == 1:
        raise ValueError(
            f"the net has {layer!r}; expected layers without a kink, such as Tanh(): at one "
            f"the gradient jumps, which {what} cannot know"
        )
    if twice and order == 2:
        raise ValueError(
            f"the net has {layer!r}; expected layers such as Tanh() whose second derivative does "
            f"not jump, which {what} cannot know"
        )
    if twice and net.loss_function.name == "huber":
        raise ValueError(
            "the loss is 'huber'; expected one whose second derivative does not jump, which "
            f"{what} cannot know"
        )


def lowest_jump(net: BaseNetwork) -> tuple[int | None, Layer | None]:
    """The lowest derivative of a layer that jumps, and the first layer whose it is; or None."""
    found = [(order, layer) for layer in _flat(net.layers) if (order := _jump(layer)) is not None]
    return min(found, key=itemgetter(0), default=(None, None))


def _flat(layers: Iterable[object]) -> Iterator[Layer]:
    for layer in layers:
        if isinstance(layer, Residual):
            yield from _flat([*layer.body, *layer.shortcut])
        elif isinstance(layer, Layer):
            yield layer


def _jump(layer: Layer) -> int | None:
    if isinstance(layer, Activation):
        return layer.first_jump
    return 1 if isinstance(layer, MaxPool2d) else None
