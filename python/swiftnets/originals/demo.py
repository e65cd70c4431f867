"""Both nets in about a minute: parity with plain NumPy, training, speed.

    python -m swiftnets.originals.demo [--out DIR] [--quick]

Runs on the sample of images inside the package. The engine goes beside plain NumPy first
(`swiftnets.originals.verify`), then trains both nets, then is timed against the scripts' own
algorithms, which run in the same process on the same batch. ``DIR/demo.png`` shows the curves.

The exit status is 0 if parity held, 1 if it was lost, 2 if something is in the way.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swiftnets import __version__, datasets, fast_net, slow_net
from swiftnets._support.checks import Array
from swiftnets._support.plotting import figure_class, save_figure
from swiftnets._support.programs import run
from swiftnets._support.streams import StandardError
from swiftnets.originals import reference, verify
from swiftnets.originals.fast import FastNet
from swiftnets.originals.reference.common import Pairs
from swiftnets.originals.slow import SlowNet
from swiftnets.originals.verify import Row

__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__


SEED = 0
ENGINE, REFERENCE, GREY = "#1f5fa8", "#e8833a", "#666666"

Advance = Callable[[], None]
NAMES = {
    "reference": "blocks assembled, then solved",
    "limit": "r -> 0 in extended precision",
    "literal": "four pseudo-inverses, r = 1e-9",
}


class Amount(NamedTuple):
    """How much of everything a run does."""

    slow_steps: int
    fast_steps: int
    slow_epochs: int
    fast_epochs: int
    repeats: int
    literal: bool
    """Whether one iteration of slow_net's own algorithm is run: 20 s or so."""


FULL = Amount(25, 6, 5, 10, 15, literal=True)
QUICK = Amount(3, 1, 1, 1, 3, literal=False)
BATCH = 50  # images the original slow_net has in a batch; its split of the sample leaves 5


class Agreement(NamedTuple):
    """A line of the parity table: the largest differences over some steps."""

    net: str
    against: str
    steps: int
    error: float
    error_allowed: float
    weights: float
    weights_allowed: float
    held: bool


class Curve(NamedTuple):
    """What training measured."""

    iterations: list[int]
    accuracies: list[float]
    errors: list[float]
    seconds: float


class Time(NamedTuple):
    """Seconds for one iteration of something."""

    net: str
    what: str
    seconds: float


# Progress ----------------------------------------------------------------------------------------


@contextmanager
def _bar(name: str, total: int) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs; nothing where that is no terminal."""
    stream = StandardError()
    try:
        from tqdm import tqdm
    except ImportError:
        done, shown = 0, 0.0

        def count() -> None:
            nonlocal done, shown
            done += 1
            if stream.isatty() and time.monotonic() - shown > 0.2:
                shown = time.monotonic()
                print(f"\r   {name}: {done} of {total}", end="", file=stream, flush=True)

        try:
            yield count
        finally:
            if stream.isatty():
                print("\r\x1b[K", end="", file=stream, flush=True)
        return
    form = "   {desc}: {percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt}, {remaining} left"
    with tqdm(
        total=total, desc=name, ncols=80, bar_format=form, leave=False, disable=None, file=stream
    ) as progress:

        def update() -> None:
            progress.update()

        yield update


# 1. Parity ---------------------------------------------------------------------------------------


def _side_by_side(data: datasets.Dataset, amount: Amount) -> list[Row]:
    rows: list[Row] = []
    for net, peers, steps in (("slow", 1, amount.slow_steps), ("fast", 2, amount.fast_steps)):
        with _bar(f"{net}_net beside NumPy", peers * (steps + 1)) as advance:

            def report(row: Row, advance: Advance = advance) -> None:
                advance()

            rows += verify.check(net, data, seed=SEED, iterations=steps, report=report)
    return rows


def _agreements(rows: Sequence[Row]) -> list[Agreement]:
    lines = []
    for net, against in dict.fromkeys((row.net, row.against) for row in rows):
        group = [row for row in rows if (row.net, row.against) == (net, against) and not row.note]
        worst = max(group, key=lambda row: row.weight_difference / row.weight_tolerance)
        lines.append(
            Agreement(
                net,
                NAMES[against],
                group[-1].iteration,
                max(row.error_difference for row in group),
                worst.error_tolerance,
                worst.weight_difference,
                worst.weight_tolerance,
                verify.parity(group),
            )
        )
    return lines


def _literal_step(xs: Array, ys: Array) -> tuple[Agreement, float]:
    """One slow_net iteration by the script's own algorithm, beside the engine's, and its time."""
    net = SlowNet(seed=SEED)
    w1, w2 = net.w1, net.w2
    start = time.perf_counter()
    theirs = reference.slow_step(xs, ys, w1, w2, net.alpha, net.damping)
    seconds = time.perf_counter() - start
    ours = net.step(xs, ys)
    error = abs(ours.loss - theirs[2]) / theirs[2]
    weights = max(
        float(np.abs(a - b).max() / np.abs(b).max())
        for a, b in ((net.w1, theirs[0]), (net.w2, theirs[1]))
    )
    allowed = verify.EXACT
    held = error <= allowed and weights <= allowed
    return Agreement(
        "slow", "7500 R-passes, then two eigh", 1, error, allowed, weights, allowed, held
    ), seconds


def _print_agreements(lines: Sequence[Agreement]) -> None:
    print(
        f"   {'net':5}{'beside NumPy, plain':32}{'steps':>5}"
        f"{'errors':>10}{'<=':>7}{'weights':>10}{'<=':>8}"
    )
    for line in lines:
        print(
            f"   {line.net:5}{line.against:32}{line.steps:5}"
            f"{line.error:10.0e}{line.error_allowed:7.0e}"
            f"{line.weights:10.0e}{line.weights_allowed:8.0e}{'' if line.held else '  LOST'}"
        )


# 2. Training -------------------------------------------------------------------------------------


def _batches(pairs: Pairs, size: int) -> Pairs:
    xs, ys = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return [(xs[i : i + size], ys[i : i + size]) for i in range(0, len(xs), size)]


def _accuracy(net: Any, pairs: Pairs) -> float:
    hits = [net.predict(xs).argmax(axis=1) == ys.argmax(axis=1) for xs, ys in pairs]
    return float(np.concatenate(hits).mean())


def _train(name: str, net: Any, train: Pairs, test: Pairs, epochs: int) -> Curve:
    before = _accuracy(net, test)
    with _bar(f"{name} learns", epochs * len(train)) as advance:
        start = time.perf_counter()
        history = net.fit(train, test, epochs=epochs, callback=lambda event: advance())
        seconds = time.perf_counter() - start
    counts = [(iteration, count / total) for iteration, count, total in history.correct_counts]
    steps = len(history.errs)
    counts = [(0, before), *counts, (steps, _accuracy(net, test))]
    iterations, accuracies = zip(*sorted(dict(counts).items()), strict=True)
    curve = Curve(list(iterations), list(accuracies), list(history.errs), seconds)
    print(
        f"   {name}: {before:.1%} of the test images right before, {curve.accuracies[-1]:.1%} "
        f"after {steps} steps in {seconds:.1f} s"
    )
    return curve


# 3. Speed ----------------------------------------------------------------------------------------


def _median(repeats: int, step: Callable[[], object], reset: Callable[[], object]) -> float:
    seconds = []
    for _ in range(repeats + 1):
        reset()
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])  # the first one warms up


def _slow_times(
    net: Any, xs: Array, ys: Array, literal: float | None, repeats: int
) -> Iterator[Time]:
    if literal is not None:
        yield Time("slow", "NumPy, as the script does: R-passes, eigh", literal)
    fresh = SlowNet(seed=SEED)
    start = time.perf_counter()
    reference.slow_step(xs, ys, fresh.w1, fresh.w2, blocks="assembled")
    yield Time("slow", "NumPy, blocks assembled, then solved", time.perf_counter() - start)
    for state, some in (("initial", fresh), ("trained", net)):
        w1, w2 = some.w1, some.w2

        def reset(some: Any = some, w1: Array = w1, w2: Array = w2) -> None:
            some.w1, some.w2 = w1, w2

        seconds = _median(repeats, partial(some.step, xs, ys), reset)
        reset()
        yield Time("slow", f"swiftnets, {state} weights", seconds)


def _fast_times(xs: Array, ys: Array, repeats: int) -> Iterator[Time]:
    net = FastNet(seed=SEED)
    w = net.w

    def reset() -> None:
        net.w = w

    literal = _median(1, lambda: reference.fast_step(xs, ys, w), reset)
    yield Time("fast", "NumPy, as the script does: four pinv", literal)
    seconds = _median(repeats, lambda: net.step(xs, ys), reset)
    yield Time("fast", "swiftnets, a batch not seen before", seconds)
    seconds = _median(repeats, lambda: net.step(xs, ys, batch="again"), reset)
    yield Time("fast", "swiftnets, a batch that returns", seconds)


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _print_times(times: Sequence[Time]) -> None:
    for which in times:
        ratio = float(f"{times[0].seconds / which.seconds:.2g}")
        print(f"      {which.what:44}{_duration(which.seconds):>10}{ratio:>12,.10g} x")


# The picture -------------------------------------------------------------------------------------


def _draw(
    figure_of: Any, rows: Sequence[Row], curves: dict[str, Curve], speed: dict[str, str], path: Path
) -> None:
    figure = figure_of(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    peer = {"slow": "reference", "fast": "literal"}
    titles = {"slow": "slow_net: saddle-free Newton", "fast": "fast_net: functional inverse"}
    for (top, bottom), net in zip(axes.T, peer, strict=True):
        group = [row for row in rows if (row.net, row.against) == (net, peer[net])]
        steps = [row.iteration for row in group]
        top.plot(
            steps,
            [row.other_error for row in group],
            "o",
            color=REFERENCE,
            markersize=9,
            fillstyle="none",
            markeredgewidth=1.6,
            label="plain NumPy",
        )
        top.plot(steps, [row.error for row in group], ".-", color=ENGINE, label="swiftnets")
        top.set_title(f"{titles[net]}\n{speed[net]}", fontsize=10)
        top.set_xlabel("iteration")
        top.xaxis.get_major_locator().set_params(integer=True)
        top.legend(frameon=False)
        curve = curves[net]
        bottom.plot(curve.iterations, [100 * value for value in curve.accuracies], color=ENGINE)
        bottom.plot(curve.iterations[-1], 100 * curve.accuracies[-1], "o", color=ENGINE)
        bottom.annotate(
            f"{curve.accuracies[-1]:.1%} after {curve.seconds:.1f} s",
            (curve.iterations[-1], 100 * curve.accuracies[-1]),
            xytext=(-4, -18),
            textcoords="offset points",
            ha="right",
            color=ENGINE,
        )
        bottom.set_ylim(0, 100)
        bottom.set_xlabel("iteration")
        bottom.xaxis.get_major_locator().set_params(integer=True)
        for axis in (top, bottom):
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(color="#e6e6e6", linewidth=0.8)
            axis.set_axisbelow(True)
            axis.tick_params(color=GREY)
    axes[0, 0].set_ylabel("error of the training batch")
    axes[1, 0].set_ylabel("test images right, in %")
    save_figure(figure, path, 100)


# The program -------------------------------------------------------------------------------------


def _figure_class() -> Any:
    """Matplotlib's `Figure`, or None where it is not installed."""
    try:
        return figure_class()
    except ImportError:
        return None


def _say_what_is_missing() -> None:
    try:
        import tqdm  # noqa: F401
    except ImportError:
        print("No progress bars: tqdm is not installed (pip install swiftnets[progress]).")
    if _figure_class() is None:
        print("No picture: Matplotlib is not installed (pip install swiftnets[plot]).")


def _run(folder: Path, amount: Amount) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"--out is {folder}, and cannot be made: {error.strerror}") from error
    figure_of = _figure_class()
    data = datasets.load()
    print(f"swiftnets {__version__} with NumPy {np.__version__} on {os.cpu_count()} processors")
    print(
        f"{data.name}: {len(data.train_images)} images to train on, {len(data.test_images)} to test"
    )
    _say_what_is_missing()

    shaper = reference.slow_draws(SEED)[2]
    slow_train, slow_test = (
        [(images @ shaper, onehots) for images, onehots in _batches(pairs, BATCH)]
        for pairs in slow_net.get_pairs()
    )
    fast_train, fast_test = fast_net.get_pairs()

    print("\n1. Parity: largest relative differences from plain NumPy, same draws, same batches")
    rows = _side_by_side(data, amount)
    agreements = _agreements(rows)
    literal = None
    if amount.literal:
        if StandardError().isatty():
            print("   The script's own algorithm, one iteration: some 20 s", end="", flush=True)
        try:
            line, literal = _literal_step(*slow_train[0])
        finally:
            if StandardError().isatty():
                print("\r\x1b[K", end="", flush=True)
        agreements.insert(1, line)
    _print_agreements(agreements)
    held = all(line.held for line in agreements)
    print(f"   Parity {'held' if held else 'was LOST'}.")

    print("\n2. Training on the sample, in file order, test images only for counting")
    slow, fast = SlowNet(seed=SEED), FastNet(seed=SEED)
    curves = {
        "slow": _train("slow_net", slow, slow_train, slow_test, amount.slow_epochs),
        "fast": _train("fast_net", fast, fast_train, fast_test, amount.fast_epochs),
    }

    print("\n3. Speed: one iteration on one batch, timed in this run on this machine")
    slow_times = list(_slow_times(slow, *slow_train[0], literal, amount.repeats))
    fast_times = list(_fast_times(*fast_train[0], amount.repeats))
    print(f"   slow_net, 50-50-100, {BATCH} images: the original's size")
    _print_times(slow_times)
    if literal is None:
        print("      (The script's own algorithm takes some 20 s; --quick leaves it out.)")
    print(f"   fast_net, 3072-100, {len(fast_train[0][0])} images: the original has 2500 of CIFAR")
    _print_times(fast_times)

    print()
    if figure_of is None:
        print("No picture was drawn: that needs pip install swiftnets[plot].")
    else:
        path = folder / "demo.png"
        speed = {
            "slow": f"{_duration(slow_times[-2].seconds)} an iteration; NumPy "
            f"{_duration(slow_times[0].seconds)}",
            "fast": f"{_duration(fast_times[-1].seconds)} an iteration; NumPy "
            f"{_duration(fast_times[0].seconds)}",
        }
        _draw(figure_of, rows, curves, speed, path)
        print(f"The curves are in {path}")
    return 0 if held else 1


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
    parser = argparse.ArgumentParser(
        prog="python -m swiftnets.originals.demo",
        description="Verify both nets against plain NumPy, train them, time them, draw the curves.",
        epilog="Exit status: 0 if parity held, 1 if it was lost, 2 if something is in the way, 130 "
        "after Ctrl-C, 141 when nobody reads the output any more.",
    )
    parser.add_argument(
        "--out", metavar="DIR", default="demo", help="for the picture (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: some ten seconds")

    def work(options: argparse.Namespace) -> int:
        return _run(Path(options.out), QUICK if options.quick else FULL)

    return run("demo", parser, work, argv)


if __name__ == "__main__":
    sys.exit(main())
