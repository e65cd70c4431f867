"""Derivative tensors larger than memory: Hessians, third and fourth derivatives on disk.

`estimate` says what one would take; `compute` fills a file slab by slab, resumes after a kill, and
gives a `DerivativeTensor`, which reads entries and contracts with vectors without loading it all.
How the numbers are stored is in `swiftnets.curvature.tensors.slabs`.
"""

from swiftnets.curvature.tensors.cost import Estimate, estimate
from swiftnets.curvature.tensors.run import compute
from swiftnets.curvature.tensors.tensor import DerivativeTensor

__all__ = ["DerivativeTensor", "Estimate", "compute", "estimate"]


def __dir__() -> list[str]:
    return __all__
