"""What a comparison of optimisers measured: runs, tables, pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of
from swiftnets._support.types import Array, FloatArray
from swiftnets.optimizers.history import AXES, Axis, History

__all__ = ["Comparison", "Run"]


def __dir__() -> list[str]:
    return __all__


_LABELS = {"cost": "cost in gradients", "seconds": "seconds", "gradient_norm": "gradient norm"}
_COLUMNS = ("loss", "gradient_norm", *AXES)
_BROKEN = ("diverged", "failed")


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
        As `swiftnets.optimizers.Result.status`, or ``"cost"``: `cost_limit` was reached.
    message : str
    minibatches : bool
        Whether the history's losses are those of minibatches.
    history : History
    evaluated : dict of (n,) float64 arrays
        What `evaluate` returned, and the full loss where there are minibatches; ``"iterations"``
        says after how many steps. NaN where a name was missing.
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
        """Steps that were made."""
        return len(self.history)

    @property
    def cost(self) -> float:
        """In gradients, see `swiftnets.problems.Counted`."""
        return float(self.history.cost[-1]) if self.iterations else 0.0

    @property
    def seconds(self) -> float:
        """Seconds of optimising."""
        return float(self.history.seconds[-1]) if self.iterations else 0.0

    def curve(self, what: str = "loss", against: Axis = "iterations") -> tuple[Array, Array]:
        """How a number went.

        Parameters
        ----------
        what : str
            ``"loss"``, ``"gradient_norm"``, or a name that `evaluate` or the method reported. What
            was evaluated comes before what the history has of the same name.
        against : {"iterations", "cost", "seconds"}
            Spent by the time that the value was reached: 0 for the loss at the start.

        Returns
        -------
        x, values : (n,) float64 arrays

        Raises
        ------
        ValueError
            If nothing of this name was recorded.
        """
        checks.choice(against, "against", AXES)
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
        """What it took until the loss was first not above a number.

        Parameters
        ----------
        loss : float

        Returns
        -------
        dict of str to float, or None
            ``"iterations"``, ``"cost"`` and ``"seconds"``; None if the loss was never as low.
        """
        result: dict[str, float] = {}
        for against in AXES:
            x, values = self.curve("loss", against)
            there = np.flatnonzero(values <= loss)
            if not len(there):
                return None
            result[against] = float(x[there[0]])
        return result

    def __repr__(self) -> str:
        return (
            f"Run({self.name!r} from {self.start}: {self.status}, loss {self.loss:.6g} after "
            f"{checks.counted(self.iterations, 'iteration')})"
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
        """The runs of one optimiser.

        Parameters
        ----------
        name : str

        Returns
        -------
        tuple of Run

        Raises
        ------
        ValueError
            If there is no optimiser of this name.
        """
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

        Returns
        -------
        str

        Examples
        --------
        >>> from swiftnets.optimizers import SGD
        >>> from swiftnets.optimizers.comparison import compare
        >>> from swiftnets.problems import Quadratic
        >>> result = compare(Quadratic([[1.0]]), {"SGD": SGD(learning_rate=0.5)},
        ...                  [[8.0], [16.0], [32.0]], max_iterations=3)
        >>> print(result.table())  # doctest: +ELLIPSIS
        | optimizer | loss | gradient norm | iterations | cost | seconds | ended |
        |---|---:|---:|---:|---:|---:|---:|
        | SGD | 2 (0.5–8) | 2 (1–4) | 3 | 3 | ... | 3 × iterations |
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
            rows.append(
                [name, *row, ", ".join(f"{n} × {status}" for status, n in statuses.items())]
            )
        head = ["optimizer", "loss", "gradient norm", *AXES, "ended"]
        return _markdown(head, rows)

    def reached(self, loss: float) -> str:
        """What it took until the loss was first not above this, as Markdown.

        Numbers are medians, smallest and largest over the runs that got there; the second column
        says how many did. Losses of minibatches do not count: there it is the evaluated ones.

        Parameters
        ----------
        loss : float

        Returns
        -------
        str

        Examples
        --------
        >>> from swiftnets.optimizers import SGD
        >>> from swiftnets.optimizers.comparison import compare
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
            rows.append([name, count, *(_spread([one[axis] for one in got]) for axis in AXES)])
        return _markdown(["optimizer", "runs", *AXES], rows)

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
        checks.choice(against, "against", AXES)
        axes = axes_of(axes)
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


# Words --------------------------------------------------------------------------------------------


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
