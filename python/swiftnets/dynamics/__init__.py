"""Training as a dynamical system: the edge of stability, flows, bifurcations, chaos."""

from swiftnets._support.checkpoints import CheckpointError
from swiftnets.dynamics.adam_map import AdamMap
from swiftnets.dynamics.growth import OptimalGrowth, optimal_growth
from swiftnets.dynamics.lyapunov import lyapunov_spectrum
from swiftnets.dynamics.maps import GradientDescentMap, Map, MomentumMap, ProblemMap
from swiftnets.dynamics.newton_map import NewtonMap
from swiftnets.dynamics.spectrum import LyapunovSpectrum
from swiftnets.dynamics.stochastic_map import StochasticMap

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
