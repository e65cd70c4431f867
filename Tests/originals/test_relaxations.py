"""When relaxing to (H + λ)⁻¹ b converges, against eigenvalues and solutions by NumPy."""

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.nets.activations import LeakyReLU
from swiftnets.originals.relaxations import (
    alternating,
    anderson,
    circular_system,
    damped,
    gauss_seidel,
    neumann,
)


def problem(activation="tanh", sizes=(3, 4, 4, 2), seed=1, **options):
    net = MLP(sizes, activation=activation, **options)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, sizes[0])), rng.standard_normal((6, sizes[-1]))
    w = net.initial(seed=seed)
    hessian = net.hessian(w, x, y)
    return net, w, x, y, rng.standard_normal(len(w)), hessian, np.linalg.eigvalsh(hessian)


def check(result, hessian, damping, b, tolerance=1e-8):
    assert result.status == "converged"
    rest = b - (hessian + damping * np.eye(len(b))) @ result.solution
    assert np.linalg.norm(rest) <= 1.01 * tolerance * np.linalg.norm(b)


LEAKY = LeakyReLU(0.5)


def test_neumann_converges_above_the_spectral_radius_only():
    net, w, x, y, b, hessian, values = problem()
    radius = abs(values).max()
    good = neumann(net, w, x, y, b, damping=1.1 * radius)
    check(good, hessian, 1.1 * radius, b)
    # Errors shrink by ρ / λ a sweep in the end.
    rate = (good.residuals[-1] / good.residuals[-21]) ** (1 / 20)
    assert abs(rate - 1 / 1.1) < 0.01
    assert neumann(net, w, x, y, b, damping=0.9 * radius).status == "diverged"


def test_the_damped_flow_needs_a_definite_matrix():
    net, w, x, y, b, hessian, values = problem()
    lowest = -values[0]
    assert lowest > 0
    check(
        damped(net, w, x, y, b, damping=1.2 * lowest, max_iterations=5000), hessian, 1.2 * lowest, b
    )
    assert damped(net, w, x, y, b, damping=0.8 * lowest, max_iterations=5000).status == "diverged"
    # And a step below 2 over the largest eigenvalue.
    top = values[-1] + 2 * lowest
    for factor, status in [(1.9, "converged"), (2.1, "diverged")]:
        result = damped(net, w, x, y, b, damping=2 * lowest, step=factor / top, max_iterations=5000)
        assert result.status == status


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gauss_seidel_converges_where_the_matrix_is_definite(seed):
    net, w, x, y, b, _, _ = problem(LEAKY, output_activation=LEAKY)
    w = net.initial(seed=seed)
    hessian = net.hessian(w, x, y)
    lowest = -np.linalg.eigvalsh(hessian)[0]
    assert lowest > 0
    low, high = 0.5 * lowest, 1.5 * lowest
    check(gauss_seidel(net, w, x, y, b, damping=high, max_iterations=20000), hessian, high, b)
    # Bisect the threshold: within the margin a run must be decided by 20,000 sweeps.
    for _ in range(7):
        middle = (low + high) / 2
        result = gauss_seidel(net, w, x, y, b, damping=middle, max_iterations=3000)
        if result.residuals[-1] < min(1.0, result.residuals[len(result.residuals) // 2]):
            high = middle
        else:
            low = middle
    assert low <= lowest * 1.01 and high >= lowest * 0.99


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
def test_alternating_sweeps(bias, loss):
    net = MLP((3, 4, 4, 2), bias=bias, loss=loss)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), rng.dirichlet(np.ones(2), 6)
    w, b = net.initial(seed=1), rng.standard_normal(net.parameter_count)
    hessian = net.hessian(w, x, y)
    radius = abs(np.linalg.eigvalsh(hessian)).max()
    check(alternating(net, w, x, y, b, damping=3 * radius), hessian, 3 * radius, b)
    assert alternating(net, w, x, y, b, damping=0.02 * radius).status == "diverged"


def test_anderson_mixes():
    net, w, x, y, b, hessian, values = problem()
    damping = -1.1 * values[0]
    mixed = anderson(net, w, x, y, b, damping=damping)
    check(mixed, hessian, damping, b)
    plain = damped(net, w, x, y, b, damping=damping, max_iterations=5000)
    assert len(mixed.residuals) < len(plain.residuals)
    # It may help where relaxing diverges, too.
    weaker = -0.5 * values[0]
    check(anderson(net, w, x, y, b, damping=weaker, memory=60), hessian, weaker, b)


@pytest.mark.parametrize("activation", ["tanh", LEAKY], ids=["tanh", "leaky"])
def test_the_corrected_system_of_160_unknowns(activation):
    net = MLP((4, 4, 4), activation=activation, output_activation=activation, bias=False)
    rng = np.random.default_rng(3)
    w, x, y = net.initial(seed=0), *rng.standard_normal((2, 4, 4))
    v = rng.standard_normal(32)
    matrix, right = circular_system(net, w, x, y, v)
    hessian = net.hessian(w, x, y)
    assert matrix.shape == (160, 160)
    assert np.linalg.matrix_rank(matrix) == 160
    solution = np.linalg.solve(matrix, right)[:32]
    want = np.linalg.solve(hessian, v)
    # Two solves of condition κ each: errors of some roundings times κ.
    slack = 100 * np.finfo(float).eps * (np.linalg.cond(hessian) + np.linalg.cond(matrix))
    assert np.linalg.norm(solution - want) <= slack * np.linalg.norm(want)
    # As written, there are as many solutions as the second layer has weights.
    written, right = circular_system(net, w, x, y, v, corrected=False)
    assert np.linalg.matrix_rank(written) == 144
    found = np.linalg.lstsq(written, right, rcond=None)[0]
    assert np.linalg.norm(written @ found - right) <= 1e-10 * np.linalg.norm(right)
    assert np.linalg.norm(found[:32] - want) > 1e-3 * np.linalg.norm(want)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sweep_of_gauss_seidel_has_radius_one_where_the_matrix_becomes_singular(seed):
    net, w, x, y, _, hessian, values = problem(LEAKY, seed=seed, output_activation=LEAKY)
    unit = np.eye(len(w))

    def radius(damping):
        # One sweep from 0 is M⁻¹ b, with M the block lower triangle: that gives 1 − M⁻¹ (H + λ).
        columns = [
            gauss_seidel(
                net, w, x, y, e, damping=damping, max_iterations=1, tolerance=1e-300
            ).solution
            for e in unit
        ]
        matrix = hessian + damping * unit
        lower = np.zeros_like(matrix)
        for part in net.layer_slices:
            lower[part, : part.stop] = matrix[part, : part.stop]
        # Backward stable solves: some roundings times the condition of M.
        slack = 100 * np.finfo(float).eps * np.linalg.cond(lower)
        assert abs(np.stack(columns, axis=1) @ lower - unit).max() <= slack
        return abs(np.linalg.eigvals(unit - np.stack(columns, axis=1) @ matrix)).max()

    low, high = -0.5 * values[0], -1.5 * values[0]
    for _ in range(25):  # to 2⁻²⁵ of λmin, 3e-8
        middle = (low + high) / 2
        low, high = (low, middle) if radius(middle) < 1 else (middle, high)
    assert abs(low / -values[0] - 1) < 1e-6


def test_anderson_keeps_no_more_than_its_memory():
    net, w, x, y, b, _, values = problem()
    sweeps = [
        len(anderson(net, w, x, y, b, damping=-0.5 * values[0], memory=m).residuals) - 1
        for m in (10, 60)
    ]
    # Of 46 unknowns, 46 differences are enough but for rounding; 10 of them forget.
    assert sweeps[1] <= 2 * len(b) < sweeps[0]


def test_alternating_sweeps_with_l2():
    net, w, x, y, b, hessian, values = problem(l2=5.0)
    damping = 3 * abs(values).max()
    result = alternating(net, w, x, y, b, damping=damping)
    assert result.status == "converged"
    # ‖x − x*‖ ≤ ‖residual‖ / λmin(H + λ).
    exact = np.linalg.solve(hessian + damping * np.eye(len(b)), b)
    slack = 1.01e-8 * np.linalg.norm(b) / (damping + values[0])
    assert np.linalg.norm(result.solution - exact) <= slack


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", [neumann, damped, anderson, gauss_seidel, alternating])
@pytest.mark.parametrize("exponent", [-1000, -500, 500, 1000])
def test_iterations_are_invariant_under_powers_of_two_of_the_right_hand_side(method, exponent):
    net, w, x, y, b, _, values = problem()
    damping = 1.2 * abs(values).max()
    plain = method(net, w, x, y, b, damping=damping)
    scaled = method(net, w, x, y, np.ldexp(b, exponent), damping=damping)
    assert scaled.status == plain.status == "converged"
    # Powers of two round nothing, least squares (anderson) may choose other ways to sum.
    slack = 1e-6 if method is anderson else 1e-12
    assert len(scaled.residuals) == len(plain.residuals)
    np.testing.assert_allclose(scaled.residuals, plain.residuals, rtol=slack, atol=1e-15)
    np.testing.assert_allclose(
        np.ldexp(scaled.solution, -exponent), plain.solution, rtol=slack, atol=1e-13
    )


@pytest.mark.filterwarnings("error")
def test_an_iterate_beyond_the_range_of_float64_diverges():
    net, w, x, y, b, _, _ = problem()
    for method in (neumann, alternating):
        result = method(net, w, x, y, b, damping=5e-324)
        assert (result.status, result.residuals[-1]) == ("diverged", np.inf)


def test_bad_arguments():
    net, w, x, y, b, _, _ = problem()
    for call, word in [
        (lambda: neumann(net, w, x, y, b, damping=0.0), "damping"),
        (lambda: alternating(net, w, x, y, b, damping=0.0), "damping"),
        (lambda: damped(net, w, x, y, b, damping=1.0, step=0.0), "step"),
        (lambda: anderson(net, w, x, y, b, damping=1.0, memory=0), "memory"),
        (lambda: gauss_seidel(net, w, x, y, 0 * b, damping=1.0), "b is 0"),
        (lambda: gauss_seidel(net, w, x, y, b[:3], damping=1.0), "b has shape"),
        (lambda: neumann(net, w, x, y, b, damping=1.0, tolerance=0.0), "tolerance"),
        (lambda: neumann(net, w, x, y, b, damping=1.0, max_iterations=0), "iterations"),
        (lambda: circular_system(net, w, x, y, b), "net is"),
    ]:
        with pytest.raises(ValueError, match=word):
            call()
    single = MLP((3, 4, 2), dtype=np.float32)
    with pytest.raises(TypeError, match="net is of type"):
        neumann("net", w, x, y, b, damping=1.0)
    with pytest.raises(TypeError, match="float64"):
        neumann(single, single.initial(0), x, y, np.ones(26), damping=1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", [neumann, damped, anderson, gauss_seidel, alternating])
@pytest.mark.parametrize("damping", [0.01, 30.0])
def test_what_becomes_of_an_iteration_does_not_depend_on_the_unit_of_b(method, damping):
    net, w, x, y, b, _, _ = problem()
    # Powers of two round nothing.
    one, great, small = (
        method(net, w, x, y, np.ldexp(b, e), damping=damping, max_iterations=200)
        for e in (0, 980, -980)
    )
    assert one.status == great.status == small.status
    np.testing.assert_array_equal(one.residuals, great.residuals)
    np.testing.assert_array_equal(one.residuals, small.residuals)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(np.ldexp(one.solution, 980), great.solution)
