"""Retraining without a group of samples: Newton's method from a prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swiftnets._support.types import Array, IntegerArray
from swiftnets.influence.inverse import invert, norm_of
from swiftnets.influence.problem import ROOM, Problem, digits
from swiftnets.linalg import scaling

__all__ = ["Refit", "refit"]


def __dir__() -> list[str]:
    return __all__


# Of the Hessian's norm, where a Newton step does not descend; and by what part losses may differ
# from rounding.
_DAMPING, _EVEN = 1e-3, 1e-13
# Times the model of rounding, which real gradients may be above and yet fall no further.
_STALLED = 10.0


@dataclass(frozen=True, eq=False)
class Refit:
    """A minimum without a group of samples, from a prediction of it.

    Attributes
    ----------
    w : (P,) float64 array
    error : float
        How far the prediction is from w.
    gradient_norm : float
        ‖∇R‖ at w, R the loss without the group.
    error_estimate : float
        How far w is from where the gradient is 0: 4 ‖∇R‖ / μ, with μ a proven lower bound of the
        eigenvalues at w, but not beside it; infinite where there is none.
    iterations : int
    success : bool
        Whether the gradient is down to rounding, within ten times the model of it, and all
        eigenvalues are positive or 0.
    message : str
    """

    w: Array
    error: float
    gradient_norm: float
    error_estimate: float
    iterations: int
    success: bool
    message: str

    def __repr__(self) -> str:
        return (
            f"Refit(error={self.error:.3e}, gradient_norm={self.gradient_norm:.1e}, "
            f"error_estimate={self.error_estimate:.1e}, {self.message})"
        )


def refit(problem: Problem, members: IntegerArray, start: Array, most: int) -> Refit:
    """Newton steps until the gradient is down to rounding, damped where they do not descend.

    Parameters
    ----------
    problem : Problem
    members : (n,) int array
        Which samples are left out, of those that count.
    start : (P,) array
    most : int
        Factorisations at most.

    Returns
    -------
    Refit
    """
    w, here = start, problem.reduced(members, start)
    norm, damping, step = scaling.norm(here.gradient), 0.0, 0
    scale = norm_of(here.hessian)
    # As `Problem.rounding` has it, of R.
    rounding = max(problem.rounding, digits(here.hessian, w))
    while norm > rounding and step < most:
        step += 1
        larger = max(4 * damping, _DAMPING * scale)
        try:
            inverse = invert(here.hessian + damping, "factors", 1.0)
        except np.linalg.LinAlgError:
            damping = larger
            continue
        trial = w - inverse.solve(here.gradient[None])[0]
        there = problem.reduced(members, trial)
        left = scaling.norm(there.gradient)
        # Near the minimum losses are equal to rounding.
        if there.loss < here.loss or (
            left < norm and there.loss <= here.loss + _EVEN * abs(here.loss)
        ):
            w, here, norm = trial, there, left
            damping = 0.0 if damping < _DAMPING * scale else damping / 10
        elif norm <= _STALLED * rounding:
            break
        else:
            damping = larger
    is_down = norm <= _STALLED * rounding
    smallest, message = 0.0, "the gradient is down to rounding"
    try:
        smallest = invert(here.hessian, "factors", 1.0).smallest
    except np.linalg.LinAlgError as error:
        message = str(error)
    if not is_down:
        message = f"after {most} factorisations the gradient is not down to rounding"
    estimate = ROOM * (norm + rounding) / smallest if smallest > 0 else float("inf")
    success = smallest > 0 and is_down
    length, norm = scaling.norm(w - start), norm * problem.unit(members)
    return Refit(w, length, norm, estimate, step, success, message)
