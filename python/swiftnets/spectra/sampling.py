"""Traces and diagonals from products with random vectors: XTrace, XDiag, and Hutchinson's means.

Each test vector is left out in turn, and the others' range taken away from it (Epperly, Tropp &
Webber 2024): a mean of estimates that use every product twice, whose scatter is their error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from swiftnets._support.types import Array
from swiftnets.linalg.lapack import qr

__all__ = ["hutchinson", "hutchinson_diagonal", "xdiag", "xtrace"]


def __dir__() -> list[str]:
    return __all__


Times: TypeAlias = Callable[[Array], Array]
"""Rows (K, P) to a symmetric matrix times each."""

_EPS = float(np.finfo(float).eps)
_FRESH = 8  # vectors for what a basis that is no longer regular leaves out


def _spherical(count: int, order: int, rng: np.random.Generator) -> Array:
    """Vectors of length √P, so that quadratic forms have the trace for their mean."""
    rows = rng.standard_normal((count, order))
    rows *= math.sqrt(order) / np.linalg.norm(rows, axis=1)[:, None]
    return rows


def _basis(images: Array) -> tuple[Array, Array, bool]:
    """Orthonormal rows of the range, R with images = Rᵀ rows, and whether R is regular."""
    columns, triangle = qr(images.T)
    sizes = abs(triangle.diagonal())
    is_regular = bool(sizes.min() > 1e-13 * sizes.max())
    return np.ascontiguousarray(columns.T), triangle, is_regular


def _left_out(triangle: Array) -> Array:
    """Columns s: the direction that the range loses where one test vector is left out."""
    s: Array = np.asarray(np.linalg.inv(triangle).T, np.float64)
    s /= np.linalg.norm(s, axis=0)
    return s


def xtrace(
    times: Times, order: int, count: int, rng: np.random.Generator, gram: Times | None = None
) -> tuple[float, float]:
    """tr A by XTrace, and its standard error.

    Parameters
    ----------
    times : callable
        A times rows.
    order : int
        P.
    count : int
        Test vectors, at least 2 and at most P: as many products again go into the second half.
    rng : numpy.random.Generator
    gram : callable, optional
        Rows Q to Q A Qᵀ, where that is cheaper than by `times`.

    Returns
    -------
    value, error : float
    """
    omega = _spherical(count, order, rng)
    basis, r, is_regular = _basis(times(omega))
    if not is_regular:
        return _of_low_rank(times, order, basis, r, rng)
    h = gram(basis) if gram is not None else basis @ times(basis).T
    w = basis @ omega.T
    s = _left_out(r)
    g = w - s * (s * w).sum(axis=0)
    outside = (w * r).sum(axis=0) - 2 * (g * r).sum(axis=0) + (g * (h @ g)).sum(axis=0)
    length = order - (g * g).sum(axis=0)
    scale = (order - count + 1) / np.maximum(length, _EPS * order)
    values = np.trace(h) - (s * (h @ s)).sum(axis=0) + scale * outside
    return _mean(values, abs(h).sum())


def _of_low_rank(
    times: Times, order: int, basis: Array, r: Array, rng: np.random.Generator
) -> tuple[float, float]:
    """Where the products do not span as many dimensions: what they span, and the rest by a mean."""
    left, sizes, _ = np.linalg.svd(r)
    kept = np.ascontiguousarray((basis.T @ left[:, sizes > 1e-13 * sizes[0]]).T)
    inner = kept @ times(kept).T
    if len(kept) >= order:
        return float(np.trace(inner)), _EPS * float(abs(inner).sum())
    rest = _spherical(_FRESH, order, rng)
    rest -= (rest @ kept.T) @ kept
    rest *= (math.sqrt(order - len(kept)) / np.linalg.norm(rest, axis=1))[:, None]
    images = times(rest)
    value, error = _mean((rest * images).sum(axis=1), 0.0)
    # Rounding of the products is all that the rest may be.
    rounding = abs(inner).sum() + 4 * order * abs(inner).max(initial=0.0)
    return float(np.trace(inner)) + value, error + _EPS * float(rounding)


def _mean(values: Array, size: float) -> tuple[float, float]:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(values.mean()), error + _EPS * float(size)


def hutchinson(
    times: Times, order: int, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    """tr A as a mean of quadratic forms (Girard 1989, Hutchinson 1990), and its standard error."""
    rows = _spherical(count, order, rng)
    return _mean((rows * times(rows)).sum(axis=1), 0.0)


def xdiag(times: Times, order: int, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """The diagonal of A by XDiag, and each number's standard error.

    Parameters
    ----------
    times : callable
        A times rows.
    order : int
        P.
    count : int
        Test vectors of signs, at least 2.
    rng : numpy.random.Generator

    Returns
    -------
    values, errors : (P,) float arrays
    """
    omega = rng.choice([-1.0, 1.0], size=(count, order))
    basis, r, is_regular = _basis(times(omega))
    if not is_regular:
        left, sizes, _ = np.linalg.svd(r)
        basis = np.ascontiguousarray((basis.T @ left[:, sizes > 1e-13 * sizes[0]]).T)
        inside = (basis * times(basis)).sum(axis=0)
        omega = rng.choice([-1.0, 1.0], size=(_FRESH, order))
        images = times(omega)
        images -= (images @ basis.T) @ basis
        rest, errors = _means(omega * images)
        return inside + rest, errors
    image = times(basis)
    s = _left_out(r)
    turned = s.T @ basis  # rows q_i, with Q_i Q_iᵀ = Q Qᵀ − q_i q_iᵀ
    # A ω_i is in the range of Q: what is left of it without q_i is its part along q_i.
    along = (s * r).sum(axis=0)[:, None] * turned
    estimates = omega * along - turned * (s.T @ image)
    rest, errors = _means(estimates)
    return (basis * image).sum(axis=0) + rest, errors


def hutchinson_diagonal(
    times: Times, order: int, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The diagonal of A as a mean of z ∘ A z over signs z (Bekas et al. 2007), and its errors."""
    omega = rng.choice([-1.0, 1.0], size=(count, order))
    return _means(omega * times(omega))


def _means(rows: Array) -> tuple[Array, Array]:
    mean: Array = rows.mean(axis=0)
    if len(rows) < 2:
        return mean, np.full_like(mean, math.inf)
    errors: Array = rows.std(axis=0, ddof=1) / math.sqrt(len(rows))
    return mean, errors
