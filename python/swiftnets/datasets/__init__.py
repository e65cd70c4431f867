"""Images to train on: the embedded sample, CIFAR-100 and CIFAR-10 in their published forms.

`load` reads what is there and says what it found; `fetch_cifar100` downloads. All images come in
CIFAR's layout: a row of 3072 bytes, the red, the green and the blue plane of 32 x 32 pixels.

Files are taken for untrusted. Pickles are read by a small interpreter of the few operations that
these files consist of: it knows no classes, imports nothing and calls nothing that a file names.
Archives are read member by member in memory, never unpacked to disk, up to a limit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from swiftnets.datasets.forms import Dataset, DatasetError
from swiftnets.datasets.loading import load, pixels

if TYPE_CHECKING:
    from swiftnets.datasets.fetch import FetchError, fetch_cifar100

__all__ = ["Dataset", "DatasetError", "FetchError", "fetch_cifar100", "load", "pixels"]

# Imported when first used: the network's modules take longer to load than all others here.
_LATE = ("FetchError", "fetch_cifar100")


def __getattr__(name: str) -> object:
    if name in _LATE:
        value: object = getattr(import_module(f"{__name__}.fetch"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
