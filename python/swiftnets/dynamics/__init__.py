"""Training as a dynamical system: the edge of stability, flows, bifurcations, chaos."""

from swiftnets.dynamics.complementarity import Complementarity, solve_sdcp
from swiftnets.dynamics.edge import Edge, edge
from swiftnets.dynamics.flow import CentralFlow, FlowEvent, central_flow
from swiftnets.dynamics.iterates import smoothed
from swiftnets.dynamics.leading import LeadingEigenpairs, leading_eigenpairs
from swiftnets.dynamics.oscillation import (
    MeanAndOscillation,
    OscillationEvent,
    mean_and_oscillation,
)

__all__ = [
    "CentralFlow",
    "Complementarity",
    "Edge",
    "FlowEvent",
    "LeadingEigenpairs",
    "MeanAndOscillation",
    "OscillationEvent",
    "central_flow",
    "edge",
    "leading_eigenpairs",
    "mean_and_oscillation",
    "smoothed",
    "solve_sdcp",
]


def __dir__() -> list[str]:
    return __all__
