"""Relaxing to (H + λ)⁻¹ b: iterations that go round the circle of its equations, as a study.

The equations that `swiftnets.solve` eliminates layer by layer form a circle in their order of
evaluation, and one may hope to go round it until nothing changes, as recurrent backpropagation does
(Pineda 1987, Almeida 1987). Each function here is such an iteration, with the condition under which
it converges; for nets whose Hessian is indefinite, hardly any does. To solve, use `MLP.solve`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.checks import Array
from swiftnets.curvature.states import LayerState, layer_states
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.scaling import exponent, norm
from swiftnets.mlp import MLP

__all__ = [
    "Relaxation",
    "alternating",
    "anderson",
    "circular_system",
    "damped",
    "gauss_seidel",
    "neumann",
]


def __dir__() -> list[str]:
    return __all__


_DIVERGED = 1e10  # times the first residual


@dataclass(frozen=True, eq=False)
class Relaxation:
    """How an iteration ended.

    Attributes
    ----------
    solution : (P,) float64 array
        The last iterate.
    residuals : (n + 1,) float64 array
        ‖b − (H + λ) x‖ / ‖b‖ from the start, x = 0, on.
    status : {"converged", "diverged", "iterations"}
    """

    solution: Array
    residuals: Array
    status: Literal["converged", "diverged", "iterations"]


class _System:
    """A net at one point, in float64, with the arguments that all iterations take."""

    def __init__(
        self,
        net: MLP,
        w: Any,
        x: Any,
        y: Any,
        b: Any,
        damping: Any,
        max_iterations: Any,
        tolerance: Any,
    ) -> None:
        if not isinstance(net, MLP):
            raise TypeError(f"net is of type {type(net).__name__}; expected an MLP")
        if net.dtype != np.float64:
            raise TypeError(f"net has dtype {net.dtype}; expected float64")
        self.net = net
        self.b: Array = net.engine.vector(b, "b")
        checks.finite(self.b, "b")
        if not self.b.any():
            raise ValueError("b is 0; expected a vector with a direction")
        # All are linear in b, which is scaled by a power of two: nothing depends on its unit.
        self._unit = exponent(self.b)
        self.b = np.ldexp(self.b, -self._unit)
        self.damping = checks.real(damping, "damping")
        self.iterations = checks.integer(max_iterations, "max_iterations")
        self.tolerance = checks.real(tolerance, "tolerance", positive=True)
        self.point = net.at(w, x, y)

    def product(self, v: Array) -> Array:
        result: Array = self.point.hessian @ v + self.damping * v
        return result

    def residual(self, v: Array) -> Array:
        result: Array = self.b - self.point.hessian @ v - self.damping * v
        return result

    def run(self, step: Callable[[Array, Array], Array]) -> Relaxation:
        """Iterate x ← step(x, residual of x) from 0."""
        size = norm(self.b)
        v = np.zeros_like(self.b)
        residual, residuals = self.b, [1.0]
        status: Literal["converged", "diverged", "iterations"] = "iterations"
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(self.iterations):
                v = step(v, residual)
                try:
                    if not np.isfinite(v).all():
                        raise FloatingPointError("the iterate is not finite")
                    residual = self.residual(v)
                except FloatingPointError:
                    residuals.append(np.inf)
                    status = "diverged"
                    break
                residuals.append(norm(residual) / size)
                if not residuals[-1] < _DIVERGED:
                    status = "diverged"
                    break
                if residuals[-1] <= self.tolerance:
                    status = "converged"
                    break
            v = np.ldexp(v, self._unit)
        return Relaxation(v, np.array(residuals), status)


def neumann(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any,
    b: npt.ArrayLike,
    *,
    damping: float,
    max_iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Relaxation:
    """Sweep forward, backward, and read off X: X ← (b − H X) / λ, Neumann's series.

    Converges where λ is larger in modulus than every eigenvalue of H.

    Parameters
    ----------
    net : MLP
        In float64.
    w, x, y
        As `MLP.loss` takes them.
    b : (P,) array_like
    damping : float
        λ, not 0.
    max_iterations : int
        At most.
    tolerance : float
        Of the relative residual.

    Returns
    -------
    Relaxation

    Raises
    ------
    TypeError
        If an argument is of a wrong type, or the net not in float64.
    ValueError
        If an argument is out of its range or of the wrong shape; the message names it.

    Examples
    --------
    >>> net = MLP((2, 3, 1))
    >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    >>> b = net.gradient(w, x, y)
    >>> [neumann(net, w, x, y, b, damping=damping).status for damping in (10.0, 0.1)]
    ['converged', 'diverged']
    """
    system = _System(net, w, x, y, b, damping, max_iterations, tolerance)
    if system.damping == 0:
        raise ValueError("damping is 0; expected another number, as the iteration divides by it")
    return system.run(lambda v, residual: v + residual / system.damping)


def damped(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any,
    b: npt.ArrayLike,
    *,
    damping: float,
    step: float | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Relaxation:
    """Follow the flow of Pineda (1987) and Almeida (1987) in steps: X ← X + τ (b − (H + λ) X).

    Converges where H + λ is positive definite and τ below 2 over its largest eigenvalue.

    Parameters
    ----------
    net, w, x, y, b, damping, max_iterations, tolerance
        As of `neumann`.
    step : float, optional
        τ; by default 1 over the largest modulus of H + λ's eigenvalues, by Lanczos's method.

    Returns
    -------
    Relaxation

    Raises
    ------
    TypeError
        If an argument is of a wrong type, or the net not in float64.
    ValueError
        If an argument is out of its range or of the wrong shape; the message names it.

    Examples
    --------
    >>> net = MLP((2, 3, 1))
    >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    >>> b = net.gradient(w, x, y)
    >>> damped(net, w, x, y, b, damping=3.0).status
    'converged'
    """
    system = _System(net, w, x, y, b, damping, max_iterations, tolerance)
    tau = _step(system) if step is None else checks.real(step, "step", positive=True)
    return system.run(lambda v, residual: v + tau * residual)


def _step(system: _System) -> float:
    values, errors = lanczos(system.product, system.b, 30).eigenvalues()
    return 1 / max(float((abs(values) + errors).max()), float(np.finfo(float).tiny))


def anderson(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any,
    b: npt.ArrayLike,
    *,
    damping: float,
    memory: int = 10,
    max_iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Relaxation:
    """Accelerate `damped` by mixing the last iterates (Anderson 1965; Walker & Ni 2011).

    Near to restarted GMRES: some indefinite systems converge, slowly, and weakly damped ones
    stagnate.

    Parameters
    ----------
    net, w, x, y, b, damping, max_iterations, tolerance
        As of `neumann`.
    memory : int
        Iterates that are mixed.

    Returns
    -------
    Relaxation

    Raises
    ------
    TypeError
        If an argument is of a wrong type, or the net not in float64.
    ValueError
        If an argument is out of its range or of the wrong shape; the message names it.

    Examples
    --------
    >>> net = MLP((2, 3, 1))
    >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    >>> b = net.gradient(w, x, y)
    >>> anderson(net, w, x, y, b, damping=1.0).status
    'converged'
    """
    system = _System(net, w, x, y, b, damping, max_iterations, tolerance)
    memory = checks.integer(memory, "memory")
    tau = _step(system)
    points: list[Array] = []
    residuals: list[Array] = []

    def step(v: Array, residual: Array) -> Array:
        points.append(v)
        residuals.append(residual)
        del points[: -memory - 1], residuals[: -memory - 1]
        if len(points) == 1:
            return v + tau * residual
        moves = np.diff(np.array(points), axis=0).T
        changes = np.diff(np.array(residuals), axis=0).T
        mix = np.linalg.lstsq(changes, residual, rcond=None)[0]
        result: Array = v - moves @ mix + tau * (residual - changes @ mix)
        return result

    return system.run(step)


def gauss_seidel(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any,
    b: npt.ArrayLike,
    *,
    damping: float,
    max_iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Relaxation:
    """Solve for one layer after the other, the others held: block Gauss–Seidel.

    Where the layers' own blocks plus λ are positive definite (as those of piecewise linear nets
    are for λ > 0), it converges exactly where H + λ is (Ostrowski 1954, Reich 1949).

    Parameters
    ----------
    net, w, x, y, b, damping, max_iterations, tolerance
        As of `neumann`.

    Returns
    -------
    Relaxation

    Raises
    ------
    TypeError
        If an argument is of a wrong type, or the net not in float64.
    ValueError
        If an argument is out of its range or of the wrong shape; the message names it.
    numpy.linalg.LinAlgError
        If a layer's block plus λ is singular.

    Examples
    --------
    >>> net = MLP((2, 3, 1))
    >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    >>> b = net.gradient(w, x, y)
    >>> gauss_seidel(net, w, x, y, b, damping=3.0).status
    'converged'
    """
    system = _System(net, w, x, y, b, damping, max_iterations, tolerance)
    factors = [
        DenseFactorization(block, system.damping)
        for block in net.hessian(w, x, y, block="diagonal")
    ]

    def step(v: Array, residual: Array) -> Array:
        v = v.copy()
        for number, (part, factor) in enumerate(zip(net.layer_slices, factors, strict=True)):
            if number:
                residual = system.residual(v)
            if not np.isfinite(residual).all():
                return np.full_like(v, np.nan)
            v[part] += factor.solve(residual[part])
        return v

    return system.run(step)


def alternating(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any,
    b: npt.ArrayLike,
    *,
    damping: float,
    max_iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Relaxation:
    """Alternate a whole forward sweep for the tangents and a backward one for the adjoints.

    X is eliminated from both by the parameter equation. No simple law is known; thresholds for λ
    lie between minus the lowest eigenvalue of H and its largest modulus.

    Parameters
    ----------
    net, w, x, y, b, damping, max_iterations, tolerance
        As of `neumann`.

    Returns
    -------
    Relaxation

    Raises
    ------
    TypeError
        If an argument is of a wrong type, or the net not in float64.
    ValueError
        If an argument is out of its range or of the wrong shape; the message names it.

    Examples
    --------
    >>> net = MLP((2, 3, 1))
    >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    >>> b = net.gradient(w, x, y)
    >>> alternating(net, w, x, y, b, damping=10.0).status
    'converged'
    """
    system = _System(net, w, x, y, b, damping, max_iterations, tolerance)
    layers, hessian = layer_states(net.at(w, x, y))
    shift = system.damping + net.l2
    if shift == 0:
        raise ValueError("damping is 0; expected another number, as the iteration divides by it")
    parts = [
        system.b[part].reshape(layer.weights.shape)
        for part, layer in zip(net.layer_slices, layers, strict=True)
    ]
    adjoints = [np.zeros_like(layer.slopes) for layer in layers]

    def weights(layer: int, below: Array) -> Array:
        state = layers[layer]
        coupling = state.inputs.T @ adjoints[layer] + below.T @ state.deltas
        result: Array = (parts[layer] - coupling) / shift
        return result

    def step(v: Array, residual: Array) -> Array:
        inputs = [np.zeros_like(layers[0].inputs)]
        tangents = []
        for layer, state in enumerate(layers):
            a = inputs[layer] @ state.weights + state.inputs @ weights(layer, inputs[layer])
            tangents.append(a)
            inputs.append(_padded(state.slopes * a, net.bias))
        outputs = layers[-1].slopes * tangents[-1]
        above = _times(hessian, outputs)
        for layer in range(len(layers) - 1, -1, -1):
            state = layers[layer]
            adjoints[layer] = state.curvatures * tangents[layer] + state.slopes * above
            both = adjoints[layer] @ state.weights.T
            both += state.deltas @ weights(layer, inputs[layer]).T
            above = both[:, : net.sizes[layer]]
        found = [weights(layer, inputs[layer]).ravel() for layer in range(len(layers))]
        return np.concatenate(found)

    return system.run(step)


def _padded(tangent: Array, bias: bool) -> Array:
    """Tangents of a layer's inputs: the bias's input does not move."""
    return np.column_stack([tangent, np.zeros(len(tangent))]) if bias else tangent


def _times(hessian: Array, tangent: Array) -> Array:
    if hessian.ndim == 2:
        return hessian * tangent
    result: Array = np.einsum("nij,nj->ni", hessian, tangent)
    return result


# The circle itself --------------------------------------------------------------------------------


def circular_system(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any,
    v: npt.ArrayLike,
    *,
    corrected: bool = True,
) -> tuple[Array, Array]:
    """Write the equations for H X = v of a net of two layers as one matrix, without damping.

    The unknowns are X₁, X₂, then the tangents of the pre-activations and outputs of both layers
    (a₁, z₁, a₂, z₂), then those of the backward pass (of the loss's gradient in the outputs, δ₂,
    the gradient in the hidden layer, δ₁), each flattened by rows.

    Parameters
    ----------
    net : MLP
        Two layers, no bias, no l2, an elementwise loss; square where inputs, outputs, hidden units
        and samples are as many.
    w, x, y
        As `MLP.loss` takes them.
    v : (P,) array_like
    corrected : bool
        False: as in the write-up of the original scripts, where the equation of v's second part is
        missing and the forward equation of the second layer stands twice.

    Returns
    -------
    matrix : (M, M) float64 array
    right_hand_side : (M,) float64 array
        The first P unknowns of a solution are X.

    Raises
    ------
    ValueError
        If the net is another one.
    TypeError
        If an argument is of a wrong type.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> net = MLP((4, 4, 4), bias=False)
    >>> w, x, y = net.initial(seed=0), *rng.standard_normal((2, 4, 4))
    >>> matrix, _ = circular_system(net, w, x, y, np.ones(32), corrected=False)
    >>> len(matrix), int(np.linalg.matrix_rank(matrix))
    (160, 144)
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net is of type {type(net).__name__}; expected an MLP")
    corrected = checks.flag(corrected, "corrected")
    sizes = net.sizes
    if net.depth != 2 or net.bias or net.l2 or net.loss_function.name == "softmax_cross_entropy":
        raise ValueError(
            f"net is {net!r}; expected two layers, no bias, no l2 and an elementwise loss"
        )
    layers, hessian = layer_states(net.at(w, x, y))
    count = len(hessian)
    if {*sizes, count} != {count}:
        raise ValueError(f"net has sizes {sizes} and {count} samples; expected them all the same")
    v = net.engine.vector(v, "v")
    parts = [v[part].reshape(count, count) for part in net.layer_slices]
    unknowns = 10 * count**2

    def equations(flat: Array) -> Array:
        return _equations(layers, hessian, flat.reshape(10, count, count), corrected)

    matrix = np.stack([equations(row) for row in np.eye(unknowns)], axis=1)
    right = np.zeros((10, count, count))
    right[8] = parts[0]
    if corrected:
        right[9] = parts[1]
    return matrix, right.ravel()


def _equations(
    layers: tuple[LayerState, ...], hessian: Array, unknowns: Array, corrected: bool
) -> Array:
    """Left sides of the ten equations, linear in the ten unknowns."""
    first, second = layers
    x1, x2, a1, z1, a2, z2, g2, d2, g1, d1 = unknowns
    forward = a2 - z1 @ second.weights - second.inputs @ x2
    missing = second.inputs.T @ d2 + z1.T @ second.deltas
    sides = [
        a1 - first.inputs @ x1,
        z1 - first.slopes * a1,
        forward,
        z2 - second.slopes * a2,
        g2 - hessian * z2,
        d2 - second.curvatures * a2 - second.slopes * g2,
        g1 - d2 @ second.weights.T - second.deltas @ x2.T,
        d1 - first.curvatures * a1 - first.slopes * g1,
        first.inputs.T @ d1,
        missing if corrected else forward,
    ]
    return np.concatenate([side.ravel() for side in sides])
