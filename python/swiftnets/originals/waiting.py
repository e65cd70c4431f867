"""How far an original script is that is waited for, and how long it will take."""

from __future__ import annotations

import statistics
import time
from typing import Any

__all__ = ["Waiting"]


def __dir__() -> list[str]:
    return __all__


_PAUSE = 30.0  # seconds from one line to the next where lines stay


class Waiting:
    """Called while an original is waited for: says what it does, on a stream.

    On a terminal it is one line, which is rewritten; in a file lines stay, so they come seldom.

    Parameters
    ----------
    stream : text file
    total : int
        Iterations.
    """

    def __init__(self, stream: Any, total: int) -> None:
        self._stream, self._total = stream, total
        self._terminal: bool = stream.isatty()
        self._taken: list[float] = []
        self._iteration = -1
        self._since = self._said = time.monotonic()
        self._shown = False

    def __call__(self, name: str, iteration: int, seconds: float) -> None:
        """The script has taken so many seconds for this iteration.

        Parameters
        ----------
        name : str
        iteration : int
        seconds : float
        """
        now = time.monotonic()
        if iteration != self._iteration:
            begun = now - seconds
            # All from its start to that of this one; the first counts what the script reads.
            done = iteration - max(self._iteration, 0)
            if self._iteration >= 0 and done > 0:
                self._taken += [(begun - self._since) / done] * done
            self._iteration, self._since = iteration, begun
        if not self._terminal and now - self._said < _PAUSE:
            return
        self._said = now
        text = (
            f"{name}: iteration {iteration} of {self._total}, {seconds:.0f} s, "
            f"{self._left(seconds)}"
        )
        if self._terminal:
            print(f"\r{text}\x1b[K", end="", file=self._stream, flush=True)
            self._shown = True
        else:
            print(text, file=self._stream, flush=True)

    def _left(self, seconds: float) -> str:
        """An estimate, by the median of the iterations so far."""
        if not self._taken:
            return "no estimate yet"
        each = statistics.median(self._taken)
        more = max(each - seconds, 0.0) + each * (self._total - self._iteration)
        return f"about {_duration(more)} left"

    def clear(self) -> None:
        """Take the line away, for another."""
        if self._shown:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._shown = False


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
