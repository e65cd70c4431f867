"""Weights to start a net from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.linalg.lapack import qr
from swiftnets.nets.layer import ArraySpec

__all__ = ["Scheme", "arrays"]


def __dir__() -> list[str]:
    return __all__


Scheme: TypeAlias = Literal["glorot", "he", "orthogonal", "original"]

_SCHEMES = ("glorot", "he", "orthogonal", "original")


def arrays(
    specs: Iterable[ArraySpec], seed: int | None, scheme: Scheme
) -> Iterator[npt.NDArray[np.float64]]:
    """Each array's numbers, as `swiftnets.Network.initial` describes them.

    Parameters
    ----------
    specs : iterable of ArraySpec
    seed : int or None
    scheme : {"glorot", "he", "orthogonal", "original"}

    Yields
    ------
    float64 array
        Of that shape, or a matrix of as many numbers.

    Raises
    ------
    TypeError, ValueError
        If the seed or the scheme is not as above.
    """
    choice = checks.choice(scheme, "scheme", _SCHEMES)
    seed = checks.seed(seed)
    generator: Any = np.random.default_rng(seed)
    legacy = np.random.RandomState(seed) if scheme == "original" else None
    for spec in specs:
        (m, n), shape = spec.fans, spec.shape
        if spec.start in ("zeros", "ones"):
            yield np.full(shape, float(spec.start == "ones"))
        elif spec.start == "normal":
            yield generator.standard_normal(shape) if legacy is None else legacy.randn(*shape)
        elif legacy is not None:
            yield legacy.randn(*shape) / (m + n)
        elif choice == 0:
            limit = math.sqrt(6 / (m + n))
            yield generator.uniform(-limit, limit, shape)
        elif choice == 1:
            yield generator.standard_normal(shape) * math.sqrt(2 / m)
        else:
            yield _orthonormal(generator.standard_normal((math.prod(shape[:-1]), shape[-1])))


def _orthonormal(normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Orthonormal rows or columns, whichever are fewer, uniformly distributed."""
    m, n = normal.shape
    q, r = qr(normal if m >= n else normal.T)
    q = q * np.sign(np.diag(r))
    return q if m >= n else np.ascontiguousarray(q.T)
