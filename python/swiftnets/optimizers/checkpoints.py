"""Checkpoints of runs: what they hold, and what tells one run from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import identity
from swiftnets._support.checkpoints import (
    CheckpointError,
    read_archive,
    require_left,
    require_settings,
    write_archive,
)
from swiftnets._support.types import FloatArray
from swiftnets.linalg.scaling import norm
from swiftnets.optimizers.history import History, State
from swiftnets.problems import Counted, Minibatches, Problem
from swiftnets.problems.counted import uncounted

if TYPE_CHECKING:
    from swiftnets.optimizers.base import Optimizer

__all__ = [
    "COLUMNS",
    "Best",
    "Identity",
    "RunState",
    "fingerprint",
    "misfit",
    "read_run",
    "write_run",
]


def __dir__() -> list[str]:
    return __all__


COLUMNS = ("loss", "gradient_norm", "seconds", "cost", "accepted")
_FORMAT, _VERSION = "swiftnets optimizer checkpoint", 6


@dataclass(frozen=True, eq=False)
class Best:
    """Where the loss that a run looks at was least so far."""

    value: float
    iteration: int
    since: int
    """Looks since then."""
    w: FloatArray | None
    """None where it is not kept, and no state then."""
    state: State
    first: float
    """What the loss was where the run started."""


@dataclass(frozen=True, eq=False)
class RunState:
    """A run between two steps: what a checkpoint holds."""

    w: FloatArray
    state: State
    columns: dict[str, list[float]]
    count: int
    """Entries of the columns that count: an interrupt may leave more."""
    best: Best | None = None

    def history(self) -> History:
        """The columns as they are shown."""
        columns = {
            name: np.array(values[: self.count] + [np.nan] * (self.count - len(values)))
            for name, values in self.columns.items()
        }
        loss, norm, seconds, cost, accepted = (columns.pop(name) for name in COLUMNS)
        return History(loss, norm, seconds, cost, accepted.astype(bool), columns)

    def last(self, name: str) -> float:
        """The last entry of a column; 0 before the first step."""
        return self.columns[name][self.count - 1] if self.count else 0.0


@dataclass(frozen=True, eq=False)
class Identity:
    """What tells a run from others: see `swiftnets._support.identity`.

    Attributes
    ----------
    settings : dict
        The optimiser's and the problem's, data included, and a hash of where the run starts.
    start : (3,) float64 array, or (0,)
        For a problem without settings: its `fingerprint` there.
    """

    settings: dict[str, Any]
    start: npt.NDArray[np.float64]

    @staticmethod
    def of(
        optimizer: Optimizer, problem: Problem | Minibatches, w: FloatArray, **more: object
    ) -> Identity:
        """Of a run from w, with `more` settings."""
        problem = uncounted(problem)
        keyed = {
            "optimizer": optimizer,
            "problem": problem,
            "parameters": problem.parameter_count,
            "dtype": problem.dtype.name,
            "w": w,
            **more,
        }
        start = np.empty(0)
        is_loaded = isinstance(problem, Minibatches) and problem.is_loaded
        if is_loaded or not identity.is_known(problem):  # a loader has no settings of its samples
            full = problem.full if isinstance(problem, Minibatches) else problem
            start = fingerprint(Counted(full), w)
        return Identity(identity.settings(keyed), start)

    def require(self, path: Path, there: Identity, argument: str = "checkpoint") -> None:
        """A CheckpointError that says what differs in the run of a file given as `argument`."""
        require_settings(path, there.settings, self.settings, argument)
        # Not to the bit: another machine, or other threads, round otherwise, in float32 at that.
        if there.start.shape != self.start.shape or not np.allclose(
            there.start, self.start, 1e-5, 0, equal_nan=True
        ):
            raise CheckpointError(
                f"{argument}: {path} is of another run: problem: other data, as its loss or "
                "gradient at the start tells"
            )


def fingerprint(problem: Problem, w: FloatArray) -> npt.NDArray[np.float64]:
    """Numbers that hardly agree for other data or another start; NaN where they overflow."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            loss, gradient = problem.loss_and_gradient(w)
            return np.array([loss, norm(gradient), norm(w)])
    except FloatingPointError:
        return np.array([np.nan, np.nan, norm(w)])


# Files --------------------------------------------------------------------------------------------


def write_run(path: Path, run: Identity, now: RunState) -> None:
    """Write a run as it is after a step."""
    history = now.history()
    arrays: dict[str, npt.NDArray[Any]] = {"start": run.start, "w": now.w}
    arrays |= {name: getattr(history, name) for name in COLUMNS}
    arrays |= {f"info {name}": values for name, values in history.info.items()}
    arrays |= {f"state {name}": values for name, values in now.state.items()}
    if (best := now.best) is not None:
        arrays["best"] = np.array([best.value, best.iteration, best.since, best.first])
        if best.w is not None:
            arrays["best w"] = best.w
            arrays |= {f"best state {name}": values for name, values in best.state.items()}
    write_archive(path, _FORMAT, _VERSION, run.settings, arrays)


def read_run(path: Path, run: Identity, iterations: int) -> RunState | None:
    """A run as it was written.

    Parameters
    ----------
    path : Path
    run : Identity
        Of the run that is to go on.
    iterations : int
        Asked for in all.

    Returns
    -------
    RunState or None
        None if there is no such file.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another run, or of more iterations than these.
    """
    read = read_archive(path, _FORMAT, _VERSION, _restored)
    if read is None:
        return None
    there, now = read
    run.require(path, there)
    require_left(path, now.count, iterations, "iteration")
    return now


def misfit(found: State, initial: State, w: FloatArray) -> str | None:
    """What of a state is not as that which a run begins with, in words.

    Parameters
    ----------
    found, initial : dict of arrays
    w : (P,) float array

    Returns
    -------
    str or None
        Without the arrays that only `found` has.
    """
    for name, values in initial.items():
        there = found.get(name)
        if there is None:
            return f"state {name!r} is missing"
        if values.ndim == 0:
            kinds = {"i": "iu", "u": "iu", "f": "iuf"}.get(values.dtype.kind, values.dtype.kind)
            fits = there.ndim == 0 and there.dtype.kind in kinds
        else:
            # What begins empty grows: by rows, or to one number for each weight.
            sizes = [(0, len(w)) if values.shape == (0,) else (size,) for size in values.shape]
            fits = there.dtype == values.dtype and there.ndim == values.ndim
            fits = fits and all(
                has in size or (values.ndim > 1 and size == (0,))
                for has, size in zip(there.shape, sizes, strict=True)
            )
        if not fits:
            expected = f"{values.dtype} of shape {values.shape}"
            if values.ndim == 0:
                expected = "an integer" if values.dtype.kind in "iu" else f"a {values.dtype}"
            return (
                f"state {name!r} is {there.dtype} of shape {there.shape}; expected {expected}, for "
                f"{len(w)} parameters"
            )
    return None


def _restored(settings: dict[str, Any], arrays: dict[str, Any]) -> tuple[Identity, RunState]:
    """What `write_run` was given; whatever is wrong is an error that the caller explains."""
    w, start = np.ascontiguousarray(arrays.pop("w")), arrays.pop("start")
    if w.shape != (settings["parameters"],) or w.dtype.name != settings["dtype"]:
        raise ValueError(f"w has shape {w.shape} and dtype {w.dtype}")
    if start.dtype != np.float64:
        raise ValueError(f"start has dtype {start.dtype}")
    columns = {name: arrays.pop(name).astype(float).tolist() for name in COLUMNS}
    best = _best(arrays, w)
    state: State = {}
    for name, values in arrays.items():
        kind, _, own = name.partition(" ")
        if kind == "info":
            columns[own] = values.tolist()
        else:
            state[own] = values
    count = len(columns["loss"])
    if any(len(values) != count for values in columns.values()):
        raise ValueError("columns of the history differ in length")
    return Identity(settings, start), RunState(w, state, columns, count, best)


def _best(arrays: dict[str, Any], w: FloatArray) -> Best | None:
    """What a file says of the best weights, taken out of its arrays."""
    if "best" not in arrays:
        return None
    value, iteration, since, first = arrays.pop("best").tolist()
    there = arrays.pop("best w", None)
    if there is not None:
        there = np.ascontiguousarray(there)
        if there.shape != w.shape or there.dtype != w.dtype:
            raise ValueError(f"best w has shape {there.shape} and dtype {there.dtype}")
    prefix = "best state "
    names = [name for name in arrays if name.startswith(prefix)]
    state = {name.removeprefix(prefix): arrays.pop(name) for name in names}
    return Best(float(value), int(iteration), int(since), there, state, float(first))
