"""What users give as a matrix: checked, and in float64 where it is a net's."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.blocks import LayerBlock
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.linalg.dense import check_symmetric
from swiftnets.linalg.operator import SymmetricOperator
from swiftnets.linalg.scaling import exponent

__all__ = ["ASYMMETRY", "EPS", "Matrix", "entries_of", "given_matrix", "has_structure", "images_of"]


def __dir__() -> list[str]:
    return __all__


Matrix: TypeAlias = SymmetricOperator | npt.ArrayLike
"""What the functions of `swiftnets.spectra` take: an operator, or a symmetric array."""

EPS = float(np.finfo(np.float64).eps)
ASYMMETRY = 1.5e-8
"""Of the norm, where no matrix is symmetric: roundings are some 1e-13, or 1e-6 in float32."""


def given_matrix(A: Matrix) -> SymmetricOperator | Array:
    """A user's matrix as the functions here take it.

    Parameters
    ----------
    A : SymmetricOperator or (P, P) array_like

    Returns
    -------
    SymmetricOperator or (P, P) float64 array
        Of a float32 net it is that of the same point in float64.

    Raises
    ------
    TypeError
        If it is no matrix.
    ValueError
        If it is not symmetric, or its numbers are not real and finite.
    """
    if isinstance(A, SymmetricOperator):
        if np.dtype(A.dtype).kind == "c":
            raise ValueError(f"A is of dtype {A.dtype}; expected a real symmetric matrix")
        if isinstance(A, LayerBlock):
            return A.wide()
        if isinstance(A, CurvatureMatrix) and A.dtype == np.float32:
            return CurvatureMatrix(A.point.in_float64(), A.kind, A.shift)
        return A
    if callable(A) or hasattr(A, "matvec") or hasattr(A, "toarray"):
        raise TypeError(
            f"A is of type {type(A).__name__}; expected a SymmetricOperator or a symmetric array "
            "(see swiftnets.linalg.FunctionOperator, and .toarray() of sparse matrices)"
        )
    array = checks.array(A, "A", ("P", "P"))
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"A has shape {array.shape}; expected a square matrix")
    checks.finite(array, "A")
    check_symmetric(array, "A")
    half: npt.NDArray[np.float64] = array / 2 + array.T / 2
    return half


def has_structure(operator: object) -> bool:
    """Whether it is a net's matrix, or a layer's block of one, whose entries need no products.

    Parameters
    ----------
    operator : object

    Returns
    -------
    bool
    """
    matrix = operator.matrix if isinstance(operator, LayerBlock) else operator
    return isinstance(matrix, CurvatureMatrix) and "structural_hessian" in matrix.point.net.supports


def images_of(operator: SymmetricOperator, rows: Array) -> Array:
    """An operator times rows, in float64: its own, as what is returned may be what it keeps.

    Parameters
    ----------
    operator : SymmetricOperator
    rows : (K, P) array
        They are copied, as operators may write into what they get.

    Returns
    -------
    (K, P) float64 array

    Raises
    ------
    ValueError
        If they are complex, or of another shape.
    FloatingPointError
        If they are not finite.
    """
    real = np.float32 if operator.dtype == np.float32 else np.float64
    raw = np.asarray(operator.products(np.array(rows, real, order="C")))
    if raw.dtype.kind == "c":
        raise ValueError(f"A.products returned dtype {raw.dtype}; expected real numbers")
    if raw.shape != rows.shape:
        raise ValueError(f"A.products returned shape {raw.shape}; expected {rows.shape}")
    images: Array = np.array(raw, np.float64)
    if not np.isfinite(images).all():
        raise FloatingPointError("A times a vector has numbers that are not finite")
    return images


def entries_of(operator: SymmetricOperator) -> tuple[Array, float]:
    """All entries of an operator, its symmetric part, and how far it is from that.

    Parameters
    ----------
    operator : SymmetricOperator

    Returns
    -------
    entries : (P, P) float64 array
    asymmetry : float
        The Frobenius norm of what is not in it; 0 of a net's matrices.

    Raises
    ------
    ValueError
        If it is not symmetric, or its products are not as they should be.
    FloatingPointError
        If entries are not finite.
    """
    if isinstance(operator, (CurvatureMatrix, LayerBlock)):
        entries = np.array(operator.dense(), np.float64)
        if not np.isfinite(entries).all():
            raise FloatingPointError("A has entries that are not finite")
        return entries, 0.0
    if type(operator).dense is SymmetricOperator.dense:
        rows = images_of(operator, np.eye(operator.order))
    else:
        rows = np.array(operator.dense(), np.float64)
        if not np.isfinite(rows).all():
            raise FloatingPointError("A has entries that are not finite")
    e = exponent(rows)
    scaled = np.ldexp(rows, -e)
    skew = (scaled - scaled.T) / 2
    unit = float(np.finfo(np.float32 if operator.dtype == np.float32 else np.float64).eps)
    norm = float(np.linalg.norm(scaled, axis=1).max())
    worst = 2 * float(np.abs(skew).max())
    if worst > max(ASYMMETRY, 1e3 * unit) * norm:
        i, j = np.unravel_index(int(np.abs(skew).argmax()), skew.shape)
        raise ValueError(
            f"A is not symmetric: by its products it has {rows[i, j]} at [{i}, {j}] and "
            f"{rows[j, i]} at [{j}, {i}]; expected a symmetric matrix"
        )
    with np.errstate(over="ignore"):
        return rows / 2 + rows.T / 2, float(np.ldexp(np.linalg.norm(skew), e))
