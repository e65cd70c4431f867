"""Kernels read whole vectors: what lies behind the last one is memory all the same."""

import subprocess
import sys

import pytest

FISHER = """
import sys
import numpy as np
from swiftnets import MLP

dtype = sys.argv[1]
random = np.random.default_rng(0)
for i in [*range(201, 233), 333, 505, 681, 853]:
    net = MLP((i, 3, 3), bias=False, dtype=dtype)
    w = net.initial(0)
    x, y = (random.standard_normal((1024, width)).astype(dtype) for width in (i, 3))
    point = net.at(w, x, y)
    block = point.fisher("empirical").dense(block=(1, 1))
    if i < 204:
        gradients = point.per_sample_gradients()[:, -9:]
        np.testing.assert_allclose(block, gradients.T @ gradients, rtol=1e-3, atol=1e-2)
"""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_block_at_the_end_of_all_gradients_reads_nothing_behind_them(dtype):
    command = [sys.executable, "-X", "faulthandler", "-c", FISHER, dtype]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
