"""`DerivativeTensor`: entries and contractions of a tensor on disk, without loading it all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.curvature.tensors.slabs import ROWS, entries
from swiftnets.curvature.tensors.store import FORMAT, OLDER, open_store, read_facts, sidecar
from swiftnets.linalg import scaling

__all__ = ["DerivativeTensor"]


def __dir__() -> list[str]:
    return __all__


class DerivativeTensor:
    """A tensor of derivatives on disk, made by `compute`.

    Parameters
    ----------
    path : path-like
        Where `compute` put it.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, or it is not complete.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = checks.path(path, "path")
        if not self.path.name:
            raise ValueError(f"path is {str(path)!r}; expected a file that compute() wrote")
        try:
            facts = read_facts(sidecar(self.path))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{str(sidecar(self.path))!r} does not exist; expected what compute() writes "
                "beside a tensor"
            ) from None
        if facts["format"] not in (FORMAT, *OLDER):
            raise ValueError(f"{str(sidecar(self.path))!r} is not of the format {FORMAT!r}")
        try:
            self.order = checks.integer(facts.get("order"), "order", 2, 4)
            self.parameter_count = checks.integer(facts.get("count"), "count", 1, 2**31)
            done = checks.integer(facts.get("done"), "done", 0, self.parameter_count)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{str(sidecar(self.path))!r} is damaged: {error}") from None
        if done != self.parameter_count:
            raise ValueError(
                f"{str(self.path)!r} is not complete: {done:,} of "
                f"{self.parameter_count:,} slabs; call compute() again with the same arguments"
            )
        stored = entries(self.order, self.parameter_count)
        self._store = open_store(self.path, stored, writable=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole tensor, not of what is stored."""
        return (self.parameter_count,) * self.order

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the entries."""
        dtype: np.dtype[Any] = np.dtype(self._store.dtype)
        return dtype

    def __repr__(self) -> str:
        return f"DerivativeTensor({str(self.path)!r}, shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, index: tuple[int, ...]) -> Any:
        """One entry, by indices in any order; negative ones count from the end."""
        if not isinstance(index, tuple) or len(index) != self.order:
            raise TypeError(f"index is {index!r}; expected {self.order} integers")
        count = self.parameter_count
        checked = [checks.integer(i, "index", -count, count - 1) % count for i in index]
        if self.order == 2:
            return self._read(checked[0] * count + checked[1])
        checked.sort(reverse=True)
        place = sum(
            math.comb(i + self.order - 1 - n, self.order - n) for n, i in enumerate(checked)
        )
        return self._read(place)

    def contract(self, *vectors: npt.ArrayLike) -> Any:
        """The tensor applied to vectors, in one reading of the file.

        Parameters
        ----------
        *vectors : (P,) array_like
            From order - 2, or 1 for the Hessian, to order of them.

        Returns
        -------
        float or array
            A number for as many vectors as the order; (P,) for one fewer; (P, P) for two fewer.

        Raises
        ------
        TypeError
            If there are too few or too many.
        MemoryError
            If the result would not fit into memory.
        """
        least = max(1, self.order - 2)
        if not least <= len(vectors) <= self.order:
            raise TypeError(
                f"{len(vectors)} vectors for order {self.order}; expected from {least} to "
                f"{self.order}"
            )
        count = self.parameter_count
        given = [checks.array(v, f"vector {n}", (count,)) for n, v in enumerate(vectors)]
        # Vectors of about 1: products of large and small ones would leave the range on the way.
        exponents = [min(scaling.exponent(v), int(scaling.halvings(v[None])[0])) for v in given]
        given = [np.ldexp(v, -e) for v, e in zip(given, exponents, strict=True)]
        rank = self.order - len(given)
        checks.memory(8 * count**rank, f"the contraction, {' by '.join([str(count)] * rank)},")
        out = np.zeros((count,) * rank)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # the result shows it
            self._add_contraction(given, out)
            out = np.ldexp(out, sum(exponents))
        return float(out) if rank == 0 else out

    def _add_contraction(self, given: list[FloatArray], out: FloatArray) -> None:
        count = self.parameter_count
        if self.order == 2:
            for first, stop, slab in self._hessian():
                part = slab @ given[0]
                if out.ndim == 1:
                    out[first:stop] = part
                else:
                    out += given[1][first:stop] @ part
        else:
            for i in range(count):
                _spread(self._slab(i), i, self.order, given, out)

    def _read(self, where: int | slice) -> Any:
        try:
            return self._store[where]
        except (OSError, MemoryError):
            raise
        except Exception as error:  # what is packed may be damaged
            raise ValueError(f"{str(self.path)!r} is damaged ({error})") from error

    def _hessian(self) -> Iterator[tuple[int, int, FloatArray]]:
        count = self.parameter_count
        for first in range(0, count, ROWS):
            stop = min(first + ROWS, count)
            part = np.asarray(self._read(slice(first * count, stop * count)))
            yield first, stop, part.reshape(-1, count)

    def _slab(self, i: int) -> FloatArray:
        """All entries whose largest index is i."""
        start, end = entries(self.order, i), entries(self.order, i + 1)
        return np.asarray(self._read(slice(start, end)), np.float64)


def _spread(slab: FloatArray, i: int, order: int, given: list[FloatArray], out: FloatArray) -> None:
    """Adds to `out` what the entries with largest index i contribute, in all orders of indices."""
    if order == 3:
        face = _symmetric(slab, i)  # T[i, :i+1, :i+1]
        _spread_face(face, i, given, out)
        return
    # Order 4: cube[j, k, l] = T[i, j, k, l], j the largest of three in the packed ones.
    cube = np.zeros((i + 1,) * 3)
    start = 0
    for j in range(i + 1):
        size = (j + 1) * (j + 2) // 2
        face = _symmetric(slab[start : start + size], j)
        start += size
        cube[j, : j + 1, : j + 1] = face
        cube[: j + 1, j, : j + 1] = face
        cube[: j + 1, : j + 1, j] = face
    last, rest = given[-1], given[:-1]
    # Of the three indices that `last` leaves, one is i; or it is the index that `last` took.
    _spread_face(cube @ last[: i + 1], i, rest, out)
    below = cube[:i, :i, :i] * last[i]
    for vector in rest[::-1]:
        below = below @ vector[:i]
    if out.ndim == 0:
        out += below
    else:
        out[(slice(0, i),) * out.ndim] += below


def _spread_face(face: FloatArray, i: int, given: list[FloatArray], out: FloatArray) -> None:
    """T[i, j, k] = face[j, k] for j, k ≤ i, in every order of the indices, applied to `given`."""
    strict = face[:i, :i]
    edge = face[i, :i]
    if len(given) == 1:
        (u,) = given
        out[:i, :i] += strict * u[i]
        mixed = strict @ u[:i] + edge * u[i]
        out[i, :i] += mixed
        out[:i, i] += mixed
        out[i, i] += edge @ u[:i] + face[i, i] * u[i]
        return
    u, v = given[:2]
    strict_v, strict_u = strict @ v[:i], strict @ u[:i]
    vector = np.zeros(i + 1)
    vector[:i] = strict_v * u[i] + strict_u * v[i] + edge * (u[i] * v[i])
    vector[i] = (
        strict_v @ u[:i] + (edge @ v[:i]) * u[i] + (edge @ u[:i]) * v[i] + face[i, i] * u[i] * v[i]
    )
    if len(given) == 2:
        out[: i + 1] += vector
    else:
        out += vector @ given[2][: i + 1]


def _symmetric(packed: FloatArray, i: int) -> FloatArray:
    """The symmetric matrix of order i + 1 whose lower triangle is packed row by row."""
    matrix = np.zeros((i + 1, i + 1))
    rows, columns = np.tril_indices(i + 1)
    matrix[rows, columns] = packed
    matrix[columns, rows] = packed
    return matrix
