"""What is recorded of a step, an iteration and a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of, styled
from swiftnets._support.types import FloatArray

__all__ = ["AXES", "WATCHED", "Axis", "Event", "History", "Result", "State", "Status", "StepResult"]


def __dir__() -> list[str]:
    return __all__


State: TypeAlias = dict[str, npt.NDArray[Any]]
"""What a method carries from step to step: arrays alone, so that runs resume bit for bit."""

Axis: TypeAlias = Literal["iterations", "cost", "seconds"]
AXES: tuple[Axis, ...] = get_args(Axis)
"""What a run spends."""

WATCHED = ("validation_loss", "full_loss")
"""What `info` has of looks between steps."""

Status: TypeAlias = Literal[
    "converged",
    "saddle",
    "rounding",
    "iterations",
    "time",
    "callback",
    "patience",
    "diverged",
    "failed",
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
        What the method reports (damping, step length, products, …): columns of the history.
    failure : str, optional
        Why no step can be made from here. Ends a run.
    least_curvature : float, optional
        What the least eigenvalue of the Hessian at w, before the step, is not above, as far as the
        method has seen: an eigenvalue, a Ritz value, a curvature along a direction. None if it sees
        none, as methods of first order.
    rounding : bool
        Whether the failure is the rounding of the loss or of w: what decrease is left does not
        show.
    w_norm : float, optional
        ‖w‖ after the step, of methods that have it at no cost.
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
    w_norm: float | None = None


@dataclass(frozen=True, eq=False)
class Event:
    """An iteration that has ended, as `Optimizer.minimize` passes it to its callback.

    Attributes
    ----------
    iteration : int
        From 0.
    w : (P,) float array
        After the step; a copy.
    loss, gradient_norm : float
        Before the step.
    seconds : float
        Of optimising, since the start of the run: callbacks and checkpoints do not count.
    cost : float
        In gradients, since the start of the run; see `swiftnets.problems.Counted`.
    accepted : bool
    info : mapping of str to float
        As `StepResult.info`.
    """

    iteration: int
    w: FloatArray
    loss: float
    gradient_norm: float
    seconds: float
    cost: float
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
        What the method reported, NaN where it did not.
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
            f"History({checks.counted(len(self), 'iteration')} in {self.seconds[-1]:.3g} s, "
            f"loss {self.loss[0]:.6g} to {self.loss[-1]:.6g})"
        )

    def plot(
        self,
        what: str | Sequence[str] | None = None,
        against: Axis = "iterations",
        ax: Any = None,
        **lines: Any,
    ) -> Any:
        """Draw how numbers went.

        Parameters
        ----------
        what : str or sequence of str, optional
            ``"loss"``, ``"gradient_norm"``, or names of `info`. By default the loss, and the
            validation loss where it was looked at, as points joined by a line.
        against : {"iterations", "cost", "seconds"}
            Spent before a loss or a gradient's norm, and after what `info` has.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default. Its scale is logarithmic where all numbers are
            positive.
        **lines : object
            For all lines, as `matplotlib.axes.Axes.plot` takes it.

        Returns
        -------
        matplotlib.axes.Axes
            ``.figure.savefig(path)`` writes it.

        Raises
        ------
        ValueError
            If there are no iterations, or nothing of a name was recorded.
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.

        Examples
        --------
        >>> from swiftnets.optimizers import SGD
        >>> from swiftnets.problems import Quadratic
        >>> history = SGD(learning_rate=0.5).minimize(Quadratic([[1.0]]), [8.0]).history
        >>> history.plot(color="black").get_ylabel()
        'loss'
        """
        place = checks.choice(against, "against", AXES)
        if not len(self):
            raise ValueError("the history has no iterations; expected at least one")
        if what is None:
            what = ["loss", *[name for name in WATCHED if name in self.info]]
        if not checks.iterable(what) or not len(what):
            raise ValueError(f"what is {what!r}; expected a name, or a list of at least one")
        names = [what] if isinstance(what, str) else what
        curves = [(name, *self._curve(name, place)) for name in names]
        ax = axes_of(ax)
        has_legend = len(curves) > 1
        for name, x, values in curves:
            there = np.isfinite(values)
            style = {"label": name.replace("_", " ") if has_legend else None}
            if not there.all():
                style["marker"] = "."
            ax.plot(x[there], values[there], **styled(lines, **style))
        found = np.concatenate([values[np.isfinite(values)] for _, _, values in curves])
        if len(found) and (found > 0).all():
            ax.set_yscale("log")
        ax.set_xlabel("cost in gradients" if against == "cost" else against)
        ax.set_ylabel(curves[0][0].replace("_", " "))
        if has_legend:
            ax.legend(frameon=False)
        return ax

    def _curve(
        self, name: str, place: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        spent = (np.arange(1.0, len(self) + 1), self.cost, self.seconds)[place]
        if name in ("loss", "gradient_norm"):
            values = self.loss if name == "loss" else self.gradient_norm
            return np.concatenate([[0.0], spent[:-1]]), values
        if name not in self.info:
            known = ", ".join(["loss", "gradient_norm", *sorted(self.info)])
            raise ValueError(f"what is {name!r}; expected one of {known}")
        return spent, self.info[name]


@dataclass(frozen=True, eq=False)
class Result:
    """How a run ended.

    Attributes
    ----------
    w : (P,) float array
        The last one that is finite; with ``keep_best`` that of the least loss.
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
        ``"patience"``: the loss that is looked at has not fallen for so long.
        ``"diverged"``: a loss, a derivative or a weight is not finite. ``"failed"``: the method
        knows no further step. Of runs of `swiftnets.compare` alone ``"cost"``: its ``cost_limit``.
    message : str
        The status in words.
    state : dict of arrays
        The method's own, at w: ``minimize(..., state=…)`` takes it, or the whole result.
    iteration : int
        After how many steps w was reached: those of the history, or fewer with ``keep_best``.
    """

    w: FloatArray
    loss: float
    gradient_norm: float
    history: History
    status: Status
    message: str
    state: State
    iteration: int = 0

    @property
    def success(self) -> bool:
        """Whether the status is ``"converged"``."""
        return self.status == "converged"

    def __repr__(self) -> str:
        done = checks.counted(len(self.history), "iteration")
        return f"Result({self.status}, loss {self.loss:.6g} after {done}: {self.message})"
