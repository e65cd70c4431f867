"""Validation shared by the nets: messages name the argument, what came and what was expected."""

from __future__ import annotations

import math
import numbers
import os
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def array(name: str, value: Any, shape: tuple[int | str, ...], *, finite: bool = True) -> Array:
    """`value` as a C-contiguous float64 array of the given shape; no copy where it is one already.

    A letter in `shape` stands for any size from 1. Integers, booleans and narrower floats are
    converted; complex numbers, objects and text are refused.

    Raises
    ------
    TypeError
        If the numbers cannot become float64 without loss of meaning.
    ValueError
        If the shape differs, or `finite` and an element is not.
    """
    result = value if type(value) is np.ndarray else np.asarray(value)
    if result.dtype.kind not in "fiub" or result.dtype.itemsize > 8:
        raise TypeError(f"{name} has dtype {result.dtype}, expected real numbers (float64)")
    if result.dtype != np.float64 or not result.flags.c_contiguous or not result.dtype.isnative:
        result = np.ascontiguousarray(result, dtype=np.float64)
    if result.ndim != len(shape) or any(
        isinstance(want, int) and have != want
        for have, want in zip(result.shape, shape, strict=True)
    ):
        expected = ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} has shape {result.shape}, expected ({expected})")
    if result.size == 0:
        raise ValueError(f"{name} is empty: its shape is {result.shape}")
    # A finite sum proves finite terms; only a sum that is not needs the look at every element.
    if finite and not math.isfinite(result.sum()) and not np.isfinite(result).all():
        where = tuple(np.argwhere(~np.isfinite(result))[0].tolist())
        raise ValueError(f"{name} has an element that is not finite: {result[where]} at {where}")
    return result


def size(name: str, value: Any) -> int:
    """`value` as a positive int."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}, expected a positive integer")
    if not 1 <= int(value) < 2**31:
        raise ValueError(f"{name} is {value}, expected an integer from 1 to {2**31 - 1}")
    return int(value)


def number(name: str, value: Any, *, positive: bool = False) -> float:
    """`value` as a finite float, and above 0 where `positive`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}, expected a number")
    result = float(value)
    if not math.isfinite(result) or (positive and result <= 0):
        kind = "a positive, finite number" if positive else "a finite number"
        raise ValueError(f"{name} is {value!r}, expected {kind}")
    return result


def seed(value: Any) -> int | None:
    """`value` as a seed of NumPy's legacy generator, which draws as the originals do."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"seed is {value!r}, expected an integer or None")
    if not 0 <= int(value) < 2**32:
        raise ValueError(f"seed is {value}, expected an integer from 0 to {2**32 - 1}")
    return int(value)


def memory(what: str, count: int) -> None:
    """Refuse what the machine cannot hold, before anything is allocated.

    Raises
    ------
    MemoryError
        If `count` bytes are more than the machine's memory.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if count > there:
        raise MemoryError(f"{what} needs {amount(count)}; this machine has {amount(there)}")


def amount(count: int) -> str:
    """Bytes as people read them."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"
