"""The loop around an optimiser's steps: epochs of minibatches, or iterations on all samples."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftnets import optimizers
from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import FloatArray
from swiftnets.nets.samples import Batch, Samples
from swiftnets.optimizers import KFAC, LBFGS, SGD, Adam, Momentum, Optimizer, State, StepResult
from swiftnets.problems import NetProblem, Problem
from swiftnets.sklearn._decay import DecayedMLP
from swiftnets.sklearn._lbfgs import CompactLBFGS

__all__ = ["SOLVERS", "Outcome", "Trainer", "resolve", "takes_all"]


def __dir__() -> list[str]:
    return __all__


# SGD, Adam, K-FAC and L-BFGS have settings of the estimator. Methods of third order are for the
# last steps to a minimum: objects, with warm_start.
_OTHERS: dict[str, type[Optimizer]] = {
    "cubic_regularization": optimizers.CubicRegularization,
    "gauss_newton": optimizers.GaussNewton,
    "levenberg_marquardt": optimizers.LevenbergMarquardt,
    "newton": optimizers.Newton,
    "quartic_line_search": optimizers.QuarticLineSearch,
    "saddle_free_newton": optimizers.SaddleFreeNewton,
    "trust_region": optimizers.TrustRegion,
}
SOLVERS = ("adam", "lbfgs", "sgd", "kfac", *_OTHERS)
_BATCH = 200  # samples in a minibatch where nothing else is said, as in scikit-learn
_KFAC_BATCH = 500  # likewise for K-FAC, where there are at least twice as many samples
# Of the loss: what falls by less has come to rest, as for SciPy's L-BFGS-B; or by tol², which is of
# a gradient of tol over curvatures of 1.
_REST = 2.2e-9
_RESTS = 2  # iterations of L-BFGS that may bring so little in a row
_SINGLE_REST = 1e-5  # likewise, of what float32 shows
_SINGLE_WORK = 2**18  # multiplications of a pass: below, float32 saves nothing
# Of the first loss. Below, float32 has probabilities next to its smallest numbers: slow, and few.
_SINGLE_LOSS = 0.01


def resolve(settings: Any, seed: int) -> Optimizer:
    """The optimiser of an estimator's settings."""
    solver = settings.solver
    if isinstance(solver, Optimizer):
        return solver
    if not isinstance(solver, str):
        raise TypeError(
            f"solver is of type {type(solver).__name__}; expected one of {', '.join(SOLVERS)}, or "
            "an Optimizer of swiftnets.optimizers"
        )
    checks.choice(solver, "solver", SOLVERS)
    if solver == "lbfgs":
        return CompactLBFGS()
    if solver == "kfac":
        return KFAC(split_damping=True, seed=seed)
    if solver in _OTHERS:
        return _OTHERS[solver]()
    rate = checks.real(settings.learning_rate_init, "learning_rate_init", positive=True)
    if solver == "adam":
        return Adam(
            learning_rate=rate,
            beta1=settings.beta_1,
            beta2=settings.beta_2,
            epsilon=settings.epsilon,
        )
    if settings.momentum == 0:
        return SGD(learning_rate=rate)
    return Momentum(
        learning_rate=rate, momentum=settings.momentum, nesterov=settings.nesterovs_momentum
    )


def _period(net: DecayedMLP, samples: int) -> int:
    """K-FAC's steps from update to update: of about the cost of an update's inverses."""
    sizes = [*net.layer_rows, *net.sizes[1:]]
    update = sum(samples * n**2 + 2 * n**3 for n in sizes)
    return min(max(1, round(update / (30 * samples * net.multiplications))), 50)


def takes_all(solver: object) -> bool:
    """Whether it is L-BFGS, whose curvature is of gradients of the same samples."""
    return isinstance(solver, LBFGS) or (isinstance(solver, str) and solver == "lbfgs")


def is_stochastic(optimizer: Optimizer) -> bool:
    """Whether it is at home with minibatches."""
    return isinstance(optimizer, (SGD, Momentum, Adam))


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes
    ----------
    w : (P,) float array
    state : dict of arrays
        The optimiser's.
    iterations : int
    problem : str
        Why it did not converge; empty if it did.
    """

    w: FloatArray
    state: State
    iterations: int
    problem: str


class Trainer:
    """One fit.

    Parameters
    ----------
    settings : MLPClassifier or MLPRegressor
    net : DecayedMLP
    batch : Batch
        All samples that are trained on, each of a weight above 0.
    optimizer : Optimizer
    random : numpy.random.RandomState
        Of the order of minibatches.
    curve : list of float
        Losses of fits before, which this one goes on with.

    Attributes
    ----------
    curve : list of float
        Losses.
    scores : list of float
        Of the validation, where there is one.
    """

    def __init__(
        self,
        settings: Any,
        net: DecayedMLP,
        batch: Batch,
        optimizer: Optimizer,
        random: np.random.RandomState,
        curve: list[float],
    ) -> None:
        self._settings, self._given = settings, (net, batch)
        self.optimizer, self._random, self.curve = optimizer, random, curve
        self._count, self._weight = len(batch.x), batch.total_weight
        self._size = self._batch_size()
        self._order = np.arange(self._count)
        self._stochastic = is_stochastic(optimizer) or self._size < self._count
        self._seen = settings.t_
        self._take(net, batch)
        work = net.multiplications * self._size
        is_large = self._size < self._count or not self._stochastic
        can = isinstance(optimizer, (SGD, Momentum, Adam, KFAC, CompactLBFGS))
        if settings.mixed_precision and can and is_large and work > _SINGLE_WORK:
            self._narrow()
        if settings.solver == "kfac":
            self.optimizer = dataclasses.replace(optimizer, period=_period(net, self._size))  # type: ignore[type-var]
        self._rate = getattr(optimizer, "learning_rate", 0.0)
        self.scores: list[float] = []

    # Precision

    def _take(self, net: DecayedMLP, batch: Batch) -> None:
        net.weigh(self._weight)
        self._net, self._batch = net, batch
        self._whole = NetProblem.of(net, Samples([batch], True))

    def _narrow(self) -> None:
        """Work in float32, if the samples are in its range."""
        net, batch = self._given
        with np.errstate(over="ignore"):
            small = batch.each(lambda a: a.astype(np.float32) if a.dtype == np.float64 else a)
        floats = (small.x, small.targets, small.weights)
        if all(one is None or np.isfinite(one).all() for one in floats):
            self._take(net.astype(np.float32), small)

    @property
    def _is_narrow(self) -> bool:
        return self._net is not self._given[0]

    def _is_small(self, loss: float) -> bool:
        """Whether the loss is out of what float32 is for."""
        self._first = loss if self._first is None else self._first
        return loss < _SINGLE_LOSS * self._first

    _first: float | None = None

    def _widen(self, w: FloatArray, state: State) -> tuple[FloatArray, State]:
        """Go on in the samples' own precision."""
        self._take(*self._given)
        dtype = self._net.dtype
        wide = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in state.items()}
        # What was computed in float32 is computed again.
        return w.astype(dtype), {k: v for k, v in wide.items() if k not in ("loss", "gradient")}

    def _batch_size(self) -> int:
        size = self._settings.batch_size
        if isinstance(size, str):
            checks.choice(size, "batch_size", ("auto",))
            size = _BATCH if is_stochastic(self.optimizer) else self._count
            if isinstance(self.optimizer, KFAC) and self._count >= 2 * _KFAC_BATCH:
                size = _KFAC_BATCH
        elif checks.integer(size, "batch_size") > self._count:
            warnings.warn(
                f"batch_size is {size}, of {self._count} samples: all are one batch",
                stacklevel=4,
            )
        if takes_all(self._settings.solver):
            return self._count
        return min(int(size), self._count)

    # Steps

    def _step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        result = self.optimizer.step(problem, w, state)
        if not math.isfinite(result.loss):
            raise FloatingPointError(f"the loss is {result.loss}")
        return result

    def _epoch(self, w: FloatArray, state: State) -> tuple[FloatArray, State, str]:
        """Once over the samples in minibatches; the mean of their losses is its loss."""
        total = 0.0
        if self._settings.shuffle and self._size < self._count:
            # As scikit-learn shuffles: from the same random_state come the same minibatches.
            places = np.arange(self._count)
            self._random.shuffle(places)
            self._order = self._order[places]
        for first in range(0, self._count, self._size):
            rows: Any = slice(first, min(first + self._size, self._count))
            length, problem = rows.stop - first, self._whole
            if self._size < self._count:
                if self._settings.shuffle:
                    places = self._order[rows]
                    part = self._batch.each(lambda a, rows=places: a.take(rows, axis=0))  # type: ignore[misc]
                else:
                    part = self._batch.each(lambda a, rows=rows: a[rows])  # type: ignore[misc]
                self._net.weigh(part.total_weight)
                problem = NetProblem.of(self._net, Samples([part], True), is_drawn=True)
            result = self._step(problem, w, state)
            total += result.loss * length
            if result.failure is not None and result.gradient_norm:
                return w, state, result.failure
            if result.failure is None:
                w, state = result.w, result.state
        self._net.weigh(self._weight)
        self.curve.append(total / self._count)
        self._seen += self._count
        if self._is_narrow and self._is_small(self.curve[-1]):
            w, state = self._widen(w, state)
        return w, state, ""

    def partial(self, w: FloatArray, state: State | None) -> Outcome:
        """One epoch, going on with a state."""
        w = w.astype(self._net.dtype)
        if state is None:
            state = self.optimizer.initial_state(self._whole, w)
        state = {k: v.astype(w.dtype) if v.shape == w.shape else v for k, v in state.items()}
        w, state, failure = self._epoch(w, state)
        return Outcome(*self._widen(w, state), 1, failure)

    def run(
        self, w: FloatArray, score: Callable[[FloatArray], float] | None
    ) -> tuple[Outcome, FloatArray]:
        """Train; what it ended with, and the parameters of the best score, or the last.

        Parameters
        ----------
        w : (P,) float array
            Where to start.
        score : callable, optional
            Of parameters, on the samples that are held back.

        Returns
        -------
        tuple of an Outcome, and a (P,) float array

        Raises
        ------
        FloatingPointError
            If the loss or the weights are no longer finite.
        """
        most = checks.integer(self._settings.max_iter, "max_iter")
        unit = "epoch" if self._stochastic else "iteration"
        bar = Progress(0, most, "loss", unit, shown=bool(self._settings.verbose))
        guard = _Guard(self._settings, self.curve, self.scores)
        last, done, problem = w.astype(self._net.dtype), 0, ""
        state = self.optimizer.initial_state(self._whole, last)
        try:
            while not problem:
                if not np.isfinite(last).all():
                    raise FloatingPointError("the weights are not finite")
                if self._stochastic:
                    last, state, problem = self._epoch(last, state)
                    rested = False
                else:
                    last, state, problem, rested = self._iteration(last, state, done)
                done += 1
                if score is not None:
                    self.scores.append(score(last))
                    guard.look_at_score(last)
                elif self._stochastic:
                    guard.look_at_loss()
                bar.step(self.curve[-1] if self.curve else None)
                if rested:
                    break
                rate = self._next_rate(guard)
                if guard.is_over:
                    break
                if rate is not None:
                    state = self._at_rate(rate, state)
                if done == most:
                    problem = f"after max_iter={most} {unit}s it has not converged to tol"
        except np.linalg.LinAlgError as error:
            problem = f"after {checks.counted(done, unit)} {error}"
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            bar.close()
        last, state = self._widen(last, state)
        if not self._stochastic:
            self.curve.append(self._whole.loss(last))
        best = last if guard.best is None else guard.best.astype(last.dtype)
        return Outcome(last, state, done, problem), best

    def _iteration(
        self, w: FloatArray, state: State, done: int
    ) -> tuple[FloatArray, State, str, bool]:
        """One step on all samples, with why it failed, and whether w is at rest."""
        result = self._step(self._whole, w, state)
        before, state = self._least, result.state
        if done:
            self.curve.append(result.loss)
        self._least = min(before, result.loss)
        is_lbfgs, length = isinstance(self.optimizer, CompactLBFGS), result.gradient_norm
        if is_lbfgs and "gradient" in state:  # where the step led to: its largest entry, as SciPy's
            length = float(abs(state["gradient"]).max())
        falls = before - result.loss
        unit = max(min(_REST, self._tol**2), 10 * float(np.finfo(w.dtype).eps))
        rest = unit * max(1.0, abs(result.loss))
        if self._is_narrow:
            rest = _SINGLE_REST * abs(result.loss)
        elif not is_lbfgs:
            rest = max(rest, self._tol)
        if falls > rest:
            self._slow = 0
        elif result.accepted:
            self._slow += 1
        self._gradients += result.info.get("gradients", 0.0)
        if self._gradients >= self._settings.max_fun and length > self._tol:
            said = f"after max_fun={self._settings.max_fun} gradients it has not converged to tol"
            return result.w, state, said, False
        if self._is_narrow:
            is_small = self._is_small(result.loss)
            if self._slow or is_small or result.failure is not None or length <= self._tol:
                w, state = self._widen(result.w, state)
                self._least, self._slow = math.inf, 0  # of another rounding
                return w, state, "", False
            return result.w, state, "", False
        if length <= self._tol:
            return result.w, state, "", True
        if result.failure is not None:
            return w, state, "" if result.rounding else result.failure, result.rounding
        limit = _RESTS if is_lbfgs else self._settings.n_iter_no_change
        return result.w, state, "", self._slow > limit

    _least, _slow, _gradients = math.inf, 0, 0.0

    @property
    def _tol(self) -> float:
        return float(self._settings.tol)

    # Learning rates of SGD

    def _next_rate(self, guard: _Guard) -> float | None:
        """The next epoch's learning rate, if it is another."""
        if self._settings.solver != "sgd":
            return None
        if self._settings.learning_rate == "invscaling":
            return float(self._rate / (self._seen + 1) ** self._settings.power_t)
        rate = float(self.optimizer.learning_rate)  # type: ignore[attr-defined]
        if self._settings.learning_rate == "adaptive" and guard.is_over and rate > 1e-6:
            guard.count = 0
            return rate / 5
        return None

    def _at_rate(self, rate: float, state: State) -> State:
        """What is on its way keeps its speed, as in scikit-learn: velocities are of gradients."""
        before = self.optimizer.learning_rate  # type: ignore[attr-defined]
        self.optimizer = dataclasses.replace(self.optimizer, learning_rate=rate)  # type: ignore[type-var]
        if "velocity" not in state:
            return state
        return state | {"velocity": (state["velocity"] * (before / rate)).astype(self._net.dtype)}


class _Guard:
    """Counts epochs that bring nothing: of the loss, or of the score where there is one."""

    def __init__(self, settings: Any, curve: list[float], scores: list[float]) -> None:
        self._settings, self._curve, self._scores = settings, curve, scores
        self._least = min(curve, default=math.inf)
        self.best_score, self.count = -math.inf, 0
        self.best: FloatArray | None = None

    def look_at_loss(self) -> None:
        """After an epoch."""
        loss = self._curve[-1]
        self.count = self.count + 1 if loss > self._least - self._settings.tol else 0
        self._least = min(self._least, loss)

    def look_at_score(self, w: FloatArray) -> None:
        """After an epoch, w being what was scored."""
        score = self._scores[-1]
        self.count = self.count + 1 if score < self.best_score + self._settings.tol else 0
        if self.best is None or score > self.best_score:
            self.best_score, self.best = score, w

    @property
    def is_over(self) -> bool:
        """Whether they are more than `n_iter_no_change`."""
        return bool(self.count > self._settings.n_iter_no_change)
