"""`Optimizer`: what all methods share, a step and the loop around it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.files import File, writable
from swiftnets._support.types import FloatArray
from swiftnets.optimizers.history import Event, History, Result, State, StepResult
from swiftnets.optimizers.run import Loop
from swiftnets.problems import Minibatches, Problem

__all__ = ["Event", "History", "Optimizer", "Result", "State", "StepResult", "check_settings"]


def __dir__() -> list[str]:
    return __all__


class Optimizer(ABC):
    """A method that minimises a `swiftnets.problems.Problem` step by step.

    Its settings are its fields, all by keyword; they do not change, what changes is the state. A
    subclass is a frozen dataclass, or has a `settings` of its own.

    Attributes
    ----------
    settings_version : int
        Of what the settings mean: a class raises it when the same ones come to make other steps, so
        that runs from before are not continued by it.
    """

    settings_version: ClassVar[int] = 1

    def settings(self) -> dict[str, Any]:
        """What tells this method from others of its type, for checkpoints.

        Returns
        -------
        dict of str to what JSON holds
            ``"version"``, and each field of the dataclass: an array by a hash of its numbers, a
            function by its name.

        Raises
        ------
        TypeError
            If a field is nothing that `swiftnets.problems.Problem.settings` may return, or the
            object has attributes and is no dataclass.

        Examples
        --------
        >>> from swiftnets.optimizers import SGD
        >>> SGD(learning_rate=0.1).settings()
        {'version': 1, 'learning_rate': 0.1}
        """
        if dataclasses.is_dataclass(self):
            names: list[str] = [one.name for one in dataclasses.fields(self)]
        elif not vars(self):
            names = []
        else:
            raise TypeError(
                f"optimizer is of type {type(self).__name__}, which is no dataclass and has no "
                "settings(); expected one of them, to tell checkpoints apart"
            )
        return {"version": self.settings_version} | {
            name: identity.settings(getattr(self, name), f"optimizer's {name}") for name in names
        }

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        """What the first step is given.

        Parameters
        ----------
        problem : Problem
        w : (P,) float array
            Where the run starts.

        Returns
        -------
        dict of arrays
        """
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
            must be of the same settings, samples and w, to the last bit: see `Optimizer.settings`
            and, for own problems, `Problem.settings`.
        checkpoint_every : int

        Returns
        -------
        Result
            Divergence and break-down end a run and are reported in its status, not raised: numbers
            in the data that are not finite as well.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above; the message names it.
        CheckpointError
            If the checkpoint is damaged, or of another run.
        """
        return Loop(self, problem, w).go(
            checks.integer(max_iterations, "max_iterations", 0),
            checks.nonnegative(gradient_tolerance, "gradient_tolerance"),
            None if time_limit is None else checks.real(time_limit, "time_limit", positive=True),
            callback,
            progress,
            None if checkpoint is None else writable(checkpoint, "checkpoint"),
            checks.integer(checkpoint_every, "checkpoint_every"),
        )


def check_settings(optimizer: Any, *positive: str, least_zero: tuple[str, ...] = ()) -> None:
    """Check fields of a frozen dataclass: finite numbers, above 0 or not below it."""
    for name in positive:
        checks.real(getattr(optimizer, name), name, positive=True)
    for name in least_zero:
        checks.nonnegative(getattr(optimizer, name), name)
