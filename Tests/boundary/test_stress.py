"""The short forms of Tests/stress: forks, threads on shared objects, runs that are killed."""

import subprocess
import sys
from pathlib import Path

import pytest
from sanitized import without_leaks

STRESS = Path(__file__).resolve().parents[1] / "stress"


FORMS = [("forks.py", 22), ("threads.py", 10), ("kills.py", 20)]


@pytest.mark.parametrize(("script", "seconds"), FORMS)
def test_the_short_form_finds_nothing(script, seconds):
    command = [sys.executable, STRESS / script, "--seconds", str(seconds)]
    run = subprocess.run(
        command, env=without_leaks(), capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
