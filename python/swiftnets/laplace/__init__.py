"""Laplace's approximation: the posterior of a net's parameters around a minimum.

`mode` goes to a minimum of the negative log posterior, `fit` makes a normal distribution of the
exact Hessian there, or of simpler matrices, and `optimize_prior_precision` chooses the prior by the
evidence. The posterior has samples, outputs with variances, class probabilities, and the log
evidence with its correction by third and fourth derivatives.

Examples
--------
>>> import numpy as np
>>> from swiftnets import MLP, laplace
>>> x = np.linspace(-1, 1, 20)[:, None]
>>> net = MLP((1, 3, 1), l2=0.1)
>>> point = laplace.mode(net.at(net.initial(seed=0), x, np.sin(3 * x)))
>>> posterior = laplace.fit(point)
>>> predicted = posterior.predictive([[0.0], [3.0]])
>>> bool(predicted.variance[0] < predicted.variance[1])
True
"""

from swiftnets.laplace.evidence import Correction
from swiftnets.laplace.minimum import mode
from swiftnets.laplace.posterior import Laplace, fit
from swiftnets.laplace.predictive import Predictive
from swiftnets.laplace.prior import PriorSearch, optimize_prior_precision

__all__ = [
    "Correction",
    "Laplace",
    "Predictive",
    "PriorSearch",
    "fit",
    "mode",
    "optimize_prior_precision",
]


def __dir__() -> list[str]:
    return __all__
