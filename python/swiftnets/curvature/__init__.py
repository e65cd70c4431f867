"""A net at a point: its matrices of second derivatives, and derivatives to fourth order."""

from swiftnets.curvature.blocks import LayerBlock, layer_block
from swiftnets.curvature.kronecker import KroneckerFactors, kronecker_factors
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.curvature.point import Point
from swiftnets.curvature.states import LayerState, layer_states
from swiftnets.curvature.taylor import TaylorSeries

__all__ = [
    "CurvatureMatrix",
    "KroneckerFactors",
    "LayerBlock",
    "LayerState",
    "Point",
    "TaylorSeries",
    "kronecker_factors",
    "layer_block",
    "layer_states",
]


def __dir__() -> list[str]:
    return __all__
