"""Methods of first order, to compare with: gradient descent, momentum, Adam, L-BFGS."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftnets import _core
from swiftnets._support import buffers, checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg.scaling import exponent, is_finite, norm
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.line_search import ARMIJO, beyond, no_decrease, scaled
from swiftnets.problems import Problem
from swiftnets.problems.computed import require_finite

__all__ = ["LBFGS", "SGD", "Adam", "Momentum"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Gradient descent, stochastic where the problem is `Minibatches`: w − η g.

    Parameters
    ----------
    learning_rate : float
        η.
    weight_decay : float
        λ: w is multiplied by 1 − η λ before the step. Decoupled, as PyTorch's AdamW has it; for
        this method alone that is the gradient of ½ λ ‖w‖², as PyTorch's SGD has it.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> SGD(learning_rate=0.5).minimize(Quadratic([[1.0]]), [8.0], max_iterations=3).w
    array([1.])
    """

    learning_rate: float = 0.01
    weight_decay: float = 0.0

    clips = True

    def __post_init__(self) -> None:
        check_settings(self, "learning_rate", least_zero=("weight_decay",))

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        w = _weights(w, learning_rate=self.learning_rate)
        loss, gradient = problem.loss_and_gradient(w)
        new, kept = _like(w), _decayed(w, self.learning_rate * self.weight_decay)
        squares = _core.descend(self.learning_rate, kept, _dense(gradient), new)
        return _stepped(new, loss, gradient, squares, state)


@dataclass(frozen=True, kw_only=True)
class Momentum(Optimizer):
    """Gradient descent with a heavy ball (Polyak 1964), or Nesterov's (1983).

    m ← β m + g, then w − η m; with `nesterov` w − η (g + β m). As PyTorch's SGD.

    Parameters
    ----------
    learning_rate : float
        η.
    momentum : float
        β, in [0, 1).
    nesterov : bool
    weight_decay : float
        λ: w is multiplied by 1 − η λ before the step: decoupled (Loshchilov & Hutter 2019, SGDW),
        as PyTorch's AdamW has it. PyTorch's SGD adds λ w to the gradient, which the momentum then
        carries on; that is a net's ``l2``.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(2)
    >>> method = Momentum(learning_rate=1e-3, momentum=0.9)
    >>> method.minimize(problem, problem.start(), max_iterations=3000).w.round(3)
    array([1., 1.])
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    clips = True

    def __post_init__(self) -> None:
        check_settings(self, "learning_rate", least_zero=("momentum", "weight_decay"))
        checks.flag(self.nesterov, "nesterov")
        _below_one(self.momentum, "momentum")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        return {"velocity": np.zeros_like(w)}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        w = _weights(w, learning_rate=self.learning_rate, momentum=self.momentum)
        loss, gradient = problem.loss_and_gradient(w)
        new, velocity = _like(w), _like(w)
        squares = _core.momentum(
            self.learning_rate,
            self.momentum,
            self.nesterov,
            _decayed(w, self.learning_rate * self.weight_decay),
            _dense(gradient),
            state["velocity"],
            new,
            velocity,
        )
        return _stepped(new, loss, gradient, squares, {"velocity": velocity})


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), with decoupled weight decay AdamW (Loshchilov & Hutter 2019).

    Parameters
    ----------
    learning_rate : float
        η.
    beta1, beta2 : float
        Of the means of gradients and of their squares, in [0, 1).
    epsilon : float
        Added to the root of the corrected mean of squares.
    weight_decay : float
        λ: w is multiplied by 1 − η λ before the step.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> Adam(learning_rate=0.1).minimize(Quadratic([[1.0]]), [1.0], max_iterations=1).w.round(6)
    array([0.9])
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    clips = True

    def __post_init__(self) -> None:
        check_settings(
            self, "learning_rate", "epsilon", least_zero=("beta1", "beta2", "weight_decay")
        )
        _below_one(self.beta1, "beta1")
        _below_one(self.beta2, "beta2")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        return {"mean": np.zeros_like(w), "square": np.zeros_like(w), "steps": np.array(0)}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        w = _weights(w, learning_rate=self.learning_rate, epsilon=self.epsilon)
        loss, gradient = problem.loss_and_gradient(w)
        steps = int(state["steps"]) + 1
        new, mean, square = _like(w), _like(w), _like(w)
        squares = _core.adam(
            self.beta1,
            1 - self.beta1,
            self.beta2,
            1 - self.beta2,
            1 / (1 - self.beta2**steps) ** 0.5,
            self.epsilon,
            self.learning_rate / (1 - self.beta1**steps),
            1 - self.learning_rate * self.weight_decay,
            w,
            _dense(gradient),
            state["mean"],
            state["square"],
            new,
            mean,
            square,
        )
        # No entry of gradient² overflows where their sum does not.
        if not squares[0] <= np.finfo(w.dtype).max and not is_finite(square):
            raise FloatingPointError(
                f"an entry of gradient² is beyond {w.dtype}; Adam would never move its weight again"
            )
        state = {"mean": mean, "square": square, "steps": np.array(steps)}
        return _stepped(new, loss, gradient, squares, state)


@dataclass(frozen=True, kw_only=True)
class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu & Nocedal 1989) of SciPy's parts.

    They are its inverse Hessian of pairs (`scipy.optimize.LbfgsInvHessProduct`) and its line search
    for the strong Wolfe conditions. SciPy's own loop cannot be stopped and resumed. For full
    batches: curvature from differences of gradients of unlike samples is noise. Needs
    SciPy: ``pip install swiftnets[scipy]``. Its weight decay is the net's ``l2``: a line search
    goes down the loss, and a decay beside the loss would have none.

    Parameters
    ----------
    memory : int
        Pairs of steps and differences of gradients that are kept.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> problem = Rosenbrock(10)
    >>> LBFGS().minimize(problem, problem.start(), gradient_tolerance=1e-8).status
    'converged'
    """

    memory: int = 10

    def __post_init__(self) -> None:
        check_settings(self)
        checks.integer(self.memory, "memory")
        _scipy()  # imported before any clock runs

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        empty = np.empty((0, len(w)), w.dtype)
        nothing = {"gradient": np.empty(0, w.dtype), "loss": np.array(0.0)}
        return {"steps": empty, "differences": empty, **nothing}

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        # The gradient here is known from the last line search, together with its loss.
        if len(state["gradient"]):
            loss, gradient = float(state["loss"]), state["gradient"]
        else:
            loss, gradient = problem.loss_and_gradient(w)
        require_finite(loss, gradient)
        length = norm(gradient)
        if length == 0:
            return StepResult(w, loss, length, state, False, failure="the gradient is 0")
        direction = self._direction(state["steps"], state["differences"], gradient, length)
        line = _Line(problem, w, direction, loss, gradient, length)
        found = line.search()
        if found is None:
            if len(state["gradient"]):  # the memory may be at fault, or of other samples
                return self.step(problem, w, self.initial_state(problem, w))
            found = line.lowest()
        if found is None:
            return no_decrease(problem, w, loss, length, state, line.predicted())
        step = w.dtype.type(found) * line.direction
        new = w + step
        new_loss, new_gradient = line.at(new)
        difference = new_gradient - gradient
        steps, differences = state["steps"], state["differences"]
        # A pair's own size does not count in the inverse Hessian: in units in which its products
        # are in range.
        e = beyond(exponent(step))
        step, difference = scaled(step, -e), scaled(difference, -e)
        if float(step @ difference) > 0:
            steps = np.vstack([steps, step])[-self.memory :]
            differences = np.vstack([differences, difference])[-self.memory :]
        state = {
            "steps": steps,
            "differences": differences,
            "gradient": new_gradient,
            "loss": np.array(new_loss),
        }
        return StepResult(new, loss, length, state, info={"step_length": found * line.scale})

    @staticmethod
    def _direction(
        steps: FloatArray, differences: FloatArray, gradient: FloatArray, length: float
    ) -> FloatArray:
        if not len(steps):  # no scale is known yet: not farther than 1, and so far if it is tiny
            down: FloatArray = gradient / -gradient.dtype.type(
                length if length < _TINY else max(1.0, length)
            )
            return down
        # SciPy's product begins with the identity; the last pair's own scale γ takes its place if
        # all is measured in units of √γ.
        last, change = steps[-1].astype(np.float64), differences[-1].astype(np.float64)
        e = beyond(exponent(change)) // 2 * 2  # even, so that the root rounds as it would without
        change = scaled(change, -e)
        unit = np.sqrt((last @ change) / (change @ change))
        product = _scipy().LbfgsInvHessProduct(steps / unit, scaled(differences, -e) * unit)
        shift = beyond(math.frexp(length)[1])
        inner = scaled(gradient.astype(np.float64), -shift)
        image = scaled(-unit * product.matvec(unit * inner), shift - e)
        result: FloatArray = image.astype(gradient.dtype, copy=False)
        return result


class _Line:
    """The loss along a direction, for SciPy's search: of a gradient near 1, and finite."""

    def __init__(
        self,
        problem: Problem,
        w: FloatArray,
        direction: FloatArray,
        loss: float,
        gradient: FloatArray,
        length: float,
    ) -> None:
        self._problem, self._w, self._loss, self._gradient = problem, w, loss, gradient
        self.direction, self.scale = direction, 1.0
        # By a power of 2, so that no product underflows; and the loss does not overflow.
        self._e = beyond(max(math.frexp(length)[1], math.frexp(loss)[1] - 1000))
        self._seen: dict[bytes, tuple[float, FloatArray]] = {}
        self._slope = float(scaled(gradient, -self._e) @ direction)

    def at(self, w: FloatArray) -> tuple[float, FloatArray]:
        """Loss and gradient; NaN where they are not finite."""
        w = w.astype(self._w.dtype, copy=False)
        key = w.tobytes()
        if key not in self._seen:
            try:
                loss, gradient = self._problem.loss_and_gradient(w)
            except FloatingPointError:
                loss, gradient = np.nan, self._gradient
            if not (math.isfinite(loss) and np.isfinite(gradient).all()):
                loss = math.nan
            self._seen[key] = loss, gradient
        return self._seen[key]

    def _shown(self, w: FloatArray) -> tuple[float, FloatArray]:
        """What the search is shown: where there is nothing finite, a wall to come back from."""
        loss, gradient = self.at(w)
        if not math.isnan(loss):
            return self._units(loss), scaled(gradient, -self._e)
        # As high as the loss would fall, and three times as steep: its cubic's minimum is at ¼.
        size = norm(self.direction)
        up = self.direction * (-3 * self._slope / size / size)
        far = norm(w - self._w) / size
        return self._units(self._loss) - far * self._slope, up

    def _units(self, loss: float) -> float:
        return float(np.ldexp(loss, -self._e)) if self._e else loss

    def search(self) -> float | None:
        """A step length that satisfies the strong Wolfe conditions; None if none is found."""
        while math.isnan(self.at(self._w + self.direction)[0]):  # SciPy's search goes not so far
            self.direction, self.scale = self.direction / 4, self.scale / 4
            self._slope /= 4
            if not (self._w + self.direction != self._w).any():
                return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that it failed: the result says so
            found = _scipy().line_search(
                lambda v: self._shown(v)[0],
                lambda v: self._shown(v)[1],
                self._w,
                self.direction,
                scaled(self._gradient, -self._e),
                self._units(self._loss),
                maxiter=30,
            )[0]
        if found is None:
            return None
        # At its limit the search returns what it has not looked at.
        loss = self.at(self._to(found))[0]
        noise = 4 * float(np.finfo(self._w.dtype).eps) * abs(self._loss)
        return float(found) if loss <= self._loss + noise else None

    def _to(self, length: float) -> FloatArray:
        place: FloatArray = self._w + self._w.dtype.type(length) * self.direction
        return place

    def _trials(self) -> list[tuple[float, float, FloatArray]]:
        """Step length, loss and gradient of the finite trials, from the nearest to the farthest."""
        size = norm(self.direction)
        trials = [
            (norm(np.frombuffer(key, self._w.dtype) - self._w) / size, loss, gradient)
            for key, (loss, gradient) in self._seen.items()
            if not math.isnan(loss)
        ]
        return sorted((trial for trial in trials if trial[0] > 0), key=lambda trial: trial[0])

    def lowest(self) -> float | None:
        """The trial of the least loss, if that falls enough (Armijo 1966), whatever the slope."""
        best = min(self._trials(), key=lambda trial: trial[1], default=None)
        if best is None:
            return None
        length = best[0]
        enough = self._loss + ARMIJO * length * float(np.ldexp(self._slope, self._e))
        return length if self.at(self._to(length))[0] <= enough else None

    def predicted(self) -> float:
        """How far the loss falls along the line, by the curvature that the nearest trial shows."""
        trials = self._trials()
        if not trials:
            return -float(np.ldexp(self._slope, self._e))
        length, _, gradient = trials[0]
        change = float(scaled(gradient, -self._e) @ self.direction) - self._slope
        curvature = change / length
        fall = self._slope * (self._slope / curvature) / 2 if curvature > 0 else -self._slope
        return float(np.ldexp(fall, self._e))


_TINY = 2.0**-20


def _scipy() -> Any:
    try:
        import scipy.optimize
    except ImportError as error:
        raise ImportError("L-BFGS needs SciPy: pip install swiftnets[scipy]") from error
    return scipy.optimize


def _stepped(
    new: FloatArray,
    loss: float,
    gradient: FloatArray,
    squares: tuple[float, float],
    state: State,
) -> StepResult:
    """What a step of the engine led to; `squares` are the sums of gradient² and of new²."""
    length = norm(gradient, squares[0])
    return StepResult(new, loss, length, state, w_norm=norm(new, squares[1]))


def _weights(w: FloatArray, **settings: float) -> FloatArray:
    """w as the engine takes it, after checks of what depends on its type."""
    if w.dtype not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise TypeError(
            f"problem.dtype is {w.dtype.str}; SGD, Momentum and Adam take float64 or float32"
        )
    for name, value in settings.items():
        with np.errstate(over="ignore", under="ignore"):
            held = w.dtype.type(value)
        if value != 0 and not 0 < held < math.inf:
            raise ValueError(f"{name} is {value!r}; {w.dtype} holds it as {held}")
    return _dense(w)


def _decayed(w: FloatArray, decay: float) -> FloatArray:
    """w after its decay, before the step."""
    if not decay:
        return w
    kept: FloatArray = w * w.dtype.type(1 - decay)
    return kept


def _dense(gradient: FloatArray) -> FloatArray:
    """As the engine takes it: a problem of one's own may return a view."""
    return np.require(gradient, requirements=["C", "A"])


def _like(w: FloatArray) -> FloatArray:
    return buffers.take(len(w), w.dtype)


def _below_one(value: float, name: str) -> None:
    if value >= 1:
        raise ValueError(f"{name} is {value!r}; expected a number below 1")
