"""A symmetric matrix that is there through its products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks

__all__ = ["FunctionOperator", "SymmetricOperator"]


def __dir__() -> list[str]:
    return __all__


class SymmetricOperator(ABC):
    """What ``A @ v`` needs: a subclass has `order`, `dtype` and `products`.

    Attributes
    ----------
    order : int
        P, of rows and columns.
    dtype : numpy.dtype
    """

    order: int
    dtype: np.dtype[Any]

    # NumPy's arrays leave products with it to it.
    __array_ufunc__ = None

    @abstractmethod
    def products(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A times each row, as rows.

        Parameters
        ----------
        rows : (K, P) array
            K at least 1; C-contiguous, of the operator's real dtype.

        Returns
        -------
        (K, P) array
        """

    def product(self, v: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A times one vector: here that of `products` with one row.

        Parameters
        ----------
        v : (P,) array
            C-contiguous, of the operator's real dtype.

        Returns
        -------
        (P,) array
        """
        image: npt.NDArray[Any] = self.products(v[None])[0]
        return image

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return self.order, self.order

    def __matmul__(self, v: npt.ArrayLike) -> npt.NDArray[Any]:
        """Products with a vector (P,), or with the columns of a matrix (P, K).

        Parameters
        ----------
        v : (P,) or (P, K) array_like

        Returns
        -------
        array like v

        Notes
        -----
        Many at once are faster than one by one. Of rows take ``rows @ A``, which copies nothing.
        """
        if checks.dimensions(v, "v") == 1:
            return self._product(v)
        columns = v if isinstance(v, np.ndarray) else np.asarray(v)
        images: npt.NDArray[Any] = columns.T @ self
        return images.T

    def __rmatmul__(self, v: npt.ArrayLike) -> npt.NDArray[Any]:
        """Products with a vector (P,), or with the rows of a matrix (K, P): A is symmetric."""
        if checks.dimensions(v, "v") == 1:
            return self._product(v)
        rows = checks.array(v, "v", ("K", self.order), self._real, empty=True)
        return self.products(rows) if len(rows) else np.empty(rows.shape, self.dtype)

    def dense(self) -> npt.NDArray[Any]:
        """All entries, from products with the unit vectors.

        Returns
        -------
        (P, P) array
            Its symmetric part.
        """
        columns = self.products(np.eye(self.order, dtype=self._real))
        half: npt.NDArray[Any] = (columns + columns.T) / 2
        return half

    def as_linear_operator(self) -> Any:
        """The matrix as a `scipy.sparse.linalg.LinearOperator`; needs SciPy.

        SciPy's `eigsh` finds eigenvalues and does not count them: it may leave out members of
        clusters although it says that it has converged.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            A product with a matrix is one call for all its columns. Its adjoint is itself, or where
            a shift is complex the conjugate.

        Raises
        ------
        ImportError
            If SciPy is not installed.
        """
        try:
            from scipy.sparse.linalg import LinearOperator
        except ImportError as error:
            raise ImportError("operators need SciPy: pip install swiftnets[scipy]") from error
        return LinearOperator(
            self.shape,
            matvec=lambda v: self @ np.asarray(v).reshape(-1),
            rmatvec=lambda v: (self @ np.asarray(v).reshape(-1)).conj(),
            matmat=lambda v: self @ v,
            rmatmat=lambda v: (self @ v).conj(),
            dtype=self.dtype,
        )

    def _product(self, v: npt.ArrayLike) -> npt.NDArray[Any]:
        return self.product(checks.array(v, "v", (self.order,), self._real))

    @property
    def _real(self) -> np.dtype[Any]:
        """The dtype of what it multiplies."""
        return np.empty(0, self.dtype).real.dtype


def as_product(operator: object, name: str) -> Callable[[Any], npt.NDArray[Any]]:
    """A matrix, or a function of rows, as a function of rows."""
    if isinstance(operator, SymmetricOperator):
        return lambda rows: rows @ operator
    if not callable(operator):
        raise TypeError(
            f"{name} is of type {type(operator).__name__}; expected a function or a "
            "SymmetricOperator"
        )
    return operator


class FunctionOperator(SymmetricOperator):
    """A symmetric matrix as a function of rows.

    Parameters
    ----------
    order : int
    products : callable
        Rows (K, P) to the products with each.
    dtype : numpy.dtype

    Examples
    --------
    >>> double = FunctionOperator(3, lambda rows: 2 * rows)
    >>> double @ [1.0, 2.0, 3.0]
    array([2., 4., 6.])
    """

    def __init__(
        self,
        order: int,
        products: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.order, self.dtype = order, np.dtype(dtype)
        self._products = products

    def products(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._products(rows)
