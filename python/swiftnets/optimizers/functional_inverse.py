"""Newton's method through the functional inverse of the gradient, to third order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg.scaling import norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.problems import Problem
from swiftnets.problems.computed import require_finite
from swiftnets.problems.functional_inverse import FunctionalInverse, advance

__all__ = ["FunctionalInverseNewton"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, kw_only=True)
class FunctionalInverseNewton(Optimizer):
    """Follows the path on which the gradient shrinks to 0, by the series of its inverse function.

    Each step takes as much of t ↦ ∇L⁻¹((1 − t) g) as brings the gradient down by half of what the
    path predicts: the whole of it near a stationary point, of whatever kind: minima and saddles
    attract alike, and a run that ends at a saddle says so.

    Parameters
    ----------
    order : int
        Of the series: 1 is Newton's method, 2 Chebyshev's, 3 the fourth-order one.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(2)
    >>> method = FunctionalInverseNewton()
    >>> method.minimize(problem, problem.start(), gradient_tolerance=1e-9).status
    'converged'
    """

    order: int = 3

    def __post_init__(self) -> None:
        check_settings(self)
        checks.integer(self.order, "order", 1, 3)

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        loss, gradient = problem.loss_and_gradient(w)
        require_finite(loss, gradient)
        length = norm(gradient)
        if length == 0:
            # Nothing is asked of the Hessian here: the run looks for itself.
            return StepResult(
                w, loss, 0.0, state, False, failure="the gradient is 0", least_curvature=np.inf
            )
        series = FunctionalInverse(problem, w).series(order=self.order)
        found = advance(problem, series, np.zeros_like(w), length)
        if found is None:
            return StepResult(
                w,
                loss,
                length,
                state,
                False,
                failure="no part of the series lowers the gradient",
                rounding=not bool((series(0.25) != w).any()),
                least_curvature=np.inf,
            )
        # Saddles attract as minima do: where it ends, the run looks for itself.
        return StepResult(
            found[0],
            loss,
            length,
            state,
            info={"step_length": found[2]},
            least_curvature=np.inf,
        )
