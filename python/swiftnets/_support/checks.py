"""What users pass in, checked: a message names the argument, what came and what was expected.

Nothing here is public. Arrays come out as the engine takes them: float64, C-contiguous, aligned; an
array that is so already is passed on without a copy, in about a microsecond.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import numbers
import operator
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import Array as Array
from swiftnets._support.types import Pair as Pair

Shape: TypeAlias = tuple[int | str, ...]

_FLOAT64 = np.dtype(np.float64)
_LARGEST_SIZE = 2**31 - 1  # LAPACK counts in 32 bits
_MOST_ENTRIES = 2**20


# Scalars -----------------------------------------------------------------------------------------


def real(value: object, name: str, *, positive: bool = False) -> float:
    """A finite number, above 0 where `positive`."""
    expected = "a finite number above 0" if positive else "a finite number"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {_shown(value)}; expected {expected}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest float
        number = math.inf
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{name} is {_shown(value)}; expected {expected}")
    return number


def nonnegative(value: object, name: str) -> float:
    """A finite number that is not below 0."""
    number = real(value, name)
    if number < 0:
        raise ValueError(f"{name} is {value!r}; expected a number that is not negative")
    return number


def scalar(value: object, name: str) -> float | complex:
    """A finite real or complex number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Complex):
        raise TypeError(f"{name} is {_shown(value)}; expected a finite number")
    if isinstance(value, numbers.Real):
        return real(value, name)
    number = complex(value)
    if not (math.isfinite(number.real) and math.isfinite(number.imag)):
        raise ValueError(f"{name} is {number}; expected a finite number")
    return number


def integer(value: object, name: str, least: int = 1, most: int = _LARGEST_SIZE) -> int:
    """An integer in the range ``least .. most``."""
    expected = f"an integer from {least} to {most}"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; expected {expected}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # it says itself what fits
    except TypeError:
        raise TypeError(f"{name} is {_shown(value)}; expected {expected}") from None
    if not least <= number <= most:
        raise ValueError(f"{name} is {_shown(number)}; expected {expected}")
    return number


def flag(value: object, name: str) -> bool:
    """True or False, and nothing that only counts as such: "no" does, for one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {_shown(value)}; expected True or False")
    return bool(value)


def function(value: object, name: str, of: str) -> None:
    """A TypeError if it cannot be called; `of` says with what it is."""
    if not callable(value):
        raise TypeError(f"{name} is {_shown(value)}; expected a function of {of}")


def path(value: Any, name: str) -> Path:
    try:
        return Path(os.fsdecode(value))
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {_shown(value)}; expected a path") from None


def iterable(value: object) -> bool:
    """Arrays of no dimensions are not, though they have the method."""
    return isinstance(value, Iterable) and getattr(value, "shape", None) != ()


def several(value: Iterable[Any], name: str) -> list[Any]:
    """The entries, which may be made one by one and without an end."""
    entries = list(itertools.islice(value, _MOST_ENTRIES + 1))
    if len(entries) > _MOST_ENTRIES:
        raise ValueError(f"{name} has over {_MOST_ENTRIES} entries; expected at most as many")
    return entries


def ends(value: object, name: str) -> None:
    """A ValueError for what goes round for ever; of most others nobody can tell."""
    kinds = (itertools.cycle, itertools.repeat)
    if isinstance(value, kinds) and operator.length_hint(value, -1) < 0:
        raise ValueError(
            f"{name} is of type {type(value).__name__}, which has no end; expected batches that "
            "end, as itertools.islice makes them"
        )


def length(value: object) -> int:
    """Its length, 0 where it tells none."""
    try:
        return len(value)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):  # there is none, or as PyTorch's samplers have it
        return 0


def seed(value: object) -> int | None:
    """None, or what NumPy's legacy generator takes."""
    return None if value is None else integer(value, "seed", 0, 2**32 - 1)


def floating(value: Any, name: str) -> np.dtype[Any]:
    """float64 or float32."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):  # a name that is no text, too
        raise TypeError(f"{name} is {value!r}; expected float64 or float32") from None
    if dtype not in (np.float64, np.float32) or not dtype.isnative:
        raise ValueError(f"{name} is {dtype}; expected float64 or float32")
    return dtype


def choice(value: object, name: str, choices: tuple[str, ...]) -> int:
    """The index of `value` among `choices`."""
    if isinstance(value, str) and value in choices:
        return choices.index(value)
    error = ValueError if isinstance(value, str) else TypeError
    raise error(
        f"{name} is {_shown(value)}; expected {' or '.join(map(repr, choices))}"
        f"{_suggestion(value, choices)}"
    )


def alias(value: object, name: str, choices: tuple[str, ...], ending: str = "") -> str:
    """The one of `choices` that `value` names, as they or other libraries write it.

    Parameters
    ----------
    value : object
    name : str
    choices : tuple of str
    ending : str
        What a name may end in, such as "loss".

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        If it names none.
    """
    if isinstance(value, str) and value not in choices:
        plain = _plain(value, ending)
        known = _ALIASES.get(plain)
        for one in choices:
            if one == known or _plain(one) == plain:
                return one
    return choices[choice(value, name, choices)]


# What other libraries call the same, without cases and hyphens.
_ALIASES = {
    "bce": "binary_cross_entropy",
    "bcewithlogits": "binary_cross_entropy",
    "binarycrossentropy": "binary_cross_entropy",
    "binarycrossentropywithlogits": "binary_cross_entropy",
    "categoricalcrossentropy": "softmax_cross_entropy",
    "crossentropy": "softmax_cross_entropy",
    "geluapproximate": "gelu_tanh",
    "gelunew": "gelu_tanh",
    "gelupytorchtanh": "gelu_tanh",
    "id": "identity",
    "linear": "identity",
    "logistic": "sigmoid",
    "meansquarederror": "squared_error",
    "mse": "squared_error",
    "rectifier": "relu",
    "sin": "sine",
    "smoothl1": "huber",
    "softmaxcrossentropywithlogits": "softmax_cross_entropy",
    "sparsecategoricalcrossentropy": "softmax_cross_entropy",
    "swish": "silu",
}
# What they call something near, or may mean otherwise.
_ELSEWHERE = _ALIASES | {
    "average": "mean",
    "avg": "mean",
    "kaiming": "he",
    "log": "binary_cross_entropy",  # log_loss
    "nll": "softmax_cross_entropy",
    "softmax": "identity",  # of logits, which the cross-entropies take
    "xavier": "glorot",
}


def _plain(name: str, ending: str = "") -> str:
    """A name without cases and hyphens, and without the word that says what it is."""
    return name.lower().translate(str.maketrans("", "", "_- ")).removesuffix(ending)


def _suggestion(value: object, choices: tuple[str, ...]) -> str:
    """Of a name's spelling, or for a function, a class or an object of that name."""
    import difflib  # late: only mistakes need it

    name = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
    known = _ELSEWHERE.get(_plain(name, "loss"))
    name = name.lower().removesuffix("loss")
    close = [known] if known in choices else difflib.get_close_matches(name, choices, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _shown(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of more digits than Python prints
        text = "…" * 61
    return text if len(text) <= 60 else f"{text[:40]}… of type {type(value).__name__}"


# Arrays ------------------------------------------------------------------------------------------


def array(
    value: Any, name: str, shape: Shape, dtype: np.dtype[Any] = _FLOAT64, empty: bool = False
) -> npt.NDArray[Any]:
    """`value` as the engine takes it.

    Parameters
    ----------
    value : array_like
        Bools, integers and floats up to 64 bits convert; what could lose something is refused,
        except that floats are rounded to float32 where that is the dtype asked for.
    name : str
    shape : tuple of int or str
        A string names a size that is free, but not 0 unless `empty`.
    dtype : numpy.dtype
    empty : bool

    Returns
    -------
    array
        Itself where it is so already.

    Raises
    ------
    TypeError
        If its numbers do not convert.
    ValueError
        If it has another shape.
    """
    if not (
        type(value) is np.ndarray
        and value.dtype == dtype
        and value.flags.c_contiguous
        and value.flags.aligned
    ):
        value = _converted(value, name, dtype)
    actual = value.shape
    if len(actual) != len(shape):
        raise ValueError(f"{name} has shape {actual}; expected {_text(shape)}")
    for size, expected in zip(actual, shape, strict=True):
        if size == 0 and not empty:
            raise ValueError(f"{name} is empty, of shape {actual}; expected {_text(shape)}")
        if size != expected and not isinstance(expected, str):
            raise ValueError(f"{name} has shape {actual}; expected {_text(shape)}")
    return value  # type: ignore[no-any-return]


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def dimensions(value: Any, name: str) -> int:
    """How many dimensions `value` has as an array."""
    return value.ndim if type(value) is np.ndarray else unconverted(value, name).ndim


def _converted(value: Any, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    raw = unconverted(value, name)
    if raw.dtype.kind not in "biuf" or not np.can_cast(raw.dtype, _FLOAT64, "safe"):
        # What NumPy knows no rows of is one object to it.
        single = raw.ndim == 0 and not isinstance(value, (np.ndarray, np.generic, complex))
        what = f"is {_kind(value, name)}" if single else f"has dtype {raw.dtype}"
        raise TypeError(f"{name} {what}; expected real numbers that convert to {dtype} safely")
    return np.require(raw, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def unconverted(value: Any, name: str) -> npt.NDArray[Any]:
    """`value` as an array of its own dtype; a tensor of PyTorch that records gradients, too."""
    rows = value if isinstance(value, (list, tuple)) else (value,)
    if any(isinstance(row, np.ma.MaskedArray) for row in rows):
        what = "is a masked array" if rows is not value else "has masked arrays in it"
        raise TypeError(f"{name} {what}; expected one without a mask (see .filled)")
    try:
        if hasattr(value, "detach"):
            value = value.detach()
            if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # which NumPy has not
                value = value.float()
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        found = np.asarray(value)
        # Of ml_dtypes, which JAX brings: each is a float32 as well.
        return found.astype(np.float32) if found.dtype.name == "bfloat16" else found
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(
            f"{name} is {_kind(value, name)} and makes no array ({error}); expected real numbers"
        ) from None


def _kind(value: object, name: str) -> str:
    """The type of what is no array, and where it may belong."""
    if value is None:
        return "None, or missing"
    of = f"of type {type(value).__name__}"
    if hasattr(value, "toarray"):
        return f"{of} (see .toarray)"
    pairs = isinstance(value, (list, tuple)) and any(isinstance(row, tuple) for row in value)
    others = hasattr(value, "__iter__") and not isinstance(value, (list, tuple, str, bytes, dict))
    if name in ("x", "y") and (pairs or others and not hasattr(value, "__array__")):
        return f"{of} (sums over samples take batches in place of x, with y=None)"
    return of


def is_text(value: npt.NDArray[Any]) -> bool:
    """Whether an array has strings, as NumPy or pandas hold them."""
    if value.dtype.kind == "O":
        return any(isinstance(one, str) for one in value.flat)
    return value.dtype.kind in "UT"


def all_text(value: Any, name: str) -> None:
    """A TypeError where labels (N,) are not all strings: NumPy makes text of a list's NaN."""
    if isinstance(value, (list, tuple)) or value.dtype.kind == "O":
        for index, one in enumerate(value):
            if not isinstance(one, str):
                raise TypeError(
                    f"{name}[{index}] is {_shown(one)}, beside text; expected labels of one kind"
                )


def labels(value: Any, name: str, count: int, classes: int) -> npt.NDArray[np.int64]:
    """`count` class labels below `classes`, as the engine takes them."""
    raw = unconverted(value, name)
    expected = f"{count} integers from 0 to {classes - 1}"
    if raw.dtype.kind not in "iu" or not np.can_cast(raw.dtype, np.int64, "same_kind"):
        raise TypeError(f"{name} has dtype {raw.dtype}; expected {expected}")
    if raw.shape != (count,):
        raise ValueError(f"{name} has shape {raw.shape}; expected ({count},)")
    # A copy is checked: another thread may be writing to the caller's array.
    found = np.array(raw, order="C")
    if found.min() < 0 or found.max() >= classes:
        index = int(np.argmax((found < 0) | (found >= classes)))
        raise ValueError(f"{name} has {found[index]} at {index}; expected {expected}")
    return found.astype(np.int64, copy=False)


def tokens(value: Any, name: str, length: int, vocabulary: int) -> npt.NDArray[np.int64]:
    """Rows of `length` tokens below `vocabulary`, as the engine takes them."""
    raw = unconverted(value, name)
    expected = f"(N, {length}) integers from 0 to {vocabulary - 1}: tokens"
    if raw.dtype.kind not in "iu" or not np.can_cast(raw.dtype, np.int64, "same_kind"):
        raise TypeError(f"{name} has dtype {raw.dtype}; expected {expected}")
    if raw.ndim != 2 or raw.shape[1] != length:
        raise ValueError(f"{name} has shape {raw.shape}; expected {expected}")
    if len(raw) == 0:
        raise ValueError(f"{name} is empty, of shape {raw.shape}; expected {expected}")
    # A copy, as of labels.
    found = np.array(raw, order="C")
    if found.min() < 0 or found.max() >= vocabulary:
        where = [int(index) for index in np.argwhere((found < 0) | (found >= vocabulary))[0]]
        raise ValueError(f"{name} has {found[tuple(where)]} at {where}; expected {expected}")
    return found.astype(np.int64, copy=False)


def finite(value: Array, name: str) -> None:
    """A ValueError that says where, if an entry is not finite."""
    good = np.isfinite(value)
    if not good.all():
        where = [int(index) for index in np.argwhere(~good)[0]]
        count = int(good.size - np.count_nonzero(good))
        others = f" and {count - 1} more that are not finite" if count > 1 else ""
        raise ValueError(
            f"{name} has {value[tuple(where)]} at {where}{others}; expected finite numbers"
        )


def weights(value: Any, name: str, shape: Shape) -> Array:
    """A copy of weights that a user gives: later changes to the user's array do not reach it."""
    result = array(value, name, shape)
    finite(result, name)
    return np.array(result)


def batch(xs: Any, ys: Any, insize: int | str, outsize: int | str, of: str = "") -> Pair:
    """Inputs and targets with as many rows; `of` says which batch, for the message."""
    xs = array(xs, f"xs{of}", ("n", insize))
    return xs, array(ys, f"ys{of}", (len(xs), outsize))


def batches(value: Any, name: str, insize: int | str, outsize: int | str) -> Iterator[Pair]:
    """The batches of a data set one by one: finite, of one width, each as `batch` gives it."""
    if isinstance(value, (str, bytes, dict)) or not iterable(value):
        raise TypeError(f"{name} is {_shown(value)}; expected a list of pairs (xs, ys)")
    ends(value, name)
    empty = True
    for index, pair in enumerate(value):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{name}[{index}] is {_shown(pair)}; expected a pair (xs, ys)")
        of = f" of {name}[{index}]"
        xs, ys = pair
        xs, ys = batch(xs, ys, insize, outsize, of)
        finite(xs, f"xs{of}")
        finite(ys, f"ys{of}")
        insize, outsize, empty = xs.shape[1], ys.shape[1], False
        yield xs, ys
    if empty:
        raise ValueError(f"{name} is empty; expected at least one pair (xs, ys)")


def explain(error: FloatingPointError, **arrays: Array) -> FloatingPointError:
    """After the engine met a number that is not finite: a ValueError if it was there before.

    So that finiteness costs nothing as long as it holds: every infinity or NaN in an argument
    reaches the loss, which the engine looks at, or returns.

    Parameters
    ----------
    error : FloatingPointError
    **arrays : float arrays
        The arguments by their names.

    Returns
    -------
    FloatingPointError
        The error, with a note, where all of them are finite.
    """
    for name, value in arrays.items():
        finite(value, name)
    error.add_note("All arguments are finite: numbers grew beyond float64 on the way.")
    return error


def loss(value: float, **arrays: Array) -> float:
    """`value`, if it is finite; else what `explain` makes of the arrays that it comes from."""
    if not math.isfinite(value):
        raise explain(FloatingPointError(f"the loss is {value}"), **arrays)
    return value


# Memory ------------------------------------------------------------------------------------------


def memory(needed: int, what: str) -> None:
    """A MemoryError before allocating what this machine, or this container, cannot hold."""
    limit = _memory_limit()
    if needed > limit:
        raise MemoryError(
            f"{what} would need {needed:,} bytes ({readable(needed)}) of memory, and there are "
            f"{limit:,} ({readable(limit)})"
        )


def fits(needed: int) -> bool:
    """Whether this machine, or this container, could hold so many bytes."""
    return needed <= _memory_limit()


class Room:
    """Memory for what comes one by one, and is kept to an end that may not come.

    Parameters
    ----------
    name : str
        Of the argument that gives it.
    """

    def __init__(self, name: str) -> None:
        self._name, self._bytes, self._count = name, 0, 0
        self._free = _free_memory()

    def take(self, *arrays: npt.NDArray[Any] | None) -> None:
        """A MemoryError where a batch of these arrays, kept as well, leaves none."""
        self._bytes += sum(array.nbytes for array in arrays if array is not None)
        if self._bytes > self._free:
            raise MemoryError(
                f"{self._name} has given {readable(self._bytes)} with batch {self._count}, all of "
                f"it kept, and {readable(self._free)} of memory were free; expected batches that "
                "end before"
            )
        self._count += 1


def counted(count: int, what: str) -> str:
    """A number of things in words."""
    return f"{count} {what}{'s' * (count != 1)}"


def readable(size: int) -> str:
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g} {units[0]}"


def _free_memory() -> int:
    limit = _memory_limit()
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2]
        limit = min(limit, 1024 * int(text.split()[0]))
    return limit


def _memory_limit() -> int:
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups, version 2 and 1
        try:
            limit = min(limit, int(Path("/sys/fs/cgroup", file).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return limit
