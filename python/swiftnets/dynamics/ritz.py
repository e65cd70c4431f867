"""The largest eigenpairs of a symmetric matrix from what is known of them: few products."""

from __future__ import annotations

import math
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
_MOSTLY = 0.7  # of its norm, what a projected direction keeps to be orthogonal to the digit
_WIDER = 2
_ROUNDING = 1e-15  # of the norm: a residual that is not told from 0


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
        Of residuals, relative to the largest value; down to the rounding of products.
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
    basis = _orthonormal(_random(order, seed) if start is None else start)
    if not len(basis):  # zeros
        basis = _random(order, seed)
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
        combined = turn[:, :have].T
        remainders = combined @ images
        remainders -= (values[:have, None] * combined) @ basis
        squares = np.einsum("ij,ij->i", remainders, remainders).tolist()
        norms = np.array(
            [norm(row, square) for row, square in zip(remainders, squares, strict=True)]
        )
        least = _ROUNDING * max(abs(float(values[0])), abs(float(values[-1])))
        limits = [max(tolerance * abs(float(values[0])), least)] * have
        if have == k > 1 and (above is None or values[k - 1] <= above):
            limits[-1] *= guard
        open_ = [i for i, length in enumerate(norms.tolist()) if length > limits[i]]
        is_done = len(basis) == order or (have == k and not open_)
        new = np.empty((0, order))
        if not is_done and made < most:
            if len(basis) + have > k + _MOST:  # the best of the space, thick
                keep = turn[:, : min(len(basis), k + _MOST // 2)].T
                basis, images, combined = keep @ basis, keep @ images, np.eye(have, len(keep))
            new = _outside(remainders[open_] / norms[open_, None], basis)
            if not len(new):
                # An invariant space, or one that rounding makes so: what is missing is beside it.
                is_done = have == k
                if not is_done:
                    new = _outside(_random(order, seed + made), basis)
        if is_done or made >= most:
            return Ritz(values[:have].copy(), combined @ basis, norms, made, is_done)
        basis = np.concatenate([basis, new])
        images = np.concatenate([images, products(new)])
        made += len(new)


# Of the identity: so near rounding leaves what was orthonormal; and so near one step of Newton and
# Schulz squares the rest away.
_EXACT, _NEAR = 1e-13, 1e-8


def _orthonormal(rows: Array) -> Array:
    """Orthonormal rows that span what the given ones do; it may be few."""
    with np.errstate(over="ignore", invalid="ignore"):
        gram = rows @ rows.T
    gram.flat[:: len(rows) + 1] -= 1.0
    off = float(np.abs(gram).max(initial=0.0))
    if off <= _EXACT:
        return rows
    if off <= _NEAR:
        close: Array = rows - 0.5 * (gram @ rows)
        return close
    units = [row / length for row in rows if (length := norm(row)) > 0]
    return _outside(np.array(units).reshape(-1, rows.shape[1]), np.empty((0, rows.shape[1])))


def _outside(rows: Array, basis: Array) -> Array:
    """Orthonormal rows of what rows of norm 1 have outside of an orthonormal space; may be few."""
    found: list[Array] = []
    for row in rows:
        left, length = 1.0, 0.0
        # Once more where most of it was inside: rounding of that is not small beside the rest.
        while length < _MOSTLY and left > _NEW:
            row = row - (basis @ row) @ basis
            for other in found:
                row -= (other @ row) * other
            length = math.sqrt(float(row @ row))
            left *= length
            row /= max(length, 1e-300)
        if left > _NEW:
            found.append(row)
    return np.array(found).reshape(-1, rows.shape[1])


def _random(order: int, seed: int) -> Array:
    """A row of norm 1."""
    row = np.random.default_rng(seed).standard_normal((1, order))
    return row / norm(row[0])
