"""What eigenvalues are asked of: products, entries and factors of one matrix, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.blocks import LayerBlock
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.operator import SymmetricOperator
from swiftnets.linalg.scaling import exponent
from swiftnets.solve.factors import Factorization, dense_operations
from swiftnets.solve.layered import is_layered, plan
from swiftnets.spectra.given import EPS, given_matrix, has_structure

__all__ = ["Target"]


def __dir__() -> list[str]:
    return __all__


_USUAL = 200  # binary places within which squares of sums are far from the range's ends
_SEED = 0x5EED


class Target:
    """A symmetric matrix A, times a power of two where its numbers are very large or small.

    Products are counted. Numbers that are not finite raise a FloatingPointError.

    Parameters
    ----------
    given : SymmetricOperator or (P, P) array_like
        What the user passed in as A.
    """

    def __init__(self, given: Any) -> None:
        self.made = self.factorizations = 0
        self._entries: Array | None = None
        self._factors: Factorization | None = None
        self._at = math.nan
        self.operator: SymmetricOperator | None = None
        self.unit = EPS
        matrix = given_matrix(given)
        if isinstance(matrix, SymmetricOperator):
            self.operator = matrix
            self.order = checks.integer(matrix.order, "A.order")
            if matrix.dtype == np.float32:
                self.unit = float(np.finfo(np.float32).eps)
        else:
            self._entries = matrix
            self.order = len(matrix)
        self.exponent = self._exponent()

    def _exponent(self) -> int:
        """0 for numbers of usual size."""
        if self._entries is not None:
            found = exponent(self._entries)
        else:
            start = np.random.default_rng(_SEED).standard_normal((1, self.order))
            found = exponent(self._raw(start / np.abs(start).max()))
        return found if abs(found) > _USUAL else 0

    # Products

    def products(self, rows: Array) -> Array:
        """The scaled matrix times each row."""
        if self._entries is not None and self.operator is None:
            with np.errstate(all="ignore"):
                images: Array = (
                    rows @ np.ldexp(self._entries, -self.exponent)
                    if self.exponent
                    else rows @ self._entries
                )
            self.made += len(rows)
            return images
        images = self._raw(rows)
        return np.ldexp(images, -self.exponent) if self.exponent else images

    def _raw(self, rows: Array) -> Array:
        assert self.operator is not None
        real = np.float32 if self.operator.dtype == np.float32 else np.float64
        self.made += len(rows)
        raw = self.operator.products(np.ascontiguousarray(rows, real))
        images: Array = np.asarray(raw, np.float64)
        if images.shape != rows.shape:
            raise ValueError(f"A.products returned shape {images.shape}; expected {rows.shape}")
        if not np.isfinite(images).all():
            raise FloatingPointError("A times a vector has numbers that are not finite")
        return images

    # Entries

    @property
    def has_structure(self) -> bool:
        """Whether entries cost less than a product a column."""
        return self._entries is not None or has_structure(self.operator)

    def entries(self) -> Array:
        """All entries, scaled; kept."""
        if self._entries is None:
            checks.memory(16 * self.order**2, "all entries of A")
            assert self.operator is not None
            if not isinstance(self.operator, (CurvatureMatrix, LayerBlock)):
                self.made += self.order
            self._entries = np.array(self.operator.dense(), np.float64)
            if not np.isfinite(self._entries).all():
                raise FloatingPointError("A has entries that are not finite")
        if self.exponent:
            return np.ldexp(self._entries, -self.exponent)
        return self._entries

    # Factors

    @property
    def factor_operations(self) -> float:
        """What a factorisation takes; inf where there is none but by a product a column."""
        operator = self.operator
        if isinstance(operator, CurvatureMatrix):
            point = operator.point
            dense = dense_operations(point.net, point.counted_samples, self.order)
            dense += self.order**3 / 3
            if is_layered(operator):
                try:
                    return min(dense, plan(point.net, point.counted_samples).operations)
                except MemoryError:
                    return dense
            return dense
        if self._entries is not None or self.has_structure:
            return self.order**3 / 3
        return math.inf

    def factors(self, s: float) -> Factorization:
        """Of A − s, in A's own scale; s in the scaled one.

        One is kept: the next is made in its memory.

        Parameters
        ----------
        s : float

        Returns
        -------
        LayeredFactorization or DenseFactorization
        """
        s = math.ldexp(s, self.exponent)
        if self._factors is not None and self._at == s:
            return self._factors
        self._at = math.nan  # until it is factored
        shift = 0.0
        if isinstance(self.operator, CurvatureMatrix):
            shift = float(np.real(self.operator.shift))
        self.factorizations += 1
        if self._factors is not None:
            self._factors.update(shift - s)
            self._at = s
            return self._factors
        if isinstance(self.operator, CurvatureMatrix):
            self._factors = (self.operator - s).factorize()
        else:
            entries = self.entries()
            if self.exponent:
                entries = np.ldexp(entries, self.exponent)
            dtype: np.dtype[Any] = np.dtype(np.float64)
            self._factors = DenseFactorization.trusted(entries, -s, dtype, 0.0)
        self._at = s
        return self._factors
