"""Pictures, by Matplotlib where it is installed."""

from __future__ import annotations

import io
import os
from typing import Any

from swiftnets._support.files import File, write_atomically


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
