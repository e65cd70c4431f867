"""What a task does on a worker: read a partition, run its passes, compute its part of a sum.

All of it is for one partition, of a net whose loss is a plain sum without l2: parts add up. What is
done once, the mean and the l2 term, is done where they have been added.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support.threads import get_threads, set_threads
from swiftnets._support.types import FloatArray
from swiftnets.curvature.kinds import Kind
from swiftnets.curvature.kronecker import Targets, kronecker_factors
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.curvature.point import Point
from swiftnets.nets.samples import Batch, Samples
from swiftnets.network import Network

__all__ = ["Facts", "Partition", "Passed", "Terms"]


def __dir__() -> list[str]:
    return __all__


# What parts of a sum are: numbers and arrays, each added to its like.
Terms: TypeAlias = tuple[Any, ...]


# Threads -----------------------------------------------------------------------------------------


class _Threads:
    """While tasks of ours run, a call of the engine uses as many threads as the worker has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Sums take turns: one that uses all threads leaves none for another one.
        self.turn = threading.Lock()
        self._running, self._before = 0, 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        """As many as the worker's, and at the end of the last such task as before."""
        from distributed import get_worker

        count = max(1, min(64, int(get_worker().state.nthreads)))
        with self._lock:
            if self._running == 0:
                self._before = get_threads()
            self._running += 1
            set_threads(count)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    set_threads(self._before)


_THREADS = _Threads()


# Partitions --------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What the sums over all partitions need to know of one.

    Attributes
    ----------
    rows : int
        Samples, those of weight 0 too.
    counted : int
        Those whose weight is not 0.
    weight : float
        The sum of the weights over 2 to `exponent`; without weights, of ones.
    exponent : int
        0 for usual weights; see `swiftnets.nets.samples.Batch`.
    """

    rows: int
    counted: int
    weight: float
    exponent: int


class Partition:
    """Checked samples of one partition, on the worker that has them.

    Attributes
    ----------
    name : str
        Which one it is, for messages.
    facts : Facts
    """

    def __init__(self, settings: bytes, name: str, batch: Batch | None, rows: int) -> None:
        if batch is not None:
            batch = batch.each(_placed)
        self._settings, self._batch = settings, batch
        self.name = name
        self.facts = Facts(rows, 0, 0.0, 0)
        if batch is not None:
            exponent = batch.exponent
            weight = batch.divided(exponent, self.net.dtype).total_weight
            self.facts = Facts(rows, len(batch.x), weight, exponent)

    @property
    def net(self) -> Network:
        """The net, its loss a sum, without l2."""
        return _net(self._settings)

    def samples(self, exponent: int) -> Samples:
        """Its samples, weights divided by 2 to `exponent`."""
        assert self._batch is not None  # parts of none are not asked for
        return Samples([self._batch.divided(exponent, self.net.dtype)], True)

    def __reduce__(self) -> tuple[Any, ...]:
        return Partition, (self._settings, self.name, self._batch, self.facts.rows)

    def __sizeof__(self) -> int:
        """For the scheduler, which moves little rather than much."""
        return 200 + _bytes_of(self._batch)


class Passed:
    """The passes of a partition at w, on the worker that made them.

    A copy that goes elsewhere, over the network or to the worker's disk, leaves them behind and
    makes them anew when it is asked for a product.
    """

    def __init__(self, partition: Partition, w: FloatArray, exponent: int) -> None:
        self._made_of = partition, w, exponent
        self.name = partition.name
        self.point: Point = partition.net.at_samples(w, partition.samples(exponent))

    def __reduce__(self) -> tuple[Any, ...]:
        return Passed, self._made_of

    def __sizeof__(self) -> int:
        """With what the passes keep."""
        (batch,) = self.point.whole
        kept = self.point.net.memory_plan(len(batch.x)).point
        return 200 + self.point.w.nbytes + _bytes_of(batch) + kept


def _placed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As the engine takes it: what comes over the network may begin at any byte."""
    return np.require(array, None, ["C_CONTIGUOUS", "ALIGNED"])


def _bytes_of(batch: Batch | None) -> int:
    return 0 if batch is None else sum(array.nbytes for array in batch if array is not None)


@lru_cache(maxsize=16)
def _net(settings: bytes) -> Network:
    """One for all partitions of a worker: they share the memory that it works in."""
    net: Network = pickle.loads(settings)
    return net


def read(settings: bytes, name: str, x: Any, y: Any, weights: Any) -> Partition:
    """A partition, checked."""
    rows = np.shape(x)[0] if np.ndim(x) else -1
    if rows == 0 and np.ndim(y) and np.shape(y)[0] == 0:
        return Partition(settings, name, None, 0)
    batch = _net(settings).engine.reader.batch(x, y, weights, f" of {name}")
    # What it was made from may be written on by other tasks.
    batch = batch.each(np.array)
    some = batch.weights is None or bool(batch.weights.any())
    return Partition(settings, name, batch if some else None, rows)


def read_item(settings: bytes, name: str, item: Any) -> Partition:
    """As `read`, of a batch as iterables of batches have it."""
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise TypeError(
            f"{name} is of type {type(item).__name__}; expected a tuple (x, y) or "
            "(x, y, sample_weight)"
        )
    return read(settings, name, item[0], item[1], item[2] if len(item) == 3 else None)


def facts(partition: Partition) -> Facts:
    """A partition's."""
    return partition.facts


def sent(value: FloatArray) -> FloatArray:
    """A vector, as what a task returns."""
    return value


# Parts of sums -----------------------------------------------------------------------------------


def part(function: Callable[..., Any], held: Partition | Passed, *arguments: Any) -> Any:
    """What a function makes of a partition, by the worker's threads; errors say which it was."""
    given = [_placed(one) if isinstance(one, np.ndarray) else one for one in arguments]
    try:
        with _THREADS.turn, _THREADS.counted():
            return function(held, *given)
    except Exception as error:
        error.add_note(f"This was in {held.name}, on a worker of the cluster.")
        raise


class Call:
    """A function and its arguments: one thing to Dask, which looks for tasks in dicts."""

    def __init__(self, function: Callable[..., Any], setting: dict[str, Any]) -> None:
        self.function, self.setting = function, setting


def called(call: Call) -> Any:
    """What a call of a sweep returns, by the worker's threads."""
    with _THREADS.counted():
        return call.function(**call.setting)


def added(*parts: Terms) -> Terms:
    """Their sum in this order, in float64."""
    return tuple(_sum(terms) for terms in zip(*parts, strict=True))


def _sum(terms: tuple[Any, ...]) -> Any:
    total = np.array(terms[0], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for term in terms[1:]:
            total += term
    return total


def loss(partition: Partition, w: FloatArray, exponent: int) -> Terms:
    """The loss."""
    return (partition.net.loss_on(w, partition.samples(exponent)),)


def loss_and_gradient(partition: Partition, w: FloatArray, exponent: int) -> Terms:
    """The loss and its gradient, nothing kept."""
    return partition.net.loss_and_gradient_on(w, partition.samples(exponent))


def linearize(partition: Partition, w: FloatArray, exponent: int) -> Passed:
    """The point of a partition at w with its passes."""
    passed = Passed(partition, w, exponent)
    _ = passed.point.passed
    return passed


def passed_loss(passed: Passed) -> Terms:
    """The loss and its gradient from the passes."""
    return passed.point.loss, passed.point.gradient


def products(passed: Passed, kind: Kind, rows: FloatArray) -> Terms:
    """A curvature matrix times each row."""
    return (CurvatureMatrix(passed.point, kind).products(rows),)


def diagonal(passed: Passed, kind: Kind) -> Terms:
    """The diagonal of a curvature matrix."""
    return (CurvatureMatrix(passed.point, kind).diagonal(),)


def dense(passed: Passed, kind: Kind) -> Terms:
    """All entries of a curvature matrix."""
    return (CurvatureMatrix(passed.point, kind).dense(),)


def third(passed: Passed, u: FloatArray, rows: FloatArray) -> Terms:
    """The third derivative applied to u and to each row."""
    return (passed.point.third(u, rows),)


def fourth(passed: Passed, u: FloatArray, v: FloatArray, rows: FloatArray) -> Terms:
    """The fourth derivative applied to u, v and each row."""
    return (passed.point.fourth(u, v, rows),)


def taylor(passed: Passed, v: FloatArray, order: int) -> Terms:
    """Coefficients of the loss and of its gradient along v."""
    series = passed.point.taylor(v, order)
    return series.loss, series.gradient


def kronecker(passed: Passed, share: float, targets: Targets, seed: tuple[int, int]) -> Terms:
    """Kronecker factors: those of the inputs, which are means, times the partition's share."""
    # A stream of random numbers for each partition.
    random = np.random.default_rng(seed)
    found = kronecker_factors(passed.point, targets=targets, seed=random)
    return (*(share * inputs for inputs in found.inputs), *found.outputs)
