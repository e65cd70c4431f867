"""Computing a derivative tensor slab by slab, so that a killed run goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from swiftnets._support import checks, identity
from swiftnets._support.files import lock, remove_abandoned, write_atomically
from swiftnets._support.progress import Progress
from swiftnets.curvature.point import Point
from swiftnets.curvature.tensors.slabs import Job, entries
from swiftnets.curvature.tensors.store import (
    FORMAT,
    create,
    flush,
    open_store,
    read_facts,
    sidecar,
)
from swiftnets.curvature.tensors.tensor import DerivativeTensor

__all__ = ["State", "compute"]


def __dir__() -> list[str]:
    return __all__


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
        Whether to show on standard error how far it is.

    Returns
    -------
    DerivativeTensor

    Raises
    ------
    OSError
        If the disk has too little room; the message has the bytes.
    FileNotFoundError
        If the folder of `path` does not exist.
    ValueError
        If an argument is not as above; the message names it.
    FileExistsError
        If there is something else at `path` (other data, other parameters, another file), or
        another call is computing it.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
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
    job = Job(point, order, layer)
    file = checks.path(path, "path")
    force, progress = checks.flag(force, "force"), checks.flag(progress, "progress")
    if file.suffix not in (".npy", ".zarr"):
        raise ValueError(f"path is {str(path)!r}; expected a name that ends in .npy or .zarr")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"path is {str(path)!r}, and there is no folder {file.parent}")
    with contextlib.ExitStack() as stack:
        state = State.read(file, job)
        if state is not None and state.done == job.count:
            remove_abandoned(_lock(file))  # of one that was killed at its very end
        else:
            stack.enter_context(_alone(file))
            state = State.read(file, job)  # of what another process did until now
        _fill(file, job, state, force, progress)
    return DerivativeTensor(file)


def _fill(file: Path, job: Job, state: State | None, force: bool, progress: bool) -> None:
    """Fill in the slabs that are missing, after a look at what is there and at the room left."""
    net, order = job.net, job.order
    stored = entries(order, job.count)
    if state is None:
        needed, free = stored * net.dtype.itemsize, shutil.disk_usage(file.absolute().parent).free
        if needed > free and not force:
            raise OSError(
                f"order {order} in {job.count:,} parameters needs {needed:,} bytes "
                f"({checks.readable(needed)}), and {free:,} ({checks.readable(free)}) are free "
                f"at {str(file.absolute().parent)!r}; free some, take one layer with layer=, or "
                "begin all the same with force=True"
            )
        # The file comes into its place last, and whole: killed before, a run begins anew.
        made = create(file, stored, order, job.count, net.dtype)
        state = State(file, job, 0)
        state.write()
        os.replace(made, file)
    elif file.suffix == ".zarr" and state.done < job.count:
        for partial in file.rglob("*.partial"):  # zarr's, of a chunk that was being written
            partial.unlink()
    try:
        store = open_store(file, stored, writable=state.done < job.count)
        if store.dtype != net.dtype:
            raise ValueError(f"{str(file)!r} holds {store.dtype}; expected {net.dtype}")
    except ValueError as error:
        raise FileExistsError(
            f"{error}; delete it and {str(sidecar(file))!r}, or choose another path"
        ) from error
    with Progress(state.done, job.count, unit="slab", shown=progress) as bar:
        for first, stop, slab in job.slabs(state.done):
            start, end = entries(order, first), entries(order, stop)
            if order == 2:
                start, end = first * job.count, stop * job.count
            store[start:end] = slab
            flush(store)
            state.done = stop
            state.write()
            bar.step(steps=stop - first)


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


class State:
    """How far a file is; kept beside it and replaced atomically after each slab."""

    def __init__(self, file: Path, job: Job, done: int) -> None:
        self._file, self.done = file, done
        self._facts = {"format": FORMAT, **job.facts()}

    @classmethod
    def read(cls, file: Path, job: Job) -> State | None:
        """What is there already, or None where nothing is."""
        beside = sidecar(file)
        if not beside.exists():
            if file.exists():
                raise FileExistsError(
                    f"{str(file)!r} exists and is no tensor of compute(); move it, or choose "
                    "another path"
                )
            return None
        state = cls(file, job, 0)
        try:
            found = read_facts(beside)
            known = found["format"]
            state.done = checks.integer(found.pop("done", None), "done", 0, 2**31)
        except (ValueError, TypeError):
            raise FileExistsError(
                f"{str(beside)!r} is not what compute() writes; move it, or choose another path"
            ) from None
        if known != FORMAT:
            raise FileExistsError(
                f"{str(file)!r} is of the format {known!r} and this swiftnets goes on with "
                f"{FORMAT!r}: open it with DerivativeTensor if it is complete, delete it or "
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
            raise FileNotFoundError(f"{str(file)!r} is gone; delete {str(beside)!r} to begin again")
        return state

    def write(self) -> None:
        """Replace what is beside the file."""
        text = json.dumps({**self._facts, "done": self.done})
        write_atomically(sidecar(self._file), lambda stream: stream.write(text.encode()))


def _lock(file: Path) -> Path:
    return file.with_name(f".{file.name}.lock")
