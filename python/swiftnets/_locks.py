"""A lock for objects that threads share, which forks and signal handlers cannot jam. Nothing here is public."""

from __future__ import annotations

import os
import threading
from types import TracebackType

_generation = 0


def _count_fork() -> None:
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_count_fork)


class Lock:
    """Lets one thread at a time through.

    In the child of a fork it is free, whoever had it: that thread is not there. A signal handler
    that calls for what its own thread is at work on would wait for itself: it gets a RuntimeError.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._generation = _generation

    def __enter__(self) -> None:
        if self._generation != _generation:
            self._renew()
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError(
                f"{self._what} is in use by the call that this one interrupts; use another one in "
                "signal handlers"
            )
        self._lock.acquire()
        self._owner = me

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A fork may have come between: the lock that was taken is gone, another thread may have this.
        if self._generation == _generation and self._owner == threading.get_ident():
            self._owner = None
            self._lock.release()
