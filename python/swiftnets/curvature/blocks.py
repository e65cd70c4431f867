"""The diagonal block of one layer of a curvature matrix, as a matrix of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.internals import Fixed, Internals
from swiftnets._support.types import FloatArray
from swiftnets.curvature.matrix import CurvatureMatrix, require_matrix
from swiftnets.linalg.operator import SymmetricOperator

__all__ = ["LayerBlock", "layer_block"]


def __dir__() -> list[str]:
    return __all__


class LayerBlock(Fixed, SymmetricOperator, Internals, internal=("product", "products", "wide")):
    """A layer's block of a curvature matrix, from products or from entries; made by `layer_block`.

    The matrix's shift and the net's l2 are in it.

    Attributes
    ----------
    matrix : CurvatureMatrix
    layer : int
    """

    def __init__(self, matrix: CurvatureMatrix, layer: int) -> None:
        slices = require_matrix(matrix).point.net.layer_slices
        self._matrix = matrix
        self._layer = checks.integer(layer, "i", 0, len(slices) - 1)
        self._slice = slices[self._layer]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._matrix, self._layer)

    @property
    def matrix(self) -> CurvatureMatrix:
        """Of all layers."""
        return self._matrix

    @property
    def layer(self) -> int:
        """Which of the layers with parameters."""
        return self._layer

    @property
    def order(self) -> int:  # type: ignore[override]
        """How many parameters the layer has."""
        slice_ = self._slice
        return int(slice_.stop) - int(slice_.start)

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        """The matrix's."""
        return self._matrix.dtype

    def products(self, rows: FloatArray) -> FloatArray:
        """The block times each row: products of the whole matrix with rows that are 0 elsewhere.

        Parameters
        ----------
        rows : (K, n) array

        Returns
        -------
        (K, n) array
        """
        padded = np.zeros((len(rows), self._matrix.order), rows.dtype)
        padded[:, self._slice] = rows
        return np.ascontiguousarray(self._matrix.products(padded)[:, self._slice])

    def dense(self) -> FloatArray:
        """All entries, as ``matrix.dense(block=(i, i))`` makes them.

        Returns
        -------
        (n, n) array
            Symmetric to the last bit.
        """
        entries: FloatArray = self._matrix.dense(block=(self._layer, self._layer))
        return entries

    def wide(self) -> LayerBlock:
        """The block of the same point in float64; itself if it is so already."""
        matrix = self._matrix
        if self.dtype != np.float32:
            return self
        point = matrix.point.in_float64()
        return LayerBlock(CurvatureMatrix(point, matrix.kind, matrix.shift), self._layer)

    def __repr__(self) -> str:
        return f"Layer {self._layer} of {self._matrix!r}"


def layer_block(matrix: CurvatureMatrix, i: int) -> LayerBlock:
    """The block of layer i on the diagonal of a curvature matrix, as a symmetric operator.

    Parameters
    ----------
    matrix : CurvatureMatrix
    i : int
        Which of the layers with parameters, from 0.

    Returns
    -------
    LayerBlock
        Its products are those of the whole matrix with vectors that are 0 in other layers, and cost
        as much; ``dense()`` makes its entries from the structure.

    Raises
    ------
    TypeError
        If the matrix is no `CurvatureMatrix`, or i no integer.
    ValueError
        If there is no such layer.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> hessian = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1))).hessian
    >>> block = layer_block(hessian, 1)
    >>> block.shape
    (4, 4)
    >>> bool(np.allclose(block @ np.eye(4), hessian.dense()[9:, 9:]))
    True
    """
    return LayerBlock(matrix, i)
