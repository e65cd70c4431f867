"""Exact curvature of small and medium neural nets at native speed.

`MLP` is a net of any dense layers with every exact derivative of its loss to fourth order, over
`activations` and `losses`. `solvers` solve with its Hessian plus a damping, by `factorizations`
(layer by layer, or dense) or by `krylov` methods; `lanczos` turns it into a small tridiagonal
matrix and `kronecker` into cheap factors. `optimizers` minimise `problems` with all that, and
`compare` them. `operators`, `tensors` and `torch_conversion` take it to SciPy, to the disk and to
PyTorch. `SlowNet` and `FastNet` are the two nets that the
package began with; `swiftnets.slow_net` and `swiftnets.fast_net` also run as programs. `datasets`
reads images, `reference` is the two nets' mathematics in plain NumPy, and `verify` holds the engine
against it.

`set_threads` says how many threads a call uses, `threads` for a while, or the environment variable
``SWIFTNETS_NUM_THREADS`` from the start; by default all processors that the process may run on.

Names are imported on first use: `import swiftnets` loads neither NumPy nor the engine, whose
OpenBLAS starts its threads when it is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swiftnets import (
        activations,
        compare,
        datasets,
        demo,
        factorizations,
        fast_net,
        functional_inverse,
        kronecker,
        krylov,
        lanczos,
        losses,
        mlp,
        operators,
        optimizers,
        problems,
        reference,
        relaxations,
        slow_net,
        solvers,
        tensors,
        torch_conversion,
        verify,
    )
    from swiftnets._core import ConvergenceError
    from swiftnets._support.threads import get_threads, set_threads, threads
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
    "compare",
    "datasets",
    "demo",
    "factorizations",
    "fast_net",
    "functional_inverse",
    "get_threads",
    "kronecker",
    "krylov",
    "lanczos",
    "losses",
    "mlp",
    "operators",
    "optimizers",
    "problems",
    "reference",
    "relaxations",
    "set_threads",
    "slow_net",
    "solvers",
    "tensors",
    "threads",
    "torch_conversion",
    "verify",
]

_HOMES = {
    "ConvergenceError": "_core",
    "FastNet": "fast_net",
    "MLP": "mlp",
    "SlowNet": "slow_net",
    "get_threads": "_support.threads",
    "set_threads": "_support.threads",
    "threads": "_support.threads",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
