"""K-FAC: Kronecker-factored natural gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swiftnets._support.types import FloatArray
from swiftnets.curvature.kronecker import KroneckerFactors, kronecker_factors
from swiftnets.linalg.scaling import norm
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.supports import DenseChain, require_dense
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.problems import Problem
from swiftnets.problems.computed import require_finite
from swiftnets.problems.counted import count_cost, net_problem

__all__ = ["KFAC"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, kw_only=True)
class KFAC(Optimizer):
    """w − η (A ⊗ G + λ)⁻¹ g, layer by layer (Martens & Grosse 2015).

    A and G are running means over the steps so far, of the exact factors of each batch; the damping
    acts in their eigenbases (George et al. 2018).

    Parameters
    ----------
    learning_rate : float
        η.
    damping : float
        λ, above 0; the net's l2 is added.
    decay : float
        Of the running means, in [0, 1); 0 takes the factors of the step alone.

    Notes
    -----
    A step costs about a gradient for each output, and two eigendecompositions for each layer.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> from swiftnets.problems import NetProblem
    >>> net = MLP((2, 3, 1), reduction="mean")
    >>> problem = NetProblem(net, np.eye(2), np.ones((2, 1)))
    >>> KFAC(damping=0.01).minimize(problem, net.initial(seed=0), max_iterations=50).loss < 1e-6
    True
    """

    learning_rate: float = 0.5
    damping: float = 0.01
    decay: float = 0.9

    def __post_init__(self) -> None:
        check_settings(self, "learning_rate", "damping", least_zero=("decay",))
        if self.decay >= 1:
            raise ValueError(f"decay is {self.decay!r}; expected a number below 1")

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        net = _chain(net_problem(problem, "K-FAC").net)
        state: State = {"steps": np.array(0)}
        for layer, (rows, width) in enumerate(zip(net.layer_rows, net.sizes[1:], strict=True)):
            state[f"inputs{layer}"] = np.zeros((rows, rows))
            state[f"outputs{layer}"] = np.zeros((width, width))
        return state

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        inner = net_problem(problem, "K-FAC")
        net = inner.net
        depth = len(_chain(net).layer_rows)
        loss, gradient = problem.loss_and_gradient(w)
        require_finite(loss, gradient)
        new = kronecker_factors(inner.at(w))
        count_cost(problem, 1 + net.outputs)
        steps = int(state["steps"]) + 1
        after: State = {"steps": np.array(steps)}
        for layer in range(depth):
            for name, factor in (("inputs", new.inputs), ("outputs", new.outputs)):
                key = f"{name}{layer}"
                after[key] = self.decay * state[key] + (1 - self.decay) * factor[layer]
                if not np.isfinite(after[key]).all():
                    raise FloatingPointError("a Kronecker factor has numbers that are not finite")
        # The means began at 0: divided by the weights so far, as Adam's.
        weight = 1 - self.decay**steps
        means = KroneckerFactors(
            tuple(after[f"inputs{layer}"] / weight for layer in range(depth)),
            tuple(after[f"outputs{layer}"] / weight for layer in range(depth)),
        )
        natural = means.inverse(self.damping + net.l2)(gradient.astype(np.float64))
        step = w.dtype.type(self.learning_rate) * natural.astype(w.dtype)
        return StepResult(w - step, loss, norm(gradient), after)


def _chain(net: BaseNetwork) -> DenseChain:
    return require_dense(net, "K-FAC", "Adam, GaussNewton or SaddleFreeNewton")
