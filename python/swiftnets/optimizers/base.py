"""`Optimizer`: what all methods share, a step and the loop around it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.files import File
from swiftnets._support.types import FloatArray
from swiftnets.optimizers.history import Event, History, Result, State, StepResult
from swiftnets.optimizers.run import Loop
from swiftnets.optimizers.schedules import ScheduleLike
from swiftnets.optimizers.training import Callback, Plan, Validation
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
    clips : bool
        Whether a step only follows the gradient of `Problem.loss_and_gradient` at w, so that
        ``minimize(clip=…)`` may shorten it.
    """

    settings_version: ClassVar[int] = 1
    clips: ClassVar[bool] = False

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
        {'version': 1, 'learning_rate': 0.1, 'weight_decay': 0.0}
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
            Later states have them in the same shapes and dtypes, but that an axis of length 0 may
            become longer.
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
        max_iterations: int | None = None,
        epochs: int | None = None,
        gradient_tolerance: float = 0.0,
        time_limit: float | None = None,
        schedule: ScheduleLike | None = None,
        clip: float | None = None,
        validation: Validation | None = None,
        validation_every: int | None = None,
        keep_best: bool = False,
        patience: int | None = None,
        state: Mapping[str, Any] | Result | None = None,
        callback: Callback | Sequence[Callback] | None = None,
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
        max_iterations : int, optional
            Steps at most, those before a resumption included; 100 where there are no `epochs`.
        epochs : int, optional
            The same in epochs of `Minibatches`; of all samples an epoch is one step. With both the
            smaller counts.
        gradient_tolerance : float
            Ends where the gradient's norm is not larger, and the method sees no negative curvature
            that it could go down. With `Minibatches` it is the gradient of all samples that
            counts: at the end, and where that of a batch is not larger, once an epoch at most. It
            costs as many gradients as an epoch has batches.
        time_limit : float, optional
            Seconds of optimising, looked at after each step.
        schedule : callable, Schedule or str, optional
            A function of the step, from 0, to a factor of the method's ``learning_rate``, as those
            of `swiftnets.optimizers.schedules`; or ``"constant"``, ``"linear"`` or ``"cosine"``:
            down to 0 at the run's last step. The history has the rates as
            ``info["learning_rate"]``.
        clip : float, optional
            Gradients that are longer are scaled to this norm before `SGD`, `Momentum` and `Adam`
            use them (Pascanu et al. 2013); the history has their norms before.
        validation : tuple, batches, Problem or callable, optional
            Other samples, ``(x, y)`` or ``(x, y, sample_weight)`` or batches of them, whose loss is
            looked at, without the net's l2; or a function of w whose value should fall. The history
            has it as ``info["validation_loss"]``, NaN between.
        validation_every : int, optional
            Steps from one look to the next: an epoch, or 1 where there are no minibatches.
        keep_best : bool
            The result is the w where the validation loss was least, the start and the end
            included: without `validation` the loss of all samples, ``info["full_loss"]``. The last
            one, as the message says, where that was finite nowhere.
        patience : int, optional
            Ends a run after so many looks at that loss without a lower one.
        state : Result or mapping, optional
            A result to go on from, with its w as w: its iterations and history count, and the run
            is the one that it would have been without an end there. Or a result's ``state`` alone,
            such as Adam's means: iterations, and with them the batches and the schedule, begin
            anew. The patience always does.
        callback : callable or list of them, optional
            Called after each step with an `Event`; the run ends when one returns something true.
            `swiftnets.optimizers.writers` has some for logs.
        progress : bool
            Show a bar on standard error.
        checkpoint : path, optional
            The run is saved here at the end, on Ctrl-C, and every so many steps. If the file
            exists, the run goes on from it and ends with the same bits as one without a break. It
            must be of the same settings, samples and w, to the last bit: see `Optimizer.settings`
            and, for own problems, `Problem.settings`. Functions are told apart by their names, a
            `schedule` also by the rates of the steps that were made, and `validation` by its values
            at the start, the best w and the last one, which are computed again.
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

        Examples
        --------
        >>> import numpy as np
        >>> from swiftnets import MLP
        >>> from swiftnets.optimizers import Adam
        >>> from swiftnets.problems import Minibatches
        >>> random = np.random.default_rng(0)
        >>> x = random.normal(size=(80, 2))
        >>> y = np.sin(x[:, :1])
        >>> net = MLP((2, 8, 1), reduction="mean")
        >>> batches = Minibatches(net, x[:60], y[:60], batch_size=20)
        >>> result = Adam(learning_rate=0.05).minimize(
        ...     batches, net.initial(seed=0), epochs=40, schedule="cosine", clip=1.0,
        ...     validation=(x[60:], y[60:]), keep_best=True, patience=10)
        >>> net.loss(result.w, x[60:], y[60:]) < 0.01
        True
        """
        plan = Plan.of(
            self,
            problem,
            max_iterations=max_iterations,
            epochs=epochs,
            gradient_tolerance=gradient_tolerance,
            time_limit=time_limit,
            schedule=schedule,
            clip=clip,
            validation=validation,
            validation_every=validation_every,
            keep_best=keep_best,
            patience=patience,
            state=state,
            callback=callback,
            progress=progress,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
        )
        return Loop(self, problem, w, plan).go()


def check_settings(optimizer: Any, *positive: str, least_zero: tuple[str, ...] = ()) -> None:
    """Check fields of a frozen dataclass: finite numbers, above 0 or not below it.

    NumPy's numbers become Python's, so that `repr` can be pasted.

    Parameters
    ----------
    optimizer : dataclass
    *positive : str
    least_zero : tuple of str
    """
    for name in positive:
        checks.real(getattr(optimizer, name), name, positive=True)
    for name in least_zero:
        checks.nonnegative(getattr(optimizer, name), name)
    for field in dataclasses.fields(optimizer):
        if isinstance(value := getattr(optimizer, field.name), np.generic):
            object.__setattr__(optimizer, field.name, value.item())
