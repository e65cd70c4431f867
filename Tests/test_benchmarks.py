"""Benchmarks say how they are used, and `make bench` runs all of them; no test measures time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = sorted(
    path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()
)

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="needs a source tree")


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_benchmark_says_how_it_is_used(path):
    done = subprocess.run(
        [sys.executable, path, "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout and f"python benchmarks/{path.name}" in done.stdout


def test_make_bench_runs_every_benchmark():
    (command,) = re.findall(r"^bench:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "benchmarks/run.py" in command
    runner = (ROOT / "benchmarks" / "run.py").read_text()
    page = (ROOT / "benchmarks" / "README.md").read_text()
    for path in PROGRAMS:
        if path.name != "run.py":
            assert re.search(rf"\b{path.stem}\.report\(|{path.name}", runner), path.name
        assert path.name in page, path.name
