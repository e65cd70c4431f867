"""The iterates of gradient descent, averaged over their oscillation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array

__all__ = ["smoothed"]


def __dir__() -> list[str]:
    return __all__


_CHUNK = 2**20  # numbers that are worked on at once


def smoothed(iterates: npt.ArrayLike, passes: int = 4) -> Array:
    """Iterates with the oscillation from one to the next taken out: means of three, several times.

    At the edge of stability iterates jump from side to side. A pass takes (w₋ + 2 w + w₊) / 4 of
    neighbours, which cancels a change of sign in every step exactly and keeps straight lines.

    Parameters
    ----------
    iterates : (n, P) or (n,) array_like
        One after the other; n at least 2 ``passes`` + 1.
    passes : int

    Returns
    -------
    (n − 2 passes, P) or (n − 2 passes,) float64 array
        The first is that of ``iterates[passes]``.

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above.

    Examples
    --------
    >>> smoothed([0.0, 3.0, 2.0, 5.0, 4.0, 7.0, 6.0], passes=1)
    array([2., 3., 4., 5., 6.])
    """
    passes = checks.integer(passes, "passes")
    single = checks.dimensions(iterates, "iterates") == 1
    rows = checks.array(iterates, "iterates", ("n",) if single else ("n", "P"))
    checks.finite(rows, "iterates")
    if len(rows) <= 2 * passes:
        raise ValueError(
            f"iterates has {len(rows)} rows and passes is {passes}; expected at least "
            f"{2 * passes + 1} rows"
        )
    found = np.empty((len(rows) - 2 * passes, *rows.shape[1:]))
    # Part by part: Ctrl-C comes between two, and what lies between the passes stays small.
    step = max(8 * passes, _CHUNK // max(1, rows[0].size), 1)
    for first in range(0, len(found), step):
        mean: Array = rows[first : first + step + 2 * passes]
        for _ in range(passes):
            mean = 0.5 * mean[1:-1] + (0.25 * mean[:-2] + 0.25 * mean[2:])
        found[first : first + step] = mean
    return found
