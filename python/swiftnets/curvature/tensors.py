"""Derivative tensors larger than memory: Hessians, third and fourth derivatives on disk.

`plan` says what one would take; `compute` fills a file slab by slab, resumes after a kill, and
gives a `DerivativeTensor`, which reads entries and contracts with vectors without loading it all.

The Hessian is stored whole, [P, P]. Tensors of order 3 and 4 are symmetric in all indices and are
stored packed: the entry i ≥ j ≥ k at C(i+2, 3) + C(j+1, 2) + k, and i ≥ j ≥ k ≥ l at C(i+3, 4) +
C(j+2, 3) + C(k+1, 2) + l, with C the binomial coefficients. So all entries with one first index are
one contiguous slab.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.files import lock, remove_abandoned, write_atomically
from swiftnets._support.streams import StandardError
from swiftnets.curvature.point import Point, require_point
from swiftnets.linalg import scaling
from swiftnets.nets.samples import FloatArray

__all__ = ["DerivativeTensor", "Plan", "compute", "plan"]

_FORMAT = "swiftnets derivative tensor 3"
# The same numbers, whose net and samples were told otherwise.
_OLDER = ("swiftnets derivative tensor 1", "swiftnets derivative tensor 2")
_ROWS = 64  # directions that one call of the engine takes
_ZARR_CHUNK = 1 << 20  # numbers


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Plan:
    """What a derivative tensor would take.

    Attributes
    ----------
    order : int
    parameter_count : int
        Of the net, or of the one layer.
    entries : int
        Numbers stored.
    bytes : int
        On disk.
    working_bytes : int
        Of memory, beyond the engine's.
    seconds : float
        Estimated from a few products, timed.
    free_bytes : int
        On the disk where the file would be.
    """

    order: int
    parameter_count: int
    entries: int
    bytes: int
    working_bytes: int
    seconds: float
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.bytes <= self.free_bytes

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        return (
            f"order {self.order}, {self.parameter_count:,} parameters: {self.entries:,} numbers, "
            f"{checks.readable(self.bytes)} on disk ({verdict}: "
            f"{checks.readable(self.free_bytes)} are free), "
            f"{checks.readable(self.working_bytes)} of memory, about {_duration(self.seconds)}"
        )


def plan(
    point: Point,
    *,
    order: int,
    layer: int | None = None,
    path: str | os.PathLike[str] = ".",
) -> Plan:
    """Bytes and seconds that `compute` would take with the same arguments; a few products are run.

    Parameters
    ----------
    point : Point
    order : {2, 3, 4}
    layer : int, optional
    path : path-like

    Returns
    -------
    Plan

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((3, 4, 2))
    >>> p = plan(net.at(net.initial(seed=0), np.eye(3), np.ones((3, 2))), order=3)
    >>> p.entries, p.bytes
    (3276, 26208)
    """
    order = checks.integer(order, "order", 2, 4)
    job = _Job(point, order, layer)
    entries = _entries(order, job.count)
    folder = checks.path(path, "path").absolute()
    while not folder.is_dir():
        folder = folder.parent
    return Plan(
        order,
        job.count,
        entries,
        entries * point.net.dtype.itemsize,
        3 * _ROWS * point.net.parameter_count * point.net.dtype.itemsize,
        job.estimate(),
        shutil.disk_usage(folder).free,
    )


def compute(
    point: Point,
    *,
    order: int,
    path: str | os.PathLike[str],
    layer: int | None = None,
    force: bool = False,
    progress: bool = False,
) -> DerivativeTensor:
    """The whole tensor of second, third or fourth derivatives of the loss, on disk.

    Parameters
    ----------
    point : Point
    order : {2, 3, 4}
    path : path-like
        A file ``.npy``, readable with ``numpy.load(..., mmap_mode="r")``, or ``.zarr`` for a Zarr
        store, compressed, which needs the package ``zarr``. Beside it, ``path`` + ``.json`` says
        what it is of and how far it is. Calling again with the same arguments goes on where a
        killed run had stopped, or opens what is complete.
    layer : int, optional
        Only derivatives in one layer's parameters.
    force : bool
        Whether to begin although the disk does not seem to have room.
    progress : bool
        Whether to show a bar; needs tqdm.

    Returns
    -------
    DerivativeTensor

    Raises
    ------
    OSError
        If the disk has too little room; the message has the bytes.
    FileExistsError
        If there is something else at `path` (other data, other parameters, another file), or
        another call is computing it.

    Examples
    --------
    >>> import tempfile
    >>> from swiftnets import MLP
    >>> net = MLP((2, 2, 1))
    >>> point = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))
    >>> v = np.ones(net.parameter_count)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     third = compute(point, order=3, path=f"{folder}/third.npy")
    ...     bool(np.allclose(third.contract(v, v), point.third(v, v)))
    True
    """
    order = checks.integer(order, "order", 2, 4)
    job = _Job(point, order, layer)
    file = checks.path(path, "path")
    force, progress = checks.flag(force, "force"), checks.flag(progress, "progress")
    if file.suffix not in (".npy", ".zarr"):
        raise ValueError(f"path is {str(path)!r}; expected a name that ends in .npy or .zarr")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"path is {str(path)!r}, and there is no folder {file.parent}")
    with contextlib.ExitStack() as stack:
        state = _State.read(file, job)
        if state is not None and state.done == job.count:
            remove_abandoned(_lock(file))  # of one that was killed at its very end
        else:
            stack.enter_context(_alone(file))
            state = _State.read(file, job)  # of what another process did until now
        _fill(file, job, state, force, progress)
    return DerivativeTensor(file)


def _fill(file: Path, job: _Job, state: _State | None, force: bool, progress: bool) -> None:
    """The rest of a tensor's slabs, after a look at what is there and whether there is room."""
    net, order = job.net, job.order
    entries = _entries(order, job.count)
    if state is None:
        needed, free = entries * net.dtype.itemsize, shutil.disk_usage(file.absolute().parent).free
        if needed > free and not force:
            raise OSError(
                f"order {order} in {job.count:,} parameters needs {needed:,} bytes "
                f"({checks.readable(needed)}), and {free:,} ({checks.readable(free)}) are free "
                f"at {str(file.absolute().parent)!r}; free some, take one layer with layer=, or "
                "begin all the same with force=True"
            )
        # The file comes into its place last, and whole: killed before, a run begins anew.
        made = _create(file, entries, order, job.count, net.dtype)
        state = _State(file, job, 0)
        state.write()
        os.replace(made, file)
    elif file.suffix == ".zarr" and state.done < job.count:
        for partial in file.rglob("*.partial"):  # zarr's, of a chunk that was being written
            partial.unlink()
    try:
        store = _open(file, entries, writable=state.done < job.count)
        if store.dtype != net.dtype:
            raise ValueError(f"{str(file)!r} holds {store.dtype}; expected {net.dtype}")
    except ValueError as error:
        raise FileExistsError(
            f"{error}; delete it and {str(_sidecar(file))!r}, or choose another path"
        ) from error
    bar = _bar(progress, job.count, state.done)
    try:
        for first, stop, slab in job.slabs(state.done):
            start, end = _entries(order, first), _entries(order, stop)
            if order == 2:
                start, end = first * job.count, stop * job.count
            store[start:end] = slab
            _flush(store)
            state.done = stop
            state.write()
            if bar is not None:
                bar.update(stop - first)
    finally:
        if bar is not None:
            bar.close()


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Keeps others off `file`: the second of two that begin would put zeros in its place."""
    place = _lock(file)
    with open(place, "a") as stream:
        if not lock(stream.fileno(), place):
            raise FileExistsError(
                f"{str(file)!r} is being computed by another call; wait for it, or choose "
                "another path"
            )
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


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
            facts = _read_facts(_sidecar(self.path))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{str(_sidecar(self.path))!r} does not exist; expected what compute() writes "
                "beside a tensor"
            ) from None
        if facts["format"] not in (_FORMAT, *_OLDER):
            raise ValueError(f"{str(_sidecar(self.path))!r} is not of the format {_FORMAT!r}")
        try:
            self.order = checks.integer(facts.get("order"), "order", 2, 4)
            self.parameter_count = checks.integer(facts.get("count"), "count", 1, 2**31)
            done = checks.integer(facts.get("done"), "done", 0, self.parameter_count)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{str(_sidecar(self.path))!r} is damaged: {error}") from None
        if done != self.parameter_count:
            raise ValueError(
                f"{str(self.path)!r} is not complete: {done:,} of "
                f"{self.parameter_count:,} slabs; call compute() again with the same arguments"
            )
        entries = _entries(self.order, self.parameter_count)
        self._store = _open(self.path, entries, writable=False)

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
        for first in range(0, count, _ROWS):
            stop = min(first + _ROWS, count)
            part = np.asarray(self._read(slice(first * count, stop * count)))
            yield first, stop, part.reshape(-1, count)

    def _slab(self, i: int) -> FloatArray:
        """All entries whose largest index is i."""
        start, end = _entries(self.order, i), _entries(self.order, i + 1)
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


# Making -------------------------------------------------------------------------------------------


class _Job:
    """What is computed: the slabs of a tensor, in order."""

    def __init__(self, point: Point, order: int, layer: int | None) -> None:
        self.point, self.net, self.order = require_point(point), point.net, order
        self._part = slice(0, self.net.parameter_count)
        if layer is not None:
            last = self.net.depth - 1
            self._part = self.net.layer_slices[checks.integer(layer, "layer", 0, last)]
        self.count = self._part.stop - self._part.start
        self.layer = layer

    def facts(self) -> dict[str, Any]:
        """What is computed, of what: a run goes on only with the same."""
        told = {
            "order": self.order,
            "layer": self.layer,
            "count": self.count,
            "net": self.net,
            "w": self.point.w,
            "samples": [tuple(batch) for batch in self.point.samples.batches],
        }
        return {"format": _FORMAT, **identity.settings(told)}

    def _units(self, first: int, stop: int) -> FloatArray:
        rows = np.zeros((stop - first, self.net.parameter_count), self.net.dtype)
        rows[np.arange(stop - first), self._part.start + np.arange(first, stop)] = 1
        return rows

    def _products(self, fixed: list[int], first: int, stop: int) -> FloatArray:
        """Derivatives in the fixed indices and each of first..stop, along all indices."""
        rows = self._units(first, stop)
        units = [self._units(i, i + 1)[0] for i in fixed]
        if not units:
            found = rows @ self.point.hessian
        elif len(units) == 1:
            found = self.point.third(units[0], rows)
        else:
            found = self.point.fourth(units[0], units[1], rows)
        own: FloatArray = found[:, self._part]
        return own

    def slabs(self, done: int) -> Iterator[tuple[int, int, FloatArray]]:
        """(first, stop, numbers): the entries whose first index is in first..stop."""
        if self.order == 2:
            for first in range(done, self.count, _ROWS):
                stop = min(first + _ROWS, self.count)
                yield first, stop, self._products([], first, stop).reshape(-1)
            return
        for i in range(done, self.count):
            yield i, i + 1, np.concatenate(list(self._slab(i)))

    def _slab(self, i: int) -> Iterator[FloatArray]:
        """T[i, j, :j+1] for j ≤ i, or T[i, j, k, :k+1] for k ≤ j ≤ i."""
        outer = [[i]] if self.order == 3 else [[i, j] for j in range(i + 1)]
        for fixed in outer:
            end = fixed[-1] + 1
            for first in range(0, end, _ROWS):
                stop = min(first + _ROWS, end)
                rows = self._products(fixed, first, stop)
                for k in range(first, stop):
                    yield rows[k - first, : k + 1]

    def estimate(self) -> float:
        """Seconds for all slabs, from a call timed after one that warms up."""
        rows = min(_ROWS, self.count)
        fixed = [0] * (self.order - 2)
        self._products(fixed, 0, rows)
        start = time.perf_counter()
        self._products(fixed, 0, rows)
        each = (time.perf_counter() - start) / rows
        return each * math.comb(self.count + self.order - 2, self.order - 1)


class _State:
    """How far a file is; kept beside it and replaced atomically after each slab."""

    def __init__(self, file: Path, job: _Job, done: int) -> None:
        self._file, self.done = file, done
        self._facts = job.facts()

    @classmethod
    def read(cls, file: Path, job: _Job) -> _State | None:
        """What is there already, or None where nothing is."""
        sidecar = _sidecar(file)
        if not sidecar.exists():
            if file.exists():
                raise FileExistsError(
                    f"{str(file)!r} exists and is no tensor of compute(); move it, or choose "
                    "another path"
                )
            return None
        state = cls(file, job, 0)
        try:
            found = _read_facts(sidecar)
            known = found["format"]
            state.done = checks.integer(found.pop("done", None), "done", 0, 2**31)
        except (ValueError, TypeError):
            raise FileExistsError(
                f"{str(sidecar)!r} is not what compute() writes; move it, or choose another path"
            ) from None
        if known != _FORMAT:
            raise FileExistsError(
                f"{str(file)!r} is of the format {known!r} and this swiftnets goes on with "
                f"{_FORMAT!r}: open it with DerivativeTensor if it is complete, delete it or "
                "choose another path"
            )
        differing = "; ".join(identity.differences(found, state._facts))
        if differing:
            raise FileExistsError(
                f"{str(file)!r} is of another net, other parameters, samples or order: "
                f"{differing}; delete it or choose another path"
            )
        if not file.exists():
            if state.done == 0:  # killed between the two
                return None
            raise FileNotFoundError(
                f"{str(file)!r} is gone; delete {str(sidecar)!r} to begin again"
            )
        return state

    def write(self) -> None:
        text = json.dumps({**self._facts, "done": self.done})
        write_atomically(_sidecar(self._file), lambda stream: stream.write(text.encode()))


def _sidecar(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _lock(file: Path) -> Path:
    return file.with_name(f".{file.name}.lock")


def _read_facts(sidecar: Path) -> dict[str, Any]:
    """What a file beside a tensor tells; of no format where it is not what compute() writes."""
    try:
        facts = json.loads(sidecar.read_text())
    except (ValueError, RecursionError):
        facts = None
    return facts if isinstance(facts, dict) and "format" in facts else {"format": None}


def _entries(order: int, count: int) -> int:
    """Numbers stored for `count` parameters; for order 3 and 4 where slab `count` begins."""
    return count * count if order == 2 else math.comb(count + order - 1, order)


def _create(file: Path, entries: int, order: int, count: int, dtype: np.dtype[Any]) -> Path:
    """An empty store beside where it will be, on disk; what a killed run left there is replaced."""
    made = file.with_name(f".{file.name}.part")
    if file.suffix == ".npy":
        # Flat here and in the file, but for the Hessian, whose header says that it is square.
        shape = (count, count) if order == 2 else (entries,)
        try:
            np.lib.format.open_memmap(made, "w+", dtype, shape)
            with open(made, "rb+") as stream:
                # A page of the map that finds the disk full later would end the process (SIGBUS).
                os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
                os.fsync(stream.fileno())
        except OSError as error:
            made.unlink(missing_ok=True)
            error.filename = str(file)  # a full disk names none
            raise
        return made
    shutil.rmtree(made, ignore_errors=True)
    chunk = min(entries, _ZARR_CHUNK)
    zarr = _zarr()
    packer = zarr.codecs.ZstdCodec()
    zarr.create_array(
        str(made), shape=(entries,), chunks=(chunk,), dtype=dtype, compressors=packer, zarr_format=3
    )
    return made


def _require_plain(file: Path, entries: int) -> None:
    """A ValueError unless a Zarr store is as `_create` makes them.

    Zarr lets a store name any codec that is installed, those that unpickle among them, and parts of
    any size.
    """
    told = json.loads((file / "zarr.json").read_text())
    plain = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [entries],
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [min(entries, _ZARR_CHUNK)]},
        },
        "storage_transformers": [],
    }
    for name, value in plain.items():
        if told[name] != value:
            raise ValueError(f"its {name} is {told[name]!r}; expected {value!r}")
    for codec in told["codecs"]:
        if codec["name"] not in ("bytes", "zstd"):
            raise ValueError(f"it names the codec {codec['name']!r}")


def _open(file: Path, entries: int, *, writable: bool) -> Any:
    """The store in `file`; a ValueError that names it unless it holds so many numbers."""
    mode: Literal["r", "r+"] = "r+" if writable else "r"
    packed = _zarr() if file.suffix == ".zarr" else None
    try:
        if packed is not None:
            _require_plain(file, entries)
            store = packed.open_array(str(file), mode=mode, zarr_format=3)
        else:
            store = np.load(file, mmap_mode=mode).reshape(-1)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # NumPy and zarr fail on damage in many ways
        raise ValueError(f"{str(file)!r} is damaged or no tensor ({error})") from error
    if store.dtype not in (np.float32, np.float64):
        raise ValueError(f"{str(file)!r} holds {store.dtype}; expected float32 or float64")
    if store.shape != (entries,):
        raise ValueError(
            f"{str(file)!r} holds {math.prod(store.shape):,} numbers; expected the {entries:,} "
            f"that {str(_sidecar(file))!r} tells of"
        )
    return store


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            "a path ending in .zarr needs zarr: pip install swiftnets[zarr]"
        ) from error
    return zarr


def _flush(store: Any) -> None:
    """What was written is on disk before the state beside it says so."""
    base = store
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            base.flush()
        base = base.base


def _bar(progress: bool, total: int, done: int) -> Any:
    if not progress:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress needs tqdm: pip install swiftnets[progress]") from error
    return tqdm(total=total, initial=done, unit="slab", file=StandardError())


def _duration(seconds: float) -> str:
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} seconds"
