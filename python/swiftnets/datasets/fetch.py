"""CIFAR-100 from the network: the one part of the package that opens a connection."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

from swiftnets._support import checks
from swiftnets._support.streams import StandardError
from swiftnets.datasets.forms import PYTHON100

__all__ = [
    "FetchError",
    "fetch_cifar100",
]


def __dir__() -> list[str]:
    return __all__


class FetchError(OSError):
    """A download failed; the message says how, and whether calling again goes on from there."""


_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
_SIZE = 169_001_437
_ATTEMPTS = 5
_LONGEST_TIMEOUT = 1e9  # seconds; sockets take no more than some 9e9


def fetch_cifar100(
    dest: str | os.PathLike[str],
    *,
    url: str = _URL,
    md5: str = _MD5,
    size: int = _SIZE,
    progress: bool = True,
    timeout: float = 30.0,
) -> Path:
    """Download CIFAR-100's python form (169 MB), or go on with a download that was interrupted.

    Bytes are collected in ``cifar-100-python.tar.gz.part`` and get their final name only when size
    and checksum are right. A right file is left alone, without a look at the network; a wrong one
    under the final name counts as an interrupted download. A connection that breaks is taken up
    again, a few times and as long as bytes arrive; a server that cannot resume starts over.

    Parameters
    ----------
    dest : path
        A folder; made if it does not exist. `swiftnets.datasets.load` finds the file in it.
    url, md5, size
        Where the archive is, by http or https, the MD5 of its content in hexadecimal, and its
        length in bytes. MD5 is what upstream publishes: it recognises damage, not forgery.
    progress : bool
        Draw a bar with tqdm, if it is installed.
    timeout : float
        Seconds without an answer after which the server is given up.

    Returns
    -------
    Path
        Of the archive.

    Raises
    ------
    FetchError
        If the server cannot be reached, refuses, offers a file of another size, or stops (what has
        arrived is kept, and calling again resumes), or if the checksum is wrong (what has arrived
        is deleted). It is an `OSError`.
    ValueError
        If `url` is neither http nor https, or `md5`, `size` or `timeout` is out of its range.
    TypeError
        If an argument is of a wrong type.

    Examples
    --------
    >>> from swiftnets import datasets
    >>> archive = datasets.fetch_cifar100("data")  # doctest: +SKIP
    >>> datasets.load(archive).train_images.shape  # doctest: +SKIP
    (50000, 3072)
    """
    md5 = md5.lower() if isinstance(md5, str) else md5
    if not isinstance(md5, str) or not re.fullmatch("[0-9a-f]{32}", md5):
        raise ValueError(f"md5 is {md5!r}; expected 32 hexadecimal digits")
    size = checks.integer(size, "size", 1, 2**63 - 1)
    timeout = min(checks.real(timeout, "timeout", positive=True), _LONGEST_TIMEOUT)
    if not isinstance(url, str) or not re.match("https?://", url, re.IGNORECASE):
        raise ValueError(f"url is {url!r}; expected an address with http or https")
    folder, progress = checks.path(dest, "dest"), checks.flag(progress, "progress")
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{PYTHON100}.tar.gz"
    part = final.with_name(f"{final.name}.part")
    if final.is_file():
        if _length(final) == size and _md5(final) == md5:
            return final
        if part.exists():
            final.unlink()
        else:
            final.replace(part)
    if _length(part) > size:
        part.unlink()

    failure = ""
    resumed = False
    for _ in range(_ATTEMPTS):
        before = _length(part)
        resumed = resumed or before > 0
        if before < size:
            try:
                _transfer(url, part, size, progress, timeout)
                failure = "the connection was closed"
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not before:
                    raise FetchError(f"{url}: HTTP {error.code} {error.reason}") from error
                part.unlink()  # the server's file is shorter than what we have
                resumed = False
                continue
            except FetchError:
                raise
            except (OSError, http.client.HTTPException) as error:
                failure = str(getattr(error, "reason", "") or error or type(error).__name__)
        length = _length(part)
        if length == size:
            found = _md5(part)
            if found == md5:
                part.replace(final)
                return final
            part.unlink()
            if not resumed:
                raise FetchError(
                    f"{url}: wrong content: MD5 {found}, expected {md5}; it was deleted"
                )
            failure = f"what had been downloaded before was wrong (MD5 {found}) and was deleted"
            resumed = False
        elif length <= before:
            break
    raise FetchError(
        f"{url}: stopped at {_length(part)} of {size} bytes: {failure}; call again to resume"
    )


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _transfer(url: str, part: Path, size: int, progress: bool, timeout: float) -> None:
    """Append to `part` what the server sends; less than all of it is not an error here."""
    start = _length(part)
    headers = {"User-Agent": "swiftnets", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    with contextlib.ExitStack() as stack:
        response = stack.enter_context(urllib.request.urlopen(request, timeout=timeout))
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise FetchError(f"{url}: the server answered with another range than asked for")
        if response.length is not None and start + response.length != size:
            raise FetchError(
                f"{url}: the server offers {start + response.length} bytes, expected {size}"
            )
        report = stack.enter_context(_progress_bar(part.stem, start, size, progress))
        file = stack.enter_context(open(part, "ab" if start else "wb"))
        length = start
        while block := response.read(1 << 16):
            length += len(block)
            if length > size:
                raise FetchError(f"{url}: the server sends more than the expected {size} bytes")
            file.write(block)
            report(len(block))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _progress_bar(
    name: str, start: int, size: int, wanted: bool
) -> Iterator[Callable[[int], object]]:
    if wanted:
        try:
            from tqdm import tqdm
        except ImportError:
            wanted = False
    if not wanted:
        yield lambda _: None
        return
    shown = {"unit": "B", "unit_scale": True, "file": StandardError()}
    with tqdm(desc=name, initial=start, total=size, **shown) as bar:
        yield bar.update
