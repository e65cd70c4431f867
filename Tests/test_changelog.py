"""The changelog's table of old and new words: what it says to write now runs."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from swiftnets import MLP

PAGE = Path(__file__).resolve().parents[1] / "CHANGELOG.md"
# What the right column takes as given.
GIVEN = """
import numpy as np
from swiftnets import MLP, curvature, interop, linalg, nets, optimizers, problems, solve

rng = np.random.default_rng(0)
net = MLP((3, 4, 2), activation="tanh")
w, x, y = net.initial(seed=0), rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
rows, outputs = rng.standard_normal((3, net.parameter_count)), rng.standard_normal((6, 2))
u, v, s = rows
b, λ, path = w, 3.0, "tensor.npy"
loss, gradient = net.loss_and_gradient(w, x, y)
products = product = lambda rows: 2 * rows
problem, method = problems.NetProblem(net, x, y), optimizers.Adam()
"""

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs a source tree")


def rows():
    """(before, now) of each row of the table."""
    table = PAGE.read_text().partition("### Before and now")[2]
    return re.findall(r"^\| (.*?) \| (.*) \|$", table, re.MULTILINE)[2:]


def test_what_the_table_says_to_write_now_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(GIVEN, names)
    assert len(rows()) > 25
    for _, now in rows():
        for code in re.findall(r"`(.*?)`", now):
            if code.startswith("python -m "):
                assert find_spec(code.split()[-1]), code
                continue
            try:
                exec(code, names)
            except Exception as error:
                raise AssertionError(f"{code}: {error!r}") from error


def test_what_the_table_says_to_write_no_more_is_gone():
    gone = {name for before, _ in rows() for name in re.findall(r"\bnet\.(\w+)\(", before)}
    gone.remove("solve")  # with other options
    assert len(gone) > 10 and not [name for name in gone if hasattr(MLP, name)]
