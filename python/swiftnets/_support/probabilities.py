"""Probabilities of logits of any size: nothing overflows, and small ones keep their digits."""

from __future__ import annotations

import numpy as np

from swiftnets._support.types import FloatArray

__all__ = ["sigmoid", "softmax"]


def __dir__() -> list[str]:
    return __all__


def sigmoid(z: FloatArray) -> FloatArray:
    """1 / (1 + exp(−z)), of z's dtype."""
    small = np.exp(-np.abs(z))
    found: FloatArray = np.where(z < 0, small, 1) / (1 + small)
    return found


def softmax(z: FloatArray) -> FloatArray:
    """exp(z) over its sum along the last axis, of z's dtype."""
    found: FloatArray = np.exp(z - z.max(axis=-1, keepdims=True))
    found /= found.sum(axis=-1, keepdims=True)
    return found
