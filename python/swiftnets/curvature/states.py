"""What a net's second derivatives are made of, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point, require_point
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.supports import require_dense

__all__ = ["LayerState", "layer_states"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class LayerState:
    """What second derivatives of the loss are made of at one layer, z ↦ s(z W).

    Attributes
    ----------
    inputs : (N, in) float64 array
        z, with a last column of ones if there is a bias.
    weights : (in, out) float64 array
        W, the bias as its last row.
    slopes, curvatures, deltas : (N, out) float64 arrays
        s′(z W), s″(z W) G and s′(z W) G, with G the derivative of the loss in the layer's outputs,
        sample weights and reduction included.
    """

    inputs: Array
    weights: Array
    slopes: Array
    curvatures: Array
    deltas: Array


def state_count(net: BaseNetwork, samples: int) -> int:
    """How many numbers the states of all layers are."""
    chain = require_dense(net, "layer_states", "hessian.dense() or hessian @ v")
    outputs = net.outputs
    layers = sum(chain.layer_rows) + 3 * sum(chain.sizes[1:])
    return samples * (layers + (outputs if net.loss_function.is_elementwise else outputs**2))


def layer_states(point: Point) -> tuple[tuple[LayerState, ...], Array]:
    """What the Hessian of the loss is made of: each layer's arrays and the loss's Hessian.

    Parameters
    ----------
    point : Point
        Several batches become one; samples of weight 0 are there.

    Returns
    -------
    tuple of LayerState
        One a layer, the first layer's first; float64 whatever the net's dtype.
    output_hessian : (N, outputs) or (N, outputs, outputs) float64 array
        The loss's Hessian in the net's outputs: its diagonal, or for the softmax cross-entropy all
        of it. Sample weights and reduction are included, l2 is not.

    Raises
    ------
    NotImplementedError
        If the net is no `MLP`.
    MemoryError
        If the arrays are larger than the memory of this machine.

    Notes
    -----
    They are copied from the point's pass, which is made with this call if it is the first to need
    it.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 1), loss="binary_cross_entropy", bias=False)
    >>> (layer,), hessian = layer_states(net.at([0.0, 0.0], [[3.0, 4.0]], [[1.0]]))
    >>> layer.inputs, hessian
    (array([[3., 4.]]), array([[0.25]]))
    """
    chain = require_dense(
        require_point(point).net, "layer_states", "hessian.dense() or hessian @ v"
    )
    wide = point.in_float64()
    net, n = wide.net, wide.sample_count
    count = state_count(net, n)
    checks.memory(16 * count, "the states of all layers")
    out = np.empty(count)
    wide.with_all.call_on_pass(_core.linearization_states, out)
    rest = out

    def take(*shape: int) -> Array:
        nonlocal rest
        size = math.prod(shape)
        taken, rest = rest[:size], rest[size:]
        return taken.reshape(shape)

    layers = []
    for part, rows, width in zip(net.layer_slices, chain.layer_rows, chain.sizes[1:], strict=True):
        inputs = take(n, rows)
        weights = np.array(wide.w[part]).reshape(rows, width)
        layers.append(LayerState(inputs, weights, *(take(n, width) for _ in range(3))))
    outputs = net.outputs
    shape = (n, outputs) if net.loss_function.is_elementwise else (n, outputs, outputs)
    return tuple(layers), take(*shape)
