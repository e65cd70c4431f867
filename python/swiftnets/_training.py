"""The training loop that both nets share: order of batches, history, progress, checkpoints."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from . import _checks

Array = npt.NDArray[np.float64]
Pairs = Sequence[tuple[Any, Any]]

CHECKPOINT_SECONDS = 10.0
"""A run that checkpoints writes its file about this often, and when it ends or is interrupted."""


class Event(NamedTuple):
    """One finished iteration, as a callback sees it."""

    iteration: int
    """Counted over all epochs, from 0."""
    epoch: int
    it: int
    """Counted within the epoch, from 0: the number the scripts print."""
    loss: float
    """Of the iteration's training batch, before its step."""
    corrects: int | None
    """Test samples classified rightly, where they were counted; None elsewhere."""
    total: int | None
    report: Any
    """What `step` returned."""


Callback = Callable[[Event], object]


@dataclass
class History:
    """What a run did, in order.

    Attributes
    ----------
    errs : list of float
        The loss of each iteration's training batch, before its step.
    corrects : list of (iteration, count, total)
        Test samples classified rightly; `iteration` counts the losses recorded before the count.
    seconds : float
        Time spent in `fit`, over all resumptions.
    """

    errs: list[float] = field(default_factory=list)
    corrects: list[tuple[int, int, int]] = field(default_factory=list)
    seconds: float = 0.0


class Trainable(Protocol):
    """What `train` needs of a net."""

    def predict(self, xs: Any) -> Array: ...
    def _get_weights(self) -> tuple[Array, ...]: ...
    def _set_weights(self, weights: tuple[Array, ...]) -> None: ...


class Plan(NamedTuple):
    """How one kind of net goes through an epoch."""

    step: Callable[[int, Any, Any], Any]
    """Takes `it` and a batch; returns a report with the loss before the step."""
    loss: Callable[[Any, Any], float]
    counts_before: Callable[[int], bool]
    """Whether the test samples are counted before the step of iteration `it` of an epoch."""
    counts_after_epoch: bool
    leaks: bool
    """Whether a count before a step makes that step use the last test batch (slow_net's quirk)."""
    settings: dict[str, Any]
    """What a checkpoint must agree on."""


def count_corrects(net: Trainable, pairs: Pairs) -> tuple[int, int]:
    """Samples whose largest output is at the label's place, and samples in all."""
    corrects = total = 0
    for xs, ys in pairs:
        corrects += int((net.predict(xs).argmax(axis=1) == np.asarray(ys).argmax(axis=1)).sum())
        total += len(ys)
    return corrects, total


def merged(pairs: Pairs, most: int = 4096) -> list[tuple[Array, Array]]:
    """The same samples in fewer, larger batches: counting them takes fewer calls."""
    result: list[tuple[Array, Array]] = []
    start = 0
    while start < len(pairs):
        stop, samples = start, 0
        while stop < len(pairs) and (samples == 0 or samples + len(pairs[stop][0]) <= most):
            samples += len(pairs[stop][0])
            stop += 1
        group = pairs[start:stop]
        result.append(
            (np.concatenate([x for x, _ in group]), np.concatenate([y for _, y in group]))
        )
        start = stop
    return result


def train(
    net: Trainable,
    plan: Plan,
    train_pairs: Pairs,
    test_pairs: Pairs | None,
    *,
    epochs: int,
    iterations: int | None,
    callback: Callback | None,
    progress: bool,
    checkpoint: str | os.PathLike[str] | None,
) -> History:
    """Run `plan` on `net`; see the nets' `fit` for the arguments."""
    train_pairs = checked_pairs("train_pairs", train_pairs)
    test_pairs = None if test_pairs is None else checked_pairs("test_pairs", test_pairs)
    if plan.leaks and test_pairs is None:
        raise ValueError("test_pairs is None, expected batches: original=True steps on test data")
    total = _checks.size("epochs", epochs) * len(train_pairs)
    if iterations is not None:
        total = min(total, _checks.size("iterations", iterations))

    history, done = History(), 0
    settings = {**plan.settings, "batches": len(train_pairs), "data": _fingerprint(train_pairs)}
    path = None if checkpoint is None else os.fspath(checkpoint)
    if path is not None and os.path.exists(path):
        weights, history, done = _read_checkpoint(path, settings, net._get_weights())
        net._set_weights(weights)
    start, before = time.monotonic(), history.seconds
    saved = start
    # What a checkpoint may say: replaced in one assignment, so that Ctrl-C finds it whole.
    state = (done, net._get_weights(), len(history.errs), len(history.corrects))

    def save() -> None:
        if path is not None:
            seconds = before + time.monotonic() - start
            _write_checkpoint(path, settings, *state[:2], _cut(history, *state[2:], seconds))

    count_pairs = None if test_pairs is None else merged(test_pairs)
    bar = _bar(progress, total, done)
    try:
        with bar as advance:
            while done < total:
                epoch, it = divmod(done, len(train_pairs))
                xs, ys = train_pairs[it]
                corrects: tuple[int, int] | None = None
                loss = None
                if count_pairs is not None and plan.counts_before(it):
                    corrects = count_corrects(net, count_pairs)
                    if plan.leaks and test_pairs is not None:
                        loss = plan.loss(xs, ys)
                        xs, ys = test_pairs[-1]
                report = plan.step(it, xs, ys)
                loss = report.loss if loss is None else loss
                if (
                    count_pairs is not None
                    and plan.counts_after_epoch
                    and it + 1 == len(train_pairs)
                ):
                    corrects = count_corrects(net, count_pairs)
                history.errs.append(loss)
                if corrects is not None:
                    history.corrects.append((len(history.errs), *corrects))
                done += 1
                state = (done, net._get_weights(), len(history.errs), len(history.corrects))
                advance(loss, history.corrects[-1] if history.corrects else None)
                if path is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    save()
                    saved = time.monotonic()
                if callback is not None:
                    count, samples = corrects or (None, None)
                    event = Event(done - 1, epoch, it, loss, count, samples, report)
                    if callback(event) is True:
                        break
    except BaseException:
        # The object and the checkpoint agree on the last finished iteration.
        net._set_weights(state[1])
        save()
        raise
    save()
    return _cut(history, *state[2:], before + time.monotonic() - start)


def _cut(history: History, errs: int, corrects: int, seconds: float) -> History:
    return History(history.errs[:errs], history.corrects[:corrects], seconds)


def checked_pairs(name: str, pairs: Any) -> Pairs:
    """`pairs` as a sequence of two-element batches, or an error that names it."""
    if not isinstance(pairs, Sequence):
        pairs = list(pairs)
    if not pairs:
        raise ValueError(f"{name} is empty, expected at least one (xs, ys) batch")
    for index, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{name}[{index}] is {type(pair).__name__}, expected a pair (xs, ys)")
    return pairs  # type: ignore[no-any-return]


def _fingerprint(pairs: Pairs) -> str:
    """Enough of the data to notice a checkpoint of another run: its shape and its first batch."""
    xs, ys = (np.ascontiguousarray(part) for part in pairs[0])
    check = zlib.crc32(ys.tobytes(), zlib.crc32(xs.tobytes()))
    return f"{xs.shape[0]}x{xs.shape[1]}:{check:08x}"


# Checkpoints -------------------------------------------------------------------------------------


def write_atomically(path: str, write: Callable[[Any], object]) -> None:
    """Write a file whole or not at all: a reader, or a crash, sees the old one or the new one."""
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=os.path.basename(path) + ".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write_checkpoint(
    path: str, settings: dict[str, Any], done: int, weights: tuple[Array, ...], history: History
) -> None:
    head = json.dumps({"settings": settings, "done": done, "seconds": history.seconds})
    arrays = {f"weights{index}": w for index, w in enumerate(weights)}
    write_atomically(
        path,
        lambda file: np.savez(
            file,
            head=np.frombuffer(head.encode(), dtype=np.uint8),
            errs=np.array(history.errs, dtype=np.float64),
            corrects=np.array(history.corrects, dtype=np.int64).reshape(-1, 3),
            **arrays,  # type: ignore[arg-type]
        ),
    )


def _read_checkpoint(
    path: str, settings: dict[str, Any], like: tuple[Array, ...]
) -> tuple[tuple[Array, ...], History, int]:
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(file["head"].tobytes())
            errs, corrects = file["errs"], file["corrects"]
            weights = tuple(file[f"weights{index}"] for index in range(len(like)))
        theirs, done, seconds = head["settings"], int(head["done"]), float(head["seconds"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"checkpoint {path} is not one of these, or is damaged: {error}"
        ) from error
    for key in {**settings, **theirs}:
        ours, other = settings.get(key), theirs.get(key)
        if ours != other:
            raise ValueError(
                f"checkpoint {path} is of another run: its {key} is {other!r}, this one's {ours!r}"
            )
    for index, (w, expected) in enumerate(zip(weights, like, strict=True)):
        if w.shape != expected.shape or w.dtype != np.float64 or not np.isfinite(w).all():
            raise ValueError(f"checkpoint {path} is damaged: weights {index} have shape {w.shape}")
    if done != len(errs):
        raise ValueError(f"checkpoint {path} is damaged: {done} iterations, {len(errs)} losses")
    counted = [(int(i), int(c), int(t)) for i, c, t in corrects]
    return weights, History(errs.tolist(), counted, seconds), done


# Progress ----------------------------------------------------------------------------------------

Advance = Callable[[float, tuple[int, int, int] | None], None]


@contextlib.contextmanager
def _bar(show: bool, total: int, done: int) -> Iterator[Advance]:
    """A bar on standard error: tqdm's where it is installed, else a line now and then."""
    if not show:
        yield lambda loss, corrects: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield _lines(total, done)
        return
    with tqdm(total=total, initial=done, unit="it", file=sys.stderr, mininterval=0.2) as bar:

        def advance(loss: float, corrects: tuple[int, int, int] | None) -> None:
            if bar.update(1):
                bar.set_postfix_str(_state(loss, corrects), refresh=False)

        yield advance


def _lines(total: int, done: int) -> Advance:
    last = time.monotonic()

    def advance(loss: float, corrects: tuple[int, int, int] | None) -> None:
        nonlocal last, done
        done += 1
        if done == total or time.monotonic() - last > 2:
            last = time.monotonic()
            print(f"{done}/{total}, {_state(loss, corrects)}", file=sys.stderr, flush=True)

    return advance


def _state(loss: float, corrects: tuple[int, int, int] | None) -> str:
    text = f"err {loss:.4g}"
    return text if corrects is None else f"{text}, correct {corrects[1] / corrects[2]:.1%}"


# Command lines -----------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser, epochs: int) -> None:
    """The flags that both programs take."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="images: a folder with cifar_train and cifar_test, or CIFAR as it comes; "
        "default: the embedded sample",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the weights (default: none)")
    parser.add_argument(
        "--epochs", type=int, default=epochs, metavar="E", help="default: %(default)s"
    )
    parser.add_argument("--iterations", type=int, metavar="K", help="stop after K in all")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="save the run there now and then, and go on from it"
    )
    parser.add_argument(
        "--save", metavar="FILE.npz", help="write weights, errors and counts there at the end"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print only the test counts, not every iteration"
    )


def run(program: str, body: Callable[[], None]) -> int:
    """Run a program's body; errors that a user can cause become one line and status 2."""
    try:
        body()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, ImportError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    return 0


def save_run(path: str, history: History, **weights: Array) -> None:
    """Write the weights and the history as an `.npz`, atomically."""
    write_atomically(
        path,
        lambda file: np.savez(
            file,
            errs=np.array(history.errs),
            corrects=np.array(history.corrects, dtype=np.int64).reshape(-1, 3),
            **weights,  # type: ignore[arg-type]
        ),
    )
