"""What tells runs and files apart: settings to the last bit, data by hash. Nothing here is public.

Settings are what JSON holds, floats as the shortest digits that read back to the same number, so
that they come back equal from a file. An array stands in them by its hash: not by sums, which
hardly differ for data that do, nor by losses, which other machines round otherwise. The formats
that hold settings have versions; a change of what is said here makes a new version of each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks

_HASH, _OTHER = "blake2b ", " other data"


def digest(arrays: Iterable[npt.NDArray[Any] | None]) -> str:
    """A hash (RFC 7693) of arrays in this order, their dtypes and shapes; None is one, too."""
    found = hashlib.blake2b(digest_size=20)
    for array in arrays:
        if array is None:
            found.update(b"none")
        else:
            found.update(f"{array.dtype.str}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return _HASH + found.hexdigest()


def settings(thing: Any) -> Any:
    """What tells `thing` from others of its type, and its type, the same in every process.

    Parameters
    ----------
    thing : object
        A net or problem (by its ``settings()``), a dataclass such as an optimiser (by its fields),
        an array, or what JSON holds. Anything else is known by its name if it has one, as functions
        have, else by its type, and its repr where the type has one of its own.
    """
    if thing is None or isinstance(thing, (bool, str)):
        return thing
    if isinstance(thing, np.bool_):
        return bool(thing)
    if isinstance(thing, numbers.Integral):
        return int(thing)
    if isinstance(thing, numbers.Real):
        return float(thing)
    if isinstance(thing, np.ndarray) and thing.dtype.hasobject:
        return settings(thing.tolist())
    if hasattr(thing, "__array__") and not isinstance(thing, type):
        return digest([checks._raw(thing, "a setting")])
    if isinstance(thing, Mapping):
        return {str(name): settings(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [settings(value) for value in thing]
    kind = type(thing)
    told = thing.settings() if callable(getattr(kind, "settings", None)) else None
    if told is not None:
        return {"type": kind.__qualname__, **settings(told)}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {one.name: getattr(thing, one.name) for one in dataclasses.fields(thing)}
        return {"type": kind.__qualname__, **settings(fields)}
    if hasattr(thing, "__qualname__"):
        return {"type": kind.__qualname__, "name": thing.__qualname__}
    if "__repr__" not in {name for base in kind.__mro__[:-1] for name in vars(base)}:
        return {"type": kind.__qualname__}
    return {"type": kind.__qualname__, "repr": repr(thing)}


def is_known(thing: Any) -> bool:
    """Whether the type of `thing` itself, not one that it inherits from, tells its settings."""
    return callable(vars(type(thing)).get("settings"))


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """What settings of one run differ from those of another, in words."""
    if isinstance(there, dict) and isinstance(here, dict) and there.get("type") == here.get("type"):
        for key in dict.fromkeys([*here, *there]):
            inner = f"{name}'s {key}" if name else key
            yield from differences(there.get(key), here.get(key), inner)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        words = [w for pair in zip(there, here, strict=True) for w in differences(*pair)]
        if any(word.endswith(_OTHER) for word in words):
            yield f"{name} is{_OTHER}"
        elif words:
            yield f"{name} is {_shown(there)} there and {_shown(here)} here"
    elif there == here or (there != there and here != here):  # NaN is the same as NaN
        return
    elif _has_hash(there) or _has_hash(here):
        yield f"{name} is{_OTHER}"
    else:
        yield f"{name} is {_shown(there)} there and {_shown(here)} here"


def _has_hash(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_hash, value))
    return isinstance(value, str) and value.startswith(_HASH)


def _shown(value: Any) -> str:
    return str(value["type"]) if isinstance(value, dict) and "type" in value else repr(value)
