"""Children of a fork use what their parent has not used yet, on two threads."""

import subprocess
import sys

# Generic types are made at their first use, under a lock of the Swift runtime's that holds a
# thread's ID; of it the runtime kept the parent's, and two threads could wait for each other for
# ever. Some thirty first uses a child, of which one in some thousand met.
CHILDREN = """
import os, signal, sys
import numpy as np
import swiftnets
from swiftnets import MLP, Network
from swiftnets.nets import Conv2d, Dense, Flatten

swiftnets.set_threads(2)
r = np.random.default_rng(0)
x, y = r.standard_normal((200, 6)), r.standard_normal((200, 4))
images = r.standard_normal((60, 2, 6, 6))

def child():
    for dtype in ("f8", "f4"):
        net = MLP((6, 12, 4), dtype=dtype)
        other = Network([Conv2d(2, 3, 3), "tanh", Flatten(), Dense(48, 4)], (2, 6, 6), dtype=dtype)
        for point in (
            net.at(net.initial(seed=0), x, y),
            other.at(other.initial(seed=0), images, y[:60]),
        ):
            rows = np.eye(point.net.parameter_count, dtype=dtype)[:8]
            point.third(rows[0], rows), point.fourth(rows[0], rows[1], rows), point.taylor(rows[0])
            point.hessian.products(rows), point.gauss_newton.dense(), point.jvp(rows)
            point.per_sample_gradients(), point.jacobian(), point.hessian.diagonal()

for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # ends the child
        child()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "a child hung, or failed"
"""


def test_children_of_a_fork_use_what_is_new_to_them():
    subprocess.run([sys.executable, "-c", CHILDREN, "40"], check=True, timeout=300)
