"""The loop of `fit`, which both nets share: steps, counts, callbacks, checkpoints, progress."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from swiftnets._support import checks
from swiftnets._support.checkpoints import Settings
from swiftnets._support.checks import Array
from swiftnets._support.progress import Progress
from swiftnets.originals.checkpoint import Checkpoint, Length
from swiftnets.originals.history import CorrectCount, FitEvent, FitHistory

__all__ = ["Run"]


def __dir__() -> list[str]:
    return __all__


ReportT = TypeVar("ReportT")


def _never(it: int) -> bool:
    return False


@dataclass
class Run(Generic[ReportT]):
    """One call of `fit`; what the nets do differently comes as functions."""

    length: Length
    step: Callable[[int], tuple[float, ReportT]]
    """From the position in the epoch to the error of that training batch and the step's report."""
    count: Callable[[], tuple[int, int]]
    """How many test samples are classified correctly, and how many there are."""
    weights: Callable[[], tuple[Array, ...]]
    restore: Callable[[tuple[Array, ...]], None]
    """Sets weights that `weights` returned, now or in an earlier process."""
    counts_before: Callable[[int], bool] = field(default_factory=lambda: _never)
    """Whether to count before the step at a position in the epoch."""
    counts_after: Callable[[int], bool] = field(default_factory=lambda: _never)
    settings: Settings = field(default_factory=dict)
    """What distinguishes this run from others, for the checkpoint."""

    def go(
        self,
        start: Checkpoint | None,
        callback: Callable[[FitEvent[ReportT]], object] | None,
        progress: bool,
    ) -> FitHistory:
        """Iterate from `start`, or from the beginning, to the end.

        Parameters
        ----------
        start : Checkpoint or None
            Read from the file that this run is saved in.
        callback : callable or None
            Called with a `FitEvent` after every iteration; a true result ends the run.
        progress : bool
            Show progress on standard error.

        Returns
        -------
        FitHistory
            Of the whole run.

        Raises
        ------
        TypeError
            If `callback` cannot be called, or `progress` is neither True nor False.
        CheckpointError
            If `start` is of another run.
        """
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is {callback!r}; expected a function of one event")
        progress = checks.flag(progress, "progress")
        batches, iterations, path, every = self.length
        errs, seconds, counts = array("d"), array("d"), list[CorrectCount]()
        if start is not None and path is not None:
            start.require(path, self.settings, iterations)
            self.restore(start.weights)
            errs.frombytes(start.errs.tobytes())
            seconds.frombytes(start.seconds.tobytes())
            counts += start.correct_counts
        # What a checkpoint holds, replaced as a whole at the end of an iteration: an interrupt may
        # come between any two lines, and what an unfinished iteration left is then cut off.
        state = saved = (len(errs), len(counts), self.weights())
        origin = time.perf_counter() - (seconds[-1] if seconds else 0.0)

        def history() -> FitHistory:
            done, counted, _ = state
            return FitHistory(np.array(errs[:done]), counts[:counted], np.array(seconds[:done]))

        def save() -> None:
            nonlocal saved
            if path is not None and state is not saved:
                now, past = state, history()
                Checkpoint(
                    self.settings, now[2], past.errs, past.correct_counts, past.seconds
                ).write(path)
                saved = now

        iteration = len(errs)
        bar = Progress(iteration, iterations, shown=progress)
        try:
            for iteration in range(len(errs), iterations):
                epoch, it = divmod(iteration, batches)
                counted = None
                if self.counts_before(it):
                    counted = CorrectCount(iteration + 1, *self.count())
                err, report = self.step(it)
                if self.counts_after(it):
                    counted = CorrectCount(iteration + 1, *self.count())
                if counted is not None:
                    counts.append(counted)
                errs.append(err)
                seconds.append(time.perf_counter() - origin)
                state = (iteration + 1, len(counts), self.weights())
                bar.step(err)
                if callback is not None and callback(
                    FitEvent(epoch, it, iteration, err, counted, report)
                ):
                    break
                if (iteration + 1) % every == 0:
                    save()
        except BaseException as error:
            self.restore(state[2])
            if isinstance(error, ArithmeticError):
                error.add_note(f"It was in iteration {iteration}, batch {iteration % batches}.")
            raise
        finally:
            bar.close()
            save()
        return history()
