"""Training as a dynamical system: the edge of stability, the flow through it, bifurcations, chaos."""

from swiftnets._support.checkpoints import CheckpointError
from swiftnets.dynamics.growth import OptimalGrowth, optimal_growth
from swiftnets.dynamics.lyapunov import lyapunov_spectrum
from swiftnets.dynamics.maps import (
    AdamMap,
    GradientDescentMap,
    Map,
    MomentumMap,
    ProblemMap,
    StochasticMap,
)
from swiftnets.dynamics.newton_map import NewtonMap
from swiftnets.dynamics.spectrum import LyapunovSpectrum

__all__ = [
    "AdamMap",
    "CheckpointError",
    "GradientDescentMap",
    "LyapunovSpectrum",
    "Map",
    "MomentumMap",
    "NewtonMap",
    "OptimalGrowth",
    "ProblemMap",
    "StochasticMap",
    "lyapunov_spectrum",
    "optimal_growth",
]


def __dir__() -> list[str]:
    return __all__
