"""Norms and products that neither overflow nor underflow on the way. Users need none of it.

Squares of numbers beyond 1e±154 leave the range of float64. The plain sums are formed first, as
they are right nearly always; where they are not, the numbers are scaled by powers of two, which
rounds nothing, and summed again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets import _core

__all__ = [
    "dot",
    "dots",
    "exponent",
    "exponents",
    "halvings",
    "is_finite",
    "norm",
    "places",
    "row_norms",
]


def __dir__() -> list[str]:
    return __all__


# Between these a sum of up to 2⁴⁰ squares has lost nothing: what underflowed is below its rounding.
_LEAST, _MOST = 2.0**-900, 2.0**1000

# Too short for the threads of NumPy's BLAS: they would go on spinning beside the engine's, and the
# next gradient take twice as long. Nor is a whole float64 copy allocated.
_BLOCK = 2**13


def exponent(values: npt.NDArray[Any]) -> int:
    """e with 2ᵉ⁻¹ ≤ max |values| < 2ᵉ; 0 where there is nothing finite and not 0."""
    largest = float(np.abs(values).max(initial=0.0))
    return math.frexp(largest)[1] if math.isfinite(largest) else 0


def exponents(rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """`exponent` of each row."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    return np.frexp(np.where(np.isfinite(largest), largest, 0.0))[1].astype(np.int64)


def halvings(rows: npt.NDArray[Any], beside: int = 0) -> npt.NDArray[np.int64]:
    """How many times each row can be halved with no number of it leaving the normal range.

    Parameters
    ----------
    rows : (K, n) float array
    beside : int
        Products with numbers of so many binary places after the point do not leave it either.

    Returns
    -------
    (K,) int64 array
    """
    sizes = np.abs(rows)
    least = np.where(sizes > 0, sizes, np.inf).min(axis=1, initial=np.inf)
    exponents = np.frexp(np.where(np.isfinite(least), least, 1.0))[1].astype(np.int64)
    return np.maximum(exponents - beside - int(np.finfo(rows.dtype).minexp) - 1, 0)


def places(rows: npt.NDArray[Any]) -> int:
    """How many binary places after the point the smallest number of these has before its first."""
    return int(np.finfo(rows.dtype).maxexp - 2 - halvings(rows).min())


def norm(v: npt.NDArray[Any], square: float | None = None) -> float:
    """‖v‖ of a vector, summed in float64; inf or NaN where v is not finite.

    Parameters
    ----------
    v : (n,) float array
    square : float, optional
        What `_core.square_sum` says of it, where that is known.

    Returns
    -------
    float
    """
    if square is None:
        square = _square(v)
    if _LEAST < square < _MOST:
        return math.sqrt(square)
    if not np.isfinite(v).all():
        return math.nan if np.isnan(v).any() else math.inf
    e = exponent(v)
    return _ldexp(math.sqrt(_square(np.ldexp(v.astype(np.float64), -e))), e)


def is_finite(v: npt.NDArray[Any]) -> bool:
    """Whether every number of a vector is finite."""
    return math.isfinite(_square(v)) or bool(np.isfinite(v).all())


def dot(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """a · b of two vectors, summed in float64.

    Parameters
    ----------
    a, b : (n,) float arrays

    Returns
    -------
    float
        0 or inf for a sum that is not only where ‖a‖ ‖b‖ is out of range.
    """
    plain = _sum(a, b)
    bound = norm(a) * norm(b)
    # Finite, no product overflowed, and what underflowed is below the rounding of the bound.
    if bound > _LEAST and math.isfinite(plain):
        return plain
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return plain
    ea, eb = exponent(a), exponent(b)
    scaled = _sum(np.ldexp(a.astype(np.float64), -ea), np.ldexp(b.astype(np.float64), -eb))
    return _ldexp(scaled, ea + eb)


def dots(rows: npt.NDArray[Any], v: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """row · v for each row, as `dot`."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result: npt.NDArray[np.float64] = rows.astype(np.float64, copy=False) @ v.astype(
            np.float64, copy=False
        )
    for index, value in enumerate(result.tolist()):
        if not _LEAST < abs(value) < _MOST:
            result[index] = dot(rows[index], v)
    return result


def row_norms(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """‖row‖ of each row, summed in float64."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("kn,kn->k", rows, rows, dtype=np.float64)
    result: npt.NDArray[np.float64] = np.sqrt(squares)
    for index in np.flatnonzero(~((squares > _LEAST) & (squares < _MOST))):
        result[index] = norm(rows[index])
    return result


def _square(v: npt.NDArray[Any]) -> float:
    """‖v‖², or what is left of it where that is out of range."""
    if v.dtype != np.float32:
        v = v.astype(np.float64, copy=False)
    return _core.square_sum(np.require(v, requirements=["C", "A"]))


def _sum(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        parts = []
        for first in range(0, len(a), _BLOCK):
            left = a[first : first + _BLOCK].astype(np.float64, copy=False)
            right = b[first : first + _BLOCK].astype(np.float64, copy=False)
            parts.append(float(left @ right))
    try:
        return math.fsum(parts)
    except (OverflowError, ValueError):  # a sum, or inf − inf
        return float(np.sum(parts))


def _ldexp(value: float, e: int) -> float:
    try:
        return math.ldexp(value, e)
    except OverflowError:
        return math.copysign(math.inf, value)
