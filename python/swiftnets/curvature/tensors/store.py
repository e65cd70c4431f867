"""Files of derivative tensors: NumPy's memory maps and Zarr stores, and the facts beside them."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

__all__ = ["FORMAT", "OLDER", "create", "flush", "open_store", "read_facts", "sidecar"]


def __dir__() -> list[str]:
    return __all__


FORMAT = "swiftnets derivative tensor 3"
# The same numbers, whose net and samples were described otherwise.
OLDER = ("swiftnets derivative tensor 1", "swiftnets derivative tensor 2")
_CHUNK = 1 << 20  # numbers


def read_facts(path: Path) -> dict[str, Any]:
    """What a file beside a tensor says; of no format where it is not what compute() writes."""
    try:
        facts = json.loads(path.read_text())
    except (ValueError, RecursionError):
        facts = None
    return facts if isinstance(facts, dict) and "format" in facts else {"format": None}


def sidecar(file: Path) -> Path:
    """The file of facts beside a tensor."""
    return file.with_name(file.name + ".json")


def create(file: Path, entries: int, order: int, count: int, dtype: np.dtype[Any]) -> Path:
    """Make an empty store beside its place, on disk, over what a killed run left there."""
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
    chunk = min(entries, _CHUNK)
    zarr = _zarr()
    packer = zarr.codecs.ZstdCodec()
    zarr.create_array(
        str(made), shape=(entries,), chunks=(chunk,), dtype=dtype, compressors=packer, zarr_format=3
    )
    return made


def _require_plain(file: Path, entries: int) -> None:
    """Refuse a Zarr store that is not as `create` makes them.

    Raises
    ------
    ValueError
        If it is not.

    Notes
    -----
    Zarr lets a store name any codec that is installed, those that unpickle among them, and parts of
    any size.
    """
    header = json.loads((file / "zarr.json").read_text())
    plain = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [entries],
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [min(entries, _CHUNK)]},
        },
        "storage_transformers": [],
    }
    for name, value in plain.items():
        if header[name] != value:
            raise ValueError(f"its {name} is {header[name]!r}; expected {value!r}")
    for codec in header["codecs"]:
        if codec["name"] not in ("bytes", "zstd"):
            raise ValueError(f"it names the codec {codec['name']!r}")


def open_store(file: Path, entries: int, *, writable: bool) -> Any:
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
            f"that {str(sidecar(file))!r} tells of"
        )
    return store


def _zarr() -> Any:
    try:
        import zarr

        if tuple(map(int, re.findall(r"\d+", zarr.__version__)[:3])) < (3, 1, 3):
            raise ImportError(f"zarr is {zarr.__version__}")
    except ImportError as error:
        raise ImportError(
            "a path ending in .zarr needs zarr 3.1.3 or later: pip install swiftnets[zarr]"
        ) from error
    return zarr


def flush(store: Any) -> None:
    """What was written is on disk before the state beside it says so."""
    base = store
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            base.flush()
        base = base.base
