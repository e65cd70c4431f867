"""A net as `scipy.optimize.minimize` takes it.

Curvature matrices become SciPy's linear operators by ``matrix.as_linear_operator()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support.locks import lock_of
from swiftnets._support.types import FloatArray
from swiftnets.curvature.point import Point
from swiftnets.nets.samples import Samples
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
    >>> from scipy.optimize import minimize
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1), l2=0.01)
    >>> p = as_scipy(net, np.eye(2), np.ones((2, 1)))
    >>> w = net.initial(seed=0)
    >>> minimize(p.fun, w, jac=p.jac, hessp=p.hessp, method="trust-krylov").success
    True
    """
    samples = require_net(net).engine.reader.kept(x, y, sample_weight, copy=True)
    points = _Points(net, samples)
    return ScipyProblem(
        fun=lambda w: points.at(w).loss,
        jac=lambda w: points.at(w).gradient.copy(),
        hess=lambda w: points.at(w).hessian.dense(),
        hessp=lambda w, v: points.at(w).hessian @ v,
    )


class _Points:
    """The last point, made anew when w has changed. Threads share it safely."""

    def __init__(self, net: Network, samples: Samples) -> None:
        self._net, self._samples = net, samples
        self._lock = lock_of(self)
        self._last: tuple[bytes, Point] | None = None

    def at(self, w: npt.ArrayLike) -> Point:
        w = np.asarray(w)
        key = w.tobytes()
        with self._lock:
            last = self._last
        if last is not None and last[0] == key:
            return last[1]
        point = self._net.at_samples(w, self._samples)
        with self._lock:
            self._last = key, point
        return point
