"""Optimisers side by side: the same problem, starts and minibatches, everything recorded.

Examples
--------
>>> from swiftnets.optimizers.comparison import compare
>>> from swiftnets.optimizers import LBFGS, SGD
>>> from swiftnets.problems import Rosenbrock
>>> problem = Rosenbrock(2)
>>> methods = {"SGD": SGD(learning_rate=1e-3), "SGD, too fast": SGD(learning_rate=1.0)}
>>> result = compare(problem, {"L-BFGS": LBFGS()} | methods, [problem.start()], max_iterations=100,
...                  gradient_tolerance=1e-6)
>>> [(run.name, run.status) for run in result.runs]
[('L-BFGS', 'converged'), ('SGD', 'iterations'), ('SGD, too fast', 'diverged')]
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checkpoints import read_archive, write_archive
from swiftnets._support.files import File
from swiftnets._support.plotting import figure_class
from swiftnets._support.progress import report
from swiftnets.nets.samples import FloatArray
from swiftnets.optimizers.base import (
    Event,
    History,
    Identity,
    Optimizer,
)
from swiftnets.problems import Minibatches, Problem
from swiftnets.problems.computed import trial_loss

__all__ = ["Comparison", "Run", "compare"]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]
Axis: TypeAlias = Literal["iterations", "cost", "seconds"]
Numbers: TypeAlias = Mapping[str, float]

_AXES: tuple[Axis, ...] = ("iterations", "cost", "seconds")
_LABELS = {"cost": "cost in gradients", "seconds": "seconds", "gradient_norm": "gradient norm"}
_COLUMNS = ("loss", "gradient_norm", *_AXES)
_BROKEN = ("diverged", "failed")
_UNLIMITED = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Run:
    """One optimiser from one start.

    Attributes
    ----------
    name : str
        The optimiser's.
    start : int
        The start's seed; its place where the starts are a list.
    w : (P,) float array
        At the end: the last one that is finite.
    loss, gradient_norm : float
        There, of all samples. Infinite where they overflow.
    status : str
        As `swiftnets.optimizers.Result.status`, or ``"cost"``: its limit was reached.
    message : str
    minibatches : bool
        Whether the history's losses are those of minibatches.
    history : History
    evaluated : dict of (n,) float64 arrays
        What `evaluate` told, and the full loss where there are minibatches; ``"iterations"`` says
        after how many steps. NaN where a name was not told.
    """

    name: str
    start: int
    w: FloatArray
    loss: float
    gradient_norm: float
    status: str
    message: str
    minibatches: bool
    history: History
    evaluated: dict[str, Array]

    @property
    def iterations(self) -> int:
        return len(self.history)

    @property
    def cost(self) -> float:
        """In gradients, see `swiftnets.problems.Counted`."""
        return float(self.history.cost[-1]) if self.iterations else 0.0

    @property
    def seconds(self) -> float:
        return float(self.history.seconds[-1]) if self.iterations else 0.0

    def curve(self, what: str = "loss", against: Axis = "iterations") -> tuple[Array, Array]:
        """How a number went.

        Parameters
        ----------
        what : str
            ``"loss"``, ``"gradient_norm"``, or a name that `evaluate` or the method told. What
            was evaluated comes before what the history has of the same name.
        against : {"iterations", "cost", "seconds"}
            Spent by the time that the value was reached: 0 for the loss at the start.

        Returns
        -------
        x, values : (n,) float64 arrays
        """
        checks.choice(against, "against", _AXES)
        history = self.history
        if what in self.evaluated and what != "iterations":
            after, values = self.evaluated["iterations"].astype(int), self.evaluated[what]
        elif what in ("loss", "gradient_norm"):
            values = getattr(history, what)
            if not self.minibatches:  # the end's, which no step was made from
                values = np.append(values, getattr(self, what))
            after = np.arange(len(values))
        elif what in history.info:
            values = history.info[what]
            after = np.arange(1, len(values) + 1)
        else:
            names = ["loss", "gradient_norm", *history.info, *self.evaluated]
            names = sorted({*names} - {"iterations"})
            raise ValueError(f"what is {what!r}; expected one of {', '.join(names)}")
        if against == "iterations":
            return after.astype(np.float64), values
        return np.concatenate([[0.0], getattr(history, against)])[after], values

    def reached(self, loss: float) -> dict[str, float] | None:
        """Iterations, cost and seconds until the loss was first not above this; None if never."""
        result: dict[str, float] = {}
        for against in _AXES:
            x, values = self.curve("loss", against)
            there = np.flatnonzero(values <= loss)
            if not len(there):
                return None
            result[against] = float(x[there[0]])
        return result

    def __repr__(self) -> str:
        return (
            f"Run({self.name!r} from {self.start}: {self.status}, loss {self.loss:.6g} after "
            f"{self.iterations} iterations)"
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` measured.

    Attributes
    ----------
    runs : tuple of Run
    """

    runs: tuple[Run, ...]

    def of(self, name: str) -> tuple[Run, ...]:
        """The runs of one optimiser."""
        runs = tuple(run for run in self.runs if run.name == name)
        if not runs:
            raise ValueError(f"name is {name!r}; expected one of {', '.join(self._names)}")
        return runs

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(run.name for run in self.runs))

    def table(self, by: str | None = None) -> str:
        """How the runs ended, as Markdown, a line an optimiser.

        Numbers are medians over the starts, all runs counted, however they ended; in brackets the
        smallest and the largest. The gradient's norm is of all samples, the cost in gradients.

        Parameters
        ----------
        by : {"loss", "gradient_norm", "iterations", "cost", "seconds"}, optional
            The column that lines are in order of; without it they are as they came.

        Examples
        --------
        >>> from swiftnets.optimizers import SGD
        >>> from swiftnets.problems import Quadratic
        >>> result = compare(Quadratic([[1.0]]), {"SGD": SGD(learning_rate=0.5)},
        ...                  [[8.0], [16.0], [32.0]], max_iterations=3)
        >>> print(result.table())  # doctest: +ELLIPSIS
        | optimizer | loss | gradient norm | iterations | cost | seconds | ended |
        |---|---:|---:|---:|---:|---:|---:|
        | SGD | 2 (0.5–8) | 2 (1–4) | 3 | 3 | ... | 3 iterations |
        """
        names = self._names
        if by is not None:
            checks.choice(by, "by", _COLUMNS)
            names.sort(key=lambda name: np.median([_number(run, by) for run in self.of(name)]))
        rows = []
        for name in names:
            runs = self.of(name)
            row = [_spread([_number(run, column) for run in runs]) for column in _COLUMNS]
            statuses = Counter(run.status for run in runs)
            rows.append([name, *row, ", ".join(f"{n} {status}" for status, n in statuses.items())])
        head = ["optimizer", "loss", "gradient norm", *_AXES, "ended"]
        return _markdown(head, rows)

    def reached(self, loss: float) -> str:
        """What it took until the loss was first not above this, as Markdown.

        Numbers are medians, smallest and largest over the runs that got there; the second column
        says how many did. Losses of minibatches do not count: there it is the evaluated ones.

        Examples
        --------
        >>> from swiftnets.optimizers import SGD
        >>> from swiftnets.problems import Quadratic
        >>> result = compare(Quadratic([[1.0]]), {"SGD": SGD(learning_rate=0.5)},
        ...                  [[2.0], [4.0], [64.0]], max_iterations=3)
        >>> print(result.reached(0.5))  # doctest: +ELLIPSIS
        | optimizer | runs | iterations | cost | seconds |
        |---|---:|---:|---:|---:|
        | SGD | 2 of 3 | 1.5 (1–2) | 1.5 (1–2) | ... |
        """
        loss = checks.real(loss, "loss")
        rows = []
        for name in self._names:
            runs = self.of(name)
            got = [got for run in runs if (got := run.reached(loss)) is not None]
            count = f"{len(got)} of {len(runs)}"
            rows.append([name, count, *(_spread([one[axis] for one in got]) for axis in _AXES)])
        return _markdown(["optimizer", "runs", *_AXES], rows)

    def plot(self, against: Axis = "iterations", what: str = "loss", axes: Any = None) -> Any:
        """Draw each optimiser's median over the starts, and the band from smallest to largest.

        A run that has ended keeps its last value; where one diverged or failed there is a cross.
        Axes are logarithmic where all their values are positive, the start's 0 aside.

        Parameters
        ----------
        against : {"iterations", "cost", "seconds"}
        what : str
            As `Run.curve` takes it. Optimisers that do not have it are left out.
        axes : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            ``.figure.savefig(path)`` writes it.

        Raises
        ------
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.
        """
        checks.choice(against, "against", _AXES)
        if axes is None:
            axes = figure_class()(layout="constrained").add_subplot()
        drawn: list[Array] = []
        spent: list[Array] = []
        problem: ValueError | None = None
        for name in self._names:
            runs = self.of(name)
            try:
                curves = [run.curve(what, against) for run in runs]
            except ValueError as error:
                problem = error
                continue
            x = np.unique(np.concatenate([x for x, _ in curves]))
            # Not between the points: what a run had last is what it would have been stopped with.
            rows = np.array([_last(x, *curve) for curve in curves])
            low, middle, high = np.min(rows, axis=0), np.median(rows, axis=0), np.max(rows, axis=0)
            low, middle, high = (np.where(np.isfinite(v), v, np.nan) for v in (low, middle, high))
            (line,) = axes.plot(x, middle, drawstyle="steps-post", label=name)
            axes.fill_between(x, low, high, step="post", alpha=0.2, color=line.get_color(), lw=0)
            for run, (places, values) in zip(runs, curves, strict=True):
                finite = np.flatnonzero(np.isfinite(values))
                if run.status in _BROKEN and len(finite):
                    end = finite[-1]
                    axes.plot(places[end], values[end], "x", color=line.get_color(), ms=9, mew=2)
            drawn += [low, high]
            spent.append(x[np.isfinite(middle)])
        if problem is not None and not drawn:
            raise problem
        if any((x > 0).any() for x in spent):
            axes.set_xscale("log")
        values = np.concatenate([v[np.isfinite(v)] for v in drawn])
        if len(values) and (values > 0).all():
            axes.set_yscale("log")
        axes.set_xlabel(_LABELS.get(against, against))
        axes.set_ylabel(_LABELS.get(what, what))
        axes.legend(frameon=False)
        return axes

    def __repr__(self) -> str:
        return f"Comparison({len(self.runs)} runs of {', '.join(self._names)})"


def compare(
    problem: Problem | Minibatches | Callable[[int], Problem | Minibatches],
    optimizers: Mapping[str, Optimizer],
    starts: Sequence[npt.ArrayLike] | Callable[[int], npt.ArrayLike],
    *,
    seeds: Iterable[int] | None = None,
    max_iterations: int | None = None,
    time_limit: float | None = None,
    cost_limit: float | None = None,
    gradient_tolerance: float = 0.0,
    evaluate: Callable[[FloatArray], Numbers] | None = None,
    evaluate_every: int | None = None,
    progress: bool = False,
    folder: File | None = None,
) -> Comparison:
    """Run every optimiser from every start, one after the other in this process.

    Parameters
    ----------
    problem : Problem, Minibatches, or function
        A function is given a start's seed. All optimisers see the same minibatches.
    optimizers : mapping of str to Optimizer
    starts : list of (P,) array_like, or function
        A function is given a seed: ``lambda seed: net.initial(seed=seed)``.
    seeds : ints, optional
        One for each start; 0, 1, … where starts are a list.
    max_iterations, time_limit, cost_limit : optional
        Where runs end: steps, seconds of optimising, gradients
        (see `swiftnets.problems.Counted`). At least one of them.
    gradient_tolerance : float
        Runs end where the gradient's norm is not larger.
    evaluate : function, optional
        Of w, to numbers by name: accuracies, for one; any name but "iterations". It does not count
        as time or cost. Where there are minibatches the loss of all samples is evaluated, too.
    evaluate_every : int, optional
        Steps from one evaluation to the next: an epoch of minibatches, else 1. The start and the
        end are evaluated in any case.
    progress : bool
        Write a line on standard error when a run has ended.
    folder : path, optional
        Each run that has ended is saved here, and not made again: call once more after a break.

    Returns
    -------
    Comparison
        Divergence and break-down are told in a run's status, not raised.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.
    CheckpointError
        If a file in the folder is damaged, or of another comparison.

    Examples
    --------
    >>> from swiftnets.optimizers import SGD, Momentum
    >>> from swiftnets.problems import Rosenbrock
    >>> result = compare(
    ...     Rosenbrock(2),
    ...     {"plain": SGD(learning_rate=1e-3), "heavy ball": Momentum(learning_rate=1e-3)},
    ...     lambda seed: np.random.default_rng(seed).normal(size=2),
    ...     seeds=range(3), cost_limit=200)
    >>> result
    Comparison(6 runs of plain, heavy ball)
    >>> {run.status for run in result.runs}
    {'cost'}
    """
    limits = _Limits(max_iterations, time_limit, cost_limit, gradient_tolerance)
    methods = _methods(optimizers)
    places = _places(starts, seeds)
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"evaluate is {evaluate!r}; expected a function of w")
    if evaluate_every is not None:
        evaluate_every = checks.integer(evaluate_every, "evaluate_every")
    progress = checks.flag(progress, "progress")
    path = None if folder is None else checks.path(folder, "folder")
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for index, (seed, w) in enumerate(places):
        own = problem(seed) if callable(problem) else problem
        if not isinstance(own, (Problem, Minibatches)):
            raise TypeError(
                f"problem is of type {type(own).__name__}; expected a Problem, Minibatches or a "
                "function of a seed that returns one"
            )
        of = f"starts[{index}]"
        w = np.array(checks.array(w, of, (own.parameter_count,), own.dtype))
        checks.finite(w, of)
        for name, optimizer in methods.items():
            one = _One(name, seed, optimizer, own, w, limits, evaluate, evaluate_every)
            file = None if path is None else path / _file(name, seed)
            runs.append(one.run() if file is None else one.kept(file))
            if progress:
                report(f"{len(runs)} of {len(places) * len(methods)}: {runs[-1]}")
    return Comparison(tuple(runs))


@dataclass(frozen=True)
class _Limits:
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


def _methods(optimizers: object) -> dict[str, Optimizer]:
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise TypeError(f"optimizers is {optimizers!r}; expected a mapping of names to optimizers")
    for name, optimizer in optimizers.items():
        if not isinstance(name, str) or not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizers has {name!r}: {optimizer!r}; expected a name and an Optimizer"
            )
    return dict(optimizers)


def _places(starts: Any, seeds: Iterable[int] | None) -> list[tuple[int, Any]]:
    """Seeds and starts."""
    if seeds is not None and not checks.iterable(seeds):
        raise TypeError(f"seeds is {seeds!r}; expected several, as range(3)")
    listed = None
    if seeds is not None:
        listed = [checks.integer(s, "seeds", 0) for s in checks.several(seeds, "seeds")]
    if callable(starts):
        if not listed:
            raise ValueError(f"seeds is {seeds!r}; expected at least one, as starts is a function")
        places = [(seed, starts(seed)) for seed in listed]
    else:
        if not checks.iterable(starts):
            raise TypeError(f"starts is {starts!r}; expected several vectors, or a function")
        given = checks.several(starts, "starts")
        if not given:
            raise ValueError("starts is empty; expected at least one")
        listed = list(range(len(given))) if listed is None else listed
        if len(listed) != len(given):
            raise ValueError(f"seeds has {len(listed)} entries; expected {len(given)}, as starts")
        places = list(zip(listed, given, strict=True))
    if len(set(listed)) != len(listed):
        raise ValueError(f"seeds is {listed!r}; expected each once")
    return places


def _file(name: str, seed: int) -> str:
    """Readable, and another for another name, whatever is in it."""
    plain = re.sub(r"[^\w.+-]+", "-", name)[:60].strip(".-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{seed}.npz"


# A run --------------------------------------------------------------------------------------------

_FORMAT, _VERSION = "swiftnets comparison run", 2


@dataclass(frozen=True, eq=False)
class _One:
    """A run that is to be made, or read."""

    name: str
    seed: int
    optimizer: Optimizer
    problem: Problem | Minibatches
    w: FloatArray
    limits: _Limits
    evaluate: Callable[[FloatArray], Numbers] | None
    evaluate_every: int | None

    @property
    def _full(self) -> Problem:
        return self.problem.full if isinstance(self.problem, Minibatches) else self.problem

    def run(self) -> Run:
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
                told = self.evaluate(w.copy())  # theirs to change
            except FloatingPointError:
                told = {}
            if not isinstance(told, Mapping):
                raise TypeError(f"evaluate returned {told!r}; expected numbers by name")
            numbers = {str(name): _told(value, name) for name, value in told.items()}
            if "iterations" in numbers:
                raise ValueError(
                    'evaluate told a number named "iterations"; expected another name, as that '
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
        read = read_archive(file, _FORMAT, _VERSION, self._restored)
        if read is not None:
            there, run = read
            here.require(file, there)
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

    def _restored(self, settings: dict[str, Any], arrays: dict[str, Any]) -> tuple[Identity, Run]:
        """What was written; whatever is wrong is an error that the caller explains."""
        start, w, (loss, length) = (arrays.pop(name) for name in ("start", "w", "end"))
        parts: dict[str, dict[str, Any]] = {"history": {}, "info": {}, "evaluated": {}}
        for name, values in arrays.items():
            kind, _, rest = name.partition(" ")
            parts[kind][rest] = values
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


def _told(value: object, name: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # it says itself what fits
    except (TypeError, ValueError):
        raise TypeError(f"evaluate told {name!r}: {value!r}; expected a number") from None


def _columns(rows: list[tuple[int, dict[str, float]]]) -> dict[str, Array]:
    if not rows:
        return {}
    names = dict.fromkeys(name for _, numbers in rows for name in numbers)
    columns = {name: np.array([row.get(name, np.nan) for _, row in rows]) for name in names}
    return {"iterations": np.array([count for count, _ in rows], np.float64)} | columns


# Words and pictures -------------------------------------------------------------------------------


def _number(run: Run, column: str) -> float:
    return float(getattr(run, column))


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    low, middle, high = min(values), float(np.median(values)), max(values)
    if low == high:
        return f"{middle:.4g}"
    return f"{middle:.4g} ({low:.4g}–{high:.4g})"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    rows = [[" ".join(cell.replace("|", r"\|").splitlines()) for cell in row] for row in rows]
    rule = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def _last(x: Array, places: Array, values: Array) -> Array:
    """The last value that is known at each x; NaN before the first."""
    index = np.searchsorted(places, x, side="right") - 1
    return np.where(index < 0, np.nan, values[np.maximum(index, 0)])
