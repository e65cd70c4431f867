"""Which eigenvalues are asked for, and where none but these may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array, IntegerArray
from swiftnets.spectra.restarts import Ends, wanted

__all__ = ["Selection", "Which"]


def __dir__() -> list[str]:
    return __all__


Which: TypeAlias = Literal["LA", "SA", "LM", "BE"]

_PLACES = (1.0, 1.4, 1.9, 2.5)  # times a margin, of which the one farthest from values is taken


@dataclass(frozen=True)
class Selection:
    """k eigenvalues at the ends of the spectrum, or next to sigma.

    Attributes
    ----------
    which : {"LA", "SA", "LM", "BE"}
    k : int
    sigma : float or None
    """

    which: Which
    k: int
    sigma: float | None

    @property
    def is_interior(self) -> bool:
        return self.sigma is not None

    @property
    def sides(self) -> int:
        """Ends of the spectrum that are asked for."""
        return 1 if self.which in ("LA", "SA") else 2

    @property
    def ends(self) -> Ends:
        """Of the matrix, or with sigma of the inverse of A − sigma."""
        half = self.k // 2
        ends: dict[Which, Ends] = {
            "LA": (0, self.k),
            "SA": (self.k, 0),
            "LM": self.k,
            "BE": (half, self.k - half),
        }
        return ends[self.which]

    def choose(self, values: Array) -> IntegerArray:
        """Indices, ascending; fewer than k where there are not as many."""
        if self.sigma is None:
            return np.sort(wanted(values, self.ends))
        away = values - self.sigma
        if isinstance(self.ends, int):
            return np.sort(np.argsort(np.abs(away), kind="stable")[: self.k])
        below, above = np.flatnonzero(away < 0), np.flatnonzero(away >= 0)
        low, high = self.ends
        return np.concatenate([below[len(below) - min(low, len(below)) :], above[:high]])

    def require(self, below: int, order: int, shown: float) -> None:
        """A ValueError where there are not as many eigenvalues on a side of sigma."""
        if isinstance(self.ends, int):
            return
        sides = ((self.ends[0], below, "below"), (self.ends[1], order - below, "above"))
        for count, there, side in sides:
            if count > there:
                raise ValueError(
                    f"k is {self.k}, and A has {checks.counted(there, 'eigenvalue')} {side} "
                    f"sigma, {shown}; expected at most as many"
                )

    def bounds(self, values: Array, margin: float) -> tuple[float, float]:
        """Where to count, beside the last of the values that were chosen.

        Parameters
        ----------
        values : (k,) array
            Ascending.
        margin : float
            From the last of the values, towards the others.

        Returns
        -------
        lower, upper : float
            The eigenvalues in question are beyond these, or with sigma between them.
        """
        best, place = -1.0, (-math.inf, math.inf)
        for factor in _PLACES:
            ends = self._bounds(values, factor * margin)
            gaps = [np.abs(values - end).min() for end in ends if math.isfinite(end)]
            if min(gaps) > best:
                best, place = float(min(gaps)), ends
        return place

    def _bounds(self, values: Array, margin: float) -> tuple[float, float]:
        if isinstance(self.ends, int):
            if self.sigma is None:
                radius = float(np.abs(values).min()) + margin
                return -radius, radius
            radius = float(np.abs(values - self.sigma).max()) - margin
            return self.sigma - radius, self.sigma + radius
        low, high = self.ends
        if self.sigma is None:
            lower = float(values[low - 1]) - margin if low else -math.inf
            return lower, float(values[low]) + margin if high else math.inf
        lower = float(values[0]) + margin if low else self.sigma
        return lower, float(values[-1]) - margin if high else self.sigma

    def is_counted(self, values: Array, lower: float, upper: float) -> Any:
        """Which of the values are where the count was made."""
        if self.is_interior:
            return (values > lower) & (values < upper)
        return (values < lower) | (values > upper)

    def distances(self, values: Array, lower: float, upper: float) -> Array:
        """Of values that are not counted from where the count was made."""
        ends = [end for end in (lower, upper) if math.isfinite(end)]
        if self.is_interior and lower >= upper:
            ends = [(lower + upper) / 2]
        away = np.min([np.abs(values - end) for end in ends], axis=0)
        result: Array = np.where(self.is_counted(values, lower, upper), 0.0, away)
        return result
