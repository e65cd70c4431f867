"""Optimisers: methods of first, second and higher order behind one interface.

Each is a class whose fields are its settings; see `swiftnets.optimizers.base.Optimizer` for `step`
and `minimize`. They minimise any `swiftnets.problems.Problem`; `GaussNewton`, `LevenbergMarquardt`,
`KFAC` and some methods of `SaddleFreeNewton` need a net. `schedules` has learning rates that change
along a run, `writers` logs.

Examples
--------
>>> from swiftnets.optimizers import TrustRegion
>>> from swiftnets.problems import Rosenbrock
>>> problem = Rosenbrock(2)
>>> TrustRegion().minimize(problem, problem.start(), gradient_tolerance=1e-8).w.round(6)
array([1., 1.])
"""

from swiftnets._support.checkpoints import CheckpointError
from swiftnets.optimizers.base import Event, History, Optimizer, Result, State, StepResult
from swiftnets.optimizers.cubic import CubicRegularization
from swiftnets.optimizers.first_order import LBFGS, SGD, Adam, Momentum
from swiftnets.optimizers.functional_inverse import FunctionalInverseNewton
from swiftnets.optimizers.gauss_newton import GaussNewton, LevenbergMarquardt
from swiftnets.optimizers.higher_order import Chebyshev, FourthOrder, Halley
from swiftnets.optimizers.kronecker import KFAC
from swiftnets.optimizers.line_search import QuarticLineSearch
from swiftnets.optimizers.newton import Newton
from swiftnets.optimizers.saddle_free import SaddleFreeNewton
from swiftnets.optimizers.trust_region import TrustRegion
from swiftnets.optimizers.writers import CSVWriter, TensorBoardWriter, WandbWriter

__all__ = [
    "KFAC",
    "LBFGS",
    "SGD",
    "Adam",
    "CSVWriter",
    "Chebyshev",
    "CheckpointError",
    "CubicRegularization",
    "Event",
    "FourthOrder",
    "FunctionalInverseNewton",
    "GaussNewton",
    "Halley",
    "History",
    "LevenbergMarquardt",
    "Momentum",
    "Newton",
    "Optimizer",
    "QuarticLineSearch",
    "Result",
    "SaddleFreeNewton",
    "State",
    "StepResult",
    "TensorBoardWriter",
    "TrustRegion",
    "WandbWriter",
]


def __dir__() -> list[str]:
    return __all__
