"""`Network` at the edges: squares that leave the range, settings that a dtype rounds away."""

import numpy as np
import pytest

import swiftnets
from swiftnets import MLP, Network
from swiftnets.nets import (
    BatchNorm,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    LayerNorm,
    MeanOverPositions,
    Residual,
)

X = np.array([[1.0, -2.0, 4.0, 7.0], [0.0, 0.5, -3.0, 1.0]])


def normed(norm, dtype=np.float64):
    """A norm whose outputs are the net's."""
    return Network([norm, Dense(4, 4, bias=False)], input_shape=4, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float32, 2.0**67), (np.float64, 2.0**520), (np.float64, 2.0**1000)]
)
@pytest.mark.parametrize(
    "norm", [LayerNorm(4, affine=False), GroupNorm(2, 4, affine=False)], ids=["layer", "group"]
)
def test_a_norm_of_numbers_whose_squares_overflow_is_that_of_smaller_ones(norm, dtype, scale):
    net, w = normed(norm, dtype), np.eye(4, dtype=dtype).ravel()
    # Without eps to speak of on either side: a power of two then changes no bit of the quotient.
    tiny = normed(type(norm)(*_shape(norm), eps=1e-30, affine=False), dtype)
    x = X.astype(dtype)
    expected = tiny.predict(w, x)
    # Numbers below 2: a mean, a difference, a mean of squares, a root and a product on either side.
    assert np.abs(net.predict(w, x * dtype(scale)) - expected).max() <= 8 * np.finfo(dtype).eps
    # The derivative in x falls as 1 / scale, so that of the weights is that of the smaller numbers.
    y = np.ones((2, 4), dtype)
    far, near = net.gradient(w, x * dtype(scale), y), tiny.gradient(w, x, y)
    assert np.abs(far - near).max() <= 64 * np.finfo(dtype).eps * np.abs(near).max()


def _shape(norm):
    return (4,) if isinstance(norm, LayerNorm) else (2, 4)


def test_a_norm_of_what_is_not_finite_is_nan():
    for norm in (LayerNorm(4), GroupNorm(2, 4)):
        net = normed(norm)
        w = net.initial(seed=0)
        for value in (np.nan, np.inf):
            x = np.full((1, 4), value)
            assert np.isnan(net.predict(w, x)).all()


def test_eps_and_statistics_that_a_dtype_does_not_hold_are_refused():
    for layer in (LayerNorm(4, eps=1e-46), GroupNorm(2, 4, eps=1e60)):
        net = normed(layer)
        with pytest.raises(ValueError, match=r"eps is .* of a float32 net; expected from"):
            net.astype("float32")
        with pytest.raises(ValueError, match=r"eps is .* of a float32 net; expected from"):
            normed(layer, np.float32)
    with pytest.raises(ValueError, match="has the statistic 1e\\+300, which float32"):
        normed(BatchNorm([1e300] * 4, [1.0] * 4), np.float32)


def test_sums_within_sums_end_somewhere():
    layers = [Dense(2, 2)]
    with pytest.raises(ValueError, match="99 deep|100 deep"):
        for _ in range(200):
            layers = [Residual(layers)]


@pytest.mark.parametrize("bias", [True, False])
def test_a_chain_of_dense_layers_has_the_bits_of_an_mlp(bias):
    layers = [
        Dense(5, 4, bias=bias),
        "tanh",
        Dense(4, 3, bias=bias),
        Dense(3, 2, bias=bias),
        "silu",
    ]
    net = Network(layers, 5)
    same = MLP((5, 4, 3, 2), activation=["tanh", "identity"], output_activation="silu", bias=bias)
    random = np.random.default_rng(0)
    w, v = random.standard_normal((2, net.parameter_count))
    x, y = random.standard_normal((7, 5)), random.standard_normal((7, 2))
    ours, theirs = net.at(w, x, y), same.at(w, x, y)
    assert np.array_equal(ours.gradient, theirs.gradient)
    assert np.array_equal(ours.hessian @ v, theirs.hessian @ v)
    assert np.array_equal(ours.hessian.diagonal(), theirs.hessian.diagonal())
    assert np.array_equal(ours.hessian.dense(), theirs.hessian.dense())
    mixed = Network([Dense(5, 4), Dense(4, 2, bias=False)], 5)  # no MLP
    assert mixed.gradient(mixed.initial(seed=0), x, y).shape == (32,)


def test_tokens_are_checked_in_a_copy():
    net = Network([Embedding(5, 3), MeanOverPositions(), Dense(3, 2)], (4,))
    w, y = net.initial(seed=0), np.ones((2, 2))

    class Changing(np.ndarray):
        """Other tokens each time that it is read."""

        reads = 0

        def min(self, *arguments, **options):
            result = np.asarray(self).min(*arguments, **options)
            np.asarray(self)[...] = 0
            return result

    tokens = np.full((2, 4), 9).view(Changing)
    with pytest.raises(ValueError, match=r"x has 9 at \[0, 0\]; expected"):
        net.gradient(w, tokens, y)


def test_layers_of_one_pixel_one_channel_and_one_position():
    for net, x in (
        (Network([swiftnets.nets.Conv2d(1, 1, 1), Flatten()], (1, 1, 1)), np.ones((1, 1, 1, 1))),
        (Network([GroupNorm(1, 1), Dense(1, 1)], 1), np.ones((1, 1))),
        (
            Network([swiftnets.nets.SelfAttention(1, 1), MeanOverPositions()], (1, 1)),
            np.ones((1, 1, 1)),
        ),
    ):
        w = net.initial(seed=1)
        point = net.at(w, x, np.zeros((1, 1)))
        dense = point.hessian.dense()
        assert np.isfinite(dense).all()
        assert np.array_equal(dense, dense.T)


# Many directions, and matrices of many samples ----------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    "first",
    [Conv2d(2, 3, 3, padding=1), Conv2d(2, 5, 2, stride=2, bias=False), Conv2d(2, 24, 3)],
)
def test_products_with_many_directions_have_the_bits_of_each_alone(first, dtype):
    """The first layer's parts of up to 48 columns of directions are made at once."""
    layers = [first, "tanh", GlobalAvgPool2d(), Dense(first.out_channels, 3)]
    net = Network(layers, (2, 7, 6), loss="softmax_cross_entropy", dtype=dtype)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((19, 2, 7, 6)), random.integers(0, 3, 19)
    point = net.at(net.initial(seed=1), x, y)
    rows = random.standard_normal((17, net.parameter_count)).astype(dtype)
    for matrix in (point.hessian, point.gauss_newton, point.fisher("empirical")):
        alone = np.stack([row @ matrix for row in rows])
        for count in (2, 9, 16, 17):
            np.testing.assert_array_equal(rows[:count] @ matrix, alone[:count])


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "squared_error"])
def test_dense_gauss_newton_of_many_samples_is_its_products(loss):
    """Formed from rows of the Jacobian, some hundred at a time; products go another way."""
    net = Network([Conv2d(1, 4, 3), "silu", Flatten(), Dense(16, 4)], (1, 4, 4), loss=loss)
    random = np.random.default_rng(1)
    x, weights = random.standard_normal((301, 1, 4, 4)), random.random(301)
    weights[5] = 0
    y = random.integers(0, 4, 301) if "softmax" in loss else random.standard_normal((301, 4))
    point = net.at(net.initial(seed=0), x, y, sample_weight=weights)
    for matrix in (point.gauss_newton, point.fisher("empirical")):
        dense = matrix.dense()
        products = matrix.products(np.eye(net.parameter_count))
        # Sums of some 1,200 products each in either way.
        limit = 1200 * np.finfo(float).eps * abs(dense).max()
        np.testing.assert_allclose(dense, products, rtol=0, atol=limit)
        np.testing.assert_array_equal(dense, dense.T)
        np.testing.assert_allclose(matrix.dense(block=(1, 0)), dense[40:, :40], rtol=0, atol=limit)
        np.testing.assert_allclose(matrix.diagonal(), dense.diagonal(), rtol=0, atol=limit)
        with swiftnets.threads(1):
            np.testing.assert_array_equal(matrix.dense(), dense)
