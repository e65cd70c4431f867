"""A net's point at the parameters that another library asks about, kept until those change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swiftnets._support.locks import lock_of
from swiftnets.curvature.point import Point
from swiftnets.nets.samples import Samples
from swiftnets.network import Network

__all__ = ["LastPoint"]


def __dir__() -> list[str]:
    return __all__


class LastPoint:
    """The last point, made anew when w has changed. Threads share it safely.

    Parameters
    ----------
    net : Network
    samples : Samples
    """

    def __init__(self, net: Network, samples: Samples) -> None:
        self._net, self._samples = net, samples
        self._lock = lock_of(self)
        self._last: tuple[bytes, Point] | None = None

    def at(self, w: npt.ArrayLike) -> Point:
        """The point at w.

        Parameters
        ----------
        w : (P,) array_like

        Returns
        -------
        Point
        """
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
