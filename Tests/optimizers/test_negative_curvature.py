"""Saddles: trust regions and cubic steps leave them, and methods of curvature tell of them."""

import math

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.linalg import FunctionOperator, lanczos
from swiftnets.optimizers import (
    CubicRegularization,
    FunctionalInverseNewton,
    SaddleFreeNewton,
    TrustRegion,
    negative_curvature,
)
from swiftnets.optimizers.trust_region import agreement, steihaug
from swiftnets.problems import FunctionPoint, NetProblem, Problem, Quadratic, Rosenbrock

EPS = np.finfo(float).eps
LEAVING = [TrustRegion(), TrustRegion(method="exact"), CubicRegularization()]
ALL = [*LEAVING, SaddleFreeNewton(), SaddleFreeNewton(method="exact")]
OF_NETS = [
    SaddleFreeNewton(method="rational"),
    SaddleFreeNewton(method="exact", block="diagonal"),
]

pytestmark = pytest.mark.filterwarnings("error")


def tanh_net(dtype=np.float64):
    """A net whose gradient is 0 at w = 0, where the Hessian couples both layers alone."""
    net = MLP((3, 4, 2), bias=False, l2=0.1, dtype=dtype)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3))
    y = np.tanh(x @ rng.standard_normal((3, 2)))
    return NetProblem(net, x.astype(dtype), y.astype(dtype))


def run(method, problem, w, tolerance, steps=300):
    """Steps until the gradient is small and nothing negative is seen; the last, and how many."""
    state = method.initial_state(problem, w)
    for number in range(steps):
        result = method.step(problem, w, state)
        if result.gradient_norm <= tolerance and not (result.least_curvature or 0.0) < 0:
            return result, number
        assert result.failure is None, result
        w, state = result.w, result.state
    raise AssertionError(result)


class Scaled(Problem):
    """Another problem times a factor, plus a constant."""

    def __init__(self, problem, factor=1.0, constant=0.0):
        self.problem, self.factor, self.constant = problem, factor, constant
        self.parameter_count, self.dtype = problem.parameter_count, problem.dtype

    def loss_and_gradient(self, w):
        loss, gradient = self.problem.loss_and_gradient(w)
        return self.factor * loss + self.constant, self.factor * gradient

    def hvp(self, w, v):
        return self.factor * self.problem.hvp(w, v)


class Wells(Problem):
    """Σ (xᵢ² − 1)² / 4 + y² / 2: a saddle at 0, and wells at xᵢ = ±1."""

    def __init__(self, n):
        self.parameter_count = n

    def loss_and_gradient(self, w):
        x = w[:-1]
        return float(((x * x - 1) ** 2).sum() / 4 + w[-1] ** 2 / 2), np.append(x**3 - x, w[-1])

    def hvp(self, w, v):
        return np.asarray(v) * np.append(3 * w[:-1] ** 2 - 1, 1.0)


# Saddles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL, ids=repr)
@pytest.mark.parametrize("distance", [0.0, 1e-30, 1e-17, 1e-12])
def test_the_least_curvature_at_a_saddle_is_told(method, distance):
    problem = tanh_net()
    w = distance * np.random.default_rng(1).standard_normal(problem.parameter_count)
    result = method.step(problem, w, method.initial_state(problem, w))
    least = np.linalg.eigvalsh(problem.hessian(w))[0]
    assert least < -1
    if method == TrustRegion() and distance > 0:
        # Conjugate gradients ran into it, and know but the curvature along their direction.
        assert least * (1 + 1e-9) <= result.least_curvature < 0
    else:
        # Of 20 parameters all are in Lanczos's space; the saddle itself has but four eigenvalues.
        assert result.least_curvature == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("method", OF_NETS, ids=repr)
def test_the_least_curvature_that_methods_of_nets_see(method):
    problem = tanh_net()
    w = 1e-17 * np.random.default_rng(1).standard_normal(problem.parameter_count)
    result = method.step(problem, w, method.initial_state(problem, w))
    hessian = problem.hessian(w)
    if method.block is None:
        assert result.least_curvature == pytest.approx(np.linalg.eigvalsh(hessian)[0], rel=1e-9)
    else:  # of single layers: here the coupling is all that is negative
        blocks = [np.linalg.eigvalsh(hessian[p, p])[0] for p in problem.net.layer_slices]
        assert result.least_curvature == pytest.approx(min(blocks), rel=1e-9)


@pytest.mark.parametrize("method", LEAVING, ids=repr)
@pytest.mark.parametrize("distance", [0.0, 1e-30, 1e-17, 1e-12])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_net_at_a_saddle_or_near_it_goes_on_to_a_minimum(method, distance, dtype):
    problem = tanh_net(dtype)
    w = distance * np.random.default_rng(1).standard_normal(problem.parameter_count)
    w = w.astype(dtype)
    saddle = problem.loss(w)
    tolerance = 1e-9 if dtype == np.float64 else 2e-5
    result, _ = run(method, problem, w, tolerance)
    assert result.loss < 0.5 * saddle
    values = np.linalg.eigvalsh(problem.hessian(result.w).astype(float))
    # Hidden units may be turned into each other: nearly flat at the least.
    assert values[0] > -100 * np.finfo(dtype).eps * values[-1]


@pytest.mark.parametrize("method", LEAVING, ids=repr)
@pytest.mark.parametrize("start", [0.0, 1e-300, 1e-40, 1e-17, -1e-9])
@pytest.mark.parametrize("side", [0.0, 0.5])
def test_a_saddle_whose_gradient_hides_the_way_out_is_left(method, start, side):
    w = np.array([start, side])
    result, _ = run(method, Wells(2), w, 1e-10)
    np.testing.assert_allclose(abs(result.w), [1, 0], atol=1e-9)
    if abs(start) > 1e-10 and side == 0:
        assert np.sign(result.w[0]) == np.sign(start)


@pytest.mark.parametrize("method", LEAVING, ids=repr)
def test_a_single_negative_direction_among_many_is_found(method):
    class Hidden(Problem):
        """As `Wells` with one x, turned among 90 parameters whose curvatures are 1 to 100."""

        parameter_count = 90

        def __init__(self):
            q = np.linalg.qr(np.random.default_rng(0).standard_normal((90, 90)))[0]
            self.q, self.d = q, np.linspace(1, 100, 89)

        def loss_and_gradient(self, w):
            x, *rest = self.q.T @ w
            gradient = np.append(x**3 - x, self.d * rest)
            return (x * x - 1) ** 2 / 4 + self.d @ np.square(rest) / 2, self.q @ gradient

        def hvp(self, w, v):
            x = self.q[:, 0] @ w
            values = np.append(3 * x * x - 1, self.d)
            return (np.asarray(v) @ self.q * values) @ self.q.T

    problem = Hidden()
    # On the axis that has no part along the negative direction.
    result, _ = run(method, problem, problem.q[:, 1] * 0.3, 1e-9)
    assert abs(problem.q[:, 0] @ result.w) == pytest.approx(1, abs=1e-8)


def test_a_minimum_is_not_called_a_saddle():
    rng = np.random.default_rng(0)
    for rank in (1, 30):
        factor = rng.standard_normal((40, rank))
        problem = Quadratic(factor @ factor.T)
        w = rng.standard_normal(40)
        for method in ALL:
            state = method.initial_state(problem, w)
            for _ in range(4):
                result = method.step(problem, w, state)
                assert result.least_curvature is None or result.least_curvature >= 0
                if result.failure:
                    break
                w, state = result.w, result.state


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_nowhere_to_go_is_told(method):
    for matrix in ([[1.0]], [[0.0]], [[2.0, 0.0], [0.0, 0.0]]):
        problem = Quadratic(matrix)
        w = np.zeros(problem.parameter_count)
        result = method.step(problem, w, method.initial_state(problem, w))
        assert "the gradient is 0" in result.failure
        assert result.least_curvature >= 0
        assert not result.accepted
        np.testing.assert_array_equal(result.w, w)
        assert all(np.isfinite(v).all() for v in result.state.values() if v.size and v != np.inf)


# Scales -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-400, -67, 67, 400])
def test_exact_and_cubic_runs_do_not_depend_on_the_unit_of_the_loss(exponent):
    factor, start = 2.0**exponent, Rosenbrock(4).start()
    for method, scaled in [
        (TrustRegion(method="exact"), TrustRegion(method="exact")),
        (CubicRegularization(), CubicRegularization(regularization=factor)),
    ]:
        plain = method.minimize(Rosenbrock(4), start, max_iterations=20)
        other = scaled.minimize(Scaled(Rosenbrock(4), factor), start, max_iterations=20)
        # Eigenvalues are computed in LAPACK's units, and roundings grow along the valley.
        np.testing.assert_allclose(other.history.loss / factor, plain.history.loss, rtol=1e-6)
        np.testing.assert_array_equal(other.history.accepted, plain.history.accepted)


def point_of(gradient, products):
    """A point of loss 0."""
    return FunctionPoint(0.0, gradient, FunctionOperator(len(gradient), products))


@pytest.mark.parametrize("a", [-1000, -300, 0, 300, 900])
@pytest.mark.parametrize("b", [-1000, -300, 0, 300, 900])
def test_steihaug_is_invariant_under_powers_of_two(a, b):
    if abs(b - a) > 1000:
        return  # the step is out of range
    rng = np.random.default_rng(0)
    for shift in (3.0, 0.0):  # definite, and not
        matrix = rng.standard_normal((8, 8))
        matrix, g = matrix + matrix.T + 2 * shift * np.eye(8), rng.standard_normal(8)
        for radius in (0.01, 1.0, 1e3):
            point = point_of(g, lambda rows, m=matrix: rows @ m)
            scaled = point_of(np.ldexp(g, b), lambda rows, m=matrix: rows @ np.ldexp(m, a))
            s, image = steihaug(point, radius, 1e-8)
            other, moved = steihaug(scaled, math.ldexp(radius, b - a), 1e-8)
            np.testing.assert_array_equal(np.ldexp(s, b - a), other)
            np.testing.assert_array_equal(np.ldexp(image, b), moved)


def test_steihaug_with_a_radius_out_of_all_proportion():
    g = np.array([3.0, 4.0])
    for size in (1e-300, 1e300):
        point = point_of(g, lambda rows: -rows)
        s, image = steihaug(point, size)
        np.testing.assert_allclose(s, [-0.6 * size, -0.8 * size], rtol=4 * EPS)
        np.testing.assert_allclose(image, -s, rtol=4 * EPS)
    np.testing.assert_array_equal(steihaug(point_of(g, lambda rows: rows), 1e300)[0], -g)


# Near rounding ------------------------------------------------------------------------------------


def test_where_the_loss_cannot_tell_slopes_decide_on_a_step():
    problem = Scaled(Quadratic(np.diag([1.0, 3.0])), constant=1e9)
    w = np.array([1e-5, 1e-5])
    point = problem.at(w)
    assert problem.loss(w) == problem.loss(-3 * w) == 1e9
    for new, ratio in [(np.zeros(2), 1.0), (-3 * w, -8.0), (-w, 0.0)]:
        # ½ w·A w is predicted; f(t w) is t² times that.
        assert agreement(problem, point, w, new, 2e-10) == pytest.approx(ratio, abs=1e-9)


@pytest.mark.parametrize("method", LEAVING, ids=repr)
def test_a_constant_that_swamps_the_loss_hinders_nobody(method):
    start = np.array([0.9, 0.75])
    problem = Scaled(Rosenbrock(2), constant=1e12)
    result, count = run(method, problem, start, 1e-10)
    np.testing.assert_allclose(result.w, 1, atol=1e-8)
    # Losses to 1e-4 show nothing of the way, so that it is no longer than the one that they guide.
    assert count <= 2 * run(method, Rosenbrock(2), start, 1e-10)[1]


# Divergence ---------------------------------------------------------------------------------------


class Broken(Problem):
    """½ ‖w‖² with something wrong in it."""

    parameter_count = 2

    def __init__(self, loss=None, gradient=1.0, curvature=1.0, beyond=None):
        self.settings = loss, gradient, curvature, beyond

    def loss_and_gradient(self, w):
        loss, gradient, _, beyond = self.settings
        away = beyond is not None and abs(w[0] - 1) > 1e-6
        return beyond if away else loss or float(w @ w) / 2, gradient * w

    def hvp(self, w, v):
        return self.settings[2] * np.asarray(v)


@pytest.mark.parametrize("method", [*ALL, FunctionalInverseNewton(order=1)], ids=repr)
def test_numbers_that_are_not_finite_are_told_as_computed_ones(method):
    w = np.array([1.0, 2.0])
    for bad in (np.nan, np.inf):
        for settings in ({"loss": bad}, {"gradient": bad}, {"curvature": bad}):
            problem = Broken(**settings)
            with pytest.raises(FloatingPointError, match="not finite|nan|inf"):
                method.step(problem, w, method.initial_state(problem, w))
            with np.errstate(invalid="ignore"):
                assert method.minimize(problem, w, max_iterations=3).status == "diverged"


@pytest.mark.parametrize("method", LEAVING, ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_tried_may_have_no_loss(method, bad):
    problem, w = Broken(beyond=bad), np.array([1.0, 2.0])
    result = method.step(problem, w, method.initial_state(problem, w))
    assert not result.accepted
    assert result.failure is None
    np.testing.assert_array_equal(result.w, w)


@pytest.mark.parametrize("method", [TrustRegion(), CubicRegularization()], ids=repr)
def test_looking_beside_the_gradient_is_rare(method, monkeypatch):
    starts = []

    def counting(product, start, steps):
        starts.append(start)
        return lanczos(product, start, steps)

    monkeypatch.setattr(negative_curvature, "lanczos", counting)
    result, count = run(method, Rosenbrock(10), Rosenbrock(10).start(), 1e-10)
    # From 1e3 down to 1e-10, with some way up between.
    assert len(starts) <= 10 < count
