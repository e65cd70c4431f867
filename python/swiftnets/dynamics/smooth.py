"""Where third derivatives mean what a theory takes them for: nets and losses without kinks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from swiftnets.curvature.point import Point, require_point
from swiftnets.nets.activations import Activation
from swiftnets.nets.layers.images import MaxPool2d
from swiftnets.nets.layers.residual import Residual

__all__ = ["require_smooth"]


def __dir__() -> list[str]:
    return __all__


def require_smooth(point: object, what: str) -> Point:
    """The point, if its net and loss have third derivatives everywhere; `what` asks for them.

    Parameters
    ----------
    point : Point
    what : str
        The function's name, for the message.

    Returns
    -------
    Point

    Raises
    ------
    TypeError
        If it is no point, or one without targets.
    ValueError
        If an activation, a layer or the loss has kinks: the derivatives on either side of one say
        nothing of what happens across it.
    """
    here = require_point(point)
    if not here.samples.batches:  # asks for targets as well
        raise ValueError("the point has no samples of a weight above 0; expected at least one")
    for layer in _all(here.net.layers):
        kinked = isinstance(layer, Activation) and layer.name in ("relu", "leaky_relu")
        if kinked or isinstance(layer, MaxPool2d):
            raise ValueError(
                f"{what} needs third derivatives, and the net has {layer!r}, which has kinks; "
                'expected smooth layers, such as "gelu", "softplus" or "tanh"'
            )
    loss = here.net.loss_function
    if loss.name == "huber":
        raise ValueError(
            f"{what} needs third derivatives, and the loss is {loss.name!r}, whose second one "
            "jumps; expected a squared error or a cross-entropy"
        )
    return here


def _all(layers: Sequence[Any]) -> Iterator[Any]:
    for layer in layers:
        if isinstance(layer, Residual):
            yield from _all(layer.body)
            yield from _all(layer.shortcut)
        else:
            yield layer
