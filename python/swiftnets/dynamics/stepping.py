"""Maps as runs use them: what they are given is fixed, and what they return is looked at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.linalg.lapack import qr

__all__ = ["Stepper"]


def __dir__() -> list[str]:
    return __all__


_LIKE = "; expected a map such as GradientDescentMap(problem, learning_rate=0.1)"
_WITHOUT = {
    "adjoint": "; add it, or adjoint = tangent where the derivative is symmetric",
    "log_determinant": "; add it, or leave certify=False",
}


class Stepper:
    """A user's map, its name checked once and its arrays each time.

    Parameters
    ----------
    map : object
        See `swiftnets.dynamics.Map`.
    length : int
        S, of states.
    *needs : str
        Methods beyond ``step`` and ``tangent``.

    Attributes
    ----------
    dimension : int
        D, of tangents.
    """

    def __init__(self, map: Any, length: int, *needs: str) -> None:
        self._map, self._name, self._length = map, type(map).__name__, length
        if isinstance(map, type):
            raise TypeError(f"map is the class {map.__name__}; expected an object made by it")
        for method in ("step", "tangent", *needs):
            if not callable(getattr(map, method, None)):
                raise TypeError(
                    f"map is of type {self._name}, which has no method {method}"
                    f"{_WITHOUT.get(method, _LIKE)}"
                )
        own = getattr(map, "dimension", None)
        self.dimension = length if own is None else checks.integer(own, "map.dimension")
        if self.dimension > length:
            raise ValueError(
                f"state has {length} entries and map.dimension is {self.dimension}; expected at "
                "least as many"
            )

    def step(self, state: Array, done: int) -> Array:
        """The next state, a read-only copy.

        Parameters
        ----------
        state : (S,) float64 array
        done : int
            Steps before, for messages.

        Returns
        -------
        (S,) float64 array

        Raises
        ------
        FloatingPointError
            If it is not finite.
        """
        found = self._called("step", done, state)
        new = self._returned("step", found, (self._length,)).copy()
        if not np.isfinite(new).all():
            raise FloatingPointError(self._diverged(new, done + 1))
        new.flags.writeable = False
        return new

    def rows(self, method: str, state: Array, rows: Array, done: int) -> Array:
        """What ``tangent`` or ``adjoint`` make of rows; `factored` looks at what is not finite."""
        return self._returned(method, self._called(method, done, state, rows), rows.shape)

    def log_determinant(self, state: Array, done: int) -> float:
        found = self._called("log_determinant", done, state)
        try:
            value = float(found)
        except (TypeError, ValueError):
            raise TypeError(
                f"{self._name}.log_determinant returned {type(found).__name__}; expected a float"
            ) from None
        if math.isnan(value):  # no comparison with it would fail
            raise FloatingPointError(
                f"{self._name}.log_determinant returned nan after {checks.counted(done, 'step')}; "
                "expected ln|det J|"
            )
        return value

    def _called(self, method: str, done: int, *arguments: Any) -> Any:
        try:
            return getattr(self._map, method)(*arguments)
        except (FloatingPointError, np.linalg.LinAlgError) as error:
            error.add_note(f"This was {self._name}.{method} after {checks.counted(done, 'step')}.")
            raise

    def _returned(self, method: str, found: Any, shape: tuple[int, ...]) -> Array:
        same = type(found) is np.ndarray and found.dtype == np.float64
        if same and found.shape == shape:
            return found  # type: ignore[no-any-return]
        what = f"type {type(found).__name__}"
        if isinstance(found, np.ndarray):
            what = f"dtype {found.dtype} and shape {found.shape}"
        raise (ValueError if same else TypeError)(
            f"{self._name}.{method} returned what is of {what}; expected a NumPy array of float64 "
            f"and shape {shape}"
        )

    def _diverged(self, state: Array, done: int) -> str:
        place = int(np.flatnonzero(~np.isfinite(state))[0])
        return (
            f"the state has {state[place]} at {place} after {checks.counted(done, 'step')}: the "
            "map diverges from this start; a smaller learning rate may not"
        )


def fixed(state: Any) -> Array:
    """A finite state as a read-only copy."""
    vector = checks.array(state, "state", ("S",))
    checks.finite(vector, "state")
    vector = np.array(vector)
    vector.flags.writeable = False
    return vector


def tangent_count(k: int, dimension: int) -> int:
    """How many tangents, of which there are at most as many as they have entries."""
    k = checks.integer(k, "k")
    if k > dimension:
        raise ValueError(f"k is {k}; expected at most {dimension}, the entries of a tangent")
    return k


def directions(seed: int, count: int, dimension: int) -> Array:
    """Orthonormal rows, the i-th drawn from the seed and i alone."""
    rows = [np.random.default_rng([seed, i]).standard_normal(dimension) for i in range(count)]
    return factored(np.array(rows))[0]


def factored(rows: Array) -> tuple[Array, Array]:
    """Rows as orthonormal rows, rows = Rᵀ Q.

    Parameters
    ----------
    rows : (K, D) float64 array

    Returns
    -------
    Q : (K, D) float64 array
    R : (K, K) float64 array
        An upper triangle.

    Raises
    ------
    FloatingPointError
        If a row is not finite.
    """
    q, r = qr(rows.T)
    if not np.isfinite(r).all():
        raise FloatingPointError(
            "a tangent is not finite: the map's derivative has numbers beyond float64"
        )
    return np.ascontiguousarray(q.T), r
