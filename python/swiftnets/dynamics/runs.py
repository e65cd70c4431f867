"""Runs of many steps: with checkpoints, progress, and an end on Ctrl-C that loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.checkpoints import (
    CheckpointError,
    Settings,
    read_archive,
    require_left,
    require_settings,
    write_archive,
)
from swiftnets._support.files import File, writable
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array

__all__ = ["State", "go", "kept", "kept_memory", "stacked", "thinned"]


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


def go(
    state: StateT,
    steps: int,
    step: Callable[[StateT], StateT],
    *,
    settings: Mapping[str, Any],
    restored: Callable[[int, dict[str, Any]], StateT],
    differs: Callable[[StateT], str] | None = None,
    checkpoint: File | None,
    checkpoint_every: int,
    callback: Callable[[StateT], object] | None = None,
    progress: bool,
    number: Callable[[StateT], float | None],
    name: str,
) -> StateT:
    """Step until there are so many steps behind, or the callback returns something true.

    Parameters
    ----------
    state : State
        Where the run begins, unless there is a checkpoint of it.
    steps : int
    step : callable
        From one state to the next.
    settings : mapping
        What tells the run from others, as `swiftnets._support.identity` takes it.
    restored : callable
        A state by its count and arrays; whatever is wrong with them is an error.
    differs : callable, optional
        What else tells that a state read is of another run, in words; empty if nothing does.
    checkpoint : path, optional
        Written when it is due, at the end, and when something ends the run before.
    checkpoint_every : int
        Steps from one writing to the next.
    callback : callable, optional
    progress : bool
    number : callable
        What a bar shows of a state, under this `name`.
    name : str

    Returns
    -------
    State

    Raises
    ------
    CheckpointError
        If the file is damaged, of another run, or of more steps than these.
    """
    show = checks.flag(progress, "progress")
    every = checks.integer(checkpoint_every, "checkpoint_every")
    saved = None
    if checkpoint is not None:
        saved = _Saved(writable(checkpoint, "checkpoint"), identity.settings(dict(settings)))
        state = saved.read(steps, restored, differs) or state
    bar = Progress(state.count, steps, name, "step", shown=show)
    written = state.count
    try:
        while state.count < steps:
            state = step(state)
            if show:
                bar.step(number(state))
            if callback is not None and callback(state):
                break
            if saved is not None and state.count % every == 0:
                saved.write(state)
                written = state.count
    finally:
        bar.close()
        if saved is not None and state.count > written:
            saved.write(state)
    return state


class _Saved(NamedTuple):
    """A checkpoint file of one run."""

    path: Path
    settings: Settings

    def read(
        self,
        steps: int,
        restored: Callable[[int, dict[str, Any]], StateT],
        differs: Callable[[StateT], str] | None,
    ) -> StateT | None:
        """The run as it was written; None if there is no such file."""

        def of(settings: Settings, arrays: dict[str, Any]) -> tuple[Settings, StateT | None]:
            if settings != self.settings:
                return settings, None
            return settings, restored(int(arrays.pop("count")), arrays)

        found = read_archive(self.path, _FORMAT, _VERSION, of)
        if found is None:
            return None
        there, state = found
        require_settings(self.path, there, self.settings)
        if state is None:
            raise CheckpointError(f"checkpoint: {self.path} is of another run")
        if differs is not None and (why := differs(state)):
            raise CheckpointError(f"checkpoint: {self.path} is of another run: {why}")
        require_left(self.path, state.count, steps, "step")
        return state

    def write(self, state: State) -> None:
        """Write a run, in place of what is there."""
        arrays = {"count": np.array(state.count), **state.arrays()}
        write_archive(self.path, _FORMAT, _VERSION, self.settings, arrays)


def kept(
    arrays: Mapping[str, Any],
    name: str,
    *shape: int | None,
    dtype: npt.DTypeLike = np.float64,
    is_finite: bool = True,
) -> npt.NDArray[Any]:
    """An array as a checkpoint has it.

    Parameters
    ----------
    arrays : mapping
    name : str
    *shape : int or None
        None: any length.
    dtype : dtype
    is_finite : bool
        Whether it must be.

    Returns
    -------
    array
        C-contiguous.

    Raises
    ------
    ValueError
        If it is another.
    """
    found = arrays[name]
    lengths = zip(found.shape, shape, strict=False)
    fits = found.ndim == len(shape) and all(want in (None, have) for have, want in lengths)
    if found.dtype != dtype or not fits:
        raise ValueError(f"{name} is of dtype {found.dtype} and shape {found.shape}")
    if is_finite and not np.isfinite(found).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return np.asarray(found, order="C")


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
