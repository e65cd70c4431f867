"""Logs of runs, as callbacks for `Optimizer.minimize`: a CSV file, TensorBoard, Weights & Biases.

They import nothing: TensorBoard's writer and the run of Weights & Biases are made by whoever uses
them, and so is whatever has the same method.

Examples
--------
>>> import tempfile
>>> from pathlib import Path
>>> from swiftnets.optimizers import SGD
>>> from swiftnets.problems import Quadratic
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "run.csv"
...     log = CSVWriter(path)
...     result = SGD(learning_rate=0.5).minimize(
...         Quadratic([[1.0]]), [8.0], max_iterations=2, callback=log)
...     print(path.read_text())  # doctest: +ELLIPSIS
iteration,loss,gradient_norm,seconds,cost,accepted
0,32.0,8.0,...,1.0,1
1,8.0,4.0,...,2.0,1
<BLANKLINE>
"""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path
from typing import Any, Protocol

from swiftnets._support import checks
from swiftnets._support.files import File, writable, write_atomically
from swiftnets.optimizers.checkpoints import COLUMNS
from swiftnets.optimizers.history import WATCHED, Event

__all__ = ["CSVWriter", "TensorBoardWriter", "WandbWriter"]


def __dir__() -> list[str]:
    return __all__


_COLUMNS = ("iteration", *COLUMNS)


def _is_due(event: Event, every: int) -> bool:
    """Every so many steps, and whenever there was a look at the validation loss."""
    return (event.iteration + 1) % every == 0 or any(name in event.info for name in WATCHED)


class CSVWriter:
    """A line a step in a CSV file, with a header.

    Parameters
    ----------
    path : path
        A file that is there is gone on with: lines from the iteration of the first event on make
        way, so that a run that is resumed has each line once. One of another kind is refused.
    every : int
        Steps from one line to the next; those with a validation loss are written in any case.

    Raises
    ------
    ValueError
        If the file is there and is none of these.
    OSError
        If it cannot be written.

    Notes
    -----
    A line is appended by one call, so that readers see whole lines, and a process that is killed
    leaves at most its last one torn, which the next run removes. Where the disk is full nothing is
    left of a line; the OSError ends the run, of which a checkpoint has the steps. Where columns
    come or lines make way the file is replaced by a whole one. Numbers are as Python's `repr` has
    them, and read back to the same bits; what a step did not report is empty. Two runs need two
    files.
    """

    def __init__(self, path: File, every: int = 1) -> None:
        self._path = writable(path, "path")
        self._every = checks.integer(every, "every")
        self._names: list[str] | None = None
        if self._path.exists():
            self._read()

    def __call__(self, event: Event) -> None:
        """Write a line, if it is time for one.

        Parameters
        ----------
        event : Event
        """
        if not _is_due(event, self._every):
            return
        row: dict[str, object] = {name: getattr(event, name) for name in _COLUMNS}
        row["accepted"] = int(event.accepted)
        row |= {name: value for name, value in event.info.items() if name not in _COLUMNS}
        cells = {name: _cell(value) for name, value in row.items()}
        if self._names is None:
            self._begin(event.iteration)
        assert self._names is not None
        if more := [name for name in cells if name not in self._names]:
            rows = self._read()
            self._names += more
            self._replace(rows)
        line = _line([cells.get(name, "") for name in self._names])
        _append(self._path, line)

    def _begin(self, iteration: int) -> None:
        """The file before the first line of this run."""
        rows: list[dict[str, str]] = []
        self._names = list(_COLUMNS)
        if self._path.exists():
            rows = [row for row in self._read() if int(row["iteration"]) < iteration]
        self._replace(rows)

    def _read(self) -> list[dict[str, str]]:
        """The rows that are there, and their columns as ours."""
        text = self._path.read_bytes().decode("utf-8", "replace")
        whole = text[: text.rfind("\n") + 1]  # a torn line has no end
        table = list(csv.reader(io.StringIO(whole, newline="")))
        if not table:
            if text.strip():
                raise ValueError(f"path is {self._path}, which is no log of a run; choose another")
            names = list(_COLUMNS)
        else:
            names = table[0]
            is_log = tuple(names[: len(_COLUMNS)]) == _COLUMNS and len(set(names)) == len(names)
            is_log = is_log and all(len(row) == len(names) for row in table[1:])
            if not is_log or not all(row[0].isascii() and row[0].isdigit() for row in table[1:]):
                raise ValueError(f"path is {self._path}, which is no log of a run; choose another")
        if self._names is not None:
            self._names = names
        return [dict(zip(names, row, strict=True)) for row in table[1:]]

    def _replace(self, rows: list[dict[str, str]]) -> None:
        names = self._names or []
        lines = [_line(names), *(_line([row.get(name, "") for name in names]) for row in rows)]
        write_atomically(self._path, lambda stream: stream.write(b"".join(lines)))

    def __repr__(self) -> str:
        return f"CSVWriter({str(self._path)!r}, every={self._every})"


def _append(path: Path, line: bytes) -> None:
    """A line at the end of a file, or an OSError that names it and leaves it as it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        length = os.fstat(descriptor).st_size
        try:
            while line:  # a disk that fills up takes a part first, and says so the next time
                line = line[os.write(descriptor, line) :]
        except OSError as error:
            os.ftruncate(descriptor, length)
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return repr(float(value))


def _line(cells: list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


class _SummaryWriter(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...


class _WandbRun(Protocol):
    def log(self, data: dict[str, Any], step: int) -> object: ...


class TensorBoardWriter:
    """Numbers of each step to TensorBoard.

    Parameters
    ----------
    writer : torch.utils.tensorboard.SummaryWriter
        Or whatever has its ``add_scalar(tag, value, step)``; closed by whoever made it.
    prefix : str
        Before the names: ``"adam/"``.
    every : int
        Steps from one to the next; those with a validation loss are written in any case.

    Examples
    --------
    >>> from swiftnets.optimizers import SGD
    >>> from swiftnets.problems import Quadratic
    >>> class Printer:
    ...     def add_scalar(self, tag, value, step):
    ...         if tag == "sgd/loss":
    ...             print(step, value)
    >>> log = TensorBoardWriter(Printer(), prefix="sgd/")
    >>> result = SGD(learning_rate=0.5).minimize(
    ...     Quadratic([[1.0]]), [8.0], max_iterations=2, callback=log)
    0 32.0
    1 8.0
    """

    def __init__(self, writer: _SummaryWriter, prefix: str = "", every: int = 1) -> None:
        self._writer = _having(writer, "writer", "add_scalar", "a SummaryWriter")
        self._prefix, self._every = _text(prefix), checks.integer(every, "every")

    def __call__(self, event: Event) -> None:
        """Write a step, if it is time for one.

        Parameters
        ----------
        event : Event
        """
        if _is_due(event, self._every):
            for name, value in _numbers(event).items():
                self._writer.add_scalar(self._prefix + name, value, event.iteration)


class WandbWriter:
    """Numbers of each step to Weights & Biases.

    Parameters
    ----------
    run : wandb.Run
        What ``wandb.init`` returns, or whatever has its ``log(data, step)``; finished by whoever
        made it.
    prefix : str
        Before the names.
    every : int
        Steps from one to the next; those with a validation loss are written in any case.

    Examples
    --------
    >>> from swiftnets.optimizers import SGD
    >>> from swiftnets.problems import Quadratic
    >>> class Printer:
    ...     def log(self, data, step):
    ...         print(step, data["loss"])
    >>> result = SGD(learning_rate=0.5).minimize(
    ...     Quadratic([[1.0]]), [8.0], max_iterations=2, callback=WandbWriter(Printer()))
    0 32.0
    1 8.0
    """

    def __init__(self, run: _WandbRun, prefix: str = "", every: int = 1) -> None:
        self._run = _having(run, "run", "log", "what wandb.init returns")
        self._prefix, self._every = _text(prefix), checks.integer(every, "every")

    def __call__(self, event: Event) -> None:
        """Write a step, if it is time for one.

        Parameters
        ----------
        event : Event
        """
        if _is_due(event, self._every):
            numbers = {self._prefix + name: value for name, value in _numbers(event).items()}
            self._run.log(numbers, step=event.iteration)


def _having(value: Any, name: str, method: str, expected: str) -> Any:
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise TypeError(
            f"{name} is of type {type(value).__name__}; expected {expected}, which has {method}"
        )
    return value


def _text(prefix: object) -> str:
    if not isinstance(prefix, str):
        raise TypeError(f"prefix is {prefix!r}; expected a string")
    return prefix


def _numbers(event: Event) -> dict[str, float]:
    found = {name: float(getattr(event, name)) for name in COLUMNS}
    return found | {name: float(v) for name, v in event.info.items() if not math.isnan(v)}
