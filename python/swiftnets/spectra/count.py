"""Eigenvalues counted by the inertia of factors, and refused where rounding decides."""

from __future__ import annotations

import math
import numbers

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.linalg.operator import SymmetricOperator
from swiftnets.spectra.inertia import negative_count, spectral_norm
from swiftnets.spectra.targets import Target

__all__ = ["count"]


def __dir__() -> list[str]:
    return __all__


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
    that is cheaper, else dense, some P³ / 3 operations; dense as well within 1e-8 of the norm from
    the net's l2, where layers have no good pivots of their own, if that takes seconds. The distance
    of the shift to the spectrum is estimated by three steps of inverse iteration from two random
    vectors, the backward error by the residuals of these solves [1]_.

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
        if math.isnan(number):
            raise ValueError(f"{name} is {value}; expected a number, or inf with a sign")
        if math.isinf(number):
            return number
    return checks.real(value, name)
