"""Mean and oscillation of gradient descent at the edge, to fourth order, without eigenvectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.files import File
from swiftnets._support.plotting import axes_of, styled
from swiftnets._support.types import Array, IntegerArray
from swiftnets.curvature.point import Point
from swiftnets.dynamics.runs import go, kept, kept_memory, stacked, thinned
from swiftnets.dynamics.smooth import diverged, moved, problem_of, smooth_point
from swiftnets.linalg.scaling import norm

__all__ = ["MeanAndOscillation", "OscillationEvent", "mean_and_oscillation"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class OscillationEvent:
    """What a callback of `mean_and_oscillation` is given, after each step, of its beginning.

    Attributes
    ----------
    step : int
        How many were made before.
    loss, mean_loss : float
        At m, and the mean of those at m + d and m − d.
    amplitude : float
        ‖d‖.
    curvature : float
        ⟨d, H d⟩ / ‖d‖².
    """

    step: int
    loss: float
    mean_loss: float
    amplitude: float
    curvature: float


@dataclass(frozen=True, eq=False)
class MeanAndOscillation:
    """Mean and oscillation along a run; made by `mean_and_oscillation`. Here n is its steps + 1.

    Attributes
    ----------
    step : float
        η.
    mean, oscillation : (P,) float64 arrays
        m and d at the end: the iterate is m + d.
    means, oscillations : (j, P) float64 arrays
        Those that were kept, at `path_times`.
    path_times : (j,) int64 array
    times : (n,) int64 array
    losses : (n,) float64 array
        At m.
    mean_losses : (n,) float64 array
        Of m + d and m − d: what the iterates' losses are on average.
    amplitudes : (n,) float64 array
        ‖d‖.
    curvatures : (n,) float64 array
        ⟨d, H d⟩ / ‖d‖²; NaN where d is 0.
    """

    step: float
    mean: Array
    oscillation: Array
    means: Array
    oscillations: Array
    path_times: IntegerArray
    times: IntegerArray
    losses: Array
    mean_losses: Array
    amplitudes: Array
    curvatures: Array

    @property
    def w(self) -> Array:
        """The iterate at the end, m + d."""
        total: Array = self.mean + self.oscillation
        return total

    def plot(self, ax: Any = None, **lines: Any) -> Any:
        """Draw the oscillation's amplitude against steps.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        **lines : object
            As `matplotlib.axes.Axes.plot` takes it.

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
        style = styled(lines, color="tab:orange", linewidth=1.5, label="mean and oscillation")
        ax.plot(self.times, self.amplitudes, **style)
        ax.set_xlabel("steps")
        ax.set_ylabel("amplitude of the oscillation")
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        return (
            f"MeanAndOscillation(steps={len(self.times) - 1}, loss={self.losses[-1]:.6g}, "
            f"mean_loss={self.mean_losses[-1]:.6g}, amplitude={self.amplitudes[-1]:.4g})"
        )


_COLUMNS = 4


@dataclass(frozen=True, eq=False)
class _Now:
    """Between two steps."""

    count: int
    mean: Array
    oscillation: Array
    records: list[list[float]] = field(repr=False)
    """Loss, mean loss, amplitude, curvature; that at `count` comes with the step from there."""
    path: list[tuple[int, Array, Array]] = field(repr=False)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        path = [kept for kept in self.path if kept[0] < self.count]
        order = len(self.mean)
        return {
            "mean": self.mean,
            "oscillation": self.oscillation,
            "records": np.array(self.records[: self.count]).reshape(-1, _COLUMNS),
            "path_times": np.array([time for time, _, _ in path], np.int64),
            "means": stacked([m for _, m, _ in path], order),
            "oscillations": stacked([d for _, _, d in path], order),
        }


def _restored(count: int, arrays: dict[str, Any]) -> _Now:
    """What `_Now.arrays` gave; whatever is wrong is an error that the reader explains."""
    mean = kept(arrays, "mean", None)
    oscillation = kept(arrays, "oscillation", len(mean))
    # The curvature of no oscillation is NaN.
    records = kept(arrays, "records", count, _COLUMNS, is_finite=False).tolist()
    times = kept(arrays, "path_times", None, dtype=np.int64).tolist()
    shape = (len(times), len(mean))
    path = zip(
        times, kept(arrays, "means", *shape), kept(arrays, "oscillations", *shape), strict=True
    )
    return _Now(count, mean, oscillation, records, list(path))


class _Run:
    """Of one point's net and samples."""

    def __init__(self, point: Point, step: float, order: int, every: int | None) -> None:
        self._point, self._step, self._order, self._every = point, step, order, every

    def look(self, now: _Now) -> tuple[list[float], Array]:
        """The records at m and d, and the gradient's series along d."""
        diverged("the run", now.count, now.mean, now.oscillation)
        point = moved(self._point, now.mean)
        with np.errstate(all="ignore"):
            series = point.taylor(now.oscillation, self._order - 1)
            even = float(series.loss[0 : self._order + 1 : 2].sum())
            length = norm(now.oscillation)
            curvature = 2 * (float(series.loss[2]) / length) / length if length > 0 else np.nan
        diverged("the run", now.count, series.loss, series.gradient)
        return [float(series.loss[0]), even, length, curvature], series.gradient

    def advance(self, now: _Now) -> _Now:
        """One step of gradient descent."""
        del now.records[now.count :]
        while now.path and now.path[-1][0] >= now.count:
            now.path.pop()
        row, gradient = self.look(now)
        now.records.append(row)
        if thinned(now.count, self._every):
            now.path.append((now.count, now.mean, now.oscillation))
        with np.errstate(all="ignore"):
            mean = now.mean - self._step * gradient[0::2].sum(axis=0)
            oscillation = now.oscillation - self._step * gradient[1::2].sum(axis=0)
        return _Now(now.count + 1, mean, oscillation, now.records, now.path)

    def finished(self, now: _Now) -> MeanAndOscillation:
        """With what there is at the end."""
        row, _ = self.look(now)
        columns = np.array([*now.records[: now.count], row]).T
        path = [*now.path, (now.count, now.mean, now.oscillation)]
        order = len(now.mean)
        return MeanAndOscillation(
            self._step,
            now.mean,
            now.oscillation,
            stacked([m for _, m, _ in path], order),
            stacked([d for _, _, d in path], order),
            np.array([time for time, _, _ in path], np.int64),
            np.arange(now.count + 1),
            *(np.ascontiguousarray(column) for column in columns),
        )


def mean_and_oscillation(
    point: Point,
    d: npt.ArrayLike,
    *,
    step: float,
    steps: int,
    order: int = 4,
    every: int | None = 1,
    callback: Callable[[OscillationEvent], object] | None = None,
    checkpoint: File | None = None,
    checkpoint_every: int = 100,
    progress: bool = False,
) -> MeanAndOscillation:
    """Gradient descent as a mean m and an oscillation d that changes its sign in every step.

    The iterates are w = m + d. Gradient descent at m + d, its part that is even in d given to m and
    the odd one to d, to fourth order of the loss, is

    m' = m − η (g + ½ T[d, d]),   d' = d − η (H d + Q[d, d, d] / 6),   all at m:

    the third derivative pulls the mean to where H is smaller along d, the fourth bounds d itself.
    It follows the iterates without any eigenvector, from before they begin to oscillate.

    Parameters
    ----------
    point : Point
        Of a smooth net, at m: the mean of iterates, as `smoothed` gives it, or any point.
    d : (P,) array_like
        The oscillation: an iterate minus that mean, or a small multiple of the top eigenvector.
    step : float
        η.
    steps : int
    order : int
        4; 3 leaves out Q, and 2 T as well, to see what they do.
    every : int or None
        After which steps m and d are kept, beside the start and the end; None: no others. Each time
        is 16 P bytes.
    callback : callable, optional
        Called after each step with an `OscillationEvent`; the run ends when it returns something
        true.
    checkpoint : path, optional
        The run is saved here at the end, on Ctrl-C, and every so many steps. If the file exists,
        the run goes on from it and ends with the same bits as one without a break. It must be of
        the same net, samples, start and arguments; there may be more steps.
    checkpoint_every : int
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    MeanAndOscillation

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or the net has a kink; the message names it.
    FloatingPointError
        If numbers overflow: without T and Q they do within some tens of steps.
    MemoryError
        If what is kept would not fit into memory.
    CheckpointError
        If the checkpoint is damaged, or of another run.

    Notes
    -----
    A step is one pass of Taylor-mode differentiation along d, some eight gradients. Compare the
    self-stabilisation of [1]_.

    References
    ----------
    .. [1] A. Damian, E. Nichani and J. D. Lee, "Self-stabilization: the implicit bias of gradient
       descent at the edge of stability", ICLR 2023, arXiv:2209.15594.

    Examples
    --------
    At a minimum whose curvature, 2, is above 2 / η the oscillation grows:

    >>> from swiftnets import MLP
    >>> net = MLP((1, 1, 1), bias=False, activation="identity")
    >>> point = net.at([1.0, 1.0], [[1.0]], [[1.0]])
    >>> run = mean_and_oscillation(point, [1e-3, 1e-3], step=1.02, steps=50)
    >>> bool(run.amplitudes[-1] > run.amplitudes[0]), run.means.shape
    (True, (51, 2))
    """
    start = smooth_point(point)
    step = checks.real(step, "step", positive=True)
    steps = checks.integer(steps, "steps", 0)
    order = checks.integer(order, "order", 2, 4)
    every = None if every is None else checks.integer(every, "every")
    count = start.net.parameter_count
    first = np.array(checks.array(d, "d", (count,)))
    checks.finite(first, "d")
    if callback is not None:
        checks.function(callback, "callback", "one event")
    kept_memory(2 * count, every, steps)
    run = _Run(start, step, order, every)

    def told(now: _Now) -> object:
        assert callback is not None
        return callback(OscillationEvent(now.count - 1, *now.records[now.count - 1]))

    now = go(
        _Now(0, start.w, first, [], []),
        steps,
        run.advance,
        settings={
            "run": "mean and oscillation",
            "problem": problem_of(start),
            "w": start.w,
            "d": first,
            "step": step,
            "order": order,
            "every": every,
        },
        restored=_restored,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        callback=None if callback is None else told,
        progress=progress,
        number=lambda now: now.records[now.count - 1][1],
        name="loss",
    )
    return run.finished(now)
