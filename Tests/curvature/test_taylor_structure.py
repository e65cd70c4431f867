"""Taylor passes leave out what is 0 by structure; what stays is checked in exact arithmetic."""

from fractions import Fraction
from itertools import pairwise
from math import factorial

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.nets.activations import LeakyReLU

EPS = np.finfo(float).eps


def rational(array):
    return np.vectorize(Fraction, otypes=[object])(array)


def exact_gradient(w, x, y, sizes, bias):
    """Of half the sum of squares of a net of leaky layers (slope 1/2), all in rationals."""
    layers, start = [], 0
    for m, k in pairwise(sizes):
        rows = m + bias
        layers.append(w[start : start + rows * k].reshape(rows, k))
        start += rows * k
    ones = np.full((len(x), 1), Fraction(1), dtype=object)
    inputs, slopes, z = [], [], x
    for index, weights in enumerate(layers):
        inputs.append(np.concatenate([z, ones], axis=1) if bias else z)
        a = inputs[-1].dot(weights)
        last = index == len(layers) - 1
        slopes.append(np.where(last | (a > 0), Fraction(1), Fraction(1, 2)))
        z = a * slopes[-1]
    delta, parts = (z - y) * slopes[-1], []
    for index in reversed(range(len(layers))):
        parts.append(inputs[index].T.dot(delta).ravel())
        if index:
            delta = delta.dot(layers[index][: sizes[index]].T) * slopes[index - 1]
    return np.concatenate(parts[::-1])


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (2, 3, 3, 2), (2, 2, 2, 2, 1)], ids=str)
def test_a_piecewise_linear_net_is_a_polynomial_along_a_line(sizes, bias):
    rng = np.random.default_rng(len(sizes))
    net = MLP(sizes, activation=LeakyReLU(0.5), bias=bias)
    w, v = rng.standard_normal((2, net.parameter_count))
    x, y = rng.standard_normal((4, sizes[0])), rng.standard_normal((4, sizes[-1]))
    point = net.at(w, x, y)

    # The gradient has degree 2 L - 1 in t as long as no unit changes sides: so many exact values.
    terms = 2 * (len(sizes) - 1)
    steps = [Fraction(t, 1 << 20) for t in range(terms)]
    exact = [rational(a) for a in (w, v, x, y)]
    values = [
        exact_gradient(exact[0] + t * exact[1], exact[2], exact[3], sizes, bias) for t in steps
    ]
    for i in range(1, terms):  # Newton's divided differences, then their powers of t
        for j in reversed(range(i, terms)):
            values[j] = (values[j] - values[j - 1]) / (steps[j] - steps[j - i])
    powers = [values[-1]]
    for i in reversed(range(terms - 1)):
        shifted = [np.zeros_like(values[0]), *powers]
        for k, power in enumerate(powers):
            shifted[k] = shifted[k] - steps[i] * power
        shifted[0] = shifted[0] + values[i]
        powers = shifted
    powers += [np.zeros_like(values[0])] * 4

    series = point.taylor(v, order=3)
    third, fourth = point.third(v, v), point.fourth(v, v, v)
    for k in range(4):
        right = np.array([float(c) for c in powers[k]]) * factorial(k)
        # Some hundred terms, none larger than the largest entries of all orders together.
        size = max(float(max(abs(c) for c in p)) for p in powers[:4]) * factorial(k)
        assert np.abs(series.derivatives[k] - right).max() <= 200 * EPS * size
        mixed = {2: third, 3: fourth}.get(k)
        if mixed is not None:
            assert np.abs(mixed - right).max() <= 200 * EPS * size
        if k >= terms:
            assert not right.any()


def test_softmax_of_one_layer_has_the_cumulants_as_derivatives():
    rng = np.random.default_rng(0)
    net = MLP((3, 5), loss="softmax_cross_entropy", bias=False)
    w, v = rng.standard_normal((2, 15))
    x, labels = rng.standard_normal((6, 3)), rng.integers(0, 5, 6)
    z, b = x @ w.reshape(3, 5), x @ v.reshape(3, 5)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    c = b - (p * b).sum(1, keepdims=True)
    second, third = ((p * c**k).sum(1, keepdims=True) for k in (2, 3))
    right = [
        p - np.eye(5)[labels],
        p * c,
        p * (c**2 - second),
        p * (c**3 - 3 * second * c - third),
    ]
    found = net.at(w, x, labels).taylor(v, order=3).derivatives
    for k in range(4):
        size = np.abs(x).max() * (np.abs(b).max() * 2) ** k * 8
        assert np.abs(found[k] - (x.T @ right[k]).ravel()).max() <= 100 * EPS * size
