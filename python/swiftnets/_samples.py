"""Inputs and targets as the engine takes them, one batch or many. Nothing here is public."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _checks, _scaling
from swiftnets.losses import Loss

FloatArray: TypeAlias = npt.NDArray[Any]

# Weights whose sum is between this and its inverse are used as they are, by bytes of a number.
_USUAL = {8: 1e150, 4: 1e18}
_LEAST = -4000


class Batch(NamedTuple):
    """Checked samples, in the order in which the engine's functions take them."""

    x: FloatArray
    targets: FloatArray | None
    labels: npt.NDArray[np.int64] | None
    weights: FloatArray | None

    def each(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Batch:
        """With every array of it changed."""
        return Batch(
            change(self.x),
            None if self.targets is None else change(self.targets),
            None if self.labels is None else change(self.labels),
            None if self.weights is None else change(self.weights),
        )

    @property
    def total_weight(self) -> float:
        if self.weights is None:
            return float(len(self.x))
        with np.errstate(over="ignore"):
            return float(self.weights.sum(dtype=np.float64))

    @property
    def exponent(self) -> int:
        """Of a power of two to divide weights by whose sum may leave the floating-point range.

        0 for usual weights, `_LEAST` where all are 0.
        """
        if self.weights is None or self._is_usual(self.total_weight):
            return 0
        return _scaling.exponent(self.weights) if self.weights.any() else _LEAST

    def _is_usual(self, total: float) -> bool:
        usual = _USUAL[self.x.itemsize]
        return 1 / usual < total < usual

    def divided(self, exponent: int) -> Batch:
        """The same samples, their weights divided by two to `exponent`; exact but for underflow."""
        if exponent == 0:
            return self
        weights = np.ones(len(self.x), self.x.dtype) if self.weights is None else self.weights
        # In two steps, as a factor may be out of range where the quotient is not.
        half = exponent // 2
        return self._replace(weights=np.ldexp(np.ldexp(weights, -half), half - exponent))

    def averaged(self) -> tuple[Batch, float]:
        """Samples and a factor: the sum with these weights times that is the mean with the given.

        Raises
        ------
        ValueError
            If the weights sum to 0.
        """
        total = self.total_weight
        if self._is_usual(total):
            return self, 1 / total
        batch = self.divided(self.exponent)
        return batch, 1 / positive_total(batch.total_weight)


class Reader:
    """Checks batches for a net with these inputs, outputs, loss and dtype."""

    def __init__(self, inputs: int, outputs: int, loss: Loss, dtype: np.dtype[Any]) -> None:
        self._inputs, self._outputs, self._loss, self._dtype = inputs, outputs, loss, dtype

    def inputs(self, x: Any, name: str = "x") -> FloatArray:
        return _checks.array(x, name, ("N", self._inputs), self._dtype)

    def batch(self, x: Any, y: Any, weights: Any, of: str = "", whole: bool = False) -> Batch:
        """One batch; `of` says which, for the messages.

        Samples of weight 0 are left out, whatever is in them, unless it is to be `whole`: 0 times
        is not there, while 0 × NaN would be NaN.
        """
        x = self.inputs(x, f"x{of}")
        targets, labels = self._targets(y, f"y{of}", len(x))
        if weights is not None:
            name = f"sample_weight{of}"
            given = weights
            with np.errstate(over="ignore"):  # told here
                weights = _checks.array(given, name, (len(x),), self._dtype)
            if not (weights >= 0).all() or not np.isfinite(weights).all():
                largest = float(_checks.array(given, name, (len(x),)).max())
                if math.isfinite(largest) and (weights >= 0).all():
                    raise ValueError(
                        f"{name} has {largest}, which {self._dtype} does not hold; expected "
                        "weights in the range of the net's dtype"
                    )
                raise ValueError(
                    f"{name} has an entry that is negative or not finite; expected weights ≥ 0"
                )
            if not whole and not weights.all():
                return _counted(Batch(x, targets, labels, weights))
        return Batch(x, targets, labels, weights)

    def _targets(
        self, y: Any, name: str, count: int
    ) -> tuple[FloatArray | None, npt.NDArray[np.int64] | None]:
        if self._loss.name == "softmax_cross_entropy" and _checks.dimensions(y, name) == 1:
            return None, _checks.labels(y, name, count, self._outputs)
        targets = _checks.array(y, name, (count, self._outputs), self._dtype)
        if self._loss.name.endswith("cross_entropy") and not (targets >= 0).all():
            raise ValueError(f"{name} has an entry below 0 or NaN; expected probabilities")
        if self._loss.name == "binary_cross_entropy" and not (targets <= 1).all():
            raise ValueError(f"{name} has an entry above 1; expected probabilities")
        return targets, None

    def kept(
        self, x: Any, y: Any, weights: Any, *, copy: bool = False, whole: bool = False
    ) -> list[Batch]:
        """The batches of `batches`, to stay, for who needs more than one at a time.

        What comes one by one is copied on arrival: a loader may put the next batch into the memory
        of the last. With `copy` so is all else, for who keeps it after the call.
        """
        batches = self.batches(x, y, weights, whole=whole)
        if copy or (y is None and type(x) not in (list, tuple)):
            return [batch.each(np.array) for batch in batches]
        return list(batches)

    def again(self, x: Any, y: Any, weights: Any, *, copy: bool = False) -> tuple[Any, Any, Any]:
        """x, y and weights for any number of calls: those of `kept`."""
        return arguments(self.kept(x, y, weights, copy=copy), y is not None)

    def batches(self, x: Any, y: Any, weights: Any, *, whole: bool = False) -> Iterator[Batch]:
        """The batch (x, y), or where y is None the batches in x, each valid until the next."""
        if y is not None:
            yield self.batch(x, y, weights, whole=whole)
            return
        if weights is not None:
            raise TypeError(
                "sample_weight goes with x and y; give batches as tuples (x, y, sample_weight)"
            )
        if hasattr(x, "__array__") or isinstance(x, (str, bytes, dict)) or not _iterable(x):
            raise TypeError(
                f"y is None and x is of type {type(x).__name__}; expected x and y, or an iterable "
                "of batches (x, y) in place of x"
            )
        empty = True
        for index, item in enumerate(x):
            if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
                raise TypeError(
                    f"batch {index} is of type {type(item).__name__}; expected a tuple (x, y) or "
                    "(x, y, sample_weight), or without batches x and y as two arguments"
                )
            empty = False
            yield self.batch(
                item[0], item[1], item[2] if len(item) == 3 else None, f" of batch {index}", whole
            )
        if empty:
            raise ValueError("x has no batches; expected at least one")


def arguments(batches: list[Batch], single: bool) -> tuple[Any, Any, Any]:
    """x, y and sample_weight of batches, as a net's methods take them."""
    parts = [
        (batch.x, batch.targets if batch.labels is None else batch.labels, batch.weights)
        for batch in batches
    ]
    if single:
        return parts[0]
    return [part[:2] if part[2] is None else part for part in parts], None, None


def _counted(batch: Batch) -> Batch:
    """The samples whose weight is not 0; where there are none, one of zeros with weight 0."""
    assert batch.weights is not None
    rows = np.flatnonzero(batch.weights)
    return batch.each(lambda a: a[rows] if len(rows) else np.zeros_like(a[:1]))


def positive_total(weight: float) -> float:
    """A sum of weights that a mean can divide by."""
    if not weight > 0:
        raise ValueError(f"sample_weight sums to {weight}; a mean needs a positive sum")
    return weight


def _iterable(value: Any) -> bool:
    return isinstance(value, Iterable) or hasattr(value, "__getitem__")
