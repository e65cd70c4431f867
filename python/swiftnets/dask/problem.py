"""`DaskProblem`: the loss of a net on samples that are spread over a cluster."""

from __future__ import annotations

import pickle
import uuid
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.dask import worker
from swiftnets.dask.cluster import Cluster, require_open, running
from swiftnets.dask.point import DaskPoint, finished, loss_of
from swiftnets.dask.sources import readers
from swiftnets.network import Network, require_net
from swiftnets.problems.base import Problem

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskProblem"]


def __dir__() -> list[str]:
    return __all__


class DaskProblem(Problem):
    """The loss of a net on samples that are spread over a cluster.

    Every sum over samples is the one that one process gives, up to the order of summation, and that
    order is fixed by the partitions: the same partitions give the same bits, whichever worker has
    which, as long as the workers have as many threads and processors of one kind.

    Parameters
    ----------
    net : Network or MLP
    x : (N, …) dask.array.Array, or a list of delayed batches
        Its chunks are the partitions; they cut between samples alone. Or `dask.delayed` objects or
        futures, each of a tuple ``(x, y)`` or ``(x, y, sample_weight)`` of arrays.
    y : (N, outputs) or (N,) dask.array.Array, optional
        With the chunks of x. Not with batches, which have their own.
    sample_weight : (N,) dask.array.Array, optional
        Not negative.
    client : distributed.Client, optional
        That of this process by default.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError, ValueError
        If an argument is not as above, the client is closed or there is none; on the workers, if
        what the samples are is not what the net takes. What a batch raises is raised here, with a
        note of which one it was.

    Notes
    -----
    The samples are read when the problem is made, and stay on the workers, checked and copied. What
    a worker held when it died is read again from the arrays or batches given: keep what *they* are
    made from. (Futures of scattered data are made from nothing, and are lost with their worker.)

    Chunks whose lengths are not known, as those of data frames are, are taken: x and y then need as
    many of them, and the workers compare their lengths. Partitions without samples count for
    nothing.

    On a worker sums take turns, each with as many threads of the engine as the worker has. Workers
    of one thread each, or one worker a machine with all its threads, do well; what a product costs
    beside arithmetic, about a millisecond a partition, says how many partitions: a few a worker.

    Examples
    --------
    >>> import dask.array
    >>> from distributed import Client
    >>> from swiftnets import MLP
    >>> from swiftnets.optimizers import LBFGS
    >>> rng = np.random.default_rng(0)
    >>> x = dask.array.from_array(rng.standard_normal((60, 3)), chunks=(20, -1))
    >>> net = MLP((3, 4, 1), l2=0.01)
    >>> with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
    ...     problem = DaskProblem(net, x, dask.array.sin(x[:, :1]))
    ...     result = LBFGS().minimize(problem, net.initial(seed=0), max_iterations=5)
    ...     result.loss < problem.loss(net.initial(seed=0)), problem.partition_count
    (True, 3)
    """

    def __init__(
        self,
        net: Network,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        client: Client | None = None,
    ) -> None:
        self.net = require_net(net)
        self.parameter_count, self.dtype = net.parameter_count, net.dtype
        found = running(client)
        settings = pickle.dumps(net.summing(l2=0.0))
        reads = found.compute(readers(settings, x, y, sample_weight, uuid.uuid4().hex))
        facts = _facts(found, reads)
        self._rows = sum(fact.rows for fact in facts)
        if self._rows == 0:
            raise ValueError("x has no samples in any partition; expected at least one")
        some = [index for index, fact in enumerate(facts) if fact.counted]
        if not some:
            raise ValueError("sample_weight is 0 everywhere; expected a sample that counts")
        self._cluster = Cluster(found, net, [reads[i] for i in some], [facts[i] for i in some])

    @property
    def client(self) -> Client:
        """The cluster's."""
        return cast("Client", self._cluster.client)

    @property
    def sample_count(self) -> int:
        """N, of all partitions, samples of weight 0 too."""
        return self._rows

    @property
    def partition_count(self) -> int:
        """How many partitions have samples that count."""
        return len(self._cluster.partitions)

    def at(self, w: npt.ArrayLike) -> DaskPoint:
        """The net at w on the samples.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        DaskPoint
        """
        vector = np.array(self.vector(w, "w"))
        vector.flags.writeable = False
        return DaskPoint(self._cluster, vector)

    def loss(self, w: npt.ArrayLike) -> float:
        vector = self.vector(w, "w")
        (value,) = self._sum("loss", worker.loss, vector)
        return loss_of(self._cluster, vector, value)

    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        vector = self.vector(w, "w")
        terms = self._sum("loss-and-gradient", worker.loss_and_gradient, vector)
        return finished(self._cluster, vector, terms)

    def _sum(self, title: str, function: Any, w: FloatArray) -> worker.Terms:
        cluster = self._cluster
        require_open(cluster.client)
        sent = cluster.sent(w, len(cluster.partitions))
        return cluster.sum(title, function, cluster.partitions, sent, cluster.exponent)

    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        rows = self.vectors(v, "v")
        hessian = self.at(w).hessian
        return hessian @ rows if rows.ndim == 1 else rows @ hessian

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        return self.at(w).hessian.dense()

    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        return self.at(w).taylor(v, order)

    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        return self.at(w).third(u, v)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a DaskProblem is not pickled, as its samples are on a cluster; make it where it is"
        )

    def __repr__(self) -> str:
        samples = checks.counted(self.sample_count, "sample")
        partitions = checks.counted(self.partition_count, "partition")
        return f"DaskProblem({self.net!r}, {samples} in {partitions})"


def _facts(client: Any, reads: list[Any]) -> list[worker.Facts]:
    """What is known of each partition once it has been read."""
    token = uuid.uuid4().hex
    names = [f"count-samples-{token}-{index}" for index in range(len(reads))]
    try:
        found: list[worker.Facts] = client.gather(
            client.map(worker.facts, reads, key=names, pure=False)
        )
    except CancelledError as error:
        raise RuntimeError(
            "the cluster dropped the samples while they were read; expected sources that can be "
            "read again"
        ) from error
    except Exception as error:
        which = next((i for i, read in enumerate(reads) if read.status == "error"), None)
        if which is not None:
            error.add_note(f"This was in reading the samples, {which} of 0 to {len(reads) - 1}.")
        raise
    return found
