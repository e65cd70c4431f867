"""Samples so large that the engine does each layer in pieces, between which it may be stopped.

A small sample repeated side by side has the small one's outputs where no window goes over a seam:
means, norms and attention see the same numbers, only more often. So all derivatives are known.
"""

import numpy as np
import pytest

from swiftnets import Network, nets


def images():
    """Layers on 8 channels of 640 by 640, then on a quarter of that."""
    layers = [nets.Conv2d(1, 8, 1), nets.GroupNorm(2, 8), nets.MaxPool2d(2), "silu"]
    layers += [nets.Conv2d(8, 4, 1, groups=2, bias=False), nets.GlobalAvgPool2d(), nets.Dense(4, 3)]
    small = np.random.default_rng(0).standard_normal((1, 1, 32, 32))
    return layers, small, np.tile(small, (1, 1, 20, 20))


def plain_images():
    """Layers on 2,000 by 2,000 numbers."""
    layers = [nets.BatchNorm2d([0.1], [0.5]), nets.Residual([nets.LeakyReLU(0.25)])]
    layers += [nets.AvgPool2d(2), nets.Conv2d(1, 4, 2, stride=2), "tanh", nets.GlobalAvgPool2d()]
    layers += [nets.Dense(4, 3)]
    small = np.random.default_rng(4).standard_normal((1, 1, 20, 20))
    return layers, small, np.tile(small, (1, 1, 100, 100))


def strided_images():
    """A window of four by four that does not overlap others, and a flat vector of the means."""
    layers = [nets.Conv2d(2, 6, 4, stride=4), "gelu", nets.Conv2d(6, 5, 1), nets.GlobalAvgPool2d()]
    layers += [nets.Dense(5, 3)]
    small = np.random.default_rng(1).standard_normal((1, 2, 16, 16))
    return layers, small, np.tile(small, (1, 1, 100, 100))


def sequences():
    """Scores of 2,000 by 2,000."""
    layers = [nets.LayerNorm(4), nets.SelfAttention(4, 1), nets.Dense(4, 6), "gelu"]
    layers += [nets.Dense(6, 3), nets.MeanOverPositions()]
    small = np.random.default_rng(2).standard_normal((1, 20, 4))
    return layers, small, np.tile(small, (1, 100, 1))


def long_sequences():
    """Many positions, of few numbers each."""
    layers = [nets.Dense(3, 5), nets.LayerNorm(5), "sine", nets.MeanOverPositions()]
    layers += [nets.Dense(5, 3)]
    small = np.random.default_rng(3).standard_normal((1, 50, 3))
    return layers, small, np.tile(small, (1, 14_000, 1))


@pytest.mark.parametrize("make", [images, plain_images, strided_images, sequences, long_sequences])
def test_a_repeated_sample_has_the_derivatives_of_the_small_one(make):
    layers, small, large = make()
    random = np.random.default_rng(0)
    points = []
    for x in (small, large):
        net = Network(layers, x.shape[1:], loss="softmax_cross_entropy")
        w = random.standard_normal(net.parameter_count) / 2 if not points else points[0].w
        points.append(net.at(w, x, np.arange(len(x))))
    u, v = random.standard_normal((2, net.parameter_count)) / 4
    for of in (
        lambda point: point.gradient,
        lambda point: point.hessian @ v,
        lambda point: point.fisher("empirical") @ v,
        lambda point: point.third(u, v),
    ):
        expected, found = (np.asarray(of(point)) for point in points)
        # Means over millions of numbers, whose sums of one sign round as their number's root at
        # most, at the ends; some tens of operations on either way.
        bound = 1e-11 * np.abs(expected).max()
        assert np.abs(found - expected).max() <= bound
