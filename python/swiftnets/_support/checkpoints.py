"""Checkpoints: NumPy archives with a JSON header, never a pickle.

One is written to a file beside it, flushed to the disk and moved into place, so that whatever
happens there is a whole one: the last or the one before.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks, identity
from swiftnets._support.files import write_npz

ReadT = TypeVar("ReadT")
Settings: TypeAlias = dict[str, Any]

_KINDS = {
    "swiftnets checkpoint": "a SlowNet's or FastNet's checkpoint",
    "swiftnets optimizer checkpoint": "an optimizer's checkpoint",
    "swiftnets comparison run": "a run of compare()",
    "swiftnets dynamics checkpoint": "a checkpoint of swiftnets.dynamics",
    "swiftnets net": "a saved net",
}
_NET = "swiftnets net"


class CheckpointError(ValueError):
    """A checkpoint or a saved net that is damaged, or of another run or kind."""


def write_archive(
    path: Path,
    name: str,
    version: int,
    settings: Settings,
    arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write a checkpoint: a JSON header and arrays."""
    header = {"format": name, "version": version, "settings": settings, "arrays": [*arrays]}
    write_npz(path, {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays})


def read_archive(
    path: Path,
    name: str,
    version: int,
    of: Callable[[Settings, dict[str, Any]], ReadT],
    argument: str = "checkpoint",
) -> ReadT | None:
    """What `of` makes of a checkpoint's settings and arrays, or None if there is no such file."""
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(content) as archive:
            # Nothing is packed in what was saved: a small file must not unpack to a large one.
            if sum(member.file_size for member in archive.infolist()) > content.getbuffer().nbytes:
                raise ValueError("its members are larger than the file")
            damaged = archive.testzip()  # before NumPy believes a header
        if damaged is not None:
            raise ValueError(f"{damaged} does not match its checksum")
        content.seek(0)
        with np.load(content, allow_pickle=False) as members:
            arrays = dict(members)
        for member, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{member} is no array")
            # Of no numbers there may be endless rows.
            if math.prod(max(size, 1) for size in array.shape) > content.getbuffer().nbytes:
                raise ValueError(f"{member} has the shape {array.shape}")
        header = json.loads(arrays.pop("header").tobytes())
        kind, found = header["format"], header["version"]
        if kind not in _KINDS:
            raise ValueError(f"its format is {kind!r}")
        if lost := set(header.get("arrays", ())) - set(arrays):  # no checksum covers the directory
            raise ValueError(f"without {', '.join(sorted(lost))}")
        if (kind, found) == (name, version):
            return of(header["settings"], arrays)
    except CheckpointError:  # of no damage: `of` says itself what is wrong
        raise
    except Exception as error:  # zipfile, NumPy and json fail on damage in many ways
        what, advice = "no checkpoint", "; choose another path, or remove it to start anew"
        if name == _NET:
            what, advice = "no saved net", ""
        raise CheckpointError(
            f"{argument}: {path} is damaged or {what} ({type(error).__name__}: {error}){advice}"
        ) from error
    if kind != name:
        raise CheckpointError(
            f"{argument}: {path} is {_KINDS[kind]}, not {_KINDS[name]}; choose another path"
        )
    if name == _NET:
        raise CheckpointError(
            f"{argument}: {path} is of version {found}; this swiftnets reads {version}: read it "
            "with the swiftnets that wrote it"
        )
    why = ", as versions before told runs apart less surely" if found < version else ""
    raise CheckpointError(
        f"{argument}: {path} is of version {found}; this swiftnets reads {version}{why}: go on "
        "with the swiftnets that wrote it, or remove it to start anew"
    )


def require_settings(
    path: Path, there: Settings, here: Settings, argument: str = "checkpoint"
) -> None:
    """A CheckpointError that says which settings of a checkpoint differ from this run's."""
    differing = list(identity.differences(there, here))
    if differing:
        raise CheckpointError(f"{argument}: {path} is of another run: {'; '.join(differing)}")


def require_left(path: Path, done: int, asked: int, unit: str) -> None:
    """A CheckpointError if a run is further on than is asked for."""
    if done > asked:
        raise CheckpointError(
            f"checkpoint: {path} has {checks.counted(done, unit)} behind it, more than the {asked} "
            "asked for"
        )
