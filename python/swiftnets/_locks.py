"""A lock for objects that threads share, which forks and signal handlers cannot jam.

Nothing here is public.
"""

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
    that calls for what its own thread is at work on would wait for itself: it gets a RuntimeError,
    unless the lock is `nested` and lets its own thread in again, as callbacks of long runs need.
    """

    def __init__(self, what: str, *, nested: bool = False) -> None:
        self._what, self._nested = what, nested
        self._renew()

    def _renew(self) -> None:
        # One that its own thread may take again: `_depth` tells what must not be. A signal may come
        # between taking a lock and noting who has it.
        self._lock = threading.RLock()
        self._depth = 0
        self._generation = _generation

    def __enter__(self) -> None:
        if self._generation != _generation:
            self._renew()
        self._lock.acquire()
        if self._depth and not self._nested:
            self._lock.release()
            raise RuntimeError(
                f"{self._what} is in use by the call that this one interrupts; use another one in "
                "signal handlers"
            )
        self._depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._generation == _generation:  # else a fork came between, and the lock is another one
            self._depth -= 1
            self._lock.release()
