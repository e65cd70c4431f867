"""The short forms of Tests/stress: forks at random moments, threads on shared objects."""

import subprocess
import sys
from pathlib import Path

import pytest

STRESS = Path(__file__).resolve().parents[1] / "stress"


@pytest.mark.parametrize(("script", "seconds"), [("forks.py", 22), ("threads.py", 10)])
def test_the_short_form_finds_nothing(script, seconds):
    command = [sys.executable, STRESS / script, "--seconds", str(seconds)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
