"""A net as `scipy.optimize.minimize` takes it.

Curvature matrices become SciPy's linear operators by ``matrix.as_linear_operator()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from swiftnets._support.types import FloatArray
from swiftnets.interop.last_point import LastPoint
from swiftnets.network import Network, require_net

__all__ = ["ScipyProblem", "as_scipy"]


def __dir__() -> list[str]:
    return __all__


class ScipyProblem(NamedTuple):
    """A net's loss on some samples as `scipy.optimize.minimize` takes it; made by `as_scipy`.

    Attributes
    ----------
    fun : callable
        w to the loss.
    jac : callable
        w to the gradient (P,).
    hess : callable
        w to the dense Hessian (P, P).
    hessp : callable
        (w, v) to the Hessian's product with v.
    """

    fun: Callable[..., float]
    jac: Callable[..., FloatArray]
    hess: Callable[..., FloatArray]
    hessp: Callable[..., FloatArray]


def as_scipy(net: Network, x: Any, y: Any = None, *, sample_weight: Any = None) -> ScipyProblem:
    """The loss with its derivatives for `scipy.optimize.minimize`.

    Parameters
    ----------
    net : Network or MLP
    x, y, sample_weight
        As `Network.loss` takes them; copied, so that their arrays may change afterwards.

    Returns
    -------
    ScipyProblem
        ``fun``, ``jac`` and ``hessp`` at one w share its forward and backward pass. Pass ``hess``
        to methods that want the matrix (trust-exact), ``hessp`` to those that want products
        (trust-krylov, trust-ncg, Newton-CG).

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.optimize import minimize
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1), l2=0.01)
    >>> p = as_scipy(net, np.eye(2), np.ones((2, 1)))
    >>> w = net.initial(seed=0)
    >>> minimize(p.fun, w, jac=p.jac, hessp=p.hessp, method="trust-krylov").success
    True
    """
    samples = require_net(net).engine.reader.kept(x, y, sample_weight, copy=True)
    points = LastPoint(net, samples)
    return ScipyProblem(
        fun=lambda w: points.at(w).loss,
        jac=lambda w: points.at(w).gradient.copy(),
        hess=lambda w: points.at(w).hessian.dense(),
        hessp=lambda w, v: points.at(w).hessian @ v,
    )
