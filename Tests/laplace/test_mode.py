"""Minima of the negative log posterior."""

import numpy as np
import pytest

from swiftnets import MLP, ConvergenceError, Network, laplace
from swiftnets.nets import Conv2d, Flatten


def moons(seed=0, l2=0.05, count=80, loss="softmax_cross_entropy"):
    rng = np.random.default_rng(seed)
    angle = np.pi * rng.uniform(size=count)
    side = rng.integers(0, 2, count)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(side, -1, 1)[:, None]
    x += np.where(side[:, None], [1.0, 0.4], [0, 0]) + 0.1 * rng.standard_normal((count, 2))
    net = MLP((2, 5, 2), loss=loss, l2=l2)
    y = side if loss.startswith("softmax") else np.eye(2)[side]
    return net.at(net.initial(seed=seed), x, y)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "squared_error"])
def test_strict_minima_from_far(seed, loss):
    point = laplace.mode(moons(seed, loss=loss))
    inertia = point.hessian.inertia
    assert inertia.negative == inertia.zero == 0
    gradient = point.gradient
    decrement = np.sqrt(gradient @ np.linalg.solve(point.hessian.dense(), gradient))
    # Where rounding ends it: of E, 1e3 units of rounding.
    assert decrement <= max(1e-6, np.sqrt(1e3 * np.finfo(float).eps * point.loss))
    assert point.loss < moons(seed, loss=loss).loss


def test_below_the_rounding_of_the_loss():
    """Of some 1e5, whose roundings alone are steps of 1e-5 standard deviations."""
    for seed in range(4):
        start = moons(seed, loss="squared_error")
        point = laplace.mode(start, 1.0, noise_variance=1e-5)
        assert laplace.fit(point, "hessian", 1.0, noise_variance=1e-5).decrement < 1e-6


def test_another_prior_and_noise():
    start = moons(loss="squared_error")
    prior, noise = 0.3, 0.2
    point = laplace.mode(start, prior, noise_variance=noise, tolerance=1e-9)
    # The gradient of Σ loss / σ² + ½ l |w|² by hand; the net's own l2 is in its gradient.
    data = point.gradient - point.net.l2 * point.w
    assert np.linalg.norm(data / noise + prior * point.w) < 1e-6
    assert laplace.fit(point, "hessian", prior, noise_variance=noise).decrement < 1e-6
    assert point.net is start.net


def test_off_saddle_points():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 2))
    net = MLP((2, 2, 1), bias=False, l2=0.1)
    saddle = net.at(np.zeros(6), x, 2 * x[:, :1])  # of gradient 0
    assert not saddle.gradient.any()
    point = laplace.mode(saddle)
    assert point.loss < 0.5 * saddle.loss and point.hessian.inertia.negative == 0


def test_nets_of_any_layers_and_float32():
    rng = np.random.default_rng(0)
    net = Network(
        [Conv2d(1, 2, 2), "tanh", Flatten(), ], input_shape=(1, 2, 2), l2=0.2, dtype="float32"
    )  # fmt: skip
    x, y = rng.standard_normal((9, 1, 2, 2)), rng.standard_normal((9, 2))
    point = laplace.mode(net.at(net.initial(seed=0), x.astype("f"), y.astype("f")))
    assert point.w.dtype == np.float64
    assert np.linalg.norm(point.gradient) < 1e-6


def test_samples_of_weight_0_are_nothing():
    start = moons()
    (batch,) = start.whole
    weights = np.ones(len(batch.x))
    weights[::3] = 0
    x = np.where(weights[:, None] == 0, np.nan, batch.x)
    holed = laplace.mode(start.net.at(start.w, x, batch.labels, sample_weight=weights))
    kept = weights > 0
    plain = laplace.mode(start.net.at(start.w, batch.x[kept], batch.labels[kept]))
    assert np.allclose(holed.w, plain.w, atol=1e-6)
    first, second = laplace.fit(holed), laplace.fit(plain)
    assert first.log_determinant == pytest.approx(second.log_determinant, rel=1e-6)


def test_too_few_steps():
    with pytest.raises(ConvergenceError, match=r"after 2 Newton steps: .* gradient has norm"):
        laplace.mode(moons(), max_iterations=2)


def test_progress_is_shown(capsys):
    laplace.mode(moons(), progress=True)
    assert "200" in capsys.readouterr().err


def test_arguments():
    with pytest.raises(TypeError, match="expected a Point"):
        laplace.mode(np.zeros(3))
    with pytest.raises(ValueError, match="max_iterations is 0"):
        laplace.mode(moons(), max_iterations=0)
    with pytest.raises(ValueError, match="prior_precision is missing"):
        laplace.mode(moons(l2=0.0))
