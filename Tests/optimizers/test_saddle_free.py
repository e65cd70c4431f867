"""Saddle-free Newton against eigendecompositions by NumPy."""

import mpmath
import numpy as np
import pytest
from toy_problems import Saddle

from swiftnets import MLP, datasets
from swiftnets.nets.activations import LeakyReLU
from swiftnets.optimizers import SGD, Newton, SaddleFreeNewton, saddle_free
from swiftnets.optimizers.saddle_free import inverse_root_error, inverse_root_nodes
from swiftnets.problems import Counted, NetProblem, Quadratic, Rosenbrock
from swiftnets.problems.functional_inverse import refined

EPS = np.finfo(float).eps
FORMULAS = {
    "smooth": lambda h, d: 1 / np.sqrt(h**2 + d**2),
    "absolute": lambda h, d: 1 / (np.abs(h) + d),
    "original": lambda h, d: np.abs(1 / (h + d)),
}


def net_problem(sizes=(4, 5, 5, 3), samples=6, **options):
    net = MLP(sizes, **options)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((samples, sizes[0])), rng.standard_normal((samples, sizes[-1]))
    return NetProblem(net, x.astype(net.dtype), y.astype(net.dtype)), net.initial(seed=1)


def exact(problem, w, formula, damping):
    values, vectors = np.linalg.eigh(np.asarray(problem.hessian(w), float))
    return vectors @ (FORMULAS[formula](values, damping) * (vectors.T @ problem.gradient(w)))


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize("function", FORMULAS)
def test_exact_and_krylov_are_the_formula(function):
    problem, w = net_problem()
    assert np.linalg.eigvalsh(problem.hessian(w))[0] < -0.1  # indefinite
    want = exact(problem, w, function, 0.3)
    options = {"damping": 0.3, "function": function, "method": "exact", "line_search": False}
    method = SaddleFreeNewton(**options)
    # f has slopes up to 1 / 0.3², or near the pole more: eigenvalues are good to P EPS ‖H‖.
    assert relative(method.direction(problem, w), want) < 1e-9
    assert np.allclose(method.step(problem, w, {}).w, w - want, rtol=0, atol=1e-9)
    half = SaddleFreeNewton(**options, learning_rate=0.5)
    assert np.allclose(half.step(problem, w, {}).w, w - want / 2, rtol=0, atol=1e-9)
    # A space of all dimensions leaves only rounding.
    full = SaddleFreeNewton(damping=0.3, function=function, steps=len(w))
    assert relative(full.direction(problem, w), want) < 1e-8


def test_krylov_error_is_within_the_polynomial_bound():
    problem, w = net_problem((6, 12, 12, 6), 20)
    want = exact(problem, w, "smooth", 1.0)
    values = np.linalg.eigvalsh(problem.hessian(w))
    low, high = values[0], values[-1]
    for steps in (5, 10, 20, 40):
        got = SaddleFreeNewton(damping=1.0, steps=steps).direction(problem, w)
        # ‖f(H) g − x‖ ≤ 2 ‖g‖ max|f − p| over the spectrum for every p of degree below `steps`;
        # here p interpolates f at Chebyshev's points.
        nodes = np.cos((np.arange(steps) + 0.5) * np.pi / steps)
        f = FORMULAS["smooth"]((high + low) / 2 + (high - low) / 2 * nodes, 1.0)
        p = np.polynomial.chebyshev.Chebyshev.fit(nodes, f, steps - 1)
        at = (2 * values - high - low) / (high - low)
        bound = abs(p(at) - FORMULAS["smooth"](values, 1.0)).max()
        size = np.linalg.norm(problem.gradient(w))
        assert np.linalg.norm(got - want) <= 2 * size * bound + 1e-12 * size


def test_rational_error_falls_geometrically():
    problem, w = net_problem((6, 8, 8, 8, 4), 5)
    for damping in (0.5, 0.05):
        want = exact(problem, w, "smooth", damping)
        errors = [
            relative(
                SaddleFreeNewton(damping=damping, method="rational", nodes=nodes).direction(
                    problem, w
                ),
                want,
            )
            for nodes in (2, 4, 8, 12)
        ]
        # The error of the midpoint rule falls by exp(−π² / K) a node, K the quarter period:
        # the nearest poles of the integrand are π / 2 away from the real axis.
        largest = 1.05 * abs(np.linalg.eigvalsh(problem.hessian(w))).max()
        quarter = float(mpmath.ellipk(1 - (damping**2 / (largest**2 + damping**2))))
        # Nodes come from a bound on ‖H‖ that may be larger: a tenth is left for that.
        gain = np.exp(-0.9 * np.pi**2 / quarter)
        assert errors[1] < 3 * gain**4
        assert errors[2] < 3 * gain**8 + 1e-9
        assert errors[3] < 1e-5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ratio", [1e-16, 1e-12, 1e-8, 2e-4, 0.3, 1.0, 1e4, 1e9])
@pytest.mark.parametrize("largest", [50.0, 1e-150, 1e150])
def test_nodes_against_elliptic_functions_of_mpmath(ratio, largest):
    damping = ratio * largest
    for count in (1, 2, 9, 12):
        shifts, weights = inverse_root_nodes(damping, largest, count)
        with mpmath.workdps(60):
            delta = mpmath.mpf(damping)
            m = 1 - delta**2 / (mpmath.mpf(largest) ** 2 + delta**2)
            quarter = mpmath.ellipk(m)
            for j in range(count):
                u = (j + mpmath.mpf("0.5")) * quarter / count
                sn, cn, dn = (mpmath.ellipfun(name, u, m=m) for name in ("sn", "cn", "dn"))
                shift = delta * mpmath.sqrt(1 + (sn / cn) ** 2)
                weight = 2 * quarter * delta / (mpmath.pi * count) * dn / cn**2
                # sinh u doubles relative errors of u where u is 1, and so for u up to K / 2 ≤ 20.
                assert abs(shifts[j] / shift - 1) < 40 * EPS
                assert abs(weights[j] / weight - 1) < 80 * EPS


def test_nodes_do_not_depend_on_the_unit():
    for exponent in (-900, -30, 30, 900):
        shifts, weights = inverse_root_nodes(1e-8, 3.0, 11)
        scaled = inverse_root_nodes(np.ldexp(1e-8, exponent), np.ldexp(3.0, exponent), 11)
        np.testing.assert_array_equal(scaled[0], np.ldexp(shifts, exponent))
        np.testing.assert_array_equal(scaled[1], np.ldexp(weights, exponent))
        error = inverse_root_error(1e-8, 3.0, 11)
        there = inverse_root_error(np.ldexp(1e-8, exponent), np.ldexp(3.0, exponent), 11)
        assert there == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("ratio", [1e-12, 1e-8, 1e-3, 1.0])
def test_the_error_of_the_quadrature_is_told(ratio):
    h = np.concatenate([[0.0], np.geomspace(1e-3 * ratio, 1, 20000)])
    for count in (1, 5, 12, 30):
        shifts, weights = inverse_root_nodes(ratio, 1.0, count)
        exact = 1 / np.hypot(h, ratio)
        error = abs((weights / (h[:, None] ** 2 + shifts**2)).sum(axis=1) / exact - 1).max()
        reported = inverse_root_error(ratio, 1.0, count)
        assert 0.9 * error - 10 * EPS <= reported <= 1.1 * error + 10 * EPS
        # The rate of Hale, Higham & Trefethen: exp(−π² / K) a node, with K ≈ log(4 ‖H‖ / δ).
        rate = np.exp(-(np.pi**2) / float(mpmath.ellipk(1 - ratio**2 / (1 + ratio**2))))
        assert error <= 6 * rate**count * np.log(4 / ratio) + 10 * EPS
    problem, w = net_problem()
    step = SaddleFreeNewton(method="rational", damping=1e-4).step(problem, w, {})
    assert 1e-5 < step.info["quadrature_error"] < 1e-2


def test_a_shifted_system_that_is_not_solved_is_refused(monkeypatch):
    problem, w = net_problem()

    def astray(solve, product, b):
        return refined(lambda v: 0.5 * solve(v) + 0.5 * abs(b), product, b)

    monkeypatch.setattr(saddle_free, "refined", astray)
    result = SaddleFreeNewton(method="rational").minimize(problem, w)
    assert result.status == "failed"
    assert "is not solved: relative residual" in result.message


def test_single_layers_are_as_slow_net_steps():
    activation = LeakyReLU(0.5)
    problem, w = net_problem(
        (6, 5, 4), 8, activation=activation, output_activation=activation, bias=False
    )
    method = SaddleFreeNewton(damping=0.1, function="original", method="exact", block="diagonal")
    got = method.direction(problem, w)
    hessian, gradient = problem.hessian(w), problem.gradient(w)
    for part in problem.net.layer_slices:
        values, vectors = np.linalg.eigh(hessian[part, part])
        # The original: U diag(|1 / (e + 0.1)|) Uᵀ g.
        want = vectors @ (np.abs(1 / (values + 0.1)) * (vectors.T @ gradient[part]))
        assert relative(got[part], want) < 1e-10


@pytest.mark.parametrize("method", ["exact", "krylov"])
def test_a_saddle_is_left(method):
    start = np.array([1e-9, 0.5])
    sfn = SaddleFreeNewton(damping=0.01, method=method, line_search=False)
    # The distance from the saddle nearly doubles: log₂ 1e9 = 30 steps, and a few to converge.
    result = sfn.minimize(Saddle(), start, max_iterations=45)
    assert np.allclose(result.w, [1, 0], atol=1e-6)
    stays = Newton(line_search=False).minimize(Saddle(), start, max_iterations=45)
    assert np.allclose(stays.w, 0, atol=1e-9)
    slow = SGD(learning_rate=0.1).minimize(Saddle(), start, max_iterations=45)
    assert abs(slow.w[0]) < 1e-6


@pytest.mark.parametrize("method", ["exact", "krylov"])
def test_with_a_line_search_the_loss_falls_from_anywhere(method):
    problem, w = net_problem()
    # So little damping that whole steps leave the region where the quadratic model holds.
    plain = SaddleFreeNewton(damping=1e-3, method=method, steps=30, line_search=False)
    searched = SaddleFreeNewton(damping=1e-3, method=method, steps=30)
    assert (np.diff(plain.minimize(problem, w, max_iterations=10).history.loss) > 0).any()
    history = searched.minimize(problem, w, max_iterations=30).history
    assert (np.diff(history.loss) <= 0).all()
    assert history.loss[-1] < 1e-6 * history.loss[0]
    assert history.info["step_length"].min() < 1


@pytest.mark.parametrize("method", ["exact", "krylov", "rational"])
def test_single_precision(method):
    problem, w = net_problem(dtype=np.float32)
    double, _ = net_problem()
    want = exact(double, w.astype(float), "smooth", 1.0)
    step = SaddleFreeNewton(damping=1.0, method=method, line_search=False).step(problem, w, {})
    assert step.w.dtype == np.float32
    # Hessian and gradient are good to some hundred roundings of float32, f's slope is at most 1.
    assert relative(w - step.w, want) < 1e3 * np.finfo(np.float32).eps


def test_the_default_finishes_on_a_net_too_large_for_eigenvalues():
    # 6,160 parameters: eigenvalues would take minutes, three steps of products take 250 gradients.
    net = MLP((140, 40, 12), loss="softmax_cross_entropy", reduction="mean")
    rng = np.random.default_rng(0)
    problem = NetProblem(net, rng.standard_normal((20, 140)), rng.integers(0, 12, 20))
    counted = Counted(problem)
    result = SaddleFreeNewton().minimize(counted, net.initial(seed=0), max_iterations=3)
    assert result.loss < 0.1 * result.history.loss[0]
    assert result.history.cost[-1] < 500


def test_the_default_goes_down_where_whole_steps_lead_away():
    # Images are far from centred: one large curvature, here as of 9 times as many pixels.
    data = datasets.load(None)
    grey = data.train_images[:60].reshape(-1, 3, 8, 4, 8, 4).mean(axis=(1, 3, 5))
    net = MLP((64, 12, 10), loss="softmax_cross_entropy", reduction="mean")
    problem = NetProblem(net, grey.reshape(-1, 64) / 85, data.train_labels[:60])
    start = net.initial(seed=0)
    result = SaddleFreeNewton().minimize(problem, start, max_iterations=15)
    assert result.status == "iterations"
    assert (np.diff(result.history.loss) < 0).all()
    assert result.loss < 0.2 * result.history.loss[0]
    whole = SaddleFreeNewton(line_search=False).minimize(problem, start, max_iterations=15)
    assert whole.loss > result.history.loss[0]


def test_costs_are_counted():
    problem, w = net_problem()
    for method, most in [("exact", 1 + 2 * len(w)), ("krylov", 1 + 2 * 20)]:
        counted = Counted(problem)
        SaddleFreeNewton(method=method, steps=20, line_search=False).step(counted, w, {})
        assert counted.cost == most
    counted = Counted(problem)
    SaddleFreeNewton(method="rational", line_search=False).step(counted, w, {})
    assert counted.cost > 1 + 2 * (20 + 2 * 12)


def test_bad_settings():
    for options, word in [
        ({"damping": 0.0}, "damping"),
        ({"function": "sign"}, "function"),
        ({"method": "newton"}, "method"),
        ({"block": "all"}, "block"),
        ({"block": "diagonal", "method": "krylov"}, "block"),
        ({"method": "rational", "function": "absolute"}, "function"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"steps": 0}, "steps"),
        ({"nodes": 0}, "nodes"),
    ]:
        with pytest.raises(ValueError, match=word):
            SaddleFreeNewton(**options)
    for options in ({"method": "rational"}, {"method": "exact", "block": "diagonal"}):
        with pytest.raises(TypeError, match="expected a NetProblem"):
            SaddleFreeNewton(**options).step(Rosenbrock(2), np.zeros(2), {})
    at_rest = SaddleFreeNewton().minimize(Quadratic([[1.0]]), [0.0])
    assert at_rest.status == "converged"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0.0, 1.0, 3), "^damping is 0.0; expected a finite number above 0"),
        ((np.nan, 1.0, 3), "^damping is nan"),
        ((1.0, -1.0, 3), "^largest is -1.0; expected a number that is not negative"),
        ((1.0, np.inf, 3), "^largest is inf; expected a finite number"),
        ((1.0, 1.0, 0), "^count is 0; expected an integer from 1"),
    ],
)
@pytest.mark.parametrize("function", [inverse_root_nodes, inverse_root_error])
def test_nodes_of_no_quadrature_are_refused(function, arguments, says):
    with pytest.raises(ValueError, match=says):
        function(*arguments)
