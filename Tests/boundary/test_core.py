"""swiftnets._core: what the C shim promises about arrays, threads, signals and processes."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import swiftnets
from swiftnets import _core

SUPPORT = Path(__file__).parents[1] / "support"


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def slow_arrays(n=5, insize=3, hidsize=4, outsize=2, seed=0):
    random = np.random.RandomState(seed)
    return {
        "xs": random.randn(n, insize),
        "ys": np.eye(outsize)[random.randint(outsize, size=n)],
        "w1": random.randn(insize, hidsize) / np.sqrt(insize),
        "w2": random.randn(hidsize, outsize) / np.sqrt(hidsize),
    }


def slow_step(workspace, arrays, method=0):
    outputs = np.full_like(arrays["w1"], np.nan), np.full_like(arrays["w2"], np.nan)
    _core.slow_step(workspace, *arrays.values(), 0.1, 0.1, method, *outputs)
    return outputs


# A second layer of 60 × 60 weights, whose block takes 3600 passes over 20,000 samples: minutes.
ENDLESS = {"n": 20_000, "insize": 60, "hidsize": 60, "outsize": 60}


def endless_call(out):
    arrays = slow_arrays(**ENDLESS)
    _core.slow_hessian_block(arrays["xs"], arrays["w1"], arrays["w2"], 2, out)


@pytest.fixture
def one_thread():
    """OpenBLAS's threads wait for each other very long where other programs keep the cores busy."""
    before = _core.get_threads()
    _core.set_threads(1)
    yield
    _core.set_threads(before)


@pytest.fixture
def interrupt():
    """Sends this process Ctrl-C, from another thread, after the given seconds."""
    # A shell may have started us with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timers = []

    def after(seconds):
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        timers.append(timer)
        timer.start()

    yield after
    for timer in timers:
        timer.cancel()
        timer.join()
    signal.signal(signal.SIGINT, before)


def test_engine_package_and_metadata_agree_on_the_version():
    assert _core.version() == swiftnets.__version__ == importlib.metadata.version("swiftnets")


def test_importing_the_package_loads_no_engine_and_starts_no_thread():
    code = (
        "import os, sys, swiftnets\n"
        "print(len(os.listdir('/proc/self/task')), 'swiftnets._core' in sys.modules, "
        "'numpy' in sys.modules, any('blas' in line for line in open('/proc/self/maps')))"
    )
    assert run_python("-c", code).stdout.split() == ["1", "False", "False", "False"]


def test_every_public_name_is_there_and_no_other():
    for name in swiftnets.__all__:
        assert getattr(swiftnets, name) is not None
        assert name in dir(swiftnets)
    with pytest.raises(AttributeError, match="'swiftnets' has no attribute 'SlowNets'"):
        swiftnets.SlowNets  # noqa: B018


def test_smoke():
    result = run_python(SUPPORT / "smoke.py")
    assert result.returncode == 0, result.stderr


# ---- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("xs", lambda a: a.tolist(), TypeError, "xs is of type list"),
        ("xs", lambda a: a.astype("f4"), TypeError, "xs holds items of format 'f'"),
        ("ys", lambda a: a.astype(">f8"), TypeError, "ys holds items of format '>d'"),
        ("ys", lambda a: a.astype("i8"), TypeError, "ys holds items of format 'l'"),
        ("w1", lambda a: a.astype("M8[s]"), TypeError, "w1 is of type ndarray"),
        ("w1", lambda a: a.ravel(), ValueError, r"w1 has shape \(12,\); expected \(3, hidsize\)"),
        ("w1", lambda a: np.float64(1), ValueError, r"w1 has shape \(\); expected \(3, hidsize\)"),
        ("w2", lambda a: a[:-1], ValueError, r"w2 has shape \(3, 2\); expected \(4, 2\)"),
        ("ys", lambda a: a[:-1], ValueError, r"ys has shape \(4, 2\); expected \(5, outsize\)"),
        ("w1", np.asfortranarray, ValueError, "w1 is not C-contiguous"),
        ("w2", lambda a: a[::-1], ValueError, "w2 is not C-contiguous"),
        ("xs", lambda a: np.broadcast_to(a[0], a.shape), ValueError, "xs is not C-contiguous"),
        ("xs", lambda a: unaligned(a), ValueError, "xs is not aligned to 8 bytes"),
    ],
)
def test_a_wrong_array_is_refused_by_name(name, change, error, message):
    arrays = slow_arrays()
    arrays[name] = change(arrays[name])
    with pytest.raises(error, match=message):
        _core.slow_loss(*arrays.values())


def unaligned(array):
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(array.tobytes(), np.uint8)
    return memory.view(np.float64).reshape(array.shape)


def test_read_only_inputs_are_welcome_and_read_only_outputs_refused():
    arrays = slow_arrays()
    for array in arrays.values():
        array.flags.writeable = False
    assert _core.slow_loss(*arrays.values()) > 0
    out = np.zeros((5, 2))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        _core.slow_predict(arrays["xs"], arrays["w1"], arrays["w2"], out)


def test_an_output_that_overlaps_another_array_is_refused():
    arrays = slow_arrays()
    xs, ys, w1, w2 = arrays.values()
    with pytest.raises(ValueError, match="dw1_out shares memory with w1"):
        _core.slow_gradient(xs, ys, w1, w2, w1, np.empty_like(w2))
    both = np.empty(w1.size + w2.size - 1)
    one, other = both[: w1.size].reshape(w1.shape), both[w1.size - 1 :].reshape(w2.shape)
    with pytest.raises(ValueError, match="dw2_out shares memory with dw1_out"):
        _core.slow_gradient(xs, ys, w1, w2, one, other)


def test_any_exporter_of_float64_will_do():
    arrays = slow_arrays()
    expected = _core.slow_loss(*arrays.values())
    views = [memoryview(bytearray(a)).cast("d", a.shape) for a in arrays.values()]
    assert _core.slow_loss(*views) == expected


def test_every_call_lets_go_of_its_arrays():
    arrays = slow_arrays()
    views = [memoryview(bytearray(a)).cast("d", a.shape) for a in arrays.values()]
    _core.slow_loss(*views)
    with pytest.raises(ValueError, match="ys has shape"):
        _core.slow_loss(views[0], views[3], views[2], views[3])
    for view in views:
        view.release()  # a BufferError if it were still held


sizes = st.integers(0, 3)
shapes = st.lists(sizes, max_size=3).map(tuple) | st.tuples(sizes, sizes)


@given(xs=shapes, ys=shapes, w1=shapes, w2=shapes, out=shapes)
def test_shapes_either_agree_or_are_refused(xs, ys, w1, w2, out):
    arrays = [np.ones(shape) for shape in (xs, ys, w1, w2)]
    given_out, other_out = np.ones(out), np.ones(w2)
    agree = (
        all(len(shape) == 2 and 0 not in shape for shape in (xs, ys, w1, w2))
        and (xs[0], xs[1], w1[1], w2[1]) == (ys[0], w1[0], w2[0], ys[1])
        and out == w1
    )
    if agree:
        _core.slow_gradient(*arrays, given_out, other_out)
    else:
        with pytest.raises(ValueError, match=r"xs|ys|w1|w2|out|size|\bn\b"):
            _core.slow_gradient(*arrays, given_out, other_out)


def test_a_factorization_serves_only_inputs_of_its_shape():
    random = np.random.RandomState(0)
    xs = random.randn(4, 6)
    factorization, _ = _core.fast_factorize(xs, -1.0)
    with pytest.raises(ValueError, match=r"xs has shape \(3, 6\); expected \(4, 6\)"):
        _core.fast_minimum_norm(factorization, xs[:3], random.randn(3, 2), np.empty((6, 2)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _core.slow_loss(1, 2), TypeError, "slow_loss takes 4 arguments, not 2"),
        (lambda: _core.set_threads(0), ValueError, "threads is 0"),
        (lambda: _core.set_threads(2**70), ValueError, f"threads is {2**70}"),
        (lambda: _core.set_threads(1.5), TypeError, "threads is 1.5; it must be an integer"),
        (lambda: _core.fast_factorize(np.eye(2), "1"), TypeError, "tolerance is '1'"),
        (
            lambda: _core.fast_minimum_norm(_core.slow_workspace(), *[np.eye(2)] * 3),
            TypeError,
            r"factorization must be what fast_factorize\(\) returns",
        ),
        (
            lambda: _core.slow_hessian_block(*[np.eye(2)] * 3, 3, np.empty((4, 4))),
            ValueError,
            "layer is 3; it must be 1 or 2",
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- threads, signals, processes -----------------------------------------------------------------


def test_a_bad_argument_to_openblas_prints_nothing():
    code = (
        "import ctypes, pathlib\n"
        "from swiftnets import _core\n"
        "blas = ctypes.CDLL(pathlib.Path(_core.__file__).with_name('libswiftnets_blas.so'))\n"
        "one, none = ctypes.c_double(1), None\n"
        "blas.scipy_cblas_dgemm(101, 111, 111, -1, 1, 1, one, none, 1, none, 1, one, none, 1)\n"
        "blas.fflush(None)\n"
    )
    result = run_python("-c", code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_same_thread_count_gives_the_same_bits():
    before = _core.get_threads()
    arrays = slow_arrays(50, 50, 50, 100)
    try:
        for count in (1, 2):
            _core.set_threads(count)
            assert _core.get_threads() == count
            steps = [slow_step(_core.slow_workspace(), arrays) for _ in range(3)]
            for other in steps[1:]:
                assert all(np.array_equal(a, b) for a, b in zip(steps[0], other, strict=True))
    finally:
        _core.set_threads(before)


def test_other_threads_run_during_a_call_and_ctrl_c_ends_it(interrupt):
    out = np.full((3600, 3600), np.nan)
    turns = []
    stop = threading.Event()

    def count():
        while not stop.wait(0.001):
            turns.append(None)

    counter = threading.Thread(target=count)
    interrupt(0.5)
    counter.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            endless_call(out)
    finally:
        stop.set()
        counter.join()
    assert np.isnan(out).any()  # it stopped on the way
    assert len(turns) > 10


def test_an_exception_of_any_signal_handler_ends_a_call():
    def handler(signum, frame):
        raise LookupError("from the handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(LookupError, match="from the handler"):
            endless_call(np.empty((3600, 3600)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_workspace_is_as_good_as_new_after_ctrl_c(interrupt, one_thread):
    workspace = _core.slow_workspace()
    # The dense method diagonalises a matrix of order 5000: far longer than the interrupt takes.
    interrupt(0.5)
    with pytest.raises(KeyboardInterrupt):
        slow_step(workspace, slow_arrays(50, 50, 50, 100), method=1)
    arrays = slow_arrays()
    used, new = slow_step(workspace, arrays), slow_step(_core.slow_workspace(), arrays)
    assert all(np.array_equal(a, b) for a, b in zip(used, new, strict=True))


def test_a_process_ends_in_order_after_ctrl_c_in_the_middle_of_lapack():
    """Nothing is at work any more when the interpreter goes away."""
    code = (
        "import os, signal, threading, numpy as np\n"
        "from swiftnets import _core\n"
        "random = np.random.RandomState(0)\n"
        "xs, ys, w1, w2 = (random.randn(50, 50) for _ in range(4))\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    _core.slow_step(_core.slow_workspace(), xs, ys, w1, w2, 0.1, 0.1, 1, w1 + 0, w2 + 0)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    result = run_python("-c", code)
    assert (result.returncode, result.stdout) == (0, "interrupted\n"), result.stderr


def test_a_workspace_refuses_a_second_thread_and_finishes_the_first(one_thread):
    workspace = _core.slow_workspace()
    large, small = slow_arrays(20, 20, 20, 20), slow_arrays()
    expected = slow_step(_core.slow_workspace(), large, method=1)
    results = []
    refusals = []

    def insist(arrays, method):
        while not refusals or not results:
            try:
                result = slow_step(workspace, arrays, method)
            except RuntimeError as error:
                refusals.append(str(error))
            else:
                if arrays is large:
                    results.append(result)

    threads = [threading.Thread(target=insist, args=pair) for pair in ((large, 1), (small, 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(refusals) == {"workspace is in use by another call; each thread needs its own"}
    for result in results:
        assert all(np.array_equal(a, b) for a, b in zip(result, expected, strict=True))


def test_threads_may_share_a_factorization():
    random = np.random.RandomState(0)
    xs, targets = random.randn(40, 60), random.randn(8, 40, 3)
    factorization, _ = _core.fast_factorize(xs, -1.0)

    def solve(b):
        out = np.empty((60, 3))
        _core.fast_minimum_norm(factorization, xs, b, out)
        return out

    expected = [solve(b) for b in targets]
    results = [None] * len(targets)

    def work(index):
        for _ in range(20):
            results[index] = solve(targets[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(targets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, truth in zip(results, expected, strict=True):
        assert np.array_equal(result, truth)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_a_process_that_used_the_engine_get_its_bits(method):
    result = run_python(SUPPORT / "processes.py", method)
    assert result.returncode == 0, result.stderr


def test_a_second_interpreter_has_a_module_of_its_own_or_an_import_error():
    # In a process of its own: a second interpreter turns off CPython's check of who holds the GIL
    # for good, and PyTorch relies on that check.
    result = run_python(SUPPORT / "second_interpreter.py")
    assert result.returncode == 0, result.stderr


STACK = """
import threading
import numpy as np
from swiftnets import MLP

net = MLP((2, 3, 1))
w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
expected, found = net.gradient(w, x, y), []

def call():
    try:
        found.append((net.gradient(w, x, y) == expected).all())
    except RuntimeError as error:
        found.append(str(error))

for size in (128, 1024):
    threading.stack_size(size << 10)
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
print(*found, sep="; ")
"""


def test_a_thread_whose_stack_is_too_small_is_told():
    result = run_python("-c", STACK)
    assert result.returncode == 0, result.stderr
    assert "KiB of its stack left and 128 are needed" in result.stdout
    assert result.stdout.endswith("; True\n")
