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
from swiftnets.spectra.given import EPS, entries_of, given_matrix, has_structure, images_of

__all__ = ["Target"]


def __dir__() -> list[str]:
    return __all__


_USUAL = 200  # binary places within which squares of sums are far from the range's ends
_SEED = 0x5EED
# Of the norm: so near the 0 of a Hessian without its l2 pivots are delayed through many layers,
# which may take a thousand times the plan's operations. Dense factors take theirs, if no more than
# these, some seconds.
_NEAR_ZERO, _LONG = 1e-8, 1e11


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
        self._asymmetry = 0.0
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
            looked = self._entries
        else:
            start = np.random.default_rng(_SEED).standard_normal((1, self.order))
            looked = self._raw(start / np.abs(start).max())
        self._is_zero = not looked.any()
        found = exponent(looked)
        return found if abs(found) > _USUAL else 0

    def take_scale(self, sigma: float) -> None:
        """That of sigma, if no more is known of the matrix than that it is 0.

        Parameters
        ----------
        sigma : float
        """
        if self._is_zero:
            found = exponent(np.array([sigma]))
            self.exponent = found if abs(found) > _USUAL else 0

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
        self.made += len(rows)
        return images_of(self.operator, rows)

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
            self._entries, self._asymmetry = entries_of(self.operator)
        if self.exponent:
            return np.ldexp(self._entries, -self.exponent)
        return self._entries

    @property
    def asymmetry(self) -> float:
        """How far the entries that were made, scaled, are from those of the products."""
        return math.ldexp(self._asymmetry, -self.exponent)

    # Factors

    @property
    def product_operations(self) -> float:
        """Of a product; inf of an operator that says nothing of it."""
        operator = self.operator
        if self._entries is not None:
            return 2.0 * self.order**2
        if isinstance(operator, LayerBlock):
            operator = operator.matrix  # padded with zeros
        if isinstance(operator, CurvatureMatrix):
            point = operator.point
            return 12.0 * point.counted_samples * point.net.multiplications
        return math.inf

    @property
    def forming_operations(self) -> float:
        """Of all entries; inf of an operator that says nothing of its products."""
        operator = self.operator
        if self._entries is not None:
            return 0.0
        if isinstance(operator, LayerBlock):
            operator = operator.matrix
        if isinstance(operator, CurvatureMatrix):
            point = operator.point
            return dense_operations(point.net, point.counted_samples, self.order)
        return math.inf

    @property
    def factor_operations(self) -> float:
        """Of a first factorisation; inf where there is none but by a product a column."""
        if self._entries is None and not isinstance(self.operator, CurvatureMatrix):
            if not self.has_structure:
                return math.inf
            return self.forming_operations + self.order**3 / 3
        return min(self.forming_operations + self.order**3 / 3, self._layered_operations)

    @property
    def eliminating_operations(self) -> float:
        """Of another one, for another shift."""
        return min(self.order**3 / 3, self._layered_operations)

    @property
    def _layered_operations(self) -> float:
        operator = self.operator
        if not (isinstance(operator, CurvatureMatrix) and is_layered(operator)):
            return math.inf
        try:
            return plan(operator.point.net, operator.point.counted_samples).operations
        except MemoryError:  # sizes that LAPACK does not count
            return math.inf

    def factors(self, s: float, norm: float = 0.0) -> Factorization:
        """Of A − s, in A's own scale; s in the scaled one.

        One is kept: the next is made in its memory.

        Parameters
        ----------
        s : float
        norm : float
            About that of the scaled matrix, if it is known: next to a Hessian's own 0, where every
            layer leaves its pivots to the others, factors are dense unless that takes very long.

        Returns
        -------
        LayeredFactorization or DenseFactorization
        """
        dense = self._is_dense_at(s, norm)
        s = math.ldexp(s, self.exponent)
        if self._factors is not None and self._at == s:
            return self._factors
        self._at = math.nan  # until it is factored
        self.factorizations += 1
        shift = 0.0
        if isinstance(self.operator, CurvatureMatrix):
            shift = float(np.real(self.operator.shift))
            if dense is not isinstance(self._factors, DenseFactorization):
                self._factors = None
        if self._factors is not None:
            self._factors.update(shift - s)
            self._at = s
            return self._factors
        if isinstance(self.operator, CurvatureMatrix):
            # Named: "auto" would prove how many eigenvalues are 0, which nothing here asks for.
            self._factors = (self.operator - s).factorize(method="dense" if dense else "layered")
        else:
            entries = self.entries()
            if self.exponent:
                entries = np.ldexp(entries, self.exponent)
            dtype: np.dtype[Any] = np.dtype(np.float64)
            self._factors = DenseFactorization.trusted(entries, -s, dtype, 0.0)
        self._at = s
        return self._factors

    def _is_dense_at(self, s: float, norm: float) -> bool:
        if not isinstance(self.operator, CurvatureMatrix):
            return True
        layered = self._layered_operations
        dense = self.forming_operations + self.order**3 / 3
        if not layered <= dense:
            return True
        own = self.operator.point.net.l2 + float(np.real(self.operator.shift))
        away = abs(math.ldexp(own, -self.exponent) - s)
        is_near = away <= _NEAR_ZERO * max(norm, abs(s))
        return is_near and dense <= _LONG and checks.fits(16 * self.order**2)
