"""Training as a map of a state, with its derivative: gradient descent, momentum, Adam, minibatches.

`swiftnets.dynamics.lyapunov_spectrum` and `swiftnets.dynamics.optimal_growth` take these, and any
object with two methods: see `Map`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.dynamics.smoothness import require_smooth
from swiftnets.problems import Minibatches, PointLike, Problem
from swiftnets.problems.counted import uncounted
from swiftnets.problems.net import NetProblem

__all__ = ["AdamMap", "GradientDescentMap", "Map", "MomentumMap", "ProblemMap", "StochasticMap"]


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
    * ``settings()``, what tells it from others of its type, as `swiftnets.problems.Problem.settings`
      has it, which checkpoints need of an object that is no dataclass.

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
class ProblemMap(ABC):
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
            require_smooth(within.net, type(self).__name__, twice=self._twice)
        object.__setattr__(self, "_last", None)

    @property
    def dimension(self) -> int:
        """Of tangents: one for each weight and each mean that the method keeps of it."""
        return self._parts * self.problem.parameter_count

    @property
    def _length(self) -> int:
        return self.dimension + self._counts

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
        if last is None or not np.array_equal(last[0], w):
            last = w.copy(), self._made(w)
            object.__setattr__(self, "_last", last)
        return last[1]

    def _made(self, w: Array) -> Any:
        return self.problem.at(w)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # a pass is made anew

    @abstractmethod
    def step(self, state: Array) -> Array:
        """See `Map.step`."""

    @abstractmethod
    def tangent(self, state: Array, rows: Array) -> Array:
        """See `Map.tangent`."""

    @abstractmethod
    def adjoint(self, state: Array, rows: Array) -> Array:
        """Jᵀ times each row.

        Parameters
        ----------
        state : (S,) float64 array
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


def log_determinant(matrix: Array) -> float:
    """ln|det| of a matrix, −inf where it is singular."""
    return float(np.linalg.slogdet(matrix)[1])


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

    def state(self, w: npt.ArrayLike) -> Array:
        """The state of a run from w.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        (P,) float64 array
        """
        return self._vector(w, "w")

    def step(self, state: Array) -> Array:
        w = self._state(state)
        return w - self.learning_rate * self._here(w).gradient

    def tangent(self, state: Array, rows: Array) -> Array:
        rows = self._rows(rows)
        return rows - self.learning_rate * self._here(self._state(state)).hessian.products(rows)

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
        dw, dm = _halves(self._rows(rows), 2)
        new = self.momentum * dm + self._here(w).hessian.products(dw)
        return np.concatenate([dw - self.learning_rate * new, new], axis=1)

    def adjoint(self, state: Array, rows: Array) -> Array:
        w, _ = self._split(state)
        x, y = _halves(self._rows(rows), 2)
        back = y - self.learning_rate * x
        curved = self._here(w).hessian.products(back)
        return np.concatenate([x + curved, self.momentum * back], axis=1)

    def log_determinant(self, state: Array) -> float:
        self._state(state)
        return self.problem.parameter_count * math.log(self.momentum)


@dataclass(frozen=True, eq=False)
class AdamMap(ProblemMap):
    """Adam with bias correction (Kingma & Ba 2015); the state is w, m, v, and the steps made.

    Parameters
    ----------
    problem : Problem
        Of float64 numbers, such as ``NetProblem(net, x, y)``; the net without kinks.
    learning_rate : float
        η.
    beta1, beta2 : float
        Between 0 and 1.
    epsilon : float
        Above 0.

    Notes
    -----
    m' = β₁ m + (1 − β₁) g and v' = β₂ v + (1 − β₂) g² have the determinant (β₁ β₂)ᴾ, and
    w' = w − η m'/κ₁ / (√(v'/κ₂) + ε), with κᵢ = 1 − βᵢᵗ, is a shear: ln|det J| is P ln(β₁ β₂) for
    any net. A step with K tangents costs a pass and K products. Where an entry of v' is 0 the root
    has no derivative, and neither has the map.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> adam = AdamMap(Quadratic([[1.0]]), learning_rate=0.1)
    >>> adam.step(adam.state([1.0])).round(4)
    array([0.9  , 0.1  , 0.001, 1.   ])
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    _parts: ClassVar[int] = 3
    _counts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.real(self.learning_rate, "learning_rate", positive=True)
        checks.real(self.epsilon, "epsilon", positive=True)
        for name in ("beta1", "beta2"):
            between(getattr(self, name), name, "with 0 or 1 J is singular")

    def state(
        self,
        w: npt.ArrayLike,
        mean: npt.ArrayLike | None = None,
        square: npt.ArrayLike | None = None,
        steps: Any = 0,
    ) -> Array:
        """The state of a run from w.

        Parameters
        ----------
        w : (P,) array_like
        mean, square : (P,) array_like, optional
            m and v; 0 by default. ``**result.state`` of a run of `swiftnets.optimizers.Adam` fits.
        steps : int
            Made before.

        Returns
        -------
        (3 P + 1,) float64 array
        """
        if isinstance(steps, np.ndarray) and steps.ndim == 0:
            steps = steps[()]
        count = checks.integer(steps, "steps", 0)
        vectors = [("w", w), ("mean", mean), ("square", square)]
        parts = [self._vector(value, name) for name, value in vectors]
        if (parts[2] < 0).any():
            raise ValueError(f"square has {parts[2].min()}; expected numbers not below 0")
        return np.concatenate([*parts, [count]])

    def _next(self, state: Array) -> tuple[Array, Any, Array, Array, Array, float, float]:
        """w, what is at it, m', v', √(v'/κ₂), κ₁ and κ₂."""
        w, m, v = self._split(state)
        count = whole(state[-1]) + 1
        here = self._here(w)
        g = here.gradient
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * (g * g)
        k1, k2 = 1 - self.beta1**count, 1 - self.beta2**count
        return w, here, m, v, np.sqrt(v / k2), k1, k2

    def step(self, state: Array) -> Array:
        w, _, m, v, r, k1, _ = self._next(state)
        w = w - self.learning_rate / k1 * m / (r + self.epsilon)
        return np.concatenate([w, m, v, [state[-1] + 1]])

    def _derivatives(self, state: Array) -> tuple[Any, Array, Array, Array]:
        """The Hessian, g, and w's derivatives in m' (negated) and in v'."""
        _, here, m, v, r, k1, k2 = self._next(state)
        if not r.all():
            zero = np.flatnonzero(r == 0)
            raise FloatingPointError(
                f"{checks.counted(len(zero), 'weight')} of {len(r)}, the first at {zero[0]}, "
                "had no gradient that is not 0 so far: Adam's map has no derivative where the mean "
                "of squares is 0"
            )
        in_m = self.learning_rate / (k1 * (r + self.epsilon))
        in_v = self.learning_rate * m / (2 * k1 * k2 * r * (r + self.epsilon) ** 2)
        return here.hessian, here.gradient, in_m, in_v

    def tangent(self, state: Array, rows: Array) -> Array:
        hessian, g, in_m, in_v = self._derivatives(state)
        dw, dm, dv = _halves(self._rows(rows), 3)
        dg = hessian.products(dw)
        dm = self.beta1 * dm + (1 - self.beta1) * dg
        dv = self.beta2 * dv + 2 * (1 - self.beta2) * (g * dg)
        return np.concatenate([dw - in_m * dm + in_v * dv, dm, dv], axis=1)

    def adjoint(self, state: Array, rows: Array) -> Array:
        hessian, g, in_m, in_v = self._derivatives(state)
        x, y, z = _halves(self._rows(rows), 3)
        y, z = y - in_m * x, z + in_v * x
        dg = (1 - self.beta1) * y + 2 * (1 - self.beta2) * (g * z)
        back = [x + hessian.products(dg), self.beta1 * y, self.beta2 * z]
        return np.concatenate(back, axis=1)

    def log_determinant(self, state: Array) -> float:
        self._state(state)
        return self.problem.parameter_count * (math.log(self.beta1) + math.log(self.beta2))


class StochasticMap:
    """A method on minibatches: each step is another map; the state ends with the steps made.

    Parameters
    ----------
    batches : Minibatches
        Their order depends on their seed and the step alone.
    method : callable
        The method's map: `GradientDescentMap`, that is SGD, by default, `MomentumMap`, `AdamMap`,
        `NewtonMap`, or what else makes a `ProblemMap` of a problem.
    **options : object
        Of the method, such as ``learning_rate=0.1``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or as the method takes it.

    Notes
    -----
    The exponents are those of a product of random matrices, with the batch's Hessian in each.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> from swiftnets.problems import Minibatches
    >>> net = MLP((1, 1), bias=False, reduction="mean")
    >>> batches = Minibatches(net, [[1.0], [2.0]], [[1.0], [2.0]], batch_size=1)
    >>> sgd = StochasticMap(batches, learning_rate=0.125)
    >>> state = sgd.state([0.0])
    >>> jacobians = [sgd.tangent(state, np.ones((1, 1))), sgd.tangent(sgd.step(state), np.eye(1))]
    >>> sorted(float(one[0, 0]) for one in jacobians)
    [0.5, 0.875]
    """

    def __init__(
        self,
        batches: Minibatches,
        method: Callable[..., ProblemMap] = GradientDescentMap,
        **options: Any,
    ) -> None:
        if not isinstance(batches, Minibatches):
            raise TypeError(f"batches is of type {type(batches).__name__}; expected Minibatches")
        checks.function(method, "method", "a problem and options, such as AdamMap")
        self.batches, self.method, self.options = batches, method, options
        self.full = method(batches.full, **options)
        if not isinstance(self.full, ProblemMap):
            raise TypeError(
                f"method makes {type(self.full).__name__}; expected a ProblemMap, such as AdamMap "
                "does"
            )
        self._last: tuple[int, ProblemMap] = (-1, self.full)

    @property
    def dimension(self) -> int:
        """Of tangents: the method's."""
        return self.full.dimension

    def settings(self) -> Mapping[str, object]:
        """As `swiftnets.problems.Problem.settings`.

        Returns
        -------
        mapping of str to object
        """
        return {"version": 1, "batches": self.batches, "method": self.full}

    def state(self, w: npt.ArrayLike, *parts: Any, iteration: int = 0, **named: Any) -> Array:
        """The state of a run from w.

        Parameters
        ----------
        w : (P,) array_like
        *parts, **named : object
            As the method's own ``state`` takes them.
        iteration : int
            Steps made before: which batch is next.

        Returns
        -------
        (S,) float64 array
        """
        count = checks.integer(iteration, "iteration", 0)
        own: Any = self.full
        return np.concatenate([own.state(w, *parts, **named), [count]])

    def parameters(self, state: npt.ArrayLike) -> Array:
        """The weights in a state; see `ProblemMap.parameters`."""
        return self.full.parameters(np.asarray(state)[:-1])

    def _now(self, state: Array) -> tuple[ProblemMap, Array]:
        """The map of the batch that is next, and its state."""
        state = checks.array(state, "state", ("S",))
        count = whole(state[-1])
        last = self._last
        if last[0] != count:
            self._last = last = count, self.method(self.batches.at(count), **self.options)
        return last[1], state[:-1]

    def step(self, state: Array) -> Array:
        """See `Map.step`."""
        own, inner = self._now(state)
        return np.concatenate([own.step(inner), [state[-1] + 1]])

    def tangent(self, state: Array, rows: Array) -> Array:
        """See `Map.tangent`."""
        own, inner = self._now(state)
        return own.tangent(inner, rows)

    def adjoint(self, state: Array, rows: Array) -> Array:
        """See `ProblemMap.adjoint`."""
        own, inner = self._now(state)
        return own.adjoint(inner, rows)

    def log_determinant(self, state: Array) -> float:
        """See `ProblemMap.log_determinant`."""
        own, inner = self._now(state)
        return own.log_determinant(inner)

    def __repr__(self) -> str:
        return f"StochasticMap({self.batches!r}, {self.full!r})"


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


def _halves(rows: Array, parts: int) -> list[Array]:
    """The vectors side by side in rows, each contiguous."""
    cut = np.ascontiguousarray(rows.reshape(len(rows), parts, -1).swapaxes(0, 1))
    return list(cut)


def dense(point: PointLike) -> Array:
    """A copy of the Hessian's entries."""
    entries: Any = getattr(point.hessian, "dense", None)
    if entries is not None:
        return np.array(entries(), np.float64)
    matrix = point.hessian.products(np.eye(point.hessian.order))
    return (matrix + matrix.T) / 2
