"""Thick-restart Lanczos: extremal eigenpairs from products alone, every vector orthogonal to all.

Wu and Simon (2000), with blocks where they are asked for. The projected matrix is kept whole, so
that what orthogonalisation finds beyond three terms shows that a matrix is not symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from swiftnets._support.types import Array, IntegerArray
from swiftnets.linalg.lapack import eigh
from swiftnets.spectra.given import ASYMMETRY

__all__ = ["Ends", "Ritz", "orthonormal", "thick_restart", "wanted"]


def __dir__() -> list[str]:
    return __all__


Ends: TypeAlias = tuple[int, int] | int
"""How many of the lowest and of the highest, or how many of the largest modulus."""

Why: TypeAlias = Literal["converged", "budget", "whole space"]

_FIRST = 8  # steps before Ritz values are looked at


@dataclass(frozen=True, eq=False)
class Ritz:
    """Ritz pairs as a run left them, the wanted ones alone.

    Attributes
    ----------
    values : (k,) array
        Ascending.
    vectors : (k, P) array
        Rows, orthonormal.
    residuals : (k,) array
        Of the projected matrix: what rounding adds is not in them.
    norm : float
        The largest modulus of a Ritz value that was met.
    why : {"converged", "budget", "whole space"}
    """

    values: Array
    vectors: Array
    residuals: Array
    norm: float
    why: Why


def wanted(values: Array, ends: Ends) -> IntegerArray:
    """Indices of those wanted among ascending values, the most extreme first at each end."""
    count = len(values)
    if isinstance(ends, int):
        order = np.argsort(-np.abs(values), kind="stable")
        return order[:ends]
    low, high = ends
    if low + high >= count:
        return np.arange(count)
    return np.concatenate([np.arange(low), np.arange(count - 1, count - 1 - high, -1)])


def orthonormal(
    rows: Array,
    against: list[Array],
    rng: np.random.Generator,
    floor: float,
    passes: int = 2,
) -> tuple[Array, Array]:
    """Rows orthonormalised against others and each other; random ones where nothing is left.

    Parameters
    ----------
    rows : (b, P) array
    against : list of (n, P) arrays
        Each orthonormal, and all together.
    rng : numpy.random.Generator
    floor : float
        What of a row is no more than its rounding.
    passes : int
        1 where the rows have been orthogonalised before.

    Returns
    -------
    basis : (c, P) array
        Fewer than b where there are no more dimensions.
    triangle : (c, b) array
        rows = triangleᵀ basis, but for what lay in `against` or below the floor.
    """
    count, order = rows.shape
    room = order - sum(len(known) for known in against)
    basis = np.empty((min(count, room), order))
    triangle = np.zeros((len(basis), count))
    made = 0
    for j in range(count):
        row = rows[j].copy()
        before = float(np.linalg.norm(row))
        for _ in range(passes):
            for known in against:
                row -= (known @ row) @ known
            found = basis[:made] @ row
            triangle[:made, j] += found
            row -= found @ basis[:made]
        length = float(np.linalg.norm(row))
        if made == len(basis):
            continue
        if length > floor:
            triangle[made, j] = length
        else:
            row = rng.standard_normal(order)
            for _ in range(3):
                for known in [*against, basis[:made]]:
                    row -= (known @ row) @ known
                row /= np.linalg.norm(row)
            before = length = 1.0
        row /= length
        if length < before / 2:  # what shrinks loses digits of its orthogonality
            for known in [*against, basis[:made]]:
                row -= (known @ row) @ known
        basis[made] = row / np.linalg.norm(row)
        made += 1
    return basis[:made], triangle[:made]


def thick_restart(
    product: Callable[[Array], Array],
    start: Array,
    ends: Ends,
    *,
    tolerance: float,
    unit: float,
    steps: int,
    budget: int,
    locked: Array,
    rng: np.random.Generator,
    enough: Callable[[Array, Array, float], bool] | None = None,
    relative: bool = False,
    least_norm: float = 0.0,
) -> Ritz:
    """Extremal Ritz pairs of a symmetric matrix in the complement of vectors that are known.

    Parameters
    ----------
    product : callable
        Rows to the products with each.
    start : (b, P) array
        As many rows as a block has.
    ends : (int, int) or int
    tolerance : float
        Of residuals, relative to the norm.
    unit : float
        Rounding of products, relative.
    steps : int
        Vectors of the basis before a restart.
    budget : int
        Products at most.
    locked : (n, P) array
        Orthonormal rows.
    rng : numpy.random.Generator
    enough : callable, optional
        Of Ritz values, residuals and the norm: whether to end though not all are converged.
    relative : bool
        Whether the tolerance is relative to each value, down to the rounding: of an inverse.
    least_norm : float
        What the norm is at least: the complement may have nothing but rounding.

    Returns
    -------
    Ritz
    """
    order = start.shape[1]
    room = order - len(locked)
    steps = min(steps, room)
    basis = np.empty((min(steps + len(start), room), order))
    inner = np.zeros((len(basis), len(basis)))
    block, _ = orthonormal(start, [locked], rng, 0.0)
    size = len(block)
    basis[:size] = block
    first, used, norm, check = 0, 0, least_norm, min(_FIRST, steps)
    k = ends if isinstance(ends, int) else sum(ends)
    while True:
        # basis[first:size] has no products yet.
        current = basis[first:size]
        images = product(current)
        used += len(current)
        known = basis[:size]
        found = known @ images.T
        expected = inner[:first, first:size]
        norm = max(norm, float(np.abs(found).max(initial=0.0)))
        _check_symmetric(found[:first] - expected, found[first:], norm, unit)
        rest = images - found.T @ known
        if len(locked):
            rest -= (rest @ locked.T) @ locked
        inner[:size, first:size] = found
        inner[first:size, :size] = found.T
        square = inner[first:size, first:size]
        inner[first:size, first:size] = (square + square.T) / 2
        whole = size >= room
        floor = 2 * math.sqrt(order) * unit * norm
        if whole:
            following, coupling = np.empty((0, order)), np.zeros((0, len(current)))
        else:
            following, coupling = orthonormal(rest, [locked, known], rng, floor, 1)
            norm = max(norm, float(np.linalg.norm(coupling)))
        at_end = whole or size + len(following) > len(basis) or size >= steps
        spent = used + len(following) > budget
        if at_end or spent or size >= check:
            check = size + max(_FIRST, size // 10)
            values, vectors = eigh(inner[:size, :size])
            norm = max(norm, float(np.abs(values).max()))
            residuals = np.linalg.norm(coupling @ vectors[first:size], axis=0)
            chosen = wanted(values, ends)
            limit = np.full(len(chosen), tolerance * norm)
            if relative:
                least = math.sqrt(order) * unit * norm
                limit = np.maximum(tolerance * np.abs(values[chosen]), least)
            done = len(chosen) >= min(k, room) and bool((residuals[chosen] <= limit).all())
            if enough is not None:
                done = done or enough(values, residuals, norm)
            if done or whole or spent:
                chosen = np.sort(chosen)
                why: Why = "converged" if done else "whole space" if whole else "budget"
                rows = vectors[:, chosen].T @ basis[:size]
                return Ritz(values[chosen], rows, residuals[chosen], norm, why)
            if at_end:
                kept = _kept(values, ends, k, size)
                basis[: len(kept)] = vectors[:, kept].T @ basis[:size]
                size = len(kept)
                inner[:] = 0.0
                inner[np.arange(size), np.arange(size)] = values[kept]
                coupling = coupling @ vectors[first : first + len(current), kept]
                # From here on the vectors kept stand where the current block stood.
                first = 0
                check = size + _FIRST
        last = size + len(following)
        basis[size:last] = following
        inner[size:last, first:size] = coupling
        inner[first:size, size:last] = coupling.T
        first, size = size, last


def _kept(values: Array, ends: Ends, k: int, size: int) -> IntegerArray:
    """Of a basis that is full: the wanted, and a third of the others, from the same ends."""
    more = max(0, (size - k) // 3)
    if isinstance(ends, int):
        return np.sort(wanted(values, min(ends + more, size - 1)))
    low, high = ends
    if not low or not high:
        share = (low + more, 0) if low else (0, high + more)
    else:
        share = (low + more // 2, high + more - more // 2)
    return np.sort(wanted(values, share))


def _check_symmetric(known: Array, square: Array, norm: float, unit: float) -> None:
    if not math.isfinite(norm):
        raise FloatingPointError("products with A are beyond the range of float64")
    difference = float(np.abs(known).max(initial=0.0))
    difference = max(difference, float(np.abs(square - square.T).max(initial=0.0)))
    if difference > max(ASYMMETRY, 1e3 * unit) * norm:
        raise ValueError(
            f"A is not symmetric: two products of its vectors, u·(A v) and v·(A u), differ by "
            f"{difference / norm:.1e} of its norm; expected a symmetric matrix"
        )
