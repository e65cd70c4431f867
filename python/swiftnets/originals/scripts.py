"""An original script, run as it is in a child process, its lines and weights taken one by one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import queue
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from swiftnets._support.files import lock, remove_abandoned
from swiftnets.originals.pairs import load_images
from swiftnets.originals.reference import Line

__all__ = ["LINES", "WEIGHTS", "OriginalError", "Timed", "run_script", "script_lines"]


def __dir__() -> list[str]:
    return __all__


WEIGHTS = {"slow": ("w1", "w2"), "fast": ("w",)}
# Lines that a script prints before it ends: epochs times training batches.
LINES = {"slow": 200 * 1000, "fast": 10 * 20}

Timed: TypeAlias = Generator[tuple[Line, float | None], None, None]
"""Lines, each with the seconds since the line before; None on the first."""


class OriginalError(ChildProcessError):
    """An original script failed, ended early, or printed what could not be read."""


class _Watch(io.TextIOBase):
    """Standard output of an original script: at every ``it:`` line it hands over and waits."""

    def __init__(self, namespace: dict[str, Any], names: Sequence[str], folder: str) -> None:
        self._namespace, self._names, self._folder = namespace, names, folder
        self._channel, self._partial = sys.stdout, ""
        self._since = time.perf_counter()

    def write(self, text: str) -> int:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            found = re.fullmatch(r"it: \d+, err: (\S+)", line.strip())
            if found:
                self._hand_over(found[1])
        return len(text)

    def _hand_over(self, error: str) -> None:
        seconds = time.perf_counter() - self._since
        # A copy on disk: the script goes on to change its arrays in place.
        weights = [np.asarray(self._namespace[name], np.float64) for name in self._names]
        np.savez(os.path.join(self._folder, "weights.npz"), *weights)
        print(json.dumps({"error": error, "seconds": seconds}), file=self._channel, flush=True)
        if not sys.stdin.readline():  # asked to stop, or nobody is left to listen
            raise SystemExit
        self._since = time.perf_counter()


def run_script(script: str, seed: str, folder: str, *names: str) -> None:
    """Seed, then run a script as ``python script`` would: what the child process does.

    Parameters
    ----------
    script : str
        The file.
    seed : str
        A number, for both generators.
    folder : str
        Where the weights are put at every line.
    *names : str
        The weights' names in the script.
    """
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": script}
    sys.path.insert(0, os.path.dirname(script))
    sys.argv = [script]
    code = compile(Path(script).read_bytes(), script, "exec")
    sys.stdout = _Watch(namespace, names, folder)
    random.seed(int(seed))
    np.random.seed(int(seed))
    exec(code, namespace)


_SCRATCH = ".swiftnets-verify-"
_CHILD = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from swiftnets.originals.scripts import run_script; run_script(*sys.argv[2:])"
)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """Make a temporary folder. Those that killed processes left make way: data may be large."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}????????"):
        remove_abandoned(folder)
    while True:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as scratch:
            descriptor = os.open(scratch, os.O_RDONLY)
            try:
                if lock(descriptor, Path(scratch)):
                    yield scratch
                    return
            finally:
                os.close(descriptor)


def _original_folder(data: Any, scratch: str) -> str:
    """Folder with ``cifar_train`` and ``cifar_test``: the data's own, or one written from it."""
    if isinstance(data, (str, os.PathLike)):
        folder = Path(data)
        if (folder / "cifar_train").is_file() and (folder / "cifar_test").is_file():
            return str(folder.resolve())
    data = load_images(data)
    for name in ("train", "test"):
        content = {
            b"data": np.asarray(getattr(data, f"{name}_images"), np.uint8),
            b"fine_labels": [int(label) for label in getattr(data, f"{name}_labels")],
        }
        with open(os.path.join(scratch, f"cifar_{name}"), "wb") as file:
            pickle.dump(content, file, protocol=4)
    return scratch


def script_lines(
    net: str,
    script: Path,
    data: Any,
    seed: int,
    steps: int,
    timeout: float,
    waiting: Callable[[str, int, float], None] | None,
) -> Timed:
    """Yield the lines of an original script, run in a child process that waits at every line.

    Parameters
    ----------
    net : {"slow", "fast"}
    script : Path
    data : folder, None or object
        As for `swiftnets.originals.verify.check`.
    seed : int
    steps : int
        The last line that is wanted.
    timeout : float
        Seconds that the script may take for one line.
    waiting : callable or None
        Called about every second of waiting with the script's name, the line and the seconds.

    Yields
    ------
    Line, float or None
        The line with its weights, and the seconds since the line before.

    Raises
    ------
    OriginalError
        If the script fails, ends early, or exceeds `timeout`.
    """
    with (
        _scratch() as scratch,
        open(os.path.join(scratch, "stderr"), "w+", encoding="utf-8", errors="replace") as stderr,
    ):
        package = str(Path(__file__).resolve().parents[2])
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, package]
            + [str(script), str(seed), scratch, *WEIGHTS[net]],
            cwd=_original_folder(data, scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert child.stdin is not None and child.stdout is not None
        messages: queue.SimpleQueue[str] = queue.SimpleQueue()

        def listen(pipe: Any = child.stdout) -> None:
            for message in pipe:
                messages.put(message)
            messages.put("")

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            for iteration in range(steps + 1):
                message = _wait(messages, script.name, iteration, timeout, waiting)
                if not message:
                    status = child.wait()
                    stderr.seek(0)
                    tail = "".join(stderr.readlines()[-8:]).strip()
                    raise OriginalError(
                        f"{script.name} ended with status {status} before iteration {iteration} "
                        f"of {steps}; its last words: {tail or '(none)'}"
                    )
                sent = json.loads(message)
                with np.load(os.path.join(scratch, "weights.npz")) as saved:
                    weights = tuple(saved[name] for name in saved.files)
                line = Line(iteration, float(sent["error"]), None, weights)
                yield line, sent["seconds"] if iteration else None
                if iteration < steps:
                    with contextlib.suppress(BrokenPipeError):  # the next wait says why
                        child.stdin.write("go\n")
                        child.stdin.flush()
        finally:
            child.kill()
            child.wait()
            listener.join()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.stdout.close()


def _wait(
    messages: queue.SimpleQueue[str],
    name: str,
    iteration: int,
    timeout: float,
    waiting: Callable[[str, int, float], None] | None,
) -> str:
    start = time.monotonic()
    while (waited := time.monotonic() - start) < timeout:
        try:
            return messages.get(timeout=min(1.0, timeout - waited))
        except queue.Empty:
            if waiting:
                waiting(name, iteration, time.monotonic() - start)
    raise OriginalError(
        f"{name} did not print the `it:` line of iteration {iteration} within {timeout:g} s; "
        f"a larger timeout gives it more"
    )
