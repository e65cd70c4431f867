"""Exact curvature of small and medium neural nets at native speed.

`MLP` is a net of dense layers with a loss, `Network` one of any layers, convolution and attention
among them, and ``net.at(w, x, y)`` the point at which everything is asked: loss and gradient, the
Hessian, Gauss–Newton and Fisher matrices with their products, entries, factors and solves, and
derivatives to fourth order.

`nets` says what a net is made of, `linalg` has operators, Krylov and Lanczos methods that know no
nets, `curvature` points and matrices, `solve` solutions and factorisations. `spectra` has
eigenvalues with proof, `critical` points of zero gradient, `influence` what a minimum would be
without samples, `laplace` posteriors. `problems` and `optimizers` minimise with all that, `interop`
takes it to SciPy and PyTorch, and `sklearn` has estimators for scikit-learn. `dynamics` follows
training at the edge of stability and measures its chaos. `dask` spreads samples and runs over a
cluster. `SlowNet` and `FastNet` are the two nets that the package began with; `swiftnets.slow_net`
and `swiftnets.fast_net` also run as programs, and `originals` holds the engine against plain NumPy.
`datasets` reads images.

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
        critical,
        curvature,
        dask,
        datasets,
        dynamics,
        fast_net,
        influence,
        interop,
        laplace,
        linalg,
        mlp,
        nets,
        network,
        optimizers,
        originals,
        problems,
        sklearn,
        slow_net,
        solve,
        spectra,
    )
    from swiftnets._core import ConvergenceError
    from swiftnets._support.checkpoints import CheckpointError
    from swiftnets._support.threads import get_threads, set_threads, threads
    from swiftnets.curvature.matrix import CurvatureMatrix
    from swiftnets.curvature.point import Point
    from swiftnets.fast_net import FastNet
    from swiftnets.mlp import MLP
    from swiftnets.network import Network
    from swiftnets.optimizers.comparison import compare
    from swiftnets.slow_net import SlowNet

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "CheckpointError",
    "ConvergenceError",
    "CurvatureMatrix",
    "FastNet",
    "Network",
    "Point",
    "SlowNet",
    "__version__",
    "compare",
    "critical",
    "curvature",
    "dask",
    "datasets",
    "dynamics",
    "fast_net",
    "get_threads",
    "influence",
    "interop",
    "laplace",
    "linalg",
    "mlp",
    "nets",
    "network",
    "optimizers",
    "originals",
    "problems",
    "set_threads",
    "sklearn",
    "slow_net",
    "solve",
    "spectra",
    "threads",
]

_HOMES = {
    "CheckpointError": "_support.checkpoints",
    "ConvergenceError": "_core",
    "CurvatureMatrix": "curvature.matrix",
    "FastNet": "fast_net",
    "MLP": "mlp",
    "Network": "network",
    "Point": "curvature.point",
    "SlowNet": "slow_net",
    "compare": "optimizers.comparison",
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
