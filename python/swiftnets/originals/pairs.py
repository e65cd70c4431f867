"""Data sets as pairs (xs, ys): images in the scripts' batches, projected, checked, counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets import datasets
from swiftnets._support import checks, identity
from swiftnets._support.checks import Array, Pair
from swiftnets.originals.functions import labels_to_onehots

__all__ = ["counter", "image_batches", "load_images", "merge", "prepare", "project"]


def __dir__() -> list[str]:
    return __all__


def load_images(data: Any) -> Any:
    """Load the data set that `data` names; if `data` is one, return it.

    Parameters
    ----------
    data : folder or file, None, or Dataset

    Returns
    -------
    Dataset

    Raises
    ------
    TypeError
        If `data` is none of these.
    OSError
        If the data cannot be read.
    """
    if data is None or isinstance(data, (str, os.PathLike)):
        return datasets.load(data)
    if hasattr(data, "train_images"):
        return data
    raise TypeError(f"data is {data!r}; expected a folder or file, None, or a Dataset")


def image_batches(data: Any, part: str, parts: int, *, equal: bool) -> Iterator[Pair]:
    """Make the batches of one part of a data set in file order, each when it is asked for.

    Parameters
    ----------
    data : Dataset
    part : {"train", "test"}
    parts : int
        How many batches.
    equal : bool
        Whether all have as many images, as ``numpy.split`` wants it; else sizes differ by at most
        one.

    Yields
    ------
    (n, 3072), (n, 100) float64 arrays

    Raises
    ------
    ValueError
        If the images do not divide into that many batches, or a label is not below 100.
    """
    images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
    if len(images) < parts or (equal and len(images) % parts):
        wanted = f"a multiple of {parts}" if equal else f"at least {parts}"
        raise ValueError(
            f"data has {len(images)} {part} images; expected {wanted}, as the original splits "
            f"them into {parts} batches"
        )
    for some, names in zip(
        np.array_split(images, parts), np.array_split(labels, parts), strict=True
    ):
        yield datasets.pixels(some), labels_to_onehots(names)


def project(pairs: Iterable[Pair], shaper: npt.ArrayLike) -> list[Pair]:
    """Project the inputs of batches: ``xs @ shaper``.

    The shaper never changes, so that this is done once for a whole run. Batches go through one by
    one: given a generator, only one is in memory unprojected.

    Parameters
    ----------
    pairs : iterable of (xs, ys)
        ``xs`` of shape (n, pixels).
    shaper : (pixels, insize) array
        As `SlowNet.shaper` draws it.

    Returns
    -------
    list of ((n, insize), (n, outsize)) float64 arrays

    Raises
    ------
    ValueError
        If a shape is wrong or an entry not finite; the message names the batch.
    TypeError
        If a dtype is wrong.

    Examples
    --------
    >>> [(xs, ys)] = project([(np.ones((2, 3)), np.eye(2))], np.full((3, 1), 0.5))
    >>> xs
    array([[1.5],
           [1.5]])
    """
    matrix = checks.array(shaper, "shaper", ("pixels", "insize"))
    checks.finite(matrix, "shaper")
    return prepare(pairs, "pairs", len(matrix), "outsize", shaper=lambda _: matrix)[0]


def prepare(
    pairs: Any,
    name: str,
    insize: int | str,
    outsize: int | str,
    hashing: bool = False,
    shaper: Callable[[Array], Array | None] | None = None,
) -> tuple[list[Pair], int, str]:
    """Check, hash and project a data set's batches, to keep them.

    A list's arrays are kept as they are; what comes one by one is copied, as the next one may be
    put where the last one was.

    Parameters
    ----------
    pairs : iterable of (xs, ys)
    name : str
        For messages.
    insize, outsize : int or str
        Widths; a string names one that is free, and the same for all batches.
    hashing : bool
    shaper : callable, optional
        Makes the projection, if there is to be one, of the first batch's inputs.

    Returns
    -------
    pairs : list of (xs, ys)
    width : int
        Of the inputs as they came.
    hash : str
        Of the data as they came.

    Raises
    ------
    ValueError
        If a shape is wrong or an entry not finite; the message names the batch.
    TypeError
        If a dtype is wrong, or `pairs` are none.
    """
    copy = type(pairs) not in (list, tuple)
    kept, hashes, width, matrix = list[Pair](), list[str](), 0, None
    room = checks.Room(name)
    for xs, ys in checks.batches(pairs, name, insize, outsize):
        if hashing:
            hashes.append(identity.digest((xs, ys)))
        if not kept:
            width, matrix = xs.shape[1], None if shaper is None else shaper(xs)
        if matrix is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                xs = xs @ matrix
            checks.finite(xs, f"the projected xs of {name}[{len(kept)}]")
        elif copy:
            xs = xs.copy()
        if copy:
            room.take(xs, ys)
        kept.append((xs, ys.copy() if copy else ys))
    return kept, width, identity.digest([np.frombuffer("".join(hashes).encode(), np.uint8)])


def merge(pairs: Sequence[Pair], rows: int = 1000) -> list[Pair]:
    """Merge batches to fewer, larger ones, for passes that go through all samples.

    Parameters
    ----------
    pairs : sequence of (xs, ys)
    rows : int
        A batch is ended when it has as many samples.

    Returns
    -------
    list of (xs, ys)

    Examples
    --------
    >>> [len(xs) for xs, _ in merge([(np.eye(2), np.eye(2))] * 5, rows=4)]
    [4, 4, 2]
    """
    result, waiting, count = list[Pair](), list[Pair](), 0
    for index, pair in enumerate(pairs):
        waiting.append(pair)
        count += len(pair[0])
        if count >= rows or index == len(pairs) - 1:
            xs, ys = zip(*waiting, strict=True)
            result.append((np.concatenate(xs), np.concatenate(ys)))
            waiting, count = [], 0
    return result


def counter(
    predict: Callable[[Array], Array], pairs: Sequence[Pair]
) -> Callable[[], tuple[int, int]]:
    """Make a function that counts the samples whose largest output is where their target's is.

    Parameters
    ----------
    predict : callable
        From inputs to outputs.
    pairs : sequence of (xs, ys)

    Returns
    -------
    callable
        Without arguments; returns how many are so, and how many there are.
    """
    labelled = [(xs, ys.argmax(axis=1)) for xs, ys in pairs]
    total = sum(len(labels) for _, labels in labelled)

    def count() -> tuple[int, int]:
        hits = 0
        for xs, labels in labelled:
            outputs = predict(xs)
            found = outputs.argmax(axis=1)  # of a row with NaN its place: no row is right by that
            known = ~np.isnan(outputs[np.arange(len(found)), found])
            hits += int(np.count_nonzero((found == labels) & known))
        return hits, total

    return count
