"""Trust regions: the quadratic model is minimised in a ball that follows how good it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import dot, exponent, norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.negative_curvature import in_plane, look, seen, unlooked
from swiftnets.optimizers.secular import resolved, secular_step
from swiftnets.problems import PointLike, Problem
from swiftnets.problems.computed import hessian, linearized, trial_gradient, trial_loss

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
    ``"steihaug"`` costs a few products a step, ``"exact"`` about 9 P³ operations. Conjugate
    gradients see only what the gradient has a part in: so that no saddle passes for a minimum, 30
    Lanczos steps from another vector look for negative curvature as well, now and then, where steps
    become small.

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
        checks.choice(self.method, "method", ("steihaug", "exact"))
        check_settings(self, "radius", "largest_radius")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        state = {"radius": np.array(float(self.radius))}
        return state if self.method == "exact" else state | unlooked()

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        point = linearized(problem, w)
        radius = float(state["radius"])
        if self.method == "exact":
            step, image, least = _exact(hessian(problem, w), point.gradient, radius)
            return _decided(problem, w, point, step, image, radius, self.largest_radius, {}, least)
        step, image, along = _conjugate_gradients(point, radius)
        at_rest = norm(step) <= 0.1 * radius and not along < 0
        least, vector, looked = look(point, state, at_rest)
        if vector is not None:
            step, image = in_plane(point, step, image, vector, lambda _: radius, True)
        least = min(least, along)
        return _decided(problem, w, point, step, image, radius, self.largest_radius, looked, least)


def _decided(
    problem: Problem,
    w: FloatArray,
    point: PointLike,
    step: FloatArray,
    image: FloatArray,
    radius: float,
    largest: float,
    state: State,
    least: float,
) -> StepResult:
    """Take the step if the loss falls as g·s + ½ s·(H s) predicts, and find the next radius."""
    length, size = norm(point.gradient), norm(step)
    if size == 0:
        return nowhere(point, w, length, {"radius": np.array(radius)} | state, least)
    predicted = -dot(point.gradient, step) - dot(step, image) / 2
    new = moved(w, step)
    ratio = agreement(problem, point, w, new, predicted)
    if not ratio >= 0.25:
        radius = max((size if math.isfinite(size) else radius) / 4, _LEAST)
    elif ratio > 0.75 and size > 0.8 * radius:
        radius = min(2 * radius, largest)
    kept = {"radius": np.array(radius)} | state
    return taken(point, w, step, length, ratio, kept, {"radius": radius}, least)


def nowhere(
    point: PointLike, w: FloatArray, length: float, state: State, least: float
) -> StepResult:
    """What a method returns that finds no way down."""
    return StepResult(
        w, point.loss, length, state, False, failure=NOWHERE, least_curvature=seen(least)
    )


def taken(
    point: PointLike,
    w: FloatArray,
    step: FloatArray,
    length: float,
    ratio: float,
    state: State,
    info: dict[str, float],
    least: float,
) -> StepResult:
    """The step, if the loss fell by enough of the predicted decrease."""
    accepted = ratio > 1e-4
    failure = None
    if not accepted and not (moved(w, step / 4) != w).any():
        failure = "steps are below the rounding of w"
    return StepResult(
        moved(w, step) if accepted else w,
        point.loss,
        length,
        state,
        accepted,
        info | {"ratio": ratio},
        failure,
        seen(least),
        failure is not None,
    )


NOWHERE = "the gradient is 0, and no negative curvature is seen"
_LEAST = float(np.finfo(np.float64).tiny)  # of radii


def moved(w: FloatArray, step: FloatArray) -> FloatArray:
    """w + step, in w's dtype, whatever overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        new: FloatArray = w + step.astype(w.dtype, copy=False)
        return new


def agreement(
    problem: Problem, point: PointLike, w: FloatArray, new: FloatArray, predicted: float
) -> float:
    """The ratio of the loss's decrease from w to `new` to the predicted one."""
    # Where both are below the loss's rounding, the slopes at both ends say the decrease, which are
    # good to roundings of the gradient (Hager & Zhang 2005).
    loss, new_loss = point.loss, trial_loss(problem, new)
    if new_loss == math.inf or not predicted > 0:
        return -math.inf
    if max(abs(loss - new_loss), predicted) > _noise(loss, w):
        return gain_ratio(loss, new_loss, predicted, w)
    step = new - w
    slopes = dot(point.gradient, step) + dot(trial_gradient(problem, new), step)
    return -slopes / 2 / predicted


def _noise(loss: float, w: FloatArray) -> float:
    return 10 * float(np.finfo(w.dtype).eps) * abs(loss)


def gain_ratio(loss: float, new_loss: float, predicted: float, w: FloatArray) -> float:
    """Of decrease to what was predicted; 1 where both are below the loss's rounding."""
    if not math.isfinite(new_loss):
        return -math.inf
    noise = _noise(loss, w)
    return (loss - new_loss + noise) / (predicted + noise) if predicted + noise > 0 else -math.inf


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

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    """
    return _conjugate_gradients(point, radius, tolerance)[:2]


def _conjugate_gradients(
    point: PointLike, radius: float, tolerance: float | None = None
) -> tuple[FloatArray, FloatArray, float]:
    """A step, its image, and the least curvature along a direction that was taken, or inf."""
    g = point.gradient
    length = norm(g)
    if length == 0:
        return np.zeros_like(g), np.zeros_like(g), math.inf
    # In units of 2ᵉ for g and, from the first product on, 2ʰ for H.
    e, h = exponent(g), 0
    r = np.ldexp(g, -e)
    target = math.ldexp(length, -e) * (
        min(0.5, math.sqrt(length)) if tolerance is None else tolerance
    )
    s, image, p = np.zeros_like(g), np.zeros_like(g), -r
    rr = float(np.vdot(r, r))
    curvatures: list[float] = []
    # Squares of 2 to the power of this, and products of two, are in range.
    far = int(0.4 * np.finfo(g.dtype).maxexp)
    mantissa, power = math.frexp(radius)
    at_edge, reach = False, radius
    for number in range(2 * len(g)):
        if math.sqrt(rr) <= target:
            break
        product = point.hessian @ p
        if not np.isfinite(product).all():
            raise FloatingPointError(f"product {number} of the Hessian is not finite")
        if number == 0:
            h = exponent(product)
            reach = math.ldexp(mantissa, min(max(power + h - e, -far), far))
        product = np.ldexp(product, -h)
        curvature = float(np.vdot(p, product))
        curvatures.append(math.ldexp(curvature / float(np.vdot(p, p)), h))
        edge = _to_edge(s, p, reach)
        at_edge = edge <= 0 or not curvature > rr / edge
        step = g.dtype.type(edge if at_edge else rr / curvature)
        s, image = s + step * p, image + step * product
        if at_edge:
            break
        r = r + step * product
        before, rr = rr, float(np.vdot(r, r))
        p = -r + g.dtype.type(rr / before) * p
    least = resolved(np.sort(curvatures), len(g), g.dtype)[1] if curvatures else math.inf
    if at_edge and not -far < power + h - e < far:
        unit = 1 / norm(s)
        return radius * (unit * s), radius * np.ldexp(unit * image, h), least
    with np.errstate(over="ignore"):
        return np.ldexp(s, e - h), np.ldexp(image, e), least


def _to_edge(s: FloatArray, p: FloatArray, radius: float) -> float:
    """The t ≥ 0 with ‖s + t p‖ = radius."""
    a, b = float(np.vdot(p, p)), float(np.vdot(s, p))
    c = float(np.vdot(s, s)) - radius**2
    root = math.sqrt(max(0.0, b * b - a * c))
    # The form that does not cancel.
    return (root - b) / a if b <= 0 else -c / (b + root)


def _exact(
    matrix: FloatArray, gradient: FloatArray, radius: float
) -> tuple[FloatArray, FloatArray, float]:
    values, vectors = eigh(matrix)
    values, least = resolved(values, len(values), matrix.dtype)
    inner = vectors.T @ gradient.astype(np.float64, copy=False)
    step, _ = secular_step(values, inner, lambda _: radius, True)
    with np.errstate(over="ignore", invalid="ignore"):
        return vectors @ step, vectors @ (values * step), least
