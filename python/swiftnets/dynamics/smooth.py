"""What this folder takes: a point whose loss has the derivatives that it asks for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point, require_point
from swiftnets.dynamics.smoothness import lowest_jump
from swiftnets.problems import NetProblem

__all__ = ["diverged", "finite_loss", "moved", "problem_of", "smooth_point"]


def __dir__() -> list[str]:
    return __all__


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
    order, layer = lowest_jump(found.net)
    if order is not None:
        how = ("which has a kink", "whose second derivative jumps")[order - 1]
        raise ValueError(
            f"point is of a net with {layer!r}, {how}: third derivatives know nothing of what "
            'happens there; expected smooth layers, such as "tanh", "gelu"'
        )
    if found.net.loss_function.name == "huber":
        raise ValueError(
            "point is of a net with the loss 'huber', whose second derivative jumps: third "
            "derivatives know nothing of that; expected 'squared_error' or a cross-entropy"
        )
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
