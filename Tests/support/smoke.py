"""The smoke test of an installed swiftnets, for environments without pytest: run by test_build.py.

Prints the files of the shared libraries in the process, one a line.
"""

import os

import numpy as np

import swiftnets
from swiftnets import _core


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def act(a):
    return np.where(a > 0, a, a / 2)


def dact(a):
    return np.where(a > 0, 1.0, 0.5)


def check_slow_core():
    """A step against the textbook one: gradient by hand, the engine's own Hessian blocks."""
    n, insize, hidsize, outsize = 7, 4, 5, 3
    random = np.random.RandomState(0)
    xs, ys = random.randn(n, insize), np.eye(outsize)[random.randint(outsize, size=n)]
    w1, w2 = random.randn(insize, hidsize), random.randn(hidsize, outsize)
    alpha, damping = 0.1, 0.1

    n1 = xs @ w1
    n2 = act(n1) @ w2
    g2 = (act(n2) - ys) * dact(n2)
    gradients = xs.T @ ((g2 @ w2.T) * dact(n1)), act(n1).T @ g2
    loss = ((act(n2) - ys) ** 2).sum() / 2
    outputs = np.empty((n, outsize))
    _core.slow_predict(xs, w1, w2, outputs)
    # Sums of at most 7 products, a few after another: 100 units of roundoff are ample.
    tiny = 100 * np.finfo(float).eps
    assert relative(outputs, act(n2)) < tiny
    assert abs(_core.slow_loss(xs, ys, w1, w2) / loss - 1) < tiny

    for method in (0, 1):
        news = np.empty_like(w1), np.empty_like(w2)
        report = _core.slow_step(
            _core.slow_workspace(), xs, ys, w1, w2, alpha, damping, method, *news
        )
        assert abs(report[0] / loss - 1) < tiny
        for layer, old, new, gradient in zip((1, 2), (w1, w2), news, gradients):  # noqa: B905
            block = np.empty((old.size, old.size))
            _core.slow_hessian_block(xs, w1, w2, layer, block)
            damped = block + damping * np.eye(old.size)
            expected = np.linalg.solve(damped, gradient.ravel()).reshape(old.shape)
            # A residual of 1e-12 is an error of at most the condition number times that.
            assert relative((old - new) / alpha, expected) < 1e-12 * np.linalg.cond(damped)


def check_fast_core():
    """The exact limit: pinv(X) times the functional inverse's slope times the error."""
    n, insize, outsize = 6, 9, 4
    random = np.random.RandomState(1)
    xs, ys = random.randn(n, insize), np.eye(outsize)[random.randint(outsize, size=n)]
    w, new = random.randn(insize, outsize), np.empty((insize, outsize))
    factorization, (_, _, rank, _, _, _) = _core.fast_factorize(xs, -1.0)
    assert rank == n
    _, residual, stale = _core.fast_step(factorization, xs, ys, w, 1.0, 0.0, new)
    assert not stale
    net = xs @ w
    expected = np.linalg.pinv(xs) @ ((act(net) - ys) / dact(net))
    tiny = 100 * np.finfo(float).eps * np.linalg.cond(xs)
    assert residual < tiny
    assert relative(w - new, expected) < tiny


def check_package():
    """The nets as users meet them."""
    random = np.random.RandomState(2)
    xs, ys = random.randn(8, 6), np.eye(5)[random.randint(5, size=8)]
    for net in (swiftnets.SlowNet(6, 4, 5, seed=0), swiftnets.FastNet(6, 5, seed=0)):
        before = net.loss(xs, ys)
        net.step(xs, ys)
        assert net.loss(xs, ys) < before


if __name__ == "__main__":
    check_slow_core()
    check_fast_core()
    check_package()
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[5].strip() for line in maps if ".so" in line}
    print(*sorted(os.path.realpath(file) for file in files), sep="\n")
