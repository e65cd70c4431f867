"""Third and fourth derivatives of MLP, and its Taylor series along a line."""

import itertools

import mlp_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlp_reference import ALL, DTYPES, LOSSES, Net, assert_near, bound, case, exact, label

from swiftnets import MLP
from swiftnets.nets.activations import Activation, LeakyReLU


@pytest.mark.parametrize("name", ALL, ids=label)
def test_third_and_fourth_derivatives_are_the_differences_of_the_gradient(name):
    it = case(*name)
    theirs = reference.mixed(it.net, it.w, it.x, it.y, it.directions)
    u, v, s = it.directions
    for dtype in DTYPES:
        net, data = it.net.engine(dtype), it.data(dtype)
        third, fourth = (terms(it, order, it.directions) for order in (3, 4))
        few = [bound(it.net, len(it.x), dtype, order) for order in (3, 4)]
        point = net.at(*data)
        assert_near(point.third(u, v), theirs[0, 1], few[0], third)
        assert_near(point.third(u, [v, s]), [theirs[0, 1], theirs[0, 2]], few[0], third)
        ours = point.fourth(u, v, s)
        assert_near(ours, theirs[0, 1, 2], few[1], fourth)
        assert_near(point.fourth(u, v, [s, 2 * s])[1], 2 * ours, few[1], fourth)
        assert ours.dtype == dtype
        # Along one vector alone: the coefficient of a series.
        assert_near(point.third(u, u), point.third(u, [u, v])[0], 2 * few[0], third)
        assert_near(point.fourth(u, u, u), point.fourth(u, u, [u, v])[0], 2 * few[1], fourth)


def terms(it, order, directions):
    """The size of the terms in a derivative of this order along some of these directions.

    Where they cancel, between samples or directions, the result is no measure of what rounds.
    """
    net, (w, x, y) = it.net.engine(), it.data(float)
    points = [net.at(w, x[k : k + 1], y[k : k + 1]) for k in range(len(x))]
    return max(
        abs(point.third(*chosen) if order == 3 else point.fourth(*chosen)).max()
        for point in points
        for chosen in itertools.combinations_with_replacement(directions, order - 1)
    )


@pytest.mark.parametrize("name", [name for name in ALL if name[2]], ids=label)
def test_the_series_along_a_line_is_the_differences_of_the_gradient(name):
    it = case(*name)
    v, factorials = it.directions[0], np.array([1, 1, 2, 6])
    mixed = reference.mixed(it.net, it.w, it.x, it.y, (v, v, v))
    theirs = np.array([mixed[()], mixed[0,], mixed[0, 1], mixed[0, 1, 2]]) / factorials[:, None]
    loss = float(reference.loss(it.net, exact(it.w), exact(it.x), it.y))
    for dtype in DTYPES:
        net, data = it.net.engine(dtype), it.data(dtype)
        series = net.at(*data).taylor(v)
        assert series.gradient.shape == (4, len(v)) and series.loss.shape == (5,)
        assert series.gradient.dtype == dtype and series.loss.dtype == np.float64
        sizes = [0, 0, terms(it, 3, [v]) / 2, terms(it, 4, [v]) / 6]
        for order in range(4):
            few = bound(it.net, len(it.x), dtype, order + 1)
            size = max(sizes[order], abs(theirs[order]).max())
            assert_near(series.gradient[order], theirs[order], few, size)
            slope = theirs[order] @ v / (order + 1)
            assert_near(series.loss[order + 1], slope, few, size * abs(v).sum())
        assert_near(series.loss[0], loss, bound(it.net, len(it.x), dtype, 0))
        assert_near(series.derivatives, (series.gradient.T * factorials).T, np.finfo(dtype).eps)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("loss", LOSSES)
def test_reduction_weights_and_l2_enter_every_order(loss, reduction, weighted):
    it = case("gelu", loss, True, 2, reduction=reduction, l2=0.75)
    weights = it.weights if weighted else None
    theirs = reference.mixed(it.net, it.w, it.x, it.y, it.directions, weights)
    u, v, s = it.directions
    mixed = reference.mixed(it.net, it.w, it.x, it.y, (v, v, v), weights)
    for dtype in DTYPES:
        net, data, more = it.net.engine(dtype), it.data(dtype), {"sample_weight": weights}
        few = bound(it.net, len(it.x), dtype, 4)
        # Three samples, of weights of at most 2.
        third, fourth = (6 * terms(it, order, it.directions) for order in (3, 4))
        point = net.at(*data, **more)
        assert_near(point.third(u, v), theirs[0, 1], few, third)
        assert_near(point.fourth(u, v, s), theirs[0, 1, 2], few, fourth)
        series = point.taylor(v)
        assert_near(series.gradient[0], mixed[()], few, abs(mixed[()]).max())
        assert_near(series.gradient[1], mixed[0,], few, abs(mixed[0,]).max())
        assert_near(series.gradient[2], mixed[0, 1] / 2, few, third)
        assert_near(series.gradient[3], mixed[0, 1, 2] / 6, few, fourth)
        loss_value = net.loss(*data, **more)
        assert_near(series.loss[0], loss_value, few)


# Identities --------------------------------------------------------------------------------------

names = st.tuples(
    st.sampled_from(list(reference.ACTIVATIONS)),
    st.sampled_from(list(LOSSES)),
    st.booleans(),
    st.sampled_from(list(reference.SIZES)),
)
seeds = st.integers(0, 2**32)


@settings(max_examples=60)
@given(names, seeds)
def test_tensors_are_symmetric_in_all_arguments(name, seed):
    it = case(*name)
    net, data = it.net.engine(), it.data(float)
    directions = np.random.default_rng(seed).normal(size=(4, len(it.w)))
    point = net.at(*data)
    for order, derivative in ((3, point.third), (4, point.fourth)):
        few = bound(it.net, len(it.x), float, order)
        size = terms(it, order, directions) * len(it.x) * abs(directions).sum(axis=1).max()
        values = [
            derivative(*chosen[:-1]) @ chosen[-1]
            for chosen in itertools.permutations(directions[:order])
        ]
        assert max(values) - min(values) <= 2 * few * size


@settings(max_examples=40)
@given(names, seeds, st.floats(-4, 4))
def test_tensors_are_linear_and_the_mixed_one_is_polarised_from_the_series(name, seed, factor):
    it = case(*name)
    point = it.net.engine().at(*it.data(float))
    u, v, s, t = directions = np.random.default_rng(seed).normal(size=(4, len(it.w)))
    few = [bound(it.net, len(it.x), float, order) for order in (3, 4)]
    third, fourth = (terms(it, order, directions) * len(it.x) for order in (3, 4))
    series = [point.taylor(line).gradient for line in (u + v, u - v, v)]
    assert_near(point.third(u, v), (series[0][2] - series[1][2]) / 2, few[0], 4 * third)
    assert_near(point.third(v, v), 2 * series[2][2], few[0], third)
    assert_near(point.fourth(v, v, v), 6 * series[2][3], few[1], fourth)
    sums = point.third(u, [v, s, v + factor * s])
    assert_near(sums[0] + factor * sums[1], sums[2], few[0], third * (2 + 2 * abs(factor)))
    sums = point.fourth(t, u, [v, s, v + factor * s])
    assert_near(sums[0] + factor * sums[1], sums[2], few[1], fourth * (2 + 2 * abs(factor)))


@settings(max_examples=40)
@given(names, st.sampled_from(DTYPES), st.sampled_from([0.0, 0.5]))
def test_lower_orders_are_the_beginning_of_higher_ones(name, dtype, l2):
    it = case(*name)
    net, data, v = it.net.engine(dtype, l2=l2), it.data(dtype), it.directions[0]
    point = net.at(*data)
    whole = point.taylor(v, order=3)
    few = [bound(it.net, len(it.x), dtype, order) for order in range(5)]
    for order in range(4):
        series = point.taylor(v, order=order)
        assert series.gradient.shape == (order + 1, len(v))
        assert series.loss.shape == (order + 2,)
        size = abs(whole.gradient[: order + 1]).max()
        assert_near(series.gradient, whole.gradient[: order + 1], few[order + 1], size)
        sums = abs(series.gradient) @ abs(v)
        # E_k = <g_{k-1}, v> / k.
        for k in range(1, order + 2):
            slope = series.gradient[k - 1].astype(float) @ v / k
            assert abs(series.loss[k] - slope) <= 4 * len(v) * np.finfo(dtype).eps * sums[k - 1]
    assert_near(whole.gradient[0], net.gradient(*data), few[1])
    size = abs(net.hessian(*data)).max() * abs(v).sum()
    assert_near(whole.gradient[1], net.hvp(*data, v), few[2], size)
    assert_near(whole.loss[0], net.loss(*data), few[0])


# Where the truth is known ------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_of_a_piecewise_linear_net_has_a_quadratic_loss(dtype, bias):
    random = np.random.default_rng(0)
    leaky = LeakyReLU(0.5)
    net = MLP((3, 4, 2), activation=leaky, output_activation=leaky, bias=bias, dtype=dtype)
    w, v = random.integers(-3, 4, (2, net.parameter_count)).astype(dtype)
    x, y = random.integers(-3, 4, (5, 3)).astype(dtype), random.integers(-3, 4, (5, 2))
    for part in net.layer_slices:
        alone = np.zeros_like(v)
        alone[part] = v[part]
        series = net.at(w, x, y).taylor(alone)
        # Halves of small integers: nothing rounds, and what is 0 is 0.
        assert not series.gradient[2][part].any() and not series.gradient[3].any()
        assert series.gradient[2].any()
        assert not net.at(w, x, y).fourth(alone, alone, alone).any()
        assert (series.loss[3:] == 0).all()
    one = MLP((3, 2), output_activation=leaky, bias=bias, dtype=dtype)
    series = one.at(w[: one.parameter_count], x, y).taylor(v[: one.parameter_count])
    assert series.gradient[1].any() and not series.gradient[2:].any()


def test_the_loss_of_slow_nets_kind_of_net_is_a_quartic_inside_a_cell():
    leaky = LeakyReLU(0.5)
    it = case("leaky_relu", "squared_error", False, 2, n=6)
    net = Net(it.net.sizes, (leaky, leaky), it.net.loss, bias=False)
    ours, v = net.engine(), it.directions[0]
    series = ours.at(it.w, it.x, it.y).taylor(v)
    here, seen = reference.cells(net, it.w, it.x, it.y), 0
    for t in np.linspace(-1, 1, 401):
        if (reference.cells(net, it.w + t * v, it.x, it.y) == here).all():
            seen += 1
            loss = ours.loss(it.w + t * v, it.x, it.y)
            assert_near(series(t), loss, bound(net, 6, float, 4), abs(series.loss).sum())
    assert seen > 10
    assert series.loss[4] != 0


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_the_series_of_a_single_unit_has_its_activations_derivatives(activation):
    chosen = reference.ACTIVATIONS[activation]
    net = Net((1, 1), (chosen,), LOSSES["squared_error"], bias=False)
    few = bound(net, 1, float, 4)
    for a in (-6.0, -2.25, -0.5, 0.375, 1.75, 6.0):
        point = np.array([a]), np.ones((1, 1)), np.array([[0.5]])
        mixed = reference.mixed(net, *point, np.ones((3, 1)))
        theirs = np.array([mixed[tuple(range(order))][0] for order in range(4)])
        ours = net.engine().at(*point).taylor(np.ones(1)).derivatives[:, 0]
        assert_near(ours, theirs, few)


def test_the_polynomial_is_evaluated_where_asked():
    net = MLP((2, 3, 1))
    w, v = np.random.default_rng(1).normal(size=(2, net.parameter_count)) / 2
    x, y = np.eye(2), np.ones((2, 1))
    series = net.at(w, x, y).taylor(v)
    assert series(0) == series.loss[0]
    coefficients = series.loss
    t = 0.25
    assert abs(series(t) - sum(c * t**k for k, c in enumerate(coefficients))) <= 1e-14
    # What is left is of fifth order: halving t divides it by 2⁵, up to the sixth.
    left = [series(t) - net.loss(w + t * v, x, y) for t in (2.0**-5, 2.0**-6)]
    assert 24 < left[0] / left[1] < 40


def test_an_output_activation_goes_through_any_loss():
    chosen = (Activation("silu"), Activation("sine"))
    random = np.random.default_rng(3)
    for loss in LOSSES.values():
        net = Net((2, 3, 2), chosen, loss)
        w = reference.draw_parameters(random, net)
        x, y = reference.single(random.normal(size=(3, 2))), reference.draw_targets(random, net, 3)
        directions = reference.single(random.normal(size=(3, len(w))) / 2)
        theirs = reference.mixed(net, w, x, y, directions)
        few = bound(net, 3, float, 4)
        point = net.engine().at(w, x, y)
        ours = point.fourth(*directions)
        assert_near(ours, theirs[0, 1, 2], few, 8 * abs(theirs[0, 1, 2]).max())
        ours = point.third(*directions[:2])
        assert_near(ours, theirs[0, 1], few, 8 * abs(theirs[0, 1]).max())


def power_of_two_problem(dtype):
    it = case("tanh", "softmax_cross_entropy", True, 3)
    point = it.net.engine(dtype).at(*it.data(dtype))
    return point, [v.astype(dtype) for v in it.directions]


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_directions_of_any_sizes_are_those_of_their_directions(dtype):
    """Powers of two are exact: of directions times 2ᵃ, 2ᵇ, 2ᶜ they are 2ᵃ⁺ᵇ⁺ᶜ times as large.

    Those of float32 are computed in float64, as products of such directions leave its range.
    """
    point, (u, v, s) = power_of_two_problem(dtype)
    wide = point.in_float64()
    third, fourth = wide.third(u, [v, s]), wide.fourth(u, v, [s, u])
    far = np.finfo(dtype).maxexp * 2 // 3
    for a, b in itertools.permutations([far, -far, 0], 2):
        lu, ls = np.ldexp(u, a), np.ldexp([v, s], [[b], [-a]]).astype(dtype)
        ours, theirs = point.third(lu, ls), np.ldexp(third, [[a + b], [0]])
        np.testing.assert_array_equal(ours, theirs.astype(dtype))
        lv, ls = np.ldexp(v, b), np.ldexp([s, u], [[-a], [-b]]).astype(dtype)
        ours, theirs = point.fourth(lu, lv, ls), np.ldexp(fourth, [[b], [a]])
        np.testing.assert_array_equal(ours, theirs.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_series_of_a_line_of_any_size_is_that_of_its_direction(dtype):
    point, (v, *_) = power_of_two_problem(dtype)
    series, powers = point.in_float64().taylor(v), np.arange(5)
    # Beyond 2³² the gradient's last coefficients are out of float32's range, the loss's are not.
    for e in {np.float32: (80, -80), np.float64: (240, -240)}[dtype]:
        ours = point.taylor(np.ldexp(v, e))
        np.testing.assert_array_equal(ours.loss, np.ldexp(series.loss, e * powers))
        with np.errstate(over="ignore"):
            theirs = np.ldexp(series.gradient, e * powers[:4, None]).astype(dtype)
        np.testing.assert_array_equal(ours.gradient, theirs)


def test_small_numbers_beside_large_ones_in_a_direction_count():
    """Two outputs that share nothing: what is large in one does not hide the other."""
    net = MLP((1, 2), output_activation="sine", bias=False)
    point, u, v = net.at([0.3, 0.3], [[1.0]], [[0.0, 0.0]]), [1e300, 1e-250], [1.0, 1e-40]
    alone = point.third([0.0, 1e-250], [0.0, 1e-40])
    assert point.third(u, v)[1] == alone[1] != 0
    assert point.third(u, [[1e250, 1e-40]])[0, 1] == alone[1]


@pytest.mark.parametrize(("dtype", "exponents"), [("f4", (40, 60, 100)), ("f8", (300,))])
def test_components_of_very_different_sizes_are_multiplied(dtype, exponents):
    """x / B and w B are one net; a direction of w B beside one of 1 loses nothing of either."""
    net = MLP((1, 1, 1), activation="tanh", dtype=dtype)

    def numbers(size):
        point = net.at([size, 0, 0.5, 0], [[1 / size]], [[0.0]])
        v = np.array([size, 0, 1, 0.25])
        lines = point.third(v, v) @ v / 6, point.fourth(v, v, v) @ v / 24
        return [*point.taylor(v).loss, *lines]

    plain, rounding = numbers(1.0), 64 * np.finfo(dtype).eps  # some thirty operations a number
    for e in exponents:
        np.testing.assert_allclose(numbers(2.0**e), plain, rtol=rounding)
