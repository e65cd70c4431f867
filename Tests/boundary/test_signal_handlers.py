"""Signal handlers that call for the very object that they interrupt: an answer, or a refusal."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from swiftnets import MLP, FastNet, Network, SlowNet, nets

RNG = np.random.default_rng(0)


def hvp():
    net = MLP((60, 80, 10))
    x, y = RNG.standard_normal((2000, 60)), RNG.standard_normal((2000, 10))
    point = net.at(net.initial(0), x, y)
    v = RNG.standard_normal((64, net.parameter_count))
    return lambda: v @ point.hessian


def images():
    body = [nets.Conv2d(8, 8, 3, padding=1), nets.GroupNorm(2, 8), "silu"]
    layers = [nets.Conv2d(2, 8, 3), "tanh", nets.Residual(body), nets.MaxPool2d(2)]
    layers += [nets.Flatten(), nets.Dense(8 * 49, 5)]
    net = Network(layers, (2, 16, 16), loss="softmax_cross_entropy")
    x, y = RNG.standard_normal((60, 2, 16, 16)), RNG.integers(0, 5, 60)
    return net, net.initial(0), x, y


def images_hvp():
    net, *given = images()
    point, v = net.at(*given), RNG.standard_normal((8, net.parameter_count))
    return lambda: v @ point.hessian


def images_fourth():
    net, w, x, y = images()
    return lambda: net.at(w, x, y).fourth(w, w, w)


def layered():
    net = MLP([24] * 6)
    x, y = RNG.standard_normal((24, 24)), RNG.standard_normal((24, 24))
    return (net.at(net.initial(0), x, y).hessian + 1.0).factorize(method="layered")


def layered_update():
    factors = layered()
    return lambda: factors.update(1.0).solve(np.ones(factors.parameter_count))


def layered_solve():
    factors = layered()
    b = RNG.standard_normal((200, factors.parameter_count))
    return lambda: factors.solve(b)


def dense_update():
    net = MLP((30, 40, 10))
    x, y = RNG.standard_normal((50, 30)), RNG.standard_normal((50, 10))
    factors = (net.at(net.initial(0), x, y).hessian + 5.0).factorize(method="dense")
    return lambda: factors.update(5.0).solve(np.ones(net.parameter_count))


def slow_step():
    net = SlowNet(seed=0)
    x, y = RNG.standard_normal((50, 50)), np.eye(100)[RNG.integers(0, 100, 50)]
    return lambda: [net.step(x, y) for _ in range(100)]


def fast_step():
    images, targets = (
        RNG.integers(0, 256, (400, 800)) / 256 - 0.5,
        np.eye(10)[RNG.integers(0, 10, 400)],
    )
    net = FastNet(800, 10, seed=0)
    return lambda: net.step(images, targets)


@pytest.mark.parametrize(
    "make",
    [
        *(hvp, images_hvp, images_fourth),
        *(layered_update, layered_solve, dense_update, slow_step, fast_step),
    ],
)
def test_a_handler_that_uses_what_it_interrupts_gets_an_answer_or_an_error(make):
    operate = make()
    operate()
    busy, answered, inside = [], [], []

    def handler(number, frame):
        if inside:
            return
        inside.append(1)
        try:
            operate()
            answered.append(1)
        except RuntimeError as error:
            busy.append(str(error))
        finally:
            inside.pop()

    before = signal.signal(signal.SIGALRM, handler)
    watchdog = threading.Timer(600, lambda: signal.raise_signal(signal.SIGABRT))
    watchdog.start()
    try:
        for delay in np.linspace(0.003, 0.12, 6):
            signal.setitimer(signal.ITIMER_REAL, delay)
            for _ in range(20):
                operate()
                if not any(signal.getitimer(signal.ITIMER_REAL)):
                    break
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        watchdog.cancel()
    assert busy or answered
    assert all("in use" in message for message in busy)
    operate()


FORKING = """
import os, signal, sys, time
import numpy as np
from swiftnets import MLP, _core

_core.set_threads(3)
net = MLP((300, 300, 10))
r = np.random.default_rng(0)
x, y = r.standard_normal((2000, 300)), r.standard_normal((2000, 10))
point = net.at(net.initial(0), x, y)
expected = (point.hessian @ point.w).tobytes()
children, is_child = [], False

def fork(number, frame):
    global is_child
    child = os.fork()
    if child:
        children.append(child)
        signal.setitimer(signal.ITIMER_REAL, 0.1)  # not while it forks
    else:
        is_child = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)  # a child that hangs

signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.05)
lost = 0
while len(children) < 12:
    try:
        same = (point.hessian @ point.w).tobytes() == expected
    except RuntimeError as error:
        lost, same = 1, is_child and "forked" in str(error)
    if is_child:
        again = (point.hessian @ point.w).tobytes() == expected
        os._exit(10 + lost if same and again else 1)
    assert same
signal.setitimer(signal.ITIMER_REAL, 0)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_a_handler_that_forks_crashes_no_child():
    # Members of the team that are not there in the child hold what the call lent them; a look for
    # leaks would find it there.
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        env={**os.environ, "ASAN_OPTIONS": options},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = {int(code) for code in done.stdout.split()}
    assert codes and codes <= {10, 11}, (done.stdout, done.stderr[-2000:])
