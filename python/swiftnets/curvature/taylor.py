"""Derivatives along directions, to fourth order: Taylor-mode differentiation, exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support.types import FloatArray, IntegerArray
from swiftnets.curvature.passes import Pass
from swiftnets.linalg import scaling
from swiftnets.nets.engine import Engine
from swiftnets.nets.samples import Batch, Samples

__all__ = ["TaylorSeries"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class TaylorSeries:
    """Coefficients of t ↦ L(w + t v) and of its gradient.

    Attributes
    ----------
    loss : (order + 2,) float64 array
        ``loss[k]`` is the coefficient of tᵏ of the loss, for k > 0 summed in float64 from that of
        the gradient.
    gradient : (order + 1, P) float array
        ``gradient[k]`` is that of the gradient: g, H v, T[v, v] / 2, Q[v, v, v] / 6.
    """

    loss: npt.NDArray[np.float64]
    gradient: FloatArray

    @property
    def derivatives(self) -> FloatArray:
        """g, H v, T[v, v] and Q[v, v, v] as rows: ``gradient[k]`` times k!."""
        factorials = [math.factorial(k) for k in range(len(self.gradient))]
        return cast(FloatArray, self.gradient * np.array(factorials, self.gradient.dtype)[:, None])

    def astype(self, dtype: npt.DTypeLike) -> TaylorSeries:
        """The series with its gradients rounded to a dtype.

        Parameters
        ----------
        dtype : numpy dtype

        Returns
        -------
        TaylorSeries
        """
        with np.errstate(over="ignore", under="ignore"):
            return TaylorSeries(self.loss, self.gradient.astype(dtype))

    def __call__(self, t: float) -> float:
        """The polynomial of the loss at t.

        Parameters
        ----------
        t : float

        Returns
        -------
        float
        """
        return float(np.polynomial.polynomial.polyval(t, self.loss))


def series(
    engine: Engine, w: FloatArray, samples: Samples, given: FloatArray, order: int
) -> TaylorSeries:
    """Of the loss at w along a vector; see `swiftnets.curvature.point.Point.taylor`."""
    # A series in 2ᵉ t, the powers of its direction being in range: no larger an e than that takes,
    # as small components are multiplied with each other, too.
    exponent, most = scaling.exponent(given), _usual_exponent(engine.dtype)
    if abs(exponent) * order <= most:
        exponent = 0
    else:
        exponent -= int(exponent * (most / (abs(exponent) * order)))
        exponent = min(exponent, int(scaling.halvings(given[None])[0]))
    line = np.ldexp(given, -exponent) if exponent else given

    def fill(batch: Batch, scale: float, out: FloatArray) -> float:
        return _core.mlp_taylor(engine.handle, w, *batch, scale, order, line, out)

    gradient = np.empty((order + 1, engine.count), engine.dtype)
    reduced = engine.reduce(fill, gradient, samples)
    if exponent:
        gradient = gradient.astype(np.float64, copy=False)
    engine.add_l2(gradient[0], w)
    if order > 0:
        engine.add_l2(gradient[1], line)
    loss = np.empty(order + 2)
    loss[0] = reduced.loss + engine.penalty(w)
    # ∂ₜ L(w + t v) = ⟨∇L(w + t v), v⟩, coefficient by coefficient.
    loss[1:] = scaling.dots(gradient, line) / np.arange(1, order + 2)
    if exponent:
        powers = exponent * np.arange(order + 2)
        with np.errstate(over="ignore", under="ignore"):
            loss = np.ldexp(loss, powers)
            gradient = np.ldexp(gradient, powers[:-1, None]).astype(engine.dtype, copy=False)
    return TaylorSeries(loss, gradient)


def multilinear(
    engine: Engine, w: FloatArray, samples: Samples, fixed: list[FloatArray], rows: FloatArray
) -> FloatArray:
    """The third or fourth derivative at w, applied to one or two vectors and each of some rows."""

    def along(u: FloatArray, second: FloatArray | None, rows: FloatArray) -> FloatArray:
        out = np.empty_like(rows)

        def fill(batch: Batch, scale: float, out: FloatArray) -> None:
            _core.mlp_multilinear(engine.handle, w, *batch, scale, u, second, rows, out)

        engine.reduce(fill, out, samples)
        return out

    return _in_range(engine, fixed, rows, along)


def third(engine: Engine, passed: Pass, u: FloatArray, rows: FloatArray) -> FloatArray:
    """The third derivative at a pass of a chain of dense layers, applied to u and each row."""
    return _in_range(engine, [u], rows, lambda u, _, rows: passed.third(u, rows))


def _in_range(
    engine: Engine,
    fixed: list[FloatArray],
    rows: FloatArray,
    along: Callable[[FloatArray, FloatArray | None, FloatArray], FloatArray],
) -> FloatArray:
    """What `along` makes of one or two vectors and rows, scaled so that products are in range."""
    fixed, rows = [engine.vector(u, "u") for u in fixed], engine.rows(rows, "rows")[0]
    (first, rows, *others), exponents = _scaled(
        engine, [fixed[0][None], rows, *(vector[None] for vector in fixed[1:])]
    )
    out = along(first[0], others[0][0] if others else None, rows)
    if exponents is not None:
        with np.errstate(over="ignore", under="ignore"):
            out = np.ldexp(out, exponents[:, None])
    return out


def leaves_float32(engine: Engine, *directions: FloatArray) -> bool:
    """Whether products of these directions of a float32 net are better formed in float64.

    Scaled into range their large components leave no room for products of the small ones.

    Parameters
    ----------
    engine : Engine
    *directions : (K, P) or (P,) float array
        One for each time that it is multiplied.

    Returns
    -------
    bool
    """
    if engine.dtype != np.float32:
        return False
    exponents = [scaling.exponents(np.atleast_2d(rows)) for rows in directions]
    return max(_reach(exponents)) > _usual_exponent(engine.dtype)


def _reach(exponents: list[IntegerArray]) -> tuple[int, int]:
    """How far up, and down, products of some rows of each kind may go."""
    up = sum(max(int(e.max()), 0) for e in exponents)
    return up, sum(max(int(-e.min()), 0) for e in exponents)


def _usual_exponent(dtype: np.dtype[Any]) -> int:
    return int(np.finfo(dtype).maxexp * 5 // 8)


def _scaled(
    engine: Engine, directions: list[FloatArray]
) -> tuple[list[FloatArray], IntegerArray | None]:
    """Rows that are multiplied with each other, and e or None: the products times 2ᵉ are theirs."""
    # Where some products of some would leave the range, though the product of all may not, the
    # large ones are divided and the small ones multiplied by as little as it takes.
    exponents = [scaling.exponents(rows) for rows in directions]
    up, down = _reach(exponents)
    most = _usual_exponent(engine.dtype)
    if max(up, down) <= most:
        return directions, None
    kept = (most / max(up, most), most / max(down, most))
    shifts = [e - np.trunc(e * np.where(e > 0, *kept)).astype(np.int64) for e in exponents]
    scaled = list(zip(directions, shifts, strict=True))
    # Small numbers beside large ones, and products of such with derivatives, stay.
    places = [max(scaling.places(rows), 0) for rows in directions]
    rest = sum(places) + most // 10
    for (rows, e), own in zip(scaled, places, strict=True):
        np.minimum(e, scaling.halvings(rows, rest - own), out=e)
    return [np.ldexp(rows, -e[:, None]) for rows, e in scaled], np.sum(
        np.broadcast_arrays(*shifts), axis=0
    )
