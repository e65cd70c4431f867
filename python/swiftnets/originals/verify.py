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

A batch without full row rank makes that quotient meaningless: its row is shown, excluded from the
verdict, and the last against that peer. Rows against the limit count in any case.

The exit status is 0 if parity held, 1 if it was lost, 2 if the comparison could not be made.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swiftnets._support.files import writable
from swiftnets._support.programs import run
from swiftnets._support.streams import StandardError
from swiftnets.originals import reference
from swiftnets.originals.fast import FastNet
from swiftnets.originals.reference import Line
from swiftnets.originals.reference.common import Pairs
from swiftnets.originals.rows import (
    HEADER,
    Row,
    draw,
    format_row,
    parity,
    require_format,
    summary,
    write_json,
)
from swiftnets.originals.scripts import LINES, WEIGHTS, OriginalError, Timed, script_lines
from swiftnets.originals.slow import SlowNet
from swiftnets.originals.waiting import Waiting

__all__ = ["OriginalError", "Row", "check", "draw", "main", "parity", "summary"]


def __dir__() -> list[str]:
    return __all__


R = 1e-9  # the script's width of the difference
EXACT = 1e-10
# Against the difference quotient, for a condition number of 1; see above.
NOISE = 4 * float(np.finfo(np.float64).eps) / R
ERROR_NOISE, ERROR_CONDITION = 1e-6, 128.0


# The engine, line by line ------------------------------------------------------------------------


def _engine_slow(
    train: Pairs, test: Pairs, steps: int, seed: int, insize: int, hidsize: int
) -> Iterator[Line]:
    outsize, pixels = train[0][1].shape[1], train[0][0].shape[1]
    net = SlowNet(insize, hidsize, outsize, alpha=0.1, damping=0.1, seed=seed)
    shaper = reference.slow_draws(seed, insize, hidsize, outsize, pixels)[2]
    # The projection never changes: once for all batches, as `SlowNet.fit` does.
    shaped = [(xs @ shaper, ys) for xs, ys in train[: steps + 1]]
    shaped_test = [(xs @ shaper, ys) for xs, ys in test]
    for iteration in range(steps + 1):
        it = iteration % len(train)
        xs, ys = shaped[it]
        error, correct = net.loss(xs, ys), None
        if it % 50 == 0:
            correct = _count(net, shaped_test)
            xs, ys = shaped_test[-1]  # the script's leak, see `reference.slow_run`
        yield Line(iteration, error, correct, (net.w1, net.w2))
        if iteration < steps:
            net.step(xs, ys)


def _engine_fast(train: Pairs, test: Pairs, steps: int, seed: int) -> Iterator[Line]:
    net = FastNet(train[0][0].shape[1], train[0][1].shape[1], alpha=0.1, seed=seed)
    for iteration in range(steps + 1):
        it = iteration % len(train)
        xs, ys = train[it]
        correct = _count(net, test) if iteration and it == 0 else None
        yield Line(iteration, net.loss(xs, ys), correct, (net.w,))
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


# Side by side ------------------------------------------------------------------------------------


def check(
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
    >>> rows = verify.check("slow", iterations=2, insize=6, hidsize=5)
    >>> all(row.held for row in rows)
    True
    """
    if net not in WEIGHTS:
        raise ValueError(f"net is {net!r}; expected 'slow' or 'fast'")
    iterations = _steps(net, iterations, originals)
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; expected 1 or more")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; expected 0 to 2**32 - 1")
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}; expected a positive number of seconds")
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
                f"iterations is {iterations}; expected less than {LINES[net]}, "
                f"the lines that {script.name} prints"
            )
        if net == "slow" and (insize, hidsize) != (50, 50):
            raise ValueError(
                f"insize, hidsize are {insize}, {hidsize}; expected 50, 50 with originals"
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
            original = script_lines(net, script, data, seed, iterations, timeout, waiting)
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
                    note = f"excluded: batch {used} has rank {rank} of {len(xs)}"
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


def _steps(net: str, iterations: int | None, originals: object) -> int:
    """How many steps are made, where it is not said."""
    if iterations is not None:
        return iterations
    return 5 if net == "fast" else 100 if originals is None else 10


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
        correct=None if condition or other.correct is None else line.correct,
        other_correct=None if condition else other.correct,
        note=note,
    )


def _relative(ours: Any, theirs: Any) -> float:
    difference, size = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    return difference / size if difference else 0.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swiftnets.originals.verify",
        description="Run the engine beside plain NumPy, and beside the original scripts, and "
        "compare errors and weights line by line.",
        epilog="Exit status: 0 if parity held, 1 if it was lost, 2 if something was in the way, "
        "130 after Ctrl-C, 141 when nobody reads the output any more.",
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
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments instead of those of the command line.

    Returns
    -------
    int
        The exit status.
    """
    stream = StandardError()
    waiting: Waiting | None = None

    def report(row: Row) -> None:
        if waiting is not None:
            waiting.clear()
        print(format_row(row), flush=True)

    def work(options: argparse.Namespace) -> int:
        nonlocal waiting
        # What would spoil the end is better known at the beginning.
        for option, path in (("--plot", options.plot), ("--json", options.json)):
            if path is not None:
                writable(path, option)
        if options.plot is not None:
            require_format(options.plot)
        print(HEADER, flush=True)
        rows: list[Row] = []
        for net in ("slow", "fast") if options.net == "both" else (options.net,):
            waiting = Waiting(stream, _steps(net, options.iterations, options.originals))
            rows.extend(
                check(
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
            write_json(options.json, rows, options.seed, options.data)
        if options.plot is not None:
            draw(rows, options.plot)
        if parity(rows):
            return 0
        print("verify: parity was not shown", file=stream)
        return 1

    return run("verify", _parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
