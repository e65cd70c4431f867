"""Exact curvature of small and medium neural nets at native speed.

`SlowNet` and `FastNet` are the two nets; `swiftnets.slow_net` and `swiftnets.fast_net` also run as
programs. `datasets` reads images, `reference` is the same mathematics in plain NumPy, and `verify`
holds the engine against it.

Names are imported on first use: `import swiftnets` loads neither NumPy nor the engine, whose
OpenBLAS starts its threads when it is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swiftnets import datasets, reference, verify
    from swiftnets._core import ConvergenceError
    from swiftnets.fast_net import FastNet
    from swiftnets.slow_net import SlowNet

__version__ = "0.1.0"

__all__ = [
    "ConvergenceError",
    "FastNet",
    "SlowNet",
    "__version__",
    "datasets",
    "reference",
    "verify",
]

_HOMES = {"ConvergenceError": "_core", "FastNet": "fast_net", "SlowNet": "slow_net"}
_MODULES = {"datasets", "reference", "verify"}


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
