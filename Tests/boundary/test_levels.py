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
from swiftnets import MLP, Network, _core, nets

print(_core.level())
r = np.random.default_rng(0)
net = MLP((150, 67, 40, 3), activation="gelu")
w, x, y = net.initial(0), r.standard_normal((170, 150)), r.standard_normal((170, 3))
point = net.at(w, x, y)
body = [nets.Conv2d(9, 9, 3, padding=1), nets.GroupNorm(3, 9), "silu"]
layers = [nets.Conv2d(3, 9, 3), nets.Residual(body), nets.MaxPool2d(2), nets.Flatten()]
image = Network([*layers, nets.Dense(9 * 25, 7)], (3, 12, 12), loss="softmax_cross_entropy")
layers = [nets.LayerNorm(10), nets.SelfAttention(10, 2), nets.Dense(10, 19), "gelu"]
former = Network([*layers, nets.MeanOverPositions(), nets.Dense(19, 7)], (11, 10))
found = [point.gradient, w @ point.hessian]
for net in image, former:
    w, x = net.initial(0), r.standard_normal((20, *net.input_shape))
    y = r.integers(0, 7, 20) if net is image else r.standard_normal((20, 7))
    point = net.at(w, x, y)
    found += [point.gradient, w @ point.hessian, point.third(w, w)]
np.savez(sys.argv[1], *found)
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
        file = tmp_path / f"{limit or 'none'}.npz"
        done = run(limit, str(file))
        assert done.returncode == 0, done.stderr
        level = done.stdout.strip()
        with np.load(file) as arrays:
            results.setdefault(level, []).append([arrays[name] for name in arrays])
    levels = ["baseline", "v3", "v4"]
    assert list(results) == levels[: levels.index(level) + 1]  # the last is the processor's
    for same in results.values():  # the same level, the same bits
        assert all(all(map(np.array_equal, one, same[0])) for one in same)
    first = results["baseline"][0]
    for others in results.values():
        # Four sums one after the other, of 430 terms together, forwards and backwards, each term
        # up to √170 times what such a sum of signs at random comes to.
        for ours, theirs in zip(others[0], first, strict=True):
            assert np.abs(ours - theirs).max() <= 1e4 * 2.0**-53 * np.abs(theirs).max()


def test_a_level_that_there_is_not_is_refused():
    done = run("v5", code="import swiftnets; swiftnets.get_threads()")
    assert 'ValueError: SWIFTNETS_LEVEL is "v5"; expected v4, v3 or baseline' in done.stderr
