"""What a derivative tensor would take on disk, in memory and in time."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from swiftnets._support import checks
from swiftnets.curvature.point import Point
from swiftnets.curvature.tensors.slabs import ROWS, Job, entries

__all__ = ["Estimate", "estimate"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Estimate:
    """What a derivative tensor would take.

    Attributes
    ----------
    order : int
    parameter_count : int
        Of the net, or of the one layer.
    entries : int
        Numbers stored.
    bytes : int
        On disk.
    working_bytes : int
        Of memory, beyond the engine's.
    seconds : float
        Estimated from a few products, timed.
    free_bytes : int
        On the disk where the file would be.
    """

    order: int
    parameter_count: int
    entries: int
    bytes: int
    working_bytes: int
    seconds: float
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.bytes <= self.free_bytes

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        return (
            f"order {self.order}, {self.parameter_count:,} parameters: {self.entries:,} numbers, "
            f"{checks.readable(self.bytes)} on disk ({verdict}: "
            f"{checks.readable(self.free_bytes)} are free), "
            f"{checks.readable(self.working_bytes)} of memory, about {_duration(self.seconds)}"
        )


def estimate(
    point: Point,
    *,
    order: int,
    layer: int | None = None,
    path: str | os.PathLike[str] = ".",
) -> Estimate:
    """Bytes and seconds that `compute` would take with the same arguments; a few products are run.

    Parameters
    ----------
    point : Point
    order : {2, 3, 4}
    layer : int, optional
    path : path-like

    Returns
    -------
    Estimate

    Examples
    --------
    >>> import numpy as np
    >>> from swiftnets import MLP
    >>> net = MLP((3, 4, 2))
    >>> found = estimate(net.at(net.initial(seed=0), np.eye(3), np.ones((3, 2))), order=3)
    >>> found.entries, found.bytes
    (3276, 26208)
    """
    order = checks.integer(order, "order", 2, 4)
    job = Job(point, order, layer)
    stored = entries(order, job.count)
    folder = checks.path(path, "path").absolute()
    while not folder.is_dir():
        folder = folder.parent
    return Estimate(
        order,
        job.count,
        stored,
        stored * point.net.dtype.itemsize,
        3 * ROWS * point.net.parameter_count * point.net.dtype.itemsize,
        job.estimate(),
        shutil.disk_usage(folder).free,
    )


def _duration(seconds: float) -> str:
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} seconds"
