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

_HASH, _OTHER = "blake2b ", ": other data"
_MOST_SHOWN = 60  # characters of a setting in a message


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


def settings(thing: Any, name: str = "") -> Any:
    """What tells `thing` from others of its type, and its type, the same in every process.

    Parameters
    ----------
    thing : object
        An object by its ``settings()`` where it has them (a net, a problem, an optimiser), a
        dataclass by its fields, a function or class by its name, an array by its hash, and what
        JSON holds as it is; lists and mappings of these.
    name : str
        What it is called, for the message.

    Returns
    -------
    object
        As JSON holds it.

    Raises
    ------
    TypeError
        For anything else: what its repr shows may be too little, or another thing in each process.
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
        return settings(thing.tolist(), name)
    if hasattr(thing, "__array__") and not isinstance(thing, type):
        return digest([checks.unconverted(thing, name)])
    if isinstance(thing, Mapping):
        return {str(key): settings(value, _inner(name, str(key))) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [settings(value, name) for value in thing]
    kind = type(thing)
    can_tell = callable(getattr(kind, "settings", None))
    if can_tell and (own := thing.settings()) is not None:
        return {"type": kind.__qualname__, **settings(own, name)}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {one.name: getattr(thing, one.name) for one in dataclasses.fields(thing)}
        return {"type": kind.__qualname__, **settings(fields, name)}
    if hasattr(thing, "__qualname__"):
        return {"type": kind.__qualname__, "name": thing.__qualname__}
    if can_tell:  # it has none, and says so
        return {"type": kind.__qualname__}
    raise TypeError(
        f"{name or 'a setting'} is of type {kind.__name__}; expected what tells runs apart: "
        "numbers, strings, arrays, functions, dataclasses, objects with a method settings(), or "
        "lists and mappings of these"
    )


def _inner(name: str, key: str) -> str:
    return f"{name}'s {key}" if name else key


def is_known(thing: Any) -> bool:
    """Whether the type of `thing` itself, not one that it inherits from, has `settings`."""
    return callable(vars(type(thing)).get("settings"))


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """What settings of one run differ from those of another, in words."""
    if isinstance(there, dict) and isinstance(here, dict) and there.get("type") == here.get("type"):
        for key in dict.fromkeys([*here, *there]):
            yield from differences(there.get(key), here.get(key), _inner(name, key))
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        words = [w for pair in zip(there, here, strict=True) for w in differences(*pair)]
        if any(word.endswith(_OTHER) for word in words):
            yield f"{name}{_OTHER}"
        elif words:
            yield f"{name} is {_shown(there)} there and {_shown(here)} here"
    elif there == here or (there != there and here != here):  # NaN is the same as NaN
        return
    elif _has_hash(there) or _has_hash(here):
        yield f"{name}{_OTHER}"
    else:
        yield f"{name} is {_shown(there)} there and {_shown(here)} here"


def _has_hash(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_hash, value))
    return isinstance(value, str) and value.startswith(_HASH)


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        return str(value["type"])
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
