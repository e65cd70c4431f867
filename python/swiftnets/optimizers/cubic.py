"""Adaptive cubic regularisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import dot, norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.negative_curvature import in_plane, look, unlooked
from swiftnets.optimizers.secular import resolved, secular_step
from swiftnets.optimizers.trust_region import agreement, moved, nowhere, taken
from swiftnets.problems import Problem
from swiftnets.problems.computed import linearized

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

    Notes
    -----
    As `TrustRegion`, it looks for negative curvature beside the gradient now and then.

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
        checks.integer(self.steps, "steps")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        return {"regularization": np.array(float(self.regularization))} | unlooked()

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        point = linearized(problem, w)
        sigma = float(state["regularization"])
        length = norm(point.gradient)

        def radius(shift: float) -> float:
            return shift / sigma

        step, decrease, least, products, at_rest = np.zeros_like(w), 0.0, math.inf, 0, True
        if length > 0:
            run = lanczos(point.hessian, point.gradient, self.steps)
            values, vectors = eigh(run.matrix)
            values, least = resolved(values, len(w), w.dtype)
            inner, products = run.norm * vectors[0], len(values)
            found, shift = secular_step(values, inner, radius, False)
            at_rest = shift <= 0.01 * values[-1]
            decrease = -dot(inner, found) - dot(found, values * found) / 2
            step = (vectors @ found).astype(w.dtype) @ run.basis
        beside, vector, looked = look(point, state, at_rest and not least < 0)
        least = min(least, beside)
        if vector is not None:
            step, image = in_plane(point, step, point.hessian @ step, vector, radius, False)
            decrease = -dot(point.gradient, step) - dot(step, image) / 2
        kept = {"regularization": np.array(sigma)} | looked
        size = norm(step)
        if size == 0:
            return nowhere(point, w, length, kept, least)
        predicted = decrease - sigma * size / 3 * size * size
        ratio = agreement(problem, point, w, moved(w, step), predicted)
        if ratio > 0.9:
            sigma = max(sigma / 3, 1e-16 * self.regularization)
        elif not ratio >= 0.1:
            sigma *= 2
        info = {"regularization": sigma, "products": float(products)}
        kept["regularization"] = np.array(sigma)
        return taken(point, w, step, length, ratio, kept, info, least)
