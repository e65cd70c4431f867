"""What the sets are, what their files are called, and how large a file may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "Dataset",
    "DatasetError",
    "FORMS",
    "Form",
    "Images",
    "Labels",
    "MOST_BYTES",
    "PIXELS",
    "PYTHON100",
    "Set",
]


def __dir__() -> list[str]:
    return __all__


Images: TypeAlias = npt.NDArray[np.uint8]
Labels: TypeAlias = npt.NDArray[np.int64]

PIXELS = 3072

# A file, or an archive unpacked, may have this many bytes: three times CIFAR's largest.
MOST_BYTES = 512 << 20


class Dataset(NamedTuple):
    """Images and labels to train on and to test on, in file order."""

    train_images: Images
    """``(n, 3072)`` uint8."""
    train_labels: Labels
    """``(n,)`` int64, each from 0 to ``classes - 1``."""
    test_images: Images
    test_labels: Labels
    name: str
    classes: int
    """How many classes the labels tell apart; not all need occur."""


class DatasetError(ValueError):
    """A file is damaged, hostile or not what it should be; the message names it and says why."""


class Set(NamedTuple):
    """A set of images, with the kinds of its labels."""

    name: str
    classes: Mapping[str, int]
    """Kinds of labels, in the order of the bytes that begin a record of the binary form."""
    keys: Mapping[str, bytes]
    """Where the pickles keep each kind."""


class Form(NamedTuple):
    """A published form of a set: the names of its files, its folder and its archive."""

    set: Set
    title: str
    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    binary: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files."""
        return self.train + self.test


CIFAR100 = Set(
    "CIFAR-100",
    {"coarse": 20, "fine": 100},
    {"coarse": b"coarse_labels", "fine": b"fine_labels"},
)
CIFAR10 = Set("CIFAR-10", {"fine": 10}, {"fine": b"labels"})
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
PYTHON100, _BINARY100 = "cifar-100-python", "cifar-100-binary"

FORMS = (
    Form(
        CIFAR100,
        "CIFAR-100's python form, renamed",
        PYTHON100,
        f"{PYTHON100}.tar.gz",
        ("cifar_train",),
        ("cifar_test",),
        binary=False,
    ),
    Form(
        CIFAR100,
        "CIFAR-100's python form",
        PYTHON100,
        f"{PYTHON100}.tar.gz",
        ("train",),
        ("test",),
        binary=False,
    ),
    Form(
        CIFAR100,
        "CIFAR-100's binary form",
        _BINARY100,
        f"{_BINARY100}.tar.gz",
        ("train.bin",),
        ("test.bin",),
        binary=True,
    ),
    Form(
        CIFAR10,
        "CIFAR-10's python form",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        _BATCHES,
        ("test_batch",),
        binary=False,
    ),
    Form(
        CIFAR10,
        "CIFAR-10's binary form",
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"{name}.bin" for name in _BATCHES),
        ("test_batch.bin",),
        binary=True,
    ),
)


# Loading -----------------------------------------------------------------------------------------
