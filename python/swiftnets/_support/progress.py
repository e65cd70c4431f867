"""A progress bar on standard error."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from swiftnets._support.streams import StandardError


class Progress:
    """How far a run is, on standard error: tqdm's bar where that is installed, else a line."""

    def __init__(self, done: int, total: int, name: str = "err") -> None:
        self._name = name
        self._first, self._done, self._total = done, done, total
        self._started = self._said = time.monotonic()
        self._stream = StandardError()
        self._terminal = self._stream.isatty()
        self._bar: Any = None
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="it", file=self._stream)
        # On a terminal the line is rewritten; in a file lines stay, so they come seldom.
        self._pause = 0.2 if self._bar is not None or self._terminal else 10.0

    def step(self, err: float) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        now = time.monotonic()
        if now - self._said < self._pause and self._done < self._total:
            return
        self._said = now
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._name} {err:.6g}", refresh=False)
            return
        each = (now - self._started) / (self._done - self._first)
        text = (
            f"iteration {self._done} of {self._total}, {self._name} {err:.6g}, "
            f"{each * (self._total - self._done):.0f} s left"
        )
        if self._terminal:
            print(f"\r{text}\x1b[K", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._terminal:
            print(file=self._stream)
