"""The client's side: tasks that are given to a cluster, and sums of what they return."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from swiftnets._support.types import FloatArray
from swiftnets.dask import worker
from swiftnets.network import Network

__all__ = ["Cluster", "running"]


def __dir__() -> list[str]:
    return __all__


# How many terms a task adds: of 1,000 partitions four levels, of 143 tasks.
_FAN_IN = 8
# Bytes of vectors that go with the tasks themselves; larger ones go from worker to worker.
_WITH_TASKS = 2**18
_WARNING = "distributed.admin.large-graph-warning-threshold"


def running(client: Any) -> Any:
    """A client that takes tasks; by default that of this process.

    Parameters
    ----------
    client : distributed.Client or None

    Returns
    -------
    distributed.Client

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If it is no client.
    ValueError
        If there is none, or it is closed or asynchronous.
    """
    try:
        import dask.array  # noqa: F401
        import distributed
    except ImportError as error:
        raise ImportError("clusters need Dask: pip install swiftnets[dask]") from error
    if client is None:
        default: Any = distributed.default_client
        try:
            client = default()
        except ValueError:
            raise ValueError(
                "client is None and this process has none; expected a distributed.Client"
            ) from None
    if not isinstance(client, distributed.Client):
        raise TypeError(f"client is of type {type(client).__name__}; expected a distributed.Client")
    if client.asynchronous:
        raise ValueError("client is asynchronous; expected one that waits, of asynchronous=False")
    require_open(client)
    return client


def require_open(client: Any) -> None:
    """A ValueError if it takes no more tasks."""
    if client.status != "running":
        raise ValueError(f"client is {client.status}; expected one with a running cluster")


class Cluster:
    """Samples on a cluster, and the client that asks for sums over them.

    Attributes
    ----------
    client : distributed.Client
    net : Network or MLP
    partitions : list of futures of Partition
        Of those that have samples that count.
    facts : list of Facts
        Of the same.
    exponent : int
        Weights are divided by 2 to it.
    shares : list of float
        Of each partition in the sum of the weights.
    divisor : float
        Of sums over all samples: for a mean the sum of the weights.
    """

    def __init__(
        self, client: Any, net: Network, partitions: list[Any], facts: list[worker.Facts]
    ) -> None:
        self.client, self.net = client, net
        self.partitions, self.facts = partitions, facts
        averages = net.engine.averages
        largest = max(fact.exponent for fact in facts)
        weights = [math.ldexp(fact.weight, fact.exponent - largest) for fact in facts]
        total = math.fsum(weights)
        self.shares = [weight / total for weight in weights]
        self.exponent, self.divisor = (largest, total) if averages else (0, 1.0)

    def sent(self, value: FloatArray, count: int) -> Any:
        """A vector for `count` tasks: with each where it is small, else as one that they share.

        As a task, which the scheduler has done again where its worker dies: data that is scattered
        is lost then.

        Parameters
        ----------
        value : float array
        count : int

        Returns
        -------
        float array or future
        """
        if value.nbytes * count <= _WITH_TASKS:
            return value
        import dask

        # Dask warns of large graphs; this one is meant.
        with dask.config.set({_WARNING: 2**62}):
            return self.client.submit(
                worker.sent, value, key=f"send-vectors-{uuid.uuid4().hex}", pure=False
            )

    def parts(
        self, title: str, function: Callable[..., Any], held: Sequence[Any], *arguments: Any
    ) -> list[Any]:
        """What a function makes of each partition, on the workers that have them.

        Parameters
        ----------
        title : str
            What the dashboard calls the tasks.
        function : callable
            Of what is held of a partition, and the arguments.
        held : list of futures
            The partitions, or what was made of each of them.
        *arguments : object
            A list has one for each partition.

        Returns
        -------
        list of futures
        """
        rows = list(
            zip(
                [function] * len(held),
                held,
                *(a if isinstance(a, list) else [a] * len(held) for a in arguments),
                strict=True,
            )
        )
        token, futures = uuid.uuid4().hex, [None] * len(held)
        for workers, some in self._places(arguments).items():
            made = self.client.map(
                worker.part,
                *zip(*(rows[index] for index in some), strict=True),
                key=[f"{title}-{token}-{index}" for index in some],
                pure=False,
                workers=list(workers) or None,
                allow_other_workers=bool(workers),
            )
            for index, future in zip(some, made, strict=True):
                futures[index] = future
        return futures

    def _places(self, arguments: Sequence[Any]) -> dict[tuple[str, ...], list[int]]:
        """Partitions by the workers that should have their tasks; by none where Dask knows.

        It sends a task where most of the bytes are that it needs. Vectors that are a task's result
        may be larger than a partition: all would go where they are.

        Parameters
        ----------
        arguments : sequence of object

        Returns
        -------
        dict of tuple of str to list of int
        """
        everything = list(range(len(self.partitions)))
        if not any(hasattr(argument, "key") for argument in arguments):
            return {(): everything}
        found = self.client.who_has(self.partitions)
        places: dict[tuple[str, ...], list[int]] = {}
        for index in everything:
            workers = tuple(found.get(self.partitions[index].key, ()))
            places.setdefault(workers, []).append(index)
        return places

    def sum(
        self, title: str, function: Callable[..., Any], held: Sequence[Any], *arguments: Any
    ) -> worker.Terms:
        """The sum over partitions of what a function makes of each, in float64.

        In groups of neighbours, and groups of these: in the same order each time.

        Parameters
        ----------
        title, function, held, *arguments
            As of `parts`.

        Returns
        -------
        tuple of what the function returns, added up

        Raises
        ------
        RuntimeError
            If the cluster forgot what the sum is made from.
        ValueError
            If the client is closed.
        """
        require_open(self.client)
        level = self.parts(title, function, held, *arguments)
        while len(level) > 1:
            token, groups = uuid.uuid4().hex, range(0, len(level), _FAN_IN)
            level = [
                self.client.submit(
                    worker.added,
                    *level[first : first + _FAN_IN],
                    key=f"{title}-sum-{token}-{first}",
                    pure=False,
                )
                for first in groups
            ]
        try:
            found: worker.Terms = level[0].result()
        except CancelledError as error:
            require_open(self.client)
            raise RuntimeError(
                f"the cluster dropped the sum ({error}); was it restarted, or were tasks "
                "cancelled? A new DaskProblem reads the samples again"
            ) from error
        return found

    def reduced(self, value: Any, ridge: float = 0.0, v: Any = None) -> FloatArray:
        """A sum over samples, of the net's reduction and dtype, plus a ridge times v."""
        total = np.array(value, np.float64)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            if self.divisor != 1:
                total /= self.divisor
            if ridge:
                total += ridge * np.asarray(v, np.float64)
            return total.astype(self.net.dtype)
