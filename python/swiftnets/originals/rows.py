"""What verification found: rows of differences, whether parity held, tables and pictures of it."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from swiftnets import __version__
from swiftnets._support.files import write_atomically
from swiftnets._support.plotting import figure_class, save_figure

__all__ = [
    "HEADER",
    "Row",
    "draw",
    "format_row",
    "parity",
    "require_format",
    "summary",
    "write_json",
]


def __dir__() -> list[str]:
    return __all__


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
    correct: int | None
    """Correctly classified test samples, where both count them on this line."""
    other_correct: int | None
    note: str
    """Why this row is excluded from the verdict; empty if it is not."""

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
            and self.correct == self.other_correct
        )


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    for net, against in dict.fromkeys((row.net, row.against) for row in rows):
        yield net, against, [row for row in rows if (row.net, row.against) == (net, against)]


def parity(rows: Sequence[Row]) -> bool:
    """Whether parity held: all rows but the excluded ones, and one beyond the initial weights.

    Parameters
    ----------
    rows : sequence of Row

    Returns
    -------
    bool
    """
    counted = [row for row in rows if not row.note]
    return all(row.held for row in counted) and any(row.iteration for row in counted)


def summary(rows: Sequence[Row]) -> list[str]:
    """Say in a sentence for every net and peer: largest differences, those allowed, the speed.

    Parameters
    ----------
    rows : sequence of Row
        As `swiftnets.originals.verify.check` returns them, of one net or of both.

    Returns
    -------
    list of str
    """
    said = []
    for net, against, group in _groups(rows):
        counted = [row for row in group if not row.note]
        text = f"{net}_net against {against}: "
        if counted:
            worst_error = max(counted, key=lambda row: row.error_difference)
            worst_weight = max(counted, key=lambda row: row.weight_difference)
            text += (
                f"parity {'held' if parity(counted) else 'LOST'} over {counted[-1].iteration} "
                f"iterations: errors within {worst_error.error_difference:.1e} "
                f"({worst_error.error_tolerance:.1e} allowed), weights within "
                f"{worst_weight.weight_difference:.1e} "
                f"({worst_weight.weight_tolerance:.1e} allowed)"
            )
        if len(counted) < len(group):
            text += f"{'; ' if counted else ''}{group[-1].note}"
        ours = [row.seconds for row in group if row.seconds is not None]
        theirs = [row.other_seconds for row in group if row.other_seconds is not None]
        if ours and theirs:
            a, b = statistics.median(ours), statistics.median(theirs)
            text += f"; medians {a:.2g} s and {b:.2g} s an iteration, ratio {_times(b / a)}"
        said.append(text)
    return said


HEADER = (
    f"{'net':4} {'against':9} {'iteration':>9} {'engine error':>22} {'other error':>22} "
    f"{'d(errors)':>9} {'d(weights)':>10} {'engine s':>9} {'other s':>9} {'ratio':>8}"
)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:,.{0 if ratio >= 100 else 1}f}"


def format_row(row: Row) -> str:
    """Format a row as a line of the table below `HEADER`.

    Parameters
    ----------
    row : Row

    Returns
    -------
    str
    """

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
    if row.correct != row.other_correct:
        counts = f", correct {row.correct} and {row.other_correct}"
    return (
        f"{text}  PARITY LOST (allowed: {row.error_tolerance:.1e}, "
        f"{row.weight_tolerance:.1e}{counts})"
    )


def write_json(path: str, rows: Sequence[Row], seed: int, data: str | None) -> None:
    """Write rows as JSON.

    Parameters
    ----------
    path : path
        Written whole or not at all.
    rows : sequence of Row
    seed : int
    data : str or None
        What the images were read from.
    """

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


def require_format(path: str) -> None:
    """Refuse a picture in a format that Matplotlib does not write, before the work.

    Parameters
    ----------
    path : str

    Raises
    ------
    ValueError
        If the ending names no format.
    ImportError
        If Matplotlib is not installed.
    """
    figure = figure_class()()
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
        As `swiftnets.originals.verify.check` returns them, of one net or of both.
    path : file to write
        Its ending names the format: ``.png``, ``.svg``, ``.pdf``.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    figure_of = figure_class()
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
