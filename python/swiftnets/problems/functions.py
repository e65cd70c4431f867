"""Test functions whose derivatives are in closed form, to hold methods against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.linalg.lapack import aside
from swiftnets.problems.base import Problem

__all__ = ["LinearRegression", "Quadratic", "Rosenbrock"]


def __dir__() -> list[str]:
    return __all__


# Numbers that overflow show by their values, as a net's are.
_quietly = np.errstate(over="ignore", invalid="ignore")


class Quadratic(Problem):
    """½ wᵀ A w − bᵀ w.

    Parameters
    ----------
    matrix : (P, P) array_like
        A, symmetric: its symmetric part is taken.
    b : (P,) array_like, optional
        0 by default.

    Examples
    --------
    >>> Quadratic([[2.0, 0.0], [0.0, -1.0]]).gradient([1.0, 1.0])
    array([ 2., -1.])
    """

    def __init__(self, matrix: npt.ArrayLike, b: npt.ArrayLike | None = None) -> None:
        array = checks.array(matrix, "matrix", ("P", "P"))
        if array.shape[0] != array.shape[1]:
            raise ValueError(f"matrix has shape {array.shape}; expected a square one")
        checks.finite(array, "matrix")
        self.matrix: FloatArray = (array + array.T) / 2
        self.parameter_count = len(array)
        self.b = np.zeros(len(array)) if b is None else np.array(self.vector(b, "b"))
        checks.finite(self.b, "b")

    @_quietly
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        w = self.vector(w, "w")
        image = self.matrix @ w
        return float(w @ image / 2 - self.b @ w), image - self.b

    @_quietly
    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        result: FloatArray = self.vectors(v, "v") @ self.matrix
        return result

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        return self.matrix.copy()

    @_quietly
    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        w, v = self.vector(w, "w"), self.vector(v, "v")
        loss, gradient = self.loss_and_gradient(w)
        return _series(loss, v, [gradient, self.matrix @ v], order)

    @_quietly
    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        self.vector(u, "u")
        return np.zeros_like(self.vectors(v, "v"))

    def settings(self) -> Mapping[str, object] | None:
        return {"version": 1, "matrix": self.matrix, "b": self.b}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(P={self.parameter_count})"


class LinearRegression(Quadratic):
    """½ ‖x w − y‖² + ½ l2 ‖w‖².

    Parameters
    ----------
    x : (N, P) array_like
    y : (N,) array_like
    l2 : float

    Examples
    --------
    >>> LinearRegression([[1.0], [1.0]], [0.0, 2.0]).loss([1.0])
    1.0
    """

    def __init__(self, x: npt.ArrayLike, y: npt.ArrayLike, l2: float = 0.0) -> None:
        self.x = np.array(checks.array(x, "x", ("N", "P")))
        self.y = np.array(checks.array(y, "y", (len(self.x),)))
        checks.finite(self.x, "x")
        checks.finite(self.y, "y")
        self.l2 = checks.nonnegative(l2, "l2")
        with np.errstate(over="ignore", invalid="ignore"):
            operations = 1.0 * self.x.size * self.x.shape[1]
            matrix: FloatArray = aside(operations, np.matmul, self.x.T, self.x)
            image = self.x.T @ self.y
            matrix[np.diag_indices_from(matrix)] += self.l2
        if not (np.isfinite(matrix).all() and np.isfinite(image).all()):
            raise ValueError("x has numbers so large that xᵀ x or xᵀ y is not finite")
        super().__init__(matrix, image)

    @_quietly
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        w = self.vector(w, "w")
        residual = self.x @ w - self.y
        decay = self.l2 * (w @ w) if self.l2 else 0.0  # not 0 times what overflows
        return (
            float(residual @ residual + decay) / 2,
            self.x.T @ residual + self.l2 * w,
        )

    def settings(self) -> Mapping[str, object] | None:
        return {"version": 1, "x": self.x, "y": self.y, "l2": self.l2}


class Rosenbrock(Problem):
    """Rosenbrock's valley in n dimensions: Σ 100 (wᵢ₊₁ − wᵢ²)² + (1 − wᵢ)² (Rosenbrock 1960).

    Its minimum is 0 at (1, …, 1). Every derivative is in closed form and costs O(n).

    Parameters
    ----------
    n : int
        At least 2.

    Examples
    --------
    >>> problem = Rosenbrock(2)
    >>> problem.loss([-1.2, 1.0]), problem.gradient([1.0, 1.0])
    (24.199999999999996, array([-0.,  0.]))
    >>> problem.start()
    array([-1.2,  1. ])
    """

    def __init__(self, n: int) -> None:
        self.parameter_count = checks.integer(n, "n", 2)

    def start(self) -> FloatArray:
        """The usual start: −1.2 and 1 in turns."""
        w = np.ones(self.parameter_count)
        w[::2] = -1.2
        return w

    @_quietly
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        w = self.vector(w, "w")
        low, valley, slope = w[:-1], w[1:] - w[:-1] ** 2, 1 - w[:-1]
        gradient = np.zeros_like(w)
        gradient[:-1] = -400 * low * valley - 2 * slope
        gradient[1:] += 200 * valley
        return float(100 * valley @ valley + slope @ slope), gradient

    @_quietly
    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        w, v = self.vector(w, "w"), self.vectors(v, "v")
        low, valley = w[:-1], w[1:] - w[:-1] ** 2
        # Of the valley along v: v⁺ − 2 w v.
        along = v[..., 1:] - 2 * low * v[..., :-1]
        result = np.zeros_like(v)
        result[..., :-1] = -400 * (v[..., :-1] * valley + low * along) + 2 * v[..., :-1]
        result[..., 1:] += 200 * along
        return result

    @_quietly
    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        w, u, v = self.vector(w, "w"), self.vector(u, "u"), self.vectors(v, "v")
        low = w[:-1]
        of_u, of_v = u[1:] - 2 * low * u[:-1], v[..., 1:] - 2 * low * v[..., :-1]
        both = -2 * u[:-1] * v[..., :-1]
        result = np.zeros_like(v)
        result[..., :-1] = -400 * (v[..., :-1] * of_u + u[:-1] * of_v + low * both)
        result[..., 1:] += 200 * both
        return result

    @_quietly
    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        w, v = self.vector(w, "w"), self.vector(v, "v")
        loss, gradient = self.loss_and_gradient(w)
        fourth = np.zeros_like(v)  # Q[v, v, v]: only 2400 of each wᵢ with itself
        fourth[:-1] = 2400 * v[:-1] ** 3
        rows = [gradient, self.hvp(w, v), self.third(w, v, v) / 2, fourth / 6]
        return _series(loss, v, rows, order)

    def settings(self) -> Mapping[str, object] | None:
        return {"version": 1, "n": self.parameter_count}

    def __repr__(self) -> str:
        return f"Rosenbrock({self.parameter_count})"


def _series(loss: float, v: FloatArray, rows: list[FloatArray], order: int) -> TaylorSeries:
    order = checks.integer(order, "order", 0, 3)
    gradient = np.zeros((order + 1, len(v)))
    for k, row in enumerate(rows[: order + 1]):
        gradient[k] = row
    # The loss's derivative along v is ⟨gradient, v⟩, coefficient by coefficient.
    coefficients = np.array([loss, *(gradient @ v / np.arange(1, order + 2))])
    return TaylorSeries(coefficients, gradient)
