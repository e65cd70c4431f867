"""What a run of `fit` measures: its history, its events, its counts of correct answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checks import Array
from swiftnets._support.files import File, write_npz

__all__ = ["CorrectCount", "FitEvent", "FitHistory", "rows_of", "save"]


def __dir__() -> list[str]:
    return __all__


ReportT = TypeVar("ReportT")


class CorrectCount(NamedTuple):
    """How many test samples were classified correctly, at one moment of a run."""

    iteration: int
    """Errors in the history by then; slow_net counts between an error and its step."""
    correct: int
    total: int


class FitEvent(NamedTuple, Generic[ReportT]):
    """One iteration that has ended, as `fit` passes it to its callback."""

    epoch: int
    """From 0."""
    batch: int
    """Position in the epoch, from 0: what the original scripts print as ``it``."""
    iteration: int
    """Over all epochs, from 0."""
    err: float
    """Error of the iteration's training batch, before its step."""
    correct_count: CorrectCount | None
    """Where the test samples were counted in this iteration."""
    report: ReportT
    """What the step returned."""


@dataclass(frozen=True, eq=False)
class FitHistory:
    """What a run measured, parts before a resumption included."""

    errs: Array
    """(iterations,): error of each iteration's training batch, before its step."""
    correct_counts: list[CorrectCount]
    """Counts over the test samples, in order."""
    seconds: Array
    """(iterations,): seconds of training until the end of each iteration."""

    def __repr__(self) -> str:
        """Show iterations, seconds, first and last error, and the last count."""
        if not len(self.errs):
            return "FitHistory(no iterations)"
        counted = ""
        if self.correct_counts:
            last = self.correct_counts[-1]
            counted = f", {last.correct} of {last.total} correct"
        done = checks.counted(len(self.errs), "iteration")
        return (
            f"FitHistory({done} in {self.seconds[-1]:.3g} s, "
            f"err {self.errs[0]:.6g} to {self.errs[-1]:.6g}{counted})"
        )


def save(file: File, history: FitHistory, seed: int, **weights: Array) -> None:
    """Write what a run ended with: weights, errs, counts, the seed.

    The counts are named ``corrects``, after the lines that the scripts print.

    Parameters
    ----------
    file : path
        An ``.npz`` file, written whole or not at all.
    history : FitHistory
        Its counts become (m, 3) integers.
    seed : int
    **weights : arrays
        By the names that they get in the file.
    """
    arrays = {
        **weights,
        "errs": history.errs,
        "corrects": rows_of(history.correct_counts),
        "seed": np.array(seed),
    }
    write_npz(file, arrays)


def rows_of(counts: Sequence[CorrectCount]) -> npt.NDArray[np.int64]:
    """Return counts as the rows of an array.

    Parameters
    ----------
    counts : sequence of CorrectCount

    Returns
    -------
    (m, 3) int64 array
    """
    return np.array(counts, np.int64).reshape(-1, 3)
