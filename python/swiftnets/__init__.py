"""Exact curvature of small and medium neural nets at native speed.

`MLP` is a net of any dense layers with every exact derivative of its loss to fourth order, over
`activations` and `losses`. `factorizations` solves with its Hessian plus a shift, layer by layer;
`lanczos` turns that into a small tridiagonal matrix; `operators`, `tensors` and `torch_conversion`
take it to SciPy, to the disk and to PyTorch. `SlowNet` and `FastNet` are the two nets that the
package began with; `swiftnets.slow_net` and `swiftnets.fast_net` also run as programs. `datasets`
reads images, `reference` is the two nets' mathematics in plain NumPy, and `verify` holds the engine
against it.

Names are imported on first use: `import swiftnets` loads neither NumPy nor the engine, whose
OpenBLAS starts its threads when it is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swiftnets import (
        activations,
        datasets,
        factorizations,
        lanczos,
        losses,
        operators,
        reference,
        tensors,
        torch_conversion,
        verify,
    )
    from swiftnets._core import ConvergenceError
    from swiftnets.fast_net import FastNet
    from swiftnets.mlp import MLP
    from swiftnets.slow_net import SlowNet

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "ConvergenceError",
    "FastNet",
    "SlowNet",
    "__version__",
    "activations",
    "datasets",
    "factorizations",
    "lanczos",
    "losses",
    "operators",
    "reference",
    "tensors",
    "torch_conversion",
    "verify",
]

_HOMES = {
    "ConvergenceError": "_core",
    "FastNet": "fast_net",
    "MLP": "mlp",
    "SlowNet": "slow_net",
}
_MODULES = {
    "activations",
    "datasets",
    "factorizations",
    "lanczos",
    "losses",
    "operators",
    "reference",
    "tensors",
    "torch_conversion",
    "verify",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
