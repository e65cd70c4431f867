"""The functional inverse of the gradient, against its definition and closed forms."""

import mpmath
import numpy as np
import pytest
from toy_problems import Logarithmic

from swiftnets import MLP, FastNet
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.nets.activations import LeakyReLU
from swiftnets.optimizers import FunctionalInverseNewton
from swiftnets.originals import reference
from swiftnets.problems import LinearRegression, NetProblem, Problem, Quadratic, Rosenbrock
from swiftnets.problems.functional_inverse import (
    FunctionalInverse,
    InverseSeries,
    PerceptronInverse,
)

EPS = np.finfo(float).eps


def net_problem(**options):
    net = MLP((2, 3, 2), l2=0.5, **options)
    rng = np.random.default_rng(0)
    return NetProblem(net, rng.standard_normal((6, 2)), rng.standard_normal((6, 2))), net.initial(1)


def test_the_series_of_a_known_inverse():
    w = 1.3
    g = w + np.log(w) - 2
    series = FunctionalInverse(Logarithmic(), [w]).series([0.4])
    with mpmath.workdps(30):
        # Along g + t (0.4 − g).
        want = mpmath.taylor(
            lambda t: mpmath.lambertw(mpmath.exp(g + t * (mpmath.mpf("0.4") - g) + 2)), 0, 3
        )
    # Coefficients of order 1, each from a few operations and one division.
    assert np.allclose(series.coefficients[:, 0], [float(c.real) for c in want], atol=50 * EPS)
    assert series.order == 3


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_gradient_along_the_series_is_the_line_to_its_order(order):
    problem, w = net_problem()
    g = 0.3 * np.random.default_rng(2).standard_normal(len(w))
    inverse = FunctionalInverse(problem, w)
    series = inverse.series(g, order)

    def error(t):
        line = (1 - t) * problem.gradient(w) + t * g
        return np.linalg.norm(problem.gradient(series(t)) - line)

    # What is left begins with t to the order plus one; t is small against the radius.
    t = 0.01 * min(1.0, FunctionalInverse(problem, w).series(g).radius)
    exponent = np.log2(error(2 * t) / error(t))
    assert abs(exponent - (order + 1)) < 0.1


def test_linear_problems_take_one_step():
    rng = np.random.default_rng(0)
    x, y, g = rng.standard_normal((9, 4)), rng.standard_normal(9), rng.standard_normal(4)
    inverse = FunctionalInverse(LinearRegression(x, y), rng.standard_normal(4))
    want = np.linalg.solve(x.T @ x, x.T @ y + g)
    result = inverse.solve(g)
    assert len(result.residual_norms) == 2
    assert np.allclose(result.w, want, rtol=0, atol=1e-12)
    assert np.allclose(inverse.series(g).coefficients[2:], 0, atol=1e-13)
    v = rng.standard_normal(4)
    assert np.allclose(inverse.derivative(v), np.linalg.solve(x.T @ x, v), rtol=1e-12)
    assert inverse.series(g, 1).radius == np.inf


@pytest.mark.parametrize("n", [2, 5, 40])
def test_rosenbrock(n):
    start = np.full(n, 0.9)
    result = FunctionalInverse(Rosenbrock(n), start).solve(tolerance=1e-12)
    assert result.success
    assert np.allclose(result.w, 1, atol=1e-8)
    # And to any gradient that is near, and back.
    there = FunctionalInverse(Rosenbrock(n), np.ones(n)).solve(np.full(n, 0.01))
    assert there.success
    norm = np.linalg.norm(Rosenbrock(n).gradient(there.w) - 0.01)
    assert np.isclose(there.residual_norm, norm, rtol=1e-3, atol=1e-13)
    back = FunctionalInverse(Rosenbrock(n), there.w).solve()
    # The residual is at most 1e-10 of 0.01 √n, and curvatures are above 0.1.
    assert np.allclose(back.w, 1, rtol=0, atol=1e-11 * np.sqrt(n))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nets(dtype):
    problem, w = net_problem()
    if dtype == np.float32:
        net = MLP((2, 3, 2), l2=0.5, dtype=dtype)
        (batch,) = problem.batches
        x, y = batch.x, batch.targets
        problem, w = NetProblem(net, x.astype(dtype), y.astype(dtype)), w.astype(dtype)
    # Near enough that the Hessian stays regular on the way.
    g = (0.97 * problem.gradient(w)).astype(dtype)
    tolerance = 1e-11 if dtype == np.float64 else 1e-3
    result = FunctionalInverse(problem, w).solve(g, tolerance=tolerance)
    assert result.success
    assert result.w.dtype == dtype
    # In float64 whatever the net's dtype.
    (batch,) = problem.batches
    x, y = batch.x, batch.targets
    wide = MLP((2, 3, 2), l2=0.5).gradient(*(a.astype(float) for a in (result.w, x, y)))
    certificate = np.linalg.norm(wide - g)
    assert np.isclose(certificate, result.residual_norm, rtol=1e-6)
    start = np.linalg.norm((problem.gradient(w) - g).astype(float))
    assert certificate <= tolerance * start


def test_higher_orders_take_fewer_factorisations():
    problem, w = net_problem()
    steps = [
        len(FunctionalInverse(problem, w).solve(0.97 * problem.gradient(w), order=k).residual_norms)
        for k in (1, 2, 3)
    ]
    assert steps[0] >= steps[1] >= steps[2]
    assert steps[0] > steps[2]


def test_what_cannot_be_reached():
    # w³ − w has no inverse beyond its fold at 1 / √3 from there.
    class Fold(Problem):
        parameter_count = 1

        def loss_and_gradient(self, w):
            x = float(w[0])
            return x**4 / 4 - x**2 / 2, np.array([x**3 - x])

        def hvp(self, w, v):
            return (3 * w[0] ** 2 - 1) * np.asarray(v)

    result = FunctionalInverse(Fold(), [0.3]).solve([2.0], order=1, max_iterations=30)
    assert not result.success or abs(result.w[0] ** 3 - result.w[0] - 2) < 1e-9
    limited = FunctionalInverse(Rosenbrock(2), [-1.2, 1.0]).solve(max_iterations=1, tolerance=1e-14)
    assert not limited.success
    assert limited.status == "iterations"
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        FunctionalInverse(Quadratic([[0.0]]), [1.0])


def test_the_optimiser_finds_the_stationary_point():
    problem, w = net_problem()
    result = FunctionalInverseNewton().minimize(problem, w, gradient_tolerance=1e-11)
    assert result.status == "saddle" and result.gradient_norm <= 1e-11, result
    for k in (1, 2, 3):
        method = FunctionalInverseNewton(order=k)
        whole = method.step(Quadratic([[2.0, 0.0], [0.0, -1.0]], [1.0, 1.0]), np.zeros(2), {})
        assert np.allclose(whole.w, [0.5, -1.0])
    with pytest.raises(ValueError, match="order"):
        FunctionalInverseNewton(order=4)


# Certificates -------------------------------------------------------------------------------------


def small_net(seed, dtype=np.float64):
    """A net of 2 to 6 narrow layers on a few samples: many are singular, or nearly so by layers."""
    r = np.random.default_rng(seed)
    sizes = tuple(int(s) for s in r.integers(1, 4, r.integers(2, 7) + 1))
    samples, kind = int(r.integers(1, 7)), ("identity", "tanh", "relu")[seed % 3]
    net = MLP(sizes, activation=kind, bias=bool(r.integers(2)), dtype=dtype)
    x, y = r.standard_normal((samples, sizes[0])), r.standard_normal((samples, sizes[-1]))
    problem = NetProblem(net, x.astype(dtype), y.astype(dtype))
    return problem, net.initial(seed), r.standard_normal(net.parameter_count)


@pytest.mark.filterwarnings("error")
def test_a_solve_with_the_hessian_is_right_or_refused():
    refused = 0
    for seed in [*range(120), 130, 238, 298, 361, 397, 399, 448, 466, 475, 550]:
        problem, w, v = small_net(seed)
        hessian = problem.hessian(w)
        condition = np.linalg.cond(hessian)
        try:
            x = FunctionalInverse(problem, w).derivative(v)
        except np.linalg.LinAlgError:
            # A solution of size κ ‖v‖ leaves a residual of EPS κ ‖v‖, and 1e-6 of it is borne.
            assert condition > 1e-7 / EPS
            refused += 1
            continue
        # Products by another way round differently, by some EPS ‖H‖ ‖x‖.
        slack = 20 * EPS * np.linalg.norm(hessian, 2) * np.linalg.norm(x)
        assert np.linalg.norm(hessian @ x - v) <= 1e-6 * np.linalg.norm(v) + slack
    assert refused > 10  # relu, identity: flat directions


def test_float32_nets_are_solved_in_float64_and_rounded_once():
    unit = np.finfo(np.float32).eps
    compared = 0
    for seed in range(1, 200, 3):  # smooth ones: no kink is crossed by rounding
        problem, w, v = small_net(seed, np.float32)
        net = problem.net
        double = MLP(net.sizes, activation="tanh", bias=net.bias)
        (batch,) = problem.batches
        x, y = batch.x, batch.targets
        hessian = double.hessian(w.astype(float), x.astype(float), y.astype(float))
        if np.linalg.cond(hessian) > 1e6:
            continue
        want = np.linalg.solve(hessian, v.astype(np.float32).astype(float))
        got = FunctionalInverse(problem, w).derivative(v.astype(np.float32))
        assert got.dtype == np.float32
        # Half a unit in each number, and what conditions of 1e6 make of EPS.
        assert np.linalg.norm(got - want) <= (unit / 2 + 1e-9) * np.linalg.norm(want)
        compared += 1
    assert compared >= 5


class Inconsistent(Problem):
    """½ ‖w‖² whose products with the Hessian forget the second parameter."""

    parameter_count = 2

    def loss_and_gradient(self, w):
        return float(w @ w) / 2, np.array(w, float)

    def hvp(self, w, v):
        return np.asarray(v) * np.array([1.0, 0.0])

    def hessian(self, w):
        return np.eye(2)


def test_what_its_products_do_not_confirm_is_not_returned():
    inverse = FunctionalInverse(Inconsistent(), [1.0, 2.0])
    with pytest.raises(np.linalg.LinAlgError, match="residual"):
        inverse.derivative([0.0, 1.0])
    result = inverse.solve(order=1)
    assert (result.status, result.success) == ("singular", False)
    assert result.residual_norm == np.sqrt(5)
    run = FunctionalInverseNewton(order=1).minimize(Inconsistent(), [1.0, 2.0])
    assert run.status == "failed" and "residual" in run.message
    # The other one is right.
    np.testing.assert_array_equal(inverse.derivative([3.0, 0.0]), [3.0, 0.0])


def test_the_certificate_is_that_of_the_parameters_returned():
    problem, w = net_problem()
    reasons = set()
    for g in (0.97 * problem.gradient(w), -30 * problem.gradient(w)):
        for options in ({}, {"max_iterations": 1}, {"tolerance": 1e-300}):
            result = FunctionalInverse(problem, w).solve(g, **options)
            reasons.add(result.status)
            residual = problem.gradient(result.w) - g
            # Sums of so many squares, each in an order of its own.
            rounding = len(residual) * np.finfo(float).eps
            assert result.residual_norm == pytest.approx(np.linalg.norm(residual), rel=rounding)
            assert result.residual_norm == result.residual_norms[-1]
            goal = options.get("tolerance", 1e-10) * result.residual_norms[0]
            assert result.success == (result.residual_norm <= goal)
    assert {"converged", "iterations", "stagnated"} <= reasons


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_gradients_of_any_size_are_inverted(scale):
    problem = Quadratic(np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([1.0, -1.0]) * scale)
    result = FunctionalInverse(problem, np.array([0.5, 2.0]) * scale).solve()
    assert result.success
    np.testing.assert_allclose(result.w / scale, [0.8, -0.6], rtol=1e-14)
    matrix = Quadratic(np.diag([2.0, 3.0]) * scale, np.array([2.0, 3.0]) * scale)
    np.testing.assert_allclose(FunctionalInverse(matrix, [5.0, 7.0]).solve().w, 1, rtol=1e-14)
    radius = FunctionalInverse(Logarithmic(), [1.3]).series([0.4]).radius
    far = InverseSeries(FunctionalInverse(Logarithmic(), [1.3]).series([0.4]).coefficients * scale)
    assert far.radius == pytest.approx(radius, rel=1e-12)


@pytest.mark.filterwarnings("error")
def test_what_overflows_on_the_way_is_told():
    class Steep(Problem):
        parameter_count = 1

        def loss_and_gradient(self, w):
            return float(np.exp(w[0])), np.exp(np.array(w))

        def hvp(self, w, v):
            return np.exp(w[0]) * np.asarray(v)

        def taylor(self, w, v, order=3):
            rows = np.full((order + 1, 1), np.inf)
            return TaylorSeries(np.full(order + 2, np.inf), rows)

    result = FunctionalInverse(Steep(), [1.0]).solve([2.0])
    assert (result.status, result.success) == ("overflow", False)
    with pytest.raises(FloatingPointError, match="not finite"):
        FunctionalInverse(Steep(), [1.0]).series([2.0])
    with pytest.raises(FloatingPointError, match="norm is inf"), np.errstate(over="ignore"):
        FunctionalInverse(Steep(), [1000.0])
    with np.errstate(over="ignore"):
        assert FunctionalInverseNewton().minimize(Steep(), [1.0]).status == "diverged"


# The perceptron -----------------------------------------------------------------------------------


def perceptron(samples, inputs=9, outputs=3):
    rng = np.random.default_rng(samples)
    x, y = rng.standard_normal((samples, inputs)), rng.standard_normal((samples, outputs))
    return x, y, rng.standard_normal((inputs, outputs))


def test_the_perceptron_in_closed_form():
    x, y, w = perceptron(6)
    inverse = PerceptronInverse(x, y, w, 0.5)
    net = MLP((9, 3), output_activation=LeakyReLU(0.5), bias=False)
    assert np.allclose(inverse.gradient.ravel(), net.gradient(w.ravel(), x, y), rtol=1e-12)
    # The gradient at w comes back as w's part in the rows of x, the one of minimum norm.
    result = inverse.solve(inverse.gradient)
    assert result.success
    assert np.allclose(result.w, np.linalg.pinv(x) @ x @ w, atol=1e-12)
    # Newton's step is the pseudoinverse of the exact Hessian times the gradient.
    hessian = net.hessian(w.ravel(), x, y)
    v = inverse.gradient
    want = np.linalg.pinv(hessian, rcond=1e-10) @ v.ravel()
    step = inverse.derivative(v)
    assert np.allclose(step.ravel(), want, atol=1e-11)
    # The quotient of differences is linear algebra too: EPS / r is what cancellation leaves.
    quotient = inverse.derivative(v, r=1e-4)
    condition = np.linalg.cond(x) ** 2
    assert np.allclose(quotient, step, atol=100 * EPS / 1e-4 * condition * abs(w).max())


def test_the_perceptron_is_fast_net():
    x, y, w = perceptron(6)
    net = FastNet(9, 3, seed=0)
    net.w = w
    net.alpha = 1.0
    net.step(x, y)
    moved = w - PerceptronInverse(x, y, w, 0.5).derivative(PerceptronInverse(x, y, w).gradient)
    assert np.allclose(net.w, moved, atol=1e-11)


def test_at_a_kink_the_slope_is_that_of_the_library_everywhere():
    # Of two samples sums are exactly 0: there the slope of the left holds.
    x = np.array([[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    w = np.array([[2.0, 1.0], [0.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    y = np.random.default_rng(0).standard_normal((3, 2))
    sums = x @ w
    assert (sums == 0).sum() == 3
    inverse = PerceptronInverse(x, y, w, 0.5)
    net = MLP((4, 2), output_activation=LeakyReLU(0.5), bias=False)
    want = net.gradient(w.ravel(), x, y)
    np.testing.assert_allclose(inverse.gradient.ravel(), want, rtol=1e-14)
    slopes = reference.dact(sums)
    np.testing.assert_array_equal(slopes, np.where(sums > 0, 1.0, 0.5))
    by_hand = x.T @ (slopes * (slopes * sums - y))
    np.testing.assert_allclose(inverse.gradient, by_hand, rtol=1e-14)
    # Backwards, too: to Newton's step, to fast_net's, and to the weights themselves.
    step = inverse.derivative(inverse.gradient)
    hessian = net.hessian(w.ravel(), x, y)
    pseudo = np.linalg.pinv(hessian, rcond=1e-10) @ want
    np.testing.assert_allclose(step.ravel(), pseudo, rtol=1e-10, atol=1e-13)
    fast = FastNet(4, 2, seed=0)
    fast.w, fast.alpha = w, 1.0
    fast.step(x, y)
    np.testing.assert_allclose(fast.w, w - step, rtol=1e-12, atol=1e-14)
    found = inverse.solve(inverse.gradient)
    np.testing.assert_allclose(found.w, np.linalg.pinv(x) @ sums, atol=1e-14)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_perceptron_at_any_scale(scale):
    x, y, w = perceptron(6)
    inverse = PerceptronInverse(x, y * scale, w * scale)
    result = inverse.solve(inverse.gradient)
    assert result.success
    np.testing.assert_allclose(result.w / scale, np.linalg.pinv(x) @ x @ w, atol=1e-12)
    large = PerceptronInverse(x * scale, y, w / scale)
    back = large.solve(large.gradient)
    assert back.success
    np.testing.assert_allclose(back.w * scale, np.linalg.pinv(x) @ x @ w, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_a_perceptron_that_overflows_is_not_converged():
    x, y, w = perceptron(6)
    with pytest.raises(FloatingPointError, match="not finite"):
        _ = PerceptronInverse(1e200 * x, y, w).gradient
    with pytest.raises(FloatingPointError, match="not finite"):
        PerceptronInverse(x, y, w, 1e-200).derivative(w)
    with pytest.raises(FloatingPointError, match="not finite"):
        PerceptronInverse(1e-300 * x, y, w).solve(1e200 * w)


def test_the_certificate_tells_changed_signs():
    x, y, w = perceptron(6)
    inverse = PerceptronInverse(x, y, w)
    far = inverse.solve(-50 * inverse.gradient)
    assert not far.success
    assert far.residual_norm > 1
    # More samples than inputs: gradients are reached only in the least-squares sense.
    x, y, w = perceptron(20)
    assert not PerceptronInverse(x, y, w).solve(np.ones_like(w)).success


def test_bad_arguments():
    x, y, w = perceptron(4)
    with pytest.raises(ValueError, match="y has shape"):
        PerceptronInverse(x, y[:2], w)
    with pytest.raises(ValueError, match="slope"):
        PerceptronInverse(x, y, w, slope=0.0)
    with pytest.raises(ValueError, match="g has shape"):
        PerceptronInverse(x, y, w).solve(w.T)
    with pytest.raises(ValueError, match="r is"):
        PerceptronInverse(x, y, w).derivative(w, r=-1.0)
    with pytest.raises(TypeError, match="problem"):
        FunctionalInverse(None, [1.0])  # type: ignore[arg-type]
    inverse = FunctionalInverse(Rosenbrock(2), [0.0, 0.0])
    for call, word in [
        (lambda: inverse.series(order=4), "order"),
        (lambda: inverse.series([1.0]), "g has shape"),
        (lambda: inverse.solve([np.nan, 0.0]), "g has nan"),
        (lambda: inverse.solve(tolerance=0.0), "tolerance"),
        (lambda: inverse.solve(max_iterations=0), "iterations"),
        (lambda: FunctionalInverse(Rosenbrock(2), [np.inf, 0.0]), "w has inf"),
    ]:
        with pytest.raises(ValueError, match=word):
            call()


def test_a_float32_certificate_is_that_of_float64():
    net = MLP((2, 3, 1), dtype="float32", l2=0.01)
    x, y = np.eye(2, dtype=np.float32), np.ones((2, 1), np.float32)
    result = FunctionalInverse(NetProblem(net, x, y), net.initial(seed=0)).solve(tolerance=1e-5)
    wide = MLP((2, 3, 1), l2=0.01).gradient(*(a.astype(float) for a in (result.w, x, y)))
    # The same sums in the same precision: a few roundings of the gradient's terms, below 1.
    assert result.success
    assert result.residual_norm == pytest.approx(np.linalg.norm(wide), abs=20 * EPS)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_run_that_ends_at_a_saddle_says_so(order):
    net = MLP((2, 3, 2), l2=1e-3)
    x, y = np.array([[1.0, 0.5], [-0.5, 2.0], [0.3, -1.0]]), np.eye(3, 2)
    problem, w = NetProblem(net, x, y), 1e-3 * net.initial(seed=0)
    method = FunctionalInverseNewton(order=order)
    result = method.minimize(problem, w, max_iterations=40, gradient_tolerance=1e-8)
    assert np.linalg.eigvalsh(net.hessian(result.w, x, y)).min() < -0.1
    assert result.status == "saddle" and result.gradient_norm <= 1e-8


def test_a_result_says_in_words_how_it_ended():
    inverse = FunctionalInverse(Rosenbrock(2), [0.8, 0.6])
    assert inverse.solve().message == "the gradient is within the tolerance"
    limited = inverse.solve(order=1, max_iterations=1)
    assert limited.message == "the limit of iterations is reached"
