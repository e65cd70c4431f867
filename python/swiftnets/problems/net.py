"""The loss of a net on samples as a problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import FloatArray
from swiftnets.curvature.kinds import Kind
from swiftnets.curvature.matrix import streamed_products
from swiftnets.curvature.point import Point
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.nets.samples import Batch, Samples
from swiftnets.network import Network, require_net
from swiftnets.problems.base import Problem

__all__ = ["NetProblem"]


def __dir__() -> list[str]:
    return __all__


class NetProblem(Problem):
    """The loss of a net on samples, as a function of its parameters.

    Parameters
    ----------
    net : Network or MLP
    x, y, sample_weight
        As `Network.loss` takes them; copied, so that their arrays may change afterwards. Samples of
        weight 0 are not kept.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> problem = NetProblem(net, np.eye(2), np.ones((2, 1)))
    >>> bool(problem.loss(net.initial(seed=0)) > 0)
    True
    """

    def __init__(
        self, net: Network, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> None:
        # Checked once: what is kept is what the engine takes, and passes through unchanged.
        kept = require_net(net).engine.reader.kept(x, y, sample_weight, copy=True)
        self._keep(net, kept)

    @classmethod
    def of(cls, net: Network, samples: Samples, *, is_drawn: bool = False) -> NetProblem:
        """The problem on samples that are checked and nobody else's.

        Parameters
        ----------
        net : Network or MLP
        samples : Samples
        is_drawn : bool

        Returns
        -------
        NetProblem
        """
        problem = cls.__new__(cls)
        problem._keep(net, samples, is_drawn)
        return problem

    def _keep(self, net: Network, samples: Samples, is_drawn: bool = False) -> None:
        self.net, self._samples, self._is_drawn = net, samples, is_drawn
        self.parameter_count, self.dtype = net.parameter_count, net.dtype

    @property
    def samples(self) -> Samples:
        """The samples, as the engine takes them."""
        return self._samples

    @property
    def is_drawn(self) -> bool:
        """Whether the samples are some of more, that `Minibatches` drew for one step."""
        return self._is_drawn

    @property
    def batches(self) -> list[Batch]:
        """The samples' batches."""
        return list(self._samples.batches)

    @property
    def sample_count(self) -> int:
        """Samples of all batches."""
        return sum(len(batch.x) for batch in self._samples.batches)

    def at(self, w: npt.ArrayLike) -> Point:
        """The net at w on the samples.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        Point
        """
        return self.net.at_samples(w, self._samples)

    def in_float64(self) -> NetProblem:
        """The problem for a float64 net, of its rounded numbers; itself if it is one.

        Returns
        -------
        NetProblem
        """
        if self.dtype == np.float64:
            return self
        batches = [
            batch.each(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a)
            for batch in self.batches
        ]
        samples = Samples(batches, self._samples.is_single)
        return NetProblem.of(self.net.astype(np.float64), samples, is_drawn=self.is_drawn)

    def loss(self, w: npt.ArrayLike) -> float:
        return self.net.loss_on(self.net.engine.vector(w, "w"), self._samples)

    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        return self.net.loss_and_gradient_on(self.net.engine.vector(w, "w"), self._samples)

    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        engine = self.net.engine
        vector, (rows, single) = engine.vector(w, "w"), engine.rows(v, "v")
        out = streamed_products(engine, Kind.HESSIAN, vector, self._samples, rows)
        return cast(FloatArray, out[0] if single else out)

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        return cast(FloatArray, self.at(w).hessian.dense())

    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        return self.at(w).taylor(v, order)

    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        return self.at(w).third(u, v)

    def settings(self) -> Mapping[str, object] | None:
        samples = [tuple(batch) for batch in self.batches]
        return {"version": 1, "net": self.net, "samples": samples}

    def not_finite(self) -> str | None:
        """Which number of the samples is the first that is not finite, in words.

        Returns
        -------
        str or None
            None if all are finite.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> NetProblem(MLP((1, 1)), [[1.0], [np.inf]], np.ones((2, 1))).not_finite()
        'x has inf at [1, 0]'
        """
        shaped = self.net.engine.reader.shaped
        for index, batch in enumerate(self.batches):
            of = "" if self._samples.is_single else f" of batch {index}"
            for name, values in (("x", shaped(batch.x)), ("y", batch.labels_or_targets)):
                good = np.isfinite(values)
                if not good.all():
                    where = [int(k) for k in np.argwhere(~good)[0]]
                    return f"{name}{of} has {values[tuple(where)]} at {where}"
        return None

    def __repr__(self) -> str:
        return f"NetProblem({self.net!r}, {self.sample_count} samples)"
