"""Training as a map of a state, with its derivative: what maps are, gradient descent, momentum.

`swiftnets.dynamics.lyapunov_spectrum` and `swiftnets.dynamics.optimal_growth` take these, and any
object with two methods: see `Map`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature import CurvatureMatrix
from swiftnets.dynamics.smooth import require_smooth
from swiftnets.linalg.lapack import log_determinant
from swiftnets.problems import Minibatches, PointLike, Problem
from swiftnets.problems.counted import uncounted
from swiftnets.problems.net import NetProblem

__all__ = ["GradientDescentMap", "Map", "MomentumMap", "ProblemMap"]


def __dir__() -> list[str]:
    return __all__


class Map(Protocol):
    """What is asked of a map: two methods, and more where there is more to know.

    A state is a float64 vector (S,). Tangents are rows of float64 vectors (D,), D being the
    attribute ``dimension``, or S without it: what follows its first D entries, such as a count of
    steps, has no tangents. The arrays that come are read-only; what is returned is copied.

    A map may also have

    * ``log_determinant(state)``, ln|det J| from something else than its tangents, which
      ``lyapunov_spectrum(certify=True)`` holds the exponents' sum against at every step;
    * ``adjoint(state, rows)``, Jᵀ times each row, which `optimal_growth` needs: where J is
      symmetric ``adjoint = tangent``;
    * ``settings()``, what tells it from others of its type, as that of
      `swiftnets.problems.Problem`, which checkpoints need of an object that is no dataclass.

    Examples
    --------
    >>> from swiftnets.dynamics import lyapunov_spectrum
    >>> class Logistic:  # chaotic, with the exponent ln 2
    ...     def step(self, state):
    ...         return 4 * state * (1 - state)
    ...
    ...     def tangent(self, state, rows):
    ...         return rows * (4 - 8 * state)
    >>> found = lyapunov_spectrum(Logistic(), [0.3], k=1, steps=4000)
    >>> bool(abs(found.exponents[0] - np.log(2)) < 0.01)
    True
    """

    def step(self, state: Array) -> Array:
        """The next state.

        Parameters
        ----------
        state : (S,) float64 array

        Returns
        -------
        (S,) float64 array
        """

    def tangent(self, state: Array, rows: Array) -> Array:
        """The derivative J of a step, times each row.

        Parameters
        ----------
        state : (S,) float64 array
            Before the step.
        rows : (K, D) float64 array

        Returns
        -------
        (K, D) float64 array
        """


@dataclass(frozen=True, eq=False)
class ProblemMap(Map, ABC):
    """A map made of a problem's derivatives; see its subclasses.

    Parameters
    ----------
    problem : Problem
        Of float64 numbers, such as ``NetProblem(net, x, y)``; the net without kinks.
    """

    problem: Problem

    _parts: ClassVar[int] = 1
    """Vectors (P,) in a state."""
    _counts: ClassVar[bool] = False
    """Whether the steps that were made follow them."""
    _twice: ClassVar[bool] = False
    """Whether third derivatives have a part in tangents."""

    def __post_init__(self) -> None:
        if isinstance(self.problem, Minibatches):
            raise TypeError(
                "problem is of type Minibatches; expected a Problem (StochasticMap takes "
                "minibatches)"
            )
        if not isinstance(self.problem, Problem):
            raise TypeError(
                f"problem is of type {type(self.problem).__name__}; expected a Problem, such as "
                "NetProblem(net, x, y)"
            )
        if self.problem.dtype != np.float64:
            raise ValueError(
                f"problem is of {self.problem.dtype}; expected float64, as of "
                "net.astype(np.float64): exponents are means of small numbers"
            )
        within = uncounted(self.problem)
        if isinstance(within, NetProblem):
            require_smooth(within.net, "problem", type(self).__name__, twice=self._twice)
        object.__setattr__(self, "_last", None)

    @property
    def dimension(self) -> int:
        """Of tangents: one for each weight and each mean that the method keeps of it."""
        return self._parts * self.problem.parameter_count

    @property
    def _length(self) -> int:
        return self.dimension + self._counts

    def state(self, w: npt.ArrayLike) -> Array:
        """The state of a run from w.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        (S,) float64 array
        """
        return self._vector(w, "w")

    def parameters(self, state: npt.ArrayLike) -> Array:
        """The weights in a state.

        Parameters
        ----------
        state : (S,) array_like

        Returns
        -------
        (P,) float64 array
        """
        return self._state(state)[: self.problem.parameter_count].copy()

    def _state(self, state: npt.ArrayLike) -> Array:
        return checks.array(state, "state", (self._length,))

    def _split(self, state: npt.ArrayLike) -> Array:
        """The state's vectors as rows, without the count."""
        return self._state(state)[: self.dimension].reshape(self._parts, -1)

    def _rows(self, rows: npt.ArrayLike) -> Array:
        return checks.array(rows, "rows", ("K", self.dimension))

    def _vector(self, value: npt.ArrayLike | None, name: str) -> Array:
        """A copy of a vector (P,) that a state is made of; zeros for None."""
        if value is None:
            return np.zeros(self.problem.parameter_count)
        vector = checks.array(value, name, (self.problem.parameter_count,))
        checks.finite(vector, name)
        return np.array(vector)

    def _here(self, w: Array) -> Any:
        """What is made at w: once for a step and its tangents, whoever asks first."""
        last = self._last  # type: ignore[attr-defined]  # of __post_init__
        if last is None or not (last[0] == w).all():
            last = w.copy(), self._made(w)
            object.__setattr__(self, "_last", last)
        return last[1]

    def _made(self, w: Array) -> Any:
        return self.problem.at(w)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # a pass is made anew

    @abstractmethod
    def step(self, state: Array) -> Array: ...

    @abstractmethod
    def tangent(self, state: Array, rows: Array) -> Array: ...

    @abstractmethod
    def adjoint(self, state: Array, rows: Array) -> Array:
        """Jᵀ times each row.

        Parameters
        ----------
        state : (S,) float64 array
            Before the step.
        rows : (K, D) float64 array

        Returns
        -------
        (K, D) float64 array
        """

    @abstractmethod
    def log_determinant(self, state: Array) -> float:
        """ln|det J|, which is the sum of the logarithms that all exponents are means of.

        Parameters
        ----------
        state : (S,) float64 array

        Returns
        -------
        float
            −inf where J is singular.
        """


@dataclass(frozen=True, eq=False)
class GradientDescentMap(ProblemMap):
    """w − η g(w); the state is w, and J = 1 − η H is symmetric.

    Parameters
    ----------
    problem : Problem
        Of float64 numbers, such as ``NetProblem(net, x, y)``; the net without kinks.
    learning_rate : float
        η.

    Notes
    -----
    A step with K tangents costs a pass and K products, `log_determinant` a dense Hessian and P³.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> descent = GradientDescentMap(Quadratic(np.diag([1.0, 3.0])), learning_rate=0.5)
    >>> state = descent.state([1.0, 1.0])
    >>> descent.step(state), descent.tangent(state, np.eye(2))
    (array([ 0.5, -0.5]), array([[ 0.5,  0. ],
           [ 0. , -0.5]]))
    """

    learning_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.real(self.learning_rate, "learning_rate", positive=True)

    def step(self, state: Array) -> Array:
        w = self._state(state)
        new: Array = w - self.learning_rate * self._here(w).gradient
        return new

    def tangent(self, state: Array, rows: Array) -> Array:
        rows = self._rows(rows)
        curved: Array = self._here(self._state(state)).hessian.products(rows)
        return rows - self.learning_rate * curved

    def adjoint(self, state: Array, rows: Array) -> Array:
        return self.tangent(state, rows)

    def log_determinant(self, state: Array) -> float:
        matrix = -self.learning_rate * dense(self._here(self._state(state)))
        matrix.flat[:: len(matrix) + 1] += 1
        return log_determinant(matrix)


@dataclass(frozen=True, eq=False)
class MomentumMap(ProblemMap):
    """The heavy ball m' = β m + g(w), w' = w − η m' (Polyak 1964); the state is w, then m.

    Parameters
    ----------
    problem : Problem
        Of float64 numbers, such as ``NetProblem(net, x, y)``; the net without kinks.
    learning_rate : float
        η.
    momentum : float
        β, between 0 and 1.

    Notes
    -----
    As `swiftnets.optimizers.Momentum` without Nesterov's term. A step with K tangents costs a pass
    and K products. ln|det J| is P ln β everywhere.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> ball = MomentumMap(Quadratic([[1.0]]), learning_rate=1.0, momentum=0.5)
    >>> ball.step(ball.state([1.0]))
    array([0., 1.])
    """

    learning_rate: float
    momentum: float

    _parts: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.real(self.learning_rate, "learning_rate", positive=True)
        between(self.momentum, "momentum", "without momentum J is GradientDescentMap's")

    def state(self, w: npt.ArrayLike, velocity: npt.ArrayLike | None = None) -> Array:
        """The state of a run from w.

        Parameters
        ----------
        w : (P,) array_like
        velocity : (P,) array_like, optional
            m; 0 by default. ``**result.state`` of a run of `swiftnets.optimizers.Momentum` fits.

        Returns
        -------
        (2 P,) float64 array
        """
        return np.concatenate([self._vector(w, "w"), self._vector(velocity, "velocity")])

    def step(self, state: Array) -> Array:
        w, m = self._split(state)
        new = self.momentum * m + self._here(w).gradient
        return np.concatenate([w - self.learning_rate * new, new])

    def tangent(self, state: Array, rows: Array) -> Array:
        w, _ = self._split(state)
        dw, dm = vectors(self._rows(rows), 2)
        new = self.momentum * dm + self._here(w).hessian.products(dw)
        return np.concatenate([dw - self.learning_rate * new, new], axis=1)

    def adjoint(self, state: Array, rows: Array) -> Array:
        w, _ = self._split(state)
        x, y = vectors(self._rows(rows), 2)
        back = y - self.learning_rate * x
        curved = self._here(w).hessian.products(back)
        return np.concatenate([x + curved, self.momentum * back], axis=1)

    def log_determinant(self, state: Array) -> float:
        self._state(state)
        return self.problem.parameter_count * math.log(self.momentum)


def between(value: object, name: str, why: str) -> None:
    """A ValueError if a number is not between 0 and 1, both excluded."""
    if not 0 < checks.real(value, name) < 1:
        raise ValueError(f"{name} is {value!r}; expected a number between 0 and 1: {why}")


def whole(value: Any) -> int:
    """A count that a state ends with."""
    count = float(value)
    if not (count >= 0 and count.is_integer()):
        raise ValueError(f"state ends with {count}; expected the steps made, an integer from 0 on")
    return int(count)


def vectors(rows: Array, parts: int) -> list[Array]:
    """The vectors side by side in rows, each contiguous."""
    cut = np.ascontiguousarray(rows.reshape(len(rows), parts, -1).swapaxes(0, 1))
    return list(cut)


def dense(point: PointLike) -> Array:
    """A copy of the Hessian's entries."""
    hessian = point.hessian
    if isinstance(hessian, CurvatureMatrix):
        # Into an array of ours: it asks each time whether there is memory for one of its own.
        return cast(Array, hessian.dense(out=np.empty((hessian.order, hessian.order))))
    matrix = hessian.products(np.eye(hessian.order))
    half: Array = (matrix + matrix.T) / 2
    return half
