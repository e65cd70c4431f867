"""The functional inverse of the gradient, against its definition and closed forms."""

import mpmath
import numpy as np
import pytest

from swiftnets import MLP, FastNet
from swiftnets.activations import LeakyReLU
from swiftnets.functional_inverse import FunctionalInverse, PerceptronInverse
from swiftnets.mlp import TaylorSeries
from swiftnets.optimizers import FunctionalInverseNewton
from swiftnets.problems import LinearRegression, NetProblem, Problem, Quadratic, Rosenbrock

EPS = np.finfo(float).eps


def net_problem(**options):
    net = MLP((2, 3, 2), l2=0.5, **options)
    rng = np.random.default_rng(0)
    return NetProblem(net, rng.standard_normal((6, 2)), rng.standard_normal((6, 2))), net.initial(1)


class Logarithmic(Problem):
    """w² / 2 + w log w − 3 w: the inverse of its gradient is W(exp(g + 2)), with Lambert's W."""

    parameter_count = 1

    def loss_and_gradient(self, w):
        x = float(w[0])
        return x * x / 2 + x * np.log(x) - 3 * x, np.array([x + np.log(x) - 2])

    def hvp(self, w, v):
        return (1 + 1 / w[0]) * np.asarray(v)

    def third(self, w, u, v):
        return -1 / w[0] ** 2 * u * np.asarray(v)

    def taylor(self, w, v, order=3):
        x = w[0]
        terms = [x + np.log(x) - 2, 1 + 1 / x, -1 / x**2 / 2, 2 / x**3 / 6]
        rows = np.array([[t * v[0] ** k] for k, t in enumerate(terms)])[: order + 1]
        return TaylorSeries(np.array([self.loss(w), *(rows @ v / np.arange(1, order + 2))]), rows)


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
    assert result.converged
    assert np.allclose(result.w, 1, atol=1e-8)
    # And to any gradient that is near, and back.
    there = FunctionalInverse(Rosenbrock(n), np.ones(n)).solve(np.full(n, 0.01))
    assert there.converged
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
        x, y, _ = problem.samples
        problem, w = NetProblem(net, x.astype(dtype), y.astype(dtype)), w.astype(dtype)
    # Near enough that the Hessian stays regular on the way.
    g = (0.97 * problem.gradient(w)).astype(dtype)
    tolerance = 1e-11 if dtype == np.float64 else 1e-3
    result = FunctionalInverse(problem, w).solve(g, tolerance=tolerance)
    assert result.converged
    assert result.w.dtype == dtype
    certificate = np.linalg.norm((problem.gradient(result.w) - g).astype(float))
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

    result = FunctionalInverse(Fold(), [0.3]).solve([2.0], order=1, iterations=30)
    assert not result.converged or abs(result.w[0] ** 3 - result.w[0] - 2) < 1e-9
    limited = FunctionalInverse(Rosenbrock(2), [-1.2, 1.0]).solve(iterations=1, tolerance=1e-14)
    assert not limited.converged
    assert limited.reason == "iterations"
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        FunctionalInverse(Quadratic([[0.0]]), [1.0])


def test_the_optimiser_finds_the_stationary_point():
    problem, w = net_problem()
    result = FunctionalInverseNewton().minimize(problem, w, gradient_tolerance=1e-11)
    assert result.status == "converged", result
    for k in (1, 2, 3):
        method = FunctionalInverseNewton(order=k)
        whole = method.step(Quadratic([[2.0, 0.0], [0.0, -1.0]], [1.0, 1.0]), np.zeros(2), {})
        assert np.allclose(whole.w, [0.5, -1.0])
    with pytest.raises(ValueError, match="order"):
        FunctionalInverseNewton(order=4)


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
    assert result.converged
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


def test_the_certificate_tells_changed_signs():
    x, y, w = perceptron(6)
    inverse = PerceptronInverse(x, y, w)
    far = inverse.solve(-50 * inverse.gradient)
    assert not far.converged
    assert far.residual_norm > 1
    # More samples than inputs: gradients are reached only in the least-squares sense.
    x, y, w = perceptron(20)
    assert not PerceptronInverse(x, y, w).solve(np.ones_like(w)).converged


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
        (lambda: inverse.solve(iterations=0), "iterations"),
        (lambda: FunctionalInverse(Rosenbrock(2), [np.inf, 0.0]), "w has inf"),
    ]:
        with pytest.raises(ValueError, match=word):
            call()
