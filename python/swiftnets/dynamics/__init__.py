"""Training as a dynamical system: the edge of stability, its flow, bifurcations, chaos."""

from swiftnets.dynamics.bifurcation import Flip, TwoCycle, flip, two_cycle
from swiftnets.dynamics.landau import Landau, landau

__all__ = [
    "Flip",
    "Landau",
    "TwoCycle",
    "flip",
    "landau",
    "two_cycle",
]


def __dir__() -> list[str]:
    return __all__
