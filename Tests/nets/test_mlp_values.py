"""Losses, predictions and gradients of MLP against the literal formulas in extended precision."""

import mlp_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlp_reference import (
    ALL,
    DTYPES,
    Net,
    assert_near,
    bound,
    case,
    exact,
    extended,
    label,
    problems,
)

from swiftnets import MLP, FastNet, SlowNet
from swiftnets.nets.activations import Activation, LeakyReLU
from swiftnets.nets.losses import Huber, Loss
from swiftnets.originals import reference as originals

VARIANTS = [
    {"reduction": "sum", "l2": 0.0},
    {"reduction": "mean", "l2": 0.0},
    {"reduction": "sum", "l2": 0.5},
    {"reduction": "mean", "l2": 0.25},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ALL[::5], ids=label)
def test_the_references_gradient_is_the_derivative_of_its_loss(name, variant):
    it = case(*name, **variant)
    w, x, v = exact(it.w), exact(it.x), exact(it.directions[0])
    h = reference.NUDGE
    ahead, behind = (reference.loss(it.net, w + step * v, x, it.y, it.weights) for step in (h, -h))
    slope = reference.gradient(it.net, w, x, it.y, it.weights) @ v
    assert abs((ahead - behind) / (2 * h) - slope) <= 1e-20


@pytest.mark.parametrize("name", ALL, ids=label)
def test_loss_predictions_and_gradient_are_the_formulas(name):
    for variant in VARIANTS:
        for weighted in (False, True):
            it = case(*name, **variant)
            weights = it.weights if weighted else None
            theirs = [
                f(it.net, extended(it.w), extended(it.x), *more)
                for f, more in (
                    (reference.predict, ()),
                    (reference.loss, (it.y, weights)),
                    (reference.gradient, (it.y, weights)),
                )
            ]
            for dtype in DTYPES:
                net, (w, x, y) = it.net.engine(dtype), it.data(dtype)
                few = [bound(it.net, len(x), dtype, order) for order in (0, 0, 1)]
                loss, gradient = net.loss_and_gradient(w, x, y, sample_weight=weights)
                assert_near(net.predict(w, x), theirs[0], few[0])
                assert_near(loss, theirs[1], few[1])
                assert_near(gradient, theirs[2], few[2])
                assert abs(net.loss(w, x, y, sample_weight=weights) / loss - 1) <= few[1]
                np.testing.assert_array_equal(
                    net.gradient(w, x, y, sample_weight=weights), gradient
                )


@settings(max_examples=150)
@given(problems(), st.sampled_from(DTYPES))
def test_any_net_has_the_gradient_of_the_formulas(problem, dtype):
    net, w, x, y, _ = problem
    ours, few = net.engine(dtype), bound(net, len(x), dtype, 1)
    w, x = w.astype(dtype), x.astype(dtype)
    theirs = reference.gradient(net, extended(w), extended(x), y)
    # Samples may cancel, and in each of them numbers of 1's size.
    size = 1 + abs(ours.at(w, x, y).per_sample_gradients()).sum(axis=0).max()
    assert_near(ours.gradient(w, x, y), theirs, few, size)
    outputs = reference.predict(net, extended(w), extended(x))
    assert_near(ours.predict(w, x), outputs, few, 1 + abs(outputs).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", list(reference.LOSSES.values()), ids=lambda loss: loss.name)
def test_every_layer_may_have_its_own_activation(loss, dtype):
    random = np.random.default_rng(0)
    chosen = [a for a in reference.ACTIVATIONS.values() if a.name != "relu"]
    net = Net((3, *[4] * (len(chosen) - 1), 2), tuple(chosen), loss)
    w, x = reference.draw_parameters(random, net), reference.single(random.normal(size=(5, 3)))
    y = reference.draw_targets(random, net, 5)
    ours = net.engine(dtype).gradient(w.astype(dtype), x.astype(dtype), y)
    theirs = reference.gradient(net, extended(w), extended(x), y)
    assert_near(ours, theirs, bound(net, 5, dtype, 1))
    assert net.engine(dtype).activations == tuple(chosen)


# Losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_are_one_hot_rows(dtype):
    draw = np.random.default_rng(1)
    net = MLP((3, 4, 5), loss="softmax_cross_entropy", dtype=dtype)
    w, v = draw.normal(size=(2, net.parameter_count)).astype(dtype)
    x, labels = draw.normal(size=(7, 3)).astype(dtype), draw.integers(5, size=7)
    rows = np.eye(5, dtype=dtype)[labels]
    few = bound(Net(net.sizes, net.activations, net.loss_function), 7, dtype, 3)
    point = net.at(w, x, rows)
    for kind in (np.int64, np.uint8, np.int16):
        y = labels.astype(kind)
        for method, more in {"loss": (), "gradient": (), "hvp": (v,), "hessian": ()}.items():
            assert_near(
                getattr(net, method)(w, x, y, *more), getattr(net, method)(w, x, rows, *more), few
            )
        for quantity in (
            lambda point: point.per_sample_gradients(),
            lambda point: point.hessian.diagonal(),
            lambda point: point.gauss_newton.dense(),
            lambda point: point.third(v, v),
        ):
            assert_near(quantity(net.at(w, x, y)), quantity(point), few)
    ours = net.at(w, x, labels).fisher("empirical").dense()
    assert_near(ours, point.fisher("empirical").dense(), few)


def test_rows_of_targets_need_not_sum_to_one():
    """The loss is -Σ t log p as it stands: a row of zeros is a sample without a target."""
    random = np.random.default_rng(2)
    net = Net(
        (3, 4, 5), (Activation("tanh"), Activation("identity")), Loss("softmax_cross_entropy")
    )
    w, x = reference.draw_parameters(random, net), random.normal(size=(6, 3))
    y = random.uniform(0, 2, (6, 5)) * (np.arange(6) != 2)[:, None]
    ours, few = net.engine(), [bound(net, 6, float, order) for order in range(3)]
    assert_near(ours.loss(w, x, y), reference.loss(net, extended(w), extended(x), y), few[0])
    theirs = reference.gradient(net, extended(w), extended(x), y)
    assert_near(ours.gradient(w, x, y), theirs, few[1])
    assert_near(ours.hessian(w, x, y), reference.hessian(net, w, x, y), few[2])
    assert not ours.at(w, x, y).per_sample_gradients()[2].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_extreme_logits_stay_finite_and_right(loss, dtype):
    logits = np.array(
        [[1000, -1000, 3], [-1000, -1000, 1000], [1e4, 1e4, 1e4], [-1e4, 0, 30], [0, -90, 800]]
    )
    net = Net((3, 3), (Activation("identity"),), Loss(loss), bias=False)
    ours, w, few = net.engine(dtype), np.eye(3).ravel().astype(dtype), bound(net, 5, dtype, 2)
    for y in np.eye(3), np.full((3, 3), 0.25), np.roll(np.eye(3), 1, axis=0):
        y = np.resize(y, (5, 3))
        x = logits.astype(dtype)
        for row in range(5):
            sample = x[row : row + 1], y[row : row + 1]
            there = extended(w), extended(sample[0]), sample[1]
            # Logits, and probabilities near 1, round; what is left of them is right to that.
            size = abs(sample[0]).max()
            assert_near(ours.loss(w, *sample), reference.loss(net, *there), few, size)
            assert_near(ours.gradient(w, *sample), reference.gradient(net, *there), few, size)
            gauss_newton = reference.gauss_newton(net, *there)
            assert_near(ours.hessian(w, *sample), gauss_newton, few, size**2)
            assert np.isfinite(ours.at(w, *sample).taylor(w).gradient).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_saturated_activations_stay_finite_and_right(activation, dtype):
    net = Net((1, 1), (reference.ACTIVATIONS[activation],), Loss("squared_error"), bias=False)
    ours, w = net.engine(dtype), np.ones(1, dtype)
    largest = 1e4 if activation == "sine" else 1e15
    for a in (0.0, 1e-30, 1e-8, 0.1, 5.0, 12.0, 30.0, 88.0, 750.0, 1e4, largest):
        for x in (a, -a):
            x = np.array([[x]], dtype)
            y, slope = (
                np.array(part, np.float64)
                for part in reference.activate(net.activations[0], exact(x))
            )
            # Activations that vanish to the left do so to the rounding of their largest values
            # nearby, which are at most |a| and 1, or of the smallest normal number.
            few, tiny = 8 * np.finfo(dtype).eps, np.finfo(dtype).tiny
            here = float(x[0, 0])
            size = abs(y[0, 0]) if here > -1 else max(abs(y[0, 0]), min(1, abs(here)))
            assert_near(ours.predict(w, x), y, few, size + tiny)
            assert_near(ours.at(w, x).jacobian()[0], slope * here, few, abs(here) + tiny)
            if a < 1e5:  # their powers are float32's, too
                assert np.isfinite(ours.at(w, x, y).taylor(w).gradient).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_a_kink_the_slope_is_the_left_one_and_curvature_is_none(dtype):
    x, y, w = np.ones((1, 1)), np.full((1, 1), -3.0), np.zeros(1)
    for activation, slope in (("relu", 0), (LeakyReLU(0.5), 0.5), (LeakyReLU(-2.0), -2)):
        net = MLP((1, 1), output_activation=activation, bias=False, dtype=dtype)
        assert net.predict(w, x) == 0
        assert net.gradient(w, x, y) == 3 * slope
        assert net.hessian(w, x, y) == slope**2
        assert net.at(w, x, y).third([1], [1]) == net.at(w, x, y).fourth([1], [1], [1]) == 0
    net = MLP((1, 1), loss=Huber(3.0), bias=False, dtype=dtype)
    for w, slope, curvature in (([0.0], 3, 0), ([-6.0], -3, 0), ([-3.5], -0.5, 1)):
        assert net.gradient(w, x, y) == slope
        assert net.hessian(w, x, y) == net.at(w, x, y).gauss_newton.dense() == curvature
        assert net.hvp(w, x, y, [2.0]) == 2 * curvature
    assert net.loss([0.0], x, y) == 4.5 and net.loss([1.0], x, y) == 7.5


def test_what_is_not_finite_propagates():
    net = MLP((2, 3, 2))
    w, x, y = net.initial(seed=0), np.ones((3, 2)), np.zeros((3, 2))
    x[1, 0] = np.nan
    assert (np.isnan(net.predict(w, x)).any(axis=1) == [False, True, False]).all()
    assert np.isnan(net.loss(w, x, y)) and np.isnan(net.gradient(w, x, y)).any()
    assert np.isfinite(net.loss(w, x[:1], y[:1]))
    v = np.full(net.parameter_count, np.nan)
    assert np.isnan(net.hvp(w, x[:1], y[:1], v)).all()
    linear = MLP((2, 1), bias=False)
    assert linear.predict([np.inf, 1.0], [[1.0, 0.0]]) == np.inf
    assert np.isnan(linear.predict([np.inf, 1.0], [[0.0, 1.0]]))
    assert linear.loss([1e300, 1.0], [[1e300, 1.0]], [[0.0]]) == np.inf


# The parameter vector ----------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_are_layer_by_layer_weights_row_by_row_then_biases(bias):
    net = MLP((3, 2, 4), bias=bias)
    w = np.arange(net.parameter_count, dtype=float)
    parts = [w[:6].reshape(3, 2)] + [w[6:8]] * bias
    rest = w[6 + 2 * bias :]
    parts += [rest[:8].reshape(2, 4)] + [rest[8:]] * bias
    names = ["w0", "b0", "w1", "b1"] if bias else ["w0", "w1"]
    views = net.unflatten(w)
    assert list(views) == names and net.parameter_count == (3 + bias) * 2 + (2 + bias) * 4
    for view, part in zip(views.values(), parts, strict=True):
        np.testing.assert_array_equal(view, part)
        assert np.shares_memory(view, w)
    np.testing.assert_array_equal(net.flatten(views), w)
    np.testing.assert_array_equal(np.concatenate([w[part] for part in net.layer_slices]), w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_initial_parameters_have_the_spread_of_their_scheme(dtype):
    net = MLP((40, 60, 20), dtype=dtype)
    for scheme in ("glorot", "he", "orthogonal", "original"):
        w = net.initial(seed=5, scheme=scheme)
        assert w.dtype == dtype
        np.testing.assert_array_equal(w, net.initial(seed=5, scheme=scheme))
        assert (w != net.initial(seed=6, scheme=scheme)).any()
        views = net.unflatten(w)
        assert not views["b0"].any() and not views["b1"].any()
        for name, m, n in (("w0", 40, 60), ("w1", 60, 20)):
            weights = views[name].astype(np.float64)
            if scheme == "orthogonal":
                gram = weights @ weights.T if m < n else weights.T @ weights
                assert abs(gram - np.eye(min(m, n))).max() <= 100 * np.finfo(dtype).eps
                continue
            variance = {"glorot": 2 / (m + n), "he": 2 / m, "original": (m + n) ** -2.0}[scheme]
            # The mean of m n squares, whose own variance is at most 2 of theirs: 5 deviations.
            assert abs((weights**2).mean() / variance - 1) <= 5 * (2 / (m * n)) ** 0.5
    random = np.random.RandomState(5)
    w = MLP((2, 3, 4), bias=False, dtype=dtype).initial(seed=5, scheme="original")
    drawn = np.concatenate([random.randn(2, 3).ravel() / 5, random.randn(3, 4).ravel() / 7])
    np.testing.assert_array_equal(w, drawn.astype(dtype))


# The nets of the originals -----------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(50, 50, 100), (6, 7, 5)], ids=str)
def test_slow_net_is_a_special_case(sizes):
    n, leaky = 50, LeakyReLU(0.5)
    draw = np.random.default_rng(3)
    xs, ys = draw.normal(size=(n, sizes[0])), np.eye(sizes[2])[draw.integers(sizes[2], size=n)]
    slow = SlowNet(*sizes, seed=4)
    slow.w1, slow.w2 = 8 * slow.w1, 8 * slow.w2
    net = MLP(sizes, activation=leaky, output_activation=leaky, bias=False)
    w = net.flatten({"w0": slow.w1, "w1": slow.w2})
    # No activation here is inexact: only the sums round, of at most 100 terms and n samples.
    few = 2 * (sum(sizes) + n) * 2.0**-53
    assert_near(net.predict(w, xs), slow.predict(xs), few)
    assert abs(net.loss(w, xs, ys) / slow.loss(xs, ys) - 1) <= few
    gradients = net.unflatten(net.gradient(w, xs, ys))
    for ours, theirs in zip(gradients.values(), slow.gradient(xs, ys), strict=True):
        assert_near(ours, theirs, 4 * few)
    point = net.at(w, xs, ys)
    for layer in (0, 1):
        theirs = slow.hessian_block(xs, layer + 1)
        for matrix in (point.hessian, point.gauss_newton):  # the same: no curved activations
            ours = matrix.dense(block=(layer, layer))
            assert abs(ours - theirs).max() <= 4 * few * abs(theirs).max()


def test_fast_net_is_a_special_case():
    draw = np.random.default_rng(4)
    xs, ys = draw.normal(size=(30, 40)), np.eye(6)[draw.integers(6, size=30)]
    fast = FastNet(40, 6, seed=4)
    net = MLP((40, 6), output_activation=LeakyReLU(0.5), bias=False)
    w, few = fast.w.ravel(), 4 * (40 + 30) * 2.0**-53
    assert_near(net.predict(w, xs), fast.predict(xs), few)
    assert abs(net.loss(w, xs, ys) / fast.loss(xs, ys) - 1) <= few
    a = xs @ fast.w
    delta = originals.dact(a) * (originals.act(a) - ys)
    assert_near(net.gradient(w, xs, ys), (xs.T @ delta).ravel(), few)
    # Newton's step, through the functional inverse of the gradient: H (w' - w) = -g.
    before = fast.w.copy()
    fast.alpha = 1.0
    fast.step(xs, ys)
    step = (fast.w - before).ravel()
    size = abs(net.gradient(w, xs, ys)).max()
    hessian = net.hessian(w, xs, ys)
    # The step solves with an n × n matrix of the condition of xs xsᵀ.
    condition = np.linalg.cond(xs) ** 2
    assert_near(hessian @ step, -net.gradient(w, xs, ys), few * condition, size)
