"""Lyapunov spectra: how fast neighbours of a run part or meet, direction by direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.files import File
from swiftnets._support.types import Array
from swiftnets.dynamics.maps import Map
from swiftnets.dynamics.runs import go, kept
from swiftnets.dynamics.spectrum import LyapunovSpectrum
from swiftnets.dynamics.stepping import Stepper, directions, factored, fixed, tangent_count

__all__ = ["lyapunov_spectrum"]


def __dir__() -> list[str]:
    return __all__


def lyapunov_spectrum(
    map: Map,
    state: npt.ArrayLike,
    *,
    k: int,
    steps: int,
    transient: int = 0,
    blocks: int = 20,
    certify: bool = False,
    seed: int = 0,
    progress: bool = False,
    checkpoint: File | None = None,
    checkpoint_every: int = 1000,
) -> LyapunovSpectrum:
    """Finite-time Lyapunov exponents of a map along an orbit (Benettin et al. 1980).

    k tangents are carried along; at every step they are made orthonormal again by a QR
    factorisation, and the exponents are the means of ln abs(Rᵢᵢ).

    Parameters
    ----------
    map : Map
        `GradientDescentMap`, `MomentumMap`, `AdamMap`, `NewtonMap`, `StochasticMap`, or an object
        of your own with ``step(state)`` and ``tangent(state, rows)``; see `Map`.
    state : (S,) array_like
        Where the orbit starts, as ``map.state(w)`` makes it.
    k : int
        How many exponents, at most as many as tangents have entries.
    steps : int
        That the means are over.
    transient : int
        Steps before them, in which the orbit settles and the tangents align.
    blocks : int
        Parts of the run, from 2 on, whose means the standard errors come from.
    certify : bool
        Compare the sum of all exponents with ln|det J| by the map's ``log_determinant`` at every
        step. With k as many as tangents have entries.
    seed : int
        Of the first tangents. Tangent i depends on the seed and i alone, so that to rounding the
        first exponents do not depend on k.
    progress : bool
        Show how far the run is, on standard error.
    checkpoint : path, optional
        A file that the run is saved to and, where it is there, goes on from: to the bit as if it
        had not been interrupted, on the same machine.
    checkpoint_every : int
        Steps from one save to the next; it is saved at the end and by Ctrl-C as well.

    Returns
    -------
    LyapunovSpectrum

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.
    FloatingPointError
        If the orbit diverges, or the map has no derivative where it comes to: after how many steps
        is said.
    numpy.linalg.LinAlgError
        If a step of Newton's method meets a singular matrix.
    CheckpointError
        If the file is damaged, or of another run.

    Notes
    -----
    A step costs one of the map's, k tangents, and a QR factorisation of 4 D k² operations. What is
    found belongs to the orbit and the window: on a window that is not stationary the numbers depend
    on the first tangents, and the greatest possible growth, `optimal_growth`, says more.

    Examples
    --------
    Gradient descent on (w₁ w₂ − 1)² / 2 with a step of 2 is w ↦ 3 w − 2 w³ where w₁ = w₂, which is
    chaotic, with the exponent ln 3:

    >>> from swiftnets import MLP
    >>> from swiftnets.dynamics import GradientDescentMap
    >>> from swiftnets.problems import NetProblem
    >>> net = MLP((1, 1, 1), activation="identity", bias=False)
    >>> descent = GradientDescentMap(NetProblem(net, [[1.0]], [[1.0]]), learning_rate=2.0)
    >>> found = lyapunov_spectrum(descent, [0.3, 0.3], k=2, steps=4000, certify=True)
    >>> (found.exponents - [np.log(3), 0.0]).round(2) + 0.0
    array([0., 0.])
    >>> found.sum_deviation < 1e-12
    True
    """
    start = fixed(state)
    certify = checks.flag(certify, "certify")
    stepper = Stepper(map, len(start), *(["log_determinant"] if certify else []))
    k = _count(k, stepper.dimension, certify)
    steps = checks.integer(steps, "steps", 2)
    settings = {
        "k": k,
        "steps": steps,
        "transient": checks.integer(transient, "transient", 0),
        "blocks": checks.integer(blocks, "blocks", 2, steps),
        "certify": certify,
        "seed": checks.integer(seed, "seed", 0),
    }
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        run = _Run(stepper, start, settings, probes=checkpoint is not None)
        now = go(
            run.beginning,
            run.total,
            run.step,
            settings={"run": "Lyapunov spectrum", "map": map, "state": start, **settings},
            restored=run.restored,
            differs=run.differs,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            progress=progress,
            number=run.largest,
            name="exponent",
        )
    return run.result(now)


def _count(k: int, dimension: int, certify: bool) -> int:
    k = tangent_count(k, dimension)
    if certify and k < dimension:
        raise ValueError(
            f"k is {k} with certify=True; expected {dimension}: the sum of all exponents is known"
        )
    return k


@dataclass(frozen=True, eq=False)
class _Now:
    """A run between two steps; nothing in it is changed later."""

    count: int
    state: Array
    rows: Array
    partial: Array
    """Sum of logarithms of the block that is not over."""
    blocks: Array
    """Sums of those that are."""
    deviation: float
    first: Array
    """Of the first step, for maps whose settings say little; empty without a checkpoint."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        found = {name: np.asarray(value) for name, value in vars(self).items()}
        del found["count"]
        return found


class _Run:
    """The steps of one run."""

    def __init__(
        self, stepper: Stepper, start: Array, settings: dict[str, Any], probes: bool
    ) -> None:
        self._stepper = stepper
        k, steps, blocks = settings["k"], settings["steps"], settings["blocks"]
        self._transient, self._certify = settings["transient"], settings["certify"]
        self.total = self._transient + steps
        cuts = steps * np.arange(1, blocks + 1) // blocks
        self._ends, self._lengths = set((self._transient + cuts).tolist()), np.diff(cuts, prepend=0)
        rows = directions(settings["seed"], k, stepper.dimension)
        first = self._first(start) if probes else np.empty(0)
        self.beginning = _Now(0, start, rows, np.zeros(k), np.empty((0, k)), 0.0, first)

    def _first(self, start: Array) -> Array:
        row = np.full((1, self._stepper.dimension), 1 / math.sqrt(self._stepper.dimension))
        row.flags.writeable = False
        moved, image = self._stepper.step(start, 0), self._stepper.rows("tangent", start, row, 0)
        return np.array([np.linalg.norm(moved - start), np.linalg.norm(image)])

    def differs(self, now: _Now) -> str:
        """What tells that it is of another run, beside its settings."""
        # Not to the bit: another machine, or other threads, round otherwise.
        same = np.allclose(now.first, self.beginning.first, 1e-5, 0)
        return "" if same else "map: its first step is another"

    def restored(self, count: int, arrays: dict[str, Any]) -> _Now:
        """What `_Now.arrays` gave; whatever is wrong is an error that the reader explains."""
        done = sum(end <= count for end in self._ends)
        shapes = {"blocks": (done, len(self.beginning.rows)), "deviation": ()}
        for name in ("state", "rows", "partial", "first"):
            shapes[name] = getattr(self.beginning, name).shape
        if set(arrays) != set(shapes) or not 0 <= count <= self.total:
            raise ValueError("its numbers are of no run's state")
        found: dict[str, Any] = {}
        for name, shape in shapes.items():
            # The logarithm of what a step sends to 0 is −inf.
            found[name] = kept(arrays, name, *shape, is_finite=name in ("state", "rows"))
            found[name].flags.writeable = False
        if any(np.isnan(found[name]).any() for name in ("partial", "blocks", "deviation")):
            raise ValueError("a sum is NaN")
        return _Now(count, **found | {"deviation": float(found["deviation"])})

    def step(self, now: _Now) -> _Now:
        """One step, with its tangents."""
        count, state, deviation = now.count, now.state, now.deviation
        partial, blocks = now.partial, now.blocks
        images = self._stepper.rows("tangent", state, now.rows, count)
        if self._certify:
            known = self._stepper.log_determinant(state, count)
        state = self._stepper.step(state, count)
        try:
            rows, r = factored(images)
        except FloatingPointError as error:
            error.add_note(f"This was after {checks.counted(count, 'step')}.")
            raise
        rows.flags.writeable = False
        logs = np.log(abs(r.diagonal()))
        if self._certify:
            total = float(logs.sum())
            deviation = max(deviation, 0.0 if total == known else abs(total - known))
        count += 1
        if count > self._transient:
            partial = partial + logs
            if count in self._ends:
                blocks, partial = np.vstack([blocks, partial]), np.zeros_like(partial)
        return _Now(count, state, rows, partial, blocks, deviation, now.first)

    def largest(self, now: _Now) -> float | None:
        """The first exponent so far."""
        counted = now.count - self._transient
        if counted <= 0:
            return None
        return float((now.blocks[:, 0].sum() + now.partial[0]) / counted)

    def result(self, now: _Now) -> LyapunovSpectrum:
        """What is made of a run that is over."""
        return LyapunovSpectrum(
            blocks=now.blocks / self._lengths[:, None],
            block_steps=self._lengths,
            transient=self._transient,
            dimension=self._stepper.dimension,
            sum_deviation=now.deviation if self._certify else None,
            state=now.state,
            tangents=now.rows,
        )
