"""The model problem of trust regions and of cubic regularisation, in an eigenbasis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["secular_step"]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]

_BISECTIONS = 2000


def secular_step(
    eigenvalues: Array, gradient: Array, radius: Callable[[float], float], interior: bool
) -> tuple[Array, float]:
    """s and λ ≥ 0 with (Θ + λ) s = −g, Θ + λ ⪰ 0 and ‖s‖ = radius(λ) (Moré & Sorensen 1983).

    Parameters
    ----------
    eigenvalues : (n,) float64 array
        Θ, ascending.
    gradient : (n,) float64 array
        g in the eigenbasis.
    radius : callable
        Of λ, not decreasing: the trust-region radius, or λ / σ for a cubic term σ ‖s‖³ / 3.
    interior : bool
        Whether λ = 0 with ‖s‖ ≤ radius is a solution, too.

    Returns
    -------
    tuple of the step and λ

    Notes
    -----
    In the hard case, where g has no part in the lowest eigenvectors and −θ₁ is too much for the
    rest, the step gets a part along the first eigenvector that fills the radius.

    Examples
    --------
    >>> s, shift = secular_step(np.array([1.0]), np.array([4.0]), lambda _: 2.0, True)
    >>> s.round(12), round(shift, 12)
    (array([-2.]), 1.0)
    """
    least = max(0.0, -float(eigenvalues[0]))
    scale = float(abs(eigenvalues).max()) or 1.0

    def step(shift: float) -> Array:
        below = eigenvalues + shift
        # At −θ₁ itself the lowest part is left out: the limit where g has none there.
        small = below <= 4 * np.finfo(float).eps * scale
        result: Array = np.where(small, 0.0, -gradient / np.where(small, 1.0, below))
        return result

    def excess(shift: float) -> float:
        return float(np.linalg.norm(step(shift))) - radius(shift)

    lowest = eigenvalues <= eigenvalues[0] + 4 * np.finfo(float).eps * scale
    has_lowest = bool(np.linalg.norm(gradient[lowest]) > np.finfo(float).eps ** 2)
    regular = eigenvalues[0] + least > 4 * np.finfo(float).eps * scale
    if interior and regular and least == 0.0 and excess(0.0) <= 0:
        return step(0.0), 0.0
    if not regular and not has_lowest and excess(least) <= 0:
        # The hard case (or all of it at rest): up to the radius along the first eigenvector.
        result = step(least)
        room = radius(least) ** 2 - float(result @ result)
        if least > 0 or not interior:
            result[0] += np.sqrt(max(0.0, room))
        return result, least
    low, high = least, least + scale
    while excess(high) > 0:
        high = least + 2 * (high - least)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if excess(middle) > 0:
            low = middle
        else:
            high = middle
    return step(high), high
