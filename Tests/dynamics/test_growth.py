"""Optimal growth beside singular values of dense products, in many digits where it takes them."""

import chaotic_net
import mpmath
import numpy as np
import pytest

from swiftnets import MLP, datasets
from swiftnets.dynamics import (
    AdamMap,
    GradientDescentMap,
    MomentumMap,
    NewtonMap,
    OptimalGrowth,
    StochasticMap,
    lyapunov_spectrum,
    optimal_growth,
)
from swiftnets.dynamics.graded import Graded
from swiftnets.problems import Minibatches, NetProblem

EPS = np.finfo(float).eps


class Matrices:
    """A step applies the next of some matrices; the state is the count alone."""

    def __init__(self, matrices):
        self.matrices = np.asarray(matrices, float)
        self.dimension = self.matrices.shape[1]

    def start(self):
        return np.zeros(self.dimension + 1)

    def step(self, state):
        return state + np.eye(len(state))[-1]

    def tangent(self, state, rows):
        return rows @ self.matrices[int(state[-1])].T

    def adjoint(self, state, rows):
        return rows @ self.matrices[int(state[-1])]


def products(one, state, steps):
    """The window's product, dense."""
    matrix = np.eye(one.dimension)
    for _ in range(steps):
        matrix, state = one.tangent(state, matrix.T).T, one.step(state)
    return matrix


MAPS = {
    "descent": lambda p: GradientDescentMap(p, learning_rate=6.0),
    "momentum": lambda p: MomentumMap(p, learning_rate=1.0, momentum=0.9),
    "adam": lambda p: AdamMap(p, learning_rate=0.05, beta2=0.9, epsilon=1e-3),
    "newton": lambda p: NewtonMap(p, damping=0.7),
    "saddle-free": lambda p: NewtonMap(p, damping=0.2, saddle_free=True),
    "minibatches": lambda p: StochasticMap(
        Minibatches(p.net, *chaotic_net.samples(), batch_size=5), learning_rate=3.0
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_it_is_the_dense_products(name):
    one = MAPS[name](chaotic_net.problem())
    state, steps, k = one.state(chaotic_net.net().initial(seed=1)), 12, 3
    for _ in range(5):
        state = one.step(state)
    matrix = products(one, state, steps)
    u, s, vt = np.linalg.svd(matrix)
    found = optimal_growth(one, state, steps=steps, k=k)
    assert found.success and (found.residuals <= 1e-6).all()
    assert found.steps == steps and found.rates[0] == found.logarithms[0] / steps
    # Values are off by the residual's square over the gap; the dense product has its own rounding.
    gaps = np.array([abs(s[i] - np.delete(s, i)).min() / s[i] for i in range(k)])
    rounding = 1e3 * EPS * s[0] / s[k - 1]
    off = found.residuals**2 / np.maximum(gaps, found.residuals) + rounding
    assert (abs(found.logarithms - np.log(s[:k])) <= off).all()
    for ours, theirs in ((found.starts, vt[:k]), (found.ends, u.T[:k])):
        cosines = abs(np.sum(ours * theirs, axis=1))
        sure = gaps > 1e-3  # the others share a plane
        off = (found.residuals[sure] / gaps[sure]) ** 2 + 10 * rounding
        assert sure[0] and (1 - cosines[sure] <= off).all()
    # What grows so does: forward, from the vectors that are returned.
    images = found.starts @ matrix.T
    lengths = np.linalg.norm(images, axis=1)
    np.testing.assert_allclose(np.log(lengths), found.logarithms, atol=rounding)
    np.testing.assert_allclose(
        np.sum(images / lengths[:, None] * found.ends, axis=1), 1.0, atol=rounding
    )


def test_values_of_very_unlike_sizes_keep_their_digits():
    """Far beyond what one float64 number holds."""
    random = np.random.default_rng(3)
    matrices = random.standard_normal((100, 4, 4)) * np.array([1e5, 1e3, 1.0, 1e-2])
    one = Matrices(matrices)
    found = optimal_growth(one, one.start(), steps=100, k=4)
    with mpmath.workdps(1500):
        exact = mpmath.eye(4)
        for matrix in matrices:
            exact = mpmath.matrix(matrix.tolist()) * exact
        want = [float(mpmath.log(value)) for value in mpmath.svd_r(exact, compute_uv=False)]
    assert want[0] - want[-1] > 1200 and found.success
    # Each step is exact for a matrix off by rounding, of which its condition makes as much more.
    worst = max(np.linalg.cond(matrix) for matrix in matrices)
    np.testing.assert_allclose(found.logarithms, want, rtol=0, atol=100 * EPS * worst)


def test_values_that_are_nearly_equal_are_told_apart():
    random = np.random.default_rng(4)
    u, v = (np.linalg.qr(random.standard_normal((6, 6)))[0] for _ in range(2))
    values = np.array([3.0, 3.0 - 1e-5, 2.999, 1.0, 0.5, 0.1])
    one = Matrices([u * values @ v.T])
    found = optimal_growth(one, one.start(), steps=1, k=3)
    assert found.success
    np.testing.assert_allclose(np.exp(found.logarithms), values[:3], rtol=1e-12)


def test_growth_of_a_long_window_does_not_overflow():
    one = Matrices(np.tile(np.diag([4.0, 2.0]), (2000, 1, 1)))
    found = optimal_growth(one, one.start(), steps=2000, k=2)
    np.testing.assert_allclose(found.logarithms, 2000 * np.log([4.0, 2.0]), rtol=1e-13)


def test_a_path_is_the_window_from_its_first_state():
    one = MAPS["descent"](chaotic_net.problem())
    path = [one.state(chaotic_net.net().initial(seed=1))]
    for _ in range(7):
        path.append(one.step(path[-1]))
    by_path = optimal_growth(one, np.array(path), k=2)
    by_start = optimal_growth(one, path[0], steps=8, k=2)
    np.testing.assert_array_equal(by_path.logarithms, by_start.logarithms)
    np.testing.assert_array_equal(by_path.starts, by_start.starts)
    assert by_path.steps == 8


def test_no_tangent_grows_more():
    """A random tangent's growth, which exponents are made of, is below."""
    one = MAPS["descent"](chaotic_net.problem())
    state = one.state(chaotic_net.net().initial(seed=1))
    growth = optimal_growth(one, state, steps=30)
    rates = [
        lyapunov_spectrum(one, state, k=1, steps=30, blocks=2, seed=seed).exponents[0]
        for seed in range(5)
    ]
    assert max(rates) < growth.rates[0]


def test_at_the_edge_of_stability_little_grows_and_nothing_is_chaotic():
    """A net on the embedded images whose sharpness hovers about 2 / η, from step 400 on."""
    data = datasets.load(None)
    rows = np.flatnonzero(data.train_labels < 4)[:200]
    x = data.train_images[rows].reshape(-1, 3, 4, 8, 4, 8)[:, 0].mean(axis=(2, 4)) / 255
    x = x.reshape(-1, 16)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-8)
    net = MLP((16, 16, 16, 4), reduction="mean")
    problem = NetProblem(net, x, np.eye(4)[data.train_labels[rows]])
    one = GradientDescentMap(problem, learning_rate=0.4)
    state = one.state(net.initial(seed=0))
    assert problem.loss(state) == pytest.approx(0.7658227728, abs=1e-9)
    for _ in range(400):
        state = one.step(state)
    assert problem.loss(state) == pytest.approx(0.0668509330, abs=1e-9)
    found = lyapunov_spectrum(one, state, k=8, steps=400)
    assert abs(found.exponents).max() <= 1.3e-3 and found.positive == 0
    growth = optimal_growth(one, state, steps=60, tolerance=1e-3)
    assert growth.success
    matrix = np.eye(612)
    for _ in range(60):
        matrix -= 0.4 * (problem.at(state).hessian.dense() @ matrix)
        state = one.step(state)
    largest = np.linalg.norm(matrix, 2)
    assert growth.logarithms[0] == pytest.approx(np.log(largest), abs=1e-3)
    assert 0 < growth.logarithms[0] < 2


def test_the_limit_of_iterations_is_said():
    random = np.random.default_rng(4)
    u, v = (np.linalg.qr(random.standard_normal((40, 40)))[0] for _ in range(2))
    one = Matrices([u * np.linspace(1.0, 0.9, 40) @ v.T])
    found = optimal_growth(one, one.start(), steps=1, max_iterations=2)
    assert not found.success and found.iterations == 2
    assert found.message.startswith("the limit of 2 iterations is reached: residuals up to ")
    assert found.residuals[0] > 1e-6
    # A value on a part of the space is a lower bound, and the residual says how good it is.
    value = np.exp(found.logarithms[0])
    assert value <= 1 and abs(value - np.linspace(1.0, 0.9, 40)).min() <= found.residuals[0]


def test_the_residual_is_that_of_what_is_returned():
    one = MAPS["momentum"](chaotic_net.problem())
    state = one.state(chaotic_net.net().initial(seed=1))
    found = optimal_growth(one, state, steps=10, k=2, max_iterations=1, tolerance=1e-12)
    matrix = products(one, state, 10)
    back = found.ends @ matrix / np.exp(found.logarithms)[:, None]
    want = np.linalg.norm(back - found.starts, axis=1)
    assert want.max() > 1e-3
    np.testing.assert_allclose(found.residuals, want, rtol=1e-9)


def test_a_singular_product_says_how_many_values_there_are():
    one = Matrices([np.diag([2.0, 1.0, 0.0, 0.0])])
    assert optimal_growth(one, one.start(), steps=1, k=2).success
    with pytest.raises(np.linalg.LinAlgError, match="only 2 singular values above 0; expected 3"):
        optimal_growth(one, one.start(), steps=1, k=3)


def test_a_map_without_an_adjoint_says_what_to_do():
    class OneWay(Matrices):
        adjoint = None

    one = OneWay([np.eye(2)])
    with pytest.raises(TypeError, match=r"no method adjoint; add it, or adjoint = tangent where"):
        optimal_growth(one, one.start(), steps=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, TypeError, "steps is missing; expected how many from state on, or a path"),
        ({"state": np.zeros((2, 3)), "steps": 2}, ValueError, "steps is 2 with a path of states"),
        ({"state": np.zeros((0, 3))}, ValueError, "state is empty, of shape"),
        ({"steps": 1, "state": np.zeros((1, 1, 3))}, ValueError, "state has shape"),
        ({"steps": 0}, ValueError, "steps is 0; expected an integer from 1"),
        ({"steps": 1, "k": 3}, ValueError, "k is 3; expected at most 2, the entries of a tangent"),
        ({"steps": 1, "tolerance": 0.0}, ValueError, "tolerance is 0.0"),
        ({"steps": 1, "max_iterations": 0}, ValueError, "max_iterations is 0"),
        ({"steps": 1, "seed": -1}, ValueError, "seed is -1"),
        ({"steps": 1, "progress": 1}, TypeError, "progress is 1"),
        ({"steps": 1, "state": [0.0, np.inf, 0.0]}, ValueError, r"state has inf at \[1\]"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    one = Matrices([np.eye(2)])
    given = {"state": one.start()} | options
    with pytest.raises(error, match=message):
        optimal_growth(one, given.pop("state"), **given)


def test_an_orbit_that_diverges_says_when():
    class Squares(Matrices):
        def step(self, state):
            return state * state

    with pytest.raises(FloatingPointError, match=r"state has inf at 0 after 10 steps"):
        optimal_growth(Squares([np.eye(2)]), [2.0, 1.0, 0.0], steps=40)


def test_progress_is_shown(capsys):
    one = Matrices([np.diag([2.0, 1.0])])
    optimal_growth(one, one.start(), steps=1, progress=True)
    shown = capsys.readouterr()
    assert not shown.out and "100" in shown.err


def test_a_result_says_what_it_is():
    one = Matrices([np.diag([2.0, 1.0])])
    found = optimal_growth(one, one.start(), steps=1)
    assert isinstance(found, OptimalGrowth)
    assert repr(found).startswith("OptimalGrowth(logarithms [0.693147] over 1 step, residuals up")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0, 6, 150])
def test_graded_products_and_their_singular_values(seed, step):
    """Of rows that are 10**step apart, beside 600 digits."""
    random = np.random.default_rng(seed)
    size, count = 5, 3
    grades = 10.0 ** -(step * np.arange(size) / count)
    triangles = np.triu(random.standard_normal((count, size, size))) * grades[:, None]
    product = Graded(size)
    with mpmath.workdps(1500):
        exact = mpmath.eye(size)
        for triangle in triangles:
            product.multiply(triangle)
            exact = mpmath.matrix(triangle.tolist()) * exact
        scaled = [
            [mpmath.ldexp(float(x), int(e)) for x in row]
            for row, e in zip(product.rows, product.exponents, strict=True)
        ]
        for i in range(size):
            largest = max(abs(exact[i, j]) for j in range(size))
            assert max(abs(scaled[i][j] - exact[i, j]) for j in range(size)) <= 1e-14 * largest
        want = [float(mpmath.log(v)) for v in mpmath.svd_r(exact, compute_uv=False)]
    left, logarithms, right = product.svd()
    np.testing.assert_allclose(logarithms, want, atol=1e-12, rtol=1e-14)
    np.testing.assert_allclose(left.T @ left, np.eye(size), atol=1e-14)
    np.testing.assert_allclose(right.T @ right, np.eye(size), atol=1e-13)
    whole = np.array([[float(x) for x in row] for row in exact.tolist()])
    values = np.exp(logarithms)
    assert abs(left * values @ right.T - whole).max() <= 1e-13 * values[0]


def test_graded_products_hold_zeros():
    product = Graded(3)
    product.multiply(np.diag([2.0, 0.0, 3.0]))
    product.multiply(np.diag([2.0, 1.0, 3.0]))
    left, logarithms, right = product.svd()
    np.testing.assert_allclose(logarithms, [np.log(9), np.log(4), -np.inf])
    np.testing.assert_array_equal(abs(left), np.eye(3)[:, [2, 0, 1]])
    np.testing.assert_array_equal(abs(right[:, :2]), np.eye(3)[:, [2, 0]])
