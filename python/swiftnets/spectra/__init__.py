"""Eigenvalues with proof: extremal pairs, counts, densities and traces of symmetric operators."""

from swiftnets.spectra.certificates import Certificate
from swiftnets.spectra.count import count
from swiftnets.spectra.eigenpairs import Eigenpairs
from swiftnets.spectra.eigsh import eigsh

__all__ = ["Certificate", "Eigenpairs", "count", "eigsh"]


def __dir__() -> list[str]:
    return __all__
