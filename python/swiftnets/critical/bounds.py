"""Bounds of a loss's derivatives on a ball of weights, from norms of each sample, layer by layer.

Along a unit direction of all weights, a layer z ↦ s(z W + b) and its derivatives change by at most

    a₁ = z₁ |W| + |(z, 1)|,   a₂ = z₂ |W| + 2 z₁,   a₃ = z₃ |W| + 3 z₂
    z₁ = s₁ a₁,   z₂ = s₁ a₂ + s₂ a₁²,   z₃ = s₁ a₃ + 3 s₂ a₁ a₂ + s₃ a₁³

with |W| the spectral norm and s₁, s₂, s₃ the suprema of |s′|, |s″|, |s‴|. On a ball of radius ρ
|W| grows by ρ at most, and z by ρ z₁.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from swiftnets._support.probabilities import sigmoid, softmax
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.curvature.states import LayerState, layer_states
from swiftnets.linalg.scaling import row_norms
from swiftnets.nets.samples import Batch
from swiftnets.nets.supports import require_dense

__all__ = ["LOSSES", "SLOPES", "Bounds"]


def __dir__() -> list[str]:
    return __all__


_UNITS = 8  # of rounding that tanh, exp and their like may be off by

SLOPES: dict[str, tuple[float, float, float]] = {
    "identity": (1.0, 0.0, 0.0),
    "tanh": (1.0, 0.76981, 2.0),  # the second 4 / (3 √3)
    "sigmoid": (0.25, 0.096226, 0.125),  # 1 / (6 √3)
    "softplus": (1.0, 0.25, 0.096226),
    "sine": (1.0, 1.0, 1.0),
    "silu": (1.0999, 0.5, 0.3082),
    "gelu": (1.1290, 0.79789, 0.7788),
    "gelu_tanh": (1.1290, 0.79789, 0.7767),
}
"""Suprema of |s′|, |s″|, |s‴| over the line, rounded up."""

LOSSES: dict[str, tuple[float, float]] = {
    "squared_error": (1.0, 0.0),
    # Variance and third central moment of the entries of a unit vector, which lie in an interval
    # of length R = √2: at most R² / 4 and R³ / (6 √3).
    "softmax_cross_entropy": (0.5, 0.272166),
    "binary_cross_entropy": (0.25, 0.096226),
}
"""Norms of a sample's second and third derivative in the outputs, at most."""


class _Layer(NamedTuple):
    """What bounds take of a layer."""

    inputs: Array  # |(z, 1)| of each sample
    spectral: float  # of W, without the bias
    frobenius: float  # of W with it
    rows: int
    columns: int
    slopes: tuple[float, float, float]


class Bounds:
    """A point's norms, and the bounds that are made of them.

    Parameters
    ----------
    point : Point
        In float64, without samples of weight 0.

    Raises
    ------
    NotImplementedError
        Where the net is no chain of dense layers, or not three times differentiable.
    """

    def __init__(self, point: Point) -> None:
        net: Any = point.net
        require_dense(net, "certify", "the gradient's norm and the Hessian's eigenvalues")
        for place, activation in enumerate(net.activations):
            if activation.name not in SLOPES:
                jump = activation.first_jump
                if jump is None:
                    raise NotImplementedError(
                        f"certify needs bounds of the activations' derivatives, and has none of "
                        f"{activation!r}, which activation {place} is"
                    )
                how = ("a kink", "a second derivative that jumps")[jump - 1]
                raise NotImplementedError(
                    f"certify needs a smooth net, and activation {place} is {activation!r}: it has "
                    f"{how}, across which no bound of the third derivative holds"
                )
        loss = net.loss_function.name
        if loss not in LOSSES:
            raise NotImplementedError(
                f"certify needs a smooth loss, and this is {loss!r}, whose second derivative jumps"
            )
        states, _ = layer_states(point)
        self._layers = [
            _layer(state, net.bias, SLOPES[activation.name])
            for state, activation in zip(states, net.activations, strict=True)
        ]
        (batch,) = point.samples.batches
        self._residuals, mass = _residuals(batch, point.outputs, loss)
        self._second, self._third = (mass * most for most in LOSSES[loss])
        weights = np.ones(len(mass)) if batch.weights is None else batch.weights
        total = weights.sum() if net.reduction == "mean" else 1.0
        self._weights: Array = weights / total * net.loss_function.factor

    def hessian_and_third(self, radius: float) -> tuple[float, float]:
        """Norms of the second and third derivative of the loss on the ball, at most.

        Parameters
        ----------
        radius : float

        Returns
        -------
        tuple of two floats
            The l2 term is not in the second; in the third it has no part.
        """
        # Bounds beyond all numbers are infinite, or what is no number: nothing is certified then.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._on_ball(radius)

    def _on_ball(self, radius: float) -> tuple[float, float]:
        z1 = z2 = z3 = np.zeros(len(self._weights))
        for layer in self._layers:
            s1, s2, s3 = layer.slopes
            size = layer.spectral + radius
            a1 = z1 * size + layer.inputs + radius * z1
            a2 = z2 * size + 2 * z1
            a3 = z3 * size + 3 * z2
            z1 = s1 * a1
            z2 = s1 * a2 + s2 * a1**2
            z3 = s1 * a3 + 3 * s2 * a1 * a2 + s3 * a1**3
        residuals = self._residuals + radius * self._second * z1
        second = self._second * z1**2 + residuals * z2
        third = self._third * z1**3 + 3 * self._second * z1 * z2 + residuals * z3
        return float(self._weights @ second), float(self._weights @ third)

    def rounding(self, unit: float) -> float:
        """What the computed gradient may be off by, in norm, without the l2 term.

        By the standard model of arithmetic (Higham 2002): a sum of m products is off by m u times
        the sum of their moduli, to first order.

        Parameters
        ----------
        unit : float
            u: that of the arithmetic.

        Returns
        -------
        float
        """
        # Forward: of z before each layer, and of its sums.
        error: Array = np.zeros(len(self._weights))
        befores, sums = [], []
        for layer in self._layers:
            s1 = layer.slopes[0]
            most = layer.inputs * layer.frobenius  # |z W + b| at most
            befores.append(error)
            sums.append(error * layer.spectral + layer.rows * unit * most)
            # |s(a)| ≤ |s(0)| + s₁ |a|, and |s(0)| < 1 for each.
            error = s1 * sums[-1] + _UNITS * unit * (np.sqrt(layer.columns) + s1 * most)
        # Backward: δ and what it is off by, times the inputs.
        delta = self._residuals
        off = self._second * error + (_UNITS + self._layers[-1].columns) * unit * (1 + delta)
        total, size = np.zeros_like(delta), np.zeros_like(delta)
        for layer, before, linear in zip(
            reversed(self._layers), reversed(befores), reversed(sums), strict=True
        ):
            s1, s2, _ = layer.slopes
            off = s1 * off + (s2 * linear + _UNITS * unit * s1) * delta
            delta = s1 * delta
            size = size + layer.inputs * delta
            total = total + layer.inputs * off + before * delta
            off = off * layer.spectral + layer.columns * unit * layer.frobenius * delta
            delta = delta * layer.spectral
        # The sum over samples, in any order.
        count = len(size)
        return float(self._weights @ (total + (count + 4) * unit * size))


def _layer(state: LayerState, bias: bool, slopes: tuple[float, float, float]) -> _Layer:
    weights = state.weights[:-1] if bias else state.weights
    spectral = float(np.linalg.norm(weights, 2)) * (1 + 1e-12)
    frobenius = float(np.linalg.norm(state.weights))
    rows, columns = state.weights.shape
    return _Layer(row_norms(state.inputs), spectral, frobenius, rows, columns, slopes)


def _residuals(batch: Batch, z: Array, loss: str) -> tuple[Array, Array]:
    """|∂ℓ/∂z| of each sample, and the factor of its higher derivatives: its targets' sum."""
    if batch.labels is not None:
        y: Array = np.zeros_like(z)
        y[np.arange(len(z)), batch.labels] = 1
    else:
        assert batch.targets is not None
        y = batch.targets
    if loss == "squared_error":
        return row_norms(z - y), np.ones(len(z))
    if loss == "binary_cross_entropy":
        return row_norms(sigmoid(z) - y), np.ones(len(z))
    mass = y.sum(axis=1)
    return row_norms(softmax(z) * mass[:, None] - y), mass
