"""Searches along a line: backtracking, and the quartic of a Taylor series of third order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swiftnets import _checks
from swiftnets._samples import FloatArray
from swiftnets._scaling import norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.problems import Problem

__all__ = ["QuarticLineSearch", "backtrack", "minimize_quartic"]

_ARMIJO = 1e-4  # of the decrease that the slope promises (Armijo 1966)
_HALVINGS = 50


def __dir__() -> list[str]:
    return __all__


def backtrack(
    problem: Problem, w: FloatArray, direction: FloatArray, loss: float, slope: float
) -> tuple[FloatArray, float] | None:
    """Halve the step along a descent direction until the loss falls enough (Armijo 1966).

    Parameters
    ----------
    problem : Problem
    w, direction : (P,) float array
    loss, slope : float
        At w: the value, and ⟨gradient, direction⟩ < 0.

    Returns
    -------
    tuple of the new w and the step length, or None
        None where 2⁻⁵⁰ of the direction does not do.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> backtrack(Quadratic([[1.0]]), np.array([1.0]), np.array([-8.0]), 0.5, -8.0)
    (array([0.]), 0.125)
    """
    length = 1.0
    # Where the decrease is below what the loss's own rounding shows, equal is enough.
    unit = 4 * float(np.finfo(w.dtype).eps) * abs(loss)
    for _ in range(_HALVINGS):
        new = w + w.dtype.type(length) * direction
        if problem.loss(new) <= loss + _ARMIJO * length * slope + unit:
            return new, length
        length /= 2
    return None


def minimize_quartic(coefficients: npt.ArrayLike, limit: float) -> float:
    """Where on [0, limit] c₀ + c₁ t + … + c₄ t⁴ is smallest.

    Parameters
    ----------
    coefficients : (5,) array_like
        The constant first.
    limit : float
        Above 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Examples
    --------
    >>> round(minimize_quartic([0.0, -1.0, 0.0, 0.0, 0.25], 10.0), 12)
    1.0
    >>> minimize_quartic([0.0, -1.0, 0.0, 0.0, 0.0], 10.0)
    10.0
    """
    c = _checks.array(coefficients, "coefficients", (5,))
    _checks.finite(c, "coefficients")
    limit = _checks.real(limit, "limit", positive=True)
    # In units of the limit, so that nothing overflows and roots of the derivative are of order 1.
    scaled = c * limit ** np.arange(5.0)
    slope = scaled[1:] * np.arange(1, 5)
    largest = abs(slope).max()
    candidates = [0.0, 1.0]
    if largest > 0:
        roots = np.roots((slope / largest)[::-1])
        # A double root comes out as a complex pair: its real part is the place.
        candidates += [float(t) for t in roots.real if 0 < t < 1]
    values = [np.polynomial.polynomial.polyval(t, scaled[1:]) * t for t in candidates]
    return candidates[int(np.argmin(values))] * limit


@dataclass(frozen=True, kw_only=True)
class QuarticLineSearch(Optimizer):
    """Descent whose step is the minimiser of the loss's quartic along it, from one Taylor series.

    The direction is −g, or with `momentum` that of Polak & Ribière's conjugate gradients (1969),
    restarted where it would ascend. Along it E₀ + E₁ t + … + E₄ t⁴ is exact to fourth order, and
    all of the loss where that is a quartic: for piecewise linear nets of two layers with squared
    error, until a unit crosses its kink. The interval that is trusted grows where the quartic
    foretold the loss and shrinks where it did not.

    Parameters
    ----------
    conjugate : bool
        Conjugate directions in place of gradients.
    radius : float
        First length ‖t direction‖ to trust.

    Notes
    -----
    A step costs a Taylor series (8 gradients) and a loss or more; no matrix.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(2)
    >>> QuarticLineSearch().minimize(problem, problem.start(), iterations=100).w.round(4)
    array([1., 1.])
    """

    conjugate: bool = True
    radius: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self, "radius")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        none = np.empty(0, w.dtype)
        return {"radius": np.array(self.radius), "gradient": none, "direction": none}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        gradient = problem.gradient(w)
        length = norm(gradient)
        if length == 0:
            return StepResult(w, problem.loss(w), 0.0, state, False, failure="the gradient is 0")
        direction = -gradient
        before = state["gradient"]
        if self.conjugate and len(before):
            scale = float(gradient @ (gradient - before)) / float(before @ before)
            if scale > 0:
                direction = direction + w.dtype.type(scale) * state["direction"]
            if float(direction @ gradient) >= 0:
                direction = -gradient
        series = problem.taylor(w, direction, 3)
        loss = float(series.loss[0])
        size, radius = norm(direction), float(state["radius"])
        for _ in range(_HALVINGS):
            t = minimize_quartic(series.loss, radius / size)
            foretold = loss - series(t)
            new = w + w.dtype.type(t) * direction
            decrease = loss - problem.loss(new)
            if foretold > 0 and decrease >= 0.1 * foretold:
                if decrease >= 0.75 * foretold and t * size > radius / 2:
                    radius *= 2
                kept = {"radius": np.array(radius), "gradient": gradient, "direction": direction}
                return StepResult(new, loss, length, kept, info={"step_length": t * size})
            radius = min(radius, t * size if t > 0 else radius) / 4
            if not math.isfinite(radius) or radius < 1e-300:
                break
        if self.conjugate and len(before):  # the direction may be at fault
            return self.step(
                problem, w, {**self.initial_state(problem, w), "radius": state["radius"]}
            )
        return StepResult(
            w, loss, length, state, False, failure="no step along the gradient lowers the loss"
        )
