"""A net at a point: its matrices of second derivatives, and derivatives to fourth order."""

from swiftnets.curvature.blocks import LayerBlock, layer_block
from swiftnets.curvature.kronecker import (
    KroneckerEigenbasis,
    KroneckerFactors,
    kronecker_factors,
)
from swiftnets.curvature.kronecker_audit import KroneckerAudit, kronecker_audit
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.curvature.point import Point
from swiftnets.curvature.states import LayerState, layer_states
from swiftnets.curvature.taylor import TaylorSeries

__all__ = [
    "CurvatureMatrix",
    "KroneckerAudit",
    "KroneckerEigenbasis",
    "KroneckerFactors",
    "LayerBlock",
    "LayerState",
    "Point",
    "TaylorSeries",
    "kronecker_audit",
    "kronecker_factors",
    "layer_block",
    "layer_states",
]


def __dir__() -> list[str]:
    return __all__
