"""What training both nets shares: the loop, its history, checkpoints, command lines."""

from __future__ import annotations

import argparse
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets import datasets
from swiftnets._support import checks, identity
from swiftnets._support.checkpoints import (
    CheckpointError,
    Settings,
    read_archive,
    require_settings,
    write_archive,
)
from swiftnets._support.checks import Array, Pair
from swiftnets._support.files import File, writable, write_npz
from swiftnets._support.progress import Progress
from swiftnets._support.streams import StandardError

ReportT = TypeVar("ReportT")

_FORMAT, _VERSION = "swiftnets checkpoint", 2


class Corrects(NamedTuple):
    """How many test samples were classified rightly, at one moment of a run."""

    iteration: int
    """Errors in the history by then; slow_net counts between an error and its step."""
    correct: int
    total: int


class Event(NamedTuple, Generic[ReportT]):
    """One iteration that has ended, as `fit` tells its callback."""

    epoch: int
    """From 0."""
    batch: int
    """Position in the epoch, from 0: what the original scripts print as ``it``."""
    iteration: int
    """Over all epochs, from 0."""
    err: float
    """Error of the iteration's training batch, before its step."""
    corrects: Corrects | None
    """Where the test samples were counted in this iteration."""
    report: ReportT
    """What the step returned."""


@dataclass(frozen=True, eq=False)
class History:
    """What a run measured, parts before a resumption included."""

    errs: Array
    """(iterations,): error of each iteration's training batch, before its step."""
    corrects: list[Corrects]
    """Counts over the test samples, in order."""
    seconds: Array
    """(iterations,): seconds of training until the end of each iteration."""

    def __repr__(self) -> str:
        if not len(self.errs):
            return "History(no iterations)"
        counted = ""
        if self.corrects:
            counted = f", {self.corrects[-1].correct} of {self.corrects[-1].total} correct"
        return (
            f"History({len(self.errs)} iterations in {self.seconds[-1]:.3g} s, "
            f"err {self.errs[0]:.6g} to {self.errs[-1]:.6g}{counted})"
        )


def save(file: File, history: History, seed: int, **weights: Array) -> None:
    """Write what a run ended with: weights, errs, corrects as (m, 3) integers, the seed."""
    arrays = {
        **weights,
        "errs": history.errs,
        "corrects": _rows(history.corrects),
        "seed": np.array(seed),
    }
    write_npz(file, arrays)


def _rows(corrects: Sequence[Corrects]) -> npt.NDArray[np.int64]:
    return np.array(corrects, np.int64).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run as it was after some iteration."""

    settings: Settings
    weights: tuple[Array, ...]
    errs: Array
    corrects: list[Corrects]
    seconds: Array

    def write(self, path: Path) -> None:
        arrays: dict[str, npt.NDArray[Any]] = {
            "errs": self.errs,
            "corrects": _rows(self.corrects),
            "seconds": self.seconds,
            **{f"w{i}": w for i, w in enumerate(self.weights)},
        }
        write_archive(path, _FORMAT, _VERSION, self.settings, arrays)

    @staticmethod
    def read(path: Path) -> Checkpoint | None:
        """The checkpoint in `path`, or None if there is no such file."""
        return read_archive(path, _FORMAT, _VERSION, Checkpoint._of)

    @staticmethod
    def _of(settings: Settings, arrays: dict[str, npt.NDArray[Any]]) -> Checkpoint:
        errs, corrects, seconds = (arrays.pop(name) for name in ("errs", "corrects", "seconds"))
        weights = tuple(np.ascontiguousarray(arrays[f"w{i}"]) for i in range(len(arrays)))
        sizes = settings["sizes"]
        shapes = [w.shape for w in weights]
        if shapes != list(zip(sizes, sizes[1:], strict=False)):
            raise ValueError(f"its weights have shapes {shapes}, and its net sizes {sizes}")
        for floats in (errs, seconds, *weights):
            if floats.dtype != np.float64 or not np.isfinite(floats).all():
                raise ValueError("an array does not hold finite float64 numbers")
        if corrects.ndim != 2 or corrects.shape[1] != 3 or corrects.dtype != np.int64:
            raise ValueError(f"corrects has shape {corrects.shape} and dtype {corrects.dtype}")
        if errs.ndim != 1 or errs.shape != seconds.shape:
            raise ValueError(f"errs has shape {errs.shape} and seconds {seconds.shape}")
        checks.integer(settings["seed"], "seed", 0, 2**32 - 1)
        counts = [Corrects(*map(int, row)) for row in corrects]
        return Checkpoint(settings, weights, errs, counts, seconds)

    @property
    def seed(self) -> int:
        return checks.integer(self.settings["seed"], "seed", 0, 2**32 - 1)

    def require(self, path: Path, settings: Settings, iterations: int) -> None:
        """A CheckpointError unless this run goes on where the checkpoint stopped."""
        require_settings(path, self.settings, settings)
        if len(self.errs) > iterations:
            raise CheckpointError(
                f"checkpoint: {path} has {len(self.errs)} iterations behind it, more than the "
                f"{iterations} asked for"
            )


class Length(NamedTuple):
    """How long a run is, and where and how often it is saved; checked."""

    batches: int
    iterations: int
    checkpoint: Path | None
    checkpoint_every: int

    @staticmethod
    def of(
        batches: int,
        epochs: int,
        iterations: int | None,
        checkpoint: File | None,
        checkpoint_every: int | None,
    ) -> Length:
        total = checks.integer(epochs, "epochs") * batches
        if iterations is not None:
            total = min(total, checks.integer(iterations, "iterations"))
        path = None if checkpoint is None else writable(checkpoint, "checkpoint")
        every = batches
        if checkpoint_every is not None:
            every = checks.integer(checkpoint_every, "checkpoint_every")
        return Length(batches, total, path, every)


def start_of(checkpoint: File | None) -> Checkpoint | None:
    """What a run goes on from."""
    return None if checkpoint is None else Checkpoint.read(writable(checkpoint, "checkpoint"))


def start_weights(start: Checkpoint | None, weights: tuple[Array, ...], given: bool) -> Any:
    """What a run's settings say of the weights that it starts with: their hash.

    Weights that were given must be those of the checkpoint's start; any others make way for what
    it holds.
    """
    if start is None or given:
        return identity.digest(weights)
    return start.settings.get("weights")


def taken(
    pairs: Any,
    name: str,
    insize: int | str,
    outsize: int | str,
    hashing: bool = False,
    shaper: Callable[[Array], Array | None] = lambda xs: None,
) -> tuple[list[Pair], int, str]:
    """A data set's batches to keep, the width of their inputs as they came, and their hash.

    Each is checked, hashed if that is wanted, and put through the projection that `shaper` makes
    of the first one's inputs, if any, as it comes. A list's arrays are kept as they are; what comes
    one by one is copied, as the next one may be put where the last one was.
    """
    copy = type(pairs) not in (list, tuple)
    kept, hashes, width, matrix = list[Pair](), list[str](), 0, None
    for xs, ys in checks.batches(pairs, name, insize, outsize):
        if hashing:
            hashes.append(identity.digest((xs, ys)))
        if not kept:
            width, matrix = xs.shape[1], shaper(xs)
        if matrix is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                xs = xs @ matrix
            checks.finite(xs, f"the projected xs of {name}[{len(kept)}]")
        elif copy:
            xs = xs.copy()
        kept.append((xs, ys.copy() if copy else ys))
    return kept, width, identity.digest([np.frombuffer("".join(hashes).encode(), np.uint8)])


@dataclass
class Run(Generic[ReportT]):
    """One call of `fit`; what the nets do differently comes as functions.

    `step` takes the position in the epoch, and returns the error of that training batch and the
    step's report. `count` tells how many test samples are right and how many there are; it is asked
    where `counts_before` or `counts_after` the step at a position says so. `restore` sets weights
    that `weights` returned, now or in an earlier process.
    """

    length: Length
    step: Callable[[int], tuple[float, ReportT]]
    count: Callable[[], tuple[int, int]]
    weights: Callable[[], tuple[Array, ...]]
    restore: Callable[[tuple[Array, ...]], None]
    counts_before: Callable[[int], bool] = lambda it: False
    counts_after: Callable[[int], bool] = lambda it: False
    settings: Settings = field(default_factory=dict)

    def go(
        self,
        start: Checkpoint | None,
        callback: Callable[[Event[ReportT]], object] | None,
        progress: bool,
    ) -> History:
        """Iterate from `start`, or from the beginning, to the end."""
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is {callback!r}; expected a function of one event")
        progress = checks.flag(progress, "progress")
        batches, iterations, path, every = self.length
        errs, seconds, corrects = array("d"), array("d"), list[Corrects]()
        if start is not None and path is not None:
            start.require(path, self.settings, iterations)
            self.restore(start.weights)
            errs.frombytes(start.errs.tobytes())
            seconds.frombytes(start.seconds.tobytes())
            corrects += start.corrects
        # What a checkpoint holds, replaced as a whole at the end of an iteration: an interrupt may
        # come between any two lines, and what an unfinished iteration left is then cut off.
        state = saved = (len(errs), len(corrects), self.weights())
        origin = time.perf_counter() - (seconds[-1] if seconds else 0.0)

        def history() -> History:
            done, counts, _ = state
            return History(np.array(errs[:done]), corrects[:counts], np.array(seconds[:done]))

        def save() -> None:
            nonlocal saved
            if path is not None and state is not saved:
                now, past = state, history()
                Checkpoint(self.settings, now[2], past.errs, past.corrects, past.seconds).write(
                    path
                )
                saved = now

        iteration = len(errs)
        bar = Progress(iteration, iterations) if progress else None
        try:
            for iteration in range(len(errs), iterations):
                epoch, it = divmod(iteration, batches)
                counted = None
                if self.counts_before(it):
                    counted = Corrects(iteration + 1, *self.count())
                err, report = self.step(it)
                if self.counts_after(it):
                    counted = Corrects(iteration + 1, *self.count())
                if counted is not None:
                    corrects.append(counted)
                errs.append(err)
                seconds.append(time.perf_counter() - origin)
                state = (iteration + 1, len(corrects), self.weights())
                if bar is not None:
                    bar.step(err)
                if callback is not None and callback(
                    Event(epoch, it, iteration, err, counted, report)
                ):
                    break
                if (iteration + 1) % every == 0:
                    save()
        except BaseException as error:
            self.restore(state[2])
            if isinstance(error, ArithmeticError):
                error.add_note(f"It was in iteration {iteration}, batch {iteration % batches}.")
            raise
        finally:
            if bar is not None:
                bar.close()
            save()
        return history()


def merged(pairs: Sequence[Pair], rows: int = 1000) -> list[Pair]:
    """The same samples in fewer, larger batches, for passes that go through all of them."""
    result, waiting, count = list[Pair](), list[Pair](), 0
    for index, pair in enumerate(pairs):
        waiting.append(pair)
        count += len(pair[0])
        if count >= rows or index == len(pairs) - 1:
            xs, ys = zip(*waiting, strict=True)
            result.append((np.concatenate(xs), np.concatenate(ys)))
            waiting, count = [], 0
    return result


def counter(
    predict: Callable[[Array], Array], pairs: Sequence[Pair]
) -> Callable[[], tuple[int, int]]:
    """A function that counts the samples whose largest output is where their target's is."""
    labelled = [(xs, ys.argmax(axis=1)) for xs, ys in pairs]
    total = sum(len(labels) for _, labels in labelled)

    def count() -> tuple[int, int]:
        hits = 0
        for xs, labels in labelled:
            outputs = predict(xs)
            found = outputs.argmax(axis=1)  # of a row with NaN its place: no row is right by that
            known = ~np.isnan(outputs[np.arange(len(found)), found])
            hits += int(np.count_nonzero((found == labels) & known))
        return hits, total

    return count


# Images ------------------------------------------------------------------------------------------


def images(data: Any) -> Any:
    """The data set that `data` names, or `data` itself if it is one."""
    if data is None or isinstance(data, (str, os.PathLike)):
        return datasets.load(data)
    if hasattr(data, "train_images"):
        return data
    raise TypeError(f"data is {data!r}; expected a folder or file, None, or a Dataset")


def image_batches(
    data: Any, part: str, parts: int, onehots: Callable[[Any], Array], *, equal: bool
) -> Iterator[Pair]:
    """Batches of one part ("train", "test") of a data set in file order, each made when asked for.

    With `equal` all have as many images, as ``numpy.split`` wants it; else sizes differ by at most
    one.
    """

    pixels, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
    if len(pixels) < parts or (equal and len(pixels) % parts):
        wanted = f"a multiple of {parts}" if equal else f"at least {parts}"
        raise ValueError(
            f"data has {len(pixels)} {part} images; expected {wanted}, as the original splits "
            f"them into {parts} batches"
        )
    for some, names in zip(
        np.array_split(pixels, parts), np.array_split(labels, parts), strict=True
    ):
        yield datasets.pixels(some), onehots(names)


# Command lines -----------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """The flags that both programs have; what is wrong with them is said in one sentence."""

    def __init__(self, name: str, description: str, epochs: int, original: str) -> None:
        super().__init__(
            prog=f"python -m swiftnets.{name}",
            description=description,
            epilog="Exit status: 0 when the run is complete, 2 when something is wrong, 130 after "
            "Ctrl-C, which writes the checkpoint first.",
        )
        self.name = name
        self.add_argument(
            "--data",
            metavar="DIR",
            help="images, in any form that swiftnets.datasets.load reads (default: the sample "
            "inside the package)",
        )
        self.add_argument(
            "--seed",
            type=int,
            metavar="S",
            help="draw the initial weights as the original does after numpy.random.seed(S) "
            "(default: from the system)",
        )
        self.add_argument(
            "--epochs",
            type=int,
            default=epochs,
            metavar="E",
            help="passes through the training batches (default: %(default)s, the original's)",
        )
        self.add_argument(
            "--iterations",
            type=int,
            metavar="K",
            help="end after K iterations in all, even within an epoch",
        )
        self.add_argument("--original", action="store_true", help=original)
        self.add_argument(
            "--checkpoint",
            metavar="FILE",
            help="save the run here once an epoch, at the end and on Ctrl-C; if FILE exists, go "
            "on from it",
        )
        self.add_argument(
            "--save",
            metavar="FILE.npz",
            help="at the end write weights, errs, corrects (iteration, correct, total) and seed",
        )
        self.add_argument("--quiet", action="store_true", help="print no lines")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.name}: {message}; --help tells more\n")


def seed_of(options: argparse.Namespace) -> int | None:
    """The seed to use: the one given, else that of the checkpoint to go on from, else none."""
    if options.seed is None and options.checkpoint is not None:
        start = Checkpoint.read(writable(options.checkpoint, "checkpoint"))
        if start is not None:
            return start.seed
    return checks.seed(options.seed)


def run(name: str, body: Callable[[], object], checkpoint: File | None = None) -> int:
    """Run a program's body; whatever goes wrong becomes one sentence and an exit status."""
    try:
        body()
        sys.stdout.flush()
    except KeyboardInterrupt:
        kept = ""
        if checkpoint is not None and os.path.exists(checkpoint):
            kept = f"; {os.fsdecode(checkpoint)} holds the run so far"
        print(f"{name}: interrupted{kept}", file=StandardError())
        return 130
    except BrokenPipeError:
        # Whoever read the lines is gone; Python's flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ArithmeticError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        told = [str(error) or type(error).__name__, *getattr(error, "__notes__", [])]
        print(f"{name}: {' '.join(' '.join(told).split())}", file=StandardError())
        return 2
    except MemoryError as error:
        print(f"{name}: out of memory: {error}", file=StandardError())
        return 2
    return 0


def program(
    parser: Parser, work: Callable[[argparse.Namespace], None], argv: Sequence[str] | None
) -> int:
    """Parse the command line and `run` the work."""
    options = parser.parse_args(argv)

    def body() -> None:
        if options.save is not None:
            # Better known before the run than after it.
            place = writable(options.save, "save")
            kept = options.checkpoint
            if kept is not None and writable(kept, "checkpoint") == place:
                raise ValueError(f"save and checkpoint are both {place}; expected two files")
        work(options)

    return run(parser.name, body, options.checkpoint)


def wants_bar(options: argparse.Namespace) -> bool:
    """Whether a bar is seen and disturbs nothing: the lines go elsewhere than the terminal."""
    return not options.quiet and StandardError().isatty() and not sys.stdout.isatty()
