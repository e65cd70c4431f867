"""What the two nets have in common: widths, seed, step length, a lock, copies, counting."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checks import Array, Pair
from swiftnets._support.locks import lock_of
from swiftnets.originals.pairs import counter, prepare

__all__ = ["ScriptNet"]


def __dir__() -> list[str]:
    return __all__


class ScriptNet:
    """The base of `SlowNet` and `FastNet`.

    A subclass sets `_insize` and `_outsize`, draws its weights after `_take_seed`, and calls
    `_begin`.
    """

    _insize: int
    _outsize: int
    _alpha: float
    _seed: int
    _seed_given: bool

    _transient: ClassVar[tuple[str, ...]] = ("_lock",)
    """What copies and pickles do not hold; `_begin` makes it anew."""

    def _take_seed(self, seed: int | None) -> None:
        given = checks.seed(seed)
        self._seed = secrets.randbits(32) if given is None else given
        self._seed_given = given is not None

    def _begin(self) -> None:
        self._lock = lock_of(self)  # one step, or one fit, at a time

    def _predict(self, xs: Array) -> Array:
        """Compute outputs of inputs that were checked."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold."""
        return {name: kept for name, kept in vars(self).items() if name not in self._transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from what `__getstate__` returned."""
        self.__dict__.update(state)
        self._begin()

    @property
    def insize(self) -> int:
        """Width of the inputs."""
        return self._insize

    @property
    def outsize(self) -> int:
        """Width of the outputs."""
        return self._outsize

    @property
    def seed(self) -> int:
        """What the initial weights were drawn with."""
        return self._seed

    @property
    def alpha(self) -> float:
        """Length of a step; may be assigned."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = checks.real(value, "alpha")

    def predict(self, xs: npt.ArrayLike) -> Array:
        """Compute the output activations.

        Parameters
        ----------
        xs : (n, insize) array_like

        Returns
        -------
        (n, outsize) float64 array
            The column of a row's largest entry is the class predicted.

        Raises
        ------
        ValueError
            If the shape is wrong, or an entry is not finite.
        TypeError
            If the dtype is wrong.
        MemoryError
            If the result would not fit into memory.

        Examples
        --------
        >>> import numpy as np
        >>> from swiftnets import FastNet, SlowNet
        >>> SlowNet(2, 2, 3, seed=0).predict(np.zeros((1, 2)))
        array([[0., 0., 0.]])
        >>> FastNet(2, 3, seed=0).predict(np.zeros((1, 2))).shape
        (1, 3)
        """
        x = checks.array(xs, "xs", ("n", self._insize))
        checks.finite(x, "xs")
        return self._predict(x)

    def corrects(self, pairs: Iterable[Pair]) -> tuple[int, int]:
        """Count the samples whose largest output is where their target's is.

        The name is that of the lines that the scripts print.

        Parameters
        ----------
        pairs : iterable of ((n, insize), (n, outsize)) arrays

        Returns
        -------
        correct, total : int

        Raises
        ------
        ValueError
            If a shape is wrong or an entry not finite; the message names the batch.
        TypeError
            If a dtype is wrong.

        Examples
        --------
        >>> import numpy as np
        >>> from swiftnets import FastNet
        >>> FastNet(2, 3, seed=0).corrects([(np.eye(2), np.eye(2, 3))])[1]
        2
        """
        checked, _, _ = prepare(pairs, "pairs", self._insize, self._outsize)
        return counter(self._predict, checked)()
