"""Nets and other libraries: SciPy's `minimize`, PyTorch's modules and tensors, ONNX's models."""

from swiftnets.interop.onnx import from_onnx
from swiftnets.interop.scipy import ScipyProblem, as_scipy
from swiftnets.interop.torch import from_torch, to_torch
from swiftnets.interop.torch_products import TorchProblem, as_torch

__all__ = [
    "ScipyProblem",
    "TorchProblem",
    "as_scipy",
    "as_torch",
    "from_onnx",
    "from_torch",
    "to_torch",
]


def __dir__() -> list[str]:
    return __all__
