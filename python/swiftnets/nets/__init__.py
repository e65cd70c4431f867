"""What a net is: layers, activations, losses, samples. It knows no curvature."""

from swiftnets.nets.activations import (
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
from swiftnets.nets.losses import (
    BinaryCrossEntropy,
    Huber,
    Loss,
    LossLike,
    SoftmaxCrossEntropy,
    SquaredError,
)
from swiftnets.nets.network import Network

__all__ = [
    "GELU",
    "Activation",
    "ActivationLike",
    "BinaryCrossEntropy",
    "Huber",
    "Identity",
    "LeakyReLU",
    "Loss",
    "LossLike",
    "Network",
    "ReLU",
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
