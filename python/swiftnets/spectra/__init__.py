"""Eigenvalues with proof: extremal pairs, counts, densities and traces of symmetric operators."""

from swiftnets.spectra.certificates import Certificate
from swiftnets.spectra.costs import cost
from swiftnets.spectra.count import count
from swiftnets.spectra.density import Density, density
from swiftnets.spectra.eigenpairs import Eigenpairs
from swiftnets.spectra.eigsh import eigsh
from swiftnets.spectra.estimates import Cost, Estimate
from swiftnets.spectra.traces import diagonal, effective_dimension, logdet, norm, trace
from swiftnets.spectra.track import SpectrumTracker, track

__all__ = [
    "Certificate",
    "Cost",
    "Density",
    "Eigenpairs",
    "Estimate",
    "SpectrumTracker",
    "cost",
    "count",
    "density",
    "diagonal",
    "effective_dimension",
    "eigsh",
    "logdet",
    "norm",
    "trace",
    "track",
]


def __dir__() -> list[str]:
    return __all__
