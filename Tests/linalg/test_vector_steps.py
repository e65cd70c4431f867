"""Steps of optimisers on whole vectors, and sums of squares, against the same formulas in NumPy."""

import math
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from swiftnets import _core
from swiftnets.optimizers import SGD, Adam, Momentum
from swiftnets.problems import Problem

SIZES = [0, 1, 2, 7, 15, 16, 17, 97, 4095, 4096, 4097, 8193, 203_531]
DTYPES = [np.float64, np.float32]
FACTORS = dict(
    beta1=0.9, rest1=0.1, beta2=0.999, rest2=1 - 0.999, correction=1 / (1 - 0.999**3) ** 0.5,
    epsilon=1e-8, rate=1e-3 / (1 - 0.9**3), decay=1 - 1e-5,
)  # fmt: skip


def vectors(n, dtype, count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, n)).astype(dtype)


def descend(w, g, rate=0.05):
    return (w - g * w.dtype.type(rate),)


def momentum(w, g, v, nesterov, rate=0.05, beta=0.9):
    rate, beta = w.dtype.type(rate), w.dtype.type(beta)
    v = v * beta + g
    return w - (g + v * beta if nesterov else v) * rate, v


def adam(w, g, mean, square, dtype):
    f = {name: dtype(value) for name, value in FACTORS.items()}
    mean = mean * f["beta1"] + g * f["rest1"]
    square = square * f["beta2"] + g * g * f["rest2"]
    root = np.sqrt(square) * f["correction"] + f["epsilon"]
    return w * f["decay"] - mean / root * f["rate"], mean, square


def calls(n, dtype, seed=0):
    """For each step: what the engine made, what it said, and what NumPy makes of the same."""
    w, g, v, square = vectors(n, dtype, 4, seed)
    square *= square

    def made(function, arguments, arrays, count):
        outs = [np.full(n, np.nan, dtype) for _ in range(count)]
        squares = function(*arguments, *arrays, *outs)
        return outs, squares

    yield (*made(_core.descend, (0.05,), (w, g), 1), descend(w, g), g)
    for nesterov in (False, True):
        found = made(_core.momentum, (0.05, 0.9, nesterov), (w, g, v), 2)
        yield (*found, momentum(w, g, v, nesterov), g)
    found = made(_core.adam, tuple(FACTORS.values()), (w, g, v, square), 3)
    yield (*found, adam(w, g, v, square, dtype), g)


def square_bound(v):
    """Σ v² in extended precision, and what a sum in float64 may be off by."""
    exact = float(np.sum(v.astype(np.longdouble) ** 2))
    return exact, (len(v) + 2) * 2.0**-53 * exact


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_steps_have_the_bits_of_the_formulas(n, dtype):
    for outs, squares, expected, g in calls(n, dtype):
        for one, other in zip(outs, expected, strict=True):
            assert one.tobytes() == other.tobytes()
        for found, v in zip(squares, (g, outs[0]), strict=True):
            exact, bound = square_bound(v)
            assert abs(found - exact) <= bound
            assert found == _core.square_sum(v)


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_are_those_of_extended_precision_to_rounding(dtype):
    n, unit = 203_531, float(np.finfo(dtype).eps) / 2
    w, g, v, square = vectors(n, dtype, 4)
    square *= square
    given = [a.astype(np.longdouble) for a in (w, g, v, square)]

    def wide(value):
        return np.longdouble(dtype(value))

    rate, beta = wide(0.05), wide(0.9)
    velocity = beta * given[2] + given[1]
    # Each operation rounds once: the sizes of what is added, times how often.
    terms = abs(beta * given[2]) + abs(given[1])
    (new,), *_ = next(calls(n, dtype))
    assert (abs(new - (given[0] - rate * given[1])) <= 3 * unit * (abs(w) + abs(rate * g))).all()
    for (outs, *_), nesterov in zip(list(calls(n, dtype))[1:3], (False, True), strict=True):
        exact = given[0] - rate * (given[1] + beta * velocity if nesterov else velocity)
        size = abs(given[0]) + rate * (abs(given[1]) + 2 * terms)
        assert (abs(outs[1] - velocity) <= 3 * unit * terms).all()
        assert (abs(outs[0] - exact) <= 6 * unit * size).all()
    f = {name: wide(value) for name, value in FACTORS.items()}
    mean = f["beta1"] * given[2] + f["rest1"] * given[1]
    mean_terms = abs(f["beta1"] * given[2]) + abs(f["rest1"] * given[1])
    squares = f["beta2"] * given[3] + f["rest2"] * given[1] ** 2
    root = f["correction"] * np.sqrt(squares) + f["epsilon"]
    outs = list(calls(n, dtype))[3][0]
    assert (abs(outs[1] - mean) <= 3 * unit * mean_terms).all()
    assert (abs(outs[2] - squares) <= 4 * unit * squares).all()
    exact = f["decay"] * given[0] - f["rate"] * mean / root
    size = abs(given[0]) + f["rate"] * mean_terms / root
    assert (abs(outs[0] - exact) <= 12 * unit * size).all()


def test_threads_do_not_change_the_bits():
    before = _core.get_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            _core.set_threads(threads)
            results.append([(np.stack(o).tobytes(), s) for o, s, *_ in calls(203_531, np.float32)])
    finally:
        _core.set_threads(before)
    assert results[0] == results[1] == results[2]


LEVELS = """
import sys
sys.path.insert(0, sys.argv[1])
import hashlib
import numpy as np
import test_vector_steps as steps

for dtype in steps.DTYPES:
    for n in (5, 97, 203_531):
        for outs, squares, *_ in steps.calls(n, dtype):
            print(hashlib.sha256(np.stack(outs).tobytes()).hexdigest(), *map(float.hex, squares))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels are of x86-64")
def test_levels_do_not_change_the_bits():
    said = set()
    for level in ("baseline", "v3", "v4"):
        done = subprocess.run(
            [sys.executable, "-c", LEVELS, os.path.dirname(__file__)],
            env={**os.environ, "SWIFTNETS_LEVEL": level},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1 and len(said.pop().splitlines()) == 24


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_goes_through(dtype):
    for where in (0, 3, 40, 46):
        w, g = vectors(47, dtype, 2)
        g[where] = np.nan
        out, mean, square = (np.zeros(47, dtype) for _ in range(3))
        squares = _core.descend(0.1, w, g, out)
        assert np.flatnonzero(np.isnan(out)).tolist() == [where] and np.isnan(squares).all()
        _core.adam(*FACTORS.values(), w, g, w, w * w, out, mean, square)
        for found in (out, mean, square):
            assert np.flatnonzero(np.isnan(found)).tolist() == [where]
        g[where] = -np.inf
        assert _core.descend(0.1, w, g, out) == (np.inf, np.inf) and out[where] == np.inf
    large = np.full(20, 1e200)
    assert _core.square_sum(large) == np.inf and _core.square_sum(1 / large) == 0


def test_arrays_that_do_not_fit_are_refused():
    w, g = vectors(10, np.float64, 2)
    out = np.empty(10)
    frozen = np.empty(10)
    frozen.flags.writeable = False
    for arguments, error, message in [
        ((w, g, frozen), ValueError, "w_out is read-only"),
        ((w, g, w), ValueError, "w_out shares memory with w"),
        ((w[:5], g[:5], w[4:9]), ValueError, "w_out shares memory with w"),
        ((w, g[:9], out), ValueError, r"gradient has shape \(9,\); expected \(10\)"),
        ((w, g.astype(np.float32), out), TypeError, "gradient .* must be a float64 array"),
        ((w.astype(np.float32), g, out), TypeError, "gradient .* must be a float32 array"),
        ((w[::2], g[::2], out[:5]), ValueError, "w is not C-contiguous"),
        ((w.astype(int), g, out), TypeError, "w holds items of format 'l'"),
        ((w[None], g, out), ValueError, "w has shape"),
        ((None, g, out), TypeError, "w is of type NoneType"),
        ((w, g), TypeError, "descend takes 4 arguments, not 3"),
    ]:
        with pytest.raises(error, match=message):
            _core.descend(0.1, *arguments)
    with pytest.raises(ValueError, match="velocity_out shares memory with w_out"):
        _core.momentum(0.1, 0.9, 0, w, g, g, out, out)
    with pytest.raises(ValueError, match="square_out shares memory with gradient"):
        _core.adam(*FACTORS.values(), w, g, g, g, out, np.empty(10), g)
    with pytest.raises(TypeError, match="rest1 is None; it must be a real number"):
        _core.adam(0.9, None, *[0.1] * 6, w, g, g, g, out, out.copy(), out.copy())
    with pytest.raises(ValueError, match="v is not aligned"):
        _core.square_sum(np.zeros(81, np.uint8)[1:].view(np.float64))


class Strided(Problem):
    """½ ‖w‖², whose gradient is a view with gaps."""

    def __init__(self, n, dtype):
        self.parameter_count, self.dtype = n, np.dtype(dtype)

    def loss_and_gradient(self, w):
        return 0.5 * float(w @ w), np.repeat(w, 2)[::2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_methods_have_the_bits_of_the_formulas(dtype):
    n, steps = 12_345, 4
    (start,) = vectors(n, dtype, 1)
    problem = Strided(n, dtype)

    def run(method):
        result = method.minimize(problem, start, max_iterations=steps)
        length = math.sqrt(square_bound(start)[0])
        assert result.history.gradient_norm[0] == pytest.approx(length, rel=1e-9)
        return result.w.tobytes()

    w = start
    for _ in range(steps):
        (w,) = descend(w, w)
    assert run(SGD(learning_rate=0.05)) == w.tobytes()
    for nesterov in (False, True):
        w, v = start, np.zeros_like(start)
        for _ in range(steps):
            w, v = momentum(w, w, v, nesterov)
        assert run(Momentum(learning_rate=0.05, nesterov=nesterov)) == w.tobytes()
    for decay in (0.0, 0.1):
        w, mean, square = start, np.zeros_like(start), np.zeros_like(start)
        for step in range(1, steps + 1):
            g = w
            mean = mean * dtype(0.9) + g * dtype(1 - 0.9)
            square = square * dtype(0.99) + g * g * dtype(1 - 0.99)
            root = np.sqrt(square) * dtype(1 / (1 - 0.99**step) ** 0.5) + dtype(1e-8)
            w = w * dtype(1 - 0.02 * decay) - mean / root * dtype(0.02 / (1 - 0.9**step))
        assert run(Adam(learning_rate=0.02, beta2=0.99, weight_decay=decay)) == w.tobytes()
