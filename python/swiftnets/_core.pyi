"""The engine. Private: arrays are C-contiguous float64 buffers; the caller gives the outputs."""

from typing import NewType, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[np.float64]

# Capsules: opaque, and freed with their last reference.
Workspace = NewType("Workspace", object)
Factorization = NewType("Factorization", object)

class ConvergenceError(ArithmeticError):
    """An iterative solve stopped short of its tolerance."""

def version() -> str: ...
def set_threads(threads: int, /) -> None: ...
def get_threads() -> int: ...
def slow_loss(xs: _Array, ys: _Array, w1: _Array, w2: _Array, /) -> float: ...
def slow_predict(xs: _Array, w1: _Array, w2: _Array, out: _Array, /) -> None: ...
def slow_gradient(
    xs: _Array, ys: _Array, w1: _Array, w2: _Array, dw1_out: _Array, dw2_out: _Array, /
) -> float: ...
def slow_hessian_block(xs: _Array, w1: _Array, w2: _Array, layer: int, out: _Array, /) -> None: ...
def slow_workspace() -> Workspace: ...
def slow_step(
    workspace: Workspace,
    xs: _Array,
    ys: _Array,
    w1: _Array,
    w2: _Array,
    alpha: float,
    damping: float,
    method: int,
    w1_out: _Array,
    w2_out: _Array,
    /,
) -> tuple[float, float, float, int, int]:
    """Returns (loss, residual1, residual2, iterations, refinements)."""

def fast_loss(xs: _Array, ys: _Array, w: _Array, /) -> float: ...
def fast_predict(xs: _Array, w: _Array, out: _Array, /) -> None: ...
def factorize(
    xs: _Array, tolerance: float, /
) -> tuple[Factorization, tuple[int, int, int, float, float, int]]:
    """Returns the factorisation and (route, pixels, rank, tolerance, condition, bytes)."""

def minimum_norm(factorization: Factorization, xs: _Array, b: _Array, out: _Array, /) -> float: ...
def fast_step(
    factorization: Factorization,
    xs: _Array,
    ys: _Array,
    w: _Array,
    alpha: float,
    r: float,
    w_out: _Array,
    /,
) -> tuple[float, float, bool]:
    """Returns (loss, residual, stale)."""
