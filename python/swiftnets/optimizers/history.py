"""What is recorded of a step, an iteration and a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray

__all__ = ["Event", "History", "Result", "State", "Status", "StepResult"]


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
        knows no further step. Of runs of `swiftnets.compare` alone ``"cost"``: its ``cost_limit``.
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
        done = checks.counted(len(self.history), "iteration")
        return f"Result({self.status}, loss {self.loss:.6g} after {done}: {self.message})"
