"""Leading eigenpairs and the edge of stability, beside dense eigenvalues and recorded figures."""

import numpy as np
import pytest
from edge_problems import fashion

from swiftnets import MLP, Network
from swiftnets.dynamics import edge, leading_eigenpairs
from swiftnets.nets import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, Residual


@pytest.fixture(scope="module")
def trained():
    problem = fashion()
    means, rows, losses = problem.means()
    return problem, means, rows, losses


def dense(point):
    values, vectors = np.linalg.eigh(point.hessian.dense())
    return values[::-1], vectors[:, ::-1]


def small_point(step=1.0, **options):
    net = MLP((2, 3, 1), **options)
    return net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))


# Recorded figures of gradient descent on 16-16-16-4 ----------------------------------------------


def test_losses_and_sharpness_are_those_recorded(trained):
    problem, *_, losses = trained
    recorded = [0.7658227728, 0.1010757286, 0.0668509330, 0.0565397102]
    np.testing.assert_allclose(losses[[0, 100, 400, 600]], recorded, rtol=0, atol=1e-9)
    rows, _ = problem.iterates(60, 20)
    start, sharpness = None, []
    for row in rows:
        found = leading_eigenpairs(problem.at(row), tolerance=1e-5, start=start)
        start = found.vectors[:, 0]
        sharpness.append(problem.step * found.values[0])
    assert 20 + np.argmax(np.array(sharpness) > 2) == 28
    assert 20 + np.argmax(sharpness) == 47
    assert abs(max(sharpness) - 2.41255) <= 1e-5


def test_the_edge_at_an_iterate_is_as_recorded(trained):
    problem, _, rows, _ = trained
    point = problem.at(rows[0])
    found = edge(point, step=problem.step)
    u = found.eigenpairs.vectors[:, 0]
    np.testing.assert_allclose(
        [found.sharpness, found.alpha, found.beta, u @ point.fourth(u, u, u)],
        [4.80442058, 1.09760380, 124.197906, -55.1794],
        rtol=1e-6,
    )
    assert abs(point.hessian.diagonal().sum() - 51.8364978) <= 1e-6 * 52
    more = leading_eigenpairs(point, k=3, tolerance=1e-7)
    np.testing.assert_allclose(problem.step * more.values[1:], [1.758453, 1.421918], atol=1e-6)
    assert found.edge == 2 / 0.4 and found.third.shape == (1, 1, 612)
    # 0.95 of the edge is 4.75: one is critical.
    assert found.X.shape == (1, 1)
    assert abs(found.X[0, 0] - 2 * found.alpha / found.beta) <= 1e-12 * found.X[0, 0]
    assert found.delta == np.sqrt(2 * found.alpha / found.beta)
    assert abs(found.mean_loss - found.loss - found.X[0, 0] / 0.4) <= 1e-15
    assert found.certificate is not None and found.certificate.count == 1


def test_the_edge_at_the_mean_of_iterates_is_as_recorded(trained):
    problem, means, _, _ = trained
    found = edge(problem.at(means[0]), step=problem.step)
    np.testing.assert_allclose(
        [found.sharpness, found.alpha, found.beta], [5.0136972, 0.0765685, 117.81364], rtol=5e-7
    )


# What the third derivative says ------------------------------------------------------------------


def test_alpha_and_beta_are_slopes_of_the_largest_eigenvalue(trained):
    problem, _, rows, _ = trained
    point, h = problem.at(rows[0]), 1e-4

    def largest(w):
        return np.linalg.eigvalsh(problem.at(w).hessian.dense())[-1]

    found = edge(point, step=problem.step)
    slope = found.third[0, 0]
    for direction, expected in ((-point.gradient, found.alpha), (slope, found.beta)):
        d = direction / np.linalg.norm(direction)
        difference = (largest(point.w + h * d) - largest(point.w - h * d)) / (2 * h)
        # Differences of an eigenvalue of 5 to 1e-15, and h² times its third derivative.
        assert abs(difference * np.linalg.norm(direction) - expected) <= 1e-5 * expected


def test_x_holds_all_critical_eigenvalues_at_once(trained):
    problem, _, rows, _ = trained
    point = problem.at(rows[0])
    found = edge(point, step=2 / 3.55)
    assert found.X.shape == (3, 3) and found.third.shape == (3, 3, 612)
    # How the Hessian's block of the three moves with the flow.
    U, h = found.eigenpairs.vectors[:, :3], 1e-5
    velocity = -(point.gradient + 0.5 * np.einsum("ij,ijp->p", found.X, found.third))

    def block(w):
        return U.T @ (problem.at(w).hessian.dense() @ U)

    rate = (block(point.w + h * velocity) - block(point.w - h * velocity)) / (2 * h)
    size = np.abs(rate).max() + np.abs(found.third @ point.gradient).max()
    values = np.linalg.eigvalsh(found.X)
    assert values[0] >= -1e-12 * values[-1] and values[-1] > 0
    assert np.abs(found.X - np.diag(found.X.diagonal())).max() > 0.01 * values[-1]
    # To h² times fifth derivatives.
    assert np.linalg.eigvalsh(rate)[-1] <= 1e-7 * size
    assert abs(np.vdot(found.X, rate)) <= 1e-7 * size * np.linalg.norm(found.X)


def test_heavy_ball_has_another_edge_and_another_mean_loss(trained):
    problem, _, rows, _ = trained
    point = problem.at(rows[0])
    step = 3 / 4.8  # the top one at the edge of momentum 1/2
    found = edge(point, step=step, momentum=0.5)
    assert found.edge == 3 / step and len(found.X) == 1
    oscillation = 2 * found.alpha / found.beta
    assert oscillation > 0
    assert found.mean_loss == pytest.approx(found.loss + 1.5 / step * oscillation, rel=1e-12)
    assert len(edge(point, step=step / 3, momentum=0.5).X) == 0


def test_float32_is_that_of_the_rounded_numbers():
    exact, rounded = edge(small_point(), step=0.1), edge(small_point(dtype="float32"), step=0.1)
    np.testing.assert_allclose(rounded.sharpness, exact.sharpness, rtol=1e-6)
    assert rounded.third.dtype == np.float64


def test_batches_and_l2_are_those_of_the_loss():
    net = MLP((2, 3, 1), l2=0.3)
    w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    one, two = net.at(w, x, y), net.at(w, [(x[:1], y[:1]), (x[1:], y[1:])])
    for point in (one, two):
        found = edge(point, step=0.5)
        values, vectors = dense(one)
        np.testing.assert_allclose(found.eigenpairs.values, values[:2], rtol=1e-8)
        t = one.third(vectors[:, 0], vectors[:, 0])
        np.testing.assert_allclose([found.alpha, found.beta], [-one.gradient @ t, t @ t], rtol=1e-6)


# Eigenpairs --------------------------------------------------------------------------------------


def test_eigenpairs_take_the_products_that_they_should(trained):
    problem, _, rows, _ = trained
    here, there = problem.at(rows[0]), problem.at(rows[1])
    exact = dense(here)[0]
    for tolerance, most in ((1e-3, 12), (1e-6, 18)):
        found = leading_eigenpairs(here, tolerance=tolerance)
        assert found.products <= most
        assert found.residuals[0] <= tolerance * found.values[0]
        assert abs(found.values[0] - exact[0]) <= found.residuals[0]
    known = leading_eigenpairs(here, k=4)
    warm = known.vectors.sum(1) + 1e-3 * np.random.default_rng(0).normal(size=612) / 25
    assert leading_eigenpairs(there, start=warm).products <= 10
    block = leading_eigenpairs(there, k=4, start=known.vectors)
    assert block.products <= 20
    np.testing.assert_allclose(block.values, dense(there)[0][:4], rtol=1e-3)


def test_residuals_and_vectors_are_of_the_answer(trained):
    problem, _, rows, _ = trained
    point = problem.at(rows[0])
    found = leading_eigenpairs(point, k=3, tolerance=1e-5)
    H = point.hessian.dense()
    exact = np.linalg.norm(H @ found.vectors - found.vectors * found.values, axis=0)
    np.testing.assert_allclose(found.residuals, exact, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(3), atol=1e-12)
    assert found.count is None and found.certificate is None


@pytest.mark.parametrize("certify", [False, True])
def test_all_above_a_threshold_are_found(trained, certify):
    problem, _, rows, _ = trained
    point = problem.at(rows[0])
    found = leading_eigenpairs(point, above=2.9, tolerance=1e-6, certify=certify)
    exact = dense(point)[0]
    assert found.count == (exact > 2.9).sum() == 5
    assert found.values[-1] <= 2.9
    np.testing.assert_allclose(found.values[:5], exact[:5], rtol=1e-6)
    assert (found.certificate is not None) == certify


def test_a_certificate_finds_the_copies_that_one_vector_cannot():
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 5))
    net = MLP((5, 3), bias=False)  # its Hessian is that of each output, three times
    point = net.at(net.initial(seed=0), x, random.normal(size=(30, 3)))
    top = np.linalg.eigvalsh(x.T @ x)[::-1]
    threshold = (top[0] + top[1]) / 2
    missed = leading_eigenpairs(point, above=threshold, tolerance=1e-8)
    assert missed.count == 1
    found = leading_eigenpairs(point, above=threshold, tolerance=1e-8, certify=True)
    assert found.count == 3
    np.testing.assert_allclose(found.values[:3], [top[0]] * 3, rtol=1e-10)
    pair = leading_eigenpairs(point, k=2, certify=True)
    np.testing.assert_allclose(pair.values, [top[0]] * 2, rtol=1e-6)


def test_as_many_as_there_are_parameters():
    point = small_point()
    for certify in (False, True):
        found = leading_eigenpairs(point, k=13, tolerance=1e-9, certify=certify)
        np.testing.assert_allclose(found.values, dense(point)[0], atol=1e-8)


# Arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k is 0; expected an integer from 1 to 13"),
        ({"k": 14}, ValueError, "k is 14"),
        ({"above": np.inf}, ValueError, "above is inf"),
        ({"tolerance": 1.0}, ValueError, "tolerance is 1.0; expected a number between 0 and 1"),
        ({"start": np.ones(3)}, ValueError, r"start has shape \(3,\); expected \(13,\)"),
        ({"start": np.full(13, np.nan)}, ValueError, "start has nan"),
        ({"certify": 1}, TypeError, "certify is 1; expected True or False"),
    ],
)
def test_arguments_of_eigenpairs_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        leading_eigenpairs(small_point(), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": 0.0}, ValueError, "step is 0.0; expected a finite number above 0"),
        ({"step": "1"}, TypeError, "step is '1'"),
        ({"step": 1.0, "momentum": 1.0}, ValueError, "momentum is 1.0; expected a number from 0"),
        ({"step": 1.0, "momentum": -0.1}, ValueError, "momentum is -0.1"),
    ],
)
def test_arguments_of_the_edge_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        edge(small_point(), **options)


def test_kinks_are_refused():
    images, labels = np.zeros((2, 1, 4, 4)), np.zeros(2, int)

    def of(*layers):
        net = Network(
            [Conv2d(1, 2, 3, padding=1), *layers, Flatten(), Dense(8, 2)],
            input_shape=(1, 4, 4),
            loss="softmax_cross_entropy",
        )
        return net.at(net.initial(seed=0), images, labels)

    within = Residual(["tanh", "relu"])
    assert edge(of("gelu", AvgPool2d(2)), step=1.0).third.shape[-1] == 38
    for point, name in (
        (small_point(activation="relu"), r"ReLU\(\)"),
        (small_point(activation="leaky_relu"), r"LeakyReLU\(0\.\d+\)"),
        (of("tanh", MaxPool2d(2)), r"MaxPool2d\(2\)"),
        (of(within, AvgPool2d(2)), r"ReLU\(\)"),
    ):
        with pytest.raises(ValueError, match=rf"point is of a net with {name}, which has a kink"):
            edge(point, step=1.0)
    with pytest.raises(ValueError, match="the loss 'huber', whose second derivative jumps"):
        edge(small_point(loss="huber"), step=1.0)
    with pytest.raises(ValueError, match=r"with ELU\(1.0\), whose second derivative jumps, which"):
        edge(small_point(activation="elu"), step=1.0)
    with pytest.raises(ValueError, match=r"with ReLU\(\), which has a kink"):
        edge(of("elu", "relu", AvgPool2d(2)), step=1.0)


def test_numbers_that_are_not_finite_are_told():
    net = MLP((2, 3, 1))
    far = net.at(np.full(13, 1e200), np.eye(2), np.ones((2, 1)))
    with pytest.raises(FloatingPointError):
        leading_eigenpairs(far)
    with pytest.raises(FloatingPointError):
        edge(far, step=1.0)
    w = net.initial(seed=0)
    w[3] = np.nan
    with pytest.raises(ValueError, match=r"point.w has nan at \[3\]"):
        edge(net.at(w, np.eye(2), np.ones((2, 1))), step=1.0)


def test_what_is_no_point_is_refused():
    net = MLP((2, 3, 1))
    with pytest.raises(TypeError, match="point is of type MLP; expected a Point"):
        edge(net, step=1.0)
    with pytest.raises(TypeError, match="no targets"):
        edge(net.at(net.initial(seed=0), np.eye(2)), step=1.0)
    with pytest.raises(ValueError, match=r"point: y has nan at \[0, 0\]"):
        edge(net.at(net.initial(seed=0), np.eye(2), [[np.nan], [0.0]]), step=1.0)
