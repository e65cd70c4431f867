"""Memory of single calls on many samples: their inputs, and little beside them."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
import numpy as np
from swiftnets import MLP
from swiftnets.linalg import lanczos

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

net = MLP((784, 256, 10), loss="softmax_cross_entropy")
w, v = net.initial(seed=0), net.initial(seed=1)
before = status("VmRSS")
x, labels = np.full((60_000, 784), 0.25), np.arange(60_000) % 10
inputs = x.nbytes + labels.nbytes + w.nbytes + v.nbytes
calls = {
    "gradient": lambda: net.gradient(w, x, labels),
    "hvp": lambda: net.hvp(w, x, labels, v),
    "lanczos": lambda: lanczos(lambda u: net.hvp(w, x, labels, u), v, 2),
}
calls[sys.argv[1]]()
print((status("VmHWM") - before) / inputs)
"""


def has_peak():
    try:
        return "VmHWM" in Path("/proc/self/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not has_peak(), reason="the system does not tell a process's peak of memory")
@pytest.mark.parametrize("call", ["gradient", "hvp", "lanczos"])
def test_a_call_on_many_samples_stays_near_its_inputs(call):
    done = subprocess.run(
        [sys.executable, "-c", CODE, call],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    # The inputs, 380 MB, are there before the call and count once; without them there was no call.
    assert 0.99 < float(done.stdout) < 1.5
