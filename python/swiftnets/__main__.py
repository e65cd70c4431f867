"""``python -m swiftnets``: which programs there are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from swiftnets import __version__
from swiftnets._support.programs import run

__all__ = ["PROGRAMS", "main"]


def __dir__() -> list[str]:
    return __all__


PROGRAMS = {
    "swiftnets.slow_net": "train a small net by saddle-free Newton steps on its exact Hessian",
    "swiftnets.fast_net": "Newton's method through the functional inverse of the gradient",
    "swiftnets.originals.demo": "verify both nets, train them, time them and draw their curves",
    "swiftnets.originals.verify": "engine, NumPy reference and the scripts of 2019 side by side",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the programs.

    Parameters
    ----------
    argv : list of str, optional
        Arguments instead of those of the command line.

    Returns
    -------
    int
        The exit status.

    Examples
    --------
    >>> main([])  # doctest: +ELLIPSIS
    swiftnets ...
    """
    wide = max(map(len, PROGRAMS))
    listed = "\n".join(f"  python -m {name:{wide}}  {text}" for name, text in PROGRAMS.items())
    parser = argparse.ArgumentParser(
        prog="python -m swiftnets",
        description="Exact curvature of small and medium neural nets. The programs of the package:",
        epilog=f"{listed}\n\nEach has --help. The library begins with `from swiftnets import MLP`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"swiftnets {__version__}"
    parser.add_argument("--version", action="version", version=version)

    def work(_: argparse.Namespace) -> None:
        print(f"{version}: {parser.description}\n\n{parser.epilog}")

    return run("swiftnets", parser, work, argv)


if __name__ == "__main__":
    sys.exit(main())
