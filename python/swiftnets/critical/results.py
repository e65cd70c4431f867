"""What a search for critical points found: points, their indices, a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of
from swiftnets._support.types import Array, IntegerArray
from swiftnets.curvature.point import Point

__all__ = ["CriticalPoint", "CriticalPoints"]


def __dir__() -> list[str]:
    return __all__


Sameness: TypeAlias = Literal["outputs", "weights"]


@dataclass(frozen=True, eq=False)
class CriticalPoint:
    """Where one start of `swiftnets.critical.find` ended, in float64 whatever the net's dtype.

    Attributes
    ----------
    start : int
        Which start.
    point : Point
        There: its Hessian, and all else.
    status : str
        ``"critical"``: ‖∇L‖ is at most the tolerance, or what rounding makes of it. ``"flat"``:
        it is not, and at least 0.9 of it is in the null space of H, along which H says nothing: a
        local minimum of ‖∇L‖ or close to one, and no critical point. ``"escaping"``: it is at most
        the tolerance, but a Newton step is long: the loss levels out towards infinity.
        ``"iterations"``: the limit. ``"stalled"``: no step made ‖∇L‖ smaller.
    message : str
        That in words.
    loss, gradient_norm : float
    index : int or None
        Negative eigenvalues of H, those beyond the null tolerance, counted in factors by
        Sylvester's law; None where factors prove nothing.
    nullity : int or None
        Eigenvalues within the null tolerance.
    null_share : float
        ‖g₀‖ / ‖g‖: the part of the gradient in the span of eigenvalues below t = 1e-6 ‖H‖. By the
        method ``"layered"`` that of t² (H² + t²)⁻¹ g; by ``"krylov"`` what it is at least, by
        ‖H g‖. It means nothing at a critical point, where the gradient is rounding.
    flatness : float
        ‖H g‖ / (‖H‖ ‖g‖): 0 to rounding at a local minimum of ‖g‖.
    iterations : int
        Steps that were made.
    """

    start: int
    point: Point
    status: str
    message: str
    loss: float
    gradient_norm: float
    index: int | None
    nullity: int | None
    null_share: float
    flatness: float
    iterations: int

    @property
    def w(self) -> Array:
        """The parameters (P,); read-only."""
        return self.point.w

    @property
    def is_critical(self) -> bool:
        """Whether the status is ``"critical"``."""
        return self.status == "critical"

    def __repr__(self) -> str:
        of = f"index {self.index}, nullity {self.nullity}, " if self.index is not None else ""
        return (
            f"CriticalPoint({self.status}: loss {self.loss:.6g}, {of}"
            f"gradient norm {self.gradient_norm:.1e})"
        )


class CriticalPoints(Sequence[CriticalPoint]):
    """A sequence of `CriticalPoint`; made by `swiftnets.critical.find`.

    Parameters
    ----------
    points : iterable of CriticalPoint

    Examples
    --------
    >>> from swiftnets import MLP, critical
    >>> net = MLP((1, 1, 1), activation="identity", bias=False)
    >>> found = critical.find(net, [[1.0]], [[1.0]], [[0.1, 0.1], [1.5, 0.5], [0.1, 0.15]])
    >>> found
    CriticalPoints(3 of 3 critical)
    >>> found.indices, found.losses.round(12)
    (array([1, 0, 1]), array([0.5, 0. , 0.5]))
    >>> len(found.distinct())
    2
    """

    def __init__(self, points: Iterable[CriticalPoint]) -> None:
        self._points = tuple(points)
        for place, one in enumerate(self._points):
            if not isinstance(one, CriticalPoint):
                raise TypeError(
                    f"points[{place}] is of type {type(one).__name__}; expected a CriticalPoint"
                )

    @overload
    def __getitem__(self, index: int) -> CriticalPoint: ...
    @overload
    def __getitem__(self, index: slice) -> CriticalPoints: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return CriticalPoints(self._points[index])
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    # As arrays

    @property
    def losses(self) -> Array:
        """The losses (K,)."""
        return np.array([one.loss for one in self], np.float64)

    @property
    def gradient_norms(self) -> Array:
        """‖∇L‖ at each (K,)."""
        return np.array([one.gradient_norm for one in self], np.float64)

    @property
    def indices(self) -> IntegerArray:
        """The indices (K,); −1 where none is proved."""
        return np.array([-1 if one.index is None else one.index for one in self], np.int64)

    @property
    def nullities(self) -> IntegerArray:
        """The nullities (K,); −1 where none is proved."""
        return np.array([-1 if one.nullity is None else one.nullity for one in self], np.int64)

    @property
    def statuses(self) -> tuple[str, ...]:
        """How each ended."""
        return tuple(one.status for one in self)

    # Some of them

    @property
    def critical(self) -> CriticalPoints:
        """Those that are critical points."""
        return CriticalPoints(one for one in self if one.is_critical)

    @property
    def flat(self) -> CriticalPoints:
        """Those where only the gradient's norm has a minimum: they are no critical points."""
        return CriticalPoints(one for one in self if one.status == "flat")

    def distinct(self, *, by: Sameness = "outputs", tolerance: float = 1e-6) -> CriticalPoints:
        """One of each that are the same, with the smallest gradient; in the order of losses.

        Parameters
        ----------
        by : {"outputs", "weights"}
            ``"outputs"``: points are the same where the net's outputs on the samples are, so that
            those that a symmetry maps to each other, or that lie on one connected set of equal
            outputs, count once. ``"weights"``: where w is. In both cases index and nullity have to
            be equal, too.
        tolerance : float
            How far the outputs or weights of two may differ, in parts of the larger norm.

        Returns
        -------
        CriticalPoints
            Of the critical points alone.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above.
        """
        checks.choice(by, "by", ("outputs", "weights"))
        tolerance = checks.real(tolerance, "tolerance", positive=True)
        kept: list[tuple[CriticalPoint, Array]] = []
        for one in sorted(self.critical, key=lambda one: one.gradient_norm):
            mark = one.w if by == "weights" else one.point.outputs
            if not any(_same(one, mark, *other, tolerance) for other in kept):
                kept.append((one, mark))
        return CriticalPoints(sorted((one for one, _ in kept), key=lambda one: one.loss))

    # Index against loss

    def rank_correlation(self) -> float:
        """Spearman's coefficient of loss and index, over the critical points.

        Returns
        -------
        float
            NaN where there are fewer than two losses or indices.
        """
        points = [one for one in self.critical if one.index is not None]
        if len(points) < 2:
            return float("nan")
        # Losses that differ by rounding are of one rank.
        loss = _ranks(np.array([float(f"{one.loss:.9e}") for one in points]))
        index = _ranks(np.array([one.index for one in points], np.float64))
        spread = float(np.sqrt((loss @ loss) * (index @ index)))
        return float(loss @ index) / spread if spread else float("nan")

    def plot(self, ax: Any = None, *, fraction: bool = False, **style: Any) -> Any:
        """Draw the index against the loss.

        Critical points are discs; what is not critical is drawn hollow, by its status.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        fraction : bool
            Of the index: divided by the number of parameters.
        **style
            As `matplotlib.axes.Axes.scatter` takes it, for all markers.

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
        That index and loss go together is an observation, not a law of these nets: the
        random-matrix model of Pennington & Bahri (2017) and its threshold do not describe the
        Hessians of small nets, whose index is far above what it predicts.
        """
        is_fraction = checks.flag(fraction, "fraction")
        ax = axes_of(ax)
        for status in dict.fromkeys(sorted(self.statuses, key=lambda name: name != "critical")):
            points = [one for one in self if one.status == status and one.index is not None]
            if not points:
                continue
            unit = len(points[0].w) if is_fraction else 1
            options: dict[str, Any] = {"label": f"{status} ({len(points)})", "alpha": 0.7}
            if status != "critical":
                options |= {"facecolors": "none", "edgecolors": "gray"}
                options["marker"] = _MARKERS.get(status, "D")
            heights = [one.index / unit for one in points if one.index is not None]
            ax.scatter([one.loss for one in points], heights, **options | style)
        ax.set_xlabel("loss")
        ax.set_ylabel("index / P" if is_fraction else "index")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        counts = Counter(self.statuses)
        rest = [f"{n} {status}" for status, n in counts.items() if status != "critical"]
        found = f"{counts['critical']} of {len(self)} critical"
        return f"CriticalPoints({', '.join([found, *rest])})"


_MARKERS = {"flat": "s", "escaping": ">", "iterations": "^", "stalled": "v"}


def _same(
    one: CriticalPoint, mark: Array, other: CriticalPoint, known: Array, tolerance: float
) -> bool:
    if (one.index, one.nullity) != (other.index, other.nullity) or mark.shape != known.shape:
        return False
    size = max(float(np.linalg.norm(mark)), float(np.linalg.norm(known)))
    # Two zeros are the same: their difference, too, is rounding. One is told by the loss's unit.
    return float(np.linalg.norm(mark - known)) <= tolerance * max(size, 1e-6)


def _ranks(values: Array) -> Array:
    """Ranks about their mean; of equal values the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = (ends - (counts - 1) / 2)[inverse.reshape(-1)]
    ranks -= ranks.mean()
    return ranks
