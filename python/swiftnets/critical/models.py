"""Steps of Levenberg and Marquardt on ½‖g‖²: (H² + μ) s = −H g, in three ways.

All three are made for one point and give a step for any number of μ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import norm
from swiftnets.solve import LayeredFactorization, plan

__all__ = ["FLAT", "METHODS", "DenseModel", "Krylov", "LayeredModel", "Model", "chosen"]


def __dir__() -> list[str]:
    return __all__


Method: TypeAlias = Literal["auto", "layered", "dense", "krylov"]

METHODS = ("auto", "layered", "dense", "krylov")
FLAT = 1e-6
"""Eigenvalues below this part of ‖H‖ span what is called null where a gradient is judged flat."""

# √μ / ‖H‖ at the least: below it the step is what rounding makes of null directions.
LEAST = 1e-9
_STEPS = 12  # of Lanczos's method, for ‖H‖ to a few per cent
_MOST_KRYLOV = 120  # vectors that a Krylov model keeps
_EIGEN = 12.0  # operations of all eigenpairs, in P³


class Model(Protocol):
    """g + H s and ‖s‖ as far as a step needs them.

    Attributes
    ----------
    norm : float
        ‖H‖, or an estimate that is not larger.
    slope : float
        ‖H g‖.
    """

    norm: float
    slope: float

    def step(self, mu: float) -> tuple[Array, float]:
        """s = −(H² + μ)⁻¹ H g, and ‖g + H s‖; a LinAlgError where it cannot be found."""

    def null_share(self) -> float:
        """The part of g's norm that is in the Hessian's null space."""


class DenseModel:
    """All eigenpairs."""

    def __init__(self, point: Point) -> None:
        self._values, self._vectors = eigh(point.hessian.dense())
        self._parts: Array = self._vectors.T @ point.gradient
        self.norm = float(abs(self._values).max())
        self.slope = norm(self._values * self._parts)

    def step(self, mu: float) -> tuple[Array, float]:
        e, c = self._values, self._parts
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            filtered = c / (e * e + mu)
        if not np.isfinite(filtered).all():
            raise np.linalg.LinAlgError(f"H² + {mu} is singular")
        return -(self._vectors @ (e * filtered)), mu * norm(filtered)

    def null_share(self) -> float:
        is_null = abs(self._values) <= FLAT * self.norm
        return norm(self._parts[is_null]) / (norm(self._parts) or 1.0)


class LayeredModel:
    """Re (H + i √μ)⁻¹ g by one complex layered factorisation a μ."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._factors: LayeredFactorization | None = None
        self.slope = norm(point.hessian @ point.gradient)
        start = np.random.default_rng(0).standard_normal(len(point.w))
        values, _ = lanczos(point.hessian, start, _STEPS).eigenvalues()
        self.norm = float(abs(values).max())

    def step(self, mu: float) -> tuple[Array, float]:
        root = math.sqrt(mu)
        if self._factors is None:
            self._factors = LayeredFactorization(self._point.hessian + root * 1j)
        elif self._factors.shift != root * 1j:
            self._factors.update(root * 1j)
        x = self._factors.solve(self._point.gradient)
        # H Re x − √μ Im x = g.
        return -x.real, root * norm(x.imag)

    def null_share(self) -> float:
        # By t² / (H² + t²), t the threshold: there is no sharp one without eigenvectors.
        size = norm(self._point.gradient)
        if not size:
            return 0.0
        return min(self.step((FLAT * self.norm) ** 2)[1] / size, 1.0)


class Krylov:
    """The least ‖g + H s‖² + μ ‖s‖² over a Krylov space: products alone."""

    def __init__(self, point: Point) -> None:
        start = point.gradient
        self._size = norm(start)
        if not self._size:  # for ‖H‖ alone
            start = np.random.default_rng(0).standard_normal(len(point.w))
        run = lanczos(point.hessian, start, min(len(point.w), _MOST_KRYLOV))
        count = len(run.diagonal)
        small = np.zeros((count + 1, count))  # H Q = [Q q] small
        small[:count] = run.matrix
        small[count, -1] = run.residual
        self._basis = run.basis
        left, self._values, right = np.linalg.svd(small, full_matrices=False)
        self._left, self._right = left, right.T
        self._parts: Array = self._size * left[0]
        # What of g no s in the space changes.
        self._rest = math.sqrt(max(self._size**2 - norm(self._parts) ** 2, 0.0))
        self.norm = float(self._values[0])
        self.slope = self._size * norm(small[:, 0])

    def step(self, mu: float) -> tuple[Array, float]:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            filtered = self._parts / (self._values**2 + mu)
        if not np.isfinite(filtered).all():
            raise np.linalg.LinAlgError(f"H² + {mu} is singular")
        s = -((self._right @ (self._values * filtered)) @ self._basis)
        return s, math.hypot(mu * norm(filtered), self._rest)

    def null_share(self) -> float:
        # What a space does not reach need not be null. Of the parts beyond t, t² times the sum of
        # squares is at most ‖H g‖²: the rest is.
        if not self._size:
            return 0.0
        most = self.slope / (FLAT * self.norm * self._size)
        return math.sqrt(max(1 - most**2, 0.0))


_MODELS: dict[str, Callable[[Point], Model]] = {
    "dense": DenseModel,
    "layered": LayeredModel,
    "krylov": Krylov,
}


def chosen(point: Point, method: Method) -> tuple[str, Callable[[Point], Model]]:
    """The way that is asked for, or the one of the fewest operations, by its name."""
    if method == "auto":
        method = _cheapest(point)
    elif method == "dense":
        checks.memory(24 * len(point.w) ** 2, "the Hessian and its eigenvectors")
    return method, _MODELS[method]


def _cheapest(point: Point) -> Method:
    net, count, samples = point.net, len(point.w), point.counted_samples
    fits = checks.fits(4 * 24 * count**2)
    dense = _EIGEN * float(count) ** 3
    if "structural_hessian" not in net.supports:
        dense += 12.0 * samples * net.multiplications * count
    if "layered_solve" in net.supports:
        try:
            sizes = plan(net, samples, complex=True)
        except MemoryError:
            return "dense" if fits else "krylov"
        # A model of many μ is worth two factorisations of one each.
        if checks.fits(4 * sizes.bytes) and (not fits or 2 * sizes.operations < dense):
            return "layered"
    krylov = 12.0 * samples * net.multiplications * _MOST_KRYLOV
    krylov += 8.0 * count * _MOST_KRYLOV**2
    return "dense" if fits and dense < 10 * krylov else "krylov"
