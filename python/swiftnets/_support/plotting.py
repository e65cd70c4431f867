"""Pictures, by Matplotlib where it is installed."""

from __future__ import annotations

import io
import os
from typing import Any

from swiftnets._support.files import File, write_atomically


def figure_class() -> Any:
    """Matplotlib's `Figure`, which needs no window and no global state.

    Returns
    -------
    type

    Raises
    ------
    ImportError
        Without Matplotlib; the message says how to install it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need Matplotlib: pip install swiftnets[plot]") from error
    return Figure


def axes_of(given: Any) -> Any:
    """The axes that are given, or those of a new figure."""
    return figure_class()(layout="constrained").add_subplot() if given is None else given


def styled(given: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """What a user gives for a line, over defaults: ``lw`` and ``linewidth`` are one.

    Parameters
    ----------
    given : dict
        As `matplotlib.axes.Axes.plot` takes it.
    **defaults : object
        By their long names.

    Returns
    -------
    dict
    """
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return {**defaults, **normalize_kwargs(given, Line2D)}


def save_figure(figure: Any, file: File, dpi: int) -> None:
    """Write a Matplotlib figure whole or not at all, in the format that the file's name ends in."""
    path = os.fsdecode(file)
    ending = os.path.splitext(path)[1].removeprefix(".")
    if not ending:  # as Matplotlib does it
        ending = figure.canvas.get_default_filetype()
        path = f"{path.rstrip('.')}.{ending}"
    content = io.BytesIO()
    figure.savefig(content, format=ending, dpi=dpi)
    write_atomically(path, lambda stream: stream.write(content.getbuffer()))
