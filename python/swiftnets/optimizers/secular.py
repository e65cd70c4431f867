"""The model problem of trust regions and of cubic regularisation, in an eigenbasis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import Array
from swiftnets.linalg.scaling import exponent, norm

__all__ = ["resolved", "secular_step"]


def __dir__() -> list[str]:
    return __all__


# In units of the spectrum: so near to −θ₁ a shift has few digits left.
_LEAST = 2.0**-960
_MOST = float(np.finfo(np.float64).max)


def secular_step(
    eigenvalues: npt.ArrayLike,
    gradient: npt.ArrayLike,
    radius: Callable[[float], float],
    interior: bool,
) -> tuple[Array, float]:
    """s and λ ≥ 0 with (Θ + λ) s = −g, Θ + λ ⪰ 0 and ‖s‖ = radius(λ) (Moré & Sorensen 1983).

    Parameters
    ----------
    eigenvalues : (n,) array_like
        Θ.
    gradient : (n,) array_like
        g in the eigenbasis.
    radius : callable
        Of λ, not decreasing: the trust-region radius, or λ / σ for a cubic term σ ‖s‖³ / 3.
    interior : bool
        Whether λ = 0 with ‖s‖ ≤ radius is a solution, too.

    Returns
    -------
    tuple of the step and λ

    Raises
    ------
    ValueError
        If Θ and g are not as long as each other, or the radius is not a number or negative.
    FloatingPointError
        If Θ or g is not finite.

    Notes
    -----
    What is looked for is how far λ is above −θ₁: to all digits, by bisection over the floats, so
    that a part of g along the lowest eigenvectors counts however small it is. In the hard case,
    where there is none and −θ₁ is too much for the rest, the step gets a part along a lowest
    eigenvector that fills the radius. Costs some 60 norms of n numbers.

    Examples
    --------
    >>> s, shift = secular_step([1.0], [4.0], lambda _: 2.0, True)
    >>> s.round(12), round(shift, 12)
    (array([-2.]), 1.0)
    """
    values, g = np.asarray(eigenvalues, np.float64), np.asarray(gradient, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"eigenvalues has shape {values.shape}; expected (n,)")
    if g.shape != values.shape:
        raise ValueError(f"gradient has shape {g.shape}; expected {values.shape}")
    if not (np.isfinite(values).all() and np.isfinite(g).all()):
        raise FloatingPointError("the quadratic model has numbers that are not finite")
    most = radius(math.inf)
    if not most >= 0:
        raise ValueError(f"radius of a shift of inf is {most!r}; expected a number ≥ 0")
    if most == 0:
        return np.zeros_like(g), math.inf
    units = exponent(values) if values.any() else exponent(g)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        model = _Model(values, g, radius, units)
        while model.is_too_long(_MOST):  # Θ is next to nothing beside ‖g‖ / radius
            units += 1000
            model = _Model(values, g, radius, units)
        # Without a spectrum the unit is λ's own, which must keep its digits.
        while not values.any() and units > -3000 and not model.is_too_long(2.0**-500):
            units -= 500
            model = _Model(values, g, radius, units)
        if interior and values.min() >= 0 and not model.is_too_long(0.0):
            return model.step(0.0), 0.0
        return model.solution()


class _Model:
    """g·s + ½ s·Θ s in units of 2ᵃ for Θ and 2ᵇ for g, with which nothing is rounded."""

    def __init__(
        self, values: Array, g: Array, radius: Callable[[float], float], units: int
    ) -> None:
        self._radius, self._a, self._b = radius, units, exponent(g)
        values, self._g = np.ldexp(values, -self._a), np.ldexp(g, -self._b)
        self._lowest = int(values.argmin())
        self._least = max(0.0, -float(values[self._lowest]))
        # 0 / 0 is 0: the limit where g has no part along an eigenvector of −λ.
        self._there = np.flatnonzero(self._g)
        self._parts, self._gaps = self._g[self._there], (values + self._least)[self._there]

    def step(self, above: float) -> Array:
        """s of the λ that is so much above the least one."""
        s = np.zeros_like(self._g)
        s[self._there] = np.ldexp(-self._parts / (self._gaps + above), self._b - self._a)
        return s

    def _limit(self, above: float) -> float:
        return self._radius(_power(self._least + above, self._a))

    def is_too_long(self, above: float) -> bool:
        """Whether ‖s‖ > radius, of numbers that may themselves be out of range."""
        # It scales as `norm` does, and is faster for the few numbers that there mostly are.
        size = math.hypot(*(self._parts / (self._gaps + above)).tolist())
        limit = self._limit(above)
        if size == 0 or limit == math.inf:
            return False
        if limit == 0 or size == math.inf:
            return True
        (m, e), (n, f) = math.frexp(size), math.frexp(limit)
        return (e + self._b - self._a, m) > (f, n)

    def solution(self) -> tuple[Array, float]:
        above = _least_float(lambda t: not self.is_too_long(t))
        s = self.step(above)
        limit, rest = self._limit(above), norm(np.delete(s, self._lowest))
        if above < _LEAST and (self._least > 0 or above > 0) and rest < limit:
            limit = min(limit, _MOST)  # without end: as far as there are numbers
            room = (limit - rest) / limit * (1 + rest / limit)
            sign = -self._g[self._lowest] or 1.0
            s[self._lowest] = math.copysign(limit * math.sqrt(room), sign)
        return s, _power(self._least + above, self._a)


def _least_float(holds: Callable[[float], bool]) -> float:
    """The least float from 0 on for which something holds that holds for all above it."""
    low, high = -1, int(np.float64(_MOST).view(np.int64))
    # Positive floats are in the order of their bits.
    while high - low > 1:
        middle = (low + high) // 2
        if holds(float(np.int64(middle).view(np.float64))):
            high = middle
        else:
            low = middle
    return float(np.int64(high).view(np.float64))


def _power(value: float, e: int) -> float:
    try:
        return math.ldexp(value, e)
    except OverflowError:
        return math.inf


def resolved(eigenvalues: Array, count: int, dtype: np.dtype[Any]) -> tuple[Array, float]:
    """Eigenvalues without their noise, and the least of them.

    A symmetric matrix of order n whose entries are each wrong by some units u in the last place is
    wrong by some √n u of its norm, as ‖|A|‖ ≤ √n ‖A‖. Eigenvalues that are smaller may be of
    either sign, and count as just so large: no step goes far along them, and none is taken for
    negative curvature.

    Parameters
    ----------
    eigenvalues : (k,) float64 array
        Ascending; or Ritz values.
    count : int
        n.
    dtype : numpy.dtype
        Of the products.

    Returns
    -------
    values : (k,) float64 array
    least : float
        The first one; 0 where it is noise.
    """
    noise = 8 * math.sqrt(count) * float(np.finfo(dtype).eps) * float(abs(eigenvalues).max())
    first = float(eigenvalues[0])
    values = np.where(abs(eigenvalues) <= noise, noise, eigenvalues)
    return values, first if abs(first) > noise else 0.0
