"""The command lines of both nets' programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from swiftnets._support import checks
from swiftnets._support.files import writable
from swiftnets._support.programs import run
from swiftnets._support.streams import StandardError
from swiftnets.originals.checkpoint import start_of

__all__ = ["Parser", "program", "seed_of", "wants_bar"]


def __dir__() -> list[str]:
    return __all__


class Parser(argparse.ArgumentParser):
    """The flags that both programs have; an error in them is one sentence.

    Parameters
    ----------
    name : str
        Of the module in `swiftnets`.
    description : str
    epochs : int
        The default, the original's.
    original : str
        The help on ``--original``.
    """

    def __init__(self, name: str, description: str, epochs: int, original: str) -> None:
        super().__init__(
            prog=f"python -m swiftnets.{name}",
            description=description,
            epilog="Exit status: 0 when the run is complete, 2 when something is wrong, 130 after "
            "Ctrl-C, which writes the checkpoint first, 141 when nobody reads the output any more.",
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
        """End the process with status 2 and one sentence.

        Parameters
        ----------
        message : str
        """
        self.exit(2, f"{self.name}: {message}; --help tells more\n")


def seed_of(options: argparse.Namespace) -> int | None:
    """Return the seed that was given, else that of the checkpoint to go on from, else None.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    int or None

    Raises
    ------
    ValueError
        If the seed is out of its range.
    CheckpointError
        If the checkpoint is damaged.
    """
    if options.seed is None:
        start = start_of(options.checkpoint)
        if start is not None:
            return start.seed
    return checks.seed(options.seed)


def program(
    parser: Parser, work: Callable[[argparse.Namespace], None], argv: Sequence[str] | None
) -> int:
    """Parse the command line and `run` the work.

    Parameters
    ----------
    parser : Parser
    work : callable
        Of the options.
    argv : list of str or None
        None: those of the command line.

    Returns
    -------
    int
        The exit status, as of `run`.
    """

    def body(options: argparse.Namespace) -> None:
        if options.save is not None:
            # Better known before the run than after it.
            place = writable(options.save, "save")
            kept = options.checkpoint
            if kept is not None and writable(kept, "checkpoint") == place:
                raise ValueError(f"save and checkpoint are both {place}; expected two files")
        work(options)

    return run(parser.name, parser, body, argv)


def wants_bar(options: argparse.Namespace) -> bool:
    """Whether a bar is seen and disturbs nothing: the lines go elsewhere than the terminal.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    bool
    """
    return not options.quiet and StandardError().isatty() and not sys.stdout.isatty()
