"""Standard error for progress: a run must not end for a bar. Nothing here is public."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


class StandardError:
    """Standard error as it is now; what it cannot take is dropped: closed, full, or not there."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return sys.stderr is not None and sys.stderr.isatty()
        return False

    def __getattr__(self, name: str) -> Any:  # its encoding and its width, for tqdm
        return getattr(sys.stderr, name)
