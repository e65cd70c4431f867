"""Curvature matrices as `scipy.sparse.linalg.LinearOperator`, and a net as SciPy minimises it.

**SciPy's `eigsh` finds eigenvalues; it does not count them.** Its convergence says that each value
it returns is one, not that none in between is missing: a Krylov space from one start sees one
vector of each multiple eigenvalue, and of close ones the others late. On Hessians of nets with
duplicated units it dropped members of clusters in 114 of 360 runs. Where multiplicities or counts
matter take ``numpy.linalg.eigvalsh(net.hessian(...))``, or the inertia of two shifts from
`MLP.factorize`, whose difference is the number of eigenvalues between them.

Usually reached through a net: `MLP.hessian_operator`, `MLP.gauss_newton_operator`,
`MLP.fisher_operator` and `MLP.as_scipy`. Needs SciPy: ``pip install swiftnets[scipy]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets import _checks
from swiftnets._locks import lock_of
from swiftnets._samples import FloatArray

try:
    from scipy.sparse.linalg import LinearOperator
except ImportError:  # the module can be read without it
    LinearOperator = object

if TYPE_CHECKING:
    from swiftnets.mlp import MLP, FisherKind, Linearization

__all__ = [
    "CurvatureOperator",
    "ScipyProblem",
    "as_scipy",
    "fisher_operator",
    "gauss_newton_operator",
    "hessian_operator",
]


def __dir__() -> list[str]:
    return __all__


class CurvatureOperator(LinearOperator):  # type: ignore[misc]  # SciPy comes without types
    """A symmetric matrix given by its products; its adjoint is itself.

    Made by `hessian_operator`, `gauss_newton_operator` and `fisher_operator`. A product with a
    matrix is one call of the engine for all columns.

    Attributes
    ----------
    loss : float
    gradient : (P,) float array
        At the point of the operator.
    """

    def __init__(self, point: Linearization, product: Callable[[FloatArray], FloatArray]) -> None:
        if LinearOperator is object:
            raise ImportError("operators need SciPy: pip install swiftnets[scipy]")
        self.loss = point.loss
        self.gradient = point.gradient
        self._product = product
        count = len(point.gradient)
        super().__init__(point.gradient.dtype, (count, count))

    def _matvec(self, v: FloatArray) -> FloatArray:
        return self._product(self._real(v).reshape(-1))

    def _matmat(self, v: FloatArray) -> FloatArray:
        return self._product(np.ascontiguousarray(self._real(v).T)).T

    def _adjoint(self) -> CurvatureOperator:
        return self

    _transpose = _adjoint

    def _real(self, v: FloatArray) -> FloatArray:
        if np.iscomplexobj(v):
            raise TypeError(f"v has dtype {v.dtype}; expected real numbers")
        return v


def hessian_operator(
    net: MLP, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: Any = None
) -> CurvatureOperator:
    """The Hessian of the net's loss at w; parameters are those of `MLP.loss`.

    Notes
    -----
    `eigsh` may leave out members of clusters of eigenvalues though it says that it has converged;
    see `swiftnets.operators`.

    Examples
    --------
    >>> from scipy.sparse.linalg import eigsh
    >>> from swiftnets import MLP
    >>> net = MLP((3, 4, 2))
    >>> w = net.initial(seed=0)
    >>> x, y = np.eye(3), np.ones((3, 2))
    >>> largest = eigsh(net.hessian_operator(w, x, y), 1, which="LA")[0][0]
    >>> bool(np.isclose(largest, np.linalg.eigvalsh(net.hessian(w, x, y))[-1]))
    True
    """
    _checks.net(net)
    point = net.linearize(w, x, y, sample_weight=sample_weight)
    return CurvatureOperator(point, point.hvp)


def gauss_newton_operator(
    net: MLP, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: Any = None
) -> CurvatureOperator:
    """The Gauss–Newton matrix of the net's loss at w; see `MLP.gauss_newton_product`."""
    _checks.net(net)
    point = net.linearize(w, x, y, sample_weight=sample_weight)
    return CurvatureOperator(point, point.gauss_newton_product)


def fisher_operator(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any = None,
    *,
    kind: FisherKind = "exact",
    sample_weight: Any = None,
) -> CurvatureOperator:
    """The Fisher matrix of the net at w; see `MLP.fisher_product`."""
    _checks.net(net)
    net._fisher_kind(kind)
    point = net.linearize(w, x, y, sample_weight=sample_weight)
    return CurvatureOperator(point, lambda v: point.fisher_product(v, kind=kind))


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


def as_scipy(net: MLP, x: Any, y: Any = None, *, sample_weight: Any = None) -> ScipyProblem:
    """The loss with its derivatives for `scipy.optimize.minimize`.

    The samples are copied: their arrays may change afterwards. ``fun``, ``jac`` and ``hessp`` at
    one w share its forward and backward pass. Pass ``hess`` to
    methods that want the matrix (trust-exact), ``hessp`` to those that want products
    (trust-krylov, trust-ncg, Newton-CG).

    Examples
    --------
    >>> from scipy.optimize import minimize
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1), l2=0.01)
    >>> p = net.as_scipy(np.eye(2), np.ones((2, 1)))
    >>> w = net.initial(seed=0)
    >>> minimize(p.fun, w, jac=p.jac, hessp=p.hessp, method="trust-krylov").success
    True
    """
    x, y, sample_weight = net._reader.again(x, y, sample_weight, copy=True)
    points = _Points(lambda w: net.linearize(w, x, y, sample_weight=sample_weight))
    return ScipyProblem(
        fun=lambda w: points.at(w).loss,
        jac=lambda w: points.at(w).gradient.copy(),
        hess=lambda w: net.hessian(w, x, y, sample_weight=sample_weight),
        hessp=lambda w, v: points.at(w).hvp(v),
    )


class _Points:
    """The last linearisation, made anew when w has changed. Threads share it safely."""

    def __init__(self, linearize: Callable[[FloatArray], Linearization]) -> None:
        self._linearize = linearize
        self._lock = lock_of(self)
        self._last: tuple[bytes, Linearization] | None = None

    def at(self, w: npt.ArrayLike) -> Linearization:
        w = np.asarray(w)
        key = w.tobytes()
        with self._lock:
            last = self._last
        if last is not None and last[0] == key:
            return last[1]
        point = self._linearize(w)
        with self._lock:
            self._last = key, point
        return point
