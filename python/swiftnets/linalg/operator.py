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

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """All entries, for NumPy's functions of matrices."""
        if copy is False:
            raise ValueError("copy is False; expected True or None, as the entries are made anew")
        entries: npt.NDArray[Any] = self.dense()
        return entries if dtype is None else entries.astype(dtype, copy=False)

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
        _check_factor(v)
        if checks.dimensions(v, "v") == 1:
            return self._product(v)
        columns = checks.unconverted(v, "v")
        if columns.ndim != 2 or len(columns) != self.order or columns.dtype.kind not in "biuf":
            checks.array(v, "v", (self.order, "K"), self._real, empty=True)  # says what is wrong
        images: npt.NDArray[Any] = columns.T @ self
        return images.T

    def __rmatmul__(self, v: npt.ArrayLike) -> npt.NDArray[Any]:
        """Products with a vector (P,), or with the rows of a matrix (K, P): A is symmetric."""
        _check_factor(v)
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}(order={self.order}, dtype={self.dtype})"


def _check_factor(v: object) -> None:
    if isinstance(v, SymmetricOperator):
        raise TypeError(
            f"v is of type {type(v).__name__}; expected an array (see .dense() for products of "
            "two matrices)"
        )


def as_product(operator: object, name: str) -> Callable[[Any], npt.NDArray[Any]]:
    """A matrix, or a function of rows or of a vector, as such a function."""
    if isinstance(operator, SymmetricOperator):
        return lambda rows: rows @ operator
    if not callable(operator):
        raise TypeError(
            f"{name} is of type {type(operator).__name__}; expected a function or a "
            "SymmetricOperator"
        )
    function: Callable[[Any], npt.NDArray[Any]] = operator

    def product(given: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            return function(given)
        except ValueError as error:
            # Only where it is raised in the function itself, as by NumPy for shapes: not deeper.
            trace = error.__traceback__
            if trace is not None and trace.tb_next is not None and trace.tb_next.tb_next is None:
                form = "a vector" if given.ndim == 1 else "rows"
                error.add_note(f"{name} was called with {form} of shape {given.shape}.")
            raise

    return product


def order_of(operator: object) -> int | None:
    """Its order, where it is known: a function's is not."""
    return operator.order if isinstance(operator, SymmetricOperator) else None


class FunctionOperator(SymmetricOperator):
    """A symmetric matrix as a function of rows.

    Parameters
    ----------
    order : int
    products : callable
        Rows (K, P) to the products with each.
    dtype : numpy.dtype
        Of the products: float64 or float32, or complex of these precisions.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    Products raise such an error where the function returns another shape or no numbers.

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
        self.order = checks.integer(order, "order")
        checks.function(products, "products", "rows")
        self.dtype = _inexact(dtype)
        self._products = products
        self._called = as_product(products, "products")

    # Its settings; the wrapped function is made anew.

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.order, self._products, self.dtype)

    def products(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # A copy: the function may write on it, or return it.
        raw = checks.unconverted(self._called(rows.copy()), "what products returned")
        if raw.dtype.kind not in ("biufc" if self.dtype.kind == "c" else "biuf"):
            raise TypeError(f"products returned dtype {raw.dtype}; expected {self.dtype}")
        if raw.shape != rows.shape:
            raise ValueError(f"products returned shape {raw.shape}; expected {rows.shape}")
        return raw.astype(self.dtype, copy=False)


def _inexact(value: Any) -> np.dtype[Any]:
    expected = "float64, float32, complex128 or complex64"
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):
        raise TypeError(f"dtype is {value!r}; expected {expected}") from None
    if dtype not in (np.float64, np.float32, np.complex128, np.complex64) or not dtype.isnative:
        raise ValueError(f"dtype is {dtype}; expected {expected}")
    return dtype
