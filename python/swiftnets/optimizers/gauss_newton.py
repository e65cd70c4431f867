"""Gauss–Newton, damped; with adaptive damping the method of Levenberg and Marquardt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.curvature.point import Point
from swiftnets.linalg.krylov import cg
from swiftnets.linalg.scaling import dot, norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.newton import factored, finish
from swiftnets.optimizers.trust_region import gain_ratio
from swiftnets.problems import NetProblem, Problem
from swiftnets.problems.computed import require_finite, trial_loss
from swiftnets.problems.counted import count_cost, net_problem

__all__ = ["GaussNewton", "LevenbergMarquardt"]


def __dir__() -> list[str]:
    return __all__


_DENSE = 1000  # parameters up to which the matrix is formed


def _solver(
    net: NetProblem, point: Point, w: FloatArray, tolerance: float, problem: Problem
) -> Callable[[float], FloatArray]:
    """(G + λ)⁻¹ g as a function of λ: dense for small nets, conjugate gradients for others."""
    gradient = point.gradient.astype(np.float64)
    if len(w) <= _DENSE:
        matrix = point.gauss_newton.dense()
        count_cost(problem, 2 * len(w))
        matrix = matrix.astype(np.float64, copy=False)
        return lambda damping: factored(matrix, damping).solve(gradient)

    def solve(damping: float) -> FloatArray:
        def product(rows: FloatArray) -> FloatArray:
            count_cost(problem, 2 * len(rows))
            image = rows.astype(w.dtype, copy=False) @ point.gauss_newton
            result: FloatArray = image.astype(np.float64) + damping * rows
            return result

        return cg(product, gradient, tolerance=tolerance, max_iterations=250).solution

    return solve


def _point(net: NetProblem, w: FloatArray, problem: Problem) -> Point:
    count_cost(problem, 1)
    point = net.at(w)
    require_finite(point.loss, point.gradient)
    return point


@dataclass(frozen=True, kw_only=True)
class GaussNewton(Optimizer):
    """w − (G + λ)⁻¹ g with the Gauss–Newton matrix G of a net, which is never indefinite.

    For the cross-entropies G is the Fisher matrix, and this natural gradient descent.

    Parameters
    ----------
    damping : float
        λ, above 0.
    line_search : bool
        Halve the step until the loss falls.
    tolerance : float
        Of the relative residual of conjugate gradients, which solve for more than 1000 parameters,
        in at most 250 products; fewer are solved dense.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> from swiftnets.problems import NetProblem
    >>> net = MLP((2, 3, 1))
    >>> problem = NetProblem(net, np.eye(2), np.ones((2, 1)))
    >>> GaussNewton().minimize(problem, net.initial(seed=0), max_iterations=20).loss < 1e-10
    True
    """

    damping: float = 1e-3
    line_search: bool = True
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_settings(self, "damping", "tolerance")
        checks.flag(self.line_search, "line_search")

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        net = net_problem(problem, "Gauss–Newton")
        point = _point(net, w, problem)
        if not point.gradient.any():
            return StepResult(w, point.loss, 0.0, state, False, failure="the gradient is 0")
        solution = _solver(net, point, w, self.tolerance, problem)(self.damping)
        direction = -solution.astype(w.dtype, copy=False)
        return finish(self.line_search, problem, w, direction, point.loss, point.gradient, state)


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(Optimizer):
    """Gauss–Newton whose damping follows how well the model predicts the loss.

    Levenberg (1944), Marquardt (1963), with Nielsen's (1999) rule: λ falls smoothly to a third at
    most where the gain is good, and grows ever faster while steps are refused.

    Parameters
    ----------
    damping : float
        The first λ.
    tolerance : float
        As of `GaussNewton`.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> from swiftnets.problems import NetProblem
    >>> net = MLP((2, 3, 1))
    >>> problem = NetProblem(net, np.eye(2), np.ones((2, 1)))
    >>> LevenbergMarquardt().minimize(problem, net.initial(seed=0), max_iterations=20).loss < 1e-20
    True
    """

    damping: float = 1e-2
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_settings(self, "damping", "tolerance")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        return {"damping": np.array(float(self.damping)), "growth": np.array(2.0)}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        net = net_problem(problem, "Levenberg–Marquardt")
        point = _point(net, w, problem)
        damping, growth = float(state["damping"]), float(state["growth"])
        gradient = point.gradient.astype(np.float64)
        try:
            step = -_solver(net, point, w, self.tolerance, problem)(damping)
        except np.linalg.LinAlgError:  # λ is below the rounding of G
            step = np.zeros_like(gradient)
        # With (G + λ) s = −g the model falls by ½ (λ ‖s‖² − g·s), whatever G.
        predicted = (dot(damping * step, step) - dot(gradient, step)) / 2
        new = w + step.astype(w.dtype)
        ratio = (
            gain_ratio(point.loss, trial_loss(problem, new), predicted, w) if step.any() else -1.0
        )
        accepted = ratio > 1e-4
        if accepted:
            damping *= max(1 / 3, 1 - (2 * min(ratio, 2.0) - 1) ** 3)
            growth = 2.0
        else:
            damping, growth = damping * growth, growth * 2
        damping = min(max(damping, 1e-15), 1e15)
        failure = None
        if not accepted and step.any() and not (w + step / 4 != w).any():
            failure = "steps are below the rounding of w"
        return StepResult(
            new if accepted else w,
            point.loss,
            norm(point.gradient),
            {"damping": np.array(damping), "growth": np.array(growth)},
            accepted,
            {"damping": damping, "ratio": ratio},
            failure,
            rounding=failure is not None,
        )
