"""One file of CIFAR, in its binary or its python form, as images and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets.datasets.forms import PIXELS, DatasetError, Images, Labels, Set
from swiftnets.datasets.pickles import PickledArray, PickleReader

__all__ = [
    "from_pickle",
    "from_records",
]


def __dir__() -> list[str]:
    return __all__


def from_records(content: bytes, of: Set, labels: str) -> tuple[Images, Labels]:
    """Read the binary form: for each image a byte for each kind of label, then the pixels.

    Parameters
    ----------
    content : bytes
        The file.
    of : Set
    labels : {"fine", "coarse"}
        A kind that the set has.

    Returns
    -------
    images : (n, 3072) uint8 array
    labels : (n,) int64 array

    Raises
    ------
    DatasetError
        If the content is no whole number of records, or a label out of range.
    """
    kinds = list(of.classes)
    size = len(kinds) + PIXELS
    if not content or len(content) % size:
        raise DatasetError(
            f"{len(content)} bytes, expected a positive multiple of {size}, "
            f"the size of a record of {of.name}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    column = records[:, kinds.index(labels)]
    return records[:, len(kinds) :].copy(), _checked_labels(column, labels, of.classes[labels])


def from_pickle(content: bytes, of: Set, labels: str) -> tuple[Images, Labels]:
    """Read the python form: a dictionary with ``b"data"`` and the labels.

    Parameters
    ----------
    content : bytes
        The file.
    of : Set
    labels : {"fine", "coarse"}
        A kind that the set has.

    Returns
    -------
    images : (n, 3072) uint8 array
    labels : (n,) int64 array

    Raises
    ------
    DatasetError
        If the content is damaged, hostile, or not images with their labels.
    """
    entries = PickleReader(content).read()
    key = of.keys[labels]
    for name in (b"data", key):
        if name not in entries:
            found = ", ".join(sorted(ascii(entry)[:40] for entry in entries)[:12]) or "none"
            missing = f"{labels} labels" if name == key else "images"
            raise DatasetError(f"no {missing}: looked for the key {name!r}, found {found}")
    data = entries[b"data"]
    if not isinstance(data, PickledArray):
        raise DatasetError(f"b'data' is of type {type(data).__name__}, expected a uint8 array")
    images = data.array()
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != PIXELS:
        raise DatasetError(
            f"b'data' has shape {images.shape} and dtype {images.dtype}, "
            f"expected (n, {PIXELS}) and uint8"
        )
    column = _label_column(entries[key], key)
    if len(column) != len(images):
        raise DatasetError(f"{key!r} has {len(column)} labels for {len(images)} images")
    if not len(images):
        raise DatasetError("no images: b'data' has shape (0, 3072)")
    # A copy that lets go of the rest of the file, and that can be written to.
    return np.array(images, order="C"), _checked_labels(column, labels, of.classes[labels])


def _label_column(value: object, key: bytes) -> npt.NDArray[Any]:
    if isinstance(value, PickledArray):
        array = value.array()
        if array.ndim != 1:
            raise DatasetError(f"{key!r} has shape {array.shape}, expected (n,)")
        return array
    if not isinstance(value, list):
        raise DatasetError(f"{key!r} is of type {type(value).__name__}, expected a list of int")
    for index, label in enumerate(value):
        if type(label) is not int:
            raise DatasetError(f"{key!r}[{index}] is of type {type(label).__name__}, expected int")
    return np.array(value, object)  # any size of int, until the range is checked


def _checked_labels(column: npt.NDArray[Any], kind: str, classes: int) -> Labels:
    wrong = np.flatnonzero((column < 0) | (column >= classes))
    if len(wrong):
        raise DatasetError(
            f"{kind} label of image {wrong[0]} is {column[wrong[0]]}, "
            f"expected 0 to {classes - 1} ({len(wrong)} out of range)"
        )
    return column.astype(np.int64)


# Pickles -----------------------------------------------------------------------------------------
