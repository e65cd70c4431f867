"""Long calls of linear algebra that Ctrl-C ends. Nothing here is public.

NumPy's own cannot be stopped: a signal waits until they are done, for minutes where matrices are
large.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support.types import Array

__all__ = ["aside", "eigh"]


def __dir__() -> list[str]:
    return __all__


Result = TypeVar("Result")

_LARGE = 512  # from this order on NumPy's eigenvectors take long enough to notice
_LONG = 2e9  # and other work from so many operations on


def eigh(matrix: npt.NDArray[Any]) -> tuple[Array, Array]:
    """`numpy.linalg.eigh` of one matrix in float64: large ones by the engine, which can be stopped.

    Parameters
    ----------
    matrix : (n, n) array

    Returns
    -------
    values : (n,) float64 array
    vectors : (n, n) float64 array
        As columns.

    Raises
    ------
    FloatingPointError
        If a number of a large matrix is not finite.
    """
    if len(matrix) < _LARGE:
        values, vectors = np.linalg.eigh(matrix.astype(np.float64, copy=False))
        return values, vectors
    # Both read the same triangle: the engine takes the upper one.
    rows: Array = np.array(matrix.T, np.float64, order="C")
    found: Array = np.empty(len(rows))
    _core.symmetric_eigen(rows, found)
    return found, rows.T


def aside(operations: float, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function; where that is long, on a thread of its own, which Ctrl-C abandons.

    Parameters
    ----------
    operations : float
        What the call takes, about.
    function : callable
        Of NumPy's alone, and without effects: an abandoned one goes on until it is done.
    *arguments : object
        Of the function.

    Returns
    -------
    object
        What the function returned.
    """
    if operations < _LONG or threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    results: list[Result] = []
    errors: list[BaseException] = []
    lock, left = threading.Lock(), False

    def work() -> None:
        try:
            results.append(function(*arguments))
        except BaseException as error:  # the caller's now
            errors.append(error)
        with lock:
            if left:
                _core.leave_running(-1)

    thread = threading.Thread(target=work, name="swiftnets.aside", daemon=True)
    thread.start()
    try:
        while thread.is_alive():  # the other thread may be the one that the signal comes to
            thread.join(0.05)
    finally:
        with lock:
            if not (results or errors):
                left = True
                _core.leave_running(1)
    if errors:
        raise errors[0]
    return results[0]
