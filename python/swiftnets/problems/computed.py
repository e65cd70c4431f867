"""Values of a problem that a method comes upon by itself. Nothing here is public.

Arguments that are not finite are a user's mistake, a ValueError. Numbers that become so on the way
are a FloatingPointError, and those of a point that is only tried make it one not to take.
"""

from __future__ import annotations

import math

import numpy as np

from swiftnets._support.types import FloatArray
from swiftnets.linalg.scaling import norm
from swiftnets.problems.base import PointLike, Problem

__all__ = ["hessian", "linearized", "require_finite", "trial_gradient", "trial_loss"]


def __dir__() -> list[str]:
    return __all__


def require_finite(loss: float, gradient: FloatArray) -> None:
    """A FloatingPointError where the loss or its gradient is not finite."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    if not np.isfinite(gradient).all():
        raise FloatingPointError(f"the gradient's norm is {norm(gradient)}")


def linearized(problem: Problem, w: FloatArray) -> PointLike:
    """The problem at w, where it is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        point = problem.at(w)
    require_finite(point.loss, point.gradient)
    return point


def hessian(problem: Problem, w: FloatArray) -> FloatArray:
    """The dense Hessian at w, where it is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = problem.hessian(w)
    if not np.isfinite(matrix).all():
        raise FloatingPointError("the Hessian has numbers that are not finite")
    return matrix


def trial_loss(problem: Problem, w: FloatArray) -> float:
    """The loss at a point that may be far off: inf where there is none."""
    if not np.isfinite(w).all():
        return math.inf
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            loss = problem.loss(w)
    except FloatingPointError:
        return math.inf
    return loss if math.isfinite(loss) else math.inf


def trial_gradient(problem: Problem, w: FloatArray) -> FloatArray:
    """The gradient at such a point: NaN where there is none."""
    none: FloatArray = np.full_like(w, np.nan)
    if not np.isfinite(w).all():
        return none
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return problem.gradient(w)
    except FloatingPointError:
        return none
