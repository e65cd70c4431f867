"""Eigenvalues counted by the inertia of factors, and refused where rounding decides."""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.operator import FunctionOperator, SymmetricOperator
from swiftnets.spectra.targets import EPS, Target

__all__ = ["Below", "count", "negative_count", "spectral_norm"]


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


def count(A: SymmetricOperator | npt.ArrayLike, a: float, b: float) -> int:
    """How many eigenvalues a symmetric matrix has between a and b, exactly.

    By Sylvester's law of inertia: factors of A − a and of A − b have as many negative pivots as A
    has eigenvalues below. Each count is refused where the shift is so near an eigenvalue that
    rounding decides.

    Parameters
    ----------
    A : SymmetricOperator or (P, P) array_like
        A `CurvatureMatrix`, a `swiftnets.curvature.LayerBlock`, any other operator, whose entries
        are then made by P products, or a symmetric array.
    a, b : float
        a < b; they may be infinite.

    Returns
    -------
    int
        Of multiple eigenvalues each copy is counted.

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above, or A is complex or not symmetric.
    numpy.linalg.LinAlgError
        If a or b is nearer to an eigenvalue than ten times the factors' backward error, or than
        20 P u ‖A‖: move it by more than that.
    FloatingPointError
        If A has numbers that are not finite.
    MemoryError
        If factors would not fit into memory.

    Notes
    -----
    Costs a factorisation for each finite end: layer by layer where A is the Hessian of an `MLP` and
    that is cheaper, else dense, some P³ / 3 operations. The distance of the shift to the spectrum
    is estimated by three steps of inverse iteration from two random vectors, the backward error by
    the residuals of these solves [1]_.

    References
    ----------
    .. [1] B. N. Parlett, "The Symmetric Eigenvalue Problem", SIAM, 1998, sections 3.3 and 4.5.

    Examples
    --------
    >>> from swiftnets import spectra
    >>> spectra.count(np.diag([1.0, 2.0, 2.0, 5.0]), 1.5, 3.0)
    2
    >>> spectra.count(np.eye(3), -np.inf, 1.0)
    Traceback (most recent call last):
    ...
    numpy.linalg.LinAlgError: A - 1.0 is singular to working precision: no count
    """
    low, high = _end(a, "a"), _end(b, "b")
    if not low < high:
        raise ValueError(f"a is {a} and b is {b}; expected a < b")
    target = Target(A)
    if low == -math.inf and high == math.inf:
        return target.order
    norm = spectral_norm(target)

    def below(end: float) -> int:
        if math.isinf(end):
            return target.order if end > 0 else 0
        return negative_count(target, math.ldexp(end, -target.exponent), norm).number

    return below(high) - below(low)


def _end(value: object, name: str) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
        number = float(value)
        if math.isinf(number):
            return number
    return checks.real(value, name)


def spectral_norm(target: Target, seed: int = 1) -> float:
    """About, from a few steps of Lanczos's method; from below."""
    start = np.random.default_rng(seed).standard_normal(target.order)
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
    shown = math.ldexp(s, target.exponent)
    try:
        factors = target.factors(s)
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
