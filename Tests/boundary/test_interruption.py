"""Ctrl-C ends every call within 0.2 s.

A signal comes every 10 ms of computing time, and the handler tells when Python got to see one. What
is measured is the lesser of the time that passes and the time that the process computes: on a
machine that other programs keep busy a call takes longer, but computes no longer between two looks;
and NumPy's LAPACK, and what an ended call has left running, compute on several threads at once.
"""

import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from swiftnets import (
    MLP,
    FastNet,
    Network,
    SlowNet,
    _core,
    dynamics,
    laplace,
    nets,
    optimizers,
)
from swiftnets.curvature import layer_states
from swiftnets.curvature.kronecker import kronecker_factors
from swiftnets.linalg import DenseFactorization
from swiftnets.linalg.krylov import cg, minres
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import aside, eigh, log_determinant, qr
from swiftnets.optimizers.comparison import compare
from swiftnets.problems import NetProblem
from swiftnets.problems.functional_inverse import FunctionalInverse, PerceptronInverse

LIMIT = 0.2  # seconds from a signal to its exception
ENOUGH = 0.3  # seconds that a call computes before it is ended
RNG = np.random.default_rng(0)


class Ended(Exception):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    before = _core.get_threads()
    _core.set_threads(1)
    yield
    _core.set_threads(before)


def watched(call, enough=ENOUGH):
    """The longest part of a call in which Python saw no signal."""

    def now():
        return time.process_time(), time.perf_counter()

    times = [now()]
    is_ended = False

    def handler(number, frame):
        nonlocal is_ended
        times.append(now())
        if times[-1][0] > times[0][0] + enough and not is_ended:
            is_ended = True
            raise Ended

    before = signal.signal(signal.SIGPROF, handler)
    try:
        signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01)
        while True:  # quick ones again and again
            call()
    except Ended:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return np.diff([*times, now()], axis=0).min(1).max()


def check(call, enough=ENOUGH):
    """The best one of up to five tries: another program may take the caches away."""
    longest = np.inf
    for _ in range(5):
        longest = min(longest, watched(call, enough))
        if longest < LIMIT:
            return
    raise AssertionError(f"{longest:.2f} s without a look at signals")


# Nets with many samples, with wide layers, and with many of both.

MANY = MLP((60, 80, 80, 10), loss="softmax_cross_entropy")
WIDE = MLP((2000, 2000, 2000, 10), activation="gelu")
SHAPES = {MANY: 60_000, WIDE: 96}


def arguments(net, samples=None):
    samples = samples or SHAPES[net]
    x = RNG.standard_normal((samples, net.sizes[0]))
    if net is MANY:
        y = RNG.integers(0, net.sizes[-1], samples)
    else:
        y = RNG.standard_normal((samples, net.sizes[-1]))
    return net.initial(0), x, y


def directions(net, count):
    return RNG.standard_normal((count, net.parameter_count))


VALUES = {
    "predict": lambda net, w, x, y: net.predict(w, x),
    "loss": lambda net, w, x, y: net.loss(w, x, y),
    "gradient": lambda net, w, x, y: net.gradient(w, x, y),
    "loss_and_gradient": lambda net, w, x, y: net.loss_and_gradient(w, x, y),
    "hvp": lambda net, w, x, y: net.hvp(w, x, y, w),
    "gauss_newton_product": lambda net, w, x, y: w @ net.at(w, x, y).gauss_newton,
    "fisher_product": lambda net, w, x, y: w @ net.at(w, x, y).fisher("empirical"),
    "jvp": lambda net, w, x, y: net.at(w, x).jvp(w),
    "vjp": lambda net, w, x, y: net.at(w, x).vjp(np.ones((len(x), net.sizes[-1]))),
    "pass": lambda net, w, x, y: net.at(w, x, y).passed,
    "hessian_diagonal": lambda net, w, x, y: net.at(w, x, y).hessian.diagonal(),
    "gauss_newton_diagonal": lambda net, w, x, y: net.at(w, x, y).gauss_newton.diagonal(),
    "fisher_diagonal": lambda net, w, x, y: net.at(w, x, y).fisher("empirical").diagonal(),
    "taylor": lambda net, w, x, y: net.at(w, x, y).taylor(w),
    "third": lambda net, w, x, y: net.at(w, x, y).third(w, w),
    "fourth": lambda net, w, x, y: net.at(w, x, y).fourth(w, w, w),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("net", [MANY, WIDE], ids=["many", "wide"])
def test_values_and_products_of_a_net_end_in_time(net, name):
    given = arguments(net)
    check(lambda: VALUES[name](net, *given))


def lenet():
    layers = [nets.Conv2d(1, 6, 5), "tanh", nets.AvgPool2d(2), nets.Conv2d(6, 16, 5), "tanh"]
    layers += [nets.MaxPool2d(2), nets.Flatten(), nets.Dense(256, 120), "tanh", nets.Dense(120, 10)]
    return layers, (1, 28, 28), 2000


def large_images():
    """Few samples, each larger than what is done between two looks."""
    body = [nets.GroupNorm(4, 32), nets.Conv2d(32, 32, 3, padding=1)]
    layers = [
        nets.Conv2d(1, 32, 3, padding=1),
        "silu",
        nets.Residual(body),
        nets.MaxPool2d(7, 1, 3),
    ]
    layers += [nets.AvgPool2d(7, 1, 3), nets.GlobalAvgPool2d(), nets.Dense(32, 10)]
    return layers, (1, 300, 300), 1


def long_sequences():
    layers = [nets.LayerNorm(64), nets.SelfAttention(64, 2), nets.Dense(64, 1500), "gelu"]
    layers += [nets.Dense(1500, 64), nets.MeanOverPositions(), nets.Dense(64, 10)]
    return layers, (2000, 64), 1


def wide_vectors():
    return [nets.Dense(3000, 3000), nets.GroupNorm(4, 3000), nets.Dense(3000, 10)], 3000, 20


def large_table():
    layers = [nets.Embedding(400_000, 32), nets.MeanOverPositions(), nets.Dense(32, 10)]
    return layers, 16, 40


@functools.cache
def network(make):
    layers, shape, samples = make()
    net = Network(layers, shape, loss="softmax_cross_entropy")
    shape = (shape,) if isinstance(shape, int) else shape
    if make is large_table:
        x = RNG.integers(0, 400_000, (samples, *shape))
    else:
        x = RNG.standard_normal((samples, *shape))
    return net, net.initial(seed=0), x, RNG.integers(0, 10, samples)


OF_NETWORKS = {
    **VALUES,
    "per_sample_gradients": lambda net, w, x, y: net.at(w, x[:9], y[:9]).per_sample_gradients(),
    "jacobian": lambda net, w, x, y: net.at(w, x[:2]).jacobian(),
    "products": lambda net, w, x, y: np.tile(w, (9, 1)) @ net.at(w, x, y).hessian,
    "lanczos": lambda net, w, x, y: net.at(w, x, y).hessian.lanczos(w, 5),
}
# Their outputs are ten, whatever `net.sizes` would be.
OF_NETWORKS["vjp"] = lambda net, w, x, y: net.at(w, x).vjp(np.ones((len(x), 10)))


OF_LARGE_SAMPLES = ["predict", "gradient", "pass", "hvp", "fisher_product", "vjp", "jacobian"]
OF_LARGE_SAMPLES += ["gauss_newton_diagonal", "per_sample_gradients", "taylor", "fourth"]
# And parameters that take long to copy, to clear and to add up.
OF_PARAMETERS = ["gradient", "pass", "hvp", "per_sample_gradients", "fourth"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((lenet, name) for name in OF_NETWORKS),
        *((make, name) for make in (large_images, long_sequences) for name in OF_LARGE_SAMPLES),
        *((make, name) for make in (wide_vectors, large_table) for name in OF_PARAMETERS),
    ],
)
def test_networks_end_in_time(make, name):
    given = network(make)
    check(lambda: OF_NETWORKS[name](*given))


def test_dense_matrices_of_networks_end_in_time():
    layers = [nets.Conv2d(1, 8, 3), "tanh", nets.Flatten(), nets.Dense(288, 10)]
    net = Network(layers, (1, 8, 8), loss="softmax_cross_entropy")
    w, x, y = net.initial(seed=0), RNG.standard_normal((20, 1, 8, 8)), RNG.integers(0, 10, 20)
    check(lambda: net.hessian(w, x, y))
    # Long enough to reach the end, where one half is copied to the other.
    check(lambda: net.at(w, x[:1], y[:1]).gauss_newton.dense(), 2.0)


def test_matrices_of_a_net_end_in_time():
    net = MLP((60, 50, 10))
    w, x, y = arguments(net, 5000)
    check(lambda: net.hessian(w, x, y))
    check(lambda: net.at(w, x, y).fisher("empirical").dense())
    check(lambda: net.at(w, x, y).per_sample_gradients())
    check(lambda: net.at(w, x[:2000]).jacobian())
    wide = MLP((5, 600, 600, 1))
    w, x, y = arguments(wide, 8)
    check(lambda: wide.at(w, x, y).gauss_newton.diagonal())
    softmax = MLP((20, 700), loss="softmax_cross_entropy")
    x = RNG.standard_normal((600, 20))
    check(lambda: layer_states(softmax.at(softmax.initial(0), x, RNG.integers(0, 700, 600))))


def test_many_products_at_a_point_end_in_time():
    net = MANY
    w, x, y = arguments(net, 20_000)
    point, v = net.at(w, x, y), directions(net, 40)
    check(lambda: v @ point.hessian)
    check(lambda: v @ point.fisher("empirical"))
    check(lambda: point.hessian.lanczos(v[:4], 30))
    check(lambda: net.hvp(w, x, y, v))
    check(lambda: net.at(w, x).jvp(v))
    check(lambda: net.at(w, x, y).third(v[0], v))
    check(lambda: point.passed.thirds(v))
    check(lambda: lanczos(point.hessian, v[0], 60))
    check(lambda: cg(point.gauss_newton + 1.0, v[0], max_iterations=60))
    check(lambda: minres(point.hessian, v[0], max_iterations=60))


def symmetric(order):
    matrix = RNG.standard_normal((order, order))
    return (matrix + matrix.T) / 2


def test_dense_factorisations_end_in_time():
    order = 4000
    matrix = symmetric(order)
    check(lambda: DenseFactorization(matrix))  # by Bunch and Kaufman
    check(lambda: DenseFactorization(matrix, shift=4.0 * order**0.5))  # by Cholesky
    factors = DenseFactorization(matrix)
    b = RNG.standard_normal((1000, order))
    check(lambda: factors.solve(b))
    check(lambda: factors.update(1.0))


def test_layered_factorisations_end_in_time():
    net = MLP((60, 60, 60, 60))
    w, x, y = arguments(net, 40)
    check(lambda: (net.at(w, x, y).hessian + 1.0).factorize(method="layered"))
    check(lambda: (net.at(w, x, y).hessian + 1.0 + 1.0j).factorize(method="layered"))
    large = MLP((30, 40, 40, 10))  # 128 MB to begin with
    w, x, y = arguments(large, 400)
    point = large.at(w, x, y)
    check(lambda: (point.hessian + 1.0).factorize(method="layered"), 3.0)
    wide = MLP((1500, 20, 3))
    w, x, y = arguments(wide, 60)
    factors = (wide.at(w, x, y).hessian + 1.0).factorize(method="layered")
    b = directions(wide, 1000)
    check(lambda: factors.solve(b))
    check(lambda: factors.update(2.0))
    dense = MLP((40, 60, 10))
    w, x, y = arguments(dense, 100)
    check(lambda: (dense.at(w, x, y).hessian + 0.1).factorize(method="dense"))
    check(lambda: dense.solve(w, x, y, directions(dense, 20), damping=1e-3))


def test_eigenvectors_end_in_time():
    matrix = symmetric(2500)
    check(lambda: eigh(matrix))
    net = MLP((30, 60, 10))
    problem = NetProblem(net, *arguments(net, 50)[1:])
    for method in (
        optimizers.SaddleFreeNewton(method="exact"),
        optimizers.SaddleFreeNewton(method="rational"),
        optimizers.KFAC(),
        optimizers.Newton(damping=1.0),
        optimizers.TrustRegion(),
        optimizers.Halley(damping=1.0),
    ):
        run = functools.partial(method.minimize, problem, net.initial(0), max_iterations=1000)
        check(run)


def test_other_optimisers_and_comparisons_end_in_time():
    problem = NetProblem(MANY, *arguments(MANY, 10_000)[1:])
    w = MANY.initial(0)
    for method in (
        optimizers.SGD(),
        optimizers.Adam(),
        optimizers.LBFGS(),
        optimizers.GaussNewton(),
        optimizers.LevenbergMarquardt(),
        optimizers.CubicRegularization(),
        optimizers.QuarticLineSearch(),
        optimizers.SaddleFreeNewton(),
    ):
        check(lambda method=method: method.minimize(problem, w, max_iterations=1000))
    check(lambda: compare(problem, {"sgd": optimizers.SGD()}, [w], max_iterations=1000))


def test_inverses_end_in_time():
    net = MLP((30, 60, 10), l2=1.0)
    w, x, y = arguments(net, 3000)
    check(lambda: kronecker_factors(MANY.at(*arguments(MANY, 40_000))).inverse(0.1))
    problem = NetProblem(net, x[:50], y[:50])
    inverse = FunctionalInverse(problem, w)
    check(lambda: inverse.solve(1.01 * problem.gradient(w)))
    x, y = RNG.standard_normal((900, 1500)), RNG.standard_normal((900, 10))
    check(lambda: PerceptronInverse(x, y, np.zeros((1500, 10))))


def test_dynamics_end_in_time():
    net = MLP((60, 60, 10))
    w, x, y = arguments(net, 50)
    problem = NetProblem(net, x, y)
    newton = dynamics.NewtonMap(problem, 1.0)
    check(lambda: newton.step(w))
    count = 50 * 51 // 2
    B, A = symmetric(count), symmetric(50)
    check(lambda: dynamics.solve_sdcp(A, B @ B / count + np.eye(count)))
    wide = MLP((400, 500, 10))
    w, x, y = arguments(wide, 20)
    descent = dynamics.GradientDescentMap(NetProblem(wide, x, y), 1e-4)
    check(lambda: dynamics.lyapunov_spectrum(descent, w, k=40, steps=40, blocks=2))
    path = np.ones((1000, 20_000))
    check(lambda: dynamics.smoothed(path))


def test_posteriors_end_in_time():
    net = MLP((200, 300, 10), l2=1.0)
    point = net.at(*arguments(net, 30))
    for structure in ("diagonal", "kronecker"):
        posterior = laplace.fit(point, structure, tolerance=None)
        check(lambda posterior=posterior: posterior.samples(400))


def test_slow_net_ends_in_time():
    samples, insize, hidsize, outsize = 20_000, 300, 200, 300
    xs = RNG.standard_normal((samples, insize))
    ys = RNG.standard_normal((samples, outsize))
    w1 = RNG.standard_normal((insize, hidsize)) / insize**0.5
    w2 = RNG.standard_normal((hidsize, outsize)) / hidsize**0.5
    out, dw1, dw2 = np.empty_like(ys), np.empty_like(w1), np.empty_like(w2)
    check(lambda: _core.slow_loss(xs, ys, w1, w2))
    check(lambda: _core.slow_predict(xs, w1, w2, out))
    check(lambda: _core.slow_gradient(xs, ys, w1, w2, dw1, dw2))

    def step(samples, method=0, hidden=hidsize):
        workspace = _core.slow_workspace()
        a, b = np.ascontiguousarray(w1[:, :hidden]), np.ascontiguousarray(w2[:hidden])
        _core.slow_step(workspace, xs[:samples], ys[:samples], a, b, 0.1, 0.1, method, a + 0, b + 0)

    check(lambda: step(samples))  # of the second layer by Cholesky, one output at a time
    check(lambda: step(samples, hidden=100))  # and four at once
    check(lambda: step(150))  # in the dual
    check(lambda: step(50, 1, 6))  # dense
    check(lambda: SlowNet(seed=0).hessian_block(two_halves(2000)[0], layer=1))


def two_halves(samples):
    return RNG.standard_normal((samples, 50)), np.eye(100)[RNG.integers(0, 100, samples)]


def test_fast_net_ends_in_time():
    samples, insize, outsize = 2000, 3000, 1000
    xs, ys = RNG.standard_normal((samples, insize)), RNG.standard_normal((samples, outsize))
    w, out = RNG.standard_normal((insize, outsize)), np.empty((samples, outsize))
    check(lambda: _core.fast_loss(xs, ys, w))
    check(lambda: _core.fast_predict(xs, w, out))
    check(lambda: _core.fast_factorize(xs, -1.0))
    full, low = _core.fast_factorize(xs, -1.0)[0], xs[:1300, :2000].copy()
    low[1] = low[0]
    check(lambda: _core.fast_factorize(low, -1.0))
    check(lambda: _core.fast_minimum_norm(full, xs, ys, np.empty_like(w)))
    check(lambda: _core.fast_step(full, xs, ys, w, 0.1, 0.0, np.empty_like(w)))
    factors = _core.fast_factorize(low, -1.0)[0]
    check(lambda: _core.fast_minimum_norm(factors, low, ys[:1300], np.empty((2000, 1000))))
    images = RNG.integers(0, 256, (2000, 3072)) / 256 - 0.5
    net = FastNet(3072, 100, seed=0)
    targets = np.eye(100)[RNG.integers(0, 100, 2000)]
    check(lambda: net.step(images, targets))


def test_a_call_waits_for_no_other_threads_call():
    """The team serves one call at a time: a second one does its work alone."""
    _core.set_threads(2)
    net = MLP((60, 50, 10))
    given = arguments(net, 4000)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            net.hessian(*given)

    thread = threading.Thread(target=work)
    thread.start()
    w, x, y = arguments(MANY, 10_000)

    def handler(number, frame):
        raise Ended

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Ended):
            while True:
                MANY.gradient(w, x, y)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        thread.join()


def test_what_is_done_aside_is_left_and_tells_its_errors():
    with pytest.raises(np.linalg.LinAlgError, match="square"):
        aside(1e12, np.linalg.eigvals, np.ones((2, 3)))
    assert aside(1e12, np.add, 1, 2) == aside(1.0, np.add, 1, 2) == 3


def test_what_is_done_aside_keeps_its_callers_settings_and_does_without_a_thread(monkeypatch):
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        aside(1e12, np.log, 0.0)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert aside(1e12, np.add, 1, 2) == 3


@pytest.mark.parametrize("shape", [(40_000, 60), (700, 700)])
def test_orthonormal_factors_are_those_of_numpy_and_end_in_time(shape):
    matrix = RNG.standard_normal(shape)
    q, r = qr(matrix)
    # Householder's factors are backward stable, each column to a small multiple of its norm, and
    # unique but for signs.
    assert np.abs(q.T @ q - np.eye(shape[1])).max() < 1e-13
    assert np.linalg.norm(q @ r - matrix) < 1e-13 * np.linalg.norm(matrix)
    expected = np.linalg.qr(matrix, "r")
    condition = np.linalg.cond(expected)
    error = np.abs(np.abs(r) - np.abs(expected)).max()
    assert error < 1e-14 * condition * np.linalg.norm(matrix)
    assert not np.tril(r, -1).any()
    large = np.tile(matrix, (5, 1)) if len(matrix) > 700 else symmetric(1500)
    check(lambda: qr(large))


def test_large_determinants_are_right_and_end_in_time():
    matrix = RNG.standard_normal((1500, 1500))
    # ln|det| of A times a diagonal is known from A's.
    scales = RNG.uniform(0.5, 2.0, 1500)
    expected = np.linalg.slogdet(matrix)[1]
    assert log_determinant(matrix) == pytest.approx(expected, rel=1e-11)
    scaled = log_determinant(matrix * scales)
    assert scaled == pytest.approx(expected + np.log(scales).sum(), rel=1e-11)
    matrix[:, 3] = 0
    assert log_determinant(matrix) == -np.inf
    large = RNG.standard_normal((3000, 3000))
    check(lambda: log_determinant(large))


@pytest.mark.parametrize(
    "work",
    [
        "np.linalg.svd",  # NumPy's, which goes on by itself
        "lambda matrix: eigh(matrix)",
    ],
)
def test_a_process_ends_at_once_after_ctrl_c(work):
    code = f"""
        import signal, threading, time, os
        import numpy as np
        from swiftnets.linalg.lapack import aside, eigh
        signal.signal(signal.SIGINT, signal.default_int_handler)
        matrix = np.random.default_rng(0).standard_normal((3000, 3000))
        function = {work}
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            aside(1e12, function, matrix) if function is np.linalg.svd else function(matrix)
        except KeyboardInterrupt:
            print(time.process_time())
            raise SystemExit(3)
    """
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    after = os.times()
    assert done.returncode == 3, done.stderr
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    # What it computed between the exception and its end, on two threads.
    assert spent - float(done.stdout.split()[0]) < 1.0
