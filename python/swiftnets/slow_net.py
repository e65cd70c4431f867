"""slow_net: a two-layer net trained by saddle-free Newton steps on its exact Hessian blocks.

The first of the two strange things of ``howonlee/twostrangethings`` (2019), on the engine. As a
program, ``python -m swiftnets.slow_net`` does and prints what the original script does; `SlowNet`
is the net as an object; the functions are the script's own, by their names.

The net is ``h2 = act(act(xs @ w1) @ w2)`` without biases, its error half the sum of squared
differences from the targets. Samples are rows. The images come in through a fixed random
projection, the *shaper*, that does not learn.

The script tests on every 50th batch in variables that it still needs, so that the step that follows
is taken on the last *test* batch. ``original=True`` (``--original``) reproduces this leak of test
data into training; otherwise nothing here trains on test data.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from swiftnets._support.checkpoints import CheckpointError
from swiftnets._support.checks import Pair
from swiftnets.originals.functions import (
    act,
    dact,
    errfn,
    inv_act,
    labels_to_onehots,
    rand_onehots,
)
from swiftnets.originals.history import CorrectCount, FitEvent, FitHistory, save
from swiftnets.originals.pairs import image_batches, load_images, project
from swiftnets.originals.programs import Parser, program, seed_of, wants_bar
from swiftnets.originals.slow import METHODS, SlowNet, StepReport

__all__ = [
    "CheckpointError",
    "CorrectCount",
    "FitEvent",
    "FitHistory",
    "SlowNet",
    "StepReport",
    "act",
    "dact",
    "errfn",
    "get_pairs",
    "inv_act",
    "labels_to_onehots",
    "main",
    "project",
    "rand_onehots",
]


def __dir__() -> list[str]:
    return __all__


TRAIN_BATCHES, TEST_BATCHES, EPOCHS = 1000, 500, 200


def get_pairs(data: Any = None) -> tuple[list[Pair], list[Pair]]:
    """Make the script's batches: 1000 equal ones to train on and 500 to test on, in file order.

    Parameters
    ----------
    data : folder or file, None, or Dataset
        What `swiftnets.datasets.load` reads (None: the sample inside the package), or its result.

    Returns
    -------
    train_pairs, test_pairs : lists of ((n, 3072), (n, 100)) float64 arrays
        Pixels ``image / 256 - 0.5`` and one-hot rows. CIFAR-100 gives 50 and 20 images a batch, and
        takes 1.5 GB.

    Raises
    ------
    ValueError
        If the images do not divide into that many batches, or a label is not below 100.
    TypeError
        If `data` is none of these.
    OSError
        If the data cannot be read.

    Examples
    --------
    >>> train_pairs, test_pairs = get_pairs()
    >>> len(train_pairs), len(test_pairs), train_pairs[0][0].shape, train_pairs[0][1].shape
    (1000, 500, (5, 3072), (5, 100))
    """
    train, test = _batches(load_images(data))
    return list(train), list(test)


def _batches(data: Any) -> tuple[Iterable[Pair], Iterable[Pair]]:
    return (
        image_batches(data, "train", TRAIN_BATCHES, equal=True),
        image_batches(data, "test", TEST_BATCHES, equal=True),
    )


def _print_event(event: FitEvent[StepReport]) -> None:
    if event.batch == 0:
        print(f"epoch:  {event.epoch}\n{time.time()}")
    print(f"it: {event.batch}, err: {event.err}\n{time.time()}")
    if (count := event.correct_count) is not None:
        print(f"corrects: {float(count.correct)}\ntotal: {float(count.total)}")


def _work(options: argparse.Namespace) -> None:
    net = SlowNet(seed=seed_of(options))
    images = load_images(options.data)
    train, test = _batches(images)  # projected as they come: one at a time is in memory
    history = net.fit(
        train,
        test,
        epochs=options.epochs,
        iterations=options.iterations,
        method=options.method,
        original=options.original,
        callback=None if options.quiet else _print_event,
        progress=wants_bar(options),
        checkpoint=options.checkpoint,
    )
    if options.save is not None:
        shaper = net.shaper(images.train_images.shape[1])
        save(options.save, history, net.seed, w1=net.w1, w2=net.w2, shaper=shaper)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv : list of str, optional
        Arguments instead of those of the command line.

    Returns
    -------
    int
        The exit status.
    """
    parser = Parser(
        "slow_net",
        "Train a 50-50-100 net on images by saddle-free Newton steps on its exact Hessian blocks, "
        "and print what the original script prints.",
        EPOCHS,
        original="turn on every quirk of the original: the step after each count of test samples "
        "is taken on the last test batch, which leaks test data into training",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="how a step is computed: by the blocks' structure, or by forming and diagonalising "
        "them as the original does (default: %(default)s)",
    )
    return program(parser, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
