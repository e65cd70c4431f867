"""`LyapunovSpectrum`: what a run of `lyapunov_spectrum` found, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of, styled
from swiftnets._support.types import Array, IntegerArray

__all__ = ["LyapunovSpectrum", "kaplan_yorke"]


def __dir__() -> list[str]:
    return __all__


_SURE = 3  # standard errors


@dataclass(frozen=True, eq=False, repr=False)
class LyapunovSpectrum:
    """Finite-time Lyapunov exponents; made by `lyapunov_spectrum`.

    Attributes
    ----------
    blocks : (B, k) float64 array
        Means over each part of the run.
    block_steps : (B,) int64 array
        Steps of each.
    transient : int
        Steps before them.
    dimension : int
        D, entries of a tangent: how many exponents there are.
    sum_deviation : float or None
        The largest difference, over all steps, of Σ ln abs(Rᵢᵢ) and ln|det J|. None without
        ``certify=True``.
    state : (S,) float64 array
        Where the orbit ends.
    tangents : (k, D) float64 array
        The orthonormal tangents there, as rows.
    exponents : (k,) float64 array
    standard_errors : (k,) float64 array
    kaplan_yorke, kaplan_yorke_error : float or None
    messages : list of str
    """

    blocks: Array
    block_steps: IntegerArray
    transient: int
    dimension: int
    sum_deviation: float | None
    state: Array
    tangents: Array

    @property
    def steps(self) -> int:
        """That the exponents are means over."""
        return int(self.block_steps.sum())

    @property
    def exponents(self) -> Array:
        """Growth rates a step, (k,), in the order of the factorisation.

        That is descending but for those that are equal or not told apart in this time; −inf for
        directions that a step sends to 0.
        """
        return _mean(self.blocks, self.block_steps)

    @property
    def standard_errors(self) -> Array:
        """Of the means, (k,), from how the blocks differ.

        Right where blocks are longer than what the orbit remembers; they do not tell that another
        start or window could give other numbers.
        """
        with np.errstate(invalid="ignore"):
            found: Array = np.std(self.blocks, axis=0, ddof=1) / np.sqrt(len(self.blocks))
        return np.where(np.isneginf(self.exponents), 0.0, found)

    @property
    def positive(self) -> int:
        """How many are above 0 by more than three standard errors."""
        return int(np.sum(self.exponents > _SURE * self.standard_errors))

    @property
    def kaplan_yorke(self) -> float | None:
        """The Kaplan–Yorke dimension j + Σᵢ₌₁ʲ λᵢ / abs(λⱼ₊₁), the last j of which the sum is ≥ 0.

        An upper estimate of an attractor's information dimension (Kaplan & Yorke 1979). None where
        the sum of these k is not below 0: more exponents are needed.
        """
        return kaplan_yorke(self.exponents, self.dimension)

    @property
    def kaplan_yorke_error(self) -> float | None:
        """Its standard error, by leaving out one block at a time (the jackknife)."""
        count = len(self.blocks)
        found = []
        for block in range(count):
            kept = np.arange(count) != block
            mean = _mean(self.blocks[kept], self.block_steps[kept])
            found.append(kaplan_yorke(mean, self.dimension))
        values = [value for value in found if value is not None]
        if len(values) < count:
            return None
        return float(np.sqrt((count - 1) * np.var(values)))

    @property
    def messages(self) -> list[str]:
        """What to know of the numbers, in words."""
        found, errors = self.exponents, self.standard_errors
        said = [
            f"finite-time exponents of one orbit: means over {self.steps} steps after "
            f"{self.transient}"
        ]
        unsure = np.flatnonzero((abs(found) <= _SURE * errors) & np.isfinite(found))
        if len(unsure):
            which = ", ".join(str(i) for i in unsure[:8]) + ", …" * (len(unsure) > 8)
            said.append(f"without a sign, within {_SURE} standard errors of 0: {which}")
        drift = self._drift()
        if drift > 4:
            said.append(
                f"the halves of the run differ by {drift:.1f} standard errors: it is not "
                "stationary, or blocks are shorter than its memory"
            )
        if self.kaplan_yorke is None:
            said.append(
                f"no Kaplan–Yorke dimension: the sum of these {len(found)} exponents is not below 0"
            )
        if self.sum_deviation is not None:
            said.append(f"sums agree with ln|det J| to {self.sum_deviation:.1e} at every step")
        return said

    def _drift(self) -> float:
        """How far the halves of the run are apart, in standard errors of that, at most."""
        count = len(self.blocks) // 2
        if count < 4:
            return 0.0
        halves = self.blocks[:count], self.blocks[-count:]
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = [np.var(half, axis=0, ddof=1) / count for half in halves]
            apart = abs(np.mean(halves[0], axis=0) - np.mean(halves[1], axis=0))
            # Beyond what rounding does to exponents that are the same at every step.
            size = 1e-9 * abs(self.exponents)
            ratios = np.where(apart > size, apart / np.sqrt(errors[0] + errors[1]), 0.0)
        return float(np.max(ratios[np.isfinite(ratios)], initial=0.0))

    def plot(self, ax: Any = None, **lines: Any) -> Any:
        """Draw the running means: each exponent as it is after each block.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        **lines : object
            For all lines, as `matplotlib.axes.Axes.plot` takes it.

        Returns
        -------
        matplotlib.axes.Axes
            ``.figure.savefig(path)`` writes it.

        Raises
        ------
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.

        Notes
        -----
        Those above 0 by three standard errors are red, and their final standard errors are bars.
        """
        ax = axes_of(ax)
        ends = np.cumsum(self.block_steps)
        means = np.cumsum(self.blocks * self.block_steps[:, None], axis=0) / ends[:, None]
        found, errors = self.exponents, self.standard_errors
        labelled = set()
        for i in range(len(found)):
            sure = found[i] > _SURE * errors[i]
            label = "positive" if sure else "not positive"
            style = styled(
                lines,
                color="tab:red" if sure else "tab:blue",
                linewidth=1.5,
                label="_" if label in labelled else label,
            )
            labelled.add(label)
            (line,) = ax.plot(ends, means[:, i], **style)
            bar = {"color": line.get_color(), "capsize": 3.0, "lw": 1.0}
            if np.isfinite(found[i]):
                ax.errorbar(ends[-1], found[i], yerr=errors[i], **bar)
        ax.axhline(0.0, color="0.3", ls="--", lw=1.0)
        ax.set_xlabel(f"steps after {self.transient}")
        ax.set_ylabel("finite-time exponents")
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        top, error = self.exponents[0], self.standard_errors[0]
        return (
            f"LyapunovSpectrum({checks.counted(len(self.exponents), 'exponent')} of "
            f"{self.dimension}, the first {top:.4g} ± {error:.1g}, {self.positive} positive, "
            f"{self.steps} steps)"
        )


def kaplan_yorke(exponents: Array, dimension: int) -> float | None:
    """The Kaplan–Yorke dimension of some of `dimension` exponents, or None if they are too few."""
    ordered = np.sort(exponents)[::-1]
    sums = np.cumsum(ordered)
    if sums[-1] >= 0:
        return float(dimension) if len(ordered) == dimension else None
    j = int(np.argmax(sums < 0))
    return j + float(sums[j - 1] / abs(ordered[j])) if j else 0.0


def _mean(blocks: Array, lengths: IntegerArray) -> Array:
    mean: Array = lengths @ blocks / lengths.sum()
    return mean
