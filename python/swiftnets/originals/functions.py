"""The functions of the two scripts, by their names: activation, error, one-hot rows."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checks import Array

__all__ = ["act", "dact", "errfn", "inv_act", "labels_to_onehots", "rand_onehots"]


def __dir__() -> list[str]:
    return __all__


def act(net: npt.ArrayLike) -> Any:
    """Leaky activation: ``net`` where positive, half of it elsewhere.

    Parameters
    ----------
    net : array_like of float

    Returns
    -------
    array
        Of the same shape.

    Examples
    --------
    >>> act([2.0, 0.0, -2.0])
    array([ 2.,  0., -1.])
    """
    net = np.asarray(net)
    return np.where(net > 0, net, 0.5 * net)


def dact(net: npt.ArrayLike) -> Any:
    """Slope of `act`: 1 where ``net`` is positive, 0.5 elsewhere, 0 included.

    Parameters
    ----------
    net : array_like of float

    Returns
    -------
    array
        Of the same shape.

    Examples
    --------
    >>> dact([2.0, 0.0, -2.0])
    array([1. , 0.5, 0.5])
    """
    return np.where(np.asarray(net) > 0, 1.0, 0.5)


def inv_act(h: npt.ArrayLike) -> Any:
    """Inverse of `act`: ``h`` where positive, twice it elsewhere.

    Parameters
    ----------
    h : array_like of float

    Returns
    -------
    array
        Of the same shape.

    Examples
    --------
    >>> inv_act(act([2.0, 0.0, -2.0]))
    array([ 2.,  0., -2.])
    """
    h = np.asarray(h)
    return np.where(h > 0, h, 2.0 * h)


def errfn(h: npt.ArrayLike, ys: npt.ArrayLike) -> float:
    """Half the sum of squares of ``h - ys``, over samples and outputs; a sum, not a mean.

    Parameters
    ----------
    h, ys : arrays of one shape

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ; they are not broadcast.

    Examples
    --------
    >>> errfn([[1.0, 2.0]], [[1.0, 0.0]])
    2.0
    """
    h, ys = np.asarray(h), np.asarray(ys)
    if h.shape != ys.shape:
        raise ValueError(f"ys has shape {ys.shape}; expected that of h, {h.shape}")
    return float(0.5 * np.sum((h - ys) ** 2))


def labels_to_onehots(labels: npt.ArrayLike, cardinality: int = 100) -> Array:
    """Choose rows of the identity by `labels`.

    Parameters
    ----------
    labels : (n,) integers from 0 to ``cardinality - 1``
    cardinality : int
        The number of columns; 100 whatever the data, as in the script.

    Returns
    -------
    (n, cardinality) float64 array

    Raises
    ------
    ValueError
        If a label is out of range, or `labels` has not one dimension.
    TypeError
        If the labels are not integers.

    Examples
    --------
    >>> labels_to_onehots([1, 0], cardinality=3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    columns = checks.integer(cardinality, "cardinality")
    index = checks.unconverted(labels, "labels")
    if index.ndim != 1:
        raise ValueError(f"labels has shape {index.shape}; expected (n,)")
    if index.dtype.kind not in "iu" and index.size:
        raise TypeError(f"labels has dtype {index.dtype}; expected integers")
    # First: a look at entries that take no memory, as broadcast ones, may take for ever.
    checks.memory(8 * len(index) * columns, "the array of one-hot rows")
    if index.size and not (index.min() >= 0 and index.max() < columns):
        wrong = index.min() if index.min() < 0 else index.max()
        where = int(np.flatnonzero(index == wrong)[0])
        raise ValueError(
            f"labels has {wrong} at [{where}]; expected integers from 0 to {columns - 1}"
        )
    onehots = np.zeros((len(index), columns))
    onehots[np.arange(len(index)), index.astype(np.intp)] = 1.0
    return onehots


def rand_onehots(shape: tuple[int, int]) -> Array:
    """Draw one-hot rows, by one ``random.randint`` of Python a row.

    Parameters
    ----------
    shape : (rows, columns)

    Returns
    -------
    (rows, columns) float64 array

    Raises
    ------
    TypeError
        If `shape` is no pair of integers.
    ValueError
        If a size is negative, or there are no columns.

    Examples
    --------
    >>> random.seed(0)
    >>> rand_onehots((2, 4))
    array([[0., 0., 0., 1.],
           [0., 0., 0., 1.]])
    """
    try:
        rows, columns = shape
    except (TypeError, ValueError):
        raise TypeError(f"shape is {shape!r}; expected (rows, columns)") from None
    rows = checks.integer(rows, "shape[0]", 0)
    columns = checks.integer(columns, "shape[1]")
    return labels_to_onehots([random.randint(0, columns - 1) for _ in range(rows)], columns)
