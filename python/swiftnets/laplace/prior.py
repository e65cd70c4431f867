"""`optimize_prior_precision`: the prior precision of the largest evidence (MacKay 1992)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.laplace.minimum import find
from swiftnets.laplace.posterior import Laplace, Structure, require_structure
from swiftnets.laplace.target import Target

__all__ = ["PriorSearch", "optimize_prior_precision"]


def __dir__() -> list[str]:
    return __all__


_STEP = math.log(4)  # of log l, until the slope changes its sign
_MOST = 60  # evaluations
_MODE = (1e-6, 200)  # tolerance and steps of each mode


@dataclass(frozen=True, eq=False)
class PriorSearch:
    """What a search for the prior precision found; made by `optimize_prior_precision`.

    Attributes
    ----------
    posterior : Laplace
        At the last prior precision, at its own mode.
    prior_precisions, log_evidences, slopes : (n,) float64 arrays
        Those that were tried, in their order, with the log evidence and its derivative in log l.
    success : bool
    message : str
    """

    posterior: Laplace
    prior_precisions: Array
    log_evidences: Array
    slopes: Array
    success: bool
    message: str

    @property
    def prior_precision(self) -> float:
        """What was found: the posterior's."""
        return self.posterior.prior_precision

    def plot(self, ax: Any = None) -> Any:
        """Draw the log evidence against the prior precision.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            ``.figure.savefig(path)`` writes it.

        Raises
        ------
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.
        """
        ax = axes_of(ax)
        order = np.argsort(self.prior_precisions)
        ax.plot(self.prior_precisions[order], self.log_evidences[order], marker="o")
        ax.axvline(self.prior_precision, color="0.6", linewidth=1)
        ax.set_xscale("log")
        ax.set_xlabel("prior precision")
        ax.set_ylabel("log evidence")
        return ax

    def __repr__(self) -> str:
        return (
            f"PriorSearch(prior_precision={self.prior_precision:.6g}, "
            f"log_evidence={self.log_evidences[-1]:.6g}, success={self.success}, "
            f"{self.message!r})"
        )


def optimize_prior_precision(
    point: Point,
    structure: Structure = "hessian",
    prior_precision: float | None = None,
    *,
    noise_variance: float = 1.0,
    bounds: tuple[float, float] = (1e-6, 1e6),
    tolerance: float = 1e-3,
    progress: bool = False,
) -> PriorSearch:
    """The prior precision of the largest log evidence, each at its own mode.

    The root of the evidence's derivative: steps of a factor of 4 until it changes its sign, then
    regula falsi in log l.

    Parameters
    ----------
    point : Point
        Where the first mode is looked for; each next one from the last.
    structure, noise_variance
        As for `fit`.
    prior_precision : float, optional
        Where to start; as for `fit`.
    bounds : pair of float
        How far the search may go, as factors of the start.
    tolerance : float
        Relative, of the prior precision.
    progress : bool
        Show on standard error how far it is.

    Returns
    -------
    PriorSearch
        Without success where the evidence still grows at a bound, which for large l says that the
        data do not need the net, or where a mode ends: there the Hessian becomes singular, and
        Laplace's evidence with it, so that its largest value means nothing.

    Raises
    ------
    swiftnets.ConvergenceError
        If a mode is not found.
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    Each of some 8 values takes a few Newton steps and `Laplace.evidence_gradient`. A maximum is of
    one mode, followed from the start, and local.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((1, 1), bias=False, l2=1.0)
    >>> found = optimize_prior_precision(net.at([2.0], [[-1.0], [0.0], [1.0]], [[-3.0], [0], [3]]))
    >>> round(found.prior_precision, 3)  # 1 / (w² − σ² / Σ x²) in closed form, w of least squares
    0.118
    """
    require_structure(structure)
    target = Target(point, prior_precision, noise_variance)
    tolerance = checks.real(tolerance, "tolerance", positive=True)
    search = _Search(target, structure, _limits(bounds, target.prior_precision))
    show = checks.flag(progress, "progress")
    with Progress(0, _MOST, "prior precision", "mode", shown=show) as bar:
        success, message = search.run(tolerance, bar)
    priors, logs, slopes = np.array(search.rows).T.copy()
    return PriorSearch(search.posterior, priors, logs, slopes, success, message)


def _limits(bounds: Any, start: float) -> tuple[float, float]:
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise TypeError(f"bounds is {bounds!r}; expected a pair of numbers")
    low, high = (checks.real(b, f"bounds[{i}]", positive=True) for i, b in enumerate(bounds))
    if not low <= 1 <= high:
        raise ValueError(f"bounds is {bounds!r}; expected factors around 1")
    return math.log(start) + math.log(low), math.log(start) + math.log(high)


class _Search:
    def __init__(self, target: Target, structure: Structure, limits: tuple[float, float]) -> None:
        self._target, self._structure, self._limits = target, structure, limits
        self.rows: list[tuple[float, float, float]] = []

    def _slope(self, place: float) -> float:
        """The log evidence's derivative in log l."""
        prior = math.exp(place)
        self._target = find(self._target.with_prior(prior), *_MODE)
        self.posterior = Laplace(self._target, self._structure, None)
        slope = prior * self.posterior.evidence_gradient()
        if not math.isfinite(slope):
            raise FloatingPointError(f"the evidence's slope is {slope} at prior_precision={prior}")
        self.rows.append((prior, self.posterior.log_marginal_likelihood(), slope))
        return slope

    def run(self, tolerance: float, bar: Progress) -> tuple[bool, str]:
        def slope_at(place: float) -> float:
            found = self._slope(place)
            bar.step(math.exp(place))
            return found

        low, high = self._limits
        place = math.log(self._target.prior_precision)
        slope = slope_at(place)
        # From here to where the slope has another sign.
        while True:
            if slope != 0 and place == (high if slope > 0 else low):
                return False, f"the evidence still grows at the bound {math.exp(place):.6g}"
            there = min(place + _STEP, high) if slope > 0 else max(place - _STEP, low)
            other = slope_at(there)
            if other == 0 or (other > 0) != (slope > 0):
                break
            place, slope = there, other
        # What a slope is at most so near to its root, of a derivative in log l of order P.
        small, nearness = 10 * tolerance * self.posterior.parameter_count, math.inf
        while len(self.rows) < _MOST:
            if abs(other) <= small and min(nearness, abs(there - place)) <= tolerance:
                return True, f"the prior precision is found to {tolerance:g}"
            if abs(there - place) <= 1e-3 * tolerance:
                where = f"prior_precision={math.exp(there):.6g}"
                return False, f"the evidence has no smooth maximum: the mode changes at {where}"
            middle = there - other * (there - place) / (other - slope)
            margin = 0.01 * abs(there - place)
            middle = max(min(place, there) + margin, min(middle, max(place, there) - margin))
            found = slope_at(middle)
            nearness = abs(found * (middle - there) / (found - other)) if found != other else 0.0
            if found == 0 or (found > 0) != (other > 0):
                place, slope = there, other
            else:
                slope /= 2  # Illinois: lest an end stay for long
            there, other = middle, found
        return False, f"the prior precision is not found to {tolerance:g} after {_MOST} values"
