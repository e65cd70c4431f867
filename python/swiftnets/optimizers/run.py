"""The loop around an optimiser's steps: when it ends, and what it says then."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checkpoints import CheckpointError
from swiftnets._support.progress import Progress
from swiftnets._support.types import FloatArray
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import is_finite, norm
from swiftnets.optimizers.checkpoints import (
    COLUMNS,
    Identity,
    RunState,
    misfit,
    read_run,
    write_run,
)
from swiftnets.optimizers.history import Event, Result, Status, StepResult
from swiftnets.optimizers.schedules import Schedule, scheduled
from swiftnets.optimizers.training import Plan
from swiftnets.problems import Counted, Minibatches, PointLike, Problem
from swiftnets.problems.computed import require_finite, trial_loss
from swiftnets.problems.counted import take_net_problem

if TYPE_CHECKING:
    from swiftnets.optimizers.base import Optimizer

__all__ = ["Loop"]


def __dir__() -> list[str]:
    return __all__


_RATES = 100  # steps whose learning rates are compared where a run goes on
_LOOK = 60  # Lanczos steps for the curvatures where a run would end


class _Watched(Counted):
    """A problem that stops a step whose start is not finite before anything is made of that.

    Attributes
    ----------
    length : float or None
        The gradient's norm, where it was clipped.
    """

    def __init__(self, problem: Problem, w: FloatArray, clip: float | None) -> None:
        super().__init__(problem)
        self._w, self._clip = w, clip
        self.length: float | None = None

    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        loss, gradient = super().loss_and_gradient(w)
        # The gradient's norm is the methods' to look at: they all form it.
        if w is self._w and not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        if self._clip is not None:
            length = norm(gradient)
            if self._clip < length < math.inf:
                self.length = length
                gradient = gradient * gradient.dtype.type(self._clip / length)
        return loss, gradient

    def at(self, w: npt.ArrayLike) -> PointLike:
        point = super().at(w)
        if w is self._w:
            require_finite(point.loss, point.gradient)
        return point


class Loop:
    """The steps of one run, from its start or from a checkpoint."""

    def __init__(
        self, optimizer: Optimizer, problem: Problem | Minibatches, w: npt.ArrayLike, plan: Plan
    ) -> None:
        self._optimizer, self._problem, self._plan = optimizer, problem, plan
        self._start: FloatArray = np.array(
            checks.array(w, "w", (problem.parameter_count,), problem.dtype)
        )
        checks.finite(self._start, "w")

    def _at(self, iteration: int) -> Problem:
        problem = self._problem
        return problem.at(iteration) if isinstance(problem, Minibatches) else problem

    def go(self) -> Result:
        """Step until something ends the run; what `Optimizer.minimize` returns."""
        plan, now = self._plan, None
        path, iterations, monitor = plan.path, plan.iterations, plan.monitor
        if path is not None:
            run = Identity.of(self._optimizer, self._problem, self._start, **plan.identity)
            now = read_run(path, run, iterations)
        state = self._optimizer.initial_state(self._at(0), self._start)
        if now is None:
            now = plan.beginning(self._start, state)
        else:
            if (differs := misfit(now.state, state, self._start)) is not None:
                raise CheckpointError(f"checkpoint: {path} is damaged: {differs}")
            self._require_rates(path, now)
            if monitor is not None and (differs := monitor.difference(self._start, now)):
                raise CheckpointError(f"checkpoint: {path} is of another run: {differs}")
        saved = now
        ended: tuple[Status, str] | None = None
        if monitor is not None:
            now = saved = monitor.started(now)
            if (why := monitor.over(now)) is not None:  # as the run that is read did
                ended = "patience", why
        bar = Progress(now.count, iterations, "loss", shown=plan.progress)
        try:
            while ended is None and now.count < iterations:
                ended, after = self._step(now, plan.tolerance)
                if ended is not None:
                    break
                # One assignment, so that an interrupt finds a step with all that belongs to it.
                now = after if monitor is None else monitor.looked(after)
                bar.step(now.last("loss"))
                ended = self._stop(now)
                if path is not None and now.count % plan.every == 0:
                    write_run(path, run, now)
                    saved = now
        finally:
            bar.close()
            if path is not None and now is not saved:
                write_run(path, run, now)
        status, message = ended or (
            "iterations",
            f"the limit of {checks.counted(iterations, 'iteration')} is reached",
        )
        loss, length = self._measured(now.w)
        if status not in ("converged", "saddle", "diverged"):
            if not (math.isfinite(loss) and math.isfinite(length)):
                if status != "callback":
                    values = f"the loss is {loss}, the gradient's norm {length}"
                    status = "diverged"
                    message = self._lost(f"after {checks.counted(now.count, 'iteration')} {values}")
            elif length <= plan.tolerance:
                # What a step from here would have said: it is not made.
                verdict = self._step(now, plan.tolerance, length)[0]
                if verdict is not None and verdict[0] in ("converged", "saddle"):
                    status, message = verdict
        w, state, iteration = now.w, now.state, now.count
        if monitor is not None and monitor.keep:
            best, words = monitor.chosen(now)
            if best.w is not None and best.iteration != now.count:
                w, state, iteration = best.w, best.state, best.iteration
                loss, length = self._measured(w)
            message = f"{message}; {words}"
        return Result(w, loss, length, now.history(), status, message, state, iteration)

    def _require_rates(self, path: Path | None, now: RunState) -> None:
        """A CheckpointError where a function gives other rates than those that the run had."""
        # Its name, which is all that its settings say, may be that of another: <lambda>.
        schedule, rates = self._plan.schedule, now.columns.get("learning_rate", [])
        given = self._plan.state
        first = given.iteration if isinstance(given, Result) else 0  # those before had their own
        if schedule is None or isinstance(schedule, Schedule) or now.count <= first:
            return
        for step in sorted(set(np.linspace(first, now.count - 1, _RATES, dtype=int).tolist())):
            rate = scheduled(self._optimizer, schedule, step, now.w.dtype)[1]
            if not math.isclose(rate, rates[step], rel_tol=1e-6):
                raise CheckpointError(
                    f"checkpoint: {path} is of another run: the learning rate at iteration {step} "
                    f"is {rates[step]:.6g} there and {rate:.6g} by the schedule here"
                )

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
        self, now: RunState, tolerance: float, known: float | None = None
    ) -> tuple[tuple[Status, str] | None, RunState]:
        """How the run ends, or what the step leads to; `known` is the norm of the full gradient."""
        place = f"iteration {now.count}"
        begin = time.perf_counter()
        problem = _Watched(self._at(now.count), now.w, self._plan.clip)
        method, rate = self._optimizer, {}
        if self._plan.schedule is not None:
            method, now_rate = scheduled(method, self._plan.schedule, now.count, now.w.dtype)
            rate = {"learning_rate": now_rate}
        ended: tuple[Status, str] | None = None
        try:
            with np.errstate(all="ignore"):
                result = method.step(problem, now.w, now.state)
                if problem.length is not None:
                    result = replace(result, gradient_norm=problem.length)
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
                reason = f"{result.failure}; the gradient's norm is {result.gradient_norm:.3g}"
                return (kind, f"{place}: {reason}"), now
            # A batch that asks for nothing: the next one may.
            result = replace(result, w=now.w, state=now.state, accepted=False, failure=None)
        has_norm = result.w_norm is not None and math.isfinite(result.w_norm)
        if not (has_norm or is_finite(result.w)):
            return ("diverged", f"{place}: the step leads to numbers that are not finite"), now
        values = {
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "seconds": now.last("seconds") + time.perf_counter() - begin,
            "cost": now.last("cost") + problem.cost,
            "accepted": float(result.accepted),
            **result.info,
            **rate,
        }
        for name, value in values.items():
            column = now.columns.setdefault(name, [])
            del column[now.count :]
            column += [np.nan] * (now.count - len(column))
            column.append(float(value))
        return None, RunState(result.w, result.state, now.columns, now.count + 1, now.best)

    def _length(self, now: RunState, problem: Counted, batch: float, tolerance: float) -> float:
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
        least, largest = _extreme_curvatures(Counted(self._full), w)
        least = min(least, seen)
        # Not if it is rounding, nor where it says no more than the gradient: over a length of 1, or
        # of w, a curvature c lowers the loss by c / 2 of its square. Next to minima that are not
        # isolated, as those of nets that fit all samples, it is below the gradient.
        unit = max(1.0, float(abs(w).max()))
        rounding = len(w) * float(np.finfo(w.dtype).eps) * largest
        return least, least < -max(rounding, 10 * length / unit)

    def _broken(self, now: RunState, tolerance: float, message: str) -> tuple[Status, str]:
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

    def _stop(self, now: RunState) -> tuple[Status, str] | None:
        callback, monitor, time_limit = (
            self._plan.callback,
            self._plan.monitor,
            self._plan.time_limit,
        )
        seconds = now.last("seconds")
        if callback is not None:
            info = {
                name: values[now.count - 1]
                for name, values in now.columns.items()
                if name not in COLUMNS and len(values) == now.count
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
                return (
                    "callback",
                    f"the callback ended the run after {checks.counted(now.count, 'iteration')}",
                )
        if monitor is not None and (why := monitor.over(now)) is not None:
            return "patience", why
        if time_limit is not None and seconds >= time_limit:
            return "time", f"{seconds:.3g} s are over, of {time_limit:g}"
        return None


def _extreme_curvatures(problem: Problem, w: FloatArray) -> tuple[float, float]:
    """The Hessian's least eigenvalue and largest modulus at w, by Lanczos's method."""
    # From a random start, the same each time; exact for up to 60 parameters, Ritz values for more.
    start = np.random.default_rng(0).standard_normal(len(w)).astype(w.dtype)
    try:
        values, _ = lanczos(problem.at(w).hessian, start, _LOOK).eigenvalues()
    except NotImplementedError:  # a problem with a dense Hessian alone
        values = eigh(problem.hessian(w))[0]
    return float(values[0]), float(abs(values).max())
