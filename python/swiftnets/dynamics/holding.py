"""Third derivatives along critical eigenvectors, and the oscillation with which they hold them."""

from __future__ import annotations

import math

import numpy as np

from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.dynamics.complementarity import places, smat, solve_checked
from swiftnets.linalg.scaling import exponent

__all__ = ["held", "thirds"]


def __dir__() -> list[str]:
    return __all__


_MOST = 64  # critical eigenvalues: the complementarity problem takes some c⁶
_LEAST, _LARGEST = 2.0**-400, 2.0**400  # between these, squares and their products are numbers


def thirds(point: Point, rows: Array) -> Array:
    """T[u_i, u_j] for i ≤ j: c (c + 1) / 2 third derivatives, of chains of dense layers at once.

    Parameters
    ----------
    point : Point
        Of float64.
    rows : (c, P) float64 array
        Orthonormal: their products need no scaling.

    Returns
    -------
    (c (c + 1) / 2, P) array
        In the order of `complementarity.svec`, without its factors.

    Raises
    ------
    numpy.linalg.LinAlgError
        If c is so large that the complementarity problem would take minutes, or hours: some c⁶.
    """
    if len(rows) > _MOST:
        raise np.linalg.LinAlgError(
            f"{len(rows)} eigenvalues are critical; expected up to {_MOST}: the step is far above "
            "the edge of stability, where gradient descent diverges; expected a smaller step"
        )
    if point.net.engine.is_chain:
        return point.passed.thirds(rows)
    return np.concatenate([point.third(row, rows[i:]) for i, row in enumerate(rows)])


def held(
    gradient: Array,
    flat: Array,
    slack: Array | None,
    start: Array | None = None,
    unit: float = 0.0,
) -> Array:
    """The covariance of oscillation that holds critical eigenvalues.

    Parameters
    ----------
    gradient : (P,) array
    flat : (K, P) array
        What `thirds` gives.
    slack : (c,) array, optional
        By how much the eigenvalues may still rise, over η times the time they have; none without.
    start : (c, c) array, optional
    unit : float
        As of `complementarity.solve_checked`.

    Returns
    -------
    (c, c) array

    Raises
    ------
    numpy.linalg.LinAlgError
        If there is none.
    FloatingPointError
        If it, or a third derivative, is beyond float64.
    """
    with np.errstate(all="ignore"):
        largest = float(np.einsum("ij,ij->i", flat, flat).max())
        square = float(gradient @ gradient)
    most = 0.0 if slack is None else float(np.abs(slack).max())
    if _LEAST < largest < _LARGEST and _LEAST < square < _LARGEST and most < _LARGEST:
        X = _held(gradient, flat, slack, start, unit)
    else:
        X = _rescaled(gradient, flat, slack, start, unit)
    if not np.isfinite(X).all():
        raise FloatingPointError(
            "the oscillation that would hold the eigenvalues is beyond float64"
        )
    return X


def _rescaled(
    gradient: Array, flat: Array, slack: Array | None, start: Array | None, unit: float
) -> Array:
    """By way of T / 2ᵉ and (g, slack / 2ᵉ) / 2ᶠ, which are near 1."""
    for what, array in (("third derivative", flat), ("gradient", gradient)):
        if not np.isfinite(array).all():
            raise FloatingPointError(f"the {what} at the point is not finite")
    e = exponent(flat)
    f = exponent(gradient)
    if slack is not None:
        f = max(f, exponent(slack) - e)
        slack = np.ldexp(slack, -e - f)
    with np.errstate(over="ignore", under="ignore"):
        flat, gradient = np.ldexp(flat, -e), np.ldexp(gradient, -f)
        near = None if start is None else np.ldexp(start, e - f)
        unit = float(np.ldexp(unit, -e - f))
    found = _held(gradient, flat, slack, near, unit)
    with np.errstate(over="ignore", under="ignore"):  # the caller looks at what came out
        return np.ldexp(found, f - e)


def _held(
    gradient: Array, flat: Array, slack: Array | None, start: Array | None, unit: float
) -> Array:
    """The same in units where products of the arguments are numbers."""
    if len(flat) == 1:
        t = flat[0]
        pull = float(t @ t) / 2
        push = -float(t @ gradient) - (0.0 if slack is None else float(slack[0]))
        if push > 0 and not pull > 0:
            raise np.linalg.LinAlgError(
                "T[u, u] is 0, and nothing holds the eigenvalue: no oscillation does"
            )
        return np.array([[push / pull if push > 0 else 0.0]])
    _, _, factors, _ = places((math.isqrt(8 * len(flat) + 1) - 1) // 2)
    M = flat * factors[:, None]
    A = smat(M @ gradient)
    if slack is not None:
        A = A + np.diag(slack)
    return solve_checked(A, M @ M.T / 2, start, unit).X
