"""The files of a set, found in a folder or in an archive, and their content."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from swiftnets.datasets.forms import FORMS, MOST_BYTES, DatasetError, Form

__all__ = [
    "ContentOf",
    "in_archive",
    "in_folder",
    "naming",
]


def __dir__() -> list[str]:
    return __all__


_MOST_MEMBERS = 1000

ContentOf: TypeAlias = Callable[[str], tuple[bytes, str]]
"""From a file's name to its content, and to what an error calls the file."""


def in_folder(path: Path) -> tuple[Form, ContentOf]:
    """Find the first form whose files, or whose archive, are in a folder.

    Parameters
    ----------
    path : Path

    Returns
    -------
    form : Form
    content_of : callable
        From a file's name to its content, and to what an error calls the file.

    Raises
    ------
    DatasetError
        If there is no complete set.
    """
    for form in FORMS:
        for folder in (path, path / form.folder):
            if all((folder / name).is_file() for name in form.names):
                return form, partial(_read_file, folder)
    for form in FORMS:
        if (path / form.archive).is_file():
            return in_archive(path / form.archive)
    raise DatasetError(_nothing_found(path, sorted(entry.name for entry in path.iterdir())))


def in_archive(path: Path) -> tuple[Form, ContentOf]:
    """Find the first form whose files are in an archive, and read them.

    Parameters
    ----------
    path : Path

    Returns
    -------
    form : Form
    content_of : callable
        From a file's name to its content, and to what an error calls the file.

    Raises
    ------
    DatasetError
        If there is no complete set, or the archive is damaged, too large, or none.
    """
    members, names = _read_archive(path)
    for form in FORMS:
        if all(name in members for name in form.names):
            return form, lambda name: (members[name], f"{path}, member {name}")
    raise DatasetError(_nothing_found(path, names))


def _nothing_found(path: Path, found: list[str]) -> str:
    def listed(form: Form) -> str:
        names = form.names
        shown = ", ".join(names) if len(names) == 2 else f"{names[0]} to {names[-2]}, {names[-1]}"
        return f"{shown} ({form.title})"

    most = 12
    names = ", ".join(ascii(name)[1:-1] for name in found[:most]) or "nothing"
    if len(found) > most:
        names += f" and {len(found) - most} more"
    looked = "; ".join(listed(form) for form in FORMS)
    places = ", ".join(dict.fromkeys(form.folder for form in FORMS))
    archives = ", ".join(dict.fromkeys(form.archive for form in FORMS))
    return (
        f"data: {path} holds no complete set. Looked for {looked}, "
        f"there or under {places}; then for {archives}. Found {names}."
    )


def _read_file(folder: Path, name: str) -> tuple[bytes, str]:
    path = folder / name
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DatasetError(f"{path}: larger than {MOST_BYTES} bytes, so not a file of CIFAR's")
    return content, str(path)


class _Bounded:
    """A stream that ends in an error after `MOST_BYTES`.

    A small archive can unpack to any size, and the sizes that it states itself are not believed.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._left = MOST_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DatasetError(f"unpacks to more than {MOST_BYTES} bytes, so not one of CIFAR's")
        return content


def _read_archive(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """Read the wanted members, at the top or in a folder, by last name; and the names of all."""
    wanted = {name for form in FORMS for name in form.names}
    members: dict[str, bytes] = {}
    names: list[str] = []
    with contextlib.ExitStack() as stack:
        file: io.BufferedIOBase = stack.enter_context(open(path, "rb"))
        stack.enter_context(naming(str(path)))
        magic = file.read(265)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        elif magic[257:262] != b"ustar":
            raise DatasetError(
                "not an archive (.tar.gz or .tar); for unpacked files name the folder they are in"
            )
        stream: Any = _Bounded(file)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    names.append(member.name)
                    if len(names) > _MOST_MEMBERS:
                        raise DatasetError(f"more than {_MOST_MEMBERS} members")
                    *folders, name = PurePosixPath(member.name).parts or ("",)
                    if name not in wanted or len(folders) > 1 or {"/", ".."} & {*folders}:
                        continue
                    # A sparse member unpacks to zeros that the stream does not hold.
                    plain = member.isreg() and not member.issparse()
                    content = archive.extractfile(member) if plain else None
                    if content is None:
                        raise DatasetError(f"member {ascii(member.name)} is not a plain file")
                    if name in members:
                        raise DatasetError(f"more than one member is called {name}")
                    members[name] = content.read()
            while stream.read(1 << 20):  # up to gzip's own checksum
                pass
        except (DatasetError, MemoryError):
            raise
        except Exception as error:  # tarfile and gzip raise whatever a damaged header leads to
            raise DatasetError(f"damaged archive: {error or type(error).__name__}") from error
    return members, names


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the name of the file in front of what a `DatasetError` in the block says.

    Parameters
    ----------
    where : str

    Yields
    ------
    None

    Raises
    ------
    DatasetError
        That of the block, with the name.
    """
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from error.__cause__


# Reading one file --------------------------------------------------------------------------------
