"""Trust regions: the quadratic model is minimised in a ball that follows how good it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from swiftnets import _checks
from swiftnets._samples import FloatArray
from swiftnets._scaling import norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.secular import secular_step
from swiftnets.problems import PointLike, Problem

__all__ = ["TrustRegion", "steihaug"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, kw_only=True)
class TrustRegion(Optimizer):
    """The minimiser of g·s + ½ s·H s over ‖s‖ ≤ Δ, taken if the loss agrees.

    The radius Δ doubles where the model is good and the step fills it, and shrinks to a quarter of
    the step where it is bad (Nocedal & Wright 2006, algorithm 4.1). Indefinite Hessians are fine:
    it leaves saddles along negative curvature.

    Parameters
    ----------
    method : {"steihaug", "exact"}
        ``"steihaug"``: conjugate gradients cut off at the radius (Steihaug 1983), by products;
        ``"exact"``: with all eigenvalues of the dense Hessian (Moré & Sorensen 1983).
    radius, largest_radius : float
        The first Δ, and a bound on all.

    Notes
    -----
    ``"steihaug"`` costs a few products a step, ``"exact"`` about 9 P³ operations.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(10)
    >>> result = TrustRegion().minimize(problem, problem.start(), gradient_tolerance=1e-9)
    >>> result.status
    'converged'
    """

    method: Literal["steihaug", "exact"] = "steihaug"
    radius: float = 1.0
    largest_radius: float = 1e6

    def __post_init__(self) -> None:
        _checks.choice(self.method, "method", ("steihaug", "exact"))
        check_settings(self, "radius", "largest_radius")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        return {"radius": np.array(float(self.radius))}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        point = problem.linearize(w)
        radius = float(state["radius"])
        if self.method == "steihaug":
            step, image = steihaug(point, radius)
        else:
            step, image = _exact(problem.hessian(w), point.gradient, radius)
        return judged(problem, w, point, step, image, radius, self.largest_radius)


def judged(
    problem: Problem,
    w: FloatArray,
    point: PointLike,
    step: FloatArray,
    image: FloatArray,
    radius: float,
    largest: float,
) -> StepResult:
    """Take the step if the loss falls as g·s + ½ s·(H s) foretells, and find the next radius."""
    foretold = -float(np.vdot(point.gradient, step)) - float(np.vdot(step, image)) / 2
    size = norm(step)
    new = w + step.astype(w.dtype, copy=False)
    ratio = gain_ratio(point.loss, problem.loss(new), foretold, w)
    if not ratio >= 0.25:
        radius = size / 4 if math.isfinite(size) else radius / 4
    elif ratio > 0.75 and size > 0.8 * radius:
        radius = min(2 * radius, largest)
    accepted = ratio > 1e-4
    failure = None
    if not accepted and not (w + step / 4 != w).any():
        failure = "steps are below the rounding of w"
    return StepResult(
        new if accepted else w,
        point.loss,
        norm(point.gradient),
        {"radius": np.array(radius)},
        accepted,
        {"radius": radius, "ratio": ratio},
        failure,
    )


def gain_ratio(loss: float, new_loss: float, foretold: float, w: FloatArray) -> float:
    """Of decrease to what was foretold; 1 where both are below the loss's rounding."""
    if not math.isfinite(new_loss):
        return -math.inf
    noise = 10 * float(np.finfo(w.dtype).eps) * abs(loss)
    return (loss - new_loss + noise) / (foretold + noise) if foretold + noise > 0 else -math.inf


def steihaug(
    point: PointLike, radius: float, tolerance: float | None = None
) -> tuple[FloatArray, FloatArray]:
    """A step s in the ball and H s: conjugate gradients from 0 until they leave it.

    Parameters
    ----------
    point : Point or Linearization
    radius : float
    tolerance : float, optional
        Of the residual relative to the gradient; min(½, √‖g‖) by default, which keeps the
        convergence superlinear.

    Returns
    -------
    tuple of two (P,) float arrays
    """
    g = point.gradient
    length = norm(g)
    target = length * (min(0.5, math.sqrt(length)) if tolerance is None else tolerance)
    s, image = np.zeros_like(g), np.zeros_like(g)
    r, p = g.copy(), -g
    rr = float(np.vdot(r, r))
    for _ in range(2 * len(g)):
        if math.sqrt(rr) <= target:
            break
        product = point.hvp(p)
        curvature = float(np.vdot(p, product))
        edge = _to_edge(s, p, radius)
        step = rr / curvature if curvature > rr / edge else edge
        if step == edge:
            s, image = s + g.dtype.type(step) * p, image + g.dtype.type(step) * product
            break
        alpha = g.dtype.type(step)
        s, image, r = s + alpha * p, image + alpha * product, r + alpha * product
        before, rr = rr, float(np.vdot(r, r))
        p = -r + g.dtype.type(rr / before) * p
    return s, image


def _to_edge(s: FloatArray, p: FloatArray, radius: float) -> float:
    """The t ≥ 0 with ‖s + t p‖ = radius."""
    a, b = float(np.vdot(p, p)), float(np.vdot(s, p))
    c = float(np.vdot(s, s)) - radius**2
    root = math.sqrt(max(0.0, b * b - a * c))
    # The form that does not cancel.
    return (root - b) / a if b <= 0 else -c / (b + root)


def _exact(
    hessian: FloatArray, gradient: FloatArray, radius: float
) -> tuple[FloatArray, FloatArray]:
    values, vectors = np.linalg.eigh(hessian.astype(np.float64, copy=False))
    inner = vectors.T @ gradient.astype(np.float64, copy=False)
    step, _ = secular_step(values, inner, lambda _: radius, True)
    return vectors @ step, vectors @ (values * step)
