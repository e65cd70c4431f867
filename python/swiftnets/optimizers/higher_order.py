"""Steps of higher order: Chebyshev's, Halley's and the fourth-order one, safeguarded."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from swiftnets._support.types import FloatArray
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.scaling import norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.newton import at_stationary_point, factored, finish, seen_curvature
from swiftnets.problems import Problem
from swiftnets.problems.computed import require_finite

__all__ = ["Chebyshev", "FourthOrder", "Halley"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, kw_only=True)
class _HigherOrder(Optimizer):
    """Newton's step s₁ = −(H + λ)⁻¹ g, corrected by higher derivatives, and safeguarded."""

    damping: float = 0.0
    safeguard: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self, "safeguard", least_zero=("damping",))

    @abstractmethod
    def _correction(
        self,
        problem: Problem,
        w: FloatArray,
        gradient: FloatArray,
        factors: DenseFactorization,
        newton: FloatArray,
    ) -> FloatArray: ...

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        loss, gradient = problem.loss_and_gradient(w)
        require_finite(loss, gradient)
        length = norm(gradient)
        if length == 0:
            return at_stationary_point(w, loss, state)
        factors = factored(problem.hessian(w), self.damping)
        newton = -factors.solve(gradient).astype(w.dtype, copy=False)
        seen = seen_curvature(gradient, newton, self.damping, factors.inertia)
        try:
            correction = self._correction(problem, w, gradient, factors, newton)
            ratio = norm(correction) / (norm(newton) or math.inf)
            if ratio <= self.safeguard:
                new = w + newton + correction
                new_loss, new_gradient = problem.loss_and_gradient(new)
                # Where the loss is down to its rounding, the gradient decides.
                noise = 10 * float(np.finfo(w.dtype).eps) * abs(loss)
                if new_loss < loss - noise or (
                    new_loss <= loss + noise and norm(new_gradient) < length
                ):
                    info = {"step_length": 1.0, "correction": ratio}
                    return StepResult(new, loss, length, state, info=info, least_curvature=seen)
        except (FloatingPointError, np.linalg.LinAlgError):
            pass  # derivatives or the loss overflow, or it is a pole: Newton's step is left
        result = finish(True, problem, w, newton, loss, gradient, state)
        info = {**result.info, "correction": 0.0}
        return replace(result, info=info, least_curvature=seen)


def _solved(factors: DenseFactorization, b: FloatArray) -> FloatArray:
    if not np.isfinite(b).all():
        raise FloatingPointError("a derivative of higher order is not finite")
    result: FloatArray = factors.solve(b)
    return result


@dataclass(frozen=True, kw_only=True)
class Chebyshev(_HigherOrder):
    """Chebyshev's method: s₁ + s₂ with s₂ = −½ (H + λ)⁻¹ T[s₁, s₁]; third order.

    The first two terms of the inverse of the gradient as a series (Traub 1964).

    Parameters
    ----------
    damping : float
        λ, not negative. The order of convergence is that of λ = 0.
    safeguard : float
        The correction is used where it is at most so many times as long as Newton's step, and the
        corrected step lowers the loss, or, where that is down to its rounding, the gradient. Else
        the step is Newton's, by halves until the loss falls.

    Notes
    -----
    Costs Newton's dense step and a Taylor series of second order.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(2)
    >>> Chebyshev().minimize(problem, problem.start(), gradient_tolerance=1e-9).status
    'converged'
    """

    def _correction(
        self,
        problem: Problem,
        w: FloatArray,
        gradient: FloatArray,
        factors: DenseFactorization,
        newton: FloatArray,
    ) -> FloatArray:
        series = problem.taylor(w, newton, 2)
        result: FloatArray = -_solved(factors, series.gradient[2]).astype(w.dtype, copy=False)
        return result


@dataclass(frozen=True, kw_only=True)
class FourthOrder(_HigherOrder):
    """s₁ + s₂ + s₃ with s₃ = −(H + λ)⁻¹ (T[s₁, s₂] + Q[s₁, s₁, s₁] / 6); fourth order.

    The first three terms of the inverse of the gradient as a series (Traub 1964).

    Parameters
    ----------
    damping : float
        λ, not negative. The order of convergence is that of λ = 0.
    safeguard : float
        The correction is used where it is at most so many times as long as Newton's step, and the
        corrected step lowers the loss, or, where that is down to its rounding, the gradient. Else
        the step is Newton's, by halves until the loss falls.

    Notes
    -----
    Costs Newton's dense step, a Taylor series of third order and a mixed third derivative.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(2)
    >>> FourthOrder().minimize(problem, problem.start(), gradient_tolerance=1e-9).status
    'converged'
    """

    def _correction(
        self,
        problem: Problem,
        w: FloatArray,
        gradient: FloatArray,
        factors: DenseFactorization,
        newton: FloatArray,
    ) -> FloatArray:
        series = problem.taylor(w, newton, 3)
        second = -_solved(factors, series.gradient[2]).astype(w.dtype, copy=False)
        third = -_solved(factors, problem.third(w, newton, second) + series.gradient[3])
        result: FloatArray = second + third.astype(w.dtype, copy=False)
        return result


@dataclass(frozen=True, kw_only=True)
class Halley(_HigherOrder):
    """Halley's method: (H + λ + ½ T[s₁, ·]) s = −g; third order.

    Parameters
    ----------
    damping : float
        λ, not negative. The order of convergence is that of λ = 0.
    safeguard : float
        The correction is used where it is at most so many times as long as Newton's step, and the
        corrected step lowers the loss, or, where that is down to its rounding, the gradient. Else
        the step is Newton's, by halves until the loss falls.

    Notes
    -----
    Costs two dense factorisations and P mixed third derivatives.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(2)
    >>> Halley().minimize(problem, problem.start(), gradient_tolerance=1e-9).status
    'converged'
    """

    def _correction(
        self,
        problem: Problem,
        w: FloatArray,
        gradient: FloatArray,
        factors: DenseFactorization,
        newton: FloatArray,
    ) -> FloatArray:
        directions = np.eye(len(w), dtype=w.dtype)
        tangent = problem.third(w, newton, directions).astype(np.float64)
        matrix = problem.hessian(w) + (tangent + tangent.T) / 4
        step = -factored(matrix, self.damping).solve(gradient)
        result: FloatArray = step.astype(w.dtype, copy=False) - newton
        return result
