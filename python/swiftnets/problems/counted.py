"""A problem that counts what is asked of it."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.problems.base import (
    FunctionPoint,
    PointLike,
    Problem,
    ProblemHessian,
    kind_of,
    returned,
    returned_number,
    returned_pair,
)
from swiftnets.problems.net import NetProblem

__all__ = ["Counted"]


def __dir__() -> list[str]:
    return __all__


ProblemT = TypeVar("ProblemT")


class Counted(Problem):
    """A problem that counts what is asked of it, in gradients.

    A loss counts ⅓, a gradient 1, a Hessian-vector product 3 (2 at a point that `at` made,
    which itself counts 1), a Taylor series of order 0 to 3 counts 1, 3, 5⅓ and 8, a third
    derivative 5⅓ a direction, a dense Hessian 2 P: what it would take in products. That is what the
    products of matrices in them amount to, whatever our engine makes of them.

    Attributes
    ----------
    problem : Problem
    cost : float
        So far.
    """

    def __init__(self, problem: Problem) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem is of type {type(problem).__name__}; expected a Problem")
        self.problem, self.cost = problem, 0.0
        self._own = not isinstance(problem, (NetProblem, Counted))
        self.parameter_count, self.dtype = problem.parameter_count, problem.dtype

    def loss(self, w: npt.ArrayLike) -> float:
        self.cost += 1 / 3
        return returned_number(self.problem, "loss", self.problem.loss(self._given(w)))

    def gradient(self, w: npt.ArrayLike) -> FloatArray:
        self.cost += 1
        return self._vector_of("gradient", "a gradient", self.problem.gradient(self._given(w)))

    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        self.cost += 1
        loss, gradient = returned_pair(self.problem, self.problem.loss_and_gradient(self._given(w)))
        return loss, self._kept(gradient)

    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        self.cost += 3 * _directions(v)
        return self._like(v, "hvp", "products", self.problem.hvp(self._given(w), self._given(v)))

    def at(self, w: npt.ArrayLike) -> PointLike:
        self.cost += 1
        point = self.problem.at(self._given(w))
        loss = returned_number(self.problem, "at", point.loss)
        gradient = self._vector_of("at", "a gradient", point.gradient)

        def hvp(v: FloatArray) -> FloatArray:
            self.cost += 2 * _directions(v)
            of = point.hessian.product if v.ndim == 1 else point.hessian.products
            return self._like(v, "hvp", "products", of(self._given(v)))

        return FunctionPoint(loss, gradient, ProblemHessian(self, hvp))

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        self.cost += 2 * self.parameter_count
        shape = (self.parameter_count, self.parameter_count)
        matrix = self.problem.hessian(self._given(w))
        return returned(self.problem, "hessian", "a matrix", matrix, shape)

    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        series = self.problem.taylor(self._given(w), self._given(v), order)
        self.cost += (1, 3, 16 / 3, 8)[order]
        if not isinstance(series, TaylorSeries):
            raise TypeError(
                f"{type(self.problem).__name__}.taylor returned {kind_of(series)}; expected a "
                "TaylorSeries"
            )
        what, shape = "a series of gradients", (order + 1, self.parameter_count)
        returned(self.problem, "taylor", what, series.gradient, shape)
        if np.shape(series.loss) != (order + 2,):
            raise ValueError(
                f"{type(self.problem).__name__}.taylor returned a series of losses of "
                f"{kind_of(series.loss)}; expected {order + 2} numbers"
            )
        return series

    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        self.cost += 16 / 3 * _directions(v)
        given = (self._given(each) for each in (w, u, v))
        return self._like(v, "third", "third derivatives", self.problem.third(*given))

    def _like(self, v: Any, method: str, what: str, value: Any) -> FloatArray:
        return returned(self.problem, method, what, value, np.shape(v))

    def _vector_of(self, method: str, what: str, value: Any) -> FloatArray:
        return self._kept(returned(self.problem, method, what, value, (self.parameter_count,)))

    def _given(self, vector: Any) -> Any:
        """What a problem of one's own may write on: not a method's own vectors."""
        return vector.copy() if self._own and isinstance(vector, np.ndarray) else vector

    def _kept(self, gradient: FloatArray) -> FloatArray:
        """A gradient that stays as it is, whatever a problem of one's own does with its buffer."""
        return gradient.copy() if self._own else gradient

    def __repr__(self) -> str:
        return f"Counted({self.problem!r}, cost={self.cost:.6g})"


def uncounted(problem: ProblemT) -> ProblemT | Problem:
    """The problem whose requests are counted; itself if it is no `Counted`."""
    inner: ProblemT | Problem = problem
    while isinstance(inner, Counted):
        inner = inner.problem
    return inner


def take_net_problem(problem: Problem) -> NetProblem | None:
    """The `NetProblem` that a problem is, counted or not, or None."""
    inner = uncounted(problem)
    return inner if isinstance(inner, NetProblem) else None


def net_problem(problem: Problem, what: str) -> NetProblem:
    """The `NetProblem` behind a problem; a TypeError that says what needs it."""
    inner = uncounted(problem)
    if not isinstance(inner, NetProblem):
        raise TypeError(
            f"problem is of type {type(inner).__name__}; expected a NetProblem, as {what} needs "
            "a net"
        )
    return inner


def count_cost(problem: Problem, gradients: float) -> None:
    """Add to a problem's count what was asked of its net directly."""
    if isinstance(problem, Counted):
        problem.cost += gradients


def _directions(v: Any) -> int:
    return len(v) if checks.dimensions(v, "v") == 2 else 1
