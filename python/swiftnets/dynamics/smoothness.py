"""Which nets have the derivatives that a map's tangents are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swiftnets.nets.activations import Activation
from swiftnets.nets.layer import Layer
from swiftnets.nets.layers import MaxPool2d, Residual
from swiftnets.nets.network import BaseNetwork
from swiftnets.network import Network

__all__ = ["kinked_layer", "require_smooth"]


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
        Whether the second derivative must not jump either: Huber's loss has one that does.

    Raises
    ------
    ValueError
        Naming the layer or the loss.
    """
    layer = kinked_layer(net)
    if layer is not None:
        raise ValueError(
            f"the net has {layer!r}; expected layers without a kink, such as Tanh(): at one "
            f"the gradient jumps, which {what} cannot know"
        )
    if twice and net.loss_function.name == "huber":
        raise ValueError(
            "the loss is 'huber'; expected one whose second derivative does not jump, which "
            f"{what} cannot know"
        )


def kinked_layer(net: BaseNetwork) -> Layer | None:
    """The net's first layer with a kink, if there is one."""
    return next(filter(_has_kink, _flat(net.layers)), None)


def _flat(layers: Iterable[object]) -> Iterator[Layer]:
    for layer in layers:
        if isinstance(layer, Residual):
            yield from _flat([*layer.body, *layer.shortcut])
        elif isinstance(layer, Layer):
            yield layer


def _has_kink(layer: Layer) -> bool:
    if isinstance(layer, Activation):
        is_line = layer.name == "identity" or layer.parameter == 1
        return layer.is_piecewise_linear and not is_line
    return isinstance(layer, MaxPool2d)
