"""Newton, Gauss–Newton, trust regions, cubic regularisation, K-FAC, and steps of higher order."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_problems import Logarithmic, Saddle

from swiftnets import MLP
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.optimizers import (
    KFAC,
    SGD,
    Chebyshev,
    CubicRegularization,
    FourthOrder,
    GaussNewton,
    Halley,
    LevenbergMarquardt,
    Newton,
    QuarticLineSearch,
    TrustRegion,
)
from swiftnets.optimizers.line_search import backtrack, minimize_quartic
from swiftnets.optimizers.secular import secular_step
from swiftnets.optimizers.trust_region import steihaug
from swiftnets.problems import NetProblem, Problem, Quadratic, Rosenbrock

EPS = np.finfo(float).eps


def net_problem(**options) -> tuple[NetProblem, np.ndarray]:
    net = MLP((3, 5, 2), **options)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    return NetProblem(net, x.astype(net.dtype), y.astype(net.dtype)), net.initial(seed=1)


class Quartic(Problem):
    """w⁴ / 4 in one dimension: a degenerate minimum."""

    parameter_count = 1

    def loss_and_gradient(self, w):
        return float(w[0] ** 4 / 4), np.array([w[0] ** 3])

    def hvp(self, w, v):
        return 3 * w[0] ** 2 * np.asarray(v)

    def third(self, w, u, v):
        return 6 * w[0] * u * np.asarray(v)

    def taylor(self, w, v, order=3):
        rows = np.array([w**3, 3 * w**2 * v, 3 * w * v**2, v**3])[: order + 1]
        loss = np.array([w[0] ** 4 / 4, *(rows @ v / np.arange(1, order + 2))])
        return TaylorSeries(loss, rows)


# Subproblems --------------------------------------------------------------------------------------


def spectra():
    numbers = st.floats(-4, 4).map(lambda t: round(t, 3))
    return st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


@given(spectra(), st.sampled_from([0.01, 1.0, 30.0]))
def test_the_trust_region_step_is_optimal(pairs, radius):
    values, gradient = np.array(sorted(pairs)).T.copy()
    step, shift = secular_step(values, gradient, lambda _: radius, True)
    # The conditions are necessary and sufficient (Moré & Sorensen 1983).
    scale = abs(values).max() + shift + 1
    slack = 1e-11 * (scale * radius + abs(gradient).max())
    assert shift >= 0 and values[0] + shift >= -slack
    assert np.linalg.norm(step) <= radius * (1 + 1e-9)
    assert abs((values + shift) * step + gradient).max() <= slack
    assert shift * (radius - np.linalg.norm(step)) <= 1e-8 * scale * radius


@given(spectra(), st.sampled_from([0.01, 1.0, 30.0]))
def test_the_cubic_step_is_optimal(pairs, sigma):
    values, gradient = np.array(sorted(pairs)).T.copy()
    step, shift = secular_step(values, gradient, lambda t: t / sigma, False)
    size = np.linalg.norm(step)
    scale = abs(values).max() + shift + 1
    assert abs(sigma * size - shift) <= 1e-8 * scale
    assert values[0] + shift >= -1e-11 * scale
    slack = 1e-11 * (scale * size + abs(gradient).max()) + 1e-13
    assert abs((values + shift) * step + gradient).max() <= slack


def test_the_hard_case():
    # The gradient has nothing along the negative curvature, and the step is to use it still.
    values, gradient = np.array([-2.0, 1.0]), np.array([0.0, 3.0])
    step, shift = secular_step(values, gradient, lambda _: 5.0, True)
    assert shift == 2.0
    assert np.isclose(step[1], -1.0)
    assert np.isclose(np.linalg.norm(step), 5.0)
    step, shift = secular_step(values, gradient, lambda t: t / 0.1, False)
    assert shift == 2.0
    assert np.isclose(np.linalg.norm(step), 20.0)


def test_steihaug_stops_at_the_edge_and_inside():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 6))
    problem = Quadratic(a @ a.T + np.eye(6), rng.standard_normal(6))
    point = problem.at(np.zeros(6))
    inside, image = steihaug(point, 1e6, 1e-13)
    assert np.allclose(inside, np.linalg.solve(problem.matrix, problem.b), rtol=1e-9)
    assert np.allclose(image, problem.matrix @ inside, rtol=0, atol=1e-12 * abs(image).max())
    edge, image = steihaug(point, 0.01, 1e-13)
    assert np.isclose(np.linalg.norm(edge), 0.01, rtol=1e-12)
    assert np.allclose(image, problem.matrix @ edge, rtol=1e-9)
    # Along the gradient the model must fall as far as Cauchy's point does.
    g = point.gradient
    cauchy = -0.01 * g / np.linalg.norm(g)

    def model(s):
        return g @ s + s @ problem.matrix @ s / 2

    assert model(edge) <= model(cauchy) + 1e-15
    down, _ = steihaug(Quadratic(-np.eye(2)).at(np.array([1.0, 0.0])), 3.0)
    assert np.isclose(np.linalg.norm(down), 3.0)


coefficient = st.floats(-10, 10).map(lambda t: round(t, 2))


@given(st.lists(coefficient, min_size=5, max_size=5), st.sampled_from([0.1, 1.0, 7.0]))
def test_the_minimum_of_a_quartic(coefficients, limit):
    t = minimize_quartic(coefficients, limit)
    assert 0 <= t <= limit
    grid = np.linspace(0, limit, 2001)
    values = np.polynomial.polynomial.polyval(grid, coefficients)
    size = np.abs(coefficients) @ limit ** np.arange(5.0)
    best = np.polynomial.polynomial.polyval(t, coefficients)
    assert best <= values.min() + 1e-13 * size


def critical_points(slope):
    """Roots of a cubic by Cardano's formula, in mpmath's numbers, whatever their sizes."""
    d, c, b, a = slope
    if a != 0:
        p, q = b * b - 3 * a * c, 2 * b**3 - 9 * a * b * c + 27 * a * a * d
        root = mpmath.sqrt(mpmath.mpc(q * q - 4 * p**3))
        k = mpmath.cbrt(max((q + root) / 2, (q - root) / 2, key=abs))
        turns = [mpmath.expjpi(mpmath.mpf(2 * n) / 3) for n in range(3)] if k != 0 else []
        return [-(b + u * k + p / (u * k)) / (3 * a) for u in turns] or [-b / (3 * a)]
    if b != 0:
        root = mpmath.sqrt(mpmath.mpc(c * c - 4 * b * d))
        big = max((-c - root) / 2, (-c + root) / 2, key=abs)
        return [big / b, d / big] if big != 0 else [mpmath.mpf(0)]
    return [-d / c] if c != 0 else []


def quartics():
    yield [0.0, -1.0, 0.5, 0.0, 0.0], 1e100
    for scale in (1e-300, 1e-150, 1e150, 1e300):
        yield [0.0, -scale, 0.5 * scale, 0.0, 0.0], 10.0
        yield [0.0, -1.0, 0.5, 0.0, 0.0], max(scale, 2.0)
        yield [0.0, -1.0, 0.5 / scale, 0.0, 0.0], 1e308
        yield [scale, -1.0, -1.0, 1e-300, 0.0], scale
        yield [0.0, -1.0, 0.0, 1.0, scale], 10.0
        yield [0.0, 1.0, -1.0, 0.25, 1e-300], 1e-3 * scale
    random = np.random.default_rng(0)
    for _ in range(20):  # no two terms of a size
        yield [0.0, *(random.choice([-1, 1, 1, 0], 4) * 10 ** random.uniform(-300, 300, 4))], 1e300
    for _ in range(20):  # of a function in other units
        w, f = 10 ** random.uniform(-70, 70, 2)
        yield (
            [0.0, *(f * random.normal(size=4) / w ** np.arange(1, 5))],
            w * random.uniform(0.1, 99),
        )


def test_the_minimum_of_a_quartic_of_any_scale():
    worst = 0.0
    with mpmath.workdps(3700):  # sums of terms that are 10^1500 apart, squared
        for coefficients, limit in quartics():
            t = minimize_quartic(coefficients, limit)
            assert 0 <= t <= limit
            c = [mpmath.mpf(float(value)) for value in coefficients]
            places = [
                mpmath.re(root)
                for root in critical_points([k * c[k] for k in range(1, 5)])
                if abs(mpmath.im(root)) <= abs(root) * mpmath.mpf(10) ** -150
            ]
            places = [mpmath.mpf(0), mpmath.mpf(limit)] + [
                root for root in places if mpmath.mpf(2) ** -1074 < root < limit
            ]

            def value(t, c=c):
                return (((c[4] * t + c[3]) * t + c[2]) * t + c[1]) * t

            best = min(places, key=value)
            size = sum(abs(c[k]) * best**k for k in range(1, 5)) or mpmath.mpf(1)
            worst = max(worst, float((value(mpmath.mpf(t)) - value(best)) / size))
    # A root off by its rounding, or by √ε where terms 2²⁶ apart share a scale, squared.
    assert worst <= 4 * EPS


# Whole methods ------------------------------------------------------------------------------------

GLOBAL = [
    TrustRegion(),
    TrustRegion(method="exact"),
    CubicRegularization(steps=100),
    Newton(),
    Chebyshev(),
    Halley(),
    FourthOrder(),
]


@pytest.mark.parametrize("method", GLOBAL, ids=repr)
@pytest.mark.parametrize("n", [2, 10, 50])
def test_rosenbrock(method, n):
    problem = Rosenbrock(n)
    result = method.minimize(problem, problem.start(), max_iterations=500, gradient_tolerance=1e-8)
    assert result.status == "converged", result
    # A stationary point of second order: for larger n there is one besides (1, …, 1).
    assert np.linalg.norm(problem.gradient(result.w)) <= 1e-8
    assert np.linalg.eigvalsh(problem.hessian(result.w))[0] > 0
    losses = result.history.loss
    assert (np.diff(losses) <= 10 * EPS * losses[:-1]).all()


def test_newton_solves_a_quadratic_in_one_step():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 5))
    problem = Quadratic(a + a.T, rng.standard_normal(5))
    w = rng.standard_normal(5)
    stepped = Newton(line_search=False).step(problem, w, {}).w
    want = np.linalg.solve(problem.matrix, problem.b)
    assert np.allclose(stepped, want, rtol=0, atol=1e3 * EPS * abs(want).max())
    damped = Newton(line_search=False, damping=20.0).step(problem, w, {}).w
    move = np.linalg.solve(problem.matrix + 20 * np.eye(5), problem.gradient(w))
    assert np.allclose(damped, w - move, rtol=1e-12)


@pytest.mark.parametrize("method", ["auto", "layered", "dense", "minres"])
def test_newton_on_a_net(method):
    problem, w = net_problem()
    step = w - Newton(line_search=False, damping=0.1, method=method).step(problem, w, {}).w
    h = problem.hessian(w) + 0.1 * np.eye(len(w))
    # To a relative residual of 1e-10.
    rest = np.linalg.norm(h @ step - problem.gradient(w))
    assert rest <= 1.1e-10 * np.linalg.norm(problem.gradient(w))


def test_newton_converges_quadratically():
    problem = Rosenbrock(4)
    w = np.full(4, 1.01)
    norms = []
    for _ in range(6):
        result = Newton().step(problem, w, {})
        norms.append(result.gradient_norm)
        w = result.w
    # ‖g‖ₖ₊₁ ≤ ½ max‖T‖ ‖H⁻¹‖² ‖g‖ₖ² while that is above rounding; third derivatives are 2400 w and
    # 400, at most two of the latter in a row with one of the former.
    inverse = 1 / np.linalg.eigvalsh(problem.hessian(w))[0]
    bound = 0.5 * (2400 * 1.01 + 2 * 400) * inverse**2
    ratios = [b / a**2 for a, b in zip(norms, norms[1:], strict=False) if b > 1e-11]
    assert len(ratios) >= 2
    assert max(ratios) <= bound
    assert norms[-1] < 1e-10


ESCAPES = [TrustRegion(), TrustRegion(method="exact"), CubicRegularization()]


@pytest.mark.parametrize("method", ESCAPES, ids=repr)
def test_saddles_are_left_where_newton_and_gradient_descent_stay(method):
    start = np.array([1e-9, 0.5])
    result = method.minimize(Saddle(), start, max_iterations=60, gradient_tolerance=1e-10)
    assert result.status == "converged"
    assert np.allclose(np.abs(result.w), [1, 0], atol=1e-9)
    stays = Newton(line_search=False).minimize(Saddle(), start, max_iterations=60)
    assert np.allclose(stays.w, 0, atol=1e-9)
    slow = SGD(learning_rate=0.1).minimize(Saddle(), start, max_iterations=60)
    assert abs(slow.w[0]) < 1e-5  # grows by 1.1 a step


def test_levenberg_marquardt_ends_where_scipy_does():
    from scipy.optimize import least_squares

    net = net_problem()[0].net
    rng = np.random.default_rng(0)
    # Targets that another net makes, and little noise: minima with small residuals.
    x = rng.standard_normal((60, 3))
    y = net.predict(net.initial(seed=5), x) + 0.01 * rng.standard_normal((60, 2))
    problem, w = NetProblem(net, x, y), net.initial(seed=5) + 0.3 * rng.standard_normal(32)

    def residuals(w):
        return (problem.net.predict(w, x) - y).ravel()

    theirs = least_squares(residuals, w, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    ours = LevenbergMarquardt().minimize(problem, w, max_iterations=2000, gradient_tolerance=1e-7)
    assert ours.status == "converged", ours
    # The same minimum: the loss is off by the square of the gradient over its curvature.
    curvature = np.linalg.eigvalsh(problem.hessian(ours.w))[0]
    assert curvature > 0
    assert abs(ours.loss - theirs.cost) <= 1e-14 / curvature + 1e-12


def test_gauss_newton_is_the_dense_step():
    problem, w = net_problem()
    matrix = problem.at(w).gauss_newton.dense() + 0.3 * np.eye(len(w))
    want = w - np.linalg.solve(matrix, problem.gradient(w))
    got = GaussNewton(damping=0.3, line_search=False).step(problem, w, {}).w
    assert np.allclose(got, want, rtol=0, atol=1e-11)


def test_gauss_newton_of_a_large_net_by_conjugate_gradients():
    net = MLP((30, 30, 10), loss="softmax_cross_entropy", reduction="mean")
    rng = np.random.default_rng(0)
    problem = NetProblem(net, rng.standard_normal((40, 30)), rng.integers(0, 10, 40))
    w = net.initial(seed=0)
    assert len(w) > 1000
    matrix = problem.at(w).gauss_newton.dense() + 0.05 * np.eye(len(w))
    method = GaussNewton(damping=0.05, line_search=False, tolerance=1e-9)
    step = w - method.step(problem, w, {}).w
    gradient = problem.gradient(w)
    assert np.linalg.norm(matrix @ step - gradient) <= 1.01e-9 * np.linalg.norm(gradient)


def test_quartic_line_search_descends():
    problem, w = net_problem()
    result = QuarticLineSearch().minimize(problem, w, max_iterations=100)
    assert (np.diff(result.history.loss) <= 0).all()
    assert result.loss < result.history.loss[0] / 2
    plain = QuarticLineSearch(conjugate=False).minimize(
        Rosenbrock(2), [-1.2, 1.0], max_iterations=50
    )
    assert (np.diff(plain.history.loss) <= 0).all()


def test_the_quartic_of_a_piecewise_linear_net_is_exact_within_a_cell():
    net = MLP((3, 5, 2), activation="relu", bias=False)
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((20, 3)), rng.standard_normal((20, 2)), net.initial(seed=1)
    direction = -net.gradient(w, x, y)
    series = net.at(w, x, y).taylor(direction)
    # How far until the first pre-activation of the hidden layer changes its sign.
    before = x @ w[:15].reshape(3, 5)
    along = x @ direction[:15].reshape(3, 5)
    times = -before / along
    edge = times[times > 0].min()
    for t in (0.3 * edge, 0.99 * edge):
        value = net.loss(w + t * direction, x, y)
        assert abs(series(t) - value) <= 100 * EPS * series(0)
    far = net.loss(w + 30 * edge * direction, x, y)
    assert abs(series(30 * edge) - far) > 1e-9 * series(0)


# Orders -------------------------------------------------------------------------------------------


def test_orders_of_convergence_in_extended_precision():
    """x ↦ x + log x − 2, the gradient of a convex function of one variable, in 3000 digits."""
    with mpmath.workdps(3000):
        mp = mpmath.mp

        def g(x):
            return x + mp.log(x) - 2

        def step(x, order):
            h, t, q = 1 + 1 / x, -1 / x**2, 2 / x**3
            s1 = -g(x) / h
            s2 = -(s1 * t * s1) / 2 / h
            s3 = -(t * s1 * s2 + q * s1**3 / 6) / h
            if order == "halley":
                return x - g(x) / (h + t * s1 / 2)
            return x + sum([s1, s2, s3][:order])

        root = mp.findroot(g, mpmath.mpf("1.5573"), tol=mpmath.mpf(10) ** -2900)
        for order, want in [(1, 2), (2, 3), (3, 4), ("halley", 3)]:
            x, logs = mpmath.mpf("1.5"), []
            while len(logs) < 8:
                error = abs(x - root)
                if error < mpmath.mpf(10) ** -1500:
                    break
                logs.append(mp.log(error))
                x = step(x, order)
            measured = float((logs[-1] - logs[-2]) / (logs[-2] - logs[-3]))
            assert abs(measured - want) < 0.05, (order, measured)


def test_orders_of_convergence_on_a_net_in_extended_precision():
    """A 1-2-1 tanh net with L2; derivatives are differences of its gradient in 500 digits."""
    xs, ys, l2, digits = [0.5, -1.0, 2.0], [1.0, -0.3, 0.4], 0.1, 500
    net = MLP((1, 2, 1), bias=False, l2=l2)
    problem = NetProblem(net, np.array(xs)[:, None], np.array(ys)[:, None])
    found = TrustRegion().minimize(
        problem, net.initial(seed=0), max_iterations=300, gradient_tolerance=1e-13
    )
    assert found.status == "converged"
    assert np.linalg.eigvalsh(problem.hessian(found.w))[0] > 0.01

    with mpmath.workdps(digits):
        mp, matrix = mpmath.mp, mpmath.matrix
        h = mp.mpf(10) ** -60

        def g(w):
            result = mp.mpf(l2) * w
            for x, y in zip(xs, ys, strict=True):
                hidden = [mp.tanh(w[k] * x) for k in (0, 1)]
                rest = w[2] * hidden[0] + w[3] * hidden[1] - y
                for k in (0, 1):
                    result[k] += rest * w[2 + k] * (1 - hidden[k] ** 2) * x
                    result[2 + k] += rest * hidden[k]
            return result

        def second(w, u, v):  # T[u, v]
            return (
                g(w + h * (u + v)) - g(w + h * (u - v)) - g(w - h * (u - v)) + g(w - h * (u + v))
            ) / (4 * h**2)

        def step(w, order):
            unit = [matrix([int(i == j) for i in range(4)]) for j in range(4)]
            hessian = matrix(4, 4)
            for j in range(4):
                hessian[:, j] = (g(w + h * unit[j]) - g(w - h * unit[j])) / (2 * h)
            s1 = -mp.lu_solve(hessian, g(w))
            if order == "halley":
                tangent = matrix(4, 4)
                for j in range(4):
                    tangent[:, j] = second(w, s1, unit[j])
                return w - mp.lu_solve(hessian + tangent / 2, g(w))
            s2 = -mp.lu_solve(hessian, second(w, s1, s1) / 2)
            third = g(w + 2 * h * s1) - 2 * g(w + h * s1) + 2 * g(w - h * s1) - g(w - 2 * h * s1)
            s3 = -mp.lu_solve(hessian, second(w, s1, s2) + third / (2 * h**3) / 6)
            return w + sum([s1, s2, s3][1:order], s1)

        start = matrix([mp.mpf(float(a)) for a in found.w])
        root = start
        for _ in range(4):  # Newton from 1e-13: to some 1e-120, where differences of h = 1e-60 end
            root = step(root, 1)
        for order, want, method in [
            (1, 2, Newton(line_search=False)),
            (2, 3, Chebyshev()),
            (3, 4, FourthOrder()),
            ("halley", 3, Halley()),
        ]:
            w, logs = root + matrix([mp.mpf(a) / 1000 for a in (3, -2, 1, 2)]), []
            # Our step in float64 is this one.
            ours = method.step(problem, np.array([float(a) for a in w]), {}).w
            theirs = np.array([float(a) for a in step(w, order)])
            assert np.allclose(ours, theirs, rtol=0, atol=1e-13)
            for _ in range(6):
                error = mp.norm(w - root)
                if error < mp.mpf(10) ** -90:
                    break
                logs.append(mp.log(error))
                w = step(w, order)
            measured = float((logs[-1] - logs[-2]) / (logs[-2] - logs[-3]))
            assert abs(measured - want) < 0.15, (order, measured)


@pytest.mark.parametrize(
    ("method", "order"), [(Chebyshev(), 2), (FourthOrder(), 3), (Halley(), "halley")], ids=repr
)
def test_steps_are_those_of_the_formulas(method, order):
    x = 1.4
    h, t, q = 1 + 1 / x, -1 / x**2, 2 / x**3
    g = x + np.log(x) - 2
    s1 = -g / h
    s2 = -(s1 * t * s1) / 2 / h
    s3 = -(t * s1 * s2 + q * s1**3 / 6) / h
    want = x - g / (h + t * s1 / 2) if order == "halley" else x + sum([s1, s2, s3][:order])
    got = method.step(Logarithmic(), np.array([x]), {})
    assert abs(got.w[0] - want) <= 20 * EPS
    assert got.info["correction"] > 0


@pytest.mark.parametrize(
    ("method", "factor"),
    [(Newton(), 2 / 3), (Chebyshev(), 5 / 9), (FourthOrder(), 40 / 81)],
    ids=repr,
)
def test_at_a_degenerate_minimum_convergence_is_linear(method, factor):
    w = np.array([1.0])
    for _ in range(5):
        new = method.step(Quartic(), w, {}).w
        assert abs(new[0] / w[0] - factor) <= 20 * EPS
        w = new


@pytest.mark.parametrize("method", [Chebyshev(), Halley(), FourthOrder()], ids=repr)
def test_safeguards_lower_the_loss_from_anywhere(method):
    problem, w = net_problem()
    for seed in range(3):
        w = 2 * problem.net.initial(seed=seed)
        result = method.minimize(problem, w, max_iterations=15)
        assert (np.diff(result.history.loss) <= 1e-12).all()
        assert result.status in ("iterations", "failed")


def test_derivatives_of_nets_reach_the_steps():
    net = MLP((2, 3, 1), l2=0.05)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 2))
    problem = NetProblem(net, x, 2 * np.tanh(x[:, :1] - x[:, 1:]))
    start = net.initial(seed=1)
    minimum = TrustRegion().minimize(problem, start, max_iterations=500, gradient_tolerance=1e-13).w
    assert np.linalg.eigvalsh(problem.hessian(minimum))[0] > 1e-3
    near = minimum + 2e-5 * rng.standard_normal(net.parameter_count)
    # Curvatures span 5000 : 1, and the third derivative is felt beyond 1e-4: nearer, the error
    # after a step is the smaller the higher the order.
    after = [
        np.linalg.norm(method.step(problem, near, {}).w - minimum)
        for method in (Newton(), Chebyshev(), FourthOrder())
    ]
    assert after[2] < after[1] / 5 < after[0] / 25


# Edges --------------------------------------------------------------------------------------------

ALL = [
    *GLOBAL,
    LevenbergMarquardt(),
    GaussNewton(),
    KFAC(),
    QuarticLineSearch(),
    QuarticLineSearch(conjugate=False),
]


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_single_precision(method):
    problem, w = net_problem(dtype=np.float32, l2=0.1)
    result = method.minimize(problem, w, max_iterations=5)
    assert result.w.dtype == np.float32
    assert result.loss < result.history.loss[0]


@pytest.mark.parametrize("method", [LevenbergMarquardt(), GaussNewton(), KFAC()], ids=repr)
def test_methods_for_nets_say_so(method):
    with pytest.raises(TypeError, match=r"Rosenbrock.*expected a NetProblem"):
        method.minimize(Rosenbrock(2), [0.0, 0.0])


def test_bad_settings():
    for make, word in [
        (lambda: Newton(damping=-1.0), "damping"),
        (lambda: Newton(method="lu"), "method"),
        (lambda: TrustRegion(method="dogleg"), "method"),
        (lambda: TrustRegion(radius=0.0), "radius"),
        (lambda: CubicRegularization(regularization=0.0), "regularization"),
        (lambda: CubicRegularization(steps=0), "steps"),
        (lambda: LevenbergMarquardt(damping=0.0), "damping"),
        (lambda: GaussNewton(tolerance=np.inf), "tolerance"),
        (lambda: KFAC(decay=1.0), "decay"),
        (lambda: Chebyshev(safeguard=0.0), "safeguard"),
        (lambda: QuarticLineSearch(radius=-1.0), "radius"),
        (lambda: minimize_quartic([1.0, 2.0], 1.0), "coefficients"),
        (lambda: minimize_quartic(np.ones(5), 0.0), "limit"),
    ]:
        with pytest.raises(ValueError, match=word):
            make()


class Steep(Problem):
    """exp(w): infinite in float64 from 710 on, with all its derivatives."""

    parameter_count = 1

    def loss_and_gradient(self, w):
        value = np.exp(np.float64(w[0]))
        return value, np.array([value])

    def hvp(self, w, v):
        return np.exp(w[0]) * np.asarray(v)

    def third(self, w, u, v):
        return np.exp(w[0]) * u * np.asarray(v)

    def taylor(self, w, v, order=3):
        rows = np.exp(w[0]) * np.array([[1.0], v, v**2 / 2, v**3 / 6])[: order + 1]
        return TaylorSeries(np.array([np.exp(w[0]), *(rows @ v / np.arange(1, order + 2))]), rows)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "method", [QuarticLineSearch(), QuarticLineSearch(conjugate=False), Newton(), Halley()]
)
def test_an_infinite_loss_is_divergence_and_a_huge_one_is_not(method):
    assert method.minimize(Steep(), [720.0]).status == "diverged"
    # The gradient is 1e304: its fourth power, as the series has it, is beyond every float.
    result = method.minimize(Steep(), [700.0], max_iterations=30)
    assert result.status == "iterations" and result.loss < result.history.loss[0] / 100


@pytest.mark.filterwarnings("error")
def test_backtracking_comes_back_from_where_nothing_is_finite():
    class Walled(Quadratic):
        def loss(self, w):
            if w[0] < -3:
                raise FloatingPointError("the loss is inf")
            return np.nan if w[0] < -1 else super().loss(w)

    found = backtrack(Walled([[1.0]]), np.array([1.0]), np.array([-8.0]), 0.5, -8.0)
    assert found is not None and found[1] == 0.125 and found[0] == [0.0]


def test_a_singular_hessian_at_a_minimum_is_convergence():
    class Valley(Problem):
        parameter_count = 2

        def loss_and_gradient(self, w):
            return float(w[0] ** 2), np.array([2 * w[0], 0.0])

        def hvp(self, w, v):
            return np.asarray(v) * np.array([2.0, 0.0])

    for method in (Newton(), Chebyshev()):
        assert method.minimize(Valley(), [1.0, 0.0]).status == "failed"
        result = method.minimize(Valley(), [1e-9, 0.0], gradient_tolerance=1e-8)
        assert result.status == "converged" and "singular" in result.message


def test_backtracking_gives_up_where_nothing_falls():
    assert backtrack(Quadratic([[1.0]]), np.array([1.0]), np.array([1.0]), 0.5, -1.0) is None


def test_a_singular_hessian_ends_a_run():
    result = Newton().minimize(Quadratic([[0.0]], [1.0]), [1.0])
    assert result.status == "failed"
    assert "singular" in result.message
