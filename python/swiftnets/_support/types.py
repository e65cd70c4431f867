"""Arrays as signatures name them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
"""Of float64 numbers."""

FloatArray: TypeAlias = npt.NDArray[Any]
"""Of float64 or float32 numbers, as the net or the problem has it."""

IntegerArray: TypeAlias = npt.NDArray[np.int64]
"""Of indices and counts."""

Pair: TypeAlias = tuple[Array, Array]
"""A batch: inputs and targets."""

Product: TypeAlias = Callable[[Array], npt.NDArray[Any]]
"""Rows (K, P) to a matrix times each."""
