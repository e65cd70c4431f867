"""Long calls of linear algebra that Ctrl-C ends. Nothing here is public.

NumPy's own cannot be stopped: a signal waits until they are done, for minutes where matrices are
large.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support.types import Array

__all__ = ["aside", "eigh", "log_determinant", "qr"]


def __dir__() -> list[str]:
    return __all__


Result = TypeVar("Result")

_LARGE = 512  # from this order on NumPy's eigenvectors take long enough to notice
_LONG = 2e9  # and other work from so many operations on
_QUIET = 512  # a result of fewer numbers is one that NumPy computes without letting threads run


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
    lock, begun, left = threading.Lock(), False, False
    context = copy_context()  # `numpy.errstate`, above all

    def work() -> None:
        nonlocal begun
        with lock:
            if left:
                return
            begun = True
        try:
            results.append(context.run(function, *arguments))
        except BaseException as error:  # the caller's now
            errors.append(error)
        with lock:
            if left:
                _core.leave_running(-1)

    thread = threading.Thread(target=work, name="swiftnets.aside", daemon=True)
    try:
        try:
            thread.start()
        except RuntimeError:  # the system has no thread to give
            return function(*arguments)
        while thread.is_alive():  # the other thread may be the one that the signal comes to
            thread.join(0.01)
    finally:
        with lock:
            if not (results or errors):
                left = True
                if begun:
                    _core.leave_running(1)
    if errors:
        raise errors[0]
    return results[0]


def qr(matrix: Array) -> tuple[Array, Array]:
    """`numpy.linalg.qr` of one matrix. A tall one goes by blocks of rows, which is faster as well.

    NumPy itself lets no other thread run while it factors a tall one, so that not even `aside`
    could be stopped.

    Parameters
    ----------
    matrix : (m, n) array

    Returns
    -------
    Q : (m, min(m, n)) array
    R : (min(m, n), n) array

    Notes
    -----
    By Demmel, Grigori, Hoemmen & Langou (2012), "Communication-optimal parallel and sequential QR
    and LU factorizations".
    """
    # Thin ones take longer than their operations: LAPACK goes through them column by column.
    operations = 16.0 * matrix.size * min(matrix.shape)
    if operations < _LONG:
        q, r = np.linalg.qr(matrix)
        return q, r
    return aside(operations, _qr_by_blocks, matrix)


def _qr_by_blocks(matrix: Array) -> tuple[Array, Array]:
    width = matrix.shape[1]
    rows = max(2 * width, _QUIET)
    count = len(matrix) // rows
    if width >= _QUIET or count < 2:
        q, r = np.linalg.qr(matrix)
        return q, r
    head = count * rows
    inner, triangles = np.linalg.qr(matrix[:head].reshape(count, rows, width))
    below = np.concatenate([triangles.reshape(-1, width), matrix[head:]])
    outer, triangle = _qr_by_blocks(below)
    turns = outer[: count * width].reshape(count, width, width)
    q = np.concatenate([(inner @ turns).reshape(head, width), outer[count * width :]])
    return q, triangle


def log_determinant(matrix: Array) -> float:
    """ln|det| of a square matrix, −inf where it is singular.

    Parameters
    ----------
    matrix : (n, n) array

    Returns
    -------
    float
    """
    operations = 4 / 3 * len(matrix) ** 3
    if operations < _LONG:
        return float(np.linalg.slogdet(matrix)[1])
    # NumPy lets no other thread run in `slogdet`.
    triangle: Any = aside(operations, np.linalg.qr, matrix, "r")
    with np.errstate(divide="ignore"):
        return float(np.log(np.abs(triangle.diagonal())).sum())
