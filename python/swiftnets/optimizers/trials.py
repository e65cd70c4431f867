"""One run of a comparison, made or read from its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checkpoints import CheckpointError, read_archive, write_archive
from swiftnets._support.types import Array, FloatArray
from swiftnets.optimizers.base import Optimizer
from swiftnets.optimizers.checkpoints import Identity
from swiftnets.optimizers.history import Event, History
from swiftnets.optimizers.results import Run
from swiftnets.problems import Minibatches, Problem
from swiftnets.problems.computed import trial_loss

__all__ = ["Limits", "Numbers", "Trial"]


def __dir__() -> list[str]:
    return __all__


Numbers: TypeAlias = Mapping[str, float]

_UNLIMITED = 2**31 - 1
_FORMAT, _VERSION = "swiftnets comparison run", 3


@dataclass(frozen=True)
class Limits:
    """Where runs end; checked."""

    max_iterations: int | None
    time_limit: float | None
    cost_limit: float | None
    gradient_tolerance: float

    def __post_init__(self) -> None:
        if self.max_iterations is None and self.time_limit is None and self.cost_limit is None:
            raise ValueError(
                "max_iterations, time_limit and cost_limit are None; expected at least one of them"
            )
        if self.cost_limit is not None:
            checks.real(self.cost_limit, "cost_limit", positive=True)


@dataclass(frozen=True, eq=False)
class Trial:
    """A run that is to be made, or read."""

    name: str
    seed: int
    optimizer: Optimizer
    problem: Problem | Minibatches
    w: FloatArray
    limits: Limits
    evaluate: Callable[[FloatArray], Numbers] | None
    evaluate_every: int | None

    @property
    def _full(self) -> Problem:
        return self.problem.full if isinstance(self.problem, Minibatches) else self.problem

    def run(self) -> Run:
        """Make the run."""
        rows: list[tuple[int, dict[str, float]]] = []
        wanted = self.evaluate is not None or isinstance(self.problem, Minibatches)
        every = self.evaluate_every
        if every is None:
            every = self.problem.per_epoch if isinstance(self.problem, Minibatches) else 1
        if wanted:
            rows.append((0, self._numbers(self.w)))
        limit, spent = self.limits.cost_limit, False

        def callback(event: Event) -> bool:
            nonlocal spent
            if wanted and (event.iteration + 1) % every == 0:
                rows.append((event.iteration + 1, self._numbers(event.w)))
            spent = limit is not None and event.cost >= limit
            return spent

        result = self.optimizer.minimize(
            self.problem,
            self.w,
            max_iterations=_UNLIMITED
            if self.limits.max_iterations is None
            else self.limits.max_iterations,
            gradient_tolerance=self.limits.gradient_tolerance,
            time_limit=self.limits.time_limit,
            callback=callback,
        )
        status, message = str(result.status), result.message
        if spent and result.status == "callback":
            status, message = "cost", f"the cost is over the limit of {limit:g} gradients"
        count = len(result.history)
        if wanted and rows[-1][0] != count:
            rows.append((count, self._numbers(result.w)))
        loss, length = result.loss, result.gradient_norm
        return Run(
            self.name,
            self.seed,
            result.w,
            loss if np.isfinite(loss) else np.inf,
            length if np.isfinite(length) else np.inf,
            status,
            message,
            isinstance(self.problem, Minibatches),
            result.history,
            _columns(rows),
        )

    def _numbers(self, w: FloatArray) -> dict[str, float]:
        """What is evaluated at w; a loss that overflows is infinite."""
        numbers: dict[str, float] = {}
        if self.evaluate is not None:
            try:
                returned = self.evaluate(w.copy())  # theirs to change
            except FloatingPointError:
                returned = {}
            if not isinstance(returned, Mapping):
                raise TypeError(f"evaluate returned {returned!r}; expected numbers by name")
            numbers = {str(name): _number(value, name) for name, value in returned.items()}
            if "iterations" in numbers:
                raise ValueError(
                    'evaluate returned a number named "iterations"; expected another name, as that '
                    "is how many steps were made"
                )
        if isinstance(self.problem, Minibatches) and "loss" not in numbers:
            numbers["loss"] = trial_loss(self.problem.full, w)
        return numbers

    # Files

    def kept(self, file: Path) -> Run:
        """The run in this file, or one that is made and then is."""
        here = Identity.of(
            self.optimizer,
            self.problem,
            self.w,
            evaluate=self.evaluate is not None,
            evaluate_every=self.evaluate_every,
            **{one.name: getattr(self.limits, one.name) for one in fields(self.limits)},
        )
        read = read_archive(file, _FORMAT, _VERSION, self._restored, "folder")
        if read is not None:
            there, run = read
            here.require(file, there, "folder")
            self._require_numbers(file, run)
            return run
        run = self.run()
        history = run.history
        arrays: dict[str, npt.NDArray[Any]] = {"start": here.start, "w": run.w}
        arrays["end"] = np.array([run.loss, run.gradient_norm])
        for one in fields(history):
            if one.name != "info":
                arrays[f"history {one.name}"] = getattr(history, one.name)
        arrays |= {f"info {name}": values for name, values in history.info.items()}
        arrays |= {f"evaluated {name}": values for name, values in run.evaluated.items()}
        settings = {"run": here.settings, "status": run.status, "message": run.message}
        write_archive(file, _FORMAT, _VERSION, settings, arrays)
        return run

    def _require_numbers(self, file: Path, run: Run) -> None:
        """A CheckpointError if `evaluate` says something else at the start or the end."""
        if self.evaluate is None:
            return
        for place, w in ((0, self.w), (-1, run.w)):
            there = {name: float(values[place]) for name, values in run.evaluated.items()}
            steps = checks.counted(int(there.pop("iterations")), "iteration")
            here = self._numbers(w)
            for name in dict.fromkeys([*here, *there]):
                pair = there.get(name, np.nan), here.get(name, np.nan)
                # As losses of problems are compared: other machines round otherwise.
                if not np.isclose(*pair, 1e-5, 1e-12, equal_nan=True):
                    raise CheckpointError(
                        f"folder: {file} is of another run: evaluate's {name!r} after {steps} is "
                        f"{pair[0]:.6g} there and {pair[1]:.6g} here"
                    )

    def _restored(self, settings: dict[str, Any], arrays: dict[str, Any]) -> tuple[Identity, Run]:
        """What was written; whatever is wrong is an error that the caller explains."""
        start, w, (loss, length) = (arrays.pop(name) for name in ("start", "w", "end"))
        parts: dict[str, dict[str, Any]] = {"history": {}, "info": {}, "evaluated": {}}
        for name, values in arrays.items():
            kind, _, own = name.partition(" ")
            parts[kind][own] = values
        run = Run(
            self.name,
            self.seed,
            w,
            float(loss),
            float(length),
            settings["status"],
            settings["message"],
            isinstance(self.problem, Minibatches),
            History(**parts["history"], info=parts["info"]),
            parts["evaluated"],
        )
        return Identity(settings["run"], start), run


def _number(value: object, name: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # it says itself what fits
    except (TypeError, ValueError):
        raise TypeError(f"evaluate returned {name!r}: {value!r}; expected a number") from None


def _columns(rows: list[tuple[int, dict[str, float]]]) -> dict[str, Array]:
    if not rows:
        return {}
    names = dict.fromkeys(name for _, numbers in rows for name in numbers)
    columns = {name: np.array([row.get(name, np.nan) for _, row in rows]) for name in names}
    return {"iterations": np.array([count for count, _ in rows], np.float64)} | columns
