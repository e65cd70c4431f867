"""Which instructions the engine uses: the processor's, or fewer by the environment."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

CODE = """
import sys
import numpy as np
from swiftnets import MLP, _core

print(_core.level())
r = np.random.default_rng(0)
net = MLP((150, 67, 40, 3), activation="gelu")
w, x, y = net.initial(0), r.standard_normal((170, 150)), r.standard_normal((170, 3))
point = net.at(w, x, y)
np.save(sys.argv[1], np.stack([point.gradient, w @ point.hessian]))
"""

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="levels are of x86-64")


def run(level, *arguments, code=CODE):
    environment = {**os.environ, "SWIFTNETS_LEVEL": level}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


def test_every_level_up_to_the_processors_gives_the_same_numbers_to_rounding(tmp_path):
    results = {}
    for limit in ("baseline", "v3", "v4", ""):
        file = tmp_path / f"{limit or 'none'}.npy"
        done = run(limit, str(file))
        assert done.returncode == 0, done.stderr
        level = done.stdout.strip()
        results.setdefault(level, []).append(np.load(file))
    levels = ["baseline", "v3", "v4"]
    assert list(results) == levels[: levels.index(level) + 1]  # the last is the processor's
    for same in results.values():  # the same level, the same bits
        assert all(np.array_equal(one, same[0]) for one in same)
    first = results["baseline"][0]
    for others in results.values():
        # Four sums one after the other, of 430 terms together, forwards and backwards, each term
        # up to √170 times what such a sum of signs at random comes to.
        scale = np.abs(first).max(axis=1, keepdims=True)
        assert (np.abs(others[0] - first) <= 1e4 * 2.0**-53 * scale).all()


def test_a_level_that_there_is_not_is_refused():
    done = run("v5", code="import swiftnets; swiftnets.get_threads()")
    assert 'ValueError: SWIFTNETS_LEVEL is "v5"; expected v4, v3 or baseline' in done.stderr
