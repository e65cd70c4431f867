"""A net's first layer in coordinates of what its inputs span: no derivative leads out of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.linalg.lapack import qr
from swiftnets.mlp import MLP
from swiftnets.nets.samples import Samples

__all__ = ["InputSpan", "spanned"]


def __dir__() -> list[str]:
    return __all__


_WORTH = 2  # as many inputs as samples, at least
# Between the largest number of one input and of another: a turn mixes inputs, and loses in products
# with weights what they differ in size.
_ALIKE = 1e4


def spanned(point: Point) -> Array:
    """An orthonormal basis of the span of a point's inputs, where there are far more than samples.

    Parameters
    ----------
    point : Point
        Of float64, of finite numbers.

    Returns
    -------
    (inputs, N) array
        Empty, (0, 0), where coordinates in it would be of no use, or lose digits.
    """
    nothing = np.empty((0, 0))
    if not isinstance(point.net, MLP) or point.net.l2 or not point.samples.is_single:
        return nothing
    (batch,) = point.samples.batches
    count, inputs = batch.x.shape
    if count < 2 or inputs < _WORTH * count:
        return nothing
    sizes = np.abs(batch.x).max(axis=0)
    sizes = sizes[sizes > 0]
    if not len(sizes) or sizes.max() > _ALIKE * sizes.min():
        return nothing
    basis, _ = qr(batch.x.T)
    return basis if np.isfinite(basis).all() else nothing


class InputSpan:
    """A point, and the same in a basis of its inputs' span in place of the inputs.

    The loss's derivatives in the first layer's weights are sums of inputs times numbers: of a start
    and of what follows from derivatives there, the parts outside of the span are the start's. So
    with x = x̃ Qᵀ the net of weights QᵀW on inputs x̃ has the same path, the same eigenvalues but
    for zeros, and N in place of the inputs.

    Parameters
    ----------
    point : Point
        The start.
    basis : (inputs, N) array
        As of `spanned`; empty: the point itself is kept.

    Attributes
    ----------
    point : Point
        The start in these coordinates.
    outside : int
        How many fewer these are.
    """

    def __init__(self, point: Point, basis: Array) -> None:
        self.point, self.outside = point, 0
        if not basis.size:
            return
        net: Any = point.net  # an MLP
        inputs, width = net.sizes[:2]
        self._basis, self._start = basis, point.w
        self._part = slice(0, inputs * width)
        small = MLP(
            (basis.shape[1], *net.sizes[1:]),
            activation=net.activations[:-1],
            output_activation=net.activations[-1],
            loss=net.loss_function,
            bias=net.bias,
            reduction=net.reduction,
        )
        (batch,) = point.samples.batches
        inside = basis.T @ point.w[self._part].reshape(inputs, width)
        w = np.concatenate([inside.ravel(), point.w[self._part.stop :]])
        self.outside = len(point.w) - len(w)
        self.point = small.at_samples(w, Samples([batch._replace(x=batch.x @ basis)], True))

    def expanded(self, w: Array) -> Array:
        """Parameters in these coordinates as the net's own; of the start these are its, exactly.

        Parameters
        ----------
        w : (p,) array

        Returns
        -------
        (P,) array
        """
        if not self.outside:
            return w
        count = self._basis.shape[1]
        inside = len(w) - (len(self._start) - self._part.stop)
        moved = (w[:inside] - self.point.w[:inside]).reshape(count, -1)
        out = np.concatenate([self._start[self._part], w[inside:]])
        out[self._part] += (self._basis @ moved).ravel()
        return out
