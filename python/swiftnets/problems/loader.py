"""Minibatches that a loader makes: PyTorch's `DataLoader`, a list of batches, one of your own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.curvature.point import Point
from swiftnets.nets.samples import Batch, Samples
from swiftnets.network import Network
from swiftnets.problems.net import NetProblem

__all__ = ["Loader"]


def __dir__() -> list[str]:
    return __all__


_MOST_BATCHES = 2**17  # of an epoch whose length the loader does not tell


class _Passes:
    """A loader's batches, checked, anew at each iteration; each is valid until the next."""

    def __init__(self, net: Network, loader: Any) -> None:
        self._net, self._loader = net, loader

    def __iter__(self) -> Iterator[Batch]:
        return self._net.engine.reader.batches(self._loader)


class _Streamed(NetProblem):
    """The loss of all of a loader's samples, which are not kept but for matrices."""

    @property
    def batches(self) -> list[Batch]:
        return [batch.each(np.array) for batch in self._samples.batches]

    def at(self, w: npt.ArrayLike) -> Point:
        return self.net.at_samples(w, Samples(self.batches, False))


class Loader:
    """A loader's batches as problems, and what it has in all.

    Parameters
    ----------
    net : Network or MLP
    loader : iterable
        Of batches, the same number at each iteration.

    Attributes
    ----------
    full : NetProblem
    per_epoch : int
        Batches.

    Raises
    ------
    TypeError
        If it can be gone through once alone, or its entries are no batches.
    ValueError
        If a batch does not fit the net, no weight is above 0, or no end is seen.
    """

    def __init__(self, net: Network, loader: Any) -> None:
        checks.ends(loader, "x")
        if isinstance(loader, Iterator):
            raise TypeError(
                f"x is of type {type(loader).__name__}, which can be gone through once alone; "
                "expected a loader that starts anew in each epoch, as a list of batches or "
                "PyTorch's DataLoader"
            )
        self._net, self._loader = net, loader
        self.full: NetProblem = _Streamed.of(net, Samples(_Passes(net, loader), False))
        self._count, self._total, self.per_epoch = 0, 0.0, 0
        self._is_weighted = False
        most = max(checks.length(loader), _MOST_BATCHES)
        for batch in _Passes(net, loader):
            if self.per_epoch == most:
                raise ValueError(
                    f"x, of type {type(loader).__name__}, has given {most} batches without an end; "
                    "expected a loader that ends, or one with a length, len(x), of so many batches"
                )
            self.per_epoch += 1
            self._count += len(batch.x)
            self._total += batch.total_weight
            self._is_weighted = self._is_weighted or batch.weights is not None
        if not 0 < self._total < np.inf:
            raise ValueError(f"sample_weight sums to {self._total}; expected a weight above 0")
        self._epoch, self._next = -1, 0
        self._batches: Iterator[Batch] = iter(())
        self._last: NetProblem | None = None

    def at(self, epoch: int, place: int) -> NetProblem:
        """A batch of an epoch.

        Parameters
        ----------
        epoch, place : int
            The one that was asked for last, or a later one of the same epoch, or of another.

        Returns
        -------
        NetProblem

        Raises
        ------
        ValueError
            If there are fewer batches than when they were counted, or more.
        """
        if self._last is not None and (epoch, place) == (self._epoch, self._next - 1):
            return self._last
        if epoch != self._epoch or place < self._next:
            for owner in (self._loader, getattr(self._loader, "sampler", None)):
                if callable(set_epoch := getattr(owner, "set_epoch", None)):
                    set_epoch(epoch)
            self._batches = iter(_Passes(self._net, self._loader))
            self._epoch, self._next = epoch, 0
        batch = None
        while self._next <= place:
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError(
                    f"x, of type {type(self._loader).__name__}, has {self._next} batches in epoch "
                    f"{epoch}; expected {self.per_epoch}, as when they were counted"
                )
            self._next += 1
        assert batch is not None
        self._last = self._problem(batch.each(np.array))
        if self._next == self.per_epoch and next(self._batches, None) is not None:
            raise ValueError(
                f"x, of type {type(self._loader).__name__}, has more than {self.per_epoch} batches "
                f"in epoch {epoch}; expected as many as when they were counted"
            )
        return self._last

    def _problem(self, batch: Batch) -> NetProblem:
        """An unbiased estimate of the loss of all samples, as `Minibatches` says."""
        net, averages = self._net, self._net.reduction == "mean"
        if self.per_epoch > 1 and (self._is_weighted or not averages):
            weights = np.ones(len(batch.x)) if batch.weights is None else batch.weights
            shares = weights.astype(np.float64) * (self._count / len(batch.x))
            if averages:
                shares, net = shares / self._total, net.summing()
            with np.errstate(over="ignore"):
                scaled = shares.astype(net.dtype)
            if not np.isfinite(scaled).all():
                raise ValueError(
                    f"sample_weight has {weights.max():g}, which {net.dtype} does not hold as a "
                    f"batch's count, times {self._count} / {len(batch.x)}"
                )
            batch = batch._replace(weights=scaled)
        return NetProblem.of(net, Samples([batch], True), is_drawn=self.per_epoch > 1)

    def settings(self) -> Mapping[str, object]:
        """What is known of it without its samples."""
        return {
            "version": 1,
            "net": self._net,
            "loader": type(self._loader).__name__,
            "batches": self.per_epoch,
            "samples": self._count,
        }

    def __repr__(self) -> str:
        return (
            f"{self._count} samples in {self.per_epoch} batches of a {type(self._loader).__name__}"
        )
