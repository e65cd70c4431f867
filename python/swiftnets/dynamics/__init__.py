"""Training as a dynamical system: the edge of stability, flows, bifurcations, chaos."""

from swiftnets._support.checkpoints import CheckpointError
from swiftnets.dynamics.adam_map import AdamMap
from swiftnets.dynamics.bifurcation import Flip, TwoCycle, flip, two_cycle
from swiftnets.dynamics.growth import OptimalGrowth, optimal_growth
from swiftnets.dynamics.landau import Landau, landau
from swiftnets.dynamics.lyapunov import lyapunov_spectrum
from swiftnets.dynamics.maps import GradientDescentMap, Map, MomentumMap, ProblemMap
from swiftnets.dynamics.newton_map import NewtonMap
from swiftnets.dynamics.spectrum import LyapunovSpectrum
from swiftnets.dynamics.stochastic_map import StochasticMap

__all__ = [
    "AdamMap",
    "CheckpointError",
    "Flip",
    "GradientDescentMap",
    "Landau",
    "LyapunovSpectrum",
    "Map",
    "MomentumMap",
    "NewtonMap",
    "OptimalGrowth",
    "ProblemMap",
    "StochasticMap",
    "TwoCycle",
    "flip",
    "landau",
    "lyapunov_spectrum",
    "optimal_growth",
    "two_cycle",
]


def __dir__() -> list[str]:
    return __all__
