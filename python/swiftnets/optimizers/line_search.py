"""Searches along a line: backtracking, and the quartic of a Taylor series of third order."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg.scaling import exponent, norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.problems import Problem
from swiftnets.problems.computed import require_finite, trial_loss

__all__ = ["QuarticLineSearch", "backtrack", "minimize_quartic"]

ARMIJO = 1e-4  # of the decrease that the slope promises (Armijo 1966)
_HALVINGS = 50
_RANGE = 50  # exponents whose squares float32 holds
_SPREAD = 2.0**26  # of terms that one scale suits: roots to √ε, and the minimum to ε


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
        if trial_loss(problem, new) <= loss + ARMIJO * length * slope + unit:
            return new, length
        length /= 2
    return None


def beyond(e: int) -> int:
    """An exponent of numbers whose products need a scale; 0 for others."""
    return 0 if -_RANGE <= e <= _RANGE else e


def scaled(values: FloatArray, e: int) -> FloatArray:
    """2ᵉ times the values: not a digit changes."""
    result: FloatArray = np.ldexp(values, e) if e else values
    return result


def no_decrease(
    problem: Problem, w: FloatArray, loss: float, length: float, state: State, predicted: float
) -> StepResult:
    """A search that found nothing: whether `predicted`, the decrease that is left, could show."""
    rounding = predicted <= _loss_rounding(problem, w, loss)
    failure = "the line search found no decrease"
    if rounding:
        failure += f": the predicted one, {predicted:.1e}, is below the rounding of the loss"
    return StepResult(w, loss, length, state, False, failure=failure, rounding=rounding)


def _loss_rounding(problem: Problem, w: FloatArray, loss: float) -> float:
    """How far the loss jumps between w and its neighbours in w's own rounding."""
    worst = 4 * float(np.finfo(w.dtype).eps) * abs(loss)
    sides = np.where(np.arange(len(w)) % 2, np.inf, -np.inf).astype(w.dtype)
    for side in (sides, -sides, abs(sides), -abs(sides)):
        jump = abs(trial_loss(problem, np.nextafter(w, side)) - loss)
        worst = max(worst, jump if math.isfinite(jump) else 0.0)
    return worst


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
    c = checks.array(coefficients, "coefficients", (5,))
    checks.finite(c, "coefficients")
    return _quartic_minimum(c, checks.real(limit, "limit", positive=True))


def _quartic_minimum(c: npt.NDArray[np.float64], limit: float) -> float:
    """`minimize_quartic` of finite coefficients; the limit may be infinite."""
    powers = np.arange(1, 5)
    # In units of the limit, where its powers and the coefficients are of a size.
    with np.errstate(all="ignore"):
        scaled = np.where(c[1:] == 0, 0.0, c[1:] * limit**powers)
        slope = scaled * powers
        sizes = abs(slope[c[1:] != 0])
        even = bool(len(sizes) and 0 < sizes.max() < _SPREAD * sizes.min() < np.inf)
    if even:
        candidates = [0.0, 1.0, *_roots(slope / sizes.max(), 1.0)]
        values = [float(np.polynomial.polynomial.polyval(t, scaled) * t) for t in candidates]
        return candidates[int(np.argmin(values))] * limit
    # Else the derivative's roots are of sizes of their own, some perhaps beyond every float. Each
    # is that of two terms, an edge of Newton's polygon: in its units the roots of that size are
    # well conditioned, and what is far below belongs to others.
    parts = [(m * k, e) for k, (m, e) in enumerate(map(math.frexp, c[1:].tolist()), start=1)]
    limit = min(limit, float(np.finfo(float).max))
    places = {0.0, limit}
    for i, j in itertools.combinations([k for k in range(4) if parts[k][0] != 0], 2):
        unit = round((parts[i][1] - parts[j][1]) / (j - i))
        heights = [parts[k][1] + k * unit - parts[i][1] - i * unit for k in range(4)]
        larger = any(parts[k][0] != 0 and heights[k] > 8 for k in range(4))
        if larger or not -1074 <= unit < 1024:
            continue
        terms = np.array([math.ldexp(parts[k][0], h) for k, h in enumerate(heights)])
        size = math.ldexp(1.0, unit)
        roots = _roots(np.where(abs(terms) * _SPREAD < 1, 0.0, terms), limit / size)
        places |= {min(_polished(t, terms) * size, limit) for t in roots}
    candidates = sorted(places)
    with np.errstate(all="ignore"):
        values = [float(np.polynomial.polynomial.polyval(t, c[1:]) * t) for t in candidates]
    if np.isfinite(values).all() and min(values) < -1e-290:
        return candidates[int(np.argmin(values))]
    exact = [Fraction(float(value)) for value in c[1:]]
    return min(candidates, key=lambda t: _horner(exact, Fraction(t)))


def _roots(slope: npt.NDArray[np.float64], limit: float) -> list[float]:
    """Roots of a cubic in (0, limit), the constant first."""
    # A double root comes out as a complex pair: its real part is the place.
    return [float(t) for t in np.roots(slope[::-1]).real if 0 < t < limit]


def _polished(t: float, slope: npt.NDArray[np.float64]) -> float:
    """A root, by Newton's method; as it is where that leads away."""
    d, c, b, a = (float(value) for value in slope)
    for _ in range(3):
        bend = (3 * a * t + 2 * b) * t + c
        change = (((a * t + b) * t + c) * t + d) / bend if bend else 0.0
        if not abs(change) < 0.1 * t:
            break
        t -= change
    return t


def _horner(coefficients: list[Fraction], t: Fraction) -> Fraction:
    value = Fraction(0)
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * t
    return value


@dataclass(frozen=True, kw_only=True)
class QuarticLineSearch(Optimizer):
    """Descent whose step is the minimiser of the loss's quartic along it, from one Taylor series.

    The direction is −g, or with `conjugate` that of Polak & Ribière's conjugate gradients (1969),
    restarted where it would ascend. Along it E₀ + E₁ t + … + E₄ t⁴ is exact to fourth order, and
    all of the loss where that is a quartic: for piecewise linear nets of two layers with squared
    error, until a unit crosses its kink. The interval that is trusted grows where the quartic
    predicted the loss and shrinks where it did not.

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
    >>> QuarticLineSearch().minimize(problem, problem.start(), max_iterations=100).w.round(4)
    array([1., 1.])
    """

    conjugate: bool = True
    radius: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self, "radius")
        checks.flag(self.conjugate, "conjugate")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        none = np.empty(0, w.dtype)
        return {"radius": np.array(self.radius), "gradient": none, "direction": none}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        loss, gradient = problem.loss_and_gradient(w)
        require_finite(loss, gradient)
        length = norm(gradient)
        if length == 0:
            return StepResult(w, loss, 0.0, state, False, failure="the gradient is 0")
        direction = self._direction(gradient, state)
        # Of a length near 1, where its powers would overflow.
        unit = scaled(direction, -beyond(exponent(direction)))
        series = problem.taylor(w, unit, 3)
        coefficients = np.where(np.isfinite(series.loss), series.loss, 0.0)
        size, radius = norm(unit), float(state["radius"])
        predicted = 0.0
        for _ in range(_HALVINGS):
            t = _quartic_minimum(coefficients, radius / size)
            predicted = loss - float(np.polynomial.polynomial.polyval(t, coefficients))
            new = w + w.dtype.type(t) * unit
            decrease = loss - trial_loss(problem, new)
            if predicted > 0 and decrease >= 0.1 * predicted:
                if decrease >= 0.75 * predicted and t * size > radius / 2:
                    radius *= 2
                kept = {"radius": np.array(radius), "gradient": gradient, "direction": direction}
                info = {"step_length": t * size}
                seen = 2 * float(coefficients[2]) / size**2
                return StepResult(new, loss, length, kept, info=info, least_curvature=seen)
            radius = min(radius, t * size if t > 0 else radius) / 4
            if not math.isfinite(radius) or radius < 1e-300:
                break
        if self.conjugate and len(state["gradient"]):  # the direction may be at fault
            return self.step(
                problem, w, {**self.initial_state(problem, w), "radius": state["radius"]}
            )
        # Along the gradient as far as its own curvature lets it.
        slope, curvature = float(coefficients[1]), 2 * float(coefficients[2])
        left = slope * (slope / curvature) / 2 if curvature > 0 else predicted
        result = no_decrease(problem, w, loss, length, state, left)
        return replace(result, least_curvature=curvature / size**2)

    def _direction(self, gradient: FloatArray, state: State) -> FloatArray:
        before = state["gradient"]
        direction: FloatArray = -gradient
        if not self.conjugate or not len(before):
            return direction
        e = beyond(exponent(before))
        new, old = scaled(gradient, -e), scaled(before, -e)
        scale = float(new @ (new - old)) / float(old @ old)
        if scale > 0:
            direction = direction + gradient.dtype.type(scale) * state["direction"]
        return -gradient if float(direction @ new) >= 0 else direction
