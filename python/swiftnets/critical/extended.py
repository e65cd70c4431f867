"""The gradient of a chain of dense layers in NumPy's extended precision, by back-propagation.

A certificate is as good as the gradient's rounding is small: of 64 bits it is 2000 times smaller
than of 53. Where NumPy has no wider numbers, or no such function, there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets.curvature.point import Point

__all__ = ["UNIT", "extended_gradient"]


def __dir__() -> list[str]:
    return __all__


_Extended = npt.NDArray[Any]

_WIDE = np.longdouble
UNIT = float(np.finfo(_WIDE).eps) / 2
"""The unit of rounding of these numbers."""

_MOST = 3e8  # multiplications, of some nanoseconds each: there is no BLAS for them


def _sigmoid(a: _Extended) -> _Extended:
    half: _Extended = np.tanh(a / 2) / 2
    # Where the sum would cancel exp alone is exact to its unit.
    small = np.exp(np.minimum(a, 0))
    return np.where(a < -1, small / (1 + small), half + _WIDE(0.5))


def _silu(a: _Extended) -> tuple[_Extended, _Extended]:
    s = _sigmoid(a)
    return a * s, s * (1 + a * _sigmoid(-a))


def _tanh(a: _Extended) -> tuple[_Extended, _Extended]:
    s = np.tanh(a)
    return s, 1 - s * s


_FUNCTIONS: dict[str, Callable[[_Extended], tuple[_Extended, _Extended]]] = {
    "identity": lambda a: (a, np.ones_like(a)),
    "tanh": _tanh,
    "sigmoid": lambda a: (_sigmoid(a), _sigmoid(a) * _sigmoid(-a)),
    "softplus": lambda a: (np.logaddexp(_WIDE(0), a), _sigmoid(a)),
    "sine": lambda a: (np.sin(a), np.cos(a)),
    "silu": _silu,
}
"""s and s′; there is no erf, which GELU takes."""


def extended_gradient(point: Point) -> _Extended | None:
    """The gradient with the l2 term.

    Parameters
    ----------
    point : Point
        In float64, of one batch, of an `MLP` whose loss is smooth.

    Returns
    -------
    (P,) longdouble array or None
        None where NumPy's longdouble has no more than 53 bits or is done in software, an activation
        is not among those here, or it would take long.
    """
    net: Any = point.net
    (batch,) = point.samples.batches
    names = [activation.name for activation in net.activations]
    is_native = 1e-20 < UNIT < 1e-17
    if not is_native or any(name not in _FUNCTIONS for name in names):
        return None
    if 3.0 * len(batch.x) * net.multiplications > _MOST:
        return None
    wide = point.w.astype(_WIDE)
    z: _Extended = batch.x.astype(_WIDE)
    kept: list[tuple[_Extended, _Extended, _Extended]] = []
    for name, part, rows in zip(names, net.layer_slices, net.layer_rows, strict=True):
        if net.bias:
            z = np.concatenate([z, np.ones((len(z), 1), _WIDE)], axis=1)
        weights = wide[part].reshape(rows, -1)
        inputs = z
        z, slopes = _FUNCTIONS[name](z @ weights)
        kept.append((inputs, weights, slopes))
    if batch.labels is not None:
        y: _Extended = np.zeros_like(z)
        y[np.arange(len(z)), batch.labels] = 1
    else:
        assert batch.targets is not None
        y = batch.targets.astype(_WIDE)
    delta = _residuals(net.loss_function.name, z, y)
    if batch.weights is not None:
        delta = delta * batch.weights.astype(_WIDE)[:, None]
    delta = delta * _WIDE(net.loss_function.factor)
    if net.reduction == "mean":
        delta = delta / (len(z) if batch.weights is None else batch.weights.astype(_WIDE).sum())
    parts = []
    for inputs, weights, slopes in reversed(kept):
        delta = delta * slopes
        parts.append((inputs.T @ delta).reshape(-1))
        delta = delta @ (weights[:-1] if net.bias else weights).T
    gradient: _Extended = np.concatenate(parts[::-1]) + _WIDE(net.l2) * wide
    return gradient


def _residuals(loss: str, z: _Extended, y: _Extended) -> _Extended:
    if loss == "squared_error":
        return z - y
    if loss == "binary_cross_entropy":
        return _sigmoid(z) - y
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    result: _Extended = p * y.sum(axis=1, keepdims=True) - y
    return result
