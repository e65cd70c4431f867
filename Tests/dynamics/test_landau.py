"""Landau's coefficients, beside closed forms, the loss along their path, and exact minima."""

import math

import numpy as np
import pytest

from swiftnets import MLP, dynamics, laplace

EPS = np.finfo(float).eps


def layers(depth, l2, w=None):
    """(w₁ w₂ … − 1)² / 2 + ½ l2 ‖w‖² at 0, or at w."""
    net = MLP((1,) * (depth + 1), activation="identity", bias=False, l2=l2)
    return net.at(np.zeros(depth) if w is None else w, [[1.0]], [[1.0]])


def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 4)) + 0.5
    return x, np.stack([np.sin(x[:, 0]) + x[:, 1], x[:, 1] * x[:, 2] + x[:, 3]], 1)


def critical_l2():
    """Where the soft mode of a tanh unit is at 0: the outputs' covariance with the inputs."""
    x, y = data()
    wide, l2 = np.c_[x, np.ones(len(x))], 2.5
    for _ in range(200):
        l2 = np.linalg.svd(wide.T @ (y - y.mean(0) / (1 + l2)) / len(x))[1][0]
    return l2


def origin(l2):
    """No weights but the outputs' bias at its minimum."""
    x, y = data()
    net = MLP((4, 1, 2), activation="tanh", reduction="mean", l2=l2)
    w = np.zeros(net.parameter_count)
    w[-2:] = y.mean(0) / (1 + l2)
    return net.at(w, x, y)


def minimum_near(found):
    x, y = data()
    start = found.point.net.at(found.path(found.amplitude), x, y)
    return laplace.mode(start, tolerance=1e-13)


def test_the_recorded_transition():
    assert abs(critical_l2() - 2.49785241494) < 1e-10
    found = dynamics.landau(origin(critical_l2() * (1 - 1e-4)))
    assert found.order == "second"
    assert found.is_valid
    assert found.b3 == 0
    assert abs(found.b4 - 39.4883) < 1e-4
    assert abs(minimum_at(found) / found.amplitude - 1.00005) < 1e-6
    # The other modes' part is needed.
    alone = math.sqrt(-6 * found.a / found.fourth)
    assert abs(minimum_at(found) / alone - 1.018) < 1e-3


def minimum_at(found):
    there = minimum_near(found)
    return abs((there.w - found.point.w) @ found.vector)


@pytest.mark.parametrize(("below", "ratio"), [(0.1, 1.054), (0.01, 1.0051)])
def test_the_amplitude_is_right_to_first_order(below, ratio):
    found = dynamics.landau(origin(critical_l2() * (1 - below)))
    assert abs(minimum_at(found) / found.amplitude - ratio) < 0.0006
    gained = minimum_near(found).loss - found.point.loss
    assert abs(gained / found.energy(found.amplitude) - 1) < below
    # −3 a² / (2 b₄)
    np.testing.assert_allclose(found.energy(found.amplitude), -1.5 * found.a**2 / found.b4)


@pytest.mark.parametrize("l2", [0.999, 0.9, 0.6])
def test_two_scalar_layers(l2):
    found = dynamics.landau(layers(2, l2))
    np.testing.assert_allclose([found.a, found.b4], [l2 - 1, 3], rtol=1e-12)
    np.testing.assert_allclose(found.amplitude**2, 2 * (1 - l2), rtol=1e-12)
    np.testing.assert_allclose(found.gap, 1 + l2)
    np.testing.assert_allclose(found.softness, (1 - l2) / (1 + l2))
    assert (found.order, found.b3, found.null_fraction) == ("second", 0, 0)
    # Exact here: the path ends at the minimum.
    there = layers(2, l2, found.path(found.amplitude))
    assert abs(there.gradient).max() < 1e-14
    np.testing.assert_allclose(there.loss - 0.5, found.energy(found.amplitude), rtol=1e-9)


def test_above_the_transition_nothing_has_grown():
    found = dynamics.landau(layers(2, 1.1))
    assert found.order == "second"
    assert found.amplitude == 0


@pytest.mark.parametrize(
    ("depth", "b3", "fourth", "l2", "jump"),
    [
        (3, -2 / math.sqrt(3), 0.0, 2 ** (-4 / 3), 2 ** (-1 / 3)),
        (4, 0.0, -1.5, math.sqrt(2 / 27), (2 / 3) ** 0.25),
    ],
)
def test_deeper_scalar_nets_jump(depth, b3, fourth, l2, jump):
    found = dynamics.landau(layers(depth, l2), vector=np.full(depth, 7.0))
    np.testing.assert_allclose([found.b3, found.b4], [b3, fourth], atol=1e-14)
    np.testing.assert_allclose(found.a, l2)
    assert found.order == "first"
    # All modes are as soft there, and it says so.
    assert not found.is_valid
    np.testing.assert_allclose(found.softness, 1.0)
    assert "another mode is as soft" in repr(found)
    assert math.isnan(found.amplitude)
    # They coexist, though x has not grown from 0: a first order indeed.
    there = layers(depth, l2, np.full(depth, jump))
    assert abs(there.gradient).max() < 1e-15
    assert abs(there.loss - 0.5) < 1e-15
    assert np.linalg.eigvalsh(there.hessian.dense())[0] > 0.1
    with pytest.raises(np.linalg.LinAlgError, match="not simple"):
        dynamics.landau(layers(depth, l2))


def test_where_neither_decides():
    found = dynamics.landau(layers(5, 0.1), vector=np.ones(5))
    assert (found.order, found.b3, found.b4) == (None, 0, 0)
    assert "not decided" in repr(found)
    # A loss that is quadratic.
    found = dynamics.landau(MLP((1, 1), bias=False).at([1.0], [[1.0]], [[1.0]]))
    assert (found.order, found.a, found.gap, found.softness) == (None, 1, math.inf, 0)


@pytest.mark.parametrize("activation", ["gelu", "tanh"])
@pytest.mark.parametrize("mode", [2, 10, -1])
def test_the_loss_along_the_path_is_the_energy_to_fourth_order(activation, mode):
    # At any critical point, along any eigenvector: what is left is of order x⁵.
    random = np.random.default_rng(1)
    x, y = random.normal(size=(20, 2)), random.normal(size=(20, 2))
    net = MLP((2, 3, 2), activation=activation, reduction="mean", l2=0.05)
    point = laplace.mode(net.at(net.initial(seed=2), x, y), tolerance=1e-13)
    vector = np.linalg.eigh(point.hessian.dense())[1][:, mode]
    found = dynamics.landau(point, vector=vector)
    assert found.b3 != 0
    assert found.order == "first"
    assert found.null_fraction == 0
    assert abs(found.vector @ found.response) < 1e-12 * np.linalg.norm(found.response)
    # Small beside what the others give way by, large beside rounding.
    size = 0.1 / math.sqrt(1 + np.linalg.norm(found.response))
    off = [
        sum(net.loss(found.path(s * h), x, y) - point.loss - found.energy(s * h) for s in (1, -1))
        for h in (size, size / 2)
    ]
    # Both signs together: odd terms cancel, and x⁶ is left.
    assert 40 < off[0] / off[1] < 90
    odd = [
        net.loss(found.path(h), x, y) - net.loss(found.path(-h), x, y) - found.b3 * h**3 / 3
        for h in (size, size / 2)
    ]
    assert 20 < odd[0] / odd[1] < 45
    # The other modes are at their minima, but for terms of order x³.
    slopes = [net.gradient(found.path(h), x, y) for h in (size, size / 2)]
    slopes = [np.linalg.norm(g - (g @ found.vector) * found.vector) for g in slopes]
    assert 6 < slopes[0] / slopes[1] < 11
    want = point.w + 0.3 * found.vector - 0.045 * found.response
    np.testing.assert_allclose(found.path(0.3), want, rtol=1e-13, atol=1e-13)


def test_with_a_cubic_term_the_amplitude_is_the_far_minimum():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(20, 2)), random.normal(size=(20, 2))
    net = MLP((2, 3, 2), activation="gelu", reduction="mean", l2=0.05)
    point = laplace.mode(net.at(net.initial(seed=2), x, y), tolerance=1e-13)
    vectors = np.linalg.eigh(point.hessian.dense())[1]
    seen = set()
    for vector in vectors.T:
        found = dynamics.landau(point, vector=vector)
        if not found.b4 > 0:
            assert math.isnan(found.amplitude)
            seen.add("open")
            continue
        roots = np.roots([found.b4 / 6, found.b3 / 2, found.a])
        if abs(roots.imag).max() > 0:
            assert found.amplitude == 0
            seen.add("none")
        else:
            np.testing.assert_allclose(found.amplitude, abs(roots).max(), rtol=1e-9)
            seen.add("far")
    assert len(seen) >= 2


def test_a_null_space_that_takes_part_is_told():
    # On w₁ w₂ = 1 off the diagonal the sharp mode pulls along the null one.
    point = layers(2, 0.0, [2.0, 0.5])
    found = dynamics.landau(point, vector=[0.5, 2.0])
    # T[u, u] of (x y − 1)² / 2 at (2, ½), for u along (½, 2): (x, y) off u is (2, −½).
    x, y, (u, v) = 2.0, 0.5, np.array([0.5, 2.0]) / math.hypot(0.5, 2.0)
    t = np.array([4 * y * u * v + 2 * x * v**2, 2 * y * u**2 + 4 * x * u * v])
    np.testing.assert_allclose(found.third, t, rtol=1e-13)
    # All that is off u is in the null space.
    np.testing.assert_allclose(found.null_fraction, abs(t @ [v, -u]) / np.linalg.norm(t))
    assert not found.is_valid
    assert "null fraction" in repr(found)


def test_what_is_no_soft_mode_is_refused():
    with pytest.raises(ValueError, match=r"no critical point: its gradient has norm 0\.327"):
        dynamics.landau(layers(2, 0.0, [1.1, 1.1]))
    with pytest.raises(
        ValueError, match=r"vector is no eigenvector.*‖H u − a u‖ is 0\.6 at a = -0\.3"
    ):
        dynamics.landau(layers(2, 0.5), vector=[1.0, 2.0])
    with pytest.raises(ValueError, match="vector has norm 0"):
        dynamics.landau(layers(2, 0.5), vector=[0.0, 0.0])
    with pytest.raises(ValueError, match=r"vector has shape \(3,\)"):
        dynamics.landau(layers(2, 0.5), vector=[0.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="vector has nan"):
        dynamics.landau(layers(2, 0.5), vector=[np.nan, 0.0])
    with pytest.raises(TypeError, match="expected a Point"):
        dynamics.landau(None)
    with pytest.raises(ValueError, match="tolerance is 0"):
        dynamics.landau(layers(2, 0.5), tolerance=0)


def test_energies_keep_their_form():
    found = dynamics.landau(layers(2, 0.9))
    assert found.energy(0.5).shape == ()
    grid = np.linspace(-1, 1, 6).reshape(2, 3)
    np.testing.assert_allclose(found.energy(grid), -0.05 * grid**2 + grid**4 / 8, rtol=1e-12)


def test_the_energy_is_drawn_beside_the_loss():
    pytest.importorskip("matplotlib")
    found = dynamics.landau(layers(2, 0.9))
    ax = found.plot(ls=":")
    loss, energy = ax.lines
    assert {line.get_linestyle() for line in ax.lines} == {":"}
    # The path is exact for this net.
    np.testing.assert_allclose(loss.get_ydata(), energy.get_ydata(), atol=1e-15)
    assert energy.get_xdata().max() == pytest.approx(1.6 * found.amplitude)
    assert found.plot(ax, x=[0.0, 0.1]) is ax
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [0.0, 0.1])
    assert dynamics.landau(layers(2, 1.2)).plot().lines[0].get_xdata().max() == 1
