"""The log evidence, its corrections and its derivative, against integrals and refitted modes."""

import numpy as np
import pytest
from laplace_problem import problem

from swiftnets import MLP, laplace

STRUCTURES = ("hessian", "ggn", "kronecker", "diagonal", "last_layer")


def classes(l2=0.5, count=60, reduction="sum"):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, 4))
    labels = np.argmax(np.tanh(x @ rng.standard_normal((4, 3))), axis=1)
    penalty = l2 / count if reduction == "mean" else l2
    net = MLP((4, 3, 3), loss="softmax_cross_entropy", l2=penalty, reduction=reduction)
    return net.at(net.initial(seed=0), x, labels)


@pytest.mark.parametrize("structure", ["hessian", "ggn"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_linear_regression_is_exact(structure, reduction):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + 0.4 * rng.standard_normal((12, 1))
    net = MLP((3, 1), bias=False, reduction=reduction)
    prior, noise = 0.7, 0.2
    point = laplace.mode(net.at(np.zeros(3), x, y), prior, noise_variance=noise)
    posterior = laplace.fit(point, structure, prior, noise_variance=noise)
    covariance = noise * np.eye(12) + x @ x.T / prior
    exact = -0.5 * (
        y[:, 0] @ np.linalg.solve(covariance, y[:, 0])
        + np.linalg.slogdet(covariance)[1]
        + 12 * np.log(2 * np.pi)
    )
    assert posterior.log_marginal_likelihood() == pytest.approx(exact, rel=1e-12)
    if structure == "hessian":
        found = posterior.correction()
        assert abs(found.log_evidence) < 1e-12 and abs(found.mean_shift).max() < 1e-12
    # y ~ N(0, σ² + x xᵀ / l): its log density's derivative in l.
    inner = np.linalg.solve(covariance, x @ x.T) / prior**2
    alpha = np.linalg.solve(covariance, y[:, 0])
    slope = 0.5 * np.trace(inner) - 0.5 * alpha @ (x @ x.T / prior**2) @ alpha
    assert posterior.evidence_gradient() == pytest.approx(slope, rel=1e-9)
    eigenvalues = np.linalg.eigvalsh(x.T @ x) / noise
    gamma = (eigenvalues / (eigenvalues + prior)).sum()
    assert posterior.effective_parameters == pytest.approx(gamma, rel=1e-12)


def quadrature(x, y, weights, prior, noise, w, root):
    """log Z and the mean over one of the two modes of v tanh(u x), by the trapezium rule."""
    nodes = np.linspace(-11, 11, 301)
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    points = w + z @ root.T

    def energy(points):
        outputs = np.tanh(np.outer(points[:, 0], x)) * points[:, 1:]
        misfit = (weights * (outputs - y) ** 2).sum(axis=1) / (2 * noise)
        return misfit + 0.5 * prior * (points**2).sum(axis=1)

    least = energy(w[None])[0]
    # The other mode is at −w: half of the plane is this one's.
    density = np.exp(least - energy(points)) * (points[:, 0] * w[0] > 0)
    integral = density.sum() * (nodes[1] - nodes[0]) ** 2 * np.linalg.det(root)
    normaliser = np.log(prior / (2 * np.pi)) - 0.5 * weights.sum() * np.log(2 * np.pi * noise)
    return np.log(integral) - least + normaliser, density @ points / density.sum()


def test_orders_of_the_corrections():
    """Errors of log Z and of the mean fall as 1 / N, corrected as 1 / N²."""
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    y = np.array([-1.2, -0.9, 0.1, 0.8, 1.3])
    prior, noise = 1.0, 0.02
    net = MLP((1, 1, 1), bias=False)
    errors, w = [], np.ones(2)
    for count in (160, 320):
        weights = np.full(5, count / 5)
        point = net.at(w, x[:, None], y[:, None], sample_weight=weights)
        point = laplace.mode(point, prior, noise_variance=noise, tolerance=1e-9)
        w = np.array(point.w)
        posterior = laplace.fit(point, prior_precision=prior, noise_variance=noise)
        root = np.linalg.cholesky(posterior.solve(np.eye(2)))
        exact, mean = quadrature(x, y, weights, prior, noise, w, root)
        found = posterior.correction()
        assert found.jets == 6
        error = exact - posterior.log_marginal_likelihood()
        shift = mean - w
        errors.append(
            (
                abs(error),
                abs(error - found.log_evidence),
                np.linalg.norm(shift),
                np.linalg.norm(shift - found.mean_shift),
            )
        )
    slopes = np.log2(np.array(errors[0]) / errors[1])
    # 0.98, 1.92, 1.00, 1.96
    assert (slopes > (0.9, 1.85, 0.9, 1.85)).all() and (slopes < (1.1, 2.1, 1.1, 2.1)).all()
    assert errors[1][1] < 1e-4 and errors[1][3] < 1e-4


def test_corrections_by_tensors():
    """T and Q entry by entry, by differences of dense Hessians."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 1)), rng.standard_normal((10, 1))
    prior, noise = 0.9, 0.5
    net = MLP((1, 2, 1), reduction="mean")
    point = laplace.mode(net.at(net.initial(seed=0), x, y), prior, noise_variance=noise)
    posterior = laplace.fit(point, prior_precision=prior, noise_variance=noise)
    w, count, h = point.w, len(point.w), 1e-3

    def hessian(u):
        return net.at(w + u, x, y).hessian.dense() * 10 / noise

    # Errors of h⁴, of some 1e-10, beside rounding of 1e-15 over h and over h².
    near, units = hessian(np.zeros(count)), h * np.eye(count)
    third = np.array(
        [
            (8 * (hessian(u) - hessian(-u)) - hessian(2 * u) + hessian(-2 * u)) / (12 * h)
            for u in units
        ]
    )
    fourth = np.empty((count,) * 4)
    for i, u in enumerate(units):
        for j, v in enumerate(units):
            around = hessian(u + v) + hessian(-u - v) - hessian(u - v) - hessian(v - u)
            wide = hessian(2 * u + 2 * v) + hessian(-2 * u - 2 * v)
            wide -= hessian(2 * u - 2 * v) + hessian(2 * v - 2 * u)
            fourth[i, j] = (16 * around - wide) / (48 * h**2)
    s = np.linalg.inv(near + prior * np.eye(count))
    contracted = np.einsum("ijk,jk->i", third, s)
    expected = (
        contracted @ s @ contracted / 8,
        np.einsum("ijk,lmn,il,jm,kn->", third, third, s, s, s, optimize=True) / 12,
        -np.einsum("ijkl,ij,kl->", fourth, s, s) / 8,
    )
    found = posterior.correction()
    assert np.allclose(found.terms[:2], expected[:2], rtol=1e-7)
    assert found.terms[2] == pytest.approx(expected[2], rel=1e-5)
    assert found.log_evidence == sum(found.terms)
    assert np.allclose(found.mean_shift, -s @ contracted / 2, rtol=1e-6)
    assert found.jets == count * (count + 1)


# With errors of h⁴ and of rounding over h.
@pytest.mark.parametrize(
    ("structure", "reduction", "slack"),
    [
        ("hessian", "sum", 1e-8),
        ("hessian", "mean", 1e-8),
        ("ggn", "mean", 1e-7),
        ("kronecker", "sum", 1e-7),
        ("diagonal", "mean", 1e-7),
    ],
)
def test_the_evidences_derivative_is_that_of_refitted_posteriors(structure, reduction, slack):
    start, prior, h = laplace.mode(classes(reduction=reduction)), 0.5, 2e-3
    logs = []
    for k in (-2, -1, 1, 2):
        there = prior + k * h
        point = laplace.mode(start, there, tolerance=1e-9)
        logs.append(laplace.fit(point, structure, there).log_marginal_likelihood())
    slope = (8 * (logs[2] - logs[1]) - (logs[3] - logs[0])) / (12 * h)
    posterior = laplace.fit(laplace.mode(start, tolerance=1e-9), structure)
    found = posterior.evidence_gradient()
    # Of h⁴ times the fifth derivative, some 1e-9, beside roundings of 1e-13 over h.
    assert found == pytest.approx(slope, rel=slack)
    fixed = posterior.evidence_gradient(moving_mode=False)
    assert abs(fixed - slope) > 1e-2 * abs(slope)
    # With fixed parameters: of the closed form in l.
    w, trace = posterior.mean, posterior.variances.sum()
    assert fixed == pytest.approx(0.5 * (len(w) / prior - w @ w - trace), rel=1e-12)


def test_the_last_layers_derivative_with_the_others_given():
    """Convex in the last layer: its mode is found by hand."""
    point, h = laplace.mode(classes(), tolerance=1e-9), 1e-3
    last = point.net.layer_slices[-1]
    logs = []
    for k in (-2, -1, 1, 2):
        there, w = 0.5 + k * h, point.w.copy()
        for _ in range(8):
            here = point.net.at(w, *given(point))
            gradient = here.gradient[last] + (there - 0.5) * w[last]
            block = here.hessian.dense((1, 1)) + (there - 0.5) * np.eye(len(gradient))
            w[last] -= np.linalg.solve(block, gradient)
        found = laplace.fit(point.net.at(w, *given(point)), "last_layer", there)
        logs.append(found.log_marginal_likelihood())
    slope = (8 * (logs[2] - logs[1]) - (logs[3] - logs[0])) / (12 * h)
    found = laplace.fit(point, "last_layer").evidence_gradient()
    assert found == pytest.approx(slope, rel=1e-7)


def given(point):
    (batch,) = point.whole
    return batch.x, batch.labels_or_targets


@pytest.mark.parametrize("structure", STRUCTURES)
def test_effective_parameters_are_of_the_gauss_newton_matrix(structure):
    point = laplace.mode(classes())
    posterior = laplace.fit(point, structure)
    found = posterior.effective_parameters
    assert 0 < found < posterior.parameter_count
    if structure in ("hessian", "ggn"):
        values = np.linalg.eigvalsh(point.gauss_newton.dense()) - 0.5
        assert found == pytest.approx((values / (values + 0.5)).sum(), rel=1e-10)


def test_of_the_exact_hessian_gamma_is_negative_and_third_derivatives_count():
    """Without them the evidence's slope in the prior is twice what refitted posteriors show."""
    net, x, labels, _ = problem()
    point = laplace.mode(net.at(net.initial(seed=0), x, labels), tolerance=1e-9)
    posterior, h = laplace.fit(point), 2e-3
    assert 63 - 2 * posterior.variances.sum() < -10 < 0 < posterior.effective_parameters < 63
    logs = [
        laplace.fit(
            laplace.mode(point, 2 + k * h, tolerance=1e-9), prior_precision=2 + k * h
        ).log_marginal_likelihood()
        for k in (-2, -1, 1, 2)
    ]
    slope = (8 * (logs[2] - logs[1]) - (logs[3] - logs[0])) / (12 * h)
    assert posterior.evidence_gradient() == pytest.approx(slope, rel=1e-8)
    assert posterior.evidence_gradient(moving_mode=False) < 1.9 * slope


def test_what_corrections_refuse():
    point = laplace.mode(classes())
    with pytest.raises(ValueError, match="expected 'hessian' for the correction"):
        laplace.fit(point, "ggn").correction()
    with pytest.raises(ValueError, match="limit is 10 jets, and 27 parameters take 756"):
        laplace.fit(point).correction(limit=10)


def test_progress_is_shown(capsys):
    laplace.fit(laplace.mode(classes())).correction(progress=True)
    assert "27" in capsys.readouterr().err


# The prior precision of the largest evidence


@pytest.mark.parametrize("structure", ["hessian", "ggn", "last_layer", "kronecker"])
def test_the_best_prior_of_a_linear_model(structure):
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.standard_normal((40, 4)))[0]  # orthonormal: a closed form
    y = 3 * x @ rng.standard_normal((4, 1)) + 0.1 * rng.standard_normal((40, 1))
    net = MLP((4, 1), bias=False, l2=0.01)
    noise = 0.01
    found = laplace.optimize_prior_precision(
        net.at(np.zeros(4), x, y), structure, noise_variance=noise, tolerance=1e-6
    )
    # Each coefficient is normal with variance 1 / l + σ²: the largest likelihood by hand.
    least_squares = x.T @ y
    assert found.success, found.message
    best = 1 / ((least_squares**2).mean() - noise)
    assert found.prior_precision == pytest.approx(best, rel=2e-6)
    assert found.log_evidences.argmax() >= len(found.slopes) - 3
    assert len(found.slopes) < 20


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_best_prior_of_a_net(structure):
    found = laplace.optimize_prior_precision(classes(count=200), structure)
    assert found.success, found.message
    posterior = found.posterior
    assert posterior.prior_precision == found.prior_precision == found.prior_precisions[-1]
    # To the tolerance of 1e-3 in log l, in which the slope's derivative is of order P.
    assert abs(found.slopes[-1]) < 1e-3 * posterior.parameter_count
    logs = [
        laplace.fit(
            laplace.mode(posterior.point, factor * found.prior_precision),
            structure,
            factor * found.prior_precision,
        ).log_marginal_likelihood()
        for factor in (0.8, 1.25)
    ]
    if structure != "last_layer":  # there the layers below are fitted anew
        assert max(logs) < posterior.log_marginal_likelihood()
    axes = pytest.importorskip("matplotlib.figure").Figure().add_subplot()
    assert found.plot(axes) is axes
    assert axes.get_xscale() == "log"
    assert found.plot().lines
    assert "success=True" in repr(found)


def test_targets_of_noise_need_no_net():
    """Labels without a rule: for GGN structures the evidence grows until nothing is left."""
    rng = np.random.default_rng(0)
    net = MLP((4, 3, 3), loss="softmax_cross_entropy", l2=0.5)
    point = net.at(net.initial(seed=0), rng.standard_normal((40, 4)), rng.integers(0, 3, 40))
    found = laplace.optimize_prior_precision(point, "ggn", bounds=(0.1, 1000.0))
    assert not found.success
    assert found.message == "the evidence still grows at the bound 500"
    # The exact Hessian becomes singular where the mode goes to 0, and says so.
    found = laplace.optimize_prior_precision(point, "hessian", bounds=(0.1, 1000.0))
    assert not found.success
    assert "no smooth maximum: the mode changes at prior_precision=3.8" in found.message


def test_arguments_of_the_search():
    point = classes()
    with pytest.raises(ValueError, match="structure is 'full'"):
        laplace.optimize_prior_precision(point, "full")
    with pytest.raises(TypeError, match="bounds is 3"):
        laplace.optimize_prior_precision(point, bounds=3)
    with pytest.raises(ValueError, match="expected factors around 1"):
        laplace.optimize_prior_precision(point, bounds=(2.0, 3.0))
    with pytest.raises(ValueError, match="tolerance is 0"):
        laplace.optimize_prior_precision(point, tolerance=0)
