"""Sums over samples that are spread over a Dask cluster, and many runs at once.

`DaskProblem` is the loss of a net on a Dask array or on delayed batches. Its points have loss,
gradient and curvature matrices like those of `swiftnets.Network.at`: each worker keeps the passes
of its partitions between products, and what crosses the network are vectors. What takes a
`swiftnets.linalg.SymmetricOperator` or a `swiftnets.problems.Problem` takes them as they are:
`swiftnets.spectra.eigsh`, `swiftnets.linalg.cg`, the optimisers.

`sweep` calls any function for many settings, `compare` is `swiftnets.compare` with a task a run.

It needs Dask: ``pip install swiftnets[dask]``, on the scheduler and the workers, too.
"""

from __future__ import annotations

from swiftnets.dask.matrix import DaskMatrix
from swiftnets.dask.point import DaskPoint
from swiftnets.dask.problem import DaskProblem
from swiftnets.dask.runs import compare, sweep

__all__ = ["DaskMatrix", "DaskPoint", "DaskProblem", "compare", "sweep"]


def __dir__() -> list[str]:
    return __all__
