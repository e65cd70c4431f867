"""Learning rates that change along a run: factors of a method's own, a function of the step.

Any function of the step, from 0, will do. These are PyTorch's of the same names without ``LR``, and
a run with one of them goes on from its checkpoint with the same bits: their settings are kept with
it. Steps are those of the method, not epochs; an epoch has ``batches.per_epoch``.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from swiftnets._support import checks

if TYPE_CHECKING:
    from swiftnets.optimizers.base import Optimizer

__all__ = ["Constant", "Cosine", "Exponential", "Linear", "Schedule", "ScheduleLike", "Step"]


def __dir__() -> list[str]:
    return __all__


class Schedule(ABC):
    """A factor of the learning rate, a function of the step.

    A subclass is a frozen dataclass, so that checkpoints tell it from others.
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The factor.

        Parameters
        ----------
        step : int
            From 0.

        Returns
        -------
        float
            Not negative.
        """


ScheduleLike: TypeAlias = Schedule | Callable[[int], float] | str


@dataclass(frozen=True)
class Constant(Schedule):
    """The same factor for some steps, then 1: PyTorch's ``ConstantLR``.

    Parameters
    ----------
    factor : float
        Not negative.
    total_iters : int, optional
        How many steps; all by default.

    Examples
    --------
    >>> [Constant(0.5, total_iters=2)(step) for step in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """

    factor: float = 1.0
    total_iters: int | None = None

    def __post_init__(self) -> None:
        _set(self, factor=checks.nonnegative(self.factor, "factor"))
        if self.total_iters is not None:
            _set(self, total_iters=checks.integer(self.total_iters, "total_iters"))

    def __call__(self, step: int) -> float:
        return 1.0 if self.total_iters is not None and step >= self.total_iters else self.factor


@dataclass(frozen=True)
class Linear(Schedule):
    """From one factor to another along a line, then the second: PyTorch's ``LinearLR``.

    Parameters
    ----------
    start_factor, end_factor : float
        Not negative.
    total_iters : int
        Steps from the first to the second.

    Examples
    --------
    >>> [Linear(1.0, 0.0, total_iters=4)(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    start_factor: float = 1 / 3
    end_factor: float = 1.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        for name in ("start_factor", "end_factor"):
            _set(self, **{name: checks.nonnegative(getattr(self, name), name)})
        _set(self, total_iters=checks.integer(self.total_iters, "total_iters"))

    def __call__(self, step: int) -> float:
        done = min(step / self.total_iters, 1.0)
        return self.start_factor * (1 - done) + self.end_factor * done


@dataclass(frozen=True)
class Step(Schedule):
    """Times gamma after every so many steps: PyTorch's ``StepLR``.

    Parameters
    ----------
    step_size : int
    gamma : float
        Not negative.

    Examples
    --------
    >>> [Step(2, gamma=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _set(self, step_size=checks.integer(self.step_size, "step_size"))
        _set(self, gamma=checks.nonnegative(self.gamma, "gamma"))

    def __call__(self, step: int) -> float:
        return _power(self.gamma, step // self.step_size)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Times gamma after every step: PyTorch's ``ExponentialLR``.

    Parameters
    ----------
    gamma : float
        Not negative.

    Examples
    --------
    >>> [Exponential(0.5)(step) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    gamma: float

    def __post_init__(self) -> None:
        _set(self, gamma=checks.nonnegative(self.gamma, "gamma"))

    def __call__(self, step: int) -> float:
        return _power(self.gamma, step)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Up along a line, then down along half a cosine (Loshchilov & Hutter 2017).

    PyTorch's ``LinearLR(start_factor=1 / warmup, total_iters=warmup - 1)`` for `warmup` steps, then
    ``CosineAnnealingLR``; after the last step it stays where it is.

    Parameters
    ----------
    steps : int
        Of both, by which the factor is `minimum`.
    warmup : int
        How many of them go up: step k, from 0, has the factor (k + 1) / warmup.
    minimum : float
        The last factor: PyTorch's ``eta_min`` over the learning rate.

    Examples
    --------
    >>> [round(Cosine(6, warmup=2)(step), 3) for step in range(8)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    steps: int
    warmup: int = 0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _set(self, steps=checks.integer(self.steps, "steps"))
        _set(self, warmup=checks.integer(self.warmup, "warmup", 0))
        _set(self, minimum=checks.nonnegative(self.minimum, "minimum"))
        if self.warmup >= self.steps:
            raise ValueError(f"warmup is {self.warmup}; expected less than steps, {self.steps}")

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min((step - self.warmup) / (self.steps - self.warmup), 1.0)
        return self.minimum + (1 - self.minimum) * (1 + math.cos(math.pi * done)) / 2


def _set(schedule: Schedule, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(schedule, name, value)


def _power(gamma: float, count: int) -> float:
    try:
        return float(gamma**count)
    except OverflowError:
        return math.inf  # told where the factor is used


# In a run -----------------------------------------------------------------------------------------

_NAMES = ("constant", "linear", "cosine")


def resolve(value: object, steps: int) -> Callable[[int], float]:
    """A schedule of a run of so many steps.

    Parameters
    ----------
    value : ScheduleLike
    steps : int

    Returns
    -------
    callable

    Raises
    ------
    TypeError
        If it is neither a function nor a name.
    ValueError
        If there is no schedule of that name.
    """
    if not isinstance(value, str):
        if isinstance(value, type) or not callable(value):
            raise TypeError(
                f"schedule is {value!r}; expected a function of the step, as those of "
                "swiftnets.optimizers.schedules, or 'constant', 'linear' or 'cosine'"
            )
        return value
    steps = max(steps, 1)
    made = (Constant(), Linear(1.0, 0.0, steps), Cosine(steps))
    return made[checks.choice(value, "schedule", _NAMES)]


def require_rate(optimizer: Optimizer) -> float:
    """The learning rate that a schedule changes.

    Parameters
    ----------
    optimizer : Optimizer

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If it has none.
    """
    rate = getattr(optimizer, "learning_rate", None)
    if rate is None:
        kind = type(optimizer).__name__
        has = (
            f"this {kind} chooses its steps itself"
            if hasattr(optimizer, "learning_rate")
            else (f"{kind} has none")
        )
        raise ValueError(f"schedule is given, a factor of the learning rate, and {has}")
    return float(rate)


def scheduled(
    optimizer: Optimizer, schedule: Callable[[int], float], step: int, dtype: np.dtype[Any]
) -> tuple[Optimizer, float]:
    """The method with its learning rate at one step.

    Parameters
    ----------
    optimizer : Optimizer
    schedule : callable
    step : int
    dtype : numpy.dtype
        Of w: rates below what it holds are 0.

    Returns
    -------
    optimizer : Optimizer
        A copy.
    rate : float

    Raises
    ------
    TypeError, ValueError
        If the factor is no number, negative or not finite.
    """
    factor: Any = schedule(step)
    if getattr(factor, "shape", None) == ():  # an array of no axes, as optax's schedules return
        factor = checks.unconverted(factor, f"schedule({step})")[()]
    rate = require_rate(optimizer) * checks.nonnegative(factor, f"schedule({step})")
    rate = rate if rate >= float(np.finfo(dtype).tiny) else 0.0
    changed = copy.copy(optimizer)
    # Not through its checks, which want a rate above 0: a schedule may end there.
    object.__setattr__(changed, "learning_rate", rate)
    return changed, rate
