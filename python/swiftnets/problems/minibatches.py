"""A net's loss on a few samples at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.nets.samples import Batch, Samples
from swiftnets.network import Network, require_net
from swiftnets.problems.loader import Loader
from swiftnets.problems.net import NetProblem

__all__ = ["Minibatches"]


def __dir__() -> list[str]:
    return __all__


class Minibatches:
    """A net's loss on a few samples at a time, drawn anew in each epoch.

    The order depends on the seed and the epoch alone, so that a run that is resumed, and every
    optimiser that is compared, sees the same batches. The last batch of an epoch may be smaller.

    Each batch's loss is an unbiased estimate of that of all samples, with its derivatives: of N
    samples with weights s (1 by default), b of them give N / b Σ s loss, for ``reduction="mean"``
    divided by the sum of all weights, not by the batch's own; l2 counts fully. So the mean over an
    epoch, each batch counted by its size, is exactly the loss of all samples.

    Parameters
    ----------
    net : Network or MLP
    x, y : array_like
        All samples; copied. Or in place of both a loader: anything whose every iteration gives
        batches ``(x, y)`` or ``(x, y, sample_weight)``, as PyTorch's ``DataLoader`` and lists do.
    batch_size : int
        Not with a loader, nor what follows.
    seed : int
    sample_weight : array_like, optional
        Samples of weight 0 are not there: no batch holds them.

    Attributes
    ----------
    full : NetProblem
        The loss of all samples.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or no weight is above 0.

    Notes
    -----
    A loader is gone through once at the beginning, to check and to count, once an epoch, and once
    wherever the loss of all samples is asked for; its batches are not kept. One that has no end is
    refused after 131,072 batches, or ``len(x)`` of them where that is more. An epoch takes its
    batches as they come, so that a run that is resumed has the same bits if the loader's order
    depends on the epoch alone: if it has none, or a method ``set_epoch``, itself or its sampler,
    which is called with the epoch. One that shuffles by a generator of its own gives other batches
    after a resumption.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 1), reduction="mean")
    >>> batches = Minibatches(net, np.ones((10, 2)), np.ones((10, 1)), batch_size=4)
    >>> batches.per_epoch, batches.at(2).sample_count
    (3, 2)
    """

    full: NetProblem

    def __init__(
        self,
        net: Network,
        x: npt.ArrayLike | Iterable[Any],
        y: npt.ArrayLike | None = None,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        sample_weight: npt.ArrayLike | None = None,
    ) -> None:
        self.net = require_net(net)
        self.parameter_count, self.dtype = net.parameter_count, net.dtype
        self.seed = checks.integer(seed, "seed", 0)
        self.batch_size = None
        self._loader: Loader | None = None
        if y is None:
            if batch_size is not None or sample_weight is not None:
                given = "sample_weight" if batch_size is None else "batch_size"
                raise TypeError(
                    f"{given} is given and y is missing: x, of type {type(x).__name__}, is taken "
                    f"for a loader, whose batches have their own; expected x and y, or no {given}"
                )
            self._loader = Loader(net, x)
            self.full = self._loader.full
            return
        if batch_size is None:
            raise TypeError("batch_size is missing; expected how many samples a batch has")
        self.full = NetProblem(net, x, y, sample_weight=sample_weight)
        self.batch_size = checks.integer(batch_size, "batch_size")
        self._count = self.full.sample_count
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        # What a sample counts in an estimate, but for N / b; None where a mean does it.
        self._shares: npt.NDArray[np.float64] | None = None
        self._summing = net
        weights = self.full.batches[0].weights
        if weights is not None:
            self._shares = weights.astype(np.float64)
            if not self._shares.any():
                raise ValueError("sample_weight is 0 throughout; expected a weight above 0")
            if net.reduction == "mean":
                self._shares /= self._shares.max()  # lest the sum overflow
                self._shares /= self._shares.sum()
                self._summing = net.summing()
            else:
                least = self._count % self.batch_size or self.batch_size
                with np.errstate(over="ignore"):
                    most = (self._shares.max() * (self._count / least)).astype(self.dtype)
                if not np.isfinite(most):
                    raise ValueError(
                        f"sample_weight is up to {self._shares.max():g}; expected weights of which "
                        f"{self.dtype} holds {self._count} / {least}, as a batch's count"
                    )
        elif net.reduction == "sum":
            self._shares = np.ones(self._count)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        if self._loader is not None:
            return self._loader.per_epoch
        assert self.batch_size is not None
        return -(-self._count // self.batch_size)

    def at(self, iteration: int) -> NetProblem:
        """The problem of one iteration.

        Parameters
        ----------
        iteration : int
            Counted from 0 over all epochs.

        Returns
        -------
        NetProblem
        """
        epoch, place = divmod(checks.integer(iteration, "iteration", 0), self.per_epoch)
        if self._loader is not None:
            return self._loader.at(epoch, place)
        assert self.batch_size is not None
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self._count)
            self._order = epoch, order
        rows = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        x, targets, labels, weights = self.full.batches[0]
        if self._shares is not None and not (len(rows) == self._count and weights is None):
            weights = (self._shares[rows] * (self._count / len(rows))).astype(self.dtype)
        batch = Batch(x, targets, labels, None).each(lambda a: a[rows])
        samples = Samples([batch._replace(weights=weights)], True)
        return NetProblem.of(self._summing, samples, is_drawn=self.per_epoch > 1)

    def settings(self) -> Mapping[str, object] | None:
        """As `Problem.settings`."""
        if self._loader is not None:
            return self._loader.settings()
        return {
            "version": 1,
            "net": self.net,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "samples": tuple(self.full.batches[0]),
        }

    @property
    def is_loaded(self) -> bool:
        """Whether batches come from a loader."""
        return self._loader is not None

    def __repr__(self) -> str:
        if self._loader is not None:
            return f"Minibatches({self.net!r}, {self._loader!r})"
        return (
            f"Minibatches({self.net!r}, {self._count} samples, batch_size={self.batch_size}, "
            f"seed={self.seed})"
        )
