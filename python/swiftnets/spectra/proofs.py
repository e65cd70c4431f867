"""The count of eigenvalues beside those found: all there, some missing, or no answer."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.spectra.certificates import Certificate, Probe
from swiftnets.spectra.inertia import negative_count
from swiftnets.spectra.selection import Selection
from swiftnets.spectra.targets import Target

__all__ = ["Missing", "Refused", "by_inertia", "by_probe"]


def __dir__() -> list[str]:
    return __all__


_ATTEMPTS, _GROWTH = 5, 8.0
_CHECK, _RUNS = 8, 6


class Missing(Exception):  # noqa: N818  # a finding, and no error
    """Eigenvalues were not found.

    Attributes
    ----------
    low, high : int
        How many at each end; with sigma all are `high`.
    exact : bool
        Whether so many, or at least so many.
    lower, upper : float
        Where they are beyond.
    """

    def __init__(self, low: int, high: int, exact: bool, lower: float, upper: float) -> None:
        super().__init__(f"{low + high} eigenvalues are missing")
        self.low, self.high, self.exact = low, high, exact
        self.lower, self.upper = lower, upper

    @property
    def total(self) -> int:
        return self.low + self.high

    @property
    def ends(self) -> tuple[int, int]:
        return self.low, self.high

    def outside(self, values: Array) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (values < self.lower) | (values > self.upper)
        return found


class Refused(Exception):  # noqa: N818
    """There is no proof; the message says why."""


def by_inertia(
    target: Target, selection: Selection, values: Array, margin: float, norm: float
) -> Certificate:
    """Count beside the last of the values, farther from it where rounding decides.

    Parameters
    ----------
    target : Target
    selection : Selection
    values : (k,) array
        Those chosen, ascending.
    margin : float
    norm : float

    Returns
    -------
    Certificate

    Raises
    ------
    Missing
        If there are others.
    Refused
        If nothing is proved.
    """
    reason = ""
    for _ in range(_ATTEMPTS):
        lower, upper = selection.bounds(values, margin)
        if selection.is_interior and lower >= upper:
            lower = upper = (lower + upper) / 2
            return Certificate("inertia", lower, upper, True, 0, margin)
        try:
            low = negative_count(target, lower, norm).number if math.isfinite(lower) else 0
            high = (
                negative_count(target, upper, norm).number if math.isfinite(upper) else target.order
            )
        except (np.linalg.LinAlgError, MemoryError) as error:
            reason, margin = str(error), _GROWTH * margin
            continue
        if selection.is_interior:
            missing = [0, high - low - int(selection.is_counted(values, lower, upper).sum())]
        else:
            missing = [
                low - int((values < lower).sum()),
                target.order - high - int((values > upper).sum()),
            ]
        if min(missing) < 0:
            reason, margin = "fewer were counted than found", _GROWTH * margin
            continue
        if any(missing):
            raise Missing(missing[0], missing[1], True, lower, upper)
        counted = int(selection.is_counted(values, lower, upper).sum())
        return Certificate("inertia", lower, upper, selection.is_interior, counted, margin)
    raise Refused(f"no count by inertia: {reason}")


def by_probe(
    target: Target,
    selection: Selection,
    values: Array,
    found: tuple[Array, Array],
    margin: float,
    residual: float,
    probability: tuple[float, float],
    limits: tuple[int, float],
    rng: np.random.Generator,
) -> Certificate:
    """Bound all eigenvalues but those found by a Lanczos run in their complement.

    Parameters
    ----------
    target : Target
    selection : Selection
    values : (k,) array
        Those chosen, ascending.
    found : (n,) and (n, P) arrays
        All Ritz values, those chosen among them, and their vectors as orthonormal rows.
    margin : float
        How far from the last of the values the bound may be.
    residual : float
        The spectral norm of the residuals of all that were found.
    probability : (float, float)
        Of failure, of this run and of all that there may be.
    limits : (int, float)
        Steps of the run, and products in all.
    rng : numpy.random.Generator

    Returns
    -------
    Certificate

    Raises
    ------
    Missing
        If there are others.
    Refused
        If nothing is proved.
    """
    delta, whole = probability
    steps, budget = limits
    lower, upper = selection.bounds(values, margin)
    sides = [side for side, end in ((1, upper), (-1, lower)) if math.isfinite(end)]
    checks.memory(8 * target.order * min(steps, target.order), "the random certificate")
    # Beyond these no eigenvalue of the complement may be, that those found may be as far off.
    ends = {1: upper - residual, -1: lower + residual}
    before = dict.fromkeys(sides, 1.0)
    for _ in range(_RUNS):
        probe = Probe(target, found[1], steps, rng)
        while probe.dimension and not probe.ended:
            probe.step()
            if len(probe.alpha) % _CHECK and not probe.ended:
                continue
            least, most = probe.extremes()
            if least < lower or most > upper:
                raise Missing(int(least < lower), int(most > upper), False, lower, upper)
            fails = {side: before[side] * probe.fails(ends[side], side) for side in sides}
            if max(fails.values()) <= delta / len(sides):
                top = probe.above(delta / len(sides)) + residual
                bottom = probe.below(delta / len(sides)) - residual
                lower, upper = _sharper(values, found[0], (lower, upper), (bottom, top), residual)
                break
            if target.made >= budget:
                raise Refused("no random certificate: max_products are spent")
        else:
            if probe.dimension:  # this run says no more; others are independent of it
                before = fails
                continue
        counted = int(selection.is_counted(values, lower, upper).sum())
        return Certificate("probabilistic", lower, upper, False, counted, margin, whole)
    raise Refused(
        f"no random certificate: after {checks.counted(_RUNS, 'run')} others may be more extreme "
        "than the last of those found"
    )


def _sharper(
    values: Array,
    known: Array,
    bounds: tuple[float, float],
    proved: tuple[float, float],
    residual: float,
) -> tuple[float, float]:
    """In the gap that the proof shows beyond the last of the values, where there is one."""
    # There is none where copies of the last value were found and not chosen.
    (lower, upper), (bottom, top) = bounds, proved
    inner = values[values > top + 8 * residual]
    if math.isfinite(upper) and top < upper and len(inner):
        place = (top + float(inner[0])) / 2
        if (known > place - residual).sum() == len(inner):
            upper = min(upper, place)
    inner = values[values < bottom - 8 * residual]
    if math.isfinite(lower) and bottom > lower and len(inner):
        place = (bottom + float(inner[-1])) / 2
        if (known < place + residual).sum() == len(inner):
            lower = max(lower, place)
    return lower, upper
