"""The central flow of gradient descent: what its iterates do on average, at the edge and below."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.files import File
from swiftnets._support.plotting import axes_of, styled
from swiftnets._support.types import Array, IntegerArray
from swiftnets.curvature.point import Point
from swiftnets.dynamics.complementarity import places
from swiftnets.dynamics.flow_state import FlowRecord, FlowState, Followed, restored
from swiftnets.dynamics.holding import held, thirds
from swiftnets.dynamics.leading import certified
from swiftnets.dynamics.ritz import refine
from swiftnets.dynamics.runs import go, kept_memory, stacked, thinned
from swiftnets.dynamics.smooth import diverged, finite_loss, moved, problem_of, smooth_point
from swiftnets.dynamics.span import InputSpan, spanned
from swiftnets.spectra import Certificate

__all__ = ["CentralFlow", "FlowEvent", "central_flow"]


def __dir__() -> list[str]:
    return __all__


_TOLERANCE, _FIRST, _GUARD = 1e-3, 1e-6, 10.0
_MOST = 400  # products for the eigenpairs of one point
_HELD = 0.02  # of 2 / η: what eigenvalues that X holds are above it at most


@dataclass(frozen=True, eq=False)
class FlowEvent:
    """What a callback of `central_flow` is given, after each unit of time; arrays are read-only.

    Attributes
    ----------
    time : int
        In steps of gradient descent.
    w : (P,) float64 array
    loss, mean_loss : float
        At w, and that predicted of the iterates.
    eigenvalues : array
        Those followed, the largest first.
    X : (c, c) float64 array
        Of the critical ones.
    """

    time: int
    w: Array
    loss: float
    mean_loss: float
    eigenvalues: Array
    X: Array


@dataclass(frozen=True, eq=False)
class CentralFlow:
    """A path of the central flow; made by `central_flow`. Here n is its time + 1.

    Attributes
    ----------
    step : float
        η.
    w : (P,) float64 array
        Where it ends.
    path : (m, P) float64 array
        The parameters that were kept, at `path_times`.
    path_times : (m,) int64 array
    times : (n,) int64 array
        In steps of gradient descent.
    losses : (n,) float64 array
        On the path.
    mean_losses : (n,) float64 array
        L + tr X / η, what the iterates' losses are on average.
    eigenvalues : (n, k) float64 array
        Those that were followed, the largest first, to 1e-3; NaN beyond.
    X : tuple of n (c, c) float64 arrays
        The oscillation's covariance in the critical eigenvectors.
    counts : (n,) int64 array
        Of critical eigenvalues: c.
    certificates : tuple of (int, Certificate or None)
        When it was proved that no critical eigenvalue was missed; None where it was not reached.
    missed : int
        How many critical ones the proofs found that were not followed; they are from then on.
    products, thirds : int
        Hessian-vector products and third derivatives that it took, without those of certificates.
    excess : float
    messages : list of str
    """

    step: float
    w: Array
    path: Array
    path_times: IntegerArray
    times: IntegerArray
    losses: Array
    mean_losses: Array
    eigenvalues: Array
    X: tuple[Array, ...]
    counts: IntegerArray
    certificates: tuple[tuple[int, Certificate | None], ...]
    missed: int
    products: int
    thirds: int

    @property
    def traces(self) -> Array:
        """tr X at each time, (n,): the mean of ‖w − w̄‖² over the iterates."""
        return np.array([float(np.trace(X)) for X in self.X])

    @property
    def excess(self) -> float:
        """By which part of 2 / η eigenvalues were above it at most, after the start; else 0.

        X is to hold them there. Where it does so within a substep this is as small as their
        tolerance of 1e-3, or as what a substep brings them to when they come to 2 / η.
        """
        after = self.eigenvalues[1:]
        return max(0.0, float(np.nanmax(after, initial=0.0)) * self.step / 2 - 1)

    @property
    def messages(self) -> list[str]:
        """What to know of the path, in words; empty where all was held and proved."""
        said = []
        if self.excess > _HELD:
            time = 1 + int(np.nanargmax(np.nanmax(self.eigenvalues[1:], axis=1)))
            said.append(
                f"an eigenvalue was {100 * self.excess:.2g} % above 2 / η at time {time}, where X "
                "should hold it: substeps are too long; expected more of them"
            )
        if self.missed:
            said.append(
                f"{checks.counted(self.missed, 'critical eigenvalue')} had not been followed "
                "before a certificate found it: until then X was without"
            )
        lacking = [time for time, proof in self.certificates if proof is None]
        if lacking:
            said.append(f"no certificate was reached at {', '.join(map(str, lacking))}")
        return said

    def plot(self, ax: Any = None, **lines: Any) -> Any:
        """Draw the eigenvalues that were followed against time, and the edge.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        **lines : object
            For the eigenvalues, as `matplotlib.axes.Axes.plot` takes it.

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
        style = styled(lines, color="tab:blue", linewidth=1.5)
        drawn = ax.plot(self.times, self.eigenvalues, **style)
        if drawn and "label" not in lines:
            drawn[0].set_label("central flow")
        ax.axhline(2 / self.step, color="0.3", ls="--", lw=1.0, label="2 / η")
        ax.set_xlabel("steps")
        ax.set_ylabel("eigenvalues")
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        last = len(self.times) - 1
        return (
            f"CentralFlow(time={last}, loss={self.losses[-1]:.6g}, "
            f"mean_loss={self.mean_losses[-1]:.6g}, critical={self.counts[-1]}"
            f"{', see messages' * bool(self.messages)})"
        )


# The run ------------------------------------------------------------------------------------------


def _shown(array: Array) -> Array:
    """The same numbers for others, who cannot change the run's."""
    view = array.view()
    view.flags.writeable = False
    return view


class _Flow:
    """The flow of one point's net and samples."""

    def __init__(
        self,
        span: InputSpan,
        step: float,
        substeps: int,
        threshold: float,
        every: int | None,
        certify_every: int | None,
    ) -> None:
        self.span, self._step, self._dt = span, step, 1 / substeps
        self._substeps, self._every = substeps, every
        self._certify_every = certify_every
        self._edge = 2 / step
        self._critical = threshold * self._edge

    def _pairs(
        self, point: Point, now: FlowState, known: Followed, prove: bool
    ) -> tuple[Array, Array, int, int]:
        """Eigenpairs at a point, one below the critical ones among them; products; missed ones."""
        order = len(now.w)
        if math.isinf(self._critical):
            return np.empty(0), np.empty((0, order)), 0, 0
        is_first, least = not len(known.rows), min(2, order)
        values, rows, made, missed = np.empty(0), known.rows, 0, 0
        if not is_first or self._certify_every is None:
            found = refine(
                point.hessian.products,
                None if is_first else rows,
                least,
                order=order,
                above=self._critical,
                tolerance=_FIRST if is_first else _TOLERANCE,
                most=_MOST,
                seed=now.count,
                guard=_GUARD,
            )
            if not found.converged:
                raise np.linalg.LinAlgError(
                    f"the eigenvectors were lost after {checks.counted(now.count, 'step')}: "
                    f"{found.products} products leave residuals of {found.residuals.max():.1e}; "
                    "expected more substeps"
                )
            values, rows, made = found.values, found.rows, found.products
        if self._certify_every is not None and (prove or is_first):
            tolerance, start = (_FIRST, None) if is_first else (_TOLERANCE, rows)
            pairs = certified(point, max(len(rows), least), self._critical, tolerance, start)
            if not is_first:
                more = int((pairs.values > self._critical).sum())
                missed = max(0, more - int((values > self._critical).sum()))
            now.certificates.append((now.count, self._of_all(pairs.certificate)))
            values, rows = pairs.values, np.ascontiguousarray(pairs.vectors.T)
        keep = max(int((values > self._critical).sum()) + 1, least)
        return values[:keep], rows[:keep], made, missed

    def _of_all(self, proof: Certificate | None) -> Certificate | None:
        """With the zeros that the matrix has outside of the span of inputs."""
        if proof is None or proof.inside != (proof.lower <= 0 <= proof.upper):
            return proof
        return replace(proof, count=proof.count + self.span.outside)

    def _look(
        self, w: Array, now: FlowState, known: Followed, prove: bool
    ) -> tuple[FlowRecord, Array, Followed]:
        """What there is at w, and dw/dt / −η."""
        diverged("the central flow", now.count, w)
        point = moved(self.span.point, w)
        loss, velocity = finite_loss("the central flow", now.count, point), point.gradient
        values, rows, products, missed = self._pairs(point, now, known, prove)
        c = int((values > self._critical).sum())
        X, made, trace = np.zeros((c, c)), 0, 0.0
        if c:
            flat = thirds(point, rows[:c])
            unit = self._edge / (self._step * self._dt)
            slack = unit * (1 - values[:c] / self._edge)
            start = None
            if len(known.X):  # carried over with the eigenvectors, their signs included
                turn = rows[:c] @ known.rows[: len(known.X)].T
                start = turn @ known.X @ turn.T
            try:
                X = held(velocity, flat, slack, start, unit)
            except np.linalg.LinAlgError as error:
                raise np.linalg.LinAlgError(
                    f"after {checks.counted(now.count, 'step')}: {error}"
                ) from None
            upper, other, _, _ = places(c)
            velocity = velocity + (np.where(upper == other, 0.5, 1.0) * X[upper, other]) @ flat
            made, trace = len(flat), float(X.trace())
        work = (known.products + products, known.thirds + made, known.missed + missed)
        # Outside of the span of inputs there are zeros, of which one may be the next.
        told = np.maximum(values, 0) if self.span.outside else values
        row = FlowRecord(loss, loss + trace / self._step, told, X)
        return row, velocity, Followed(rows, X, *work)

    def advance(self, now: FlowState) -> FlowState:
        """One unit of time."""
        count, w, begin = now.count, now.w, now.w
        del now.records[count:]
        while now.certificates and now.certificates[-1][0] >= count:
            now.certificates.pop()
        while now.path_times and now.path_times[-1] >= count:
            now.path_times.pop()
            now.path.pop()
        if thinned(count, self._every):
            now.path.append(w)
            now.path_times.append(count)
        every = self._certify_every
        is_due = every is not None and count % every == 0
        known = now.known
        for i in range(self._substeps):
            row, velocity, known = self._look(w, now, known, is_due and i == 0)
            if i == 0:
                now.records.append(row)
            with np.errstate(all="ignore"):
                w = w - self._step * self._dt * velocity
        return replace(now, count=count + 1, w=w, before=begin, known=known)

    def finished(self, now: FlowState) -> CentralFlow:
        """With what there is at the end."""
        count = now.count
        row, _, last = self._look(now.w, now, now.known, True)
        records = [*now.records[:count], row]
        k = max(len(r.eigenvalues) for r in records)
        eigenvalues = np.full((count + 1, k), np.nan)
        for place, one in zip(eigenvalues, records, strict=True):
            place[: len(one.eigenvalues)] = one.eigenvalues
        path = [self.span.expanded(w) for w in [*now.path, now.w]]
        return CentralFlow(
            self._step,
            path[-1],
            stacked(path, len(path[-1])),
            np.array([*now.path_times, count], np.int64),
            np.arange(count + 1),
            np.array([r.loss for r in records]),
            np.array([r.mean_loss for r in records]),
            eigenvalues,
            tuple(r.X for r in records),
            np.array([len(r.X) for r in records], np.int64),
            tuple(now.certificates),
            last.missed,
            now.known.products,
            now.known.thirds,
        )


def central_flow(
    point: Point,
    *,
    step: float,
    time: int,
    substeps: int = 2,
    threshold: float = 0.95,
    every: int | None = 1,
    certify_every: int | None = 50,
    callback: Callable[[FlowEvent], object] | None = None,
    checkpoint: File | None = None,
    checkpoint_every: int = 100,
    progress: bool = False,
) -> CentralFlow:
    """The path that gradient descent follows on average, its oscillation averaged out.

    The central flow [1]_, dw/dt = −η (g + ½ Σ Xᵢⱼ T[uᵢ, uⱼ]) in steps of gradient descent as the
    unit of time: where eigenvalues of the Hessian have come to 2 / η, the covariance X of an
    oscillation along their eigenvectors is what holds them there, found by a semidefinite
    complementarity problem (`solve_sdcp`); elsewhere it is the gradient flow.

    Parameters
    ----------
    point : Point
        Of a smooth net; the start. Best the mean of iterates that oscillate already, as `smoothed`
        gives it.
    step : float
        η.
    time : int
        Steps of gradient descent.
    substeps : int
        Steps of the flow in one of these.
    threshold : float
        Eigenvalues above this times 2 / η are critical. Infinite: none is, and this is the gradient
        flow, by Euler's method.
    every : int or None
        Of which times the parameters are kept, beside those of the start and the end; None: of no
        others. Each is 8 P bytes.
    certify_every : int or None
        When to prove that no critical eigenvalue was missed, beside the start and the end: see
        `leading_eigenpairs`. None: never.
    callback : callable, optional
        Called after each unit of time with a `FlowEvent` of its beginning; the run ends when it
        returns something true.
    checkpoint : path, optional
        The run is saved here at the end, on Ctrl-C, and every so many units of time. If the file
        exists, the run goes on from it and ends with the same bits as one without a break. It must
        be of the same net, samples, start and arguments; `time` may be longer.
    checkpoint_every : int
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    CentralFlow

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above, or the net has a kink.
    FloatingPointError
        If numbers overflow.
    numpy.linalg.LinAlgError
        If the eigenvectors are lost, or no X holds them.
    MemoryError
        If what is kept would not fit into memory.
    CheckpointError
        If the checkpoint is damaged, or of another run.

    Notes
    -----
    With c critical eigenvalues a substep costs a pass, c + 1 products and some more where the
    eigenvectors turn, and c (c + 1) / 2 third derivatives. X holds the eigenvalues at the end of a
    substep. An MLP without l2 that has at least twice as many inputs as samples, all in one batch,
    and up to 64 samples a unit of its first layer, goes in coordinates of the inputs' span, which
    derivatives do not lead out of: the same path for a fraction of the work.

    It does not foretell when oscillation sets in: gradient descent that comes to the edge without
    any goes on with the gradient flow for a while, to eigenvalues above 2 / η, and comes back to
    the central flow later. Where substeps are too long for the third derivatives X does not hold
    eigenvalues, or the path leaves an unstable line that it should keep to: the result's
    ``messages`` say how far eigenvalues were above 2 / η, and more `substeps` help. A start with an
    eigenvalue above 2 / η gives a first X that pushes it down at once, an impulse that the iterates
    do not have. The correction ½ η H g of backward error analysis is not added: the path gets no
    nearer by it. Of heavy ball there is no flow here, as its eigenvalues burst about its edge;
    `edge` has the threshold. More than 64 critical eigenvalues are refused.

    A checkpoint holds what is kept of the path as well, and a basis of that span.

    References
    ----------
    .. [1] J. Cohen, A. Damian, A. Talwalkar, J. Z. Kolter and J. D. Lee, "Understanding
       optimization in deep learning with central flows", ICLR 2025, arXiv:2410.24206.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> point = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))
    >>> flow = central_flow(point, step=1.0, time=40)
    >>> bool(flow.eigenvalues[0, 0] > 3), bool(flow.eigenvalues[-1, 0] < 2.001)
    (True, True)
    """
    start = smooth_point(point)
    step = checks.real(step, "step", positive=True)
    steps = checks.integer(time, "time", 0)
    substeps = checks.integer(substeps, "substeps")
    if threshold != math.inf and not 0 < checks.real(threshold, "threshold") < 1:
        raise ValueError(
            f"threshold is {threshold}; expected a number between 0 and 1, or inf for the gradient "
            "flow"
        )
    every = None if every is None else checks.integer(every, "every")
    if certify_every is not None:
        certify_every = checks.integer(certify_every, "certify_every")
    if callback is not None:
        checks.function(callback, "callback", "one event")
    order = start.net.parameter_count
    kept_memory(order, every, steps)
    basis = spanned(start)
    span = InputSpan(start, basis)
    flow = _Flow(span, step, substeps, float(threshold), every, certify_every)
    w = span.point.w
    known = Followed(np.empty((0, len(w))), np.zeros((0, 0)), 0, 0, 0)

    def read(count: int, arrays: dict[str, Any]) -> FlowState:
        now = restored(count, arrays)
        flow.span = InputSpan(start, now.basis)  # whose digits are another machine's, perhaps
        if len(now.w) != len(flow.span.point.w) or not flow.span.has_all(start):
            raise ValueError("its parameters are not of this net")
        return now

    def told(now: FlowState) -> object:
        assert callback is not None
        row = now.records[now.count - 1]
        w, values, X = flow.span.expanded(now.before), row.eigenvalues, row.X
        event = FlowEvent(
            now.count - 1, _shown(w), row.loss, row.mean_loss, _shown(values), _shown(X)
        )
        return callback(event)

    now = go(
        FlowState(basis, 0, w, w, known, [], [], [], []),
        steps,
        flow.advance,
        settings={
            "run": "central flow",
            "problem": problem_of(start),
            "w": start.w,
            "step": step,
            "substeps": substeps,
            "threshold": float(threshold),
            "every": every,
            "certify_every": certify_every,
        },
        restored=read,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        callback=None if callback is None else told,
        progress=progress,
        number=lambda now: now.records[now.count - 1].mean_loss,
        name="loss",
    )
    return flow.finished(now)
