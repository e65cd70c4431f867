"""L-BFGS for the estimators: compact, and at home with gradients of either precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftnets._support.types import FloatArray
from swiftnets.linalg.scaling import norm
from swiftnets.optimizers import Optimizer, State, StepResult
from swiftnets.problems import Problem

__all__ = ["CompactLBFGS"]


def __dir__() -> list[str]:
    return __all__


_ARMIJO, _WOLFE = 1e-4, 0.9
_TRIALS = 40


@dataclass(frozen=True, kw_only=True)
class CompactLBFGS(Optimizer):
    """L-BFGS in the compact form of Byrd, Nocedal & Schnabel (1994).

    A step is six products of tall matrices and vectors, however many pairs are kept, and a search
    for the weak Wolfe conditions (Lewis & Overton 2013), which holds at the kinks of ReLU. The
    state's arrays are written on: it belongs to one run.

    Parameters
    ----------
    memory : int
        Pairs of steps and differences of gradients.
    """

    memory: int = 10

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        rows = (self.memory, len(w))
        small = (self.memory, self.memory)
        return {
            "steps": np.zeros(rows, w.dtype),
            "changes": np.zeros(rows, w.dtype),
            "products": np.zeros(small),  # steps · changes
            "squares": np.zeros(small),  # changes · changes
            "count": np.array(0),
        }

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        if "gradient" in state:
            loss, gradient = float(state["loss"]), state["gradient"]
        else:
            loss, gradient = problem.loss_and_gradient(w)
        length = norm(gradient)
        if not (math.isfinite(loss) and math.isfinite(length)):
            raise FloatingPointError(f"the loss is {loss}, the gradient's norm {length}")
        if length == 0:
            return StepResult(w, loss, length, state, False, failure="the gradient is 0")
        direction = self._direction(state, gradient, length)
        slope = float(gradient @ direction)
        if not slope < 0:  # rounding in pairs that are nearly parallel
            state = state | {"count": np.array(0)}
            direction = self._direction(state, gradient, length)
            slope = float(gradient @ direction)
        found, trials = _search(problem, w, direction, loss, slope)
        if found is None and state["count"]:
            again = {k: v for k, v in state.items() if k not in ("gradient", "loss")}
            return self.step(problem, w, again | {"count": np.array(0)})
        if found is None:
            failure = "the line search found no decrease"
            return StepResult(w, loss, length, state, False, failure=failure, rounding=True)
        new, new_loss, new_gradient = found
        kept = dict(state) | {"gradient": new_gradient, "loss": np.array(new_loss)}
        self._keep(kept, new - w, new_gradient - gradient)
        return StepResult(new, loss, length, kept, info={"gradients": float(trials)})

    def _keep(self, state: State, step: FloatArray, change: FloatArray) -> None:
        product = float(step @ change)
        count = int(state["count"])
        if not product > 1e-10 * float(change @ change) ** 0.5 * float(step @ step) ** 0.5:
            return
        place = count % self.memory
        steps, changes = state["steps"], state["changes"]
        steps[place], changes[place] = step, change
        used = min(count + 1, self.memory)
        state["products"][:used, place] = steps[:used] @ change
        state["products"][place, :used] = changes[:used] @ step
        row = changes[:used] @ change
        state["squares"][:used, place] = state["squares"][place, :used] = row
        state["count"] = np.array(count + 1)

    def _direction(self, state: State, gradient: FloatArray, length: float) -> FloatArray:
        count = int(state["count"])
        if not count:
            down: FloatArray = gradient / -max(1.0, length)
            return down
        used = min(count, self.memory)
        steps, changes = state["steps"][:used], state["changes"][:used]
        products = state["products"][:used, :used]
        # s · y of each pair and those after it: triangular, but for the order of the rows.
        ages = (np.arange(used) - count) % self.memory if count > self.memory else np.arange(used)
        inverse = np.linalg.inv(np.where(ages[:, None] <= ages, products, 0.0))
        last = (count - 1) % self.memory
        scale = products[last, last] / state["squares"][last, last]
        first = inverse @ (steps @ gradient)
        inner = scale * (state["squares"][:used, :used] @ first - changes @ gradient)
        second = inverse.T @ (products.diagonal() * first + inner)
        dtype: Any = gradient.dtype
        result: FloatArray = second.astype(dtype) @ steps
        result -= (scale * first).astype(dtype) @ changes
        result += dtype.type(scale) * gradient
        np.negative(result, out=result)
        return result


def _search(
    problem: Problem, w: FloatArray, direction: FloatArray, loss: float, slope: float
) -> tuple[tuple[FloatArray, float, FloatArray] | None, int]:
    """A place that meets the weak Wolfe conditions, its loss and gradient; and how many trials."""
    noise = 4 * float(np.finfo(w.dtype).eps) * abs(loss)
    low, high, length = 0.0, math.inf, 1.0
    best: tuple[FloatArray, float, FloatArray] | None = None
    low_loss, low_slope, high_loss = loss, slope, math.inf
    trials = 0
    while trials < _TRIALS:
        new = w + w.dtype.type(length) * direction
        if not (new != w).any():
            break
        trials += 1
        new_loss, gradient = problem.loss_and_gradient(new)
        new_slope = float(gradient @ direction) if math.isfinite(new_loss) else math.nan
        if not (math.isfinite(new_slope) and new_loss <= loss + _ARMIJO * length * slope + noise):
            high, high_loss = length, new_loss
        else:
            best = new, new_loss, gradient
            if new_slope >= _WOLFE * slope:
                return best, trials
            low, low_loss, low_slope = length, new_loss, new_slope
        if high == math.inf:
            length *= 2
            continue
        # The parabola through the lower end, its slope and the upper end; not too near to either.
        width, fall = high - low, high_loss - low_loss
        bend = fall - low_slope * width
        middle = 0.5 if not (math.isfinite(bend) and bend > 0) else -low_slope * width / (2 * bend)
        length = low + width * min(max(middle, 0.1), 0.9)
    return best, trials
