"""Inputs and targets as the engine takes them, one batch or many. Users need none of it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray, IntegerArray
from swiftnets.linalg import scaling
from swiftnets.nets.labels import codes
from swiftnets.nets.layer import Value
from swiftnets.nets.losses import Loss

__all__ = ["Batch", "FloatArray", "Reader", "Samples", "joined", "positive_total"]


def __dir__() -> list[str]:
    return __all__


# Weights whose sum is between this and its inverse are used as they are, by bytes of a number.
_USUAL = {8: 1e150, 4: 1e18}
_LEAST = -4000


class Batch(NamedTuple):
    """Checked samples, in the order in which the engine's functions take them.

    Attributes
    ----------
    x : (N, inputs) array
        One row a sample, whatever its shape; int64 for tokens.
    targets : (N, outputs) array or None
    labels : (N,) int64 array or None
    weights : (N,) array or None
    """

    x: npt.NDArray[Any]
    targets: FloatArray | None
    labels: IntegerArray | None
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
    def counted(self) -> Batch:
        """The samples whose weight is not 0; where there are none, one of zeros with weight 0.

        0 times whatever is in a sample is not there, while 0 × NaN would be NaN.
        """
        if self.weights is None or self.weights.all():
            return self
        rows = np.flatnonzero(self.weights)
        return self.each(lambda a: a[rows] if len(rows) else np.zeros_like(a[:1]))

    @property
    def labels_or_targets(self) -> FloatArray:
        """y, as a net's methods take it."""
        return self.targets if self.labels is None else self.labels  # type: ignore[return-value]

    @property
    def total_weight(self) -> float:
        """The sum of the weights; the number of samples where there are none."""
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
        return scaling.exponent(self.weights) if self.weights.any() else _LEAST

    def _is_usual(self, total: float) -> bool:
        usual = _USUAL[8 if self.weights is None else self.weights.itemsize]
        return 1 / usual < total < usual

    def divided(self, exponent: int, dtype: np.dtype[Any]) -> Batch:
        """The same samples, their weights divided by 2 to `exponent`; exact but for underflow."""
        if exponent == 0:
            return self
        weights = np.ones(len(self.x), dtype) if self.weights is None else self.weights
        # In two steps, as a factor may be out of range where the quotient is not.
        half = exponent // 2
        return self._replace(weights=np.ldexp(np.ldexp(weights, -half), half - exponent))

    def averaged(self) -> tuple[Batch, float]:
        """Samples and a factor: the sum with these weights times that is the mean with the given.

        Returns
        -------
        tuple of a Batch, and a float

        Raises
        ------
        ValueError
            If the weights sum to 0.
        """
        total = self.total_weight
        if self.weights is None or self._is_usual(total):
            return self, 1 / total
        batch = self.divided(self.exponent, self.weights.dtype)
        return batch, 1 / positive_total(batch.total_weight)


class Samples(NamedTuple):
    """What a loss is a sum over.

    Attributes
    ----------
    batches : iterable of Batch
        Each valid until the next one comes, unless it is a list.
    is_single : bool
        Whether there is one batch and was never to be another.
    """

    batches: Iterable[Batch]
    is_single: bool


class Reader:
    """Checks batches for a net with these inputs, outputs, loss and dtype."""

    def __init__(
        self,
        given: Value,
        vocabulary: int,
        outputs: int,
        loss: Loss,
        dtype: np.dtype[Any],
        classes: tuple[str, ...] | None,
    ) -> None:
        self._given, self._vocabulary, self._outputs = given, vocabulary, outputs
        self._loss, self._dtype, self._classes = loss, dtype, classes

    def inputs(self, x: Any, name: str = "x") -> npt.NDArray[Any]:
        """Inputs, checked, one row a sample."""
        sizes = self._given.sizes
        if self._given.kind == "tokens":
            return checks.tokens(x, name, sizes[0], self._vocabulary)
        rows = checks.array(x, name, ("N", *sizes), self._dtype)
        return rows if rows.ndim == 2 else rows.reshape(len(rows), -1)

    def shaped(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Inputs of a batch as users give them."""
        return x.reshape(len(x), *self._given.sizes)

    def batch(self, x: Any, y: Any, weights: Any, of: str = "", whole: bool = False) -> Batch:
        """One batch, checked.

        Parameters
        ----------
        x, y, weights : array_like
        of : str
            Which batch it is, for messages.
        whole : bool
            Whether samples of weight 0 stay.

        Returns
        -------
        Batch

        Raises
        ------
        TypeError
            If they have numbers of another kind than the net takes.
        ValueError
            If shapes disagree, or weights are negative or not finite.
        """
        if weights is not None and self._given.kind == "tokens":
            given = checks.unconverted(weights, f"sample_weight{of}")
            x = _without_padding(checks.unconverted(x, f"x{of}"), given, self._vocabulary)
        x = self.inputs(x, f"x{of}")
        y = self._numbered(y, f"y{of}", weights, f"sample_weight{of}")
        if weights is not None and self._takes_labels(y, f"y{of}"):
            given = checks.unconverted(weights, f"sample_weight{of}")
            y = _without_padding(checks.unconverted(y, f"y{of}"), given, self._outputs)
        targets, labels = self._targets(y, f"y{of}", len(x))
        if weights is not None:
            name = f"sample_weight{of}"
            given = weights
            with np.errstate(over="ignore"):  # told here
                weights = checks.array(given, name, (len(x),), self._dtype)
            if not (weights >= 0).all() or not np.isfinite(weights).all():
                largest = float(checks.array(given, name, (len(x),)).max())
                if math.isfinite(largest) and (weights >= 0).all():
                    raise ValueError(
                        f"{name} has {largest}, which {self._dtype} does not hold; expected "
                        "weights in the range of the net's dtype"
                    )
                raise ValueError(
                    f"{name} has an entry that is negative or not finite; expected weights ≥ 0"
                )
        batch = Batch(x, targets, labels, weights)
        self._check_probabilities(batch.counted.targets, f"y{of}")
        return batch if whole else batch.counted

    def _numbered(self, y: Any, name: str, weights: Any, name_of_weights: str) -> Any:
        """Targets as numbers in the shape that the loss takes: text, truth values, one a sample."""
        if y is None or type(y) is np.ndarray and y.ndim > 1 and y.dtype.kind in "biuf":
            return y
        raw = checks.unconverted(y, name)
        if raw.ndim != 1:
            if self._classes is not None and checks.is_text(raw):
                raise ValueError(f"{name} has text of shape {raw.shape}; expected labels (N,)")
            return y
        is_softmax = self._loss.name == "softmax_cross_entropy"
        if checks.is_text(raw) and (is_softmax or self._loss.name == "binary_cross_entropy"):
            checks.all_text(y if isinstance(y, (list, tuple)) else raw, name)
            counted = None
            if weights is not None:
                counted = checks.unconverted(weights, name_of_weights) != 0
            raw = codes(raw, name, self._classes, counted)
        if is_softmax:
            is_truth = raw.dtype.kind == "b" and self._outputs == 2
            return raw.astype(np.int64) if is_truth else raw
        return raw[:, None] if self._outputs == 1 else raw

    def _takes_labels(self, y: Any, name: str) -> bool:
        return self._loss.name == "softmax_cross_entropy" and checks.dimensions(y, name) == 1

    def _targets(
        self, y: Any, name: str, count: int
    ) -> tuple[FloatArray | None, IntegerArray | None]:
        if self._takes_labels(y, name):
            return None, checks.labels(y, name, count, self._outputs)
        return checks.array(y, name, (count, self._outputs), self._dtype), None

    def _check_probabilities(self, targets: FloatArray | None, name: str) -> None:
        """What cross-entropies take, of samples that count."""
        if targets is None or not self._loss.name.endswith("cross_entropy"):
            return
        if not (targets >= 0).all():
            raise ValueError(f"{name} has an entry below 0 or NaN; expected probabilities")
        if self._loss.name == "binary_cross_entropy" and not (targets <= 1).all():
            raise ValueError(f"{name} has an entry above 1; expected probabilities")

    def is_inputs(self, x: Any) -> bool:
        """Whether x is meant as an array of numbers, and not as an iterable of batches."""
        if isinstance(x, (list, tuple)):
            return bool(x) and _depth(x) <= 1 + len(self._given.sizes)
        arrays = (str, bytes, dict, memoryview)
        is_array = hasattr(x, "__array__") or hasattr(x, "__dlpack__") or isinstance(x, arrays)
        return is_array or not _iterable(x)

    def inputs_alone(self, x: Any, weights: Any, *, copy: bool) -> Samples:
        """Inputs without targets."""
        if weights is not None:
            raise TypeError("sample_weight goes with x and y; y is missing")
        inputs = self.inputs(x)
        return Samples([Batch(np.array(inputs) if copy else inputs, None, None, None)], True)

    def samples(self, x: Any, y: Any, weights: Any, *, whole: bool = False) -> Samples:
        """Checked as they come, for one sum: nothing of an iterable of batches is kept."""
        if y is not None:
            return Samples([self.batch(x, y, weights, whole=whole)], True)
        return Samples(self.batches(x, weights, whole=whole), False)

    def kept(
        self, x: Any, y: Any, weights: Any, *, copy: bool = False, whole: bool = False
    ) -> Samples:
        """All of them, to stay, for any number of sums.

        Parameters
        ----------
        x, y, weights : array_like, or batches in place of x
            What comes one by one is copied on arrival: a loader may put the next batch into the
            memory of the last.
        copy : bool
            Whether all else is copied as well, for who keeps it after the call.
        whole : bool
            Whether samples of weight 0 stay.

        Returns
        -------
        Samples
        """
        batches, is_single = self.samples(x, y, weights, whole=whole)
        if not copy and (y is not None or type(x) in (list, tuple)):
            return Samples(list(batches), is_single)
        copies: list[Batch] = []
        room = None if y is not None else checks.Room("x")
        for batch in batches:
            if room is not None:
                room.take(*batch)
            copies.append(batch.each(np.array))
        return Samples(copies, is_single)

    def batches(self, x: Any, weights: Any = None, *, whole: bool = False) -> Iterator[Batch]:
        """The batches in x, each valid until the next."""
        if weights is not None:
            raise TypeError(
                "sample_weight goes with x and y; give batches as tuples (x, y, sample_weight)"
            )
        if hasattr(x, "__array__") or isinstance(x, (str, bytes, dict)) or not _iterable(x):
            raise TypeError(
                f"y is None and x is of type {type(x).__name__}; expected x and y, or an iterable "
                "of batches (x, y) in place of x"
            )
        checks.ends(x, "x")
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


def joined(batches: list[Batch], outputs: int, dtype: np.dtype[Any]) -> Batch:
    """All samples as one batch; labels as rows where some batches have rows."""
    if len(batches) == 1:
        return batches[0]
    x = np.concatenate([batch.x for batch in batches])
    labels, targets, weights = None, None, None
    if all(batch.labels is not None for batch in batches):
        labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    else:
        targets = np.concatenate([_targets(batch, outputs, dtype) for batch in batches])
    if any(batch.weights is not None for batch in batches):
        weights = np.concatenate(
            [
                np.ones(len(batch.x), dtype) if batch.weights is None else batch.weights
                for batch in batches
            ]
        )
    return Batch(x, targets, labels, weights)


def _targets(batch: Batch, outputs: int, dtype: np.dtype[Any]) -> FloatArray:
    """Targets as rows, labels as rows of the identity."""
    if batch.labels is None:
        assert batch.targets is not None
        return batch.targets
    rows = np.zeros((len(batch.x), outputs), dtype)
    rows[np.arange(len(rows)), batch.labels] = 1
    return rows


def _without_padding(
    numbers: npt.NDArray[Any], weights: npt.NDArray[Any], limit: int
) -> npt.NDArray[Any]:
    """Labels, or rows of tokens: 0 in place of what is none at samples of weight 0."""
    if numbers.dtype.kind not in "iu" or weights.shape != numbers.shape[:1]:
        return numbers
    is_out = (weights == 0).reshape(-1, *[1] * (numbers.ndim - 1))
    is_padding = is_out & ((numbers < 0) | (numbers >= limit))
    return np.where(is_padding, numbers.dtype.type(0), numbers) if is_padding.any() else numbers


def positive_total(weight: float) -> float:
    """A sum of weights that a mean can divide by."""
    if not weight > 0:
        raise ValueError(f"sample_weight sums to {weight}; a mean needs a positive sum")
    return weight


def _depth(value: Any) -> int:
    """Dimensions of an array, or of lists by their first entries; many if these are no numbers."""
    if isinstance(value, (list, tuple)):
        return 1 + (_depth(value[0]) if value else 0)
    if hasattr(value, "ndim"):
        return int(value.ndim)
    if hasattr(value, "__array__"):
        return np.ndim(value)
    return 0 if isinstance(value, numbers.Number) else 9


def _iterable(value: Any) -> bool:
    return isinstance(value, Iterable) or hasattr(value, "__getitem__")
