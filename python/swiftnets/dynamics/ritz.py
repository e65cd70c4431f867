"""The largest eigenpairs of a symmetric matrix from what is known of them: few products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from swiftnets._support.types import Array
from swiftnets.linalg.scaling import norm

__all__ = ["Ritz", "refine"]


def __dir__() -> list[str]:
    return __all__


_MOST = 40  # directions that are kept beyond those wanted, before a restart
_NEW = 1e-6  # of a direction, what has to be outside of the space to count
_WIDER = 2


@dataclass(frozen=True, eq=False)
class Ritz:
    """Ritz pairs, the largest first.

    Attributes
    ----------
    values : (k,) array
    rows : (k, P) array
        Orthonormal.
    residuals : (k,) array
        Norms of A u − θ u.
    products : int
    converged : bool
    """

    values: Array
    rows: Array
    residuals: Array
    products: int
    converged: bool


def refine(
    products: Callable[[Array], Array],
    start: Array | None,
    k: int,
    *,
    order: int,
    above: float | None,
    tolerance: float,
    most: int,
    seed: int = 0,
    guard: float = 1.0,
) -> Ritz:
    """Rayleigh and Ritz on a space that grows by the residuals that are too large.

    From a single row this is Lanczos's method, with restarts; from the eigenvectors of a matrix
    nearby it is the block method that misses no member of a cluster as long as there are more rows
    than that has members.

    Parameters
    ----------
    products : callable
        Of rows (m, P).
    start : (m, P) array, optional
        A random row without.
    k : int
        How many pairs, at least.
    order : int
        P.
    above : float, optional
        As many more as it takes for the last to be at most this.
    tolerance : float
        Of residuals, relative to the largest value's modulus.
    most : int
        Products.
    seed : int
        Of random directions, where they are needed.
    guard : float
        How much larger the residual of the last of more than one pair may be, if that is not above.

    Returns
    -------
    Ritz

    Raises
    ------
    FloatingPointError
        If products are not finite.
    """
    k = min(k, order)
    basis = _orthonormal(_random(order, seed) if start is None else start, None)
    if not len(basis):  # zeros
        basis = _orthonormal(_random(order, seed), None)
    images = products(basis)
    made = len(basis)
    while True:
        with np.errstate(all="ignore"):
            small = basis @ images.T
        if not np.isfinite(small).all():
            raise FloatingPointError("the matrix times a vector has numbers that are not finite")
        values, turn = np.linalg.eigh((small + small.T) / 2)
        values, turn = values[::-1], turn[:, ::-1]
        if above is not None:
            while k < order and len(values) >= k and values[k - 1] > above:
                k = min(k + _WIDER, order)
        have = min(k, len(basis))
        rows, own = turn[:, :have].T @ basis, turn[:, :have].T @ images
        remainders = own - values[:have, None] * rows
        norms = np.sqrt(np.einsum("ij,ij->i", remainders, remainders))
        limits = np.full(have, tolerance * max(abs(float(values[0])), abs(float(values[-1]))))
        if have == k > 1 and (above is None or values[k - 1] <= above):
            limits[-1] *= guard
        open_ = norms > limits
        full = len(basis) == order
        if full or (have == k and not open_.any()):
            return Ritz(values[:have].copy(), rows, norms, made, True)
        if made >= most:
            return Ritz(values[:have].copy(), rows, norms, made, False)
        if len(basis) + have > k + _MOST:  # the best of the space, thick
            keep = min(len(basis), k + _MOST // 2)
            basis, images = turn[:, :keep].T @ basis, turn[:, :keep].T @ images
        new = _orthonormal(remainders[open_] / np.maximum(norms[open_], 1e-300)[:, None], basis)
        if not len(new):
            # An invariant space, or one that rounding makes so: what is missing is beside it.
            if have == k:
                return Ritz(values[:have].copy(), rows, norms, made, True)
            new = _orthonormal(_random(order, seed + made), basis)
        basis = np.concatenate([basis, new])
        images = np.concatenate([images, products(new)])
        made += len(new)


_NEAR = 1e-8  # of the identity: one step of Newton and Schulz squares it away


def _orthonormal(rows: Array, beside: Array | None) -> Array:
    """Orthonormal rows of what the given ones have outside of the space beside; it may be few."""
    if beside is None:
        with np.errstate(over="ignore", invalid="ignore"):
            gram = rows @ rows.T
        gram.flat[:: len(rows) + 1] -= 1.0
        if float(np.abs(gram).max()) <= _NEAR:
            close: Array = rows - 0.5 * (gram @ rows)
            return close
    found: list[Array] = []
    for row in rows:
        length = norm(row)
        if not length > 0:
            continue
        row = row / length
        for _ in range(2):
            if beside is not None:
                row = row - (beside @ row) @ beside
            for other in found:
                row = row - (other @ row) * other
        left = norm(row)
        if left > _NEW:
            row = row / left
            if beside is not None:
                row = row - (beside @ row) @ beside
            found.append(row / norm(row))
    return np.array(found).reshape(-1, rows.shape[1])


def _random(order: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((1, order))
