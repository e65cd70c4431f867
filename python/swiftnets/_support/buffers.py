"""Arrays for results that are made again and again, in memory that is used again.

The system hands out fresh memory page by page, which for a vector of a few hundred kilobytes takes
longer than the sums in it. Nothing here is public.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

_SMALLEST, _LARGEST = 2**16, 2**24  # bytes; below and above, NumPy does well or memory is scarce
_KEPT = 16
_LINE = 64  # bytes of a cache line, on which the engine reads weights without copying them


class _Pool(threading.local):
    """Each thread's own: no other one can take an array between the look and the grab."""

    def __init__(self) -> None:
        self.arrays: list[npt.NDArray[np.uint8]] = []

    def find(self, size: int) -> npt.NDArray[np.uint8] | None:
        for array in self.arrays:
            # Views refer to the array that they are of, and exported buffers to a view.
            if sys.getrefcount(array) == _FREE and len(array) == size:
                return array
        return None


def _references() -> int:
    """What getrefcount says of an array that a list alone holds, in a loop over it."""
    for array in [np.empty(0)]:
        return sys.getrefcount(array)
    raise AssertionError


_FREE = _references()
_pool = _Pool()


def take(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array (count,) of whatever, that nobody else holds; a large one on a cache line."""
    size = count * dtype.itemsize
    if not _SMALLEST <= size <= _LARGEST:
        return np.empty(count, dtype)
    found = _pool.find(size + _LINE)
    if found is None:
        found = np.empty(size + _LINE, np.uint8)
        if len(_pool.arrays) == _KEPT:
            del _pool.arrays[0]
        _pool.arrays.append(found)
    first = -found.__array_interface__["data"][0] % _LINE
    # A view: whoever freezes or reshapes what came back does not do it to what is used again.
    return found[first : first + size].view(dtype)
