"""What a tensor on disk holds: its packed numbers, slab by slab, as they are computed.

The Hessian is stored whole, [P, P]. Tensors of order 3 and 4 are symmetric in all indices and are
stored packed: the entry i ≥ j ≥ k at C(i+2, 3) + C(j+1, 2) + k, and i ≥ j ≥ k ≥ l at C(i+3, 4) +
C(j+2, 3) + C(k+1, 2) + l, with C the binomial coefficients. So all entries with one first index are
one contiguous slab.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from swiftnets._support import checks, identity
from swiftnets._support.types import FloatArray
from swiftnets.curvature.point import Point, require_point

__all__ = ["ROWS", "Job", "entries"]


def __dir__() -> list[str]:
    return __all__


ROWS = 64  # directions that one call of the engine takes


def entries(order: int, count: int) -> int:
    """Numbers stored for `count` parameters; for order 3 and 4 where slab `count` begins."""
    return count * count if order == 2 else math.comb(count + order - 1, order)


class Job:
    """What is computed: the slabs of a tensor, in order."""

    def __init__(self, point: Point, order: int, layer: int | None) -> None:
        self.point, self.net, self.order = require_point(point), point.net, order
        self._part = slice(0, self.net.parameter_count)
        if layer is not None:
            last = len(self.net.layer_slices) - 1
            self._part = self.net.layer_slices[checks.integer(layer, "layer", 0, last)]
        self.count = self._part.stop - self._part.start
        self.layer = layer

    def facts(self) -> Any:
        """What is computed, of what: a run goes on only with the same."""
        keyed = {
            "order": self.order,
            "layer": self.layer,
            "count": self.count,
            "net": self.net,
            "w": self.point.w,
            "samples": [tuple(batch) for batch in self.point.samples.batches],
        }
        return identity.settings(keyed)

    def _units(self, first: int, stop: int) -> FloatArray:
        rows = np.zeros((stop - first, self.net.parameter_count), self.net.dtype)
        rows[np.arange(stop - first), self._part.start + np.arange(first, stop)] = 1
        return rows

    def _products(self, fixed: list[int], first: int, stop: int) -> FloatArray:
        """Derivatives in the fixed indices and each of first..stop, along all indices."""
        rows = self._units(first, stop)
        units = [self._units(i, i + 1)[0] for i in fixed]
        if not units:
            found = rows @ self.point.hessian
        elif len(units) == 1:
            found = self.point.third(units[0], rows)
        else:
            found = self.point.fourth(units[0], units[1], rows)
        own: FloatArray = found[:, self._part]
        return own

    def slabs(self, done: int) -> Iterator[tuple[int, int, FloatArray]]:
        """(first, stop, numbers): the entries whose first index is in first..stop."""
        if self.order == 2:
            for first in range(done, self.count, ROWS):
                stop = min(first + ROWS, self.count)
                yield first, stop, self._products([], first, stop).reshape(-1)
            return
        for i in range(done, self.count):
            yield i, i + 1, np.concatenate(list(self._slab(i)))

    def _slab(self, i: int) -> Iterator[FloatArray]:
        """T[i, j, :j+1] for j ≤ i, or T[i, j, k, :k+1] for k ≤ j ≤ i."""
        outer = [[i]] if self.order == 3 else [[i, j] for j in range(i + 1)]
        for fixed in outer:
            end = fixed[-1] + 1
            for first in range(0, end, ROWS):
                stop = min(first + ROWS, end)
                rows = self._products(fixed, first, stop)
                for k in range(first, stop):
                    yield rows[k - first, : k + 1]

    def estimate(self) -> float:
        """Seconds for all slabs, from a call timed after one that warms up."""
        rows = min(ROWS, self.count)
        fixed = [0] * (self.order - 2)
        self._products(fixed, 0, rows)
        start = time.perf_counter()
        self._products(fixed, 0, rows)
        each = (time.perf_counter() - start) / rows
        return each * math.comb(self.count + self.order - 2, self.order - 1)
