"""The engine. Private: arrays are C-contiguous buffers; the caller gives the outputs."""

from collections.abc import Callable, Sequence
from typing import Any, NewType, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[np.float64]
# Positive, negative and zero eigenvalues, log|det| and its error, or None for a complex matrix; the
# certificate, or None for a singular one; bytes.
_Summary: TypeAlias = tuple[tuple[int, int, int, float, float] | None, float | None, int]

# Capsules: opaque, and freed with their last reference.
Workspace = NewType("Workspace", object)
FastFactorization = NewType("FastFactorization", object)
Mlp = NewType("Mlp", object)
Linearization = NewType("Linearization", object)
Layered = NewType("Layered", object)
Dense = NewType("Dense", object)

class ConvergenceError(ArithmeticError):
    """An iterative solve stopped short of its tolerance."""

def version() -> str: ...
def level() -> str: ...
def set_threads(threads: int, /) -> None: ...
def get_threads() -> int: ...
def leave_running(change: int, /) -> None:
    """Counts calls of NumPy left running; while there are any, the process ends without them."""

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
def fast_factorize(
    xs: _Array, tolerance: float, /
) -> tuple[FastFactorization, tuple[int, int, int, float, float, int]]:
    """Returns the factorisation and (route, pixels, rank, tolerance, condition, bytes)."""

def fast_minimum_norm(
    factorization: FastFactorization, xs: _Array, b: _Array, out: _Array, /
) -> float: ...
def fast_step(
    factorization: FastFactorization,
    xs: _Array,
    ys: _Array,
    w: _Array,
    alpha: float,
    r: float,
    w_out: _Array,
    /,
) -> tuple[float, float, bool]:
    """Returns (loss, residual, stale)."""

# A net's arrays: float64 or float32, as it was made.
_Floats: TypeAlias = NDArray[Any]
_Labels: TypeAlias = NDArray[np.int64]
_Inputs: TypeAlias = NDArray[Any]  # of a net that takes tokens: int64
# (order, numbers) to derivatives 0 to order, contiguous: of activations of one's own.
_Function: TypeAlias = Callable[[int, bytes], tuple[_Floats, ...]]

def mlp(
    sizes: Sequence[int],
    activations: Sequence[tuple[int, float]],
    dtype: int,
    bias: int,
    loss: int,
    loss_parameter: float,
    functions: Sequence[_Function | None] | None,
    /,
) -> Mlp: ...
def network(
    codes: NDArray[np.int64],
    numbers: _Array,
    statistics: _Array,
    input: NDArray[np.int64],
    dtype: int,
    loss: int,
    loss_parameter: float,
    functions: Sequence[_Function | None] | None,
    /,
) -> Mlp:
    """`codes` (layers, 13): see swn_network_shape in swiftnets.h. `input`: kind, three sizes."""

def mlp_memory(net: Mlp, samples: int, /) -> tuple[int, int]: ...
def mlp_loss(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    /,
) -> float: ...
def mlp_predict(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    out: _Floats,
    /,
) -> None: ...
def mlp_gradient(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    out: _Floats,
    /,
) -> float: ...
def mlp_sample_gradients(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    out: _Floats,
    /,
) -> None: ...
def mlp_product(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    kind: int,
    v: _Floats,
    out: _Floats,
    /,
) -> None: ...
def mlp_dense(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    kind: int,
    upper: int,
    lower: int,
    out: _Floats,
    /,
) -> None: ...
def mlp_diagonal(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    kind: int,
    out: _Floats,
    /,
) -> None: ...
def mlp_jvp(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    v: _Floats,
    out: _Floats,
    /,
) -> None: ...
def mlp_vjp(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    u: _Floats,
    out: _Floats,
    /,
) -> None: ...
def mlp_jacobian(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    out: _Floats,
    /,
) -> None: ...
def mlp_taylor(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    order: int,
    v: _Floats,
    out: _Floats,
    /,
) -> float: ...
def mlp_multilinear(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    u: _Floats,
    s: _Floats | None,
    v: _Floats,
    out: _Floats,
    /,
) -> None: ...
def linearize(
    net: Mlp,
    w: _Floats,
    x: _Inputs,
    targets: _Floats | None,
    labels: _Labels | None,
    weights: _Floats | None,
    scale: float,
    gradient_out: _Floats,
    /,
) -> tuple[Linearization, float]: ...
def linearization_product(
    linearization: Linearization, kind: int, v: _Floats, out: _Floats, /
) -> None: ...
def linearization_third(
    linearization: Linearization, u: _Floats, v: _Floats, out: _Floats, /
) -> None: ...
def linearization_thirds(linearization: Linearization, u: _Floats, out: _Floats, /) -> None: ...
def linearization_lanczos(
    linearization: Linearization,
    kind: int,
    shift: float,
    starts: _Floats,
    diagonal_out: _Floats,
    off_diagonal_out: _Floats,
    /,
) -> None: ...
def linearization_factors(linearization: Linearization, mix: _Floats, out: _Floats, /) -> None: ...
def linearization_states(linearization: Linearization, out: _Array, /) -> None: ...
def layered_plan(
    net: Mlp, samples: int, is_complex: int, form: int, /
) -> tuple[int, float, float]: ...
def layered(
    linearization: Linearization, form: int, real: float, imaginary: float | None, /
) -> tuple[Layered, _Summary]: ...
def layered_update(factorization: Layered, real: float, imaginary: float | None, /) -> _Summary: ...
def layered_solve(
    factorization: Layered,
    b: _Array,
    b_imaginary: _Array | None,
    x_out: _Array,
    x_imaginary_out: _Array | None,
    /,
) -> None: ...
def layered_trace_of_inverse(factorization: Layered, /) -> tuple[float, float]: ...
def dense(matrix: _Array, shift: float, /) -> tuple[Dense, bool, _Summary]: ...
def dense_update(factorization: Dense, shift: float, /) -> tuple[bool, _Summary]: ...
def dense_solve(factorization: Dense, b: _Array, x_out: _Array, /) -> None: ...
def dense_trace_of_inverse(matrix: _Array, shift: float, step: float, /) -> tuple[float, float]: ...
def symmetric_eigen(matrix_out: _Array, values_out: _Array, /) -> None:
    """The matrix is replaced by its eigenvectors, as rows; its upper triangle is read."""

# Vectors of one length, all float64 or all float32. Steps return what `square_sum` says of the
# gradient and of w after the step.
def descend(
    rate: float, w: _Floats, gradient: _Floats, w_out: _Floats, /
) -> tuple[float, float]: ...
def momentum(
    rate: float,
    beta: float,
    nesterov: int,
    w: _Floats,
    gradient: _Floats,
    velocity: _Floats,
    w_out: _Floats,
    velocity_out: _Floats,
    /,
) -> tuple[float, float]: ...
def adam(
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    correction: float,
    epsilon: float,
    rate: float,
    decay: float,
    w: _Floats,
    gradient: _Floats,
    mean: _Floats,
    square: _Floats,
    w_out: _Floats,
    mean_out: _Floats,
    square_out: _Floats,
    /,
) -> tuple[float, float]: ...
def square_sum(v: _Floats, /) -> float:
    """Summed in float64: inf where that overflows, 0 where it underflows."""
