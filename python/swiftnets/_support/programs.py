"""How a program ends: by a status, and at most one sentence. Nothing here is public."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from swiftnets._support.streams import StandardError

# As shells have it of programs that a signal ended: Ctrl-C, or nobody reads the output any more.
INTERRUPTED, UNREAD = 128 + signal.SIGINT, 128 + signal.SIGPIPE


def run(
    name: str,
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
) -> int:
    """Parse the command line and do the work; an error becomes one sentence and an exit status.

    Parameters
    ----------
    name : str
        Of the program, for the sentence.
    parser : argparse.ArgumentParser
        Where it has a ``checkpoint`` that is named after Ctrl-C.
    work : callable
        Of the options. What it returns is the status, None is 0.
    argv : list of str or None
        None: those of the command line.

    Returns
    -------
    int
        The work's; 2 after an error, 130 after Ctrl-C, 141 if nobody reads the output any more.

    Raises
    ------
    SystemExit
        Argparse's, after ``--help`` that is written, or a wrong argument.
    """
    status = 0
    try:
        try:
            status = _status(name, work, _options(parser, argv))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return status or UNREAD
    except OSError as error:  # a full disk
        _drop_output()
        if not status:
            print(f"{name}: standard output: {error.strerror}", file=StandardError())
        return status or 2
    return status


def _options(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            return parser.parse_args(argv)
    finally:
        print(end=shown.getvalue())  # argparse itself would drop what cannot be written


def _status(
    name: str, work: Callable[[argparse.Namespace], int | None], options: argparse.Namespace
) -> int:
    try:
        return work(options) or 0
    except KeyboardInterrupt:
        checkpoint, kept = getattr(options, "checkpoint", None), ""
        if checkpoint is not None and os.path.exists(checkpoint):
            kept = f"; {os.fsdecode(checkpoint)} holds the run so far"
        print(f"{name}: interrupted{kept}", file=StandardError())
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except (ArithmeticError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        words = [str(error) or type(error).__name__, *getattr(error, "__notes__", [])]
        print(f"{name}: {' '.join(' '.join(words).split())}", file=StandardError())
    except MemoryError as error:
        print(f"{name}: out of memory: {error}", file=StandardError())
    return 2


def _drop_output() -> None:
    """Let Python's flush at its end find somebody who takes what is left."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
