"""How many threads a call uses is the user's to say, by a function or the environment."""

import os
import subprocess
import sys
import threading

import pytest

import swiftnets

# Calls of every kind, each large enough for a team, and the threads of the process after them.
WORK = """
import os
import numpy as np
import swiftnets
from swiftnets import MLP, FastNet, SlowNet, datasets

count = swiftnets.get_threads()
before = len(os.listdir("/proc/self/task"))
r = np.random.default_rng(0)
net = MLP((40, 60, 10), loss="softmax_cross_entropy")
w, x, labels = net.initial(0), r.standard_normal((900, 40)), r.integers(0, 10, 900)
v = r.standard_normal((8, net.parameter_count))
point = net.at(w, x, labels)
v @ point.hessian, point.hessian.lanczos(v, 5), point.third(v[0], v[1]), point.hessian.dense()
small = MLP([8] * 6)
ws, xs, ys = small.initial(0), r.standard_normal((12, 8)), r.standard_normal((12, 8))
for method in ("layered", "dense"):
    factors = (small.at(ws, xs, ys).hessian + 0.5).factorize(method=method)
    factors.solve(r.standard_normal((40, small.parameter_count)))
images, targets = r.integers(0, 256, (300, 900)) / 256 - 0.5, np.eye(10)[r.integers(0, 10, 300)]
FastNet(900, 10, seed=0).step(images, targets)
SlowNet(50, 50, 10, seed=0).step(r.standard_normal((300, 50)), targets)
print(count, len(os.listdir("/proc/self/task")) - before)
"""


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )


def test_the_environment_says_how_many_threads_every_call_uses():
    reported = [run(WORK, SWIFTNETS_NUM_THREADS=str(count)) for count in (1, 3)]
    assert [one.returncode for one in reported] == [0, 0], reported[0].stderr + reported[1].stderr
    (one, none), (three, more) = (result.stdout.split() for result in reported)
    assert (one, none) == ("1", "0")
    assert (three, more) == ("3", "2")


def test_an_empty_environment_variable_is_as_none():
    code = "import swiftnets; print(swiftnets.get_threads())"
    assert run(code, SWIFTNETS_NUM_THREADS="").stdout == run(code).stdout


@pytest.mark.parametrize("text", ["0", "-1", "65", "many", "2.5", "2 3", "9" * 30])
def test_a_wrong_environment_variable_is_an_error_that_names_it(text):
    reported = run("from swiftnets import MLP; MLP((1, 1))", SWIFTNETS_NUM_THREADS=text).stderr
    assert f'ValueError: SWIFTNETS_NUM_THREADS is "{text}"; expected an integer from 1' in reported


def test_a_count_holds_for_all_threads_until_the_block_ends():
    before, seen = swiftnets.get_threads(), []
    with pytest.raises(KeyError), swiftnets.threads(5):
        other = threading.Thread(target=lambda: seen.append(swiftnets.get_threads()))
        other.start()
        other.join()
        with swiftnets.threads(2):
            seen.append(swiftnets.get_threads())
        seen.append(swiftnets.get_threads())
        raise KeyError
    assert seen == [5, 2, 5]
    assert swiftnets.get_threads() == before


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (65, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_wrong_count_changes_nothing(count, error):
    before = swiftnets.get_threads()
    with pytest.raises(error, match="count is .*; expected an integer from 1 to 64"):
        swiftnets.set_threads(count)
    with pytest.raises(error, match="count is"):
        swiftnets.threads(count)
    assert swiftnets.get_threads() == before
