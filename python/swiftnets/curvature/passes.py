"""The forward and backward pass at a point, kept: loss, gradient, and cheap products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from swiftnets import _core
from swiftnets._support.types import FloatArray
from swiftnets.nets.engine import Adder, Engine
from swiftnets.nets.samples import Batch, Samples

__all__ = ["Pass"]


def __dir__() -> list[str]:
    return __all__


class Pass:
    """Of one net at w over all batches.

    Attributes
    ----------
    loss : float
    gradient : (P,) float array
        Read-only.
    parts : list of swiftnets._core.Linearization
        One a batch.
    """

    def __init__(self, engine: Engine, w: FloatArray, samples: Samples) -> None:
        self._engine = engine
        self.parts: list[_core.Linearization] = []

        def fill(batch: Batch, scale: float, out: FloatArray) -> float:
            kept, loss = _core.linearize(engine.handle, w, *batch, scale, out)
            self.parts.append(kept)
            return loss

        self.gradient = np.empty(engine.count, engine.dtype)
        reduced = engine.reduce(fill, self.gradient, samples)
        self._factors, self._divisor = reduced.factors, reduced.divisor
        engine.add_l2(self.gradient, w)
        self.gradient.flags.writeable = False
        self.loss = reduced.loss + engine.penalty(w)

    @property
    def is_whole(self) -> bool:
        """Whether it is one batch's, of which no mean is still to be taken."""
        return len(self.parts) == 1 and self._divisor == 1

    def product(self, kind: int, rows: FloatArray) -> FloatArray:
        """The matrix of this kind without the l2 term times each of the rows."""
        return self._summed(
            lambda part, out: _core.linearization_product(part, kind, rows, out), len(rows)
        )

    def third(self, u: FloatArray, rows: FloatArray) -> FloatArray:
        """The third derivative applied to u and each of the rows; of a chain of dense layers."""
        return self._summed(
            lambda part, out: _core.linearization_third(part, u, rows, out), len(rows)
        )

    def thirds(self, rows: FloatArray) -> FloatArray:
        """The same along all pairs i ≤ j of c rows, (c (c + 1) / 2, P), in a triangle's order."""
        c = len(rows)
        return self._summed(
            lambda part, out: _core.linearization_thirds(part, rows, out), c * (c + 1) // 2
        )

    def _summed(
        self, call: Callable[[_core.Linearization, FloatArray], None], count: int
    ) -> FloatArray:
        """What the call makes of each batch's pass and so many rows, added up as the loss is."""
        out = np.empty((count, self._engine.count), self._engine.dtype)
        adder = Adder(out)
        for part, last, factor in zip(
            self.parts, [1.0, *self._factors], self._factors, strict=False
        ):
            call(part, adder.place())
            adder.add(last / factor if factor else 1.0)
        adder.finish(self._divisor)
        return out
