"""Optimisers: methods of first, second and higher order behind one interface.

Each is a class whose fields are its settings; see `swiftnets.optimizers.base.Optimizer` for `step`
and `minimize`. They minimise any `swiftnets.problems.Problem`.

Examples
--------
>>> from swiftnets.optimizers import LBFGS
>>> from swiftnets.problems import Rosenbrock
>>> problem = Rosenbrock(2)
>>> LBFGS().minimize(problem, problem.start(), gradient_tolerance=1e-8).w.round(6)
array([1., 1.])
"""

from swiftnets.optimizers.base import Event, History, Optimizer, Result, State, StepResult
from swiftnets.optimizers.first_order import LBFGS, SGD, Adam, Momentum

__all__ = [
    "LBFGS",
    "SGD",
    "Adam",
    "Event",
    "History",
    "Momentum",
    "Optimizer",
    "Result",
    "State",
    "StepResult",
]
