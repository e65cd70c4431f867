"""Training as a dynamical system: the edge of stability, flows, bifurcations, chaos."""

from swiftnets._support.checkpoints import CheckpointError
from swiftnets.dynamics.adam_map import AdamMap
from swiftnets.dynamics.bifurcation import Flip, TwoCycle, flip, two_cycle
from swiftnets.dynamics.complementarity import Complementarity, solve_sdcp
from swiftnets.dynamics.edge import Edge, edge
from swiftnets.dynamics.flow import CentralFlow, FlowEvent, central_flow
from swiftnets.dynamics.growth import OptimalGrowth, optimal_growth
from swiftnets.dynamics.iterates import smoothed
from swiftnets.dynamics.landau import Landau, landau
from swiftnets.dynamics.leading import LeadingEigenpairs, leading_eigenpairs
from swiftnets.dynamics.lyapunov import lyapunov_spectrum
from swiftnets.dynamics.maps import GradientDescentMap, Map, MomentumMap, ProblemMap
from swiftnets.dynamics.newton_map import NewtonMap
from swiftnets.dynamics.oscillation import (
    MeanAndOscillation,
    OscillationEvent,
    mean_and_oscillation,
)
from swiftnets.dynamics.spectrum import LyapunovSpectrum
from swiftnets.dynamics.stochastic_map import StochasticMap

__all__ = [
    "AdamMap",
    "CentralFlow",
    "CheckpointError",
    "Complementarity",
    "Edge",
    "Flip",
    "FlowEvent",
    "GradientDescentMap",
    "Landau",
    "LeadingEigenpairs",
    "LyapunovSpectrum",
    "Map",
    "MeanAndOscillation",
    "MomentumMap",
    "NewtonMap",
    "OptimalGrowth",
    "OscillationEvent",
    "ProblemMap",
    "StochasticMap",
    "TwoCycle",
    "central_flow",
    "edge",
    "flip",
    "landau",
    "leading_eigenpairs",
    "lyapunov_spectrum",
    "mean_and_oscillation",
    "optimal_growth",
    "smoothed",
    "solve_sdcp",
    "two_cycle",
]


def __dir__() -> list[str]:
    return __all__
