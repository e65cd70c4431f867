"""What all optimisers share: a step, the loop around it, its history, checkpoints."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.checkpoints import (
    CheckpointError,
    read_archive,
    require_settings,
    write_archive,
)
from swiftnets._support.files import File, writable
from swiftnets._support.progress import Progress
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import norm
from swiftnets.nets.samples import FloatArray
from swiftnets.problems import Counted, Minibatches, NetProblem, PointLike, Problem
from swiftnets.problems.computed import require_finite, trial_loss

__all__ = ["Event", "History", "Optimizer", "Result", "State", "StepResult"]


def __dir__() -> list[str]:
    return __all__


State: TypeAlias = dict[str, npt.NDArray[Any]]
"""What a method carries from step to step: arrays alone, so that runs resume bit for bit."""

Status: TypeAlias = Literal[
    "converged", "saddle", "rounding", "iterations", "time", "callback", "diverged", "failed"
]


@dataclass(frozen=True, eq=False)
class StepResult:
    """One step.

    Attributes
    ----------
    w : (P,) float array
        After the step; the one before where it was not accepted.
    loss, gradient_norm : float
        Before the step.
    state : dict of arrays
        For the next step.
    accepted : bool
    info : mapping of str to float
        What the method has to tell (damping, step length, products, …): columns of the history.
    failure : str, optional
        Why no step can be made from here. Ends a run.
    least_curvature : float, optional
        What the least eigenvalue of the Hessian at w, before the step, is not above, as far as the
        method has seen: an eigenvalue, a Ritz value, a curvature along a direction. None if it sees
        none, as methods of first order.
    rounding : bool
        Whether the failure is the rounding of the loss or of w: what decrease is left does not
        show.
    """

    w: FloatArray
    loss: float
    gradient_norm: float
    state: State
    accepted: bool = True
    info: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    least_curvature: float | None = None
    rounding: bool = False


@dataclass(frozen=True, eq=False)
class Event:
    """An iteration that has ended, as `Optimizer.minimize` tells its callback."""

    iteration: int
    """From 0."""
    w: FloatArray
    """After the step. Copy it if it is kept and changed."""
    loss: float
    """Before the step."""
    gradient_norm: float
    """Before the step."""
    seconds: float
    """Of optimising, since the start of the run: callbacks and checkpoints do not count."""
    cost: float
    """In gradients, since the start of the run; see `swiftnets.problems.Counted`."""
    accepted: bool
    info: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class History:
    """What a run measured, an entry an iteration.

    Attributes
    ----------
    loss, gradient_norm : (n,) float64 array
        Before each step: of its minibatch, where there are any.
    seconds, cost : (n,) float64 array
        Until after each step; the cost in gradients, see `swiftnets.problems.Counted`. Callbacks
        and checkpoints do not count.
    accepted : (n,) bool array
    info : dict of (n,) float64 arrays
        What the method told, NaN where it did not.
    """

    loss: npt.NDArray[np.float64]
    gradient_norm: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    accepted: npt.NDArray[np.bool_]
    info: dict[str, npt.NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        if not len(self):
            return "History(no iterations)"
        return (
            f"History({len(self)} iterations in {self.seconds[-1]:.3g} s, "
            f"loss {self.loss[0]:.6g} to {self.loss[-1]:.6g})"
        )


@dataclass(frozen=True, eq=False)
class Result:
    """How a run ended.

    Attributes
    ----------
    w : (P,) float array
        The last one that is finite.
    loss, gradient_norm : float
        There: of all samples, where steps took minibatches.
    history : History
    status : str
        ``"converged"``: the gradient of all samples is small enough, also where a limit is reached
        with the same step. Methods of first order cannot tell a minimum from a saddle; those of
        second order say ``"saddle"`` where they see negative curvature and know no way down it.
        ``"rounding"``: the gradient is larger than asked for, and the decrease that is left is
        below the rounding of the loss, or the steps below that of w: SciPy's "precision loss".
        ``"iterations"`` or ``"time"``: a limit. ``"callback"``: it returned something true.
        ``"diverged"``: a loss, a derivative or a weight is not finite. ``"failed"``: the method
        knows no further step.
    message : str
        The status in words.
    state : dict of arrays
        The method's own, after the last step.
    """

    w: FloatArray
    loss: float
    gradient_norm: float
    history: History
    status: Status
    message: str
    state: State

    @property
    def success(self) -> bool:
        """Whether the status is ``"converged"``."""
        return self.status == "converged"

    def __repr__(self) -> str:
        return (
            f"Result({self.status}, loss {self.loss:.6g} after {len(self.history)} iterations: "
            f"{self.message})"
        )


class Optimizer(ABC):
    """A method that minimises a `swiftnets.problems.Problem` step by step.

    Its settings are its fields, all by keyword; they do not change, what changes is the state.
    """

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        """What the first step is given."""
        return {}

    @abstractmethod
    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        """One step from w; neither w nor the state is changed.

        Parameters
        ----------
        problem : Problem
        w : (P,) float array
        state : dict of arrays
            What `initial_state` or the step before returned.

        Returns
        -------
        StepResult

        Raises
        ------
        TypeError
            If the method needs more than this problem has: a net, for one.
        FloatingPointError, numpy.linalg.LinAlgError
            If numbers overflow, or a matrix is singular. Ends a run as "diverged" or "failed".
        """

    def minimize(
        self,
        problem: Problem | Minibatches,
        w: npt.ArrayLike,
        *,
        max_iterations: int = 100,
        gradient_tolerance: float = 0.0,
        time_limit: float | None = None,
        callback: Callable[[Event], object] | None = None,
        progress: bool = False,
        checkpoint: File | None = None,
        checkpoint_every: int = 100,
    ) -> Result:
        """Step until the gradient is small, or a limit is reached.

        Parameters
        ----------
        problem : Problem or Minibatches
        w : (P,) array_like
            Where to start; not changed.
        max_iterations : int
            Steps at most, those before a resumption included.
        gradient_tolerance : float
            Ends where the gradient's norm is not larger, and the method sees no negative curvature
            that it could go down. With `Minibatches` it is the gradient of all samples that
            counts: at the end, and where that of a batch is not larger, once an epoch at most. It
            costs as many gradients as an epoch has batches.
        time_limit : float, optional
            Seconds of optimising, looked at after each step.
        callback : callable, optional
            Called after each step with an `Event`; the run ends when it returns something true.
        progress : bool
            Show a bar on standard error.
        checkpoint : path, optional
            The run is saved here at the end, on Ctrl-C, and every so many steps. If the file
            exists, the run goes on from it and ends with the same bits as one without a break. It
            must be of the same settings, samples and w, to the last bit; functions among a method's
            settings are known by their names, and for own problems see `Problem.settings`.
        checkpoint_every : int

        Returns
        -------
        Result
            Divergence and break-down end a run and are told in its status, not raised: numbers
            in the data that are not finite as well.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above; the message names it.
        CheckpointError
            If the checkpoint is damaged, or of another run.
        """
        return _Run(self, problem, w).go(
            checks.integer(max_iterations, "max_iterations", 0),
            _limit(gradient_tolerance, "gradient_tolerance"),
            None if time_limit is None else checks.real(time_limit, "time_limit", positive=True),
            callback,
            progress,
            None if checkpoint is None else writable(checkpoint, "checkpoint"),
            checks.integer(checkpoint_every, "checkpoint_every"),
        )


def _limit(value: object, name: str) -> float:
    number = checks.real(value, name)
    if number < 0:
        raise ValueError(f"{name} is {value!r}; expected a number that is not negative")
    return number


# The loop -----------------------------------------------------------------------------------------

_LOOK = 60  # Lanczos steps for the curvatures where a run would end

_COLUMNS = ("loss", "gradient_norm", "seconds", "cost", "accepted")


@dataclass(frozen=True, eq=False)
class _Progress:
    """A run between two steps: what a checkpoint holds."""

    w: FloatArray
    state: State
    columns: dict[str, list[float]]
    count: int
    """Entries of the columns that count: an interrupt may leave more."""

    def history(self) -> History:
        columns = {
            name: np.array(values[: self.count] + [np.nan] * (self.count - len(values)))
            for name, values in self.columns.items()
        }
        loss, norm, seconds, cost, accepted = (columns.pop(name) for name in _COLUMNS)
        return History(loss, norm, seconds, cost, accepted.astype(bool), columns)

    def last(self, name: str) -> float:
        return self.columns[name][self.count - 1] if self.count else 0.0


class _Watched(Counted):
    """A problem that stops a step whose start is not finite before anything is made of that."""

    def __init__(self, problem: Problem, w: FloatArray) -> None:
        super().__init__(problem)
        self._w = w

    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        loss, gradient = super().loss_and_gradient(w)
        # The gradient's norm is the methods' to look at: they all form it.
        if w is self._w and not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        return loss, gradient

    def at(self, w: npt.ArrayLike) -> PointLike:
        point = super().at(w)
        if w is self._w:
            require_finite(point.loss, point.gradient)
        return point


class _Run:
    def __init__(
        self, optimizer: Optimizer, problem: Problem | Minibatches, w: npt.ArrayLike
    ) -> None:
        if not isinstance(problem, (Problem, Minibatches)):
            raise TypeError(
                f"problem is of type {type(problem).__name__}; expected a Problem or Minibatches"
            )
        self._optimizer, self._problem = optimizer, problem
        self._start: FloatArray = np.array(
            checks.array(w, "w", (problem.parameter_count,), problem.dtype)
        )
        checks.finite(self._start, "w")

    def _at(self, iteration: int) -> Problem:
        problem = self._problem
        return problem.at(iteration) if isinstance(problem, Minibatches) else problem

    def go(
        self,
        iterations: int,
        tolerance: float,
        time_limit: float | None,
        callback: Callable[[Event], object] | None,
        progress: bool,
        path: Path | None,
        every: int,
    ) -> Result:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is {callback!r}; expected a function of one event")
        progress = checks.flag(progress, "progress")
        now = None if path is None else self._read(path, iterations)
        if now is None:
            state = self._optimizer.initial_state(self._at(0), self._start)
            now = _Progress(self._start, state, {name: [] for name in _COLUMNS}, 0)
        saved = now
        bar = Progress(now.count, iterations, "loss") if progress else None
        ended: tuple[Status, str] | None = None
        try:
            while ended is None and now.count < iterations:
                ended, now = self._step(now, tolerance)
                if bar is not None and ended is None:
                    bar.step(now.last("loss"))
                if ended is None:
                    ended = self._stop(now, time_limit, callback)
                if path is not None and now is not saved and now.count % every == 0:
                    self._write(path, now)
                    saved = now
        finally:
            if bar is not None:
                bar.close()
            if path is not None and now is not saved:
                self._write(path, now)
        status, message = ended or ("iterations", f"{iterations} iterations are done")
        loss, length = self._measured(now.w)
        if status not in ("converged", "saddle", "diverged"):
            if not (math.isfinite(loss) and math.isfinite(length)):
                if status != "callback":
                    told = f"the loss is {loss}, the gradient's norm {length}"
                    status = "diverged"
                    message = self._lost(f"after {now.count} iterations {told}")
            elif length <= tolerance:
                # What a step from here would have said: it is not made.
                verdict = self._step(now, tolerance, length)[0]
                if verdict is not None and verdict[0] in ("converged", "saddle"):
                    status, message = verdict
        return Result(now.w, loss, length, now.history(), status, message, now.state)

    @property
    def _full(self) -> Problem:
        return self._problem.full if isinstance(self._problem, Minibatches) else self._problem

    def _measured(self, w: FloatArray) -> tuple[float, float]:
        """Loss and gradient's norm of all samples; infinite where they overflow."""
        try:
            with np.errstate(all="ignore"):
                loss, gradient = Counted(self._full).loss_and_gradient(w)
                return loss, norm(gradient)
        except FloatingPointError:
            return math.inf, math.inf

    def _lost(self, message: str) -> str:
        """What to say of numbers that are not finite: whether they came with the samples."""
        inner = take_net_problem(self._full)
        found = None if inner is None else inner.not_finite()
        return message if found is None else f"{message}; {found}"

    def _step(
        self, now: _Progress, tolerance: float, known: float | None = None
    ) -> tuple[tuple[Status, str] | None, _Progress]:
        """How the run ends, or what the step leads to; `known` is the norm of the full gradient."""
        place = f"iteration {now.count}"
        begin = time.perf_counter()
        problem = _Watched(self._at(now.count), now.w)
        ended: tuple[Status, str] | None = None
        try:
            with np.errstate(all="ignore"):
                result = self._optimizer.step(problem, now.w, now.state)
                if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
                    raise FloatingPointError(
                        f"the loss is {result.loss}, the gradient's norm {result.gradient_norm}"
                    )
                if known is None:
                    known = self._length(now, problem, result.gradient_norm, tolerance)
                if known <= tolerance:
                    ended = self._at_rest(problem, now.w, result, known, tolerance)
        except np.linalg.LinAlgError as error:
            return self._broken(now, tolerance, f"{place}: {error}"), now
        except FloatingPointError as error:
            return ("diverged", self._lost(f"{place}: {error}")), now
        if ended is not None:
            return ended, now
        if result.failure is not None:
            if not (isinstance(self._problem, Minibatches) and result.gradient_norm == 0):
                kind: Status = "rounding" if result.rounding else "failed"
                rest = f"; the gradient's norm is {result.gradient_norm:.3g}"
                return (kind, f"{place}: {result.failure}{rest}"), now
            # A batch that asks for nothing: the next one may.
            result = replace(result, w=now.w, state=now.state, accepted=False, failure=None)
        if not np.isfinite(result.w).all():
            return ("diverged", f"{place}: the step leads to numbers that are not finite"), now
        values = {
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "seconds": now.last("seconds") + time.perf_counter() - begin,
            "cost": now.last("cost") + problem.cost,
            "accepted": float(result.accepted),
            **result.info,
        }
        for name, value in values.items():
            column = now.columns.setdefault(name, [])
            del column[now.count :]
            column += [np.nan] * (now.count - len(column))
            column.append(float(value))
        return None, _Progress(result.w, result.state, now.columns, now.count + 1)

    def _length(self, now: _Progress, problem: Counted, batch: float, tolerance: float) -> float:
        """The norm of the gradient of all samples, given that of a batch; infinite if not seen."""
        if not isinstance(self._problem, Minibatches):
            return batch
        epoch = now.count - now.count % self._problem.per_epoch
        before = now.columns["gradient_norm"][epoch : now.count]
        if batch > tolerance or min(before, default=math.inf) <= tolerance:
            return math.inf  # once an epoch is enough
        problem.cost += self._problem.per_epoch
        return self._measured(now.w)[1]

    def _at_rest(
        self,
        problem: Counted,
        w: FloatArray,
        result: StepResult,
        length: float,
        tolerance: float,
    ) -> tuple[Status, str] | None:
        """How a run ends where the gradient is small; None if it goes on, away from a saddle."""
        said = f"the gradient's norm is {length:.3g} ≤ {tolerance:g}"
        if result.least_curvature is None:
            return "converged", f"{said}; this method does not see whether that is a minimum"
        least, falls = self._curvature(w, length, result.least_curvature)
        if not falls:
            return "converged", f"{said}; the least curvature that was seen is {least:.3g}"
        if result.failure is None:
            noise = 4 * float(np.finfo(w.dtype).eps) * abs(result.loss)
            if not result.accepted or trial_loss(problem, result.w) < result.loss - noise:
                return None
        return "saddle", f"{said}, but it is no minimum: there is a curvature of {least:.3g}"

    def _curvature(self, w: FloatArray, length: float, seen: float) -> tuple[float, bool]:
        """The least curvature at w, and whether it is negative beyond doubt."""
        least, largest = extreme_curvatures(Counted(self._full), w)
        least = min(least, seen)
        # Not if it is rounding, nor where it says no more than the gradient: over a length of 1, or
        # of w, a curvature c lowers the loss by c / 2 of its square. Next to minima that are not
        # isolated, as those of nets that fit all samples, it is below the gradient.
        unit = max(1.0, float(abs(w).max()))
        rounding = len(w) * float(np.finfo(w.dtype).eps) * largest
        return least, least < -max(rounding, 10 * length / unit)

    def _broken(self, now: _Progress, tolerance: float, message: str) -> tuple[Status, str]:
        length = self._measured(now.w)[1]
        if not length <= tolerance:
            return "failed", message
        said = f"the gradient's norm is {length:.3g} ≤ {tolerance:g}"
        try:
            with np.errstate(all="ignore"):
                least, falls = self._curvature(now.w, length, math.inf)
        except (NotImplementedError, FloatingPointError, np.linalg.LinAlgError):
            return "converged", f"{said}; {message}"
        if falls:
            return "saddle", f"{said}, but it is no minimum: there is a curvature of {least:.3g}"
        return "converged", f"{said}; the least curvature that was seen is {least:.3g}; {message}"

    def _stop(
        self,
        now: _Progress,
        time_limit: float | None,
        callback: Callable[[Event], object] | None,
    ) -> tuple[Status, str] | None:
        seconds = now.last("seconds")
        if callback is not None:
            info = {
                name: values[now.count - 1]
                for name, values in now.columns.items()
                if name not in _COLUMNS and len(values) == now.count
            }
            event = Event(
                now.count - 1,
                now.w.copy(),  # theirs to change
                now.last("loss"),
                now.last("gradient_norm"),
                seconds,
                now.last("cost"),
                bool(now.last("accepted")),
                info,
            )
            if callback(event):
                return "callback", f"the callback ended the run after {now.count} iterations"
        if time_limit is not None and seconds >= time_limit:
            return "time", f"{seconds:.3g} s are over, of {time_limit:g}"
        return None

    # Checkpoints

    @cached_property
    def _identity(self) -> Identity:
        return Identity.of(self._optimizer, self._problem, self._start)

    def _write(self, path: Path, now: _Progress) -> None:
        history = now.history()
        arrays: dict[str, npt.NDArray[Any]] = {"start": self._identity.start, "w": now.w}
        arrays |= {name: getattr(history, name) for name in _COLUMNS}
        arrays |= {f"info {name}": values for name, values in history.info.items()}
        arrays |= {f"state {name}": values for name, values in now.state.items()}
        write_archive(path, _FORMAT, _VERSION, self._identity.settings, arrays)

    def _read(self, path: Path, iterations: int) -> _Progress | None:
        read = read_archive(path, _FORMAT, _VERSION, self._restore)
        if read is None:
            return None
        there, now = read
        self._identity.require(path, there)
        if now.count > iterations:
            raise CheckpointError(
                f"checkpoint: {path} has {now.count} iterations behind it, more than the "
                f"{iterations} asked for"
            )
        return now

    def _restore(
        self, settings: dict[str, Any], arrays: dict[str, Any]
    ) -> tuple[Identity, _Progress]:
        """What `_write` was given; whatever is wrong is an error that the caller explains."""
        w, start = np.ascontiguousarray(arrays.pop("w")), arrays.pop("start")
        if w.shape != (settings["parameters"],) or w.dtype.name != settings["dtype"]:
            raise ValueError(f"w has shape {w.shape} and dtype {w.dtype}")
        if start.dtype != np.float64:
            raise ValueError(f"start has dtype {start.dtype}")
        columns = {name: arrays.pop(name).astype(float).tolist() for name in _COLUMNS}
        state: State = {}
        for name, values in arrays.items():
            kind, _, rest = name.partition(" ")
            if kind == "info":
                columns[rest] = values.tolist()
            else:
                state[rest] = values
        count = len(columns["loss"])
        if any(len(values) != count for values in columns.values()):
            raise ValueError("columns of the history differ in length")
        return Identity(settings, start), _Progress(w, state, columns, count)


_FORMAT, _VERSION = "swiftnets optimizer checkpoint", 2


@dataclass(frozen=True, eq=False)
class Identity:
    """What tells a run from others: see `swiftnets._support.identity`.

    Attributes
    ----------
    settings : dict
        The optimiser's and the problem's, data included, and a hash of where the run starts.
    start : (3,) float64 array, or (0,)
        For a problem that does not tell its settings: its `fingerprint` there.
    """

    settings: dict[str, Any]
    start: npt.NDArray[np.float64]

    @staticmethod
    def of(
        optimizer: Optimizer, problem: Problem | Minibatches, w: FloatArray, **more: object
    ) -> Identity:
        """Of a run from w, with `more` settings."""
        while isinstance(problem, Counted):
            problem = problem.problem
        told = {
            "optimizer": optimizer,
            "problem": problem,
            "parameters": problem.parameter_count,
            "dtype": problem.dtype.name,
            "w": w,
            **more,
        }
        start = np.empty(0)
        if not identity.is_known(problem):
            full = problem.full if isinstance(problem, Minibatches) else problem
            start = fingerprint(Counted(full), w)
        return Identity(identity.settings(told), start)

    def require(self, path: Path, there: Identity) -> None:
        """A CheckpointError that says what differs in the run of a checkpoint."""
        require_settings(path, there.settings, self.settings)
        # Not to the bit: another machine, or other threads, round otherwise, in float32 at that.
        if there.start.shape != self.start.shape or not np.allclose(
            there.start, self.start, 1e-5, 0, equal_nan=True
        ):
            raise CheckpointError(
                f"checkpoint: {path} is of another run: problem is other data, as its loss or "
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


# For the methods ----------------------------------------------------------------------------------


def extreme_curvatures(problem: Problem, w: FloatArray) -> tuple[float, float]:
    """The Hessian's least eigenvalue at w and its largest modulus, as Lanczos's method sees them.

    From a random start, the same each time; exact for up to 60 parameters, Ritz values for more.
    """
    start = np.random.default_rng(0).standard_normal(len(w)).astype(w.dtype)
    try:
        values, _ = lanczos(problem.at(w).hessian, start, _LOOK).eigenvalues()
    except NotImplementedError:  # a problem with a dense Hessian alone
        values = eigh(problem.hessian(w))[0]
    return float(values[0]), float(abs(values).max())


def check_settings(optimizer: Any, *positive: str, least_zero: tuple[str, ...] = ()) -> None:
    """Check fields of a frozen dataclass: finite numbers, above 0 or not below it."""
    for name in positive:
        checks.real(getattr(optimizer, name), name, positive=True)
    for name in least_zero:
        _limit(getattr(optimizer, name), name)


def take_net_problem(problem: Problem) -> NetProblem | None:
    """The `NetProblem` that a problem is, counted or not, or None."""
    while isinstance(problem, Counted):
        problem = problem.problem
    return problem if isinstance(problem, NetProblem) else None


def net_problem(problem: Problem, what: str) -> NetProblem:
    """The `NetProblem` behind a problem; a TypeError that says what needs it."""
    found = take_net_problem(problem)
    if found is None:
        while isinstance(problem, Counted):
            problem = problem.problem
        raise TypeError(
            f"problem is of type {type(problem).__name__}; expected a NetProblem, as {what} needs "
            "a net"
        )
    return found


def count_cost(problem: Problem, gradients: float) -> None:
    """Add to a problem's count what was asked of its net directly."""
    if isinstance(problem, Counted):
        problem.cost += gradients
