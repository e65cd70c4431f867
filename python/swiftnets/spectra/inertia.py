"""The inertia of A − s, and how near s is to the spectrum."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.operator import FunctionOperator
from swiftnets.spectra.given import EPS
from swiftnets.spectra.targets import Target

__all__ = ["Below", "negative_count", "spectral_norm"]


def __dir__() -> list[str]:
    return __all__


_COLUMNS, _STEPS = 2, 3
_FACTOR = 10.0  # how much farther than the rounding the nearest eigenvalue has to be
_LOOK = 12  # Lanczos steps for the norm


class Below(NamedTuple):
    """What factors of A − s say.

    Attributes
    ----------
    number : int
        Eigenvalues below s.
    distance : float
        About, of s to the nearest eigenvalue.
    error : float
        Backward error of the factors' solutions, of A's scale.
    """

    number: int
    distance: float
    error: float


def spectral_norm(target: Target) -> float:
    """About, from a few steps of Lanczos's method; from below."""
    start = np.random.default_rng(1).standard_normal(target.order)
    operator: Any = FunctionOperator(target.order, target.products)
    values, _ = lanczos(operator, start, min(_LOOK, target.order)).eigenvalues()
    return float(np.abs(values).max())


def negative_count(target: Target, s: float, norm: float) -> Below:
    """Eigenvalues of the scaled matrix below s; refused where rounding decides.

    Parameters
    ----------
    target : Target
    s : float
        In the scaled matrix's scale, as `norm` is.
    norm : float

    Returns
    -------
    Below

    Raises
    ------
    numpy.linalg.LinAlgError
        If s is too near an eigenvalue.
    """
    try:
        shown = math.ldexp(s, target.exponent)
    except OverflowError:
        raise np.linalg.LinAlgError("a shift is beyond the range of float64: no count") from None
    try:
        factors = target.factors(s, norm)
        inertia = factors.inertia
        singular = inertia is None or inertia.zero > 0
    except np.linalg.LinAlgError:
        singular = True
    if singular:
        raise np.linalg.LinAlgError(f"A - {shown} is singular to working precision: no count")
    assert inertia is not None
    size = max(norm, abs(s))
    z = np.random.default_rng(2).standard_normal((_COLUMNS, target.order))
    distance, error = math.inf, 0.0
    for _ in range(_STEPS):
        z /= np.linalg.norm(z, axis=1)[:, None]
        try:
            x = factors.solve(z)
        except np.linalg.LinAlgError:  # it overflows
            x = np.zeros_like(z)
        largest = np.abs(x).max(axis=1)
        if not largest.all():
            distance = 0.0
            break
        x /= largest[:, None]
        lengths = np.linalg.norm(x, axis=1)
        inverse = np.ldexp(1 / largest, -target.exponent)  # in the scaled matrix's scale
        remainder = target.products(x) - s * x - z * inverse[:, None]
        distance = min(distance, float((inverse / lengths).min()))
        with np.errstate(over="ignore"):  # then there is no count
            error = max(error, float((np.linalg.norm(remainder, axis=1) / lengths).max()))
        z = x
    least = _FACTOR * max(error, target.order * EPS * size)
    if not distance >= least:
        raise np.linalg.LinAlgError(
            f"{shown} is about {math.ldexp(distance, target.exponent):.1e} from an eigenvalue of "
            f"A, where rounding decides below {math.ldexp(least, target.exponent):.1e}: "
            "no count"
        )
    return Below(inertia.negative, distance, error)
