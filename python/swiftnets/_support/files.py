"""Files written whole or not at all, and locked while they are."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

File: TypeAlias = str | os.PathLike[str]


def writable(file: File, name: str) -> Path:
    """The path behind symbolic links, after a look whether it can be written: before the work."""
    try:
        path = Path(os.path.realpath(os.fsdecode(file)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {file!r}; expected a path ({error})") from None
    if path.is_dir():
        raise IsADirectoryError(f"{name} is the folder {path}; expected a file")
    if os.path.exists(file) and not path.is_file():
        # A device would be replaced by a file, and /dev/full read without an end.
        raise OSError(f"{name} is {os.fsdecode(file)}, which is no regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name} is {path}, and there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{name} is {path}, and the folder {path.parent} is not writable")
    # A run that is done already writes nothing, beside which a killed one would leave its file.
    for partial in _partials(path):
        if not os.path.lexists(partial):
            break
        remove_abandoned(partial)
    return path


def write_atomically(file: File, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: readers see the old one until the new one is on disk."""
    path = Path(os.path.realpath(os.fsdecode(file)))
    try:
        partial, stream = _beside(path)
        try:
            with stream:
                with contextlib.suppress(OSError):  # one that others may not read stays so
                    os.fchmod(stream.fileno(), stat.S_IMODE(os.stat(path).st_mode))
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except OSError as error:  # a full disk names no file, and the other is not the user's
        error.filename = str(path)
        del error.filename2  # None would be shown
        raise
    with contextlib.suppress(OSError):  # not every file system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _beside(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside `path`, locked, and open for writing."""
    # What killed processes left there makes way, so that there are never more such files than
    # writers at one time.
    for partial in _partials(path):
        remove_abandoned(partial)
        try:
            stream = open(partial, "xb")  # noqa: SIM115 (the caller's)
        except FileExistsError:  # of one that writes now
            continue
        if lock(stream.fileno(), partial):
            return partial, stream
        stream.close()  # it was taken for an abandoned one before it was locked
    raise AssertionError


def _partials(path: Path) -> Iterator[Path]:
    """The names that files on their way to `path` have, one after the other."""
    return (path.with_name(f".{path.name}.{number}.part") for number in itertools.count())


def lock(descriptor: int, path: Path, *, unknown: bool = True) -> bool:
    """Lock what is open and still at `path`, until it is closed.

    The lock ends with the process, however that ends.

    Parameters
    ----------
    descriptor : int
    path : Path
    unknown : bool
        The answer where the file system has no locks.

    Returns
    -------
    bool
        Whether it is ours.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    # The one before may have removed what we opened, and another made a new one.
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def remove_abandoned(path: Path) -> None:
    """Remove a file or folder that was locked by who made it, and that nobody locks any more."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if lock(descriptor, path, unknown=False):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
        finally:
            os.close(descriptor)


def write_npz(file: File, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    # The stubs take the names for NumPy's own options.
    write_atomically(file, lambda stream: np.savez(stream, **arrays))  # type: ignore[arg-type]
