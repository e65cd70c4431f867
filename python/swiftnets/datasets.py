"""Images to train on: the embedded sample, CIFAR-100 and CIFAR-10 in their published forms.

`load` reads what is there and says what it found; `fetch_cifar100` downloads. All images come in
CIFAR's layout: a row of 3072 bytes, the red, the green and the blue plane of 32 x 32 pixels.

Files are taken for untrusted. Pickles are read by a small interpreter of the few operations that
these files consist of: it knows no classes, imports nothing and calls nothing that a file names.
Archives are read member by member in memory, never unpacked to disk, up to a limit.
"""

from __future__ import annotations

import contextlib
import enum
import gzip
import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.streams import StandardError

__all__ = ["Dataset", "DatasetError", "FetchError", "fetch_cifar100", "load", "pixels"]


def __dir__() -> list[str]:
    return __all__


Images: TypeAlias = npt.NDArray[np.uint8]
Labels: TypeAlias = npt.NDArray[np.int64]

PIXELS = 3072

# A file, or an archive unpacked, may have this many bytes: three times CIFAR's largest.
_MOST_BYTES = 512 << 20
_MOST_MEMBERS = 1000
# An operation of a pickle takes one byte of the file and up to some 100 of memory. CIFAR's largest
# file has 0.3 million.
_MOST_OPERATIONS = 4_000_000


class Dataset(NamedTuple):
    """Images and labels to train on and to test on, in file order."""

    train_images: Images
    """``(n, 3072)`` uint8."""
    train_labels: Labels
    """``(n,)`` int64, each from 0 to ``classes - 1``."""
    test_images: Images
    test_labels: Labels
    name: str
    classes: int
    """How many classes the labels tell apart; not all need occur."""


class DatasetError(ValueError):
    """A file is damaged, hostile or not what it should be; the message names it and says why."""


class FetchError(OSError):
    """A download failed; the message says how, and whether calling again goes on from there."""


# What the sets and their files are called --------------------------------------------------------


class _Set(NamedTuple):
    name: str
    classes: Mapping[str, int]
    """Kinds of labels, in the order of the bytes that begin a record of the binary form."""
    keys: Mapping[str, bytes]
    """Where the pickles keep each kind."""


class _Form(NamedTuple):
    set: _Set
    title: str
    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    binary: bool

    @property
    def names(self) -> tuple[str, ...]:
        return self.train + self.test


_CIFAR100 = _Set(
    "CIFAR-100",
    {"coarse": 20, "fine": 100},
    {"coarse": b"coarse_labels", "fine": b"fine_labels"},
)
_CIFAR10 = _Set("CIFAR-10", {"fine": 10}, {"fine": b"labels"})
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_PYTHON100, _BINARY100 = "cifar-100-python", "cifar-100-binary"

_FORMS = (
    _Form(
        _CIFAR100,
        "CIFAR-100's python form, renamed",
        _PYTHON100,
        f"{_PYTHON100}.tar.gz",
        ("cifar_train",),
        ("cifar_test",),
        binary=False,
    ),
    _Form(
        _CIFAR100,
        "CIFAR-100's python form",
        _PYTHON100,
        f"{_PYTHON100}.tar.gz",
        ("train",),
        ("test",),
        binary=False,
    ),
    _Form(
        _CIFAR100,
        "CIFAR-100's binary form",
        _BINARY100,
        f"{_BINARY100}.tar.gz",
        ("train.bin",),
        ("test.bin",),
        binary=True,
    ),
    _Form(
        _CIFAR10,
        "CIFAR-10's python form",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        _BATCHES,
        ("test_batch",),
        binary=False,
    ),
    _Form(
        _CIFAR10,
        "CIFAR-10's binary form",
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"{name}.bin" for name in _BATCHES),
        ("test_batch.bin",),
        binary=True,
    ),
)


# Loading -----------------------------------------------------------------------------------------


def load(
    data: str | os.PathLike[str] | None = None, labels: Literal["fine", "coarse"] = "fine"
) -> Dataset:
    """Images and labels from a folder, from an archive, or from inside the package.

    Parameters
    ----------
    data : path or None
        None: the embedded sample, 5,000 training and 1,000 test images of Fashion-MNIST (the first
        500 and 100 of each class), padded from 28 x 28 to 32 x 32 with zeros and grey in all three
        channels; classes 0 to 9.

        A folder, in which are looked for, in this order: ``cifar_train`` and ``cifar_test``
        (CIFAR-100's pickles under the names of 2019's scripts), CIFAR-100's ``train`` and ``test``,
        ``train.bin`` and ``test.bin``, CIFAR-10's ``data_batch_1`` to ``5`` and ``test_batch``, and
        the same with ``.bin``; each there or in the folder that upstream's archive unpacks to; then
        upstream's archives, packed.

        An archive, ``.tar.gz`` or ``.tar``, with such files.
    labels : 'fine' or 'coarse'
        CIFAR-100's 100 classes or their 20 groups. The other sets have fine ones only.

    Returns
    -------
    Dataset
        Arrays that are the caller's to change.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `data`.
    DatasetError
        If no such files are there (what was looked for and what was found is listed), if one is
        truncated, hostile, or has the wrong shape, dtype, number of labels or a label out of range,
        or if the set has no coarse labels. It is a `ValueError`.

    Examples
    --------
    >>> data = load()
    >>> data.name, data.classes, data.train_images.shape, data.test_images.shape
    ('Fashion-MNIST sample', 10, (5000, 3072), (1000, 3072))
    >>> data.train_images.dtype, data.train_labels.dtype
    (dtype('uint8'), dtype('int64'))
    """
    if not isinstance(labels, str) or labels not in ("fine", "coarse"):
        raise ValueError(f"labels: got {labels!r}, expected 'fine' or 'coarse'")
    if data is None:
        return _sample(labels)
    if not isinstance(data, (str, os.PathLike)):
        raise TypeError(
            f"data: got {type(data).__name__}, expected the path of a folder or of a .tar.gz, "
            "or None for the embedded sample"
        )
    path = Path(data)
    if path.is_dir():
        form, content_of = _in_folder(path)
    elif path.is_file():
        form, content_of = _in_archive(path)
    elif path.exists():
        raise DatasetError(f"data: {path} is neither a folder nor a regular file")
    else:
        raise FileNotFoundError(f"data: {path} does not exist; expected a folder or a .tar.gz")
    if labels not in form.set.classes:
        raise DatasetError(
            f"labels: got {labels!r}, but {path} holds {form.title}, which has fine labels only"
        )

    def part(names: tuple[str, ...]) -> tuple[Images, Labels]:
        parts = []
        for name in names:
            content, where = content_of(name)
            with _naming(where):
                read = _from_records if form.binary else _from_pickle
                parts.append(read(content, form.set, labels))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    return Dataset(*part(form.train), *part(form.test), form.set.name, form.set.classes[labels])


def pixels(images: Images) -> npt.NDArray[np.float64]:
    """Bytes as the nets take them: ``images / 256 - 0.5``, exact in float64.

    Parameters
    ----------
    images : (n, d) uint8 array

    Returns
    -------
    (n, d) float64 array
        In steps of 1/256 from -0.5 to 0.49609375.

    Raises
    ------
    TypeError
        If the dtype is not uint8: pixels that were scaled before would be scaled twice.

    Examples
    --------
    >>> pixels(np.array([[0, 128, 255]], dtype=np.uint8))
    array([[-0.5       ,  0.        ,  0.49609375]])
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images: got dtype {images.dtype}, expected uint8")
    scaled = images / np.float64(256)
    scaled -= 0.5
    return scaled


def _sample(labels: str) -> Dataset:
    name = "Fashion-MNIST sample"
    if labels != "fine":
        raise DatasetError(f"labels: got {labels!r}, but the embedded {name} has fine labels only")
    file = Path(__file__).parent / "data" / "fashion_mnist.npz"

    def cifar_layout(grey: Images) -> Images:
        planes = np.zeros((len(grey), 3, 32, 32), np.uint8)
        planes[:, :, 2:30, 2:30] = grey[:, np.newaxis]
        return planes.reshape(-1, PIXELS)

    with np.load(file, allow_pickle=False) as arrays:
        return Dataset(
            cifar_layout(arrays["train_images"]),
            arrays["train_labels"].astype(np.int64),
            cifar_layout(arrays["test_images"]),
            arrays["test_labels"].astype(np.int64),
            name,
            10,
        )


# Finding the files -------------------------------------------------------------------------------

_ContentOf: TypeAlias = Callable[[str], tuple[bytes, str]]
"""Of a file by its name: the content, and what to call the file in an error."""


def _in_folder(path: Path) -> tuple[_Form, _ContentOf]:
    for form in _FORMS:
        for folder in (path, path / form.folder):
            if all((folder / name).is_file() for name in form.names):
                return form, partial(_read_file, folder)
    for form in _FORMS:
        if (path / form.archive).is_file():
            return _in_archive(path / form.archive)
    raise _nothing_found(path, sorted(entry.name for entry in path.iterdir()))


def _in_archive(path: Path) -> tuple[_Form, _ContentOf]:
    members, names = _read_archive(path)
    for form in _FORMS:
        if all(name in members for name in form.names):
            return form, lambda name: (members[name], f"{path}, member {name}")
    raise _nothing_found(path, names)


def _nothing_found(path: Path, found: list[str]) -> DatasetError:
    def listed(form: _Form) -> str:
        names = form.names
        shown = ", ".join(names) if len(names) == 2 else f"{names[0]} to {names[-2]}, {names[-1]}"
        return f"{shown} ({form.title})"

    most = 12
    names = ", ".join(ascii(name)[1:-1] for name in found[:most]) or "nothing"
    if len(found) > most:
        names += f" and {len(found) - most} more"
    looked = "; ".join(listed(form) for form in _FORMS)
    places = ", ".join(dict.fromkeys(form.folder for form in _FORMS))
    archives = ", ".join(dict.fromkeys(form.archive for form in _FORMS))
    return DatasetError(
        f"data: {path} holds no complete set. Looked for {looked}, "
        f"there or under {places}; then for {archives}. Found {names}."
    )


def _read_file(folder: Path, name: str) -> tuple[bytes, str]:
    path = folder / name
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise DatasetError(f"{path}: larger than {_MOST_BYTES} bytes, so not a file of CIFAR's")
    return content, str(path)


class _Bounded:
    """A stream that ends in an error after so many bytes: a small archive can unpack to any size,
    and the sizes that it states itself are not believed."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._left = _MOST_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DatasetError(f"unpacks to more than {_MOST_BYTES} bytes, so not one of CIFAR's")
        return content


def _read_archive(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """The wanted members, at the top or in a folder, by their last name; and the names of all."""
    import tarfile  # late, as the network below: most users need neither

    wanted = {name for form in _FORMS for name in form.names}
    members: dict[str, bytes] = {}
    names: list[str] = []
    with contextlib.ExitStack() as stack:
        file: io.BufferedIOBase = stack.enter_context(open(path, "rb"))
        stack.enter_context(_naming(str(path)))
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
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from error.__cause__


# Reading one file --------------------------------------------------------------------------------


def _from_records(content: bytes, of: _Set, labels: str) -> tuple[Images, Labels]:
    """The binary form: for each image a byte for each kind of label, then the pixels."""
    kinds = list(of.classes)
    size = len(kinds) + PIXELS
    if not content or len(content) % size:
        raise DatasetError(
            f"{len(content)} bytes, expected a positive multiple of {size}, "
            f"the size of a record of {of.name}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    column = records[:, kinds.index(labels)]
    return records[:, len(kinds) :].copy(), _checked_labels(column, labels, of.classes[labels])


def _from_pickle(content: bytes, of: _Set, labels: str) -> tuple[Images, Labels]:
    """The python form: a dictionary with ``b"data"`` and the labels."""
    entries = _PickleReader(content).read()
    key = of.keys[labels]
    for name in (b"data", key):
        if name not in entries:
            found = ", ".join(sorted(ascii(entry)[:40] for entry in entries)[:12]) or "none"
            missing = f"{labels} labels" if name == key else "images"
            raise DatasetError(f"no {missing}: looked for the key {name!r}, found {found}")
    data = entries[b"data"]
    if not isinstance(data, _PickledArray):
        raise DatasetError(f"b'data' is of type {type(data).__name__}, expected a uint8 array")
    images = data.array()
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != PIXELS:
        raise DatasetError(
            f"b'data' has shape {images.shape} and dtype {images.dtype}, "
            f"expected (n, {PIXELS}) and uint8"
        )
    column = _label_column(entries[key], key)
    if len(column) != len(images):
        raise DatasetError(f"{key!r} has {len(column)} labels for {len(images)} images")
    if not len(images):
        raise DatasetError("no images: b'data' has shape (0, 3072)")
    # A copy that lets go of the rest of the file, and that can be written to.
    return np.array(images, order="C"), _checked_labels(column, labels, of.classes[labels])


def _label_column(value: object, key: bytes) -> npt.NDArray[Any]:
    if isinstance(value, _PickledArray):
        array = value.array()
        if array.ndim != 1:
            raise DatasetError(f"{key!r} has shape {array.shape}, expected (n,)")
        return array
    if not isinstance(value, list):
        raise DatasetError(f"{key!r} is of type {type(value).__name__}, expected a list of int")
    for index, label in enumerate(value):
        if type(label) is not int:
            raise DatasetError(f"{key!r}[{index}] is of type {type(label).__name__}, expected int")
    return np.array(value, object)  # any size of int, until the range is checked


def _checked_labels(column: npt.NDArray[Any], kind: str, classes: int) -> Labels:
    wrong = np.flatnonzero((column < 0) | (column >= classes))
    if len(wrong):
        raise DatasetError(
            f"{kind} label of image {wrong[0]} is {column[wrong[0]]}, "
            f"expected 0 to {classes - 1} ({len(wrong)} out of range)"
        )
    return column.astype(np.int64)


# Pickles -----------------------------------------------------------------------------------------


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


class _PickledArray:
    """An array in the making. Nothing is allocated for it: `array` looks at the file's bytes."""

    def __init__(self) -> None:
        self.shape: tuple[Any, ...] = (0,)
        self.dtype = _PickledDtype("u1")
        self.order: Literal["C", "F"] = "C"
        self.content: bytes = b""

    def array(self) -> npt.NDArray[Any]:
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


class _PickleReader:
    """Reads a pickle of protocols 2 to 5 whose values are numbers, strings, lists, dictionaries
    and integer arrays, with Python 2's strings as bytes.

    Anything else, and anything called or built with arguments other than those that NumPy and
    Python write, is a `DatasetError`. The work and the memory are proportional to the file.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def read(self) -> dict[bytes, Any]:
        try:
            for _ in range(_MOST_OPERATIONS):
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
        raise DatasetError(f"a pickle of more than {_MOST_OPERATIONS} operations")

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
            return _PickledArray()
        if called is _Name.DTYPE and len(arguments) == 3 and types[0] in (bytes, str):
            code = arguments[0] if types[0] is str else str(arguments[0], "latin-1")
            if re.fullmatch("[iu][1248]", code):
                return _PickledDtype(code)
            self._refuse(f"an array of dtype {ascii(code[:20])}, expected integers")
        if called is _Name.FROMBUFFER and types == (bytes, _PickledDtype, tuple, str):
            array = _PickledArray()
            array.content, array.dtype, array.shape, order = arguments
            if order in ("C", "F"):
                array.order = order
                return array
        self._refuse(f"a call of {called.name.lower()} with arguments that it does not take")

    def _build(self) -> None:
        state, built = self._stack.pop(), self._stack[-1]
        types = tuple(type(item) for item in state) if isinstance(state, tuple) else ()
        if isinstance(built, _PickledArray) and types == (
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


_ACTIONS: Mapping[bytes, Callable[[_PickleReader], None]] = {
    b"\x80": lambda reader: reader._skip(1),  # protocol
    b"\x95": lambda reader: reader._skip(8),  # frame
    b"N": lambda reader: reader._push(None),
    b"\x88": lambda reader: reader._push(True),
    b"\x89": lambda reader: reader._push(False),
    b"K": lambda reader: reader._push_number(1),
    b"M": lambda reader: reader._push_number(2),
    b"J": lambda reader: reader._push_number(4, signed=True),
    b"\x8a": _PickleReader._push_long,
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
    b"]": _PickleReader._push_list,
    b"}": _PickleReader._push_dictionary,
    b"(": _PickleReader._mark,
    b"t": _PickleReader._tuple_to_mark,
    b"\x85": lambda reader: reader._tuple(1),
    b"\x86": lambda reader: reader._tuple(2),
    b"\x87": lambda reader: reader._tuple(3),
    b"a": _PickleReader._append_one,
    b"e": _PickleReader._append_to_mark,
    b"s": _PickleReader._set_one,
    b"u": _PickleReader._set_to_mark,
    b"q": lambda reader: reader._put(1),
    b"r": lambda reader: reader._put(4),
    b"\x94": _PickleReader._memoize,
    b"h": lambda reader: reader._get(1),
    b"j": lambda reader: reader._get(4),
    b"c": _PickleReader._name_in_lines,
    b"\x93": _PickleReader._name_on_stack,
    b"R": _PickleReader._call,
    b"b": _PickleReader._build,
}


# Downloading -------------------------------------------------------------------------------------

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
    """Downloads CIFAR-100's python form (169 MB), or goes on with a download that was interrupted.

    Bytes are collected in ``cifar-100-python.tar.gz.part`` and get their final name only when size
    and checksum are right. A right file is left alone, without a look at the network; a wrong one
    under the final name counts as an interrupted download. A connection that breaks is taken up
    again, a few times and as long as bytes arrive; a server that cannot resume starts over.

    Parameters
    ----------
    dest : path
        A folder; made if it does not exist. `load` finds the file in it.
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
    ValueError, TypeError
        If `url` is neither http nor https, or `md5`, `size` or `timeout` is none.

    Examples
    --------
    >>> archive = fetch_cifar100("data")  # doctest: +SKIP
    >>> load(archive).train_images.shape  # doctest: +SKIP
    (50000, 3072)
    """
    import http.client
    import urllib.error

    md5 = md5.lower() if isinstance(md5, str) else md5
    if not isinstance(md5, str) or not re.fullmatch("[0-9a-f]{32}", md5):
        raise ValueError(f"md5: got {md5!r}, expected 32 hexadecimal digits")
    size = checks.integer(size, "size", 1, 2**63 - 1)
    timeout = min(checks.real(timeout, "timeout", positive=True), _LONGEST_TIMEOUT)
    if not isinstance(url, str) or not re.match("https?://", url, re.IGNORECASE):
        raise ValueError(f"url: got {url!r}, expected an address with http or https")
    folder, progress = checks.path(dest, "dest"), checks.flag(progress, "progress")
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{_PYTHON100}.tar.gz"
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
                if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not before:
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
    """Appends to `part` what the server sends; less than all of it is not an error here."""
    import urllib.request
    from http import HTTPStatus

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
