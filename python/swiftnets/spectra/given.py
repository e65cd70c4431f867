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

__all__ = ["EPS", "Matrix", "given_matrix", "has_structure"]


def __dir__() -> list[str]:
    return __all__


Matrix: TypeAlias = SymmetricOperator | npt.ArrayLike
"""What the functions of `swiftnets.spectra` take: an operator, or a symmetric array."""

EPS = float(np.finfo(np.float64).eps)


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
