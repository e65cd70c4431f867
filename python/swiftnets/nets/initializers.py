"""Weights to start a net from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.linalg.lapack import aside

__all__ = ["Scheme", "weights"]


def __dir__() -> list[str]:
    return __all__


Scheme: TypeAlias = Literal["glorot", "he", "orthogonal", "original"]

_SCHEMES = ("glorot", "he", "orthogonal", "original")


def weights(
    sizes: tuple[int, ...], seed: int | None, scheme: Scheme
) -> Iterator[npt.NDArray[np.float64]]:
    """Each layer's weights [in, out], as `Network.initial` describes them.

    Parameters
    ----------
    sizes : tuple of int
        Widths: the inputs', then each layer's outputs'.
    seed : int or None
    scheme : {"glorot", "he", "orthogonal", "original"}

    Yields
    ------
    (in, out) float64 array

    Raises
    ------
    TypeError, ValueError
        If the seed or the scheme is not as above.
    """
    choice = checks.choice(scheme, "scheme", _SCHEMES)
    seed = checks.seed(seed)
    generator: Any = np.random.default_rng(seed)
    legacy = np.random.RandomState(seed) if scheme == "original" else None
    for m, n in zip(sizes, sizes[1:], strict=False):
        if legacy is not None:
            yield legacy.randn(m, n) / (m + n)
        elif choice == 0:
            limit = math.sqrt(6 / (m + n))
            yield generator.uniform(-limit, limit, (m, n))
        else:
            normal = generator.standard_normal((m, n))
            yield normal * math.sqrt(2 / m) if choice == 1 else _orthonormal(normal)


def _orthonormal(normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Orthonormal rows or columns, whichever are fewer, uniformly distributed."""
    m, n = normal.shape
    q, r = aside(4.0 * m * n * min(m, n), np.linalg.qr, normal if m >= n else normal.T)
    q = q * np.sign(np.diag(r))
    return q if m >= n else np.ascontiguousarray(q.T)
