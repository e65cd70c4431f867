"""Flips and 2-cycles, beside closed forms, gradient descent, and recorded figures."""

import math

import numpy as np
import pytest

from swiftnets import MLP, ConvergenceError, Network, dynamics, laplace
from swiftnets.dynamics import bifurcation
from swiftnets.nets import Conv2d, Dense, Flatten, MaxPool2d, Residual

EPS = np.finfo(float).eps


def scalar(depth=2, l2=0.0, w=None, **options):
    """(w₁ w₂ … − 1)² / 2 + ½ l2 ‖w‖² at the minimum of two layers, or at w."""
    net = MLP((1,) * (depth + 1), activation="identity", bias=False, l2=l2, **options)
    w = np.full(depth, math.sqrt(1 - l2)) if w is None else w
    return net.at(w, [[1.0]], [[1.0]])


def recorded():
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3))
    y = np.stack([np.sin(2 * x[:, 0]) + x[:, 1], x[:, 1] * x[:, 2]], 1)
    net = MLP((3, 6, 2), activation="tanh", reduction="mean", l2=0.01)
    return laplace.mode(net.at(net.initial(seed=1), x, y), tolerance=1e-12)


def some_minimum(activation, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(30, 3))
    y = np.stack([np.sin(2 * x[:, 0]) + x[:, 1], x[:, 1] * x[:, 2]], 1)
    net = MLP((3, 6, 2), activation=activation, reduction="mean", l2=0.02)
    return laplace.mode(net.at(net.initial(seed=seed), x, y), tolerance=1e-12)


def descended(point, w, step, count):
    """Plain gradient descent by the net's own gradient."""
    (batch,) = point.samples.batches
    for _ in range(count):
        w = w - step * point.net.gradient(w, batch.x, batch.targets)
    return w


def test_the_recorded_minimum_has_the_recorded_coefficient_and_cycles():
    point = recorded()
    assert abs(point.loss - 0.1531278401) < 1e-10
    found = dynamics.flip(point)
    assert abs(found.sharpness - 5.5203892) < 1e-6
    assert abs(found.coefficient - 82.434349) < 1e-6
    assert found.is_valid
    assert found.null_fraction == 0
    for excess, want in [(1e-3, 0.0034840851), (1e-2, 0.0110502494)]:
        cycle = dynamics.two_cycle(point, (2 + excess) / found.sharpness, start=found)
        assert abs(cycle.amplitude - want) < 1e-8 * 0.02
        assert cycle.residual < 1e-14
        assert cycle.iterations <= 3
        assert cycle.is_stable
    # Soft modes lag: the multiplier is not 1 − 4 eps.
    assert abs(abs(cycle.multipliers[0]) - 0.9961) < 1e-3


@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_the_coefficient_of_two_scalar_layers(l2):
    # Along the diagonal: S = 2 (1 − l2), t = 3 √2 w u, Q = 3.
    found = dynamics.flip(scalar(l2=l2))
    np.testing.assert_allclose(found.sharpness, 2 * (1 - l2), rtol=1e-14)
    np.testing.assert_allclose(found.coefficient, 4 / (1 - l2), rtol=1e-13)
    np.testing.assert_allclose(found.vector, [0.5**0.5] * 2, rtol=1e-14)
    np.testing.assert_allclose(found.fourth, 3.0, rtol=1e-14)
    np.testing.assert_allclose(found.third, [3 * math.sqrt(1 - l2)] * 2, rtol=1e-14)
    np.testing.assert_allclose(found.response, found.third / found.sharpness, rtol=1e-13)
    np.testing.assert_allclose([found.least, found.critical_step], [2 * l2, 1 / (1 - l2)], atol=EPS)
    assert math.isclose(found.next, 2 * l2, abs_tol=4 * EPS)
    a = math.sqrt(0.02 * (1 - l2) / 4)
    mean = math.sqrt(1 - l2) - a**2 * found.response[0] / 2
    want = np.outer([mean + a / math.sqrt(2), mean - a / math.sqrt(2)], [1, 1])
    np.testing.assert_allclose(found.cycle(1.01 * found.critical_step), want, rtol=1e-12)


@pytest.mark.parametrize("step", [1.0001, 1.02, 1.2])
def test_the_cycle_of_two_scalar_layers_and_its_multipliers(step):
    # w ↦ w + η w (1 − w²): the two sum to √(1 + 3/η), and their product is 1/η.
    cycle = dynamics.two_cycle(scalar(), step)
    half, off = math.sqrt(1 + 3 / step) / 2, math.sqrt(1 - 1 / step) / 2
    want = np.array([half + off, half - off])
    np.testing.assert_allclose(cycle.points, np.stack([want, want], 1), rtol=1e-12)
    np.testing.assert_allclose(cycle.amplitude, off * math.sqrt(2), rtol=1e-9)
    np.testing.assert_allclose(cycle.mean, [half, half], rtol=1e-12)
    np.testing.assert_allclose(cycle.losses, (want**2 - 1) ** 2 / 2, rtol=1e-11)
    along = np.prod(1 - step * (3 * want**2 - 1))
    across = np.prod(1 - step * (1 - want**2))
    # Eigenvalues of a product of two matrices: to rounding over their distance.
    found = np.sort(cycle.multipliers.real)
    np.testing.assert_allclose(found, np.sort([along, across]), atol=1e-10)
    assert not cycle.multipliers.imag.any()
    assert cycle.is_stable == (max(abs(along), abs(across)) <= 1 + 1e-9)
    assert cycle.residual < 8 * EPS


def test_the_residual_is_that_of_the_points_returned():
    cycle = dynamics.two_cycle(scalar(), 1.2, tolerance=0.1)
    once = descended(scalar(), cycle.points[0], 1.2, 1)
    np.testing.assert_allclose(cycle.points[1], once, rtol=4 * EPS)
    away = np.linalg.norm(descended(scalar(), cycle.points[0], 1.2, 2) - cycle.points[0])
    assert away > 1e-7  # far from rounding
    np.testing.assert_allclose(cycle.residual, away, rtol=1e-8)


def test_gradient_descent_goes_to_the_cycle():
    point, step = scalar(l2=0.2), 1.28
    cycle = dynamics.two_cycle(point, step)
    there = descended(point, np.array([0.7, 0.9]), step, 4000)
    rows = np.array([there, descended(point, there, step, 1)])
    rows = rows if rows[0, 0] > rows[1, 0] else rows[::-1]
    np.testing.assert_allclose(rows, cycle.points, rtol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "softplus", "gelu"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_predicted_cycle_is_right_to_first_order(activation, seed):
    point = some_minimum(activation, seed)
    found = dynamics.flip(point)
    assert found.coefficient > 0
    errors = []
    for excess in (1e-3, 1e-4):
        step = (2 + excess) / found.sharpness
        cycle = dynamics.two_cycle(point, step, start=found)
        errors.append(cycle.amplitude / found.amplitude(step) - 1)
        # A³ is what the prediction leaves out.
        off = np.linalg.norm(cycle.points - found.cycle(step))
        assert off < 30 * np.linalg.norm(found.response) ** 2 * cycle.amplitude**3
    assert abs(errors[0]) <= 2e-3
    assert 5 < errors[0] / errors[1] < 20  # of the order of the excess


def test_a_loss_that_turns_over_is_left_hard():
    # (sin w − 2)² / 2 at π/2: (1 + δ²/2 − δ⁴/24)² / 2 has S = 1, t = 0, Q = 2.
    net = MLP((1, 1), output_activation="sine", bias=False)
    point = net.at([math.pi / 2], [[1.0]], [[2.0]])
    found = dynamics.flip(point)
    np.testing.assert_allclose([found.sharpness, found.coefficient], [1, -2 / 3], rtol=1e-13)
    assert "hard" in repr(found)
    with pytest.raises(ValueError, match="only at steps below 2 / sharpness = 2"):
        found.amplitude(2.1)
    step = 1.9
    cycle = dynamics.two_cycle(point, step)
    # ± δ with η (2 − cos δ) sin δ = 2 δ.
    low, high = 0.1, 0.7
    for _ in range(60):
        middle = (low + high) / 2
        is_beyond = step * (2 - math.cos(middle)) * math.sin(middle) > 2 * middle
        low, high = (low, middle) if is_beyond else (middle, high)
    np.testing.assert_allclose(cycle.amplitude, low, rtol=1e-9)
    curvature = math.sin(low) ** 2 + (2 - math.cos(low)) * math.cos(low)
    np.testing.assert_allclose(cycle.multipliers, [(1 - step * curvature) ** 2], rtol=1e-8)
    assert not cycle.is_stable
    assert "unstable" in repr(cycle)


def test_a_null_space_that_takes_part_is_told():
    # At (2, ½) the sharpness changes along w₁ w₂ = 1.
    x, y = 2.0, 0.5
    found = dynamics.flip(scalar(w=[x, y]))
    u = np.array([y, x]) / math.hypot(x, y)
    t = np.array([4 * y * u[0] * u[1] + 2 * x * u[1] ** 2, 2 * y * u[0] ** 2 + 4 * x * u[0] * u[1]])
    want = abs(t @ [u[1], -u[0]]) / np.linalg.norm(t)
    np.testing.assert_allclose(found.null_fraction, want, rtol=1e-13)
    assert not found.is_valid
    assert "not valid: null fraction" in repr(found)


def test_a_symmetry_of_the_loss_does_no_harm():
    # Softmax: adding to all logits changes nothing, and with l2 on no bias there are null modes.
    random = np.random.default_rng(3)
    x, y = random.normal(size=(24, 2)), random.integers(0, 3, 24)
    net = MLP((2, 3), loss="softmax_cross_entropy", reduction="mean", bias=False)
    w = np.zeros(6)
    for _ in range(60):  # Newton, by the pseudo-inverse
        here = net.at(w, x, y)
        w = w - np.linalg.pinv(here.hessian.dense(), rcond=1e-9) @ here.gradient
    point = net.at(w, x, y)
    values = np.linalg.eigvalsh(point.hessian.dense())
    assert abs(values[:2]).max() < 1e-15
    found = dynamics.flip(point)
    assert found.null_fraction < 1e-13
    step = 2.001 / found.sharpness
    cycle = dynamics.two_cycle(point, step, start=found)
    assert abs(cycle.amplitude / found.amplitude(step) - 1) < 5e-3
    np.testing.assert_allclose(cycle.multipliers[:2], [1, 1], rtol=1e-12)
    assert cycle.is_stable
    # The null modes stay where they were.
    gauge = np.kron(np.eye(2), np.ones(3))
    np.testing.assert_allclose(gauge @ cycle.points.T, np.outer(gauge @ w, [1, 1]), atol=1e-13)


def test_products_and_a_solve_give_what_all_eigenpairs_give(monkeypatch):
    point = recorded()
    dense = dynamics.flip(point)
    monkeypatch.setattr(bifurcation, "_DENSE", 0)
    found = dynamics.flip(point)
    for name in ("sharpness", "coefficient", "least", "next", "fourth"):
        np.testing.assert_allclose(getattr(found, name), getattr(dense, name), rtol=1e-8)
    np.testing.assert_allclose(found.response, dense.response, atol=1e-8 * 100)
    assert found.null_fraction == 0
    # And where the Hessian is singular.
    found = bifurcation._Modes(scalar(4, w=[1.0] * 4)).inverse(np.array([1.0, 1.0, 1.0, -1.0]))
    np.testing.assert_allclose(found[0], [1 / 8] * 4, atol=1e-12)
    np.testing.assert_allclose(found[1], math.sqrt(3) / 2, rtol=1e-9)


def test_batches_and_weights_are_summed_over():
    whole = recorded()
    (batch,) = whole.samples.batches
    x, y = batch.x, batch.targets
    # Each sample of the second half twice, by weight or by rows.
    rows = np.r_[0:20, 20:40, 20:40]
    start = whole.net.at(whole.w, x[rows], y[rows])
    one = laplace.mode(start, tolerance=1e-12)
    parts = [(x[:20], y[:20], np.ones(20)), (x[20:], y[20:], np.full(20, 2.0))]
    many = whole.net.at(one.w, parts)
    a, b = dynamics.flip(one), dynamics.flip(many)
    np.testing.assert_allclose(b.coefficient, a.coefficient, rtol=1e-10)
    step = 1.001 * a.critical_step
    a, b = dynamics.two_cycle(one, step), dynamics.two_cycle(many, step)
    np.testing.assert_allclose(b.points, a.points, atol=1e-12)


def test_float32_nets_are_taken_in_float64():
    found = dynamics.flip(scalar(dtype=np.float32))
    assert found.vector.dtype == np.float64
    np.testing.assert_allclose(found.coefficient, 4.0, rtol=1e-13)


CASES = {
    "relu": MLP((1, 2, 1), activation="relu"),
    "leaky_relu": MLP((1, 2, 1), activation="leaky_relu"),
    "a leaky output": MLP((1, 1), output_activation="leaky_relu"),
    "within a sum": Network(["tanh", Residual(["relu"]), Dense(1, 1)], input_shape=(1,)),
}


@pytest.mark.parametrize("net", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    "ask", [dynamics.flip, dynamics.landau, lambda p: dynamics.two_cycle(p, 1)]
)
def test_kinks_are_refused(net, ask):
    point = net.at(net.initial(seed=0), [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"a net with .*ReLU.*has a kink"):
        ask(point)


def test_pooled_maxima_and_the_huber_loss_are_refused():
    net = Network([Conv2d(1, 1, 1), MaxPool2d(2), Flatten()], input_shape=(1, 2, 2))
    with pytest.raises(ValueError, match="MaxPool2d"):
        dynamics.flip(net.at(net.initial(seed=0), np.ones((1, 1, 2, 2)), [[1.0]]))
    net = MLP((1, 1), loss="huber")
    with pytest.raises(ValueError, match="huber"):
        dynamics.flip(net.at(net.initial(seed=0), [[1.0]], [[1.0]]))


def test_a_minimum_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"no minimum: its gradient has norm 0\.327"):
        dynamics.flip(scalar(w=[1.1, 1.1]))
    with pytest.raises(ValueError, match=r"no minimum: its Hessian has the eigenvalue -1"):
        dynamics.flip(scalar(w=[0.0, 0.0]))
    with pytest.raises(ValueError, match="largest is 0"):
        dynamics.flip(MLP((1, 1), bias=False).at([1.0], [[0.0]], [[0.0]]))
    with pytest.raises(np.linalg.LinAlgError, match="not simple"):
        dynamics.flip(MLP((2, 1), bias=False).at([1.0, 1.0], np.eye(2), [[1.0], [1.0]]))
    with pytest.raises(TypeError, match=r"expected a Point, made by net\.at"):
        dynamics.flip(MLP((1, 1)))
    with pytest.raises(TypeError, match="no targets"):
        dynamics.flip(MLP((1, 1)).at([1.0, 0.0], [[0.0]]))
    # What was asked for is taken.
    assert dynamics.flip(scalar(w=[1.001, 1.001]), tolerance=1e-2).coefficient > 0


def test_where_there_is_no_cycle():
    found = dynamics.flip(scalar())
    assert found.amplitude(1.0) == 0
    with pytest.raises(ValueError, match="only at steps above 2 / sharpness = 1"):
        found.amplitude(0.9)
    with pytest.raises(ValueError, match="step is -1; expected"):
        found.amplitude(-1)
    with pytest.raises(ValueError, match="only at steps above"):
        dynamics.two_cycle(scalar(), 0.9)
    with pytest.raises(ValueError, match="coefficient is 0"):
        dynamics.flip(MLP((1, 1), bias=False).at([1.0], [[1.0]], [[1.0]])).amplitude(2.1)
    with pytest.raises(ConvergenceError, match="does not move"):
        dynamics.two_cycle(scalar(), 0.9, start=[1.01, 1.01])
    with pytest.raises(ConvergenceError, match="after 1 Newton step"):
        dynamics.two_cycle(scalar(), 1.2, max_iterations=1)
    with pytest.raises(ValueError, match=r"start has shape \(3,\); expected \(2,\)"):
        dynamics.two_cycle(scalar(), 1.2, start=np.ones(3))
    for far in (1e60, 1e200):  # the second point's gradient is infinite, or the first's
        with pytest.raises(FloatingPointError, match=r"the gradient at a step of 1\.2 from"):
            dynamics.two_cycle(scalar(), 1.2, start=[far, far])


def test_a_start_of_ones_own_is_taken():
    want = dynamics.two_cycle(scalar(), 1.1)
    found = dynamics.two_cycle(scalar(w=[3.0, 3.0]), 1.1, start=want.points[1] + 1e-3)
    np.testing.assert_allclose(found.points, want.points[::-1], rtol=1e-12)


def test_the_fork_is_drawn():
    pytest.importorskip("matplotlib")
    found = dynamics.flip(scalar())
    ax = found.plot(color="k", label="theory", lw=2)
    solid, dashed, upper, lower = ax.lines
    assert {line.get_color() for line in ax.lines} == {"k"}
    assert {line.get_linewidth() for line in found.plot(linewidth=3).lines} == {3}
    assert {line.get_linewidth() for line in ax.lines} == {2}
    assert dashed.get_linestyle() == "--"
    assert solid.get_linestyle() == upper.get_linestyle() == "-"
    x, y = upper.get_data()
    good = np.isfinite(y)
    np.testing.assert_allclose(y[good], np.sqrt((2 * x[good] - 2).clip(0) / 4), atol=1e-12)
    assert x[good].min() >= 1
    np.testing.assert_allclose(lower.get_ydata(), -y)
    assert found.plot(ax, steps=[1.0, 1.1]) is ax
    assert len(ax.lines) == 8
    with pytest.raises(ValueError, match="steps"):
        found.plot(steps=[1.0, -1.0])
    net = MLP((1, 1), output_activation="sine", bias=False)
    hard = dynamics.flip(net.at([math.pi / 2], [[1.0]], [[2.0]])).plot()
    assert hard.lines[2].get_linestyle() == "--"
