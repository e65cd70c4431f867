"""The layers of a `swiftnets.Network`, with PyTorch's names and arguments.

Activations are layers, too: see `swiftnets.nets.activations`.
"""

from swiftnets.nets.layers.dense import Dense, Flatten
from swiftnets.nets.layers.images import AvgPool2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from swiftnets.nets.layers.norms import BatchNorm, BatchNorm2d, GroupNorm, LayerNorm
from swiftnets.nets.layers.residual import Residual
from swiftnets.nets.layers.sequences import (
    Embedding,
    MeanOverPositions,
    PositionEmbedding,
    SelfAttention,
)

__all__ = [
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "LayerNorm",
    "MaxPool2d",
    "MeanOverPositions",
    "PositionEmbedding",
    "Residual",
    "SelfAttention",
]


def __dir__() -> list[str]:
    return __all__
