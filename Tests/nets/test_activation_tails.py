"""Activations where their exponentials leave the normal numbers, and NaN through what compares."""

import mpmath
import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.nets.activations import ELU, GELU, LeakyReLU
from swiftnets.nets.losses import Huber

DTYPES = (np.float64, np.float32)


def logistic(a):
    return 1 / (1 + mpmath.exp(-a))


FUNCTIONS = {
    "tanh": mpmath.tanh,
    "sigmoid": logistic,
    "softplus": lambda a: mpmath.log1p(mpmath.exp(a)),
    "elu": lambda a: a if a > 0 else mpmath.expm1(a),
    "silu": lambda a: a * logistic(a),
    "gelu": lambda a: a * mpmath.erfc(-a / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda a: (
        a * logistic(2 * mpmath.sqrt(2 / mpmath.pi) * (a + mpmath.mpf("0.044715") * a**3))
    ),
}
POINTS = {
    np.float64: {
        "tanh": (15, 100, 354.3),
        "sigmoid": (15, 100, 708.2),
        "softplus": (15, 100, 708.2),
        "elu": (1e-9, 0.3, 15, 100, 708.2),
        "silu": (15, 100, 708.1, 712, 714),
        "gelu": (8, 30, 37.5, 37.7, 38),
        "gelu_tanh": (8, 18, 21.2, 21.4),
    },
    np.float32: {
        "tanh": (8, 20, 43.6),
        "sigmoid": (8, 40, 87.25),
        "softplus": (8, 40, 87.25),
        "elu": (1e-9, 0.3, 8, 40, 87.25),
        "silu": (8, 40, 88, 91),
        "gelu": (5, 12, 13.2, 13.9),
        "gelu_tanh": (3, 8, 10.1, 10.4),
    },
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tails_are_right_while_they_are_normal_numbers(name, dtype):
    """Against mpmath's Taylor coefficients, to fourth order, relative to each derivative itself.

    The derivatives are those of Huber's loss where it is straight, δ (|s(w) - y| - δ / 2). Their
    formulas take about 10 roundings. GELU's exponents round before they are exponentials: their
    error is what moving a by two roundings does.
    """
    limits = np.finfo(dtype)
    activation = GELU("tanh") if name == "gelu_tanh" else name
    net = MLP((1, 1), output_activation=activation, loss=Huber(1.0), bias=False, dtype=dtype)
    x, y, v = np.ones((1, 1)), np.full((1, 1), -50.0), np.ones(1)
    for size in POINTS[dtype][name]:
        for a in (dtype(size), dtype(-size)):
            w = np.array([a])
            # The digits of e^-q beside 1, of the fifth power of the step, and 60 more.
            with mpmath.workdps(560 if dtype is np.float64 else 260):
                point = mpmath.mpf(float(a))
                step = mpmath.mpf(10) ** -30
                around = [FUNCTIONS[name](point + k * step) for k in range(-3, 4)]
                theirs = [around[3]]
                # Central differences: their errors are step² times higher derivatives.
                theirs.append((around[4] - around[2]) / (2 * step))
                theirs.append((around[4] - 2 * around[3] + around[2]) / step**2)
                outer, inner = around[5] - around[1], around[4] - around[2]
                theirs.append((outer - 2 * inner) / (2 * step**3))
                outer, inner = around[5] + around[1], around[4] + around[2]
                theirs.append((outer - 4 * inner + 6 * around[3]) / step**4)
                outer, inner = around[6] - around[0], around[5] - around[1]
                last = (outer - 4 * inner + 5 * (around[4] - around[2])) / (2 * step**5)
            ours = [
                net.predict(w, x),
                net.gradient(w, x, y),
                net.hvp(w, x, y, v),
                net.at(w, x, y).third(v, v),
                net.at(w, x, y).fourth(v, v, v),
            ]
            moved = [*theirs[1:], last]
            for k, (mine, right) in enumerate(zip(ours, theirs, strict=True)):
                if abs(right) < limits.tiny:
                    continue
                error = abs(mpmath.mpf(float(mine.ravel()[0])) - right)
                units = 10 * abs(right)
                if name.startswith("gelu"):
                    units += 2 * abs(point * moved[k])
                assert error <= units * float(limits.eps) / 2, (a, k)


def test_silu_left_of_708_is_not_0():
    ours = MLP((1, 1), output_activation="silu", bias=False).predict([1.0], [[-708.1]])
    np.testing.assert_allclose(ours, -708.1 * np.exp(-708.1), rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [1.0, 0.375, -2.0, 0.0])
def test_the_elu_is_alpha_times_expm1_left_of_0_to_its_last_digits(alpha, dtype):
    """Of a full vector of the kernels and more; its slopes, too, where the loss is straight."""
    limits = np.finfo(dtype)
    few = [limits.tiny, 1e-30, limits.eps / 3, limits.eps, 1e-3, 0.3, 0.4, 1, 5, 40]
    points = np.array([*few, 0], dtype)
    points = np.concatenate([points, -points, [np.inf, -np.inf]]).astype(dtype)
    net = MLP((1, 1), output_activation=ELU(alpha), bias=False, dtype=dtype)
    point = net.at([1.0], points[:-2, None])
    ours = net.predict([1.0], points[:, None])[:, 0]
    # dz/dw = s'(a) a.
    slopes = point.jacobian()[:, 0, 0]
    for a, value in zip(points[:-2], ours[:-2], strict=True):
        with mpmath.workdps(60):
            exact = mpmath.mpf(float(a))
            right = exact if a > 0 else dtype(alpha) * mpmath.expm1(exact)
            # Five roundings at most, and what no normal number is may be off by the smallest.
            error = abs(mpmath.mpf(float(value)) - right)
            assert error <= 5 * limits.eps / 2 * abs(right) + limits.smallest_subnormal, a
    right = np.where(points[:-2] > 0, 1, alpha * np.exp(points[:-2].astype(float)))
    np.testing.assert_allclose(slopes, right * points[:-2], rtol=4 * limits.eps, atol=limits.tiny)
    np.testing.assert_array_equal(ours[-2:], [np.inf, -alpha])


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_0_the_derivatives_of_the_elu_are_those_on_its_left(dtype):
    net = MLP((1, 1), output_activation=ELU(0.5), loss=Huber(0.25), bias=True, dtype=dtype)
    # Of δ (s(b) - y - δ / 2) in b, at w x + b = 0.
    point, v = net.at([1.0, 0.0], [[0.0]], [[-5.0]]), np.array([0.0, 1.0])
    for found in (point.gradient, point.hessian @ v, point.third(v, v), point.fourth(v, v, v)):
        assert found[1] == 0.25 * 0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "activation",
    [
        *("relu", LeakyReLU(0.5), ELU(0.5), "tanh", "sigmoid", "softplus", "silu", "gelu"),
        *("gelu_tanh", "sine"),
    ],
    ids=str,
)
def test_nan_in_a_layer_is_nan_in_every_derivative(activation, dtype):
    """It comes from the weights, and the direction is 0 there: only the slope tells of it."""
    net = MLP((1, 2, 1), activation=activation, bias=False, dtype=dtype)
    w = np.array([np.nan, 1, 1, 1], dtype)
    x, y, v = np.ones((1, 1)), np.ones((1, 1)), np.array([1, 0, 0, 0], dtype)
    assert np.isnan(net.loss(w, x, y))
    for result in (
        net.predict(w, x),
        net.gradient(w, x, y)[0],
        net.at(w, x).jacobian()[0, 0, 0],
        net.at(w, x).jvp(v),
        net.hvp(w, x, y, v)[0],
        (v @ net.at(w, x, y).gauss_newton)[0],
        (v @ net.at(w, x, y).fisher("empirical"))[0],
        net.hessian(w, x, y)[0, 0],
        net.at(w, x, y).hessian.diagonal()[0],
        net.at(w, x, y).fisher("empirical").diagonal()[0],
        net.at(w, x, y).third(v, v)[0],
        net.at(w, x, y).fourth(v, v, v)[0],
    ):
        assert np.isnan(result).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_targets_are_nan_in_hubers_curvature(dtype):
    net = MLP((1, 1), loss=Huber(1.0), bias=False, dtype=dtype)
    w, x, y, v = np.ones(1), np.ones((2, 1)), np.array([[0.5], [np.nan]]), np.ones(1)
    assert np.isnan(net.loss(w, x, y))
    for result in (
        net.gradient(w, x, y),
        net.hvp(w, x, y, v),
        v @ net.at(w, x, y).gauss_newton,
        net.hessian(w, x, y),
        net.at(w, x, y).gauss_newton.diagonal(),
        net.at(w, x, y).taylor(v).gradient[1],
    ):
        assert np.isnan(result).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_not_a_number_makes_the_whole_row_so(bad, place, dtype):
    net = MLP((1, 3), loss="softmax_cross_entropy", bias=False, dtype=dtype)
    w = np.array([0.5, -1.0, 2.0], dtype)
    w[place] = bad
    x, v = np.ones((1, 1)), np.ones(3)
    v[0] = 2
    for y in ([0], [2], [[0.5, 0.5, 0.0]]):
        assert np.isnan(net.loss(w, x, y))
        for result in (
            net.gradient(w, x, y),
            net.hvp(w, x, y, v),
            net.hessian(w, x, y),
            net.at(w, x, y).gauss_newton.diagonal(),
            net.at(w, x, y).third(v, v),
        ):
            assert np.isnan(result).all()


def test_an_input_of_0_hides_no_nan_from_the_diagonal():
    """0 times NaN is NaN in the matrix, so in its diagonal."""
    net = MLP((2, 2, 1), bias=False)
    w = np.array([1.0, 1.0, 1.0, 1.0, np.nan, 1.0])
    x, y = np.array([[0.0, 1.0]]), np.ones((1, 1))
    matrix, diagonal = net.hessian(w, x, y), net.at(w, x, y).hessian.diagonal()
    np.testing.assert_array_equal(np.isnan(matrix.diagonal()), np.isnan(diagonal))
    assert np.isnan(diagonal[0])


def test_half_a_square_is_in_range_where_the_square_is_not():
    net = MLP((1, 1), bias=False)
    r = 1.7e154
    np.testing.assert_allclose(net.loss([r], [[1.0]], [[0.0]]), r / 2 * r, rtol=1e-15)
