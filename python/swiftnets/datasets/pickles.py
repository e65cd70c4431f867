"""Pickles, read by a small interpreter of the few operations that data files consist of.

It knows no classes, imports nothing and calls nothing that a file names.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from swiftnets.datasets.forms import DatasetError

__all__ = [
    "MOST_OPERATIONS",
    "PickleReader",
    "PickledArray",
]


def __dir__() -> list[str]:
    return __all__


# An operation of a pickle takes one byte of the file and up to some 100 of memory. CIFAR's largest
# file has 0.3 million.
MOST_OPERATIONS = 4_000_000


class _Name(enum.Enum):
    """What a pickle may name. These are marks for the reader, not the functions themselves."""

    ENCODE = enum.auto()
    BYTES = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()
    RECONSTRUCT = enum.auto()
    FROMBUFFER = enum.auto()


_NAMES = {
    # Python 3 writes bytes so at protocol 2.
    ("_codecs", "encode"): _Name.ENCODE,
    ("__builtin__", "bytes"): _Name.BYTES,
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    # NumPy 1 and NumPy 2; the last two at protocol 5.
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _Name.FROMBUFFER,
    ("numpy._core.numeric", "_frombuffer"): _Name.FROMBUFFER,
}


class _PickledDtype:
    """A dtype in the making: the code of an integer, then its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "|" if code.endswith("1") else "="


class PickledArray:
    """An array in the making. Nothing is allocated for it: `array` looks at the file's bytes."""

    def __init__(self) -> None:
        self.shape: tuple[Any, ...] = (0,)
        self.dtype = _PickledDtype("u1")
        self.order: Literal["C", "F"] = "C"
        self.content: bytes = b""

    def array(self) -> npt.NDArray[Any]:
        """View the file's bytes as the array that they are.

        Returns
        -------
        array of integers

        Raises
        ------
        DatasetError
            If shape and dtype do not fit the bytes.
        """
        dtype = np.dtype(self.dtype.order + self.dtype.code)
        sizes = self.shape
        if len(sizes) > 2 or not all(type(size) is int and 0 <= size < 1 << 40 for size in sizes):
            raise DatasetError("an array has neither one dimension nor two, or an impossible one")
        if math.prod(sizes) * dtype.itemsize != len(self.content):
            raise DatasetError(
                f"an array of shape {sizes} and dtype {dtype} has {len(self.content)} bytes, "
                f"expected {math.prod(sizes) * dtype.itemsize}"
            )
        return np.frombuffer(self.content, dtype).reshape(sizes, order=self.order)


class PickleReader:
    """A reader of pickles whose values are numbers, strings, lists, dictionaries, integer arrays.

    Protocols 2 to 5 are read, and Python 2's strings come as bytes. Anything else, and anything
    called or built with arguments other than those that NumPy and Python write, is a
    `DatasetError`. The work and the memory are proportional to the file.

    Parameters
    ----------
    content : bytes
        The file.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def read(self) -> dict[bytes, Any]:
        """Read the whole file, one dictionary.

        Returns
        -------
        dict
            Arrays as `PickledArray`.

        Raises
        ------
        DatasetError
            If the pickle is damaged, hostile, too long, or holds something else.
        """
        try:
            for _ in range(MOST_OPERATIONS):
                operation = self._take(1)
                if operation == b".":
                    return self._result()
                action = _ACTIONS.get(operation)
                if action is None:
                    self._refuse(f"operation {operation!r}, which data files do not need")
                action(self)
        except (IndexError, KeyError, UnicodeError) as error:
            raise DatasetError(
                f"damaged pickle at byte {self._position}: {type(error).__name__}"
            ) from error
        raise DatasetError(f"a pickle of more than {MOST_OPERATIONS} operations")

    def _result(self) -> dict[bytes, Any]:
        if len(self._stack) != 1 or not isinstance(self._stack[0], dict):
            raise DatasetError("the pickle holds something other than one dictionary")
        if self._position != len(self._content):
            excess = len(self._content) - self._position
            raise DatasetError(f"damaged pickle: {excess} bytes after its end")
        return self._stack[0]

    def _refuse(self, what: str) -> NoReturn:
        raise DatasetError(
            f"not a pickle of images, or a hostile one: at byte {self._position} it has {what}; "
            "nothing of it was run"
        )

    def _take(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        if self._position > len(self._content):
            raise DatasetError(
                f"truncated: {size} bytes expected at byte {start}, "
                f"and the file has {len(self._content)}"
            )
        return self._content[start : self._position]

    def _number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _pop_to_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    # Operations

    def _skip(self, size: int) -> None:
        self._take(size)

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _push_list(self) -> None:
        self._stack.append([])

    def _push_dictionary(self) -> None:
        self._stack.append({})

    def _push_number(self, size: int, signed: bool = False) -> None:
        self._stack.append(self._number(size, signed))

    def _push_long(self) -> None:
        self._stack.append(self._number(self._number(1), signed=True))

    def _push_bytes(self, size: int) -> None:
        self._stack.append(self._take(self._number(size)))

    def _push_text(self, size: int) -> None:
        self._stack.append(str(self._take(self._number(size)), "utf-8"))

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _tuple(self, size: int) -> None:
        items = tuple(self._stack.pop() for _ in range(size))
        self._stack.append(items[::-1])

    def _tuple_to_mark(self) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            self._refuse("items for something that is no list")
        target.extend(items)

    def _append_one(self) -> None:
        self._append([self._stack.pop()])

    def _append_to_mark(self) -> None:
        self._append(self._pop_to_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            self._refuse("entries for something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Also because hashing tuples nested deeply enough would exhaust the C stack.
            if not isinstance(key, (bytes, str)):
                self._refuse("a key that is no string")
            target[key] = value

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _set_to_mark(self) -> None:
        self._set(self._pop_to_mark())

    def _put(self, size: int) -> None:
        self._memo[self._number(size)] = self._stack[-1]

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, size: int) -> None:
        self._stack.append(self._memo[self._number(size)])

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in _NAMES:
            self._refuse(f"the name {ascii(f'{module}.{name}'[:80])}")
        self._stack.append(_NAMES[module, name])

    def _name_in_lines(self) -> None:
        lines = self._content[self._position : self._position + 256].split(b"\n", 2)
        if len(lines) < 3:
            self._refuse("a name without an end")
        self._position += len(lines[0]) + len(lines[1]) + 2
        self._name(str(lines[0], "utf-8"), str(lines[1], "utf-8"))

    def _name_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            self._refuse("a name that is no string")
        self._name(module, name)

    def _call(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            self._refuse("a call of something that is no function")
        self._stack.append(self._called(called, arguments))

    def _called(self, called: _Name, arguments: tuple[Any, ...]) -> object:
        types = tuple(type(argument) for argument in arguments)
        if called is _Name.BYTES and not arguments:
            return b""
        if called is _Name.ENCODE and types == (str, str) and arguments[1] == "latin1":
            text: str = arguments[0]
            # One string, encoded again and again, would fill the memory.
            self._encoded += len(text)
            if self._encoded <= len(self._content):
                return text.encode("latin-1")
        if called is _Name.RECONSTRUCT and arguments[:1] == (_Name.NDARRAY,):
            return PickledArray()
        if called is _Name.DTYPE and len(arguments) == 3 and types[0] in (bytes, str):
            code = arguments[0] if types[0] is str else str(arguments[0], "latin-1")
            if re.fullmatch("[iu][1248]", code):
                return _PickledDtype(code)
            self._refuse(f"an array of dtype {ascii(code[:20])}, expected integers")
        if called is _Name.FROMBUFFER and types == (bytes, _PickledDtype, tuple, str):
            array = PickledArray()
            array.content, array.dtype, array.shape, order = arguments
            if order in ("C", "F"):
                array.order = order
                return array
        self._refuse(f"a call of {called.name.lower()} with arguments that it does not take")

    def _build(self) -> None:
        state, built = self._stack.pop(), self._stack[-1]
        types = tuple(type(item) for item in state) if isinstance(state, tuple) else ()
        if isinstance(built, PickledArray) and types == (
            (int, tuple, _PickledDtype, bool, bytes)  # version, shape, dtype, is Fortran, content
        ):
            _, built.shape, built.dtype, fortran, built.content = state
            built.order = "F" if fortran else "C"
        elif isinstance(built, _PickledDtype) and types[2:5] == (type(None),) * 3:
            # Version, byte order, then sub-array, names and fields, which there must not be.
            order = str(state[1], "latin-1") if types[1] is bytes else state[1]
            if types[1] not in (bytes, str) or order not in ("|", "<", ">", "="):
                self._refuse("a dtype of no byte order")
            built.order = order
        else:
            self._refuse("a state for something that takes none, or not this one")


_ACTIONS: Mapping[bytes, Callable[[PickleReader], None]] = {
    b"\x80": lambda reader: reader._skip(1),  # protocol
    b"\x95": lambda reader: reader._skip(8),  # frame
    b"N": lambda reader: reader._push(None),
    b"\x88": lambda reader: reader._push(True),
    b"\x89": lambda reader: reader._push(False),
    b"K": lambda reader: reader._push_number(1),
    b"M": lambda reader: reader._push_number(2),
    b"J": lambda reader: reader._push_number(4, signed=True),
    b"\x8a": PickleReader._push_long,
    b"U": lambda reader: reader._push_bytes(1),
    b"T": lambda reader: reader._push_bytes(4),
    b"C": lambda reader: reader._push_bytes(1),
    b"B": lambda reader: reader._push_bytes(4),
    b"\x8e": lambda reader: reader._push_bytes(8),
    b"\x96": lambda reader: reader._push_bytes(8),  # a bytearray
    b"\x8c": lambda reader: reader._push_text(1),
    b"X": lambda reader: reader._push_text(4),
    b"\x8d": lambda reader: reader._push_text(8),
    b")": lambda reader: reader._push(()),
    b"]": PickleReader._push_list,
    b"}": PickleReader._push_dictionary,
    b"(": PickleReader._mark,
    b"t": PickleReader._tuple_to_mark,
    b"\x85": lambda reader: reader._tuple(1),
    b"\x86": lambda reader: reader._tuple(2),
    b"\x87": lambda reader: reader._tuple(3),
    b"a": PickleReader._append_one,
    b"e": PickleReader._append_to_mark,
    b"s": PickleReader._set_one,
    b"u": PickleReader._set_to_mark,
    b"q": lambda reader: reader._put(1),
    b"r": lambda reader: reader._put(4),
    b"\x94": PickleReader._memoize,
    b"h": lambda reader: reader._get(1),
    b"j": lambda reader: reader._get(4),
    b"c": PickleReader._name_in_lines,
    b"\x93": PickleReader._name_on_stack,
    b"R": PickleReader._call,
    b"b": PickleReader._build,
}
