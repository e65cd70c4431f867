"""Lyapunov spectra: how fast neighbours of a run part or meet, direction by direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.checkpoints import (
    CheckpointError,
    read_archive,
    require_settings,
    write_archive,
)
from swiftnets._support.files import File, writable
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.dynamics.maps import Map
from swiftnets.dynamics.spectrum import LyapunovSpectrum
from swiftnets.dynamics.stepping import Stepper, directions, factored, fixed

__all__ = ["lyapunov_spectrum"]


def __dir__() -> list[str]:
    return __all__


_FORMAT, _VERSION = "swiftnets Lyapunov run", 1


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
    certify, progress = checks.flag(certify, "certify"), checks.flag(progress, "progress")
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
    every = checks.integer(checkpoint_every, "checkpoint_every")
    run = _Run(stepper, start, settings)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        file = None
        if checkpoint is not None:
            file = _File(writable(checkpoint, "checkpoint"), map, start, settings, stepper)
            run.now = file.read(run.now, run.fits)
        run.go(progress, file, every)
    return run.result()


def _count(k: int, dimension: int, certify: bool) -> int:
    k = checks.integer(k, "k")
    if k > dimension:
        raise ValueError(f"k is {k}; expected at most {dimension}, the entries of a tangent")
    if certify and k < dimension:
        raise ValueError(
            f"k is {k} with certify=True; expected {dimension}: the sum of all exponents is known"
        )
    return k


class _Now(NamedTuple):
    """A run between two steps; nothing in it is changed later."""

    done: int
    state: Array
    rows: Array
    partial: Array
    """Sum of logarithms of the block that is not over."""
    blocks: Array
    """Sums of those that are."""
    deviation: float


class _Run:
    """The steps of one run."""

    def __init__(self, stepper: Stepper, start: Array, settings: dict[str, Any]) -> None:
        self._stepper = stepper
        k, steps, blocks = settings["k"], settings["steps"], settings["blocks"]
        self._transient, self._certify = settings["transient"], settings["certify"]
        self._total = self._transient + steps
        cuts = steps * np.arange(1, blocks + 1) // blocks
        self._ends, self._lengths = set((self._transient + cuts).tolist()), np.diff(cuts, prepend=0)
        rows = directions(settings["seed"], k, stepper.dimension)
        self.now = _Now(0, start, rows, np.zeros(k), np.empty((0, k)), 0.0)

    def go(self, progress: bool, file: _File | None, every: int) -> None:
        """Step to the end; what was done is saved whatever ends it."""
        saved = self.now
        bar = Progress(saved.done, self._total, "exponent", "step") if progress else None
        try:
            while self.now.done < self._total:
                self.now = self._step(self.now)
                if bar is not None:
                    bar.step(self._largest())
                if file is not None and self.now.done % every == 0:
                    file.write(self.now)
                    saved = self.now
        finally:
            if bar is not None:
                bar.close()
            if file is not None and self.now is not saved:
                file.write(self.now)

    def fits(self, now: _Now) -> bool:
        """Whether it is of so many steps as it says, and all of it are numbers."""
        count = sum(end <= now.done for end in self._ends)
        whole = 0 <= now.done <= self._total and now.blocks.shape == (count, len(now.rows))
        finite = np.isfinite(now.state).all() and np.isfinite(now.rows).all()
        # −inf is that of what a step sends to 0.
        sums = (now.partial, now.blocks, now.deviation)
        return bool(whole and finite and not any(np.isnan(x).any() for x in sums))

    def _step(self, now: _Now) -> _Now:
        done, state, rows, partial, blocks, deviation = now
        images = self._stepper.rows("tangent", state, rows, done)
        if self._certify:
            known = self._stepper.log_determinant(state, done)
        state = self._stepper.step(state, done)
        try:
            rows, r = factored(images)
        except FloatingPointError as error:
            error.add_note(f"This was after {checks.counted(done, 'step')}.")
            raise
        rows.flags.writeable = False
        logs = np.log(abs(r.diagonal()))
        if self._certify:
            total = float(logs.sum())
            deviation = max(deviation, 0.0 if total == known else abs(total - known))
        done += 1
        if done > self._transient:
            partial = partial + logs
            if done in self._ends:
                blocks, partial = np.vstack([blocks, partial]), np.zeros_like(partial)
        return _Now(done, state, rows, partial, blocks, deviation)

    def _largest(self) -> float | None:
        """The first exponent so far."""
        counted = self.now.done - self._transient
        if counted <= 0:
            return None
        return float((self.now.blocks[:, 0].sum() + self.now.partial[0]) / counted)

    def result(self) -> LyapunovSpectrum:
        """What is made of a run that is over."""
        return LyapunovSpectrum(
            blocks=self.now.blocks / self._lengths[:, None],
            block_steps=self._lengths,
            transient=self._transient,
            dimension=self._stepper.dimension,
            sum_deviation=self.now.deviation if self._certify else None,
            state=self.now.state,
            tangents=self.now.rows,
        )


class _File:
    """The checkpoint of a run, and what tells it from others."""

    def __init__(
        self, path: Path, map: Map, start: Array, settings: dict[str, Any], stepper: Stepper
    ) -> None:
        self._path = path
        self._settings = identity.settings({"map": map, "state": start, **settings}, "")
        # For maps whose settings say little: of one step.
        first = np.full((1, stepper.dimension), 1 / math.sqrt(stepper.dimension))
        first.flags.writeable = False
        moved, image = stepper.step(start, 0), stepper.rows("tangent", start, first, 0)
        self._first = np.array([np.linalg.norm(moved - start), np.linalg.norm(image)])

    def write(self, now: _Now) -> None:
        """Save a run as it is after a step."""
        arrays: dict[str, npt.NDArray[Any]] = {
            name: np.asarray(value) for name, value in now._asdict().items()
        }
        write_archive(
            self._path, _FORMAT, _VERSION, self._settings, {"first": self._first, **arrays}
        )

    def read(self, initial: _Now, fits: Callable[[_Now], bool]) -> _Now:
        """A run as it was saved, or as it begins if it was not.

        Parameters
        ----------
        initial : _Now
        fits : callable
            Whether the run can come to a state.

        Returns
        -------
        _Now

        Raises
        ------
        CheckpointError
            If the file is damaged, or of another run.
        """
        read = read_archive(self._path, _FORMAT, _VERSION, _restored)
        if read is None:
            return initial
        there, first, now = read
        require_settings(self._path, there, self._settings)
        # Not to the bit: another machine, or other threads, round otherwise.
        if first.shape != (2,) or not np.allclose(first, self._first, 1e-5, 0):
            raise CheckpointError(
                f"checkpoint: {self._path} is of another run: map: its first step is another"
            )
        if any(getattr(now, name).shape != getattr(initial, name).shape for name in _SAME):
            raise CheckpointError(f"checkpoint: {self._path} is damaged: an array's shape is wrong")
        if not fits(now):
            raise CheckpointError(
                f"checkpoint: {self._path} is damaged: its numbers are of no run's state"
            )
        return now


_SAME = ("state", "rows", "partial")


def _restored(settings: Any, arrays: dict[str, Any]) -> tuple[Any, Array, _Now]:
    """What `_File.write` was given; whatever is wrong is an error that the caller explains."""
    first = arrays.pop("first")
    for name in ("state", "rows"):
        arrays[name].flags.writeable = False
    for name, kind in (("done", int), ("deviation", float)):
        arrays[name] = kind(arrays[name])
    if not all(arrays[name].dtype == np.float64 for name in (*_SAME, "blocks")):
        raise ValueError("an array is not of float64")
    return settings, first, _Now(**arrays)
