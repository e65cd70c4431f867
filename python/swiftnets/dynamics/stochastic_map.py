"""A method on minibatches as a map, another one at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.dynamics.maps import GradientDescentMap, Map, ProblemMap, whole
from swiftnets.problems import Minibatches

__all__ = ["StochasticMap"]


def __dir__() -> list[str]:
    return __all__


class StochasticMap(Map):
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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": (-1, self.full)}

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
        """The weights in a state.

        Parameters
        ----------
        state : (S,) array_like

        Returns
        -------
        (P,) float64 array
        """
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
        own, inner = self._now(state)
        return np.concatenate([own.step(inner), [state[-1] + 1]])

    def tangent(self, state: Array, rows: Array) -> Array:
        own, inner = self._now(state)
        return own.tangent(inner, rows)

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
        own, inner = self._now(state)
        return own.adjoint(inner, rows)

    def log_determinant(self, state: Array) -> float:
        """ln|det J|, of the batch that is next.

        Parameters
        ----------
        state : (S,) float64 array

        Returns
        -------
        float
        """
        own, inner = self._now(state)
        return own.log_determinant(inner)

    def __repr__(self) -> str:
        return f"StochasticMap({self.batches!r}, {self.full!r})"
