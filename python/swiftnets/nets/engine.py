"""A net's side towards the engine: its handle, vectors and samples as that takes them, and sums.

What the rooms above a net compute with it goes through here; users need none of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg import scaling
from swiftnets.nets.labels import require_names
from swiftnets.nets.samples import Batch, Reader, Samples, positive_total

if TYPE_CHECKING:
    from swiftnets.nets.network import BaseNetwork

__all__ = ["Adder", "Engine", "Fill", "Reduced"]


def __dir__() -> list[str]:
    return __all__


Fill: TypeAlias = Callable[[Batch, float, Any], Any]


class Engine:
    """What computes for one net.

    Attributes
    ----------
    handle : swiftnets._core.Mlp
    reader : Reader
        Checks samples.
    count : int
        P.
    dtype : numpy.dtype
    l2 : float
    averages : bool
        Whether the loss is a mean.
    factor : float
        Of the loss, which is a common weight of all samples.
    layers : tuple of Layer
        The net's, of which `handle` calls functions and holds none.
    is_chain : bool
        Whether `handle` is of a chain of dense layers, whose passes keep more.
    """

    def __init__(self, net: BaseNetwork) -> None:
        self.count: int = net.parameter_count
        self.dtype: np.dtype[Any] = net.dtype
        self.l2: float = net.l2
        self.averages = net.reduction == "mean"
        self.factor = net.loss_function.factor
        require_names(net.classes, net.loss_function, net.outputs)
        self.reader = Reader(
            net.given, net.vocabulary, net.outputs, net.loss_function, self.dtype, net.classes
        )
        self.handle, self.is_chain = net.make_handle(), net.is_chain
        self.layers = net.layers
        # l2 as a number that its products with arrays of the net's dtype do not round to 0 or inf.
        info = np.finfo(self.dtype)
        usual = float(info.tiny) <= self.l2 <= float(info.max)
        self._ridge = (self.dtype.type if usual else np.float64)(self.l2)

    # Vectors

    def vector(self, value: Any, name: str) -> FloatArray:
        """A parameter vector or direction (P,)."""
        if value is None:
            raise self._missing(name)
        return checks.array(value, name, (self.count,), self.dtype)

    def rows(self, value: Any, name: str) -> tuple[FloatArray, bool]:
        """Directions as rows, and whether there is just one."""
        if value is None:
            raise self._missing(name)
        single = checks.dimensions(value, name) == 1
        shape = (self.count,) if single else ("K", self.count)
        rows = checks.array(value, name, shape, self.dtype)
        return (rows[None] if single else rows), single

    def _missing(self, name: str) -> TypeError:
        return TypeError(f"{name} is missing; expected a vector ({self.count},)")

    def empty(self, what: str, *shape: int) -> FloatArray:
        """An array for `what`; a MemoryError where this machine has no room for it."""
        size = math.prod(shape) * self.dtype.itemsize
        checks.memory(size, f"{what}, {' by '.join(map(str, shape))},")
        return np.empty(shape, self.dtype)

    # The l2 term

    def add_l2(self, out: FloatArray, v: FloatArray | float) -> None:
        """Adds l2 v: inf where that leaves the range, without a warning, as in the engine."""
        if self.l2:
            with np.errstate(over="ignore", invalid="ignore"):
                out += self._ridge * v

    def penalty(self, w: FloatArray) -> float:
        """½ l2 ‖w‖²."""
        if not self.l2:
            return 0.0
        wide = w.astype(np.float64, copy=False)
        square = float(np.vdot(wide, wide))
        if 1e-250 < square < 1e300:
            return 0.5 * self.l2 * square
        norm = scaling.norm(wide)
        return 0.5 * (self.l2 * norm) * norm

    # Sums over samples

    def scaled(self, batch: Batch) -> tuple[Batch, float]:
        """Samples and a factor: the loss is their sum times that, if there are no others.

        Parameters
        ----------
        batch : Batch

        Returns
        -------
        tuple of a Batch, and a float
        """
        scale = 1.0
        if self.averages:
            batch, scale = batch.averaged()
        return batch, scale * self.factor

    def reduce(self, fill: Fill, out: FloatArray | None, samples: Samples) -> Reduced:
        """`out` filled for each batch, added up and reduced, and what `fill` returned for each."""
        try:
            return self._reduced(fill, out, samples)
        except MemoryError as error:
            working = _core.mlp_memory(self.handle, 1)[1]
            raise MemoryError(
                f"{error}; with one sample a call on this net works in {working} bytes: see its "
                "memory_plan"
            ) from error

    def _reduced(self, fill: Fill, out: FloatArray | None, samples: Samples) -> Reduced:
        if samples.is_single:
            (batch,) = samples.batches
            batch, scale = self.scaled(batch)
            return Reduced([fill(batch, scale, out)], [1.0], 1.0)
        adder = None if out is None else Adder(out)
        parts: list[Any] = []
        exponents: list[int] = []
        total, shrink = 0.0, 1.0
        for batch in samples.batches:
            if self.averages:
                # All weights so far over the same power of two.
                exponent = batch.exponent
                last = exponents[-1] if exponents else exponent
                exponents.append(max(last, exponent))
                shrink = math.ldexp(1.0, last - exponents[-1])
                batch = batch.divided(exponents[-1], self.dtype)
                total = total * shrink + batch.total_weight
            parts.append(fill(batch, self.factor, None if adder is None else adder.place()))
            if adder is not None:
                adder.add(shrink)
        divisor = positive_total(total) if self.averages else 1.0
        if adder is not None:
            adder.finish(divisor)
        factors = [math.ldexp(1.0, e - exponents[-1]) for e in exponents] or [1.0] * len(parts)
        return Reduced(parts, factors, divisor)


class Adder:
    """The sum of arrays that come one after the other; float32's are added up in float64."""

    def __init__(self, out: FloatArray) -> None:
        self._out = self._sum = out
        self._spare: FloatArray | None = None
        self._count = 0

    def place(self) -> FloatArray:
        """Where to put the next array."""
        if self._count == 0:
            return self._out
        if self._spare is None:
            self._spare = np.empty_like(self._out)
        return self._spare

    def add(self, shrink: float = 1.0) -> None:
        """Adds it to `shrink` times the sum so far."""
        self._count += 1
        if self._spare is None:
            return
        if self._count == 2:
            self._sum = self._out.astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            if shrink != 1:
                self._sum *= shrink
            self._sum += self._spare

    def finish(self, divisor: float) -> None:
        """Divide the sum, and put it where it is wanted."""
        if divisor != 1:
            with np.errstate(over="ignore"):
                self._sum /= divisor
        if self._sum is not self._out:
            with np.errstate(over="ignore"):
                self._out[...] = self._sum


class Reduced(NamedTuple):
    """What came for each batch; the sum of all, each times its factor, is to be divided."""

    parts: list[Any]
    factors: list[float]
    divisor: float

    @property
    def loss(self) -> float:
        """Where the parts are losses."""
        terms = [part * factor for part, factor in zip(self.parts, self.factors, strict=True)]
        try:
            return math.fsum(terms) / self.divisor
        except (OverflowError, ValueError):  # a sum, or inf - inf
            with np.errstate(over="ignore", invalid="ignore"):
                return float(np.sum(terms)) / self.divisor
