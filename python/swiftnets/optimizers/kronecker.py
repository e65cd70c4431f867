"""K-FAC: steps by Kronecker factors, how far being decided by the exact Gauss–Newton matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array, FloatArray
from swiftnets.curvature.kronecker import (
    KroneckerEigenbasis,
    KroneckerFactors,
    Propagated,
    Targets,
    mixed_factors,
)
from swiftnets.curvature.point import Point
from swiftnets.linalg.lapack import aside
from swiftnets.linalg.scaling import dot, norm
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.supports import DenseChain, require_dense
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.trust_region import gain_ratio, moved
from swiftnets.problems import Problem
from swiftnets.problems.computed import require_finite, trial_loss
from swiftnets.problems.counted import count_cost, net_problem

__all__ = ["KFAC"]


def __dir__() -> list[str]:
    return __all__


_ADAPTED = 5  # steps from one look at the damping to the next
_RANGE = 1e15  # of the damping, about the first


@dataclass(frozen=True, kw_only=True)
class KFAC(Optimizer):
    """w + c₁ d + c₂ s, with d = −(A ⊗ G + λ)⁻¹ g and s the step before (Martens & Grosse 2015).

    A and G are running means of each layer's Kronecker factors, of targets that are drawn from the
    model: one backward pass. c minimises the quadratic model with the exact Gauss–Newton matrix,
    which makes up for the scale of d and for what the factors leave out; s is the momentum. The
    damping λ follows how well that model predicts the loss, and a step after which the loss is up
    by half is not taken.

    Parameters
    ----------
    damping : float
        The first λ, above 0; the net's l2 is added.
    period : int, optional
        Steps from one update of the factors to the next; by default 5, and 20 with `Minibatches`.
    momentum : bool
        Whether the step before takes part.
    adaptation : float, optional
        ω, in (0, 1]: every fifth step λ becomes ω⁵ λ where the loss fell by more than ¾ of what the
        model said, and λ / ω⁵ where by less than ¼. With 1 it changes only after steps that are
        refused, by 4. By default 0.9, and 0.99 with `Minibatches`: a batch's own loss falls as its
        model says nearly whatever λ, which there stays above a hundredth of the first, too.
    learning_rate : float, optional
        A fixed step length: w + η d, without the model, and without momentum. Diverges easily.
    targets : {"sampled", "exact"}
        ``"exact"``: factors of all targets, weighted, by as many backward passes as there are
        outputs; hardly better.
    ekfac : bool
        Eigenvalues of A ⊗ G are replaced by the second moments of the gradients in their eigenbasis
        (George et al. 2018), of the samples of the update alone. A little better with thousands of
        samples. It fails with a hundred, as in minibatches: their moments are near 0 along
        directions that they hardly see, where steps are then far too long. Such runs take twice the
        steps of plain K-FAC, or stall.
    split_damping : bool
        (A + π √λ) ⊗ (G + √λ / π) in place of A ⊗ G + λ, π² being the mean of A's diagonal over that
        of G's (Martens & Grosse 2015, § 6.3): two inverses a layer, a fifth of the operations of
        eigenvectors, so that a period of 1 pays. The rows of factors of sampled targets are then
        signed combinations of a root of the loss's Hessian (Martens, Sutskever & Swersky 2012), of
        the pass that the step makes anyway, in the net's precision. With minibatches of 500 it
        takes as many steps or fewer, with 100 as many; with all samples it is as good to a moderate
        loss, and often worse to a small one or without momentum.
    decay : float
        Of the running means, in [0, 1): update k keeps min(1 − 1/k, decay) of what there was.
    seed : int
        Of the targets that are drawn. They depend on it and on the number of the step alone.

    Notes
    -----
    A step costs a gradient, two products and a loss: some 5 gradients. An update of the factors
    costs a gradient more and two eigendecompositions for each layer, 10 (in³ + out³) operations:
    with inputs by the thousand a longer period pays. Kept are 2 (in² + out²) numbers a layer, and
    during an update those of `layer_states`. Noise decides with batches of 100 and less: there the
    momentum does not help, and Adam is as good.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> from swiftnets.problems import NetProblem
    >>> net = MLP((2, 3, 1), reduction="mean")
    >>> problem = NetProblem(net, np.eye(2), np.ones((2, 1)))
    >>> KFAC().minimize(problem, net.initial(seed=0), max_iterations=30).loss < 1e-9
    True
    """

    damping: float = 0.01
    period: int | None = None
    momentum: bool = True
    adaptation: float | None = None
    learning_rate: float | None = None
    targets: Targets = "sampled"
    ekfac: bool = False
    split_damping: bool = False
    decay: float = 0.95
    seed: int = 0

    settings_version = 2

    def __post_init__(self) -> None:
        check_settings(self, "damping", least_zero=("decay",))
        if self.decay >= 1:
            raise ValueError(f"decay is {self.decay!r}; expected a number below 1")
        if self.adaptation is not None:
            checks.real(self.adaptation, "adaptation", positive=True)
            if self.adaptation > 1:
                raise ValueError(f"adaptation is {self.adaptation!r}; expected a number up to 1")
        if self.period is not None:
            checks.integer(self.period, "period")
        for name in ("momentum", "ekfac", "split_damping"):
            checks.flag(getattr(self, name), name)
        if self.ekfac and self.split_damping:
            raise ValueError(
                "ekfac and split_damping are True; expected one of them, as there are no factors "
                "to split the damping between where their eigenvalues are replaced"
            )
        checks.choice(self.targets, "targets", get_args(Targets))
        checks.integer(self.seed, "seed", 0)
        if self.learning_rate is not None:
            checks.real(self.learning_rate, "learning_rate", positive=True)
            if self.momentum:
                raise ValueError(
                    f"learning_rate is {self.learning_rate!r} and momentum is True; expected "
                    "momentum=False with a fixed step length, as only the model decides how much"
                )

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        net = _chain(net_problem(problem, "K-FAC").net)
        shapes = list(zip(net.layer_rows, net.sizes[1:], strict=True))
        count = sum(2 * rows**2 + 2 * width**2 + rows * width for rows, width in shapes)
        checks.memory(8 * count, "the Kronecker factors of all layers")
        state: State = {
            "steps": np.array(0),
            "updates": np.array(0),
            "damping": np.array(float(self.damping)),
            "previous": np.zeros_like(w),
        }
        if self.split_damping:
            state["inverted"] = np.array(0.0)  # the damping that the inverses have
        for layer, (rows, width) in enumerate(shapes):
            state |= {
                f"inputs{layer}": np.zeros((rows, rows)),
                f"outputs{layer}": np.zeros((width, width)),
                f"left{layer}": np.zeros((rows, rows)),
                f"right{layer}": np.zeros((width, width)),
            }
            if not self.split_damping:
                state[f"values{layer}"] = np.zeros((rows, width))
        return state

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        inner = net_problem(problem, "K-FAC")
        depth = len(_chain(inner.net).layer_rows)
        count_cost(problem, 1)
        point = inner.at(w)
        loss, length = point.loss, norm(point.gradient)
        require_finite(loss, point.gradient)
        if length == 0:
            return StepResult(w, loss, length, state, False, failure="the gradient is 0")
        steps, damping = int(state["steps"]), float(state["damping"])
        period = self.period or (20 if inner.is_drawn else 5)
        kept = dict(state)
        if steps % period == 0:
            count_cost(problem, 1 if self.targets == "sampled" else inner.net.outputs)
            kept |= self._updated(point, state, depth)
        total = damping + inner.net.l2
        gradient = point.gradient.astype(np.float64)
        if self.split_damping:
            if steps % period == 0 or float(kept["inverted"]) != total:
                kept |= _inverses(kept, total, depth)
            directions = [_solved(kept, -gradient, depth)]
        else:
            basis = _taken(kept, ("left", "right", "values"), depth)
            directions = [-KroneckerEigenbasis(*basis).inverse(total)(gradient)]
        if self.momentum and state["previous"].any():
            directions.append(state["previous"].astype(np.float64))
        predicted: float | None
        if self.learning_rate is None:
            step, predicted = _best(problem, point, directions, damping)
        else:
            step, predicted = self.learning_rate * directions[0], None
        new = moved(w, step)
        new_loss = trial_loss(problem, new)
        accepted = new_loss <= loss + abs(loss) / 2 and bool(step.any())
        ratio = math.nan if predicted is None else gain_ratio(loss, new_loss, predicted, w)
        failure = None
        is_rounding = bool(step.any()) and not (moved(w, step / 4) != w).any()
        if not accepted and is_rounding:
            failure = "steps are below the rounding of w"
        elif not accepted and damping >= self.damping * _RANGE:
            failure = f"no step lowers the loss, with a damping of up to {damping:.3g}"
        kept["steps"] = np.array(steps + 1)
        due = (steps + 1) % _ADAPTED == 0
        kept["damping"] = np.array(self._adapted(damping, accepted, due, ratio, inner.is_drawn))
        if accepted:
            kept["previous"] = new - w
        return StepResult(
            new if accepted else w,
            loss,
            length,
            kept,
            accepted,
            {"damping": damping, "ratio": ratio},
            failure,
            rounding=failure is not None and is_rounding,
        )

    def _adapted(
        self, damping: float, accepted: bool, due: bool, ratio: float, is_drawn: bool
    ) -> float:
        """λ after a step; the ratio is NaN where there is no model."""
        least, most = self.damping / (100 if is_drawn else _RANGE), self.damping * _RANGE
        if not accepted:
            return min(4 * damping, most)
        factor = (self.adaptation or (0.99 if is_drawn else 0.9)) ** _ADAPTED
        if due and ratio > 0.75:
            return max(damping * factor, least)
        return min(damping / factor, most) if due and ratio < 0.25 else damping

    def _updated(self, point: Point, state: State, depth: int) -> State:
        """The factors' means with those of this point, and their eigenbases."""
        # The state of the generator is the number of the step.
        random = np.random.default_rng([self.seed, int(state["steps"])])
        if self.split_damping and self.targets == "sampled":
            new = mixed_factors(point, random)
        else:
            rows = Propagated(point, self.targets, random)
            new = rows.factors()
        updates = int(state["updates"]) + 1
        kept = min(1 - 1 / updates, self.decay)
        means = KroneckerFactors(
            *(
                tuple(kept * old + (1 - kept) * now for old, now in zip(before, found, strict=True))
                for before, found in zip(
                    _taken(state, ("inputs", "outputs"), depth),
                    (new.inputs, new.outputs),
                    strict=True,
                )
            )
        )
        after: State = {"updates": np.array(updates)}
        for layer in range(depth):
            after[f"inputs{layer}"] = means.inputs[layer]
            after[f"outputs{layer}"] = means.outputs[layer]
        if self.split_damping:
            return after
        basis = means.eigenbasis()
        if self.ekfac:
            basis = rows.moments(basis)
        for layer in range(depth):
            after[f"left{layer}"] = basis.inputs[layer]
            after[f"right{layer}"] = basis.outputs[layer]
            after[f"values{layer}"] = basis.values[layer]
        return after


def _inverses(state: State, damping: float, depth: int) -> State:
    """Of both factors of each layer, with the damping split between them."""
    after: State = {"inverted": np.array(damping)}
    root = math.sqrt(damping)
    for layer in range(depth):
        inputs, outputs = state[f"inputs{layer}"], state[f"outputs{layer}"]
        traces = float(inputs.trace()), float(outputs.trace())
        unit = 1.0  # of a factor that is 0, whose layer has no gradient either
        if min(traces) > 0:
            # Root by root: the quotient may be no number.
            unit = math.sqrt(traces[0] / len(inputs)) / math.sqrt(traces[1] / len(outputs))
        for name, factor, shift in (
            ("left", inputs, unit * root),
            ("right", outputs, root / unit),
        ):
            damped = factor.copy()
            damped.reshape(-1)[:: len(damped) + 1] += shift
            after[f"{name}{layer}"] = aside(2.0 * len(damped) ** 3, np.linalg.inv, damped)
    return after


def _solved(state: State, v: Array, depth: int) -> Array:
    """v times the inverses of each layer's factors."""
    result, first = np.empty_like(v), 0
    for layer in range(depth):
        left, right = state[f"left{layer}"], state[f"right{layer}"]
        part = slice(first, first + len(left) * len(right))
        block = v[part].reshape(len(left), len(right))
        result[part] = (left @ block @ right).reshape(-1)
        first = part.stop
    return result


def _best(
    problem: Problem, point: Point, directions: list[Array], damping: float
) -> tuple[Array, float]:
    """The minimiser of g·s + ½ s·(G + l2 + λ) s in the span of the directions, and its fall."""
    # Of length 1, so that what they are multiplied by stays in range.
    units = [_unit(direction) for direction in directions]
    rows = np.array([unit for unit in units if unit is not None])
    if not len(rows):
        return np.zeros_like(directions[0]), 0.0
    count_cost(problem, 2 * len(rows))
    images = (rows.astype(point.gradient.dtype) @ point.gauss_newton).astype(np.float64)
    if not np.isfinite(images).all():
        raise FloatingPointError("a product of the Gauss–Newton matrix is not finite")
    images += damping * rows
    slopes = np.array([dot(point.gradient, row) for row in rows])
    matrix = rows @ images.T
    a, b = matrix[0, 0], (matrix[0, -1] + matrix[-1, 0]) / 2
    if not a > 0:  # the rounding of G is above the damping
        return np.zeros_like(rows[0]), 0.0
    c = np.array([-slopes[0] / a] + [0.0] * (len(rows) - 1))
    if len(rows) == 2 and (rest := matrix[1, 1] - b * (b / a)) > 1e-10 * matrix[1, 1]:
        # What the first leaves to the second: where they are parallel, the first alone is right.
        c[1] = -(slopes[1] - b * (slopes[0] / a)) / rest
        c[0] = -(slopes[0] + b * c[1]) / a
    return c @ rows, -float(c @ slopes) / 2


def _unit(v: Array) -> Array | None:
    """v / ‖v‖; None where it is 0 or not finite."""
    e = np.frexp(np.abs(v).max())[1]
    v = np.ldexp(v, -e)
    length = norm(v)
    return v / length if 0 < length < math.inf else None


def _taken(
    state: State, names: tuple[str, ...], depth: int
) -> tuple[tuple[npt.NDArray[Any], ...], ...]:
    return tuple(tuple(state[f"{name}{layer}"] for layer in range(depth)) for name in names)


def _chain(net: BaseNetwork) -> DenseChain:
    return require_dense(net, "K-FAC", "Adam, GaussNewton or SaddleFreeNewton")
