"""What entries, eigenvalues and factors give of a matrix without sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.solve.factors import dense_operations
from swiftnets.solve.inverse import InverseTrace, dense_inverse_trace, inverse_plan, inverse_trace
from swiftnets.solve.layered import is_layered, plan
from swiftnets.spectra.estimates import Cost, Estimate
from swiftnets.spectra.given import EPS
from swiftnets.spectra.quadrature import Counted, eigenvalues

__all__ = [
    "Quantity",
    "cost_of",
    "diagonal_of",
    "extreme",
    "factors_of",
    "inverse_diagonal",
    "inverse_of",
    "log_determinant",
    "of_eigenvalues",
    "product_operations",
    "square_diagonal",
    "squares",
    "trace_of",
]


def __dir__() -> list[str]:
    return __all__


Quantity: TypeAlias = Literal["entries", "squares", "eigenvalues", "inverse", "logdet", "solves"]
"""What an exact answer needs: the diagonal, squares of entries, and so on."""

_FLOAT64 = np.dtype(np.float64)
_ROWS = 64  # unit vectors that are solved for at once


# What it takes


def product_operations(matrix: Counted) -> float:
    """Of a product; of an operator that says nothing of it as many as of a dense matrix."""
    curvature = matrix.curvature
    if curvature is None:
        return 2.0 * matrix.order**2
    net = curvature.point.net
    return 12.0 * curvature.point.counted_samples * net.multiplications


def _forming(matrix: Counted) -> tuple[int, float]:
    """Products and operations for all entries."""
    curvature = matrix.curvature
    if matrix.is_array:
        return 0, 0.0
    if curvature is None or not matrix.has_structure:
        return matrix.entry_products, 0.0
    net, samples = curvature.point.net, curvature.point.counted_samples
    return 0, dense_operations(net, samples, matrix.order)


def cost_of(matrix: Counted, quantity: Quantity) -> Cost:
    """What the exact answer takes."""
    order = matrix.order
    products, operations = _forming(matrix)
    square = 8 * order**2
    if quantity == "entries":
        if matrix.has_structure:
            return Cost("exact", 0, 0, 2 * product_operations(matrix), 8 * order)
        held = 0 if matrix.is_array else (8 * order if matrix.curvature else 2 * square)
        return Cost("exact", products, 0, 0.0, held)
    if quantity == "squares":
        held = 8 * _largest_block(matrix) if matrix.has_structure else 2 * square
        return Cost("exact", products, 0, operations + 2.0 * order**2, held)
    if quantity == "eigenvalues":
        return Cost("exact", products, 0, operations + 4 * order**3 / 3, 3 * square)
    if quantity == "inverse":
        if matrix.curvature is None:
            return Cost("exact", products, 2, 5 * order**3 / 3, 4 * square)
        ways = inverse_plan(matrix.curvature)
        # The cheapest that fits, as `inverse_of` takes it.
        name = next((way for way in ways if checks.fits(ways[way][1])), next(iter(ways)))
        needs = products if name == "dense" else 0
        return Cost("exact", needs, 2 if name == "dense" else 1, *ways[name])
    factoring, held = operations + order**3 / 3, 2 * square
    solves = order * 2.0 * order**2
    if matrix.curvature is not None and is_layered(matrix.curvature):
        net, samples = matrix.curvature.point.net, matrix.curvature.point.counted_samples
        try:
            layered = plan(net, samples)
        except MemoryError:  # sizes that LAPACK does not count
            layered = None
        if layered is not None and layered.operations <= factoring:
            products, factoring, held = 0, layered.operations, layered.bytes
            solves = order * layered.solve_operations
    if quantity == "logdet":
        return Cost("exact", products, 1, factoring, held)
    return Cost("exact", products, 1, factoring + solves, held + 16 * _ROWS * order)


def _largest_block(matrix: Counted) -> int:
    assert matrix.curvature is not None
    sizes = [part.stop - part.start for part in matrix.curvature.point.net.layer_slices]
    return int(max(sizes)) ** 2


# Entries


def _entries(matrix: Counted) -> Array:
    """The diagonal."""
    if matrix.curvature is not None:
        matrix.count_entries()
        found = np.asarray(matrix.curvature.diagonal(), np.float64)
    else:
        found = matrix.dense().diagonal().copy()
    if not np.isfinite(found).all():
        raise FloatingPointError("the diagonal has numbers that are not finite")
    return found


def _rounding(sizes: Array | float, terms: int) -> Any:
    """What sums of so many terms may be off by, and the terms themselves."""
    return (16 + math.sqrt(terms)) * EPS * sizes


def diagonal_of(matrix: Counted) -> Estimate:
    """The diagonal."""
    values = _entries(matrix)
    errors = _rounding(abs(values), _terms(matrix))
    return Estimate(values, errors, "exact: the entries", True, matrix.products)


def trace_of(matrix: Counted) -> Estimate:
    """The sum of the diagonal."""
    values = _entries(matrix)
    error = _rounding(float(abs(values).sum()), _terms(matrix))
    method = "exact: sum of the diagonal"
    return Estimate(math.fsum(values), error, method, True, matrix.products)


def _terms(matrix: Counted) -> int:
    return 1 if matrix.curvature is None else matrix.curvature.point.counted_samples


def _square_sums(matrix: Counted) -> Array:
    """Of each row, by blocks of layers where the net has them."""
    if not matrix.has_structure:
        entries = matrix.dense()
        found: Array = np.einsum("ij,ij->i", entries, entries)
        return found
    assert matrix.curvature is not None
    curvature = matrix.curvature
    slices = curvature.point.net.layer_slices
    sums = np.zeros(matrix.order)
    for i, rows in enumerate(slices):
        for j, columns in enumerate(slices[: i + 1]):
            block = curvature.dense(block=(i, j))
            sums[rows] += np.einsum("ij,ij->i", block, block)
            if i != j:
                sums[columns] += np.einsum("ij,ij->j", block, block)
    return sums


def square_diagonal(matrix: Counted) -> Estimate:
    """The diagonal of A²."""
    values = _square_sums(matrix)
    if not np.isfinite(values).all():
        raise FloatingPointError("the sum of squares of a row is not finite")
    errors = _rounding(values, matrix.order + _terms(matrix))
    return Estimate(values, errors, "exact: squares of all entries", True, matrix.products)


def squares(matrix: Counted) -> Estimate:
    """tr A²: the sum of the squares of all entries."""
    rows = square_diagonal(matrix)
    return replace(rows, value=math.fsum(rows.value), error=float(rows.error.sum()))


# Eigenvalues


def of_eigenvalues(matrix: Counted, function: Callable[[Array], Array], what: str) -> Estimate:
    """Σ f(λ), with f moved by what rounding does to the eigenvalues."""
    values = eigenvalues(matrix.dense())
    # LAPACK's eigenvalues are those of a matrix that is off by about that much.
    slack = 4 * math.sqrt(matrix.order) * EPS * float(abs(values).max())
    terms = function(values)
    if not np.isfinite(terms).all():
        raise FloatingPointError(f"{what} is not finite at an eigenvalue")
    with np.errstate(invalid="ignore"):
        moved = np.maximum(
            abs(function(values + slack) - terms), abs(function(values - slack) - terms)
        )
    moved[~np.isfinite(moved)] = np.inf
    error = float(moved.sum()) + _rounding(float(abs(terms).sum()), 1)
    method = f"exact: {what} of all eigenvalues"
    return Estimate(math.fsum(terms), error, method, True, matrix.products)


def extreme(matrix: Counted) -> Estimate:
    """max |λ|."""
    values = eigenvalues(matrix.dense())
    value = float(abs(values).max())
    error = 4 * math.sqrt(matrix.order) * EPS * value
    return Estimate(value, error, "exact: of all eigenvalues", True, matrix.products)


# Factors


def inverse_of(matrix: Counted) -> InverseTrace:
    """tr A⁻¹ by complex step."""
    if matrix.curvature is None:
        checks.memory(32 * matrix.order**2, "the dense matrix and its complex factors")
        return dense_inverse_trace(np.ascontiguousarray(matrix.dense()), 0.0)
    ways = list(inverse_plan(matrix.curvature))
    for name in ways:
        try:
            if name == "dense":
                checks.memory(32 * matrix.order**2, "the dense matrix and its complex factors")
                matrix.count_entries()
            return inverse_trace(matrix.curvature, name)
        except (MemoryError, np.linalg.LinAlgError):
            if name == ways[-1]:
                raise
    raise AssertionError


def factors_of(matrix: Counted) -> Any:
    """Real factors: layered, or dense."""
    if matrix.curvature is not None:
        factors = matrix.curvature.factorize()
        if isinstance(factors, DenseFactorization):
            matrix.count_entries()
        return factors
    checks.memory(16 * matrix.order**2, "the dense matrix and its factors")
    entries = np.ascontiguousarray(matrix.dense())
    return DenseFactorization.trusted(entries, 0.0, _FLOAT64, 0.0)


def log_determinant(matrix: Counted, factors: Any) -> Estimate:
    """log|det A| from real factors."""
    if factors.log_determinant is None:
        raise np.linalg.LinAlgError(
            f"log|det| may be off by {factors.log_determinant_error}: the matrix is nearly singular"
        )
    method = f"exact: pivots of {_named(factors)} factors"
    rounding = EPS * abs(factors.log_determinant) if factors.log_determinant > -math.inf else 0.0
    error = factors.log_determinant_error + rounding
    return Estimate(factors.log_determinant, error, method, True, matrix.products, 1)


def _named(factors: object) -> str:
    return "dense" if isinstance(factors, DenseFactorization) else "layered"


def inverse_diagonal(matrix: Counted) -> Estimate:
    """The diagonal of A⁻¹ by solves with all unit vectors."""
    factors = factors_of(matrix)
    order = matrix.order
    values, norms = np.empty(order), np.empty(order)
    for first in range(0, order, _ROWS):
        places = np.arange(first, min(first + _ROWS, order))
        rows = np.zeros((len(places), order))
        rows[np.arange(len(places)), places] = 1.0
        images = np.asarray(factors.solve(rows), np.float64)
        values[places] = images[np.arange(len(places)), places]
        norms[places] = np.linalg.norm(images, axis=1)
    errors = 8 * (factors.certificate or 0.0) * norms + EPS * abs(values)
    method = f"exact: {order} solves with {_named(factors)} factors"
    return Estimate(values, errors, method, True, matrix.products, 1)
