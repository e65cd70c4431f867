"""How far a run is, on standard error, which may be lost: a bar, or lines."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Self

from swiftnets._support.streams import StandardError


def report(line: str) -> None:
    """Write a line on standard error, if that takes one."""
    print(line, file=StandardError())


class Progress:
    """How far a run is: tqdm's bar where that is installed, else a line.

    Parameters
    ----------
    done, total : int
        Steps that were made before, and all that there are.
    name : str
        Of the number that `step` is given.
    unit : str
        What one step is called.
    shown : bool
        Whether it is wanted; else nothing here does anything.
    """

    def __init__(
        self, done: int, total: int, name: str = "err", unit: str = "iteration", *, shown: bool
    ) -> None:
        self._shown = shown
        if not shown:
            return
        self._name, self._unit = name, unit
        self._first, self._done, self._total = done, done, total
        self._started = self._said = time.monotonic()
        self._stream = StandardError()
        self._terminal = self._stream.isatty()
        self._bar: Any = None
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            short = "it" if unit == "iteration" else unit
            self._bar = tqdm(total=total, initial=done, unit=short, file=self._stream)
        # On a terminal the line is rewritten; in a file lines stay, so they come seldom.
        self._pause = 0.2 if self._bar is not None or self._terminal else 10.0

    def step(self, number: float | None = None, steps: int = 1) -> None:
        """Steps were made, and this is what the last one gave, if that is a number."""
        if not self._shown:
            return
        self._done += steps
        if self._bar is not None:
            self._bar.update(steps)
        now = time.monotonic()
        if now - self._said < self._pause and self._done < self._total:
            return
        self._said = now
        value = "" if number is None else f"{self._name} {number:.6g}"
        if self._bar is not None:
            self._bar.set_postfix_str(value, refresh=False)
            return
        left = (now - self._started) / (self._done - self._first) * (self._total - self._done)
        parts = [f"{self._unit} {self._done} of {self._total}", value, f"{left:.0f} s left"]
        text = ", ".join(part for part in parts if part)
        if self._terminal:
            print(f"\r{text}\x1b[K", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """End the bar or the line."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.close()
        elif self._terminal:
            print(file=self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
