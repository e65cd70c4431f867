"""A net whose l2 is scikit-learn's alpha: of the weights alone, divided by the samples' weight."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import FloatArray
from swiftnets.mlp import MLP
from swiftnets.nets.engine import Engine
from swiftnets.nets.network import BaseNetwork

__all__ = ["DecayedMLP", "weight_slices"]


def __dir__() -> list[str]:
    return __all__


def weight_slices(net: MLP) -> list[slice]:
    """Where each layer's weights are in the vector, without its biases."""
    widths = zip(net.layer_slices, net.sizes, net.sizes[1:], strict=False)
    return [slice(one.start, one.start + m * n) for one, m, n in widths]


class _DecayEngine(Engine):
    """Adds the l2 term of the weights alone."""

    def __init__(self, net: BaseNetwork) -> None:
        super().__init__(net)
        self._parts = weight_slices(net)  # type: ignore[arg-type]

    def add_l2(self, out: FloatArray, v: FloatArray | float) -> None:
        l2 = self.l2
        if not l2:
            return
        if out.shape[-1] != self.count:
            # The diagonal of one layer's block, which does not say whose it is: in directions of
            # layer by layer methods the biases are damped as well.
            out += l2 * v
            return
        for part in self._parts:
            # One at a time, and views where there is one vector: each minibatch comes here.
            place = out[part] if out.ndim == 1 else out[..., part]
            place += l2 * (v[..., part] if isinstance(v, np.ndarray) else v)

    def penalty(self, w: FloatArray) -> float:
        if not self.l2:
            return 0.0
        total = 0.0
        for part in self._parts:
            weights = w[part]
            total += float(np.dot(weights, weights))
        return 0.5 * self.l2 * total


class DecayedMLP(MLP):
    """An `MLP` of mean losses plus ½ alpha Σ W² / `total`, over weights and not biases.

    Loss, gradient, products and dense matrices have exactly that. Where a matrix is damped or
    factored, the damping l2 is on the biases too: a matter of the step, not of where it leads.

    Parameters
    ----------
    alpha, total : float
    **settings : object
        As of `MLP`, but for its reduction and l2.
    """

    def __init__(self, sizes: Any, *, alpha: float, total: float, **settings: Any) -> None:
        self._alpha = alpha
        super().__init__(sizes, reduction="mean", l2=alpha / total, **settings)

    def _join(self) -> None:
        super()._join()
        self.engine = _DecayEngine(self)

    def astype(self, dtype: npt.DTypeLike) -> Self:
        other = super().astype(dtype)
        if other is not self:
            other.engine = _DecayEngine(other)
            other.engine.l2 = self.engine.l2
        return other

    def weigh(self, total: float) -> None:
        """From here on the samples weigh so much: a minibatch's penalty is divided by its own."""
        self.engine.l2 = self._alpha / total
