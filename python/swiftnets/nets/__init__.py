"""What a net is: layers, activations, losses, samples. It knows no curvature."""

from swiftnets.nets.activations import (
    ELU,
    GELU,
    Activation,
    ActivationLike,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Sine,
    Softplus,
    Tanh,
)
from swiftnets.nets.custom import CustomActivation
from swiftnets.nets.layers import (
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    LayerNorm,
    MaxPool2d,
    MeanOverPositions,
    PositionEmbedding,
    Residual,
    SelfAttention,
)
from swiftnets.nets.losses import (
    BinaryCrossEntropy,
    Huber,
    Loss,
    LossLike,
    SoftmaxCrossEntropy,
    SquaredError,
)
from swiftnets.nets.table import ParameterTable

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "ActivationLike",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm2d",
    "BinaryCrossEntropy",
    "Conv2d",
    "CustomActivation",
    "Dense",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Huber",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Loss",
    "LossLike",
    "MaxPool2d",
    "MeanOverPositions",
    "ParameterTable",
    "PositionEmbedding",
    "ReLU",
    "Residual",
    "SelfAttention",
    "SiLU",
    "Sigmoid",
    "Sine",
    "SoftmaxCrossEntropy",
    "Softplus",
    "SquaredError",
    "Tanh",
]


def __dir__() -> list[str]:
    return __all__
