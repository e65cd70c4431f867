"""A loss's factor: a net with factor c and l2 c has c times what one with neither has."""

import copy
import pickle

import numpy as np
import pytest

from swiftnets import MLP, Network, critical, influence, laplace
from swiftnets.curvature import layer_states
from swiftnets.nets import Dense
from swiftnets.nets.losses import Huber, Loss, SquaredError
from swiftnets.problems import Minibatches, NetProblem

C = 1.7
KINDS = ["squared_error", "softmax_cross_entropy", "binary_cross_entropy", "huber"]
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((9, 3))
WEIGHTS = RANDOM.random(9) + 0.1
V, U, S = RANDOM.standard_normal((3, 26))


def pair(kind="squared_error", reduction="sum", l2=0.3):
    """The net without a factor, and with one."""
    delta = float(kind == "huber")
    return tuple(
        MLP((3, 4, 2), loss=Loss(kind, delta, c), reduction=reduction, l2=l2 * c) for c in (1, C)
    )


def targets(kind):
    y = np.random.default_rng(1).random((9, 2))
    return y / y.sum(1, keepdims=True) if kind.startswith("softmax") else y


def minimum(net, *data, **options):
    """Newton's method to the last bits, from where `laplace.mode` ends."""
    w = laplace.mode(net.at(net.initial(seed=1), *data, **options)).w
    for _ in range(3):
        point = net.at(w, *data, **options)
        w = w - np.linalg.solve(point.hessian.dense(), point.gradient)
    return net.at(w, *data, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("batches", [False, True])
def test_all_derivatives_are_multiplied(kind, reduction, batches):
    y, data = targets(kind), (X, targets(kind))
    if batches:
        data = ([(X[:4], y[:4], WEIGHTS[:4]), (X[4:], y[4:], WEIGHTS[4:])],)
    plain, scaled = pair(kind, reduction)
    w = plain.initial(seed=1)
    a, b = plain.at(w, *data), scaled.at(w, *data)
    for ask in (
        lambda net, point: net.loss(w, *data),
        lambda net, point: net.gradient(w, *data),
        lambda net, point: net.hvp(w, *(data if len(data) == 2 else (*data, None)), V),
        lambda net, point: point.loss,
        lambda net, point: point.gradient,
        lambda net, point: point.hessian @ V,
        lambda net, point: point.hessian.dense(),
        lambda net, point: point.gauss_newton.diagonal(),
        lambda net, point: point.fisher("empirical").dense(),
        lambda net, point: point.taylor(V).gradient,
        lambda net, point: point.third(V, U),
        lambda net, point: point.fourth(V, U, S),
        lambda net, point: layer_states(point)[1],
    ):
        one, other = np.asarray(ask(plain, a)), np.asarray(ask(scaled, b))
        # Of sums of tens of terms, each rounded; 1e-12 of the largest entry is far above.
        np.testing.assert_allclose(other, C * one, rtol=1e-12, atol=1e-12 * abs(one).max())
    found = b.hessian.solve(U, damping=9 * C).solution
    np.testing.assert_allclose(found, a.hessian.solve(U, damping=9.0).solution / C, rtol=1e-8)
    np.testing.assert_array_equal(a.per_sample_gradients(), b.per_sample_gradients())


def test_the_exact_fisher_matrix_is_still_the_gauss_newton_matrix():
    _, net = pair("softmax_cross_entropy")
    point = net.at(net.initial(seed=1), X, targets("softmax_cross_entropy"))
    assert np.array_equal(point.fisher("exact") @ V, point.gauss_newton @ V)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_posterior_is_that_of_the_loss_without_it(reduction):
    found = []
    for net in pair("binary_cross_entropy", reduction):
        y = targets("binary_cross_entropy")
        posterior = laplace.fit(minimum(net, X, y, sample_weight=WEIGHTS))
        variance = posterior.predictive(X[:2]).variance
        found.append((posterior.log_marginal_likelihood(), *variance.ravel()))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_minima_without_samples_stay_where_they_are(reduction):
    found = []
    for net in pair("squared_error", reduction, l2=0.5):
        data = X, targets("squared_error")
        result = influence.leave_one_out(minimum(net, *data), 2, [0, [1, 2]])
        found.append((result.terms, result.gradient_norms))
    # Newton's method ends within rounding times the condition number, below 1e3, of the minimum.
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found[1][1], C * found[0][1], rtol=1e-9)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_certificates_bound_the_multiplied_loss(reduction):
    y = targets("squared_error")
    certificates = []
    for net in pair("squared_error", reduction, l2=0.5):
        w = minimum(net, X, y).w
        certificates.append(critical.certify(net.at(w, X, y)))
    plain, scaled = certificates
    assert plain and scaled
    # K is over a ball of radius 4 η, some 1e-10: it moves the bound by as much.
    assert scaled.lipschitz == pytest.approx(C * plain.lipschitz, rel=1e-6)
    assert scaled.beta == pytest.approx(plain.beta / C, rel=1e-6)
    # In extended precision the gradient of the one is that of the other.
    moved = [critical.certify(net.at(w + 1e-9, X, y)).gradient_norm for net in pair(
        "squared_error", reduction, l2=0.5
    )]  # fmt: skip
    assert moved[1] == pytest.approx(C * moved[0], rel=1e-9)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_minibatches_estimate_the_multiplied_loss(reduction, weights):
    y = targets("squared_error")
    losses = []
    for net in pair("squared_error", reduction):
        batches = Minibatches(net, X, y, batch_size=4, seed=0, sample_weight=weights)
        w = net.initial(seed=1)
        losses.append([batches.at(i).loss(w) for i in range(3)])
    np.testing.assert_allclose(losses[1], np.multiply(C, losses[0]), rtol=1e-13)


def test_it_is_among_the_settings_and_stays_with_copies():
    net = MLP((2, 1), loss=SquaredError(factor=2))
    assert net.loss([1.0, 2.0, 0.0], [[3.0, 4.0]], [[10.0]]) == 1.0  # (11 - 10)²
    other = pickle.loads(pickle.dumps(copy.copy(net).astype("float32").summing()))
    assert other.loss_function == Loss("squared_error", factor=2.0) != Loss("squared_error")
    assert other.settings()["loss"] == ["squared_error", 0.0, 2.0]
    assert MLP((2, 1)).settings()["loss"] == ["squared_error", 0.0]
    assert "loss=Loss('squared_error', factor=2.0)" in repr(net)
    layers = Network([Dense(2, 1)], input_shape=2, loss=Huber(0.5, factor=3))
    assert "loss=Loss('huber', 0.5, factor=3.0)" in repr(layers)
    w = np.zeros(3)
    one, two = (NetProblem(n, [[1.0, 2.0]], [[1.0]]) for n in (net, MLP((2, 1))))
    assert one.loss(w) == 1.0 and two.loss(w) == 0.5
    assert one.settings()["net"] != two.settings()["net"] or one.settings() != two.settings()


@pytest.mark.parametrize(
    ("factor", "error"),
    [(0, ValueError), (-1.0, ValueError), (np.nan, ValueError), ("2", TypeError)],
)
def test_factors_are_numbers_above_0(factor, error):
    with pytest.raises(error, match="factor is .*; expected a finite number above 0"):
        SquaredError(factor=factor)
