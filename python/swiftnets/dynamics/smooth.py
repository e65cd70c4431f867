"""What this folder takes: nets and points whose loss has the derivatives that it asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point, require_point
from swiftnets.nets.activations import Activation
from swiftnets.nets.layer import Layer
from swiftnets.nets.layers import MaxPool2d, Residual
from swiftnets.nets.network import BaseNetwork
from swiftnets.problems import NetProblem

__all__ = ["diverged", "finite_loss", "moved", "problem_of", "require_smooth", "smooth_point"]


def __dir__() -> list[str]:
    return __all__


def require_smooth(net: BaseNetwork, of: str, what: str, *, twice: bool) -> None:
    """A ValueError if the net's gradient jumps somewhere.

    Parameters
    ----------
    net : Network or MLP
    of : str
        The argument that it is of.
    what : str
        Needs it, for the message.
    twice : bool
        Whether the second derivative must not jump either: those of Huber's loss and the ELU do.

    Raises
    ------
    ValueError
        Naming the layer or the loss.
    """
    order, layer = _lowest_jump(net)
    if order == 1:
        raise ValueError(
            f"{of} is of a net with {layer!r}, which has a kink: there the gradient jumps, which "
            f"{what} cannot know; expected smooth layers, such as Tanh()"
        )
    if twice and order == 2:
        raise ValueError(
            f"{of} is of a net with {layer!r}, whose second derivative jumps, which {what} cannot "
            "know; expected smooth layers, such as Tanh()"
        )
    if twice and net.loss_function.name == "huber":
        raise ValueError(
            f"{of} is of a net with the loss 'huber', whose second derivative jumps, which {what} "
            "cannot know; expected 'squared_error' or a cross-entropy"
        )


def _lowest_jump(net: BaseNetwork) -> tuple[int | None, Layer | None]:
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


def smooth_point(point: object) -> Point:
    """The point in float64, if its loss has third derivatives everywhere.

    Parameters
    ----------
    point : Point

    Returns
    -------
    Point
        Itself where it is of float64.

    Raises
    ------
    TypeError
        If it is no point, or has no targets.
    ValueError
        If a derivative of a layer or the loss jumps, or numbers are not finite.
    """
    found = require_point(point)
    require_smooth(found.net, "point", "a third derivative", twice=True)
    if found.net.dtype != np.float64:
        found = found.in_float64()
    reason = NetProblem.of(_net(found), found.samples).not_finite()
    if reason is not None:
        raise ValueError(f"point: {reason}; expected finite numbers")
    checks.finite(found.w, "point.w")
    return found


def _net(point: Point) -> Any:
    return point.net


def problem_of(point: Point) -> NetProblem:
    """The net on the point's samples: what tells it from others in a checkpoint."""
    return NetProblem.of(_net(point), point.samples)


def moved(point: Point, w: Array) -> Point:
    """The same net on the same samples at other parameters.

    Parameters
    ----------
    point : Point
    w : (P,) float64 array

    Returns
    -------
    Point
    """
    net: Any = point.net
    found: Point = net.at_samples(w, point.samples)
    return found


def diverged(what: str, count: int, *vectors: Array) -> None:
    """A FloatingPointError if a vector is not finite.

    Parameters
    ----------
    what : str
        What has diverged, in words.
    count : int
        After how many steps.
    *vectors : float64 arrays

    Raises
    ------
    FloatingPointError
    """
    if not all(np.isfinite(vector).all() for vector in vectors):
        raise FloatingPointError(_said(what, count, "its parameters are not finite"))


def finite_loss(what: str, count: int, point: Point) -> float:
    """The loss, or such an error.

    Parameters
    ----------
    what : str
    count : int
    point : Point

    Returns
    -------
    float

    Raises
    ------
    FloatingPointError
    """
    try:
        loss = point.loss
    except FloatingPointError as error:
        raise FloatingPointError(_said(what, count, str(error))) from None
    if not math.isfinite(loss):
        raise FloatingPointError(_said(what, count, f"the loss is {loss}"))
    return loss


def _said(what: str, count: int, why: str) -> str:
    return (
        f"{what} has diverged after {checks.counted(count, 'step')}: {why}; expected a smaller "
        "step, or a start nearer to the edge of stability"
    )
