"""Checkpoints of `fit`: a run as it was after some iteration, and how to go on from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.checkpoints import (
    Settings,
    read_archive,
    require_left,
    require_settings,
    write_archive,
)
from swiftnets._support.checks import Array
from swiftnets._support.files import File, writable
from swiftnets.originals.history import CorrectCount, rows_of

__all__ = ["Checkpoint", "Length", "start_of", "start_weights"]


def __dir__() -> list[str]:
    return __all__


_FORMAT, _VERSION = "swiftnets checkpoint", 2


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run as it was after some iteration."""

    settings: Settings
    weights: tuple[Array, ...]
    errs: Array
    correct_counts: list[CorrectCount]
    seconds: Array

    def write(self, path: Path) -> None:
        """Replace the file by this checkpoint, as a whole.

        Parameters
        ----------
        path : Path
            As `swiftnets._support.files.writable` returns it.
        """
        arrays: dict[str, npt.NDArray[Any]] = {
            "errs": self.errs,
            "corrects": rows_of(self.correct_counts),  # the name since the first of these files
            "seconds": self.seconds,
            **{f"w{i}": w for i, w in enumerate(self.weights)},
        }
        write_archive(path, _FORMAT, _VERSION, self.settings, arrays)

    @staticmethod
    def read(path: Path) -> Checkpoint | None:
        """Read a file.

        Parameters
        ----------
        path : Path

        Returns
        -------
        Checkpoint or None
            None if there is no such file.

        Raises
        ------
        CheckpointError
            If the file is damaged, no checkpoint, or of another version.
        """
        return read_archive(path, _FORMAT, _VERSION, Checkpoint._of)

    @staticmethod
    def _of(settings: Settings, arrays: dict[str, npt.NDArray[Any]]) -> Checkpoint:
        errs, corrects, seconds = (arrays.pop(name) for name in ("errs", "corrects", "seconds"))
        weights = tuple(np.ascontiguousarray(arrays[f"w{i}"]) for i in range(len(arrays)))
        sizes = settings["sizes"]
        shapes = [w.shape for w in weights]
        if shapes != list(zip(sizes, sizes[1:], strict=False)):
            raise ValueError(f"its weights have shapes {shapes}, and its net sizes {sizes}")
        for floats in (errs, seconds, *weights):
            if floats.dtype != np.float64 or not np.isfinite(floats).all():
                raise ValueError("an array does not hold finite float64 numbers")
        if corrects.ndim != 2 or corrects.shape[1] != 3 or corrects.dtype != np.int64:
            raise ValueError(f"corrects has shape {corrects.shape} and dtype {corrects.dtype}")
        if errs.ndim != 1 or errs.shape != seconds.shape:
            raise ValueError(f"errs has shape {errs.shape} and seconds {seconds.shape}")
        checks.integer(settings["seed"], "seed", 0, 2**32 - 1)
        counts = [CorrectCount(*map(int, row)) for row in corrects]
        return Checkpoint(settings, weights, errs, counts, seconds)

    @property
    def seed(self) -> int:
        """What the run's net was drawn with."""
        return checks.integer(self.settings["seed"], "seed", 0, 2**32 - 1)

    def require(self, path: Path, settings: Settings, iterations: int) -> None:
        """Refuse a run that does not go on where the checkpoint stopped.

        Parameters
        ----------
        path : Path
            For the message.
        settings : dict
            Of the run that is to go on.
        iterations : int
            How long that run is to be.

        Raises
        ------
        CheckpointError
            If a setting differs (the message says which), or the checkpoint is further on.
        """
        require_settings(path, self.settings, settings)
        require_left(path, len(self.errs), iterations, "iteration")


class Length(NamedTuple):
    """How long a run is, and where and how often it is saved; checked."""

    batches: int
    iterations: int
    checkpoint: Path | None
    checkpoint_every: int

    @staticmethod
    def of(
        batches: int,
        epochs: int,
        iterations: int | None,
        checkpoint: File | None,
        checkpoint_every: int | None,
    ) -> Length:
        """Check the arguments of `fit`.

        Parameters
        ----------
        batches : int
            In an epoch.
        epochs : int
        iterations : int or None
            At most so many in all.
        checkpoint : path or None
        checkpoint_every : int or None
            Iterations; None: once an epoch.

        Returns
        -------
        Length

        Raises
        ------
        ValueError
            If a number is out of its range.
        TypeError
            If an argument is of a wrong type.
        OSError
            If the checkpoint could not be written.
        """
        total = checks.integer(epochs, "epochs") * batches
        if iterations is not None:
            total = min(total, checks.integer(iterations, "iterations"))
        path = None if checkpoint is None else writable(checkpoint, "checkpoint")
        every = batches
        if checkpoint_every is not None:
            every = checks.integer(checkpoint_every, "checkpoint_every")
        return Length(batches, total, path, every)


def start_of(checkpoint: File | None) -> Checkpoint | None:
    """Read what a run goes on from.

    Parameters
    ----------
    checkpoint : path or None

    Returns
    -------
    Checkpoint or None
        None if there is no such file.

    Raises
    ------
    CheckpointError
        If the file is damaged, no checkpoint, or of another version.
    OSError
        If there is no place for such a file.
    """
    return None if checkpoint is None else Checkpoint.read(writable(checkpoint, "checkpoint"))


def start_weights(start: Checkpoint | None, weights: tuple[Array, ...], given: bool) -> Any:
    """Return what a run's settings say of the weights that it starts with: their hash.

    Weights that were given must be those of the checkpoint's start; any others make way for what it
    holds.

    Parameters
    ----------
    start : Checkpoint or None
        What the run goes on from.
    weights : tuple of arrays
        Of the net as it is.
    given : bool
        Whether the user gave them.

    Returns
    -------
    str
    """
    if start is None or given:
        return identity.digest(weights)
    return start.settings.get("weights")
