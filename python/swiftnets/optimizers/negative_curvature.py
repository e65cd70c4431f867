"""Negative curvature that a gradient does not show: at saddles, and so near to them as rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from swiftnets._support.types import FloatArray
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import dot, norm
from swiftnets.optimizers.history import State
from swiftnets.optimizers.secular import resolved, secular_step
from swiftnets.problems import PointLike

__all__ = ["in_plane", "look", "seen", "unlooked"]


def __dir__() -> list[str]:
    return __all__


_PRODUCTS = 30


def unlooked() -> State:
    """What `look` knows before the first step."""
    return {"looked": np.array(np.inf)}


def look(point: PointLike, state: State, at_rest: bool) -> tuple[float, FloatArray | None, State]:
    """Now and then, look for negative curvature that the gradient has no part in.

    Where steps are small and the gradient is a hundredth of what it was at the last look, and again
    at the next step where something was found: a few times in a run.

    Parameters
    ----------
    point : Point or Linearization
    state : dict of arrays
        Begun by `unlooked`.
    at_rest : bool
        Whether the step is small.

    Returns
    -------
    least : float
        The least Ritz value of 30 Lanczos steps from a random vector, 0 where it is within rounding
        of that; inf where there was no look. Every eigenvector has a part in the start, and those
        at the ends of the spectrum come out first.
    vector : (P,) float array, optional
        Its vector, of length 1, where it is negative.
    state : dict of arrays
        For the next step.

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    """
    g = point.gradient
    length, looked = norm(g), float(state["looked"]) if "looked" in state else np.inf
    if not (at_rest and length <= 0.01 * looked):
        return np.inf, None, {"looked": np.array(max(looked, length))}
    start = np.random.default_rng(0).standard_normal(len(g)).astype(g.dtype)
    run = lanczos(point.hessian, start, _PRODUCTS)
    values, vectors = eigh(run.matrix)
    least = resolved(values, len(g), g.dtype)[1]
    if not least < 0:
        return least, None, {"looked": np.array(length)}
    vector = vectors[:, 0].astype(g.dtype) @ run.basis
    return least, vector / g.dtype.type(norm(vector)), unlooked()


def seen(least: float) -> float | None:
    """The least curvature as `StepResult` has it."""
    return least if least < np.inf else None


def in_plane(
    point: PointLike,
    step: FloatArray,
    image: FloatArray,
    vector: FloatArray,
    radius: Callable[[float], float],
    interior: bool,
) -> tuple[FloatArray, FloatArray]:
    """The model's minimiser over the span of a step and a vector (Byrd, Schnabel & Shultz 1988).

    Parameters
    ----------
    point : Point or Linearization
    step, image : (P,) float array
        s, which may be 0, and H s.
    vector : (P,) float array
        Of length 1.
    radius, interior
        As of `secular_step`.

    Returns
    -------
    tuple of the new s and H s
    """
    basis, images = [], []
    size = norm(step)
    if size > 0:
        basis.append(step.astype(np.float64) / size)
        images.append(image.astype(np.float64) / size)
        vector = vector.astype(np.float64)
        for _ in range(2):
            vector = vector - dot(basis[0], vector) * basis[0]
    size = norm(vector)
    if size > 1e-4:
        vector = (vector / size).astype(point.gradient.dtype)
        basis.append(vector.astype(np.float64))
        images.append((point.hessian @ vector).astype(np.float64))
    matrix = np.array([[dot(q, image) for image in images] for q in basis])
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    inner = vectors.T @ [dot(q, point.gradient) for q in basis]
    found, _ = secular_step(values, inner, radius, interior)
    weights = vectors @ found
    new = np.sum([t * q for t, q in zip(weights, basis, strict=True)], axis=0)
    moved = np.sum([t * q for t, q in zip(weights, images, strict=True)], axis=0)
    return new, moved
