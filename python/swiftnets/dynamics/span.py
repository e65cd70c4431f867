"""A net's first layer in coordinates of what its inputs span: no derivative leads out of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.linalg.lapack import qr
from swiftnets.linalg.scaling import row_norms
from swiftnets.mlp import MLP
from swiftnets.nets.samples import Samples

__all__ = ["InputSpan", "spanned"]


def __dir__() -> list[str]:
    return __all__


_WORTH = 2  # as many inputs as samples, at least
_SOON = 64  # samples for each unit: with more the basis costs what dozens of steps do
# Between the largest number of one input and of another: a turn mixes inputs, and loses in products
# with weights what they differ in size.
_ALIKE = 1e4
_WHOLE = 1e-10  # what rounding leaves of a difference, and more


def spanned(point: Point) -> Array:
    """An orthonormal basis of the span of a point's inputs, where there are far more than samples.

    Parameters
    ----------
    point : Point
        Of float64, of finite numbers.

    Returns
    -------
    (inputs, n) array
        For n up to N. Empty, (0, 0), where coordinates in it would be of no use, or lose digits.
    """
    nothing = np.empty((0, 0))
    batches = list(point.samples.batches)
    if not isinstance(point.net, MLP) or point.net.l2 or len(batches) > 1:
        return nothing
    x, width = batches[0].x, point.net.sizes[1]
    count, inputs = x.shape
    if count < 2 or inputs < _WORTH * count or count > _SOON * width:
        return nothing
    sizes = np.abs(x).max(axis=0)
    # Exactly 0 for inputs that are, whose weights may be of any size.
    live = sizes > 0
    sizes = sizes[live]
    if not len(sizes) or sizes.max() > _ALIKE * sizes.min():
        return nothing
    turn, _ = qr(x[:, live].T)
    if not np.isfinite(turn).all():
        return nothing
    basis = np.zeros((inputs, turn.shape[1]))
    basis[live] = turn
    return basis


class InputSpan:
    """A point, and the same in a basis of its inputs' span in place of the inputs.

    The loss's derivatives in the first layer's weights are sums of inputs times numbers: of a start
    and of what follows from derivatives there, the parts outside of the span are the start's. So
    with x = x̃ Qᵀ the net of weights QᵀW on inputs x̃ has the same path, the same eigenvalues but
    for zeros, and n inputs in place of all.

    Parameters
    ----------
    point : Point
        The start.
    basis : (inputs, n) array
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

    def has_all(self, point: Point) -> bool:
        """Whether the basis is an orthonormal one of what the point's inputs span."""
        if not self.outside:
            return True
        (batch,) = point.samples.batches
        (inside,) = self.point.samples.batches
        rest = batch.x - inside.x @ self._basis.T
        gram = self._basis.T @ self._basis
        return bool(
            (row_norms(rest) <= _WHOLE * row_norms(batch.x)).all()
            and (np.abs(gram - np.eye(len(gram))) <= _WHOLE).all()
        )
