"""Memory of single calls on many samples: their inputs, and little beside them."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from swiftnets import MLP, Network
from swiftnets.nets import MeanOverPositions, SelfAttention

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


POINT = """
import numpy as np
from swiftnets import Network, threads
from swiftnets.nets.layers import Conv2d, Dense, GlobalAvgPool2d

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

net = Network(
    [Conv2d(1, 16, 3), "tanh", Conv2d(16, 16, 3), "tanh", GlobalAvgPool2d(), Dense(16, 2)],
    input_shape=(1, 66, 66),
)
w, v = net.initial(seed=0), net.initial(seed=1)
x, y = np.random.default_rng(0).standard_normal((300, 1, 66, 66)), np.ones((300, 2))
before = status("VmRSS")
point = net.at(w, x, y)
product = point.hessian @ v
peak = status("VmHWM") - before
halves = sum(net.hvp(w, x[part], y[part], v) for part in (slice(0, 150), slice(150, 300)))
plan = net.memory_plan(300)
print(plan.point, plan.working, x.nbytes, peak, abs(product - halves).max() / abs(halves).max())
"""


@pytest.mark.skipif(not has_peak(), reason="the system does not tell a process's peak of memory")
def test_a_point_keeps_as_much_as_it_says_and_makes_the_rest_anew():
    done = subprocess.run(
        [sys.executable, "-c", POINT], capture_output=True, text=True, timeout=300, check=True
    )
    point, working, inputs, peak, error = map(float, done.stdout.split())
    assert point > 2**30  # else all would be kept
    assert point < peak < 1.2 * (point + working) + inputs
    # Two sums of 300 samples' terms in another order: a few hundred roundings.
    assert error < 1e-13


KEPT = """
import ctypes
import sys
import numpy as np
from swiftnets import MLP, set_threads

class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo2

def in_use():
    now = mallinfo2()
    return now.uordblks + now.hblkhd

set_threads(8)
width = int(sys.argv[1])
net = MLP((2, width, width, 1))
w, x, y = net.initial(seed=0), np.ones((300, 2)), np.ones((300, 1))
before = in_use()
point, rows = net.at(w, x, y), np.stack([w] * 8)
point.hessian.products(rows), point.third(w, rows)
taken = in_use() - before
del point, rows
print(taken, in_use() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the allocator tells none")
@pytest.mark.parametrize(("width", "is_kept"), [(40, True), (256, False)])
def test_a_net_keeps_up_to_64_mib_of_its_last_point(width, is_kept):
    """What its threads worked in counts: the pass of the wide one is 8 MiB, and all of it 85."""
    done = subprocess.run(
        [sys.executable, "-c", KEPT, str(width)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    taken, kept = map(int, done.stdout.split())
    assert (taken < 64 << 20) == is_kept
    # All but the rows, or nothing but what Python itself has taken since.
    assert kept > taken - (1 << 20) if is_kept else kept < 1 << 20


def test_a_plan_names_what_is_no_number_of_samples():
    net = MLP((2, 1))
    with pytest.raises(ValueError, match="samples is 0"):
        net.memory_plan(0)
    with pytest.raises(TypeError, match="samples"):
        net.memory_plan("many")
    assert net.memory_plan(200).point == 2 * net.memory_plan(100).point


def test_a_net_too_large_for_one_sample_says_what_that_takes():
    net = Network([SelfAttention(4, 2), MeanOverPositions()], (10**6, 4))
    x, y = np.zeros((1, 10**6, 4)), np.zeros((1, 4))
    working = net.memory_plan(1).working
    with pytest.raises(MemoryError, match=f"could not be allocated.* {working} bytes"):
        net.gradient(net.initial(seed=0), x, y)
