"""Runs of many steps: with checkpoints, progress, and an end on Ctrl-C that loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.checkpoints import (
    CheckpointError,
    Settings,
    read_archive,
    require_settings,
    write_archive,
)
from swiftnets._support.files import File, writable
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array

__all__ = ["Saved", "State", "go", "kept_memory", "stacked", "thinned"]


def __dir__() -> list[str]:
    return __all__


_FORMAT, _VERSION = "swiftnets dynamics checkpoint", 1


class State(Protocol):
    """A run between two steps; never changed, but followed by another."""

    @property
    def count(self) -> int:
        """Steps that are made."""

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """What brings it back, to the last bit."""


StateT = TypeVar("StateT", bound=State)


class Saved:
    """A checkpoint file of one run.

    Parameters
    ----------
    file : path
    every : int
        Steps from one writing to the next.
    settings : mapping
        What tells the run from others, as `swiftnets._support.identity` takes it.
    """

    def __init__(self, file: File, every: int, settings: Mapping[str, Any]) -> None:
        self._path: Path = writable(file, "checkpoint")
        self._every = checks.integer(every, "checkpoint_every")
        self._settings: Settings = identity.settings(dict(settings))

    def read(self, steps: int, restored: Callable[[int, dict[str, Any]], StateT]) -> StateT | None:
        """The run as it was written; None if there is no such file.

        Parameters
        ----------
        steps : int
            Asked for in all.
        restored : callable
            Of the count of steps and the arrays; whatever is wrong with them is an error.

        Returns
        -------
        State or None

        Raises
        ------
        CheckpointError
            If the file is damaged, of another run, or of more steps than these.
        """

        def of(settings: Settings, arrays: dict[str, Any]) -> tuple[Settings, StateT | None]:
            if settings != self._settings:
                return settings, None
            return settings, restored(int(arrays.pop("count")), arrays)

        found = read_archive(self._path, _FORMAT, _VERSION, of)
        if found is None:
            return None
        there, state = found
        require_settings(self._path, there, self._settings)
        if state is None:
            raise CheckpointError(f"checkpoint: {self._path} is of another run")
        if state.count > steps:
            raise CheckpointError(
                f"checkpoint: {self._path} has {checks.counted(state.count, 'step')} behind it, "
                f"more than the {steps} asked for"
            )
        return state

    def is_due(self, count: int) -> bool:
        """Whether to write after so many steps."""
        return count % self._every == 0

    def write(self, state: State) -> None:
        """Write a run, in place of what is there."""
        arrays = {"count": np.array(state.count), **state.arrays()}
        write_archive(self._path, _FORMAT, _VERSION, self._settings, arrays)


def go(
    state: StateT,
    steps: int,
    step: Callable[[StateT], StateT],
    *,
    saved: Saved | None,
    callback: Callable[[StateT], object] | None,
    progress: bool,
    number: Callable[[StateT], float],
    name: str,
) -> StateT:
    """Step until there are so many steps behind, or the callback returns something true.

    Parameters
    ----------
    state : State
    steps : int
    step : callable
        From one state to the next.
    saved : Saved, optional
        Written when it is due, at the end, and when something ends the run before.
    callback : callable, optional
    progress : bool
    number : callable
        What a bar shows of a state, under this `name`.
    name : str

    Returns
    -------
    State
    """
    bar = Progress(state.count, steps, name, "step") if progress else None
    written = state.count
    try:
        while state.count < steps:
            state = step(state)
            if bar is not None:
                bar.step(number(state))
            if callback is not None and callback(state):
                break
            if saved is not None and saved.is_due(state.count):
                saved.write(state)
                written = state.count
    finally:
        if bar is not None:
            bar.close()
        if saved is not None and state.count > written:
            saved.write(state)
    return state


def thinned(count: int, every: int | None) -> bool:
    """Whether the parameters after so many steps are kept, beside the last.

    Parameters
    ----------
    count : int
    every : int, optional
        None: the first alone.

    Returns
    -------
    bool
    """
    return count == 0 or (every is not None and count % every == 0)


def kept_memory(order: int, every: int | None, steps: int) -> None:
    """A MemoryError if what is kept of a path would not fit.

    Parameters
    ----------
    order : int
    every : int, optional
    steps : int
    """
    count = 2 + (steps // every if every is not None else 0)
    checks.memory(2 * 8 * order * count, f"{checks.counted(count, 'point')} of the path")


def stacked(path: list[Array], order: int) -> Array:
    """The points of a path as rows."""
    return np.array(path, np.float64).reshape(len(path), order)
