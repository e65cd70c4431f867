"""`DaskPoint`: a net at parameters w on samples that are on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.internals import Fixed, Internals
from swiftnets._support.locks import lock_of
from swiftnets._support.types import FloatArray
from swiftnets.curvature.kinds import FisherKind, Kind
from swiftnets.curvature.kronecker import KroneckerFactors, Targets, require_finite
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.dask import worker
from swiftnets.dask.cluster import Cluster, require_open
from swiftnets.dask.matrix import DaskMatrix
from swiftnets.nets.supports import require_dense
from swiftnets.network import Network

__all__ = ["DaskPoint"]


def __dir__() -> list[str]:
    return __all__


_INTERNAL = ("cluster", "summed")


class DaskPoint(Fixed, Internals, internal=_INTERNAL):
    """A net at parameters w on samples that are on a cluster; made by `DaskProblem.at`.

    Attributes
    ----------
    net : Network or MLP
    w : (P,) float array
        Read-only.

    Notes
    -----
    The first thing that is asked of it makes the forward and backward pass of each partition, on
    the worker that has it, which keeps it as long as the point is there: about 5 numbers for each
    sample and unit. A worker that dies takes passes with it; others make them anew.

    Examples
    --------
    >>> import dask.array
    >>> from distributed import Client
    >>> from swiftnets import MLP
    >>> from swiftnets.dask import DaskProblem
    >>> x, y = (dask.array.from_array(np.array(a), chunks=(1, -1))
    ...         for a in ([[3.0, 4.0], [0.0, 1.0]], [[10.0], [2.0]]))
    >>> with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
    ...     point = DaskProblem(MLP((2, 1), bias=False), x, y).at([1.0, 2.0])
    ...     print(point.loss, point.gradient, point.hessian.diagonal())
    0.5 [3. 4.] [ 9. 17.]
    """

    def __init__(self, cluster: Cluster, w: FloatArray) -> None:
        if not isinstance(cluster, Cluster):
            raise TypeError(
                "a DaskPoint is made by DaskProblem.at(w); got an argument of type "
                f"{type(cluster).__name__}"
            )
        self._cluster, self._w = cluster, w
        self._lock = lock_of(self)
        self._passed: list[Any] | None = None
        self._first: tuple[float, FloatArray] | None = None

    @property
    def net(self) -> Network:
        """The net."""
        return self._cluster.net

    @property
    def w(self) -> FloatArray:
        """The parameters (P,)."""
        return self._w

    @property
    def cluster(self) -> Cluster:
        """Where the samples are."""
        return self._cluster

    @property
    def counted_samples(self) -> int:
        """How many samples the loss is a sum over: those of a weight that is not 0."""
        return sum(fact.counted for fact in self._cluster.facts)

    # Sums

    def _parts(self) -> list[Any]:
        """The passes of all partitions, on their workers."""
        with self._lock:
            if self._passed is None:
                cluster = self._cluster
                sent = cluster.sent(self.w, len(cluster.partitions))
                self._passed = cluster.parts(
                    "linearize", worker.linearize, cluster.partitions, sent, cluster.exponent
                )
            return self._passed

    def summed(
        self, title: str, function: Callable[..., worker.Terms], *arguments: Any
    ) -> worker.Terms:
        """The sum over partitions of what a function makes of their passes and the arguments.

        Parameters
        ----------
        title : str
            Of the tasks.
        function : callable
        *arguments : object
            Arrays are sent to the workers once; a list has one for each partition.

        Returns
        -------
        tuple of float64 arrays
            Not reduced, and without l2.
        """
        cluster = self._cluster
        require_open(cluster.client)
        parts = self._parts()
        given = [
            cluster.sent(value, len(parts)) if isinstance(value, np.ndarray) else value
            for value in arguments
        ]
        return cluster.sum(title, function, parts, *given)

    def _values(self) -> tuple[float, FloatArray]:
        with self._lock:
            if self._first is None:
                self._first = finished(
                    self._cluster, self.w, self.summed("loss-and-gradient", worker.passed_loss)
                )
                self._first[1].flags.writeable = False
            return self._first

    @property
    def loss(self) -> float:
        """The loss, with the net's reduction and l2 term."""
        return self._values()[0]

    @property
    def gradient(self) -> FloatArray:
        """The gradient (P,) of the loss; read-only."""
        return self._values()[1]

    def kronecker_factors(self, *, targets: Targets = "exact", seed: int = 0) -> KroneckerFactors:
        """The factors of the Gauss–Newton matrix; see `swiftnets.curvature.kronecker_factors`.

        Parameters
        ----------
        targets : {"exact", "sampled"}
        seed : int
            Of what is drawn, with a stream of its own for each partition: sampled factors are those
            of one process in distribution alone.

        Returns
        -------
        KroneckerFactors

        Raises
        ------
        NotImplementedError
            If the net is no `MLP`.
        TypeError, ValueError
            If an argument is not as above.
        FloatingPointError
            If a factor is not finite.
        """
        net, shares = self.net, self._cluster.shares
        require_dense(net, "the Kronecker factorisation", 'preconditioner="diagonal"')
        checks.choice(targets, "targets", get_args(Targets))
        seed = checks.integer(seed, "seed", 0, 2**63 - 1)
        terms = self.summed(
            "kronecker-factors",
            worker.kronecker,
            list(shares),
            targets,
            [(seed, index) for index in range(len(shares))],
        )
        factors = [np.array(term, np.float64) for term in terms]
        half = len(factors) // 2
        outputs = [factor / self._cluster.divisor for factor in factors[half:]]
        require_finite(*factors[:half], *outputs)
        return KroneckerFactors(tuple(factors[:half]), tuple(outputs))

    # Along directions

    def taylor(self, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        """Coefficients of the loss and its gradient along a line; see `swiftnets.Point.taylor`.

        Parameters
        ----------
        v : (P,) array_like
        order : int
            Of the gradient's series, from 0 to 3.

        Returns
        -------
        TaylorSeries
        """
        net = self.net
        line, order = net.engine.vector(v, "v"), checks.integer(order, "order", 0, 3)
        values, rows = self.summed("taylor", worker.taylor, line, order)
        loss, gradient = np.array(values) / self._cluster.divisor, np.array(rows)
        wide, along = self.w.astype(np.float64), line.astype(np.float64)
        ridge = np.zeros_like(gradient)
        ridge[0] = wide
        loss[0] += net.engine.penalty(self.w)
        loss[1] += net.l2 * np.vdot(wide, along)
        if order > 0:
            ridge[1] = along
            loss[2] += 0.5 * net.l2 * np.vdot(along, along)
        return TaylorSeries(loss, self._cluster.reduced(gradient, net.l2, ridge))

    def third(self, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        """The third derivative applied to two directions; see `swiftnets.Point.third`.

        Parameters
        ----------
        u : (P,) array_like
        v : (P,) or (K, P) array_like

        Returns
        -------
        (P,) or (K, P) float array
        """
        engine = self.net.engine
        fixed, (rows, single) = engine.vector(u, "u"), engine.rows(v, "v")
        (total,) = self.summed("third-derivative", worker.third, fixed, rows)
        out = self._cluster.reduced(total)
        return cast(FloatArray, out[0] if single else out)

    def fourth(self, u: npt.ArrayLike, v: npt.ArrayLike, s: npt.ArrayLike) -> FloatArray:
        """The fourth derivative applied to three directions; see `swiftnets.Point.fourth`.

        Parameters
        ----------
        u, v : (P,) array_like
        s : (P,) or (K, P) array_like

        Returns
        -------
        (P,) or (K, P) float array
        """
        engine = self.net.engine
        first, second = engine.vector(u, "u"), engine.vector(v, "v")
        rows, single = engine.rows(s, "s")
        (total,) = self.summed("fourth-derivative", worker.fourth, first, second, rows)
        out = self._cluster.reduced(total)
        return cast(FloatArray, out[0] if single else out)

    # Its matrices

    @property
    def hessian(self) -> DaskMatrix:
        """The matrix of second derivatives of the loss, exact."""
        return DaskMatrix(self, Kind.HESSIAN)

    @property
    def gauss_newton(self) -> DaskMatrix:
        """The generalised Gauss–Newton matrix plus l2; see `swiftnets.Point.gauss_newton`."""
        return DaskMatrix(self, Kind.GAUSS_NEWTON)

    def fisher(self, kind: FisherKind = "exact") -> DaskMatrix:
        """The Fisher matrix plus l2; see `swiftnets.Point.fisher`.

        Parameters
        ----------
        kind : {"exact", "empirical"}

        Returns
        -------
        DaskMatrix

        Raises
        ------
        ValueError
            For the exact matrix of a loss that is no likelihood.
        """
        return DaskMatrix(self, Kind.fisher(kind, self.net.loss_function))

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a DaskPoint is not pickled, as its samples are on a cluster")

    def __repr__(self) -> str:
        samples = checks.counted(self.counted_samples, "sample")
        partitions = checks.counted(len(self._cluster.partitions), "partition")
        return f"DaskPoint({self.net!r}, {samples} in {partitions})"


def finished(cluster: Cluster, w: FloatArray, terms: worker.Terms) -> tuple[float, FloatArray]:
    """A loss and a gradient, reduced, with l2."""
    value, gradient = terms
    net = cluster.net
    return loss_of(cluster, w, value), cluster.reduced(gradient, net.l2, w)


def loss_of(cluster: Cluster, w: FloatArray, value: Any) -> float:
    """A loss, reduced, with l2."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.float64(value) / cluster.divisor) + cluster.net.engine.penalty(w)
