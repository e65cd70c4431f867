"""fast_net: a perceptron trained by Newton steps through the functional inverse of its gradient.

The second of the two strange things of ``howonlee/twostrangethings`` (2019), on the engine. As a
program, ``python -m swiftnets.fast_net`` does and prints what the original script does; `FastNet`
is the net as an object; the functions are the script's own, by their names.

The net is ``h = act(xs @ w)`` without a bias, its error half the sum of squared differences from
the targets. Samples are rows. The script nudges the gradient both ways by ``r / 2``, sends both
through the gradient's inverse function, and takes the difference quotient of the weights that come
out: the inverse Hessian times the gradient, by the inverse function theorem. Here a step is the
limit ``r -> 0`` of that, which is one minimum-norm solve and has no rounding noise; `r` asks for
the quotient itself. ``original=True`` (``--original``) takes the script's ``r = 1e-9``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from swiftnets._support.checkpoints import CheckpointError
from swiftnets._support.checks import Pair
from swiftnets.originals.fast import ORIGINAL_R, FastNet, RankWarning, StepReport
from swiftnets.originals.functions import (
    act,
    dact,
    errfn,
    inv_act,
    labels_to_onehots,
    rand_onehots,
)
from swiftnets.originals.history import CorrectCount, FitEvent, FitHistory, save
from swiftnets.originals.pairs import image_batches, load_images
from swiftnets.originals.programs import Parser, program, seed_of, wants_bar

__all__ = [
    "CheckpointError",
    "CorrectCount",
    "FastNet",
    "FitEvent",
    "FitHistory",
    "RankWarning",
    "StepReport",
    "act",
    "dact",
    "errfn",
    "get_pairs",
    "inv_act",
    "labels_to_onehots",
    "main",
    "rand_onehots",
]


def __dir__() -> list[str]:
    return __all__


TRAIN_BATCHES, TEST_BATCHES, EPOCHS = 20, 500, 10


def get_pairs(data: Any = None) -> tuple[list[Pair], list[Pair]]:
    """Make the script's batches: 20 to train on and 500 equal ones to test on, in file order.

    Parameters
    ----------
    data : folder or file, None, or Dataset
        What `swiftnets.datasets.load` reads (None: the sample inside the package), or its result.

    Returns
    -------
    train_pairs, test_pairs : lists of ((n, 3072), (n, 100)) float64 arrays
        Pixels ``image / 256 - 0.5`` and one-hot rows. The sizes of training batches differ by one
        at most. CIFAR-100 gives 2500 and 20 images a batch, and takes 1.5 GB.

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
    (20, 500, (250, 3072), (250, 100))
    """
    images = load_images(data)
    return (
        list(image_batches(images, "train", TRAIN_BATCHES, equal=False)),
        list(image_batches(images, "test", TEST_BATCHES, equal=True)),
    )


def _print_event(event: FitEvent[StepReport], original: bool) -> None:
    print(f"it: {event.batch}, err: {event.err}")
    if original:
        for which in ("first", "second"):
            print(f"start {which} pinv\nend {which} pinv")
    if (count := event.correct_count) is not None:
        print(f"corrects: {float(count.correct)}\ntotal: {float(count.total)}")


def _work(options: argparse.Namespace) -> None:
    net = FastNet(r=options.r, seed=seed_of(options))
    train, test = get_pairs(options.data)
    if not options.quiet:
        print(train[0][0].mean())
    history = net.fit(
        train,
        test,
        epochs=options.epochs,
        iterations=options.iterations,
        original=options.original,
        callback=None if options.quiet else partial(_print_event, original=options.original),
        progress=wants_bar(options),
        checkpoint=options.checkpoint,
    )
    if options.save is not None:
        save(options.save, history, net.seed, w=net.w)


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
        "fast_net",
        "Train a perceptron on images by Newton steps through the functional inverse of its "
        "gradient, and print what the original script prints.",
        EPOCHS,
        original=f"do as the original: a finite difference of width {ORIGINAL_R:g}, whose rounding "
        "noise shows, and its lines about pseudo-inverses",
    )
    parser.add_argument(
        "--r",
        type=float,
        metavar="R",
        help="width of the finite difference (default: its exact limit)",
    )
    return program(parser, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
