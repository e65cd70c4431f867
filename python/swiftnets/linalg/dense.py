"""A symmetric matrix plus a shift factored once for many solves: Cholesky, or Bunch and Kaufman."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.locks import lock_of
from swiftnets._support.types import Array
from swiftnets.linalg.factors import (
    Factors,
    FactorSummary,
    factor,
    right_hand_sides,
    rounded,
    solve_with,
)

__all__ = ["DenseFactorization", "check_symmetric"]


def __dir__() -> list[str]:
    return __all__


_FLOAT64 = np.dtype(np.float64)


class DenseFactorization(Factors):
    """A symmetric matrix plus a shift, A + λ, factored: Cholesky, or Bunch and Kaufman (1977).

    Cholesky where A + λ is positive definite, Bunch and Kaufman's pivoted L D Lᵀ where it is not.

    Parameters
    ----------
    matrix : (P, P) array_like
        Symmetric to rounding; copied.
    shift : float
        λ.

    Raises
    ------
    TypeError, ValueError
        If the matrix is not square, symmetric and finite.
    numpy.linalg.LinAlgError
        If A + λ is singular to working precision: its factors do not prove its inertia.
    MemoryError
        If another P² numbers do not fit in memory.

    Notes
    -----
    Costs P³ / 3 operations, twice that at most where a positive diagonal hides that A + λ is
    indefinite. Several threads may solve at once; `update` waits for them, and they for it.

    Examples
    --------
    >>> factors = DenseFactorization([[0.0, 2.0], [2.0, 0.0]])
    >>> factors.solve([2.0, 4.0]), factors.inertia
    (array([2., 1.]), Inertia(positive=1, negative=1, zero=0))
    >>> factors.update(3.0).is_positive_definite
    True
    """

    def __init__(self, matrix: npt.ArrayLike, shift: float = 0.0) -> None:
        array = checks.array(matrix, "matrix", ("P", "P"))
        shift = checks.real(shift, "shift")
        if array.shape[0] != array.shape[1]:
            raise ValueError(f"matrix has shape {array.shape}; expected a square one")
        checks.finite(array, "matrix")
        check_symmetric(array, "matrix")
        self._set_up(array, shift, _FLOAT64, 0.0)

    @classmethod
    def trusted(
        cls, matrix: Array, shift: float, dtype: np.dtype[Any], diagonal: float
    ) -> DenseFactorization:
        """Factors of a matrix that is known to be symmetric.

        Parameters
        ----------
        matrix : (P, P) float64 array
        shift : float
            λ.
        dtype : numpy.dtype
            Of solutions.
        diagonal : float
            Added to the matrix beside λ: a net's l2.

        Returns
        -------
        DenseFactorization
        """
        self = cls.__new__(cls)
        self._set_up(matrix, shift, dtype, diagonal)
        return self

    def _set_up(self, matrix: Array, shift: float, dtype: np.dtype[Any], diagonal: float) -> None:
        self._count = len(matrix)
        checks.memory(8 * self._count**2, "the dense factorisation")
        self._dtype, self._diagonal, self._shift = dtype, diagonal, shift
        self._lock = lock_of(self)
        found = factor(shift, _core.dense, matrix, shift + diagonal)
        self._engine, self._is_positive_definite, summary = found
        self.summary, self._bytes = FactorSummary.of(summary), summary[2]

    def solve(self, b: npt.ArrayLike) -> npt.NDArray[Any]:
        """x with (A + λ) x = b, not refined.

        Parameters
        ----------
        b : (P,) or (K, P) array_like
            Right-hand sides as rows.

        Returns
        -------
        float array like b

        Raises
        ------
        TypeError, ValueError
            If b is not as above, or not finite.
        numpy.linalg.LinAlgError
            If the last `update` failed, or the solution overflows.
        """
        rows, single = right_hand_sides(b, self._count)
        x = np.empty_like(rows)
        solve_with(_core.dense_solve, self._engine, rows, x)
        return rounded(x[0] if single else x, self._dtype)

    def update(self, shift: float) -> DenseFactorization:
        """Factors for another λ, in the same memory.

        Parameters
        ----------
        shift : float
            λ.

        Returns
        -------
        DenseFactorization
            Itself.

        Raises
        ------
        TypeError, ValueError
            If the shift is not a finite number.
        numpy.linalg.LinAlgError
            If A + λ is singular. There is no factorisation then, until the next update.
        """
        new = checks.real(shift, "shift")
        with self._lock:
            self._shift = new
            self.summary, self._is_positive_definite = FactorSummary(), False
            found = factor(new, _core.dense_update, self._engine, new + self._diagonal)
            self._is_positive_definite, self.summary = found[0], FactorSummary.of(found[1])
        return self

    @property
    def is_positive_definite(self) -> bool:
        """Whether Cholesky's factorisation went through."""
        return self._is_positive_definite

    @property
    def shift(self) -> float:
        """λ; after an update that failed the λ of that, of which there are no factors."""
        return self._shift

    @property
    def parameter_count(self) -> int:
        """P, the order of A."""
        return self._count

    @property
    def bytes(self) -> int:
        """Memory that the factorisation holds."""
        return self._bytes

    @property
    def operations(self) -> float:
        """Real multiplications and additions of the factorisation."""
        return self._count**3 / 3

    @property
    def solve_operations(self) -> float:
        """Those of a solve, for each right-hand side."""
        return 2.0 * self._count**2

    @property
    def forms(self) -> tuple[str, ...]:
        """``("dense",)``."""
        return ("dense",)

    def __repr__(self) -> str:
        return f"DenseFactorization(P={self._count}, shift={self._shift}, {self.summary})"


def check_symmetric(matrix: Array, name: str) -> None:
    """Entries may differ from their mirror images by roundings of sums as long as a row."""
    slack = len(matrix) * np.finfo(float).eps * abs(matrix).max()
    step = max(1, 2**20 // len(matrix))
    for first in range(0, len(matrix), step):
        rows = slice(first, first + step)
        difference = abs(matrix[rows] - matrix[:, rows].T)
        if difference.max() > slack:
            row, j = divmod(int(difference.argmax()), len(matrix))
            i = first + row
            raise ValueError(
                f"{name} has {matrix[i, j]} at [{i}, {j}] and {matrix[j, i]} at [{j}, {i}]; "
                "expected a symmetric matrix"
            )
