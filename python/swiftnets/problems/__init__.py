"""Smooth functions of a vector as optimisers take them: nets on samples, and known test functions.

An optimiser sees a `Problem`: a loss with its derivatives to third order. `NetProblem` is the loss
of a `Network` on samples, `Minibatches` one that changes from step to step. `Rosenbrock`,
`LinearRegression` and `Quadratic` have closed forms, to hold methods against. Subclass `Problem`
for functions of your own.
"""

from swiftnets.problems.base import FunctionPoint, PointLike, Problem
from swiftnets.problems.counted import Counted
from swiftnets.problems.functional_inverse import (
    FunctionalInverse,
    InverseResult,
    InverseSeries,
    PerceptronInverse,
)
from swiftnets.problems.functions import LinearRegression, Quadratic, Rosenbrock
from swiftnets.problems.minibatches import Minibatches
from swiftnets.problems.net import NetProblem

__all__ = [
    "Counted",
    "FunctionPoint",
    "FunctionalInverse",
    "InverseResult",
    "InverseSeries",
    "LinearRegression",
    "Minibatches",
    "NetProblem",
    "PerceptronInverse",
    "PointLike",
    "Problem",
    "Quadratic",
    "Rosenbrock",
]


def __dir__() -> list[str]:
    return __all__
