"""How many threads one call of the engine uses: the user's to say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from swiftnets import _core
from swiftnets._support import checks

__all__ = ["get_threads", "set_threads", "threads"]

_MOST = 64


def __dir__() -> list[str]:
    return __all__


def get_threads() -> int:
    """How many threads one call uses.

    By default as many as the processors that the process may run on, or what the environment
    variable ``SWIFTNETS_NUM_THREADS`` said when the engine was loaded.

    Returns
    -------
    int

    Examples
    --------
    >>> import swiftnets
    >>> swiftnets.get_threads() >= 1
    True
    """
    return _core.get_threads()


def set_threads(count: int) -> None:
    """Let each call from now on use this many threads.

    The count is the process's: it holds for calls of all Python threads. The same count gives the
    same bits; another count may round sums differently.

    Parameters
    ----------
    count : int
        From 1 to 64.

    Raises
    ------
    TypeError, ValueError
        If it is not such a number.

    Examples
    --------
    >>> import swiftnets
    >>> before = swiftnets.get_threads()
    >>> swiftnets.set_threads(1)
    >>> swiftnets.get_threads()
    1
    >>> swiftnets.set_threads(before)
    """
    _core.set_threads(checks.integer(count, "count", 1, _MOST))


def threads(count: int) -> AbstractContextManager[None]:
    """As `set_threads` inside a ``with`` block, and as before after it.

    The count is the process's: blocks of several Python threads at once see each other's.

    Parameters
    ----------
    count : int
        From 1 to 64.

    Returns
    -------
    context manager

    Raises
    ------
    TypeError, ValueError
        If it is not such a number.

    Examples
    --------
    >>> import swiftnets
    >>> with swiftnets.threads(1):
    ...     swiftnets.get_threads()
    1
    """
    return _while_in_use(checks.integer(count, "count", 1, _MOST))


@contextmanager
def _while_in_use(count: int) -> Iterator[None]:
    before = get_threads()
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)
