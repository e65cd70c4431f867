"""Images and labels from a folder, from an archive, or from inside the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from swiftnets.datasets.cifar import from_pickle, from_records
from swiftnets.datasets.files import in_archive, in_folder, naming
from swiftnets.datasets.forms import PIXELS, Dataset, DatasetError, Images, Labels

__all__ = [
    "load",
    "pixels",
]


def __dir__() -> list[str]:
    return __all__


def load(
    data: str | os.PathLike[str] | None = None, labels: Literal["fine", "coarse"] = "fine"
) -> Dataset:
    """Load images and labels from a folder, from an archive, or from inside the package.

    Parameters
    ----------
    data : path or None
        None: the embedded sample, 5,000 training and 1,000 test images of Fashion-MNIST (the first
        500 and 100 of each class), padded from 28 x 28 to 32 x 32 with zeros and grey in all three
        channels; classes 0 to 9.

        A folder, in which are looked for, in this order: ``cifar_train`` and ``cifar_test``
        (CIFAR-100's pickles under the names of 2019's scripts), CIFAR-100's ``train`` and ``test``,
        ``train.bin`` and ``test.bin``, CIFAR-10's ``data_batch_1`` to ``5`` and ``test_batch``, and
        the same with ``.bin``; each there or in the folder that upstream's archive unpacks to; then
        upstream's archives, packed.

        An archive, ``.tar.gz`` or ``.tar``, with such files.
    labels : 'fine' or 'coarse'
        CIFAR-100's 100 classes or their 20 groups. The other sets have fine ones only.

    Returns
    -------
    Dataset
        Arrays that are the caller's to change.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `data`.
    TypeError
        If `data` is neither a path nor None.
    ValueError
        If `labels` is neither of the two.
    DatasetError
        If no such files are there (what was looked for and what was found is listed), if one is
        truncated, hostile, or has the wrong shape, dtype, number of labels or a label out of range,
        or if the set has no coarse labels. It is a `ValueError`.

    Examples
    --------
    >>> data = load()
    >>> data.name, data.classes, data.train_images.shape, data.test_images.shape
    ('Fashion-MNIST sample', 10, (5000, 3072), (1000, 3072))
    >>> data.train_images.dtype, data.train_labels.dtype
    (dtype('uint8'), dtype('int64'))
    """
    if not isinstance(labels, str) or labels not in ("fine", "coarse"):
        raise ValueError(f"labels is {labels!r}; expected 'fine' or 'coarse'")
    if data is None:
        return _sample(labels)
    if not isinstance(data, (str, os.PathLike)):
        raise TypeError(
            f"data is of type {type(data).__name__}; expected the path of a folder or of a "
            ".tar.gz, or None for the embedded sample"
        )
    path = Path(data)
    if path.is_dir():
        form, content_of = in_folder(path)
    elif path.is_file():
        form, content_of = in_archive(path)
    elif path.exists():
        raise DatasetError(f"data: {path} is neither a folder nor a regular file")
    else:
        raise FileNotFoundError(f"data: {path} does not exist; expected a folder or a .tar.gz")
    if labels not in form.set.classes:
        raise DatasetError(
            f"labels is {labels!r}, but {path} holds {form.title}, which has fine labels only"
        )

    def part(names: tuple[str, ...]) -> tuple[Images, Labels]:
        parts = []
        for name in names:
            content, where = content_of(name)
            with naming(where):
                read = from_records if form.binary else from_pickle
                parts.append(read(content, form.set, labels))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    return Dataset(*part(form.train), *part(form.test), form.set.name, form.set.classes[labels])


def pixels(images: Images) -> npt.NDArray[np.float64]:
    """Turn bytes into what the nets take: ``images / 256 - 0.5``, exact in float64.

    Parameters
    ----------
    images : (n, d) uint8 array

    Returns
    -------
    (n, d) float64 array
        In steps of 1/256 from -0.5 to 0.49609375.

    Raises
    ------
    TypeError
        If the dtype is not uint8: pixels that were scaled before would be scaled twice.

    Examples
    --------
    >>> pixels(np.array([[0, 128, 255]], dtype=np.uint8))
    array([[-0.5       ,  0.        ,  0.49609375]])
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images has dtype {images.dtype}; expected uint8")
    scaled = images / np.float64(256)
    scaled -= 0.5
    return scaled


def _sample(labels: str) -> Dataset:
    name = "Fashion-MNIST sample"
    if labels != "fine":
        raise DatasetError(f"labels is {labels!r}, but the embedded {name} has fine labels only")
    file = Path(__file__).parents[1] / "data" / "fashion_mnist.npz"

    def cifar_layout(grey: Images) -> Images:
        planes = np.zeros((len(grey), 3, 32, 32), np.uint8)
        planes[:, :, 2:30, 2:30] = grey[:, np.newaxis]
        return planes.reshape(-1, PIXELS)

    with np.load(file, allow_pickle=False) as arrays:
        return Dataset(
            cifar_layout(arrays["train_images"]),
            arrays["train_labels"].astype(np.int64),
            cifar_layout(arrays["test_images"]),
            arrays["test_labels"].astype(np.int64),
            name,
            10,
        )


# Finding the files -------------------------------------------------------------------------------
