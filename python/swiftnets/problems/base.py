"""`Problem`: a smooth function of a vector with its derivatives, as optimisers take it."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.linalg.operator import SymmetricOperator

__all__ = ["FunctionPoint", "PointLike", "Problem"]


def __dir__() -> list[str]:
    return __all__


class PointLike(Protocol):
    """What `Problem.at` returns: `FunctionPoint`, or `swiftnets.curvature.Point`."""

    @property
    def loss(self) -> float:
        """The value."""

    @property
    def gradient(self) -> FloatArray:
        """The gradient (P,)."""

    @property
    def hessian(self) -> SymmetricOperator:
        """The Hessian, by its products."""


@dataclass(frozen=True, eq=False)
class FunctionPoint:
    """A function at one place.

    Attributes
    ----------
    loss : float
    gradient : (P,) float array
    hessian : SymmetricOperator
    """

    loss: float
    gradient: FloatArray
    hessian: SymmetricOperator


class Problem(ABC):
    """A smooth function of w, its derivatives exact.

    A subclass sets `parameter_count`, and `dtype` if it is not float64, and has at least
    `loss_and_gradient`; methods of second order need `hvp` (or `hessian`), those of third order
    `taylor` and `third`. They return NumPy arrays of `dtype`, losses a real number: optimisers
    check this, and say which method returned what. Where a loss is not finite they return that, or
    raise FloatingPointError.

    Methods of second order take the function at one place by `at`, which asks `loss_and_gradient`
    and `hvp`. A subclass that can do better, or share work between them, has its own `at`, which
    returns a `PointLike`; a method of this name for another purpose would break them.
    """

    parameter_count: int
    dtype: np.dtype[Any] = np.dtype(np.float64)

    @abstractmethod
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        """The value at w, and the gradient.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        tuple of a float, and a (P,) float array
        """

    def loss(self, w: npt.ArrayLike) -> float:
        """The value at w.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        float
        """
        return returned_pair(self, self.loss_and_gradient(w))[0]

    def gradient(self, w: npt.ArrayLike) -> FloatArray:
        """The gradient at w.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        (P,) float array
        """
        return returned_pair(self, self.loss_and_gradient(w))[1]

    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        """The Hessian's products at w.

        Parameters
        ----------
        w : (P,) array_like
        v : (P,) or (K, P) array_like
            A vector, or K of them as rows.

        Returns
        -------
        float array like v

        Raises
        ------
        NotImplementedError
            Here: a subclass may have them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no Hessian-vector products")

    def at(self, w: npt.ArrayLike) -> PointLike:
        """The function at w: its loss, its gradient and its Hessian.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        PointLike
        """
        w = np.array(self.vector(w, "w"))
        # Copies: a method of one's own may write on them, and w is for all products.
        loss, gradient = returned_pair(self, self.loss_and_gradient(w.copy()))
        return FunctionPoint(loss, gradient, ProblemHessian(self, partial(_hvp_at, self, w)))

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        """The dense Hessian at w: here from products with unit vectors.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        (P, P) float array
        """
        eye = np.eye(self.parameter_count, dtype=self.dtype)
        columns = returned(self, "hvp", "products", self.hvp(w, eye), eye.shape)
        half: FloatArray = (columns + columns.T) / 2
        return half

    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        """Coefficients of t ↦ f(w + t v) and of its gradient there.

        Parameters
        ----------
        w, v : (P,) array_like
        order : int
            From 0 to 3, of the gradient's last one; the loss has one more.

        Returns
        -------
        TaylorSeries

        Raises
        ------
        NotImplementedError
            Here: a subclass may have them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no Taylor series")

    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        """The third derivative at w applied to two vectors.

        Parameters
        ----------
        w, u : (P,) array_like
        v : (P,) or (K, P) array_like
            A vector, or K of them as rows.

        Returns
        -------
        float array like v

        Raises
        ------
        NotImplementedError
            Here: a subclass may have it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no third derivatives")

    def settings(self) -> Mapping[str, object] | None:
        """What tells this problem from others of its type, for checkpoints.

        Returns
        -------
        mapping of str to object, or None
            Numbers, strings, arrays, functions, nets, problems, dataclasses, and lists and mappings
            of these: compared to the last bit, functions by their names. With a ``"version"`` that
            is raised where the same settings come to mean another function. None, as here, where
            they are not known, and for types that inherit this method from another problem: a
            checkpoint is then of a problem with the same type and size, and to 1e-5 the same loss
            and norm of the gradient where the run starts.
        """
        return None

    def vector(self, value: npt.ArrayLike, name: str) -> FloatArray:
        """A checked vector, for subclasses.

        Parameters
        ----------
        value : (P,) array_like
        name : str
            Of the argument, for messages.

        Returns
        -------
        (P,) array of the problem's dtype
        """
        return checks.array(value, name, (self.parameter_count,), self.dtype)

    def vectors(self, value: npt.ArrayLike, name: str) -> FloatArray:
        """A checked vector or rows of several, for subclasses.

        Parameters
        ----------
        value : (P,) or (K, P) array_like
        name : str
            Of the argument, for messages.

        Returns
        -------
        (P,) or (K, P) array of the problem's dtype
        """
        if checks.dimensions(value, name) == 1:
            return self.vector(value, name)
        return checks.array(value, name, ("K", self.parameter_count), self.dtype)


class ProblemHessian(SymmetricOperator):
    """A problem's Hessian by a function as `Problem.hvp`: a vector is given to it as one.

    Parameters
    ----------
    problem : Problem
    hvp : callable
        v (P,), or rows (K, P), to the products.
    """

    def __init__(self, problem: Problem, hvp: Callable[[FloatArray], FloatArray]) -> None:
        self.order, self.dtype = problem.parameter_count, problem.dtype
        self._problem, self._hvp = problem, hvp

    def product(self, v: FloatArray) -> FloatArray:
        """See `SymmetricOperator.product`."""
        return self.products(v)

    def products(self, rows: FloatArray) -> FloatArray:
        """See `SymmetricOperator.products`."""
        return returned(self._problem, "hvp", "products", self._hvp(rows), rows.shape)

    def __repr__(self) -> str:
        return f"Hessian of {type(self._problem).__name__}, order={self.order}"


def _hvp_at(problem: Problem, w: FloatArray, v: FloatArray) -> FloatArray:
    # Copies: a method of one's own may write on them.
    return problem.hvp(w.copy(), v.copy())


# What problems of one's own return ----------------------------------------------------------------


def returned_number(problem: Problem, method: str, value: Any) -> float:
    """A loss; whether it is finite is for its user."""
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(
        f"{type(problem).__name__}.{method} returned a loss of {kind_of(value)}; expected a float"
    )


def returned(
    problem: Problem, method: str, what: str, value: Any, shape: tuple[int, ...]
) -> FloatArray:
    """An array as the problem promises it."""
    same = type(value) is np.ndarray and value.dtype == problem.dtype
    if same and value.shape == shape:
        return value  # type: ignore[no-any-return]
    error = ValueError if same else TypeError
    raise error(
        f"{type(problem).__name__}.{method} returned {what} of {kind_of(value)}; expected a NumPy "
        f"array of {np.dtype(problem.dtype)} and shape {shape}"
    )


def kind_of(value: Any) -> str:
    if type(value) is np.ndarray:
        return f"dtype {value.dtype} and shape {value.shape}"
    shape = getattr(value, "shape", None)
    return f"type {type(value).__name__}" + ("" if shape is None else f" and shape {tuple(shape)}")


def returned_pair(problem: Problem, value: Any) -> tuple[float, FloatArray]:
    """What `loss_and_gradient` returned."""
    method = "loss_and_gradient"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"{type(problem).__name__}.{method} returned {kind_of(value)}; expected a pair of a "
            "loss and a gradient"
        )
    shape = (problem.parameter_count,)
    return (
        returned_number(problem, method, value[0]),
        returned(problem, method, "a gradient", value[1], shape),
    )
