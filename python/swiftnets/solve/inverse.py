"""tr A⁻¹ from one factorisation with a complex step: exact but for rounding, which is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.matrix import CurvatureMatrix, require_matrix
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.factors import factor
from swiftnets.linalg.scaling import row_norms
from swiftnets.solve.factors import dense_factors, dense_operations
from swiftnets.solve.layered import LayeredFactorization, is_layered, plan

__all__ = ["InverseMethod", "InverseTrace", "dense_inverse_trace", "inverse_plan", "inverse_trace"]


def __dir__() -> list[str]:
    return __all__


InverseMethod: TypeAlias = Literal["layered", "dense"]

# h relative to what it is added to: its square does not show beside 1.
_STEP = 2.0**-100
_SAFETY = 8.0  # certificate and norm are estimates from two vectors each


@dataclass(frozen=True)
class InverseTrace:
    """tr A⁻¹, and what the factors say beside it.

    Attributes
    ----------
    value : float
    error : float
        An estimate of what it may be off by: 8 ‖A⁻¹‖ ‖1 − A F⁻¹‖, Frobenius' norms as estimated by
        products of random vectors with the factors F.
    log_determinant : float
        log|det A|, from the same pivots.
    method : {"layered", "dense"}
    factorizations : int
    """

    value: float
    error: float
    log_determinant: float
    method: InverseMethod
    factorizations: int


def inverse_plan(matrix: CurvatureMatrix) -> dict[InverseMethod, tuple[float, int]]:
    """Operations and bytes of the ways there are to `inverse_trace`, cheapest first.

    Parameters
    ----------
    matrix : CurvatureMatrix

    Returns
    -------
    dict of {"layered", "dense"} to (float, int)
    """
    net, samples = matrix.point.net, matrix.point.counted_samples
    count = net.parameter_count
    dense = dense_operations(net, samples, count) + 5 * count**3 / 3
    found: dict[InverseMethod, tuple[float, int]] = {"dense": (dense, 32 * count**2)}
    if is_layered(matrix):
        try:
            layered = plan(net, samples, complex=True)
        except MemoryError:  # sizes that LAPACK does not count
            return found
        found["layered"] = (layered.operations, layered.bytes)
    return dict(sorted(found.items(), key=lambda entry: entry[1][0]))


def inverse_trace(matrix: CurvatureMatrix, method: InverseMethod) -> InverseTrace:
    """tr A⁻¹ of a curvature matrix with its shift.

    Parameters
    ----------
    matrix : CurvatureMatrix
        With a real shift.
    method : {"layered", "dense"}

    Returns
    -------
    InverseTrace

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is singular to working precision.
    MemoryError
        If factors would not fit in memory.
    """
    require_matrix(matrix)
    shift = checks.real(matrix.shift, "shift")
    point = matrix.point.in_float64()
    wide = CurvatureMatrix(point, matrix.kind, shift)
    total = shift + point.net.l2
    if method == "dense":
        entries = CurvatureMatrix(point, matrix.kind).bare()
        # Its certificate is that of the complex one, whose real parts are these up to rounding.
        real = dense_factors(wide, np.float64)
        return _dense(entries, total, real)
    size = float(abs(wide.diagonal()).max())
    # Tiny beside H and beside λ, either of which may be 0.
    h = _STEP * min((part for part in (size, abs(total)) if part), default=0.0)
    if h == 0:
        raise np.linalg.LinAlgError("the matrix has a diagonal of zeros: expected method dense")
    factors = LayeredFactorization(wide + complex(0.0, h))
    trace, logarithm = factor(shift, _core.layered_trace_of_inverse, factors._engine)
    certificate = factors.certificate or 0.0
    norm = _inverse_norm(lambda b: factors.solve(b).real, matrix.order)
    return InverseTrace(trace, _error(certificate, norm, trace), logarithm, "layered", 1)


def dense_inverse_trace(entries: Array, shift: float) -> InverseTrace:
    """tr (A + λ)⁻¹ of a dense symmetric A.

    Parameters
    ----------
    entries : (P, P) float64 array
    shift : float
        λ.

    Returns
    -------
    InverseTrace

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is singular to working precision.
    """
    real = DenseFactorization.trusted(entries, shift, np.dtype(np.float64), 0.0)
    return _dense(entries, shift, real)


def _dense(entries: Array, total: float, real: DenseFactorization) -> InverseTrace:
    certificate = real.certificate or 0.0
    norm = _inverse_norm(real.solve, len(entries))
    largest = max(float(abs(entries).max()), abs(total))
    del real
    found = factor(total, _core.dense_trace_of_inverse, entries, total, _STEP * largest)
    return InverseTrace(found[0], _error(certificate, norm, found[0]), found[1], "dense", 2)


def _inverse_norm(solve: object, order: int) -> float:
    """‖A⁻¹‖ in Frobenius' norm, about, by two vectors; the larger one."""
    rows = np.random.default_rng(0).standard_normal((2, order))
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    images: Array = solve(rows)  # type: ignore[operator]
    return math.sqrt(order) * float(row_norms(np.ascontiguousarray(images)).max())


def _error(certificate: float, norm: float, trace: float) -> float:
    rounding = 16 * float(np.finfo(float).eps)
    return _SAFETY * certificate * norm + rounding * max(abs(trace), norm)
