"""Inputs that change while a call reads them: its results may be anything, memory stays whole."""

import contextlib
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from swiftnets import MLP, Network, _core, nets


def child(body, *arguments):
    """Runs `body` in a process of its own, which a fault of memory ends."""
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(body), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


LABELS_UNDER_THE_OUTPUT = """
    import sys
    import numpy as np
    from swiftnets import _core

    n, i, o = 3000, 3, 4
    net = _core.mlp((i, o), [(0, 0.0)], 0, 0, 3, 0.0, None)
    p, random = i * o, np.random.default_rng(0)
    w, x = random.standard_normal(p), random.standard_normal((n, i))
    labels = random.integers(0, o, n)
    file = sys.argv[1]
    np.zeros(n * p).tofile(file)
    out = np.memmap(file, np.float64, "r+", shape=(n, p))
    under = np.memmap(file, np.int64, "r+", shape=n)
    under[:] = labels
    apart = np.empty((n, p))
    _core.mlp_sample_gradients(net, w, x, None, labels, None, 1.0, apart)
    _core.mlp_sample_gradients(net, w, x, None, under, None, 1.0, out)
    assert np.array_equal(out, apart)
    under[:] = labels
    _core.mlp_sample_gradients(net, w, x[::-1].copy(), None, under[::-1].copy(), None, 1.0, out)
    assert np.array_equal(out, apart[::-1])
"""


def test_labels_may_lie_in_the_file_that_the_output_is_written_to(tmp_path):
    child(LABELS_UNDER_THE_OUTPUT, str(tmp_path / "shared"))


def while_changing(change, body, seconds=1.0):
    """Runs `body` again and again beside a thread that calls `change`."""
    done = threading.Event()

    def work():
        while not done.is_set():
            change()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            body()
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("shape", [(200, 40), (40, 200), (60, 60)])
def test_a_factorisation_survives_inputs_that_turn_into_nan(shape):
    """A NaN that comes after the check would be the place of a pivot."""
    xs = np.random.default_rng(0).standard_normal(shape)
    xs[:, 0] = xs[:, 1]  # of less than full rank, for the orthogonal route
    kept = xs.copy()

    def change():
        xs[:] = np.nan
        xs[:] = kept

    def factor():
        with contextlib.suppress(ArithmeticError):
            _core.fast_factorize(xs, -1)

    while_changing(change, factor)


def test_every_function_survives_labels_that_leave_their_range():
    net = MLP((4, 5, 3), loss="softmax_cross_entropy")
    random = np.random.default_rng(0)
    w, x, kept = net.initial(0), random.standard_normal((2000, 4)), random.integers(0, 3, 2000)
    labels, v = kept.copy(), random.standard_normal(net.parameter_count)
    calls = [
        lambda: net.gradient(w, x, labels),
        lambda: net.at(w, x, labels).hessian.diagonal(),
        lambda: net.hvp(w, x, labels, v),
        lambda: net.at(w, x, labels).third(v, v),
        lambda: net.at(w, x, labels).fisher("empirical").dense(),
        lambda: net.at(w, x, labels).passed,
    ]

    def change():
        labels[:] = 1 << 40
        labels[:] = kept

    def call():
        for function in calls:
            try:
                function()
            except ValueError as error:
                assert "label" in str(error) or "y" in str(error)

    while_changing(change, call)


def test_every_function_survives_tokens_that_leave_the_table():
    """A token is a row of the table that is read, and of the gradient that is written."""
    layers = [nets.Embedding(7, 4), nets.SelfAttention(4, 2), nets.MeanOverPositions()]
    net = Network([*layers, nets.Dense(4, 3)], (6,), loss="softmax_cross_entropy")
    random = np.random.default_rng(0)
    w, kept, labels = net.initial(0), random.integers(0, 7, (500, 6)), random.integers(0, 3, 500)
    tokens, v = kept.copy(), random.standard_normal(net.parameter_count)
    handle, out, image = net.engine.handle, np.empty_like(w), np.empty((1, len(w)))
    samples = (handle, w, tokens, None, labels, None, 1.0)
    few = (handle, w, tokens[:50], None, labels[:50], None, 1.0)
    calls = [
        lambda: net.gradient(w, tokens, labels),
        lambda: net.hvp(w, tokens, labels, v),
        lambda: net.at(w, tokens, labels).third(v, v),
        # Past Python's own copy: the engine has to have one.
        lambda: _core.mlp_gradient(*samples, out),
        lambda: _core.mlp_product(*samples, 0, v[None], image),
        lambda: _core.mlp_multilinear(*samples, v, v, v[None], image),
        lambda: _core.mlp_sample_gradients(*few, np.empty((50, len(w)))),
        lambda: _core.mlp_jacobian(*few, np.empty((50, 3, len(w)))),
        lambda: _core.linearize(*samples, out),
    ]

    def change():
        tokens[:] = 1 << 40
        tokens[:] = kept

    def call():
        for function in calls:
            try:
                function()
            except ValueError as error:
                assert "token" in str(error) or "x" in str(error)

    while_changing(change, call)
