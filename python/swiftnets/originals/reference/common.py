"""What both nets share: activation, error, one-hot rows, batches, and the lines of a run."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import datasets
from swiftnets._support.checks import Array, Pair

__all__ = [
    "Line",
    "Pairs",
    "act",
    "dact",
    "dinv_act",
    "errfn",
    "inv_act",
    "labels_to_onehots",
    "make_pairs",
    "rand_onehots",
    "right",
]


def __dir__() -> list[str]:
    return __all__


Pairs: TypeAlias = list[Pair]


def act(net: Any) -> Any:
    """Leaky activation: ``net`` where positive, half of it elsewhere.

    Parameters
    ----------
    net : array of any float type

    Returns
    -------
    array
        Of the same shape and type.

    Examples
    --------
    >>> act(np.array([2.0, 0.0, -2.0]))
    array([ 2.,  0., -1.])
    """
    return np.where(net > 0, net, net / 2)


def dact(net: Any) -> Any:
    """Slope of `act`: 1 where ``net`` is positive, 0.5 elsewhere (0 included).

    Parameters
    ----------
    net : array of any float type

    Returns
    -------
    float64 array of the same shape

    Examples
    --------
    >>> dact(np.array([2.0, 0.0, -2.0]))
    array([1. , 0.5, 0.5])
    """
    return np.where(net > 0, 1.0, 0.5)


def inv_act(h: Any) -> Any:
    """Inverse of `act`: ``h`` where positive, twice it elsewhere.

    Parameters
    ----------
    h : array of any float type

    Returns
    -------
    array
        Of the same shape and type.

    Examples
    --------
    >>> inv_act(np.array([2.0, 0.0, -1.0]))
    array([ 2.,  0., -2.])
    """
    return np.where(h > 0, h, 2 * h)


def dinv_act(h: Any) -> Any:
    """Slope of `inv_act`: 1 where ``h`` is positive, 2 elsewhere.

    Parameters
    ----------
    h : array of any float type

    Returns
    -------
    float64 array of the same shape

    Examples
    --------
    >>> dinv_act(np.array([2.0, 0.0, -1.0]))
    array([1., 2., 2.])
    """
    return np.where(h > 0, 1.0, 2.0)


def errfn(h: Any, ys: Any) -> Any:
    """Half the sum of squares of ``h - ys`` over samples and outputs; a sum, not a mean.

    Parameters
    ----------
    h, ys : arrays of one shape and any float type

    Returns
    -------
    scalar of that type

    Examples
    --------
    >>> float(errfn(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]])))
    2.0
    """
    return 0.5 * np.sum((h - ys) ** 2)


def labels_to_onehots(labels: npt.ArrayLike, cardinality: int = 100) -> Array:
    """Choose rows of the identity by ``labels``.

    Parameters
    ----------
    labels : (n,) integers in ``0 .. cardinality - 1``
    cardinality : int

    Returns
    -------
    (n, cardinality) float64 array

    Raises
    ------
    ValueError
        If a label lies outside the range.
    TypeError
        If labels are not integers.

    Examples
    --------
    >>> labels_to_onehots([1, 0], cardinality=3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    index = np.asarray(labels)
    if index.size and not np.issubdtype(index.dtype, np.integer):
        raise TypeError(f"labels has dtype {index.dtype}; expected integers")
    index = index.astype(np.int64)
    if index.size and not 0 <= index.min() <= index.max() < cardinality:
        raise ValueError(
            f"labels has values from {index.min()} to {index.max()}; "
            f"expected 0 to {cardinality - 1}"
        )
    onehots = np.zeros((len(index), cardinality))
    onehots[np.arange(len(index)), index] = 1.0
    return onehots


def rand_onehots(shape: tuple[int, int]) -> Array:
    """One-hot rows whose columns are drawn by Python's ``random.randint``, row after row.

    Parameters
    ----------
    shape : (rows, columns)

    Returns
    -------
    (rows, columns) float64 array

    Examples
    --------
    >>> random.seed(0)
    >>> rand_onehots((2, 4))
    array([[0., 0., 0., 1.],
           [0., 0., 0., 1.]])
    """
    rows, columns = shape
    return labels_to_onehots([random.randint(0, columns - 1) for _ in range(rows)], columns)


class Line(NamedTuple):
    """What one printed ``it:`` line knows, and the weights before the step that follows it."""

    iteration: int
    """Lines before this one, counted over all epochs."""
    error: float
    """Loss of the iteration's training batch, before the step."""
    correct: int | None
    """Correctly classified test samples, where the script counts them; None elsewhere."""
    weights: tuple[Array, ...]
    """``(w1, w2)`` or ``(w,)``; never changed afterwards."""


def right(outputs: Iterator[Pair]) -> int:
    """Count the samples whose largest output is where their target's is.

    Parameters
    ----------
    outputs : iterable of ((n, outsize), (n, outsize)) arrays
        Outputs and targets, batch after batch.

    Returns
    -------
    int
    """
    return sum(int((h.argmax(axis=1) == ys.argmax(axis=1)).sum()) for h, ys in outputs)


def make_pairs(data: Any, train_parts: int, test_parts: int, equal: bool) -> tuple[Pairs, Pairs]:
    """Split a data set into batches, in file order.

    Parameters
    ----------
    data : folder, None or object
        As for `slow_pairs`.
    train_parts, test_parts : int
        How many batches.
    equal : bool
        Whether training batches must be of one size; test batches must in any case.

    Returns
    -------
    train_pairs, test_pairs : lists of ((k, 3072), (k, 100)) float64 arrays

    Raises
    ------
    ValueError
        If a number of images cannot be divided so.
    """
    if data is None or isinstance(data, (str, os.PathLike)):
        data = datasets.load(data)

    def split(name: str, parts: int, equal: bool) -> Pairs:
        images, labels = getattr(data, f"{name}_images"), getattr(data, f"{name}_labels")
        if equal and len(images) % parts:
            raise ValueError(
                f"{name}_images has {len(images)} images; expected a multiple of {parts}, "
                f"because they are split into {parts} equal batches"
            )
        xs = np.array_split(np.asarray(images) / 256.0 - 0.5, parts)
        ys = np.array_split(labels_to_onehots(labels), parts)
        return list(zip(xs, ys, strict=True))

    return split("train", train_parts, equal), split("test", test_parts, True)
