"""Newton's method, damped."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.factors import Inertia
from swiftnets.linalg.scaling import dot, norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.line_search import backtrack, no_decrease
from swiftnets.problems import NetProblem, Problem
from swiftnets.problems.computed import require_finite
from swiftnets.problems.counted import count_cost, take_net_problem
from swiftnets.solve.options import SOLVE_METHODS, SolveMethod

__all__ = ["Newton", "hessian_solve"]


def __dir__() -> list[str]:
    return __all__


def hessian_solve(
    problem: Problem, w: FloatArray, b: FloatArray, damping: float, method: SolveMethod = "auto"
) -> tuple[FloatArray, Inertia | None]:
    """(H + damping)⁻¹ b: for nets as `swiftnets.solve.solve` does it, for others dense.

    Returns
    -------
    tuple of the solution, and the inertia of H + damping where it is known

    Raises
    ------
    FloatingPointError
        If the Hessian is not finite.
    numpy.linalg.LinAlgError
        If the matrix is singular, or the method does not reach a residual of 1e-6.
    """
    net = take_net_problem(problem)
    if net is None:
        factors = factored(problem.hessian(w), damping)
        result: FloatArray = factors.solve(b).astype(w.dtype, copy=False)
        return result, factors.inertia
    # In float64, rounded at the end: the residual of a float32 step says how that rounds.
    point = net.at(w).in_float64()
    solution = point.hessian.solve(b, damping=damping, method=method)
    count_cost(problem, solution.operations / gradient_operations(net))
    worst = float(solution.relative_residuals.max())
    if not worst <= 1e-6:
        raise np.linalg.LinAlgError(
            f"(H + {damping}) x = b is not solved: {solution.status}, relative residual "
            f"{worst:.1e}; {solution.message}"
        )
    found: FloatArray = solution.solution.astype(w.dtype, copy=False)
    return found, solution.inertia


def factored(matrix: FloatArray, damping: float) -> DenseFactorization:
    """A symmetric matrix plus damping, factored; a FloatingPointError if it is not finite."""
    if not np.isfinite(matrix).all():
        raise FloatingPointError("the Hessian has numbers that are not finite")
    return DenseFactorization(matrix, damping)


def seen_curvature(
    gradient: FloatArray, direction: FloatArray, damping: float, inertia: Inertia | None
) -> float:
    """What a step (H + damping) direction = −gradient says of H's least eigenvalue: a bound."""
    if inertia is not None and inertia.negative:
        return math.nextafter(-damping, -math.inf)
    size = norm(direction)
    # dᵀ H d / dᵀ d of the direction d.
    return -dot(gradient, direction / size) / size - damping if 0 < size < math.inf else math.inf


def gradient_operations(problem: NetProblem) -> float:
    """Multiplications and additions of a gradient."""
    return 6.0 * problem.sample_count * problem.net.multiplications


@dataclass(frozen=True, kw_only=True)
class Newton(Optimizer):
    """Newton's method: w − (H + λ)⁻¹ g.

    Where H + λ is not positive definite, it is drawn to saddles as well as to minima; a run that
    ends at one says so.

    Parameters
    ----------
    damping : float
        λ, not negative.
    line_search : bool
        Halve the step until the loss falls (Armijo 1966), turned round where it would ascend.
    method : {"auto", "layered", "dense", "cg", "minres"}
        For nets, of `swiftnets.solve.solve`; other problems are solved dense.

    Notes
    -----
    A step costs a gradient and a solve: dense P³ / 3 operations.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(2)
    >>> result = Newton().minimize(problem, problem.start(), gradient_tolerance=1e-10)
    >>> result.status, result.w.round(10)
    ('converged', array([1., 1.]))
    """

    damping: float = 0.0
    line_search: bool = True
    method: SolveMethod = "auto"

    def __post_init__(self) -> None:
        check_settings(self, least_zero=("damping",))
        checks.flag(self.line_search, "line_search")
        checks.choice(self.method, "method", SOLVE_METHODS)

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        loss, gradient = problem.loss_and_gradient(w)
        require_finite(loss, gradient)
        length = norm(gradient)
        if length == 0:
            return at_stationary_point(w, loss, state)
        solution, inertia = hessian_solve(problem, w, gradient, self.damping, self.method)
        result = finish(self.line_search, problem, w, -solution, loss, gradient, state)
        seen = seen_curvature(gradient, -solution, self.damping, inertia)
        return replace(result, least_curvature=seen)


def at_stationary_point(w: FloatArray, loss: float, state: State) -> StepResult:
    """Where there is no step, for methods that see curvature: the loop looks at all of it."""
    return StepResult(
        w, loss, 0.0, state, False, failure="the gradient is 0", least_curvature=math.inf
    )


def finish(
    line_search: bool,
    problem: Problem,
    w: FloatArray,
    direction: FloatArray,
    loss: float,
    gradient: FloatArray,
    state: State,
) -> StepResult:
    """The step along a direction, searched or whole."""
    length = norm(gradient)
    if not line_search:
        return StepResult(w + direction, loss, length, state, info={"step_length": 1.0})
    slope = dot(gradient, direction)
    if slope > 0:
        direction, slope = -direction, -slope
    found = backtrack(problem, w, direction, loss, slope)
    if found is None:
        return no_decrease(problem, w, loss, length, state, -slope / 2)
    return StepResult(found[0], loss, length, state, info={"step_length": found[1]})
