"""Adaptive cubic regularisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swiftnets import _checks
from swiftnets._samples import FloatArray
from swiftnets._scaling import norm
from swiftnets.lanczos import lanczos
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.secular import secular_step
from swiftnets.optimizers.trust_region import gain_ratio
from swiftnets.problems import Problem

__all__ = ["CubicRegularization"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, kw_only=True)
class CubicRegularization(Optimizer):
    """The minimiser of g·s + ½ s·H s + σ ‖s‖³ / 3 over a Krylov space.

    Nesterov & Polyak (2006); σ is adapted, and the model minimised over Lanczos vectors, as by
    Cartis, Gould & Toint (2011): divided by 3 where the loss follows the model, doubled where it
    does not. Leaves saddles, with the best known bounds on the number of steps.

    Parameters
    ----------
    regularization : float
        The first σ.
    steps : int
        Lanczos steps, each a product: with P of them the model is minimised exactly.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(10)
    >>> result = CubicRegularization().minimize(problem, problem.start(), gradient_tolerance=1e-9)
    >>> result.status
    'converged'
    """

    regularization: float = 1.0
    steps: int = 50

    def __post_init__(self) -> None:
        check_settings(self, "regularization")
        _checks.integer(self.steps, "steps")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        return {"regularization": np.array(float(self.regularization))}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        point = problem.linearize(w)
        sigma = float(state["regularization"])
        length = norm(point.gradient)
        if length == 0:
            return StepResult(w, point.loss, 0.0, state, False, failure="the gradient is 0")
        run = lanczos(point.hvp, point.gradient, self.steps)
        values, vectors = np.linalg.eigh(run.matrix)
        inner = run.norm * vectors[0]
        step, _ = secular_step(values, inner, lambda shift: shift / sigma, False)
        size = float(np.linalg.norm(step))
        foretold = -float(inner @ step + values @ step**2 / 2 + sigma / 3 * size**3)
        new = w + ((vectors @ step).astype(w.dtype) @ run.basis).astype(w.dtype, copy=False)
        ratio = gain_ratio(point.loss, problem.loss(new), foretold, w)
        accepted = ratio > 1e-4
        if ratio > 0.9:
            sigma = max(sigma / 3, 1e-16)
        elif not ratio >= 0.1:
            sigma *= 2
        failure = None
        if not accepted and not (w + (new - w) / 4 != w).any():
            failure = "steps are below the rounding of w"
        return StepResult(
            new if accepted else w,
            point.loss,
            length,
            {"regularization": np.array(sigma)},
            accepted,
            {"regularization": sigma, "ratio": ratio, "products": float(len(values))},
            failure,
        )
