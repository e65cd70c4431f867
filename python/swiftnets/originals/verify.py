"""Is the engine right? It runs beside plain NumPy, and beside the original scripts.

    python -m swiftnets.originals.verify [--net slow|fast|both] [--data DIR] [--seed S]
                                         [--iterations K] [--originals DIR] [--timeout SECONDS]
                                         [--plot FILE] [--json FILE]

Engine and peer start from the same draws and see the same batches; nothing is handed from one to
the other. Every ``it:`` line of the scripts gives a row: both errors, the largest difference of the
weights relative to the largest weight, the seconds since the line before, and their ratio. Row k
holds the weights after k steps.

====  =========  ======================================================  ======  =============
net   against    what that is                                            errors  weights
====  =========  ======================================================  ======  =============
slow  reference  `reference.slow_run`, blocks assembled and then solved  1e-10   1e-10
slow  original   the user's ``slow_net.py``, run as it is                1e-10   1e-10
fast  limit      r -> 0 in extended precision                            1e-10   1e-10
fast  literal    `reference.fast_step`: four pseudo-inverses, r = 1e-9   1e-6    4 eps kappa/r
fast  original   the user's ``fast_net.py``, run as it is                1e-6    4 eps kappa/r
====  =========  ======================================================  ======  =============

``eps kappa / r``, with kappa the largest condition number of the batches used so far, is the
rounding noise of the script's own difference quotient: each of its two evaluations rounds by about
``eps / 2 * kappa``. The 4 is for what multiplies that noise on its way to the weights, the inverse
slopes of the activation: up to 2 where the gradient is undone, up to 2 where the activation is.
An error, a sum over the batch, averages most of the noise out: 1e-6 is enough up to a condition
number of 128, as real images have in batches of 250, and grows in proportion beyond.

A batch without full row rank makes that quotient meaningless: its row is shown, not judged, and the
last against that peer. The limit is judged in any case.

The exit status is 0 if parity held, 1 if it was lost, 2 if the comparison could not be made.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import pickle
import queue
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from swiftnets._support.files import lock, remove_abandoned, writable, write_atomically
from swiftnets._support.plotting import save_figure
from swiftnets._support.streams import StandardError
from swiftnets.originals import reference, training
from swiftnets.originals.reference import Line, Pairs

__all__ = ["OriginalError", "Row", "compare", "draw", "main", "parity", "summary"]


def __dir__() -> list[str]:
    return __all__


R = 1e-9  # the script's width of the difference
EXACT = 1e-10
# Against the difference quotient, for a condition number of 1; see above.
NOISE = 4 * float(np.finfo(np.float64).eps) / R
ERROR_NOISE, ERROR_CONDITION = 1e-6, 128.0
WEIGHTS = {"slow": ("w1", "w2"), "fast": ("w",)}
# Lines that a script prints before it ends: epochs times training batches.
LINES = {"slow": 200 * 1000, "fast": 10 * 20}

Timed: TypeAlias = Generator[tuple[Line, float | None], None, None]


class OriginalError(ChildProcessError):
    """An original script failed, ended early, or printed what could not be read."""


@dataclass(frozen=True)
class Row:
    """One ``it:`` line of the engine beside the same line of a peer."""

    net: str
    against: str
    iteration: int
    error: float
    other_error: float
    error_difference: float
    """Relative to the peer's error."""
    error_tolerance: float
    weight_difference: float
    """Largest difference of an entry, relative to the peer's largest entry of that matrix."""
    weight_tolerance: float
    seconds: float | None
    """Engine's, since the line before; None on the first."""
    other_seconds: float | None
    corrects: int | None
    """Test samples classified rightly, where both count them on this line."""
    other_corrects: int | None
    note: str
    """Why this row is not judged; empty if it is."""

    @property
    def ratio(self) -> float | None:
        """How many times faster the engine was."""
        if not self.seconds or self.other_seconds is None:
            return None
        return self.other_seconds / self.seconds

    @property
    def held(self) -> bool:
        """Whether errors, weights and counts agree. Not-a-number agrees with nothing."""
        return (
            self.error_difference <= self.error_tolerance
            and self.weight_difference <= self.weight_tolerance
            and self.corrects == self.other_corrects
        )


# The engine, line by line ------------------------------------------------------------------------


def _engine_slow(
    train: Pairs, test: Pairs, steps: int, seed: int, insize: int, hidsize: int
) -> Iterator[Line]:
    from swiftnets import SlowNet

    outsize, pixels = train[0][1].shape[1], train[0][0].shape[1]
    net = SlowNet(insize, hidsize, outsize, alpha=0.1, damping=0.1, seed=seed)
    shaper = reference.slow_draws(seed, insize, hidsize, outsize, pixels)[2]
    # The projection never changes: once for all batches, as `SlowNet.fit` does.
    shaped = [(xs @ shaper, ys) for xs, ys in train[: steps + 1]]
    shaped_test = [(xs @ shaper, ys) for xs, ys in test]
    for iteration in range(steps + 1):
        it = iteration % len(train)
        xs, ys = shaped[it]
        error, corrects = net.loss(xs, ys), None
        if it % 50 == 0:
            corrects = _count(net, shaped_test)
            xs, ys = shaped_test[-1]  # the script's leak, see `reference.slow_run`
        yield Line(iteration, error, corrects, (net.w1, net.w2))
        if iteration < steps:
            net.step(xs, ys)


def _engine_fast(train: Pairs, test: Pairs, steps: int, seed: int) -> Iterator[Line]:
    from swiftnets import FastNet

    net = FastNet(train[0][0].shape[1], train[0][1].shape[1], alpha=0.1, seed=seed)
    for iteration in range(steps + 1):
        it = iteration % len(train)
        xs, ys = train[it]
        corrects = _count(net, test) if iteration and it == 0 else None
        yield Line(iteration, net.loss(xs, ys), corrects, (net.w,))
        if iteration < steps:
            net.step(xs, ys, batch=it)


def _count(net: Any, pairs: Pairs) -> int:
    return sum(int((net.predict(xs).argmax(axis=1) == ys.argmax(axis=1)).sum()) for xs, ys in pairs)


def _timed(lines: Iterator[Line]) -> Timed:
    first = True
    while True:
        start = time.perf_counter()
        line = next(lines, None)
        if line is None:
            return
        yield line, None if first else time.perf_counter() - start
        first = False


# An original script, line by line ----------------------------------------------------------------


class _Watch(io.TextIOBase):
    """Standard output of an original script: at every ``it:`` line it hands over and waits."""

    def __init__(self, namespace: dict[str, Any], names: Sequence[str], folder: str) -> None:
        self._namespace, self._names, self._folder = namespace, names, folder
        self._channel, self._partial = sys.stdout, ""
        self._since = time.perf_counter()

    def write(self, text: str) -> int:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            found = re.fullmatch(r"it: \d+, err: (\S+)", line.strip())
            if found:
                self._hand_over(found[1])
        return len(text)

    def _hand_over(self, error: str) -> None:
        seconds = time.perf_counter() - self._since
        # A copy on disk: the script goes on to change its arrays in place.
        weights = [np.asarray(self._namespace[name], np.float64) for name in self._names]
        np.savez(os.path.join(self._folder, "weights.npz"), *weights)
        print(json.dumps({"error": error, "seconds": seconds}), file=self._channel, flush=True)
        if not sys.stdin.readline():  # told to stop, or nobody is left to listen
            raise SystemExit
        self._since = time.perf_counter()


def _run_script(script: str, seed: str, folder: str, *names: str) -> None:
    """What the child process does: seed, then run the script as ``python script`` would."""
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": script}
    sys.path.insert(0, os.path.dirname(script))
    sys.argv = [script]
    code = compile(Path(script).read_bytes(), script, "exec")
    sys.stdout = _Watch(namespace, names, folder)
    random.seed(int(seed))
    np.random.seed(int(seed))
    exec(code, namespace)


_SCRATCH = ".swiftnets-verify-"
_CHILD = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from swiftnets.originals.verify import _run_script; _run_script(*sys.argv[2:])"
)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A temporary folder. Those that killed processes left make way: data may be large."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}????????"):
        remove_abandoned(folder)
    while True:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as scratch:
            descriptor = os.open(scratch, os.O_RDONLY)
            try:
                if lock(descriptor, Path(scratch)):
                    yield scratch
                    return
            finally:
                os.close(descriptor)


def _original_folder(data: Any, scratch: str) -> str:
    """A folder with ``cifar_train`` and ``cifar_test``: the data's own, or one written from it."""
    if isinstance(data, (str, os.PathLike)):
        folder = Path(data)
        if (folder / "cifar_train").is_file() and (folder / "cifar_test").is_file():
            return str(folder.resolve())
    if data is None or isinstance(data, (str, os.PathLike)):
        from swiftnets import datasets

        data = datasets.load(data)
    for name in ("train", "test"):
        content = {
            b"data": np.asarray(getattr(data, f"{name}_images"), np.uint8),
            b"fine_labels": [int(label) for label in getattr(data, f"{name}_labels")],
        }
        with open(os.path.join(scratch, f"cifar_{name}"), "wb") as file:
            pickle.dump(content, file, protocol=4)
    return scratch


def _original(
    net: str,
    script: Path,
    data: Any,
    seed: int,
    steps: int,
    timeout: float,
    waiting: Callable[[str, int, float], None] | None,
) -> Timed:
    """Lines of an original script, run in a child process that does nothing while we compare."""
    with (
        _scratch() as scratch,
        open(os.path.join(scratch, "stderr"), "w+", encoding="utf-8", errors="replace") as stderr,
    ):
        package = str(Path(__file__).resolve().parents[1])
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, package]
            + [str(script), str(seed), scratch, *WEIGHTS[net]],
            cwd=_original_folder(data, scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert child.stdin is not None and child.stdout is not None
        messages: queue.SimpleQueue[str] = queue.SimpleQueue()

        def listen(pipe: Any = child.stdout) -> None:
            for message in pipe:
                messages.put(message)
            messages.put("")

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            for iteration in range(steps + 1):
                message = _wait(messages, script.name, iteration, timeout, waiting)
                if not message:
                    status = child.wait()
                    stderr.seek(0)
                    tail = "".join(stderr.readlines()[-8:]).strip()
                    raise OriginalError(
                        f"{script.name} ended with status {status} before iteration {iteration} "
                        f"of {steps}; its last words: {tail or '(none)'}"
                    )
                told = json.loads(message)
                with np.load(os.path.join(scratch, "weights.npz")) as saved:
                    weights = tuple(saved[name] for name in saved.files)
                line = Line(iteration, float(told["error"]), None, weights)
                yield line, told["seconds"] if iteration else None
                if iteration < steps:
                    with contextlib.suppress(BrokenPipeError):  # the next wait says why
                        child.stdin.write("go\n")
                        child.stdin.flush()
        finally:
            child.kill()
            child.wait()
            listener.join()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.stdout.close()


def _wait(
    messages: queue.SimpleQueue[str],
    name: str,
    iteration: int,
    timeout: float,
    waiting: Callable[[str, int, float], None] | None,
) -> str:
    start = time.monotonic()
    while (waited := time.monotonic() - start) < timeout:
        try:
            return messages.get(timeout=min(1.0, timeout - waited))
        except queue.Empty:
            if waiting:
                waiting(name, iteration, time.monotonic() - start)
    raise OriginalError(
        f"{name} did not print the `it:` line of iteration {iteration} within {timeout:g} s; "
        f"a larger timeout gives it more"
    )


# Side by side ------------------------------------------------------------------------------------


def compare(
    net: str = "slow",
    data: Any = None,
    *,
    seed: int = 0,
    iterations: int | None = None,
    insize: int = 50,
    hidsize: int = 50,
    originals: str | os.PathLike[str] | None = None,
    timeout: float = 600.0,
    report: Callable[[Row], None] | None = None,
    waiting: Callable[[str, int, float], None] | None = None,
) -> list[Row]:
    """Run the engine and its peers side by side on the same data and draws.

    Parameters
    ----------
    net : {"slow", "fast"}
    data : folder, None or object
        As for `reference.slow_pairs`; None is the embedded sample.
    seed : int
        In ``0 .. 2**32 - 1``.
    iterations : int, optional
        Steps. By default 100 for slow and 5 for fast; with `originals`, 10 and 5. From 21 on,
        fast_net's batches come back, and the engine uses the factorisations it kept.
    insize, hidsize : int
        Of slow_net, where the originals are not asked for: those have 50 and 50.
    originals : folder, optional
        A checkout of ``howonlee/twostrangethings``. Its scripts are run as they are, in a child
        process, and compared with too. The slow one takes some 20 s an iteration.
    timeout : float
        Seconds an original may take for one iteration.
    report : callable, optional
        Called with every `Row` as soon as it is known.
    waiting : callable, optional
        Called about every second of waiting for an original, with the script's name, the iteration
        and the seconds waited.

    Returns
    -------
    list of Row
        ``iterations + 1`` for every peer. Parity held if all that carry no note are `held`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the data cannot be divided into the scripts' batches.
    FileNotFoundError
        If `originals` lacks the script.
    OriginalError
        If an original fails, ends early, or exceeds `timeout`.

    Examples
    --------
    >>> from swiftnets.originals import verify
    >>> rows = verify.compare("slow", iterations=2, insize=6, hidsize=5)
    >>> all(row.held for row in rows)
    True
    """
    if net not in WEIGHTS:
        raise ValueError(f"net: got {net!r}, expected 'slow' or 'fast'")
    if iterations is None:
        iterations = 5 if net == "fast" else 100 if originals is None else 10
    if iterations < 1:
        raise ValueError(f"iterations: got {iterations}, expected 1 or more")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed}, expected 0 to 2**32 - 1")
    if not timeout > 0:
        raise ValueError(f"timeout: got {timeout}, expected a positive number of seconds")
    script = None
    if originals is not None:
        script = Path(originals).resolve() / f"{net}_net.py"
        if not script.is_file():
            raise FileNotFoundError(
                f"originals: {script} does not exist; expected a checkout of "
                f"howonlee/twostrangethings"
            )
        if iterations >= LINES[net]:
            raise ValueError(
                f"iterations: got {iterations}, expected less than {LINES[net]}, "
                f"the lines that {script.name} prints"
            )
        if net == "slow" and (insize, hidsize) != (50, 50):
            raise ValueError(
                f"insize, hidsize: got {insize}, {hidsize}, expected 50, 50 with originals"
            )
    peers: dict[str, Timed] = {}
    if net == "slow":
        train, test = reference.slow_pairs(data)
        engine = _engine_slow(train, test, iterations, seed, insize, hidsize)
        peers["reference"] = _timed(
            reference.slow_run(
                train,
                test,
                iterations,
                seed,
                insize=insize,
                hidsize=hidsize,
                blocks="assembled",
            )
        )
    else:
        train, test = reference.fast_pairs(data)
        engine = _engine_fast(train, test, iterations, seed)
        peers["limit"] = _timed(
            reference.fast_run(train, test, iterations, seed, method="extended")
        )
        peers["literal"] = _timed(reference.fast_run(train, test, iterations, seed, r=R))
    rows = []
    with contextlib.ExitStack() as stack:
        if script is not None:
            original = _original(net, script, data, seed, iterations, timeout, waiting)
            stack.enter_context(contextlib.closing(original))
            peers["original"] = original
        worst, note = 0.0, ""
        for line, seconds in _timed(engine):
            used = max(line.iteration - 1, 0)  # the batch of the step that led to this line
            if net == "fast" and used < len(train):
                xs = train[used][0]
                rank, condition = reference.rank_and_condition(xs)
                worst = max(worst, condition)
                if rank < len(xs):
                    note = f"not judged: batch {used} has rank {rank} of {len(xs)}"
            for against, lines in list(peers.items()):
                other, other_seconds = next(lines)
                if net == "slow" or against == "limit":
                    row = _row(net, against, line, seconds, other, other_seconds)
                else:
                    row = _row(net, against, line, seconds, other, other_seconds, worst, note)
                rows.append(row)
                if report:
                    report(row)
                if row.note:
                    del peers[against]
    return rows


def _row(
    net: str,
    against: str,
    line: Line,
    seconds: float | None,
    other: Line,
    other_seconds: float | None,
    condition: float = 0.0,
    note: str = "",
) -> Row:
    for name, ours, theirs in zip(WEIGHTS[net], line.weights, other.weights, strict=True):
        if ours.shape != theirs.shape:
            raise OriginalError(
                f"{name} has shape {theirs.shape} in the {against}, {ours.shape} in the engine"
            )
    return Row(
        net=net,
        against=against,
        iteration=line.iteration,
        error=line.error,
        other_error=other.error,
        error_difference=_relative(np.array(line.error), np.array(other.error)),
        error_tolerance=(
            ERROR_NOISE * max(1.0, condition / ERROR_CONDITION) if condition else EXACT
        ),
        weight_difference=max(map(_relative, line.weights, other.weights)),
        weight_tolerance=NOISE * condition or EXACT,
        seconds=seconds,
        other_seconds=other_seconds,
        # Not with the originals, which print the count after the line, nor where noise may turn it.
        corrects=None if condition or other.corrects is None else line.corrects,
        other_corrects=None if condition else other.corrects,
        note=note,
    )


def _relative(ours: Any, theirs: Any) -> float:
    difference, size = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    return difference / size if difference else 0.0


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    for net, against in dict.fromkeys((row.net, row.against) for row in rows):
        yield net, against, [row for row in rows if (row.net, row.against) == (net, against)]


def parity(rows: Sequence[Row]) -> bool:
    """Whether every judged row held, and there was one beyond the initial weights."""
    judged = [row for row in rows if not row.note]
    return all(row.held for row in judged) and any(row.iteration for row in judged)


def summary(rows: Sequence[Row]) -> list[str]:
    """One sentence for every net and peer: the largest differences, what is allowed, the speed.

    Parameters
    ----------
    rows : sequence of Row
        As `compare` returns them, of one net or of both.

    Returns
    -------
    list of str
    """
    said = []
    for net, against, group in _groups(rows):
        judged = [row for row in group if not row.note]
        text = f"{net}_net against {against}: "
        if judged:
            worst_error = max(judged, key=lambda row: row.error_difference)
            worst_weight = max(judged, key=lambda row: row.weight_difference)
            text += (
                f"parity {'held' if parity(judged) else 'LOST'} over {judged[-1].iteration} "
                f"iterations: errors within {worst_error.error_difference:.1e} "
                f"({worst_error.error_tolerance:.1e} allowed), weights within "
                f"{worst_weight.weight_difference:.1e} "
                f"({worst_weight.weight_tolerance:.1e} allowed)"
            )
        if len(judged) < len(group):
            text += f"{'; ' if judged else ''}{group[-1].note}"
        ours = [row.seconds for row in group if row.seconds is not None]
        theirs = [row.other_seconds for row in group if row.other_seconds is not None]
        if ours and theirs:
            a, b = statistics.median(ours), statistics.median(theirs)
            text += f"; medians {a:.2g} s and {b:.2g} s an iteration, ratio {_times(b / a)}"
        said.append(text)
    return said


# Output ------------------------------------------------------------------------------------------

_HEADER = (
    f"{'net':4} {'against':9} {'iteration':>9} {'engine error':>22} {'other error':>22} "
    f"{'d(errors)':>9} {'d(weights)':>10} {'engine s':>9} {'other s':>9} {'ratio':>8}"
)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:,.{0 if ratio >= 100 else 1}f}"


def _format(row: Row) -> str:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    text = (
        f"{row.net:4} {row.against:9} {row.iteration:9} "
        f"{row.error:22.17g} {row.other_error:22.17g} "
        f"{row.error_difference:9.1e} {row.weight_difference:10.1e} "
        f"{number(row.seconds, '.5f'):>9} {number(row.other_seconds, '.4f'):>9} "
        f"{_times(row.ratio):>8}"
    )
    if row.note:
        return f"{text}  {row.note}"
    if row.held:
        return text
    counts = ""
    if row.corrects != row.other_corrects:
        counts = f", corrects {row.corrects} and {row.other_corrects}"
    return (
        f"{text}  PARITY LOST (allowed: {row.error_tolerance:.1e}, "
        f"{row.weight_tolerance:.1e}{counts})"
    )


def _write_json(path: str, rows: Sequence[Row], seed: int, data: str | None) -> None:
    from swiftnets import __version__

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    content = {
        "swiftnets": __version__,
        "numpy": np.__version__,
        "data": data,
        "seed": seed,
        "parity": parity(rows),
        "rows": [
            {key: plain(value) for key, value in asdict(row).items()}
            | {"ratio": plain(row.ratio), "held": row.held}
            for row in rows
        ],
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need Matplotlib: pip install swiftnets[plot]") from error
    return Figure


def _require_format(path: str) -> None:
    figure = _figure_class()()
    known = figure.canvas.get_supported_filetypes()
    ending = os.path.splitext(path)[1].removeprefix(".")
    if ending and ending.lower() not in known:  # without one Matplotlib writes its default
        raise ValueError(
            f"--plot is {path}; expected a name that ends in one of {', '.join(known)}"
        )


def draw(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draw error curves of engine and peers, and below them their differences.

    Parameters
    ----------
    rows : sequence of Row
        As `compare` returns them, of one net or of both.
    path : file to write
        Its ending names the format: ``.png``, ``.svg``, ``.pdf``.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    figure_of = _figure_class()
    nets = list(dict.fromkeys(row.net for row in rows))
    figure = figure_of(figsize=(6.4 * len(nets), 8), layout="constrained")
    axes = figure.subplots(2, len(nets), sharex="col", squeeze=False)
    marks = {"reference": "o", "limit": "o", "literal": "x", "original": "+"}
    for (top, bottom), net in zip(axes.T, nets, strict=True):
        groups = [(against, group) for name, against, group in _groups(rows) if name == net]
        longest = max((group for _, group in groups), key=len)
        for number, (against, group) in enumerate(groups):
            steps = [row.iteration for row in group]
            color = f"C{number}"
            errors = [row.other_error for row in group]
            top.plot(steps, errors, marks[against], color=color, fillstyle="none", label=against)
            # The original and the literal reference may agree to the last bit: let both be seen.
            width = 3.0 - 0.8 * number
            for kind, style in (("error", "--"), ("weight", "-")):
                # A difference of 0 has no logarithm and leaves a gap.
                values = [getattr(row, f"{kind}_difference") or np.nan for row in group]
                allowed = [getattr(row, f"{kind}_tolerance") for row in group]
                label = f"{kind}s against {against}"
                bottom.plot(
                    steps, values, style, color=color, linewidth=width, marker=".", label=label
                )
                bottom.plot(steps, allowed, ":", color=color, linewidth=width / 2)
        steps = [row.iteration for row in longest]
        top.plot(steps, [row.error for row in longest], "k-", linewidth=1, label="engine")
        top.set_title(f"{net}_net over {steps[-1]} iterations")
        top.set_ylabel("error of the training batch")
        top.legend()
        bottom.set_yscale("log")
        bottom.set_xlabel("iteration")
        bottom.set_ylabel("relative difference (dotted: allowed)")
        bottom.xaxis.get_major_locator().set_params(integer=True)
        bottom.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(groups), fontsize="small"
        )
    save_figure(figure, path, 120)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swiftnets.originals.verify",
        description="Run the engine beside plain NumPy, and beside the original scripts, and "
        "compare errors and weights line by line.",
        epilog="Exit status: 0 if parity held, 1 if it was lost, 2 if it could not be judged.",
    )
    parser.add_argument("--net", choices=("slow", "fast", "both"), default="both")
    parser.add_argument("--data", metavar="DIR", help="images (default: the embedded sample)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--iterations",
        type=int,
        metavar="K",
        help="steps (default: 100 for slow, 10 with --originals; 5 for fast)",
    )
    parser.add_argument(
        "--originals",
        metavar="DIR",
        help="a checkout of howonlee/twostrangethings: run its scripts too (at full size some "
        "20 s an iteration each)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="for one iteration of an original (default: 600)",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw error curves and differences")
    parser.add_argument("--json", metavar="FILE", help="write the rows for machines")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = _parser().parse_args(argv)
    stream = StandardError()
    terminal = stream.isatty()

    def waiting(name: str, iteration: int, seconds: float) -> None:
        if terminal:
            print(f"\r{name}: iteration {iteration}, {seconds:.0f} s ", end="", file=stream)

    def report(row: Row) -> None:
        if terminal:
            print("\r\x1b[K", end="", file=stream, flush=True)
        print(_format(row), flush=True)

    rows: list[Row] = []

    def body() -> None:
        # What would spoil the end is better known at the beginning.
        for option, path in (("--plot", options.plot), ("--json", options.json)):
            if path is not None:
                writable(path, option)
        if options.plot is not None:
            _require_format(options.plot)
        print(_HEADER, flush=True)
        for net in ("slow", "fast") if options.net == "both" else (options.net,):
            rows.extend(
                compare(
                    net,
                    options.data,
                    seed=options.seed,
                    iterations=options.iterations,
                    originals=options.originals,
                    timeout=options.timeout,
                    report=report,
                    waiting=waiting,
                )
            )
        print("\n".join(["", *summary(rows)]))
        if options.json is not None:
            _write_json(options.json, rows, options.seed, options.data)
        if options.plot is not None:
            draw(rows, options.plot)

    status = training.run("verify", body)
    if status == 0 and not parity(rows):
        print("verify: parity was not shown", file=stream)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
