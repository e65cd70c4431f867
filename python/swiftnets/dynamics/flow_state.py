"""A central flow between two units of time, and what a checkpoint has of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import Array
from swiftnets.dynamics.runs import kept, stacked
from swiftnets.spectra import Certificate

__all__ = ["FlowRecord", "FlowState", "Followed", "restored"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class FlowRecord:
    """What is recorded at one time."""

    loss: float
    mean_loss: float
    eigenvalues: Array
    X: Array


class Followed(NamedTuple):
    """Of the last point that was looked at: eigenvectors followed, X, and the work until there."""

    rows: Array
    X: Array
    products: int
    thirds: int
    missed: int


@dataclass(frozen=True, eq=False)
class FlowState:
    """Between two units of time; what is of parameters is in an `InputSpan`'s coordinates."""

    basis: Array
    """That it is of."""
    count: int
    w: Array
    before: Array
    """w one unit of time earlier."""
    known: Followed
    records: list[FlowRecord] = field(repr=False)
    """That at `count` comes with the step from there, or at the end."""
    path: list[Array] = field(repr=False)
    path_times: list[int] = field(repr=False)
    certificates: list[tuple[int, Certificate | None]] = field(repr=False)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        records = self.records[: self.count]
        proofs = [(time, c) for time, c in self.certificates if time < self.count]
        known = [[math.nan] * 7 if c is None else _numbers(c) for _, c in proofs]
        path = [w for w, t in zip(self.path, self.path_times, strict=True) if t < self.count]
        return {
            "basis": self.basis,
            "w": self.w,
            "rows": self.known.rows,
            "X": self.known.X,
            "work": np.array(self.known[2:]),
            "losses": np.array([[r.loss, r.mean_loss] for r in records]).reshape(-1, 2),
            "lengths": np.array([[len(r.eigenvalues), len(r.X)] for r in records], np.int64),
            "eigenvalues": np.concatenate([r.eigenvalues for r in records] or [np.empty(0)]),
            "covariances": np.concatenate([r.X.ravel() for r in records] or [np.empty(0)]),
            "path": stacked(path, len(self.w)),
            "path_times": np.array([t for t in self.path_times if t < self.count], np.int64),
            "proof_times": np.array([time for time, _ in proofs], np.int64),
            "proofs": np.array(known).reshape(-1, 7),
        }


_METHODS = ("inertia", "probabilistic", "dense")


def _numbers(c: Certificate) -> list[float]:
    method = _METHODS.index(c.method)
    return [
        *(method, c.lower, c.upper, float(c.inside), c.count, c.margin),
        c.failure_probability,
    ]


def _certificate(row: Array) -> Certificate | None:
    if math.isnan(row[0]):
        return None
    method, lower, upper, inside, count, margin, chance = row.tolist()
    kind: Any = _METHODS[int(method)]
    return Certificate(kind, lower, upper, bool(inside), int(count), margin, chance)


def restored(count: int, arrays: dict[str, Any]) -> FlowState:
    """What `FlowState.arrays` gave; whatever is wrong is an error that the reader explains."""
    arrays = {"basis": np.empty((0, 0)), **arrays}  # older files are of runs without
    w = kept(arrays, "w", None)
    rows = kept(arrays, "rows", None, len(w))
    work = kept(arrays, "work", 3, dtype=np.int64)
    losses = kept(arrays, "losses", count, 2)
    lengths = kept(arrays, "lengths", count, 2, dtype=np.int64)
    if lengths.min(initial=0) < 0:
        raise ValueError("a length is negative")
    k, c = lengths.T
    values = kept(arrays, "eigenvalues", int(k.sum()))
    covariances = kept(arrays, "covariances", int((c * c).sum()))
    records = [
        FlowRecord(loss, mean, own, block.reshape(size, size))
        for (loss, mean), own, block, size in zip(
            losses.tolist(),
            # Of the last what is left: without any record that is empty.
            np.split(values, np.cumsum(k)[:-1])[:count],
            np.split(covariances, np.cumsum(c * c)[:-1])[:count],
            c.tolist(),
            strict=True,
        )
    ]
    last = kept(arrays, "X", None, None)
    if last.shape != (len(last),) * 2 or len(last) > len(rows):
        raise ValueError(f"X is of shape {last.shape}")
    times = kept(arrays, "path_times", None, dtype=np.int64).tolist()
    path = list(kept(arrays, "path", len(times), len(w)))
    when = kept(arrays, "proof_times", None, dtype=np.int64).tolist()
    proofs = kept(arrays, "proofs", len(when), 7, is_finite=False)
    certificates = [(time, _certificate(row)) for time, row in zip(when, proofs, strict=True)]
    known = Followed(rows, last, *work.tolist())
    basis = kept(arrays, "basis", None, None)
    return FlowState(basis, count, w, w, known, records, path, times, certificates)
