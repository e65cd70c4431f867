"""What surrounds the steps of a run: how long it is, validation and the best weights so far."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from swiftnets._support import checks, identity
from swiftnets._support.files import File, writable
from swiftnets._support.types import FloatArray
from swiftnets.network import Network
from swiftnets.optimizers.checkpoints import COLUMNS, Best, RunState, misfit
from swiftnets.optimizers.history import Event, Result, State
from swiftnets.optimizers.schedules import ScheduleLike, require_rate, resolve
from swiftnets.problems import Minibatches, NetProblem, Problem
from swiftnets.problems.computed import trial_loss
from swiftnets.problems.counted import uncounted

if TYPE_CHECKING:
    from swiftnets.optimizers.base import Optimizer

__all__ = ["Callback", "Monitor", "Plan", "Validation"]


def __dir__() -> list[str]:
    return __all__


Callback: TypeAlias = Callable[[Event], object]
Validation: TypeAlias = Problem | tuple[Any, ...] | Iterable[Any] | Callable[[FloatArray], float]

_ITERATIONS = 100


class Monitor:
    """A number that should fall, looked at every so many steps.

    Parameters
    ----------
    source : Problem or callable
        Whose loss it is, or a function of w.
    name : str
        Of its column in the history.
    every : int
        Steps from one look to the next.
    keep : bool
        Whether the best weights are kept.
    patience : int or None
        Looks without a lower number after which a run ends.
    """

    def __init__(
        self,
        source: Problem | Callable[[FloatArray], float],
        name: str,
        every: int,
        keep: bool,
        patience: int | None,
    ) -> None:
        self.source, self.name, self.every = source, name, every
        self.keep, self.patience = keep, patience

    def settings(self) -> dict[str, object]:
        """What tells it from others: not the patience, which may be more the next time."""
        source: object = self.source
        try:
            source = identity.settings(source, "validation")
        except TypeError:
            if isinstance(source, Problem):
                raise
            source = type(source).__qualname__  # its values tell it apart: see `difference`
        return {"source": source, "name": self.name, "every": self.every, "keep": self.keep}

    def value(self, w: FloatArray) -> float:
        """The number at w; infinite where it is none.

        Parameters
        ----------
        w : (P,) float array

        Returns
        -------
        float

        Raises
        ------
        TypeError
            If a function returned no number.
        """
        if isinstance(self.source, Problem):
            return trial_loss(self.source, w)
        try:
            found = self.source(w.copy())  # theirs to change
        except FloatingPointError:
            return math.inf
        if isinstance(found, np.ndarray) and found.ndim == 0:
            found = found[()]
        if not isinstance(found, numbers.Real):
            raise TypeError(f"validation returned {found!r}; expected a number")
        return float(found) if math.isfinite(found) else math.inf

    def started(self, now: RunState) -> RunState:
        """A run before its first step, or one that goes on, with what is best so far."""
        return now if now.best is not None else replace(now, best=self._best(now))

    def _best(self, now: RunState) -> Best:
        return self._here(now, self.value(now.w))

    def _here(self, now: RunState, value: float) -> Best:
        w, state = (now.w, now.state) if self.keep else (None, {})
        first = value if now.best is None else now.best.first
        return Best(value, now.count, 0, w, state, first)

    def difference(self, start: FloatArray, now: RunState) -> str | None:
        """What tells the number from that of a run which goes on, where settings do not.

        A function says no more than its name, and a problem of a user's own may say no more: they
        are asked again where the run started, where it was best, and where it stands.

        Parameters
        ----------
        start : (P,) float array
        now : RunState

        Returns
        -------
        str or None
        """
        best = now.best
        if best is None or (
            isinstance(self.source, Problem) and identity.is_known(uncounted(self.source))
        ):
            return None
        looks = [(0, start, best.first)]
        if best.w is not None:
            looks.append((best.iteration, best.w, best.value))
        column = now.columns.get(self.name, [])
        if now.count and now.count % self.every == 0 and len(column) >= now.count:
            looks.append((now.count, now.w, column[now.count - 1]))
        for count, w, there in looks:
            here = self.value(w)
            # As losses of problems are compared: other machines round otherwise.
            if not math.isclose(here, there, rel_tol=1e-5, abs_tol=1e-12):
                steps = checks.counted(count, "iteration")
                return f"{self._words} after {steps} is {there:.6g} there and {here:.6g} here"
        return None

    def looked(self, now: RunState) -> RunState:
        """A run after a step, and after a look if it is time for one."""
        if now.count % self.every:
            return now
        found = self._best(now)
        column = now.columns.setdefault(self.name, [])
        del column[now.count - 1 :]
        column += [np.nan] * (now.count - 1 - len(column))
        column.append(found.value)
        before = now.best
        if before is not None and not found.value < before.value:
            found = replace(before, since=before.since + 1)
        return replace(now, best=found)

    def over(self, now: RunState) -> str | None:
        """Why the run ends here, if its patience is over."""
        if self.patience is None or now.best is None or now.best.since < self.patience:
            return None
        looks = checks.counted(self.patience, "look")
        if not math.isfinite(now.best.value):
            return f"{self._words} was finite in none of {looks}"
        return (
            f"{self._words} has not fallen in {looks}; it was least, {now.best.value:.6g}, after "
            f"{checks.counted(now.best.iteration, 'iteration')}"
        )

    @property
    def _words(self) -> str:
        return "the validation loss" if self.name == "validation_loss" else "the loss"

    def chosen(self, now: RunState) -> tuple[Best, str]:
        """The best weights of a run that has ended, and what to say of them."""
        best = now.best
        if best is None or best.w is None or now.count % self.every:
            last = self._best(now)  # nobody has looked at the end
            if best is None or best.w is None or last.value < best.value:
                best = last
        if not math.isfinite(best.value):
            # None is better than another, and the end has the most steps behind it.
            words = f"{self._words} was finite nowhere, so that w is the last one"
            return self._here(now, math.inf), words
        where = (
            "at the end"
            if best.iteration == now.count
            else (f"after {checks.counted(best.iteration, 'iteration')}")
        )
        return best, f"w is where {self._words} was least, {best.value:.6g}, {where}"


@dataclass(frozen=True, eq=False)
class Plan:
    """What `Optimizer.minimize` was asked for, checked.

    Attributes
    ----------
    iterations : int
    tolerance : float
    time_limit : float or None
    callback : callable or None
    progress : bool
    path : Path or None
    every : int
        Steps from one checkpoint to the next.
    schedule : callable or None
    clip : float or None
    monitor : Monitor or None
    state : mapping, Result or None
    """

    iterations: int
    tolerance: float
    time_limit: float | None
    callback: Callback | None
    progress: bool
    path: Path | None
    every: int
    schedule: Callable[[int], float] | None
    clip: float | None
    monitor: Monitor | None
    state: Mapping[str, Any] | Result | None

    @staticmethod
    def of(
        optimizer: Optimizer,
        problem: object,
        *,
        max_iterations: int | None,
        epochs: int | None,
        gradient_tolerance: float,
        time_limit: float | None,
        schedule: ScheduleLike | None,
        clip: float | None,
        validation: Validation | None,
        validation_every: int | None,
        keep_best: bool,
        patience: int | None,
        state: Mapping[str, Any] | Result | None,
        callback: Callback | Sequence[Callback] | None,
        progress: bool,
        checkpoint: File | None,
        checkpoint_every: int,
    ) -> Plan:
        """The arguments, checked; a TypeError or ValueError names one that is not as it should."""
        if not isinstance(problem, (Problem, Minibatches)):
            raise TypeError(
                f"problem is of type {type(problem).__name__}; expected a Problem or Minibatches"
            )
        iterations = _iterations(problem, max_iterations, epochs)
        if schedule is not None:
            require_rate(optimizer)
        if clip is not None:
            clip = checks.real(clip, "clip", positive=True)
            if not optimizer.clips:
                raise ValueError(
                    f"clip is {clip!r}, and steps of {type(optimizer).__name__} need the gradient "
                    "as it is; expected a method that only follows it: SGD, Momentum or Adam"
                )
        if state is not None and not isinstance(state, (Mapping, Result)):
            raise TypeError(
                f"state is of type {type(state).__name__}; expected a Result, or its state"
            )
        return Plan(
            iterations,
            checks.nonnegative(gradient_tolerance, "gradient_tolerance"),
            None if time_limit is None else checks.real(time_limit, "time_limit", positive=True),
            _callback(callback),
            checks.flag(progress, "progress"),
            None if checkpoint is None else writable(checkpoint, "checkpoint"),
            checks.integer(checkpoint_every, "checkpoint_every"),
            None if schedule is None else resolve(schedule, iterations),
            clip,
            _monitor(problem, validation, validation_every, keep_best, patience),
            state,
        )

    @property
    def identity(self) -> dict[str, object]:
        """What tells the run from others, beside its method, problem and start."""
        found: dict[str, object] = {"schedule": self.schedule, "clip": self.clip}
        if self.monitor is not None:
            found["validation"] = self.monitor.settings()
        if isinstance(self.state, Result):
            found |= {"state": self.state.state, "iterations before": self.state.iteration}
        elif self.state is not None:
            found["state"] = dict(self.state)
        return {name: value for name, value in found.items() if value is not None}

    def beginning(self, w: FloatArray, initial: State) -> RunState:
        """Where the run starts.

        Parameters
        ----------
        w : (P,) float array
        initial : dict of arrays
            What the method begins with.

        Returns
        -------
        RunState

        Raises
        ------
        ValueError
            If the state that goes on is not one of this method, or of another w.
        """
        if self.state is None:
            return RunState(w, initial, {name: [] for name in COLUMNS}, 0)
        if not isinstance(self.state, Result):
            return RunState(w, _state(self.state, initial, w), {name: [] for name in COLUMNS}, 0)
        before = self.state
        if before.w.dtype != w.dtype or not np.array_equal(before.w, w):
            raise ValueError("w differs from the w of the Result that is given as state")
        history, count = before.history, before.iteration
        if count > self.iterations:
            raise ValueError(
                f"state is a Result of {checks.counted(count, 'iteration')}, more than the "
                f"{self.iterations} asked for; they count"
            )
        columns = {name: getattr(history, name) for name in COLUMNS} | history.info
        columns = {name: values[:count].astype(float).tolist() for name, values in columns.items()}
        return RunState(w, _state(before.state, initial, w), columns, count)


def _state(given: Mapping[str, Any], initial: State, w: FloatArray) -> State:
    """A state that goes on, of copies."""
    if lost := [name for name in initial if name not in given]:
        raise ValueError(
            f"state has no {', '.join(map(repr, lost))}; expected the state of a Result of the "
            "same method"
        )
    state = {str(name): np.array(values) for name, values in given.items()}
    if (differs := misfit(state, initial, w)) is not None:
        raise ValueError(differs)
    for name, values in initial.items():
        if np.isfinite(values).all() and not np.isfinite(state[name]).all():
            raise ValueError(f"state {name!r} has numbers that are not finite")
    return state


def _iterations(
    problem: Problem | Minibatches, max_iterations: int | None, epochs: int | None
) -> int:
    """Steps at most."""
    limits = []
    if epochs is not None:
        per_epoch = problem.per_epoch if isinstance(problem, Minibatches) else 1
        limits.append(checks.integer(epochs, "epochs", 0) * per_epoch)
    if max_iterations is not None or not limits:
        given = _ITERATIONS if max_iterations is None else max_iterations
        limits.append(checks.integer(given, "max_iterations", 0))
    return min(limits)


def _callback(callback: Any) -> Callback | None:
    """One function of all that are given; true if one of them is."""
    expected = "expected a function of one event, or a list of them"
    if isinstance(callback, type):
        raise TypeError(f"callback is the class {callback.__name__}; {expected}")
    if callback is None or callable(callback):
        return callback  # type: ignore[no-any-return]
    if isinstance(callback, (str, bytes)) or not checks.iterable(callback):
        raise TypeError(f"callback is {callback!r}; {expected}")
    each = checks.several(callback, "callback")
    for index, one in enumerate(each):
        if not callable(one) or isinstance(one, type):
            raise TypeError(f"callback[{index}] is {one!r}; {expected}")
    # A list, not a generator: all of them see the event.
    return lambda event: any([one(event) for one in each])


def _monitor(
    problem: Problem | Minibatches,
    validation: Any,
    every: int | None,
    keep_best: bool,
    patience: int | None,
) -> Monitor | None:
    keep = checks.flag(keep_best, "keep_best")
    if patience is not None:
        patience = checks.integer(patience, "patience")
    if every is not None:
        every = checks.integer(every, "validation_every")
    if validation is None and not keep and patience is None:
        return None
    if every is None:
        every = problem.per_epoch if isinstance(problem, Minibatches) else 1
    if validation is None:
        full = problem.full if isinstance(problem, Minibatches) else problem
        return Monitor(full, "full_loss", every, keep, patience)
    return Monitor(_validation(problem, validation), "validation_loss", every, keep, patience)


def _validation(
    problem: Problem | Minibatches, given: Any
) -> Problem | Callable[[FloatArray], float]:
    net = getattr(uncounted(problem), "net", None)  # of minibatches, and on a cluster
    if isinstance(given, Minibatches):
        given = given.full
    if isinstance(given, Problem):
        if given.parameter_count != problem.parameter_count:
            raise ValueError(
                f"validation has {given.parameter_count} parameters; expected "
                f"{problem.parameter_count}, as problem"
            )
        known = getattr(net, "classes", None)
        others = getattr(getattr(uncounted(given), "net", None), "classes", None)
        if None not in (known, others) and others != known:
            raise ValueError(
                f"validation has a net of classes {others}; expected {known}, as problem"
            )
        return given
    if isinstance(given, tuple) or (checks.iterable(given) and not callable(given)):
        if not isinstance(net, Network):
            raise TypeError(
                "validation has samples, and problem has no net; expected a Problem or a function "
                "of w"
            )
        # The loss without its penalty, which says nothing of samples that are new.
        net = net.unpenalized()
        if not isinstance(given, tuple):
            return NetProblem(net, given)
        if len(given) not in (2, 3):
            raise ValueError(
                f"validation has {len(given)} entries; expected (x, y) or (x, y, sample_weight)"
            )
        return NetProblem(net, *given[:2], sample_weight=given[2] if len(given) == 3 else None)
    if callable(given):
        return given  # type: ignore[no-any-return]
    raise TypeError(
        f"validation is of type {type(given).__name__}; expected (x, y), a Problem, or a function "
        "of w"
    )
