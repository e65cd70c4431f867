"""Newton and Kantorovich's certificates: what they bound, where they hold and where they refuse."""

import math

import mpmath
import numpy as np
import pytest

from swiftnets import MLP, Network, critical
from swiftnets.critical import certificates, extended
from swiftnets.critical.bounds import SLOPES, Bounds

ACTIVATIONS = {
    "identity": lambda a: a,
    "tanh": mpmath.tanh,
    "sigmoid": lambda a: 1 / (1 + mpmath.exp(-a)),
    "softplus": lambda a: mpmath.log(1 + mpmath.exp(a)),
    "sine": mpmath.sin,
    "silu": lambda a: a / (1 + mpmath.exp(-a)),
    "gelu": lambda a: a * mpmath.ncdf(a),
    "gelu_tanh": lambda a: (
        a / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (a + mpmath.mpf("0.044715") * a**3)))
    ),
}
LOSSES = ("squared_error", "softmax_cross_entropy", "binary_cross_entropy")


@pytest.mark.parametrize("name", sorted(set(SLOPES) - {"identity"}))
def test_slopes_are_the_suprema_of_derivatives(name):
    """All are even or odd about 0, or nearly, and past 6 their derivatives only fall."""
    for order, bound in enumerate(SLOPES[name], start=1):
        size = lambda a: abs(mpmath.diff(ACTIVATIONS[name], a, order))  # noqa: B023, E731
        grid = np.arange(-6, 6.01, 0.2)
        values = [float(size(a)) for a in grid]
        best = 0.0
        for place in np.argsort(values)[-2:]:
            near = np.linspace(grid[place] - 0.2, grid[place] + 0.2, 41)
            best = max(best, *(float(size(a)) for a in near))
        # Near a maximum the grid of 0.01 is off by 1e-4 of it at most; the rest is rounding up.
        assert best <= bound <= best * (1 + 3e-3), (order, best)


def made(activation="tanh", loss="squared_error", sizes=(3, 4, 4, 2), seed=0, **settings):
    net = MLP(sizes, activation=activation, loss=loss, **settings)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((7, sizes[0]))
    y = rng.random((7, sizes[-1]))
    w = net.initial(seed=seed) + 0.2 * rng.standard_normal(net.parameter_count)
    return net.at(w, x, y, sample_weight=rng.random(7))


def largest_third(point, seed):
    """|T[v, v, v]| by power iterations, from below."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(len(point.w))
    best = 0.0
    for _ in range(30):
        v /= np.linalg.norm(v)
        image = point.third(v, v)
        best = max(best, np.linalg.norm(image))
        v = image
    return best


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", sorted(SLOPES))
def test_bounds_hold_on_the_ball(activation, loss):
    """K of the ball against the third derivative inside it, found by a search."""
    rng = np.random.default_rng(3)
    settings = {"reduction": "mean", "bias": activation != "sine"}
    if loss == "squared_error":
        settings["output_activation"] = activation
    point = made(activation, loss, **settings)
    bounds, radius = Bounds(point), 0.5
    for trial in range(2):
        v = rng.standard_normal(len(point.w))
        inside = point.net.at(
            point.w + radius * v / np.linalg.norm(v),
            point.samples.batches[0].x,
            point.samples.batches[0].targets,
            sample_weight=point.samples.batches[0].weights,
        )
        for here, ball in ((point, 0.0), (inside, radius)):
            second, third = bounds.hessian_and_third(ball)
            assert largest_third(here, trial) <= third
            assert np.linalg.norm(here.hessian.dense(), 2) <= second * (1 + 1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["tanh", "silu", "sine"])
def test_bounds_are_derivatives_of_a_majorant(activation, loss):
    """That of one sample is a polynomial: every function's derivatives are its suprema.

    With z(t) the change of a layer's inputs, its sums change by (|W| + t) z(t) + |(z, 1)| t, and
    polynomials are composed by NumPy.
    """
    point, (s1, s2, s3) = made(activation, loss), SLOPES[activation]
    labels = {"squared_error": (1, 0), "binary_cross_entropy": (1 / 4, 3**-1.5 / 2)}
    c2, c3 = labels.get(loss, (1 / 2, 2**1.5 * 3**-1.5 / 2))
    for radius in (0.0, 0.3):
        total = np.zeros(2)
        batch = point.samples.batches[0]
        for x, y, weight in zip(batch.x, batch.targets, batch.weights, strict=True):
            z, growth, values = np.polynomial.Polynomial([0.0]), 0.0, x
            arrays = point.net.unflatten(point.w)
            for layer in range(3):
                w = arrays[f"w{layer}"]
                size = np.linalg.norm([*values, 1]) + radius * growth
                t = np.polynomial.Polynomial([0, 1])
                a = (np.linalg.norm(w, 2) + radius + t) * z + size * t
                values = values @ w + arrays[f"b{layer}"]
                if layer < 2:
                    a = s1 * a + s2 / 2 * a**2 + s3 / 6 * a**3
                    name = np.array([float(ACTIVATIONS[activation](v)) for v in values])
                    values = name
                z, growth = a.truncate(4), a.deriv()(0)
            if loss == "squared_error":
                r, mass = values - y, 1.0
            elif loss == "binary_cross_entropy":
                r, mass = 1 / (1 + np.exp(-values)) - y, 1.0
            else:
                mass = y.sum()
                r = mass * np.exp(values) / np.exp(values).sum() - y
            # The residual of the loss in z, on the ball.
            residual = np.linalg.norm(r) + radius * mass * c2 * growth
            ell = residual * z + mass * (c2 / 2 * z**2 + c3 / 6 * z**3)
            total += weight * np.array([ell.deriv(2)(0), ell.deriv(3)(0)])
        # Constants are rounded up in the fifth figure.
        assert Bounds(point).hessian_and_third(radius) == pytest.approx(total, rel=1e-4)


def test_bounds_are_sharp_where_they_can_be():
    """One weight and one sample: c₃ x³ for the logistic loss where it is steepest in curvature."""
    net = MLP((1, 1), loss="binary_cross_entropy", bias=False)
    a = math.log(2 + math.sqrt(3))  # σ″ has its maximum, 1 / (6 √3), there
    point = net.at([a / 3], [[3.0]], [[0.0]])
    second, third = Bounds(point).hessian_and_third(0.0)
    assert third == pytest.approx(27 / (6 * math.sqrt(3)), rel=1e-4) and second == 9 / 4
    assert abs(point.third([1.0], [1.0])[0]) == pytest.approx(third, rel=1e-4)
    net = MLP((1, 1, 1), activation="identity", bias=False)
    point = net.at([0.0, 2.0], [[1.0]], [[0.0]])  # a = w₁ w₂, loss a² / 2
    assert largest_third(point, 0) <= Bounds(point).hessian_and_third(0.0)[1]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", sorted(SLOPES))
def test_gradients_are_right_to_what_rounding_is_said_to_be(activation, loss):
    """Both precisions against 40 digits: back-propagation for one hidden unit by hand."""
    net = MLP((2, 1, 1), activation=activation, loss=loss, l2=0.1)
    w, x, y = [0.7, -1.3, 0.2, 1.1, -0.4], [[0.3, -2.0]], [[1.0]]
    if loss == "softmax_cross_entropy":
        net = MLP((2, 1, 2), activation=activation, loss=loss, l2=0.1)
        w, y = [*w[:4], 0.9, -0.4, 0.6], [[0.25, 0.5]]
    point = net.at(w, x, y)
    with mpmath.workdps(40):
        p = [mpmath.mpf(v) for v in w]
        s = ACTIVATIONS[activation]
        a = p[0] * mpmath.mpf(x[0][0]) + p[1] * mpmath.mpf(x[0][1]) + p[2]
        z, slope = s(a), mpmath.diff(s, a)
        k = len(y[0])
        out = [z * p[3 + j] + p[3 + k + j] for j in range(k)]
        if loss == "squared_error":
            r = [out[0] - 1]
        elif loss == "binary_cross_entropy":
            r = [1 / (1 + mpmath.exp(-out[0])) - 1]
        else:
            e = [mpmath.exp(o) for o in out]
            r = [mpmath.mpf(0.75) * v / sum(e) - t for v, t in zip(e, y[0], strict=True)]
        d = slope * sum(r[j] * p[3 + j] for j in range(k))
        exact = [d * mpmath.mpf(x[0][0]), d * mpmath.mpf(x[0][1]), d]
        exact += [z * v for v in r] + r
        exact = [g + mpmath.mpf(0.1) * v for g, v in zip(exact, p, strict=True)]

        def error(found):
            # A longdouble is the sum of two floats.
            high = [float(v) for v in found]
            low = [float(v - h) for v, h in zip(found, high, strict=True)]
            parts = [mpmath.mpf(h) + t - g for h, t, g in zip(high, low, exact, strict=True)]
            return float(mpmath.sqrt(sum(v * v for v in parts)))

        bounds, unit = Bounds(point), 2.0**-53
        ridge = 0.4 * np.linalg.norm(w)
        assert error(point.gradient) <= bounds.rounding(unit) + unit * ridge
        better = extended.extended_gradient(point)
        if better is None:
            assert activation.startswith("gelu") or extended.UNIT > 1e-17 or extended.UNIT < 1e-20
        else:
            assert error(better) <= bounds.rounding(extended.UNIT) + extended.UNIT * ridge


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_extended_gradient_is_the_gradient(reduction, bias):
    for loss in LOSSES:
        point = made("sigmoid", loss, reduction=reduction, bias=bias, l2=0.3)
        better = extended.extended_gradient(point)
        if better is None:
            pytest.skip("NumPy's longdouble has not 64 bits here")
        assert better.astype(float) == pytest.approx(point.gradient, rel=1e-12, abs=1e-14)
    labels = MLP((3, 4, 2), loss="softmax_cross_entropy").at(np.full(26, 0.1), np.eye(3), [0, 1, 1])
    assert extended.extended_gradient(labels).astype(float) == pytest.approx(labels.gradient)


# Certificates -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saddles():
    """Critical points of small nets, of every smooth activation and loss."""
    cases = []
    for number, (activation, loss) in enumerate(
        [
            ("tanh", "squared_error"),
            ("tanh", "softmax_cross_entropy"),
            ("sigmoid", "binary_cross_entropy"),
            ("softplus", "softmax_cross_entropy"),
            ("gelu", "squared_error"),
            ("silu", "squared_error"),
            ("sine", "binary_cross_entropy"),
        ]
    ):
        rng = np.random.default_rng(number)
        net = MLP((3, 3, 2), activation=activation, loss=loss, reduction="mean", l2=1e-2)
        x, y = rng.standard_normal((40, 3)), rng.integers(0, 2, (40, 2)).astype(float)
        if loss == "softmax_cross_entropy":
            y = y[:, 0].astype(int)
        found = critical.find(net, x, y, 4, seed=number).distinct()
        cases += [(net, x, y, one) for one in found]
    return cases


def newton(net, x, y, w, steps=8):
    for _ in range(steps):
        point = net.at(w, x, y)
        w = w - np.linalg.solve(point.hessian.dense(), point.gradient)
    return w


def test_certificates_hold_and_are_refused_at_a_distance(saddles):
    assert len(saddles) >= 7
    held = {1e-8: 0, 1e-6: 0, 1e-4: 0}
    for net, x, y, one in saddles:
        certificate = critical.certify(one)
        assert certificate and certificate.holds, certificate
        values = np.linalg.eigvalsh(one.point.hessian.dense())
        assert certificate.index == np.count_nonzero(values < 0) == one.index
        assert certificate.least_eigenvalue == pytest.approx(abs(values).min(), rel=1e-9)
        assert certificate.distance < 1e-8 < certificate.unique_within
        assert certificate.h <= 1e-3
        far = (1 + math.sqrt(1 - 2 * certificate.h)) / (certificate.beta * certificate.lipschitz)
        assert certificate.unique_within <= far  # K grows with the ball
        exact = newton(net, x, y, one.w)
        rng = np.random.default_rng(0)
        for far in held:
            v = rng.standard_normal(len(exact))
            start = exact + far * v / np.linalg.norm(v)
            point = net.at(start, x, y)
            moved = critical.certify(point)
            if moved:
                held[far] += 1
                # Newton's limit is the point that is meant: it is as near as was proved.
                limit = newton(net, x, y, start)
                assert np.linalg.norm(limit - start) <= moved.distance <= moved.unique_within
                root = math.sqrt(1 - 2 * moved.h)
                near = (1 - root) / (moved.beta * moved.lipschitz)
                assert moved.distance == pytest.approx(near, rel=1e-6)
                assert moved.index == certificate.index
            else:
                assert moved.h > 0.5 and math.isinf(moved.distance) and moved.index is None
                assert moved.unique_within == 0 and "above 1/2" in moved.message
    assert held[1e-8] >= 0.7 * len(saddles) and held[1e-4] == 0
    assert held[1e-8] >= held[1e-6]


def test_no_other_critical_point_is_where_there_is_said_to_be_none(saddles):
    """Newton's method from all over the ball of uniqueness ends outside or at the centre."""
    rng = np.random.default_rng(1)
    for net, x, y, one in saddles[::2]:
        certificate, exact = critical.certify(one), newton(net, x, y, one.w)
        radius = certificate.unique_within
        for _ in range(3):
            v = rng.standard_normal(len(exact))
            end = newton(net, x, y, one.w + radius * v / np.linalg.norm(v))
            away = np.linalg.norm(end - exact)
            assert away < 1e-10 or away > 0.9 * radius


def held(net, w):
    """h where the certificate holds, else 0."""
    certificate = critical.certify(net.at([w], [[1.0]], [[0.0]]))
    return certificate.h if certificate else 0.0


def test_distances_are_sharp_for_one_weight():
    """A parabola, whose Newton step is exact, and ½ sin², whose critical points are known."""
    net = MLP((1, 1), bias=False)
    certificate = critical.certify(net.at([2.25], [[4.0]], [[8.0]]))
    assert certificate.index == 0 and certificate.h == 0 == certificate.lipschitz
    assert 0.25 <= certificate.distance <= 0.25 * (1 + 1e-12)
    assert math.isinf(certificate.unique_within)
    net = MLP((1, 1), output_activation="sine", bias=False)
    for w, true, index in [(0.01, 0.0, 0), (math.pi / 2 - 0.01, math.pi / 2, 1)]:
        certificate = critical.certify(net.at([w], [[1.0]], [[0.0]]))
        assert certificate.index == index
        assert abs(w - true) <= certificate.distance <= 1.1 * abs(w - true)
        assert 0.2 < certificate.unique_within < math.pi / 2 - abs(w - true)
        # Far away, h near ½: the ball where K holds is larger than that of uniqueness.
        edge = max(np.linspace(0, 0.3, 301), key=lambda far: held(net, true + far))
        certificate = critical.certify(net.at([true + edge], [[1.0]], [[0.0]]))
        assert 0.4 < certificate.h <= 0.5
        assert certificate.unique_within < 4 * certificate.eta
        root = math.sqrt(1 - 2 * certificate.h)
        far = (1 + root) / (certificate.beta * certificate.lipschitz)
        assert certificate.unique_within == pytest.approx(far)


def test_many_parameters_take_factors(saddles, monkeypatch):
    expected = [critical.certify(one) for *_, one in saddles]
    monkeypatch.setattr(certificates, "_MOST_DENSE", 0)
    for (*_, one), before in zip(saddles, expected, strict=True):
        certificate = critical.certify(one)
        assert certificate.holds and certificate.index == before.index
        assert certificate.least_eigenvalue <= before.least_eigenvalue
        assert before.least_eigenvalue <= 4 * certificate.least_eigenvalue
    net = MLP((2, 2, 2), activation="identity", bias=False)
    singular = critical.certify(net.at([1.0, 0.0, 0.0, 1.0] * 2, np.eye(2), np.eye(2)))
    assert not singular.holds and "H" in singular.message and math.isinf(singular.beta)


def test_what_cannot_be_certified_says_so():
    x = np.random.default_rng(0).standard_normal((60, 5))
    net = MLP((5, 3, 5), activation="identity", bias=False)
    (one,) = critical.find(net, x, x, 1)
    refused = critical.certify(one)
    assert one.is_critical and not refused and one.nullity > 0
    assert "singular to rounding" in refused.message and "needs its inverse" in refused.message
    assert refused.index is None and math.isinf(refused.beta) and refused.unique_within == 0
    assert repr(refused).startswith("Certificate(refused: H is singular")
    for settings, what in [
        ({"activation": "relu"}, "activation 0 is ReLU.*kink"),
        ({"activation": "leaky_relu"}, "activation 0 is LeakyReLU.*kink"),
        ({"activation": "elu"}, r"activation 0 is ELU\(1.0\): it has a second derivative that"),
        ({"loss": "huber"}, "'huber', whose second derivative jumps"),
    ]:
        kinked = MLP((1, 2, 1), **settings)
        with pytest.raises(NotImplementedError, match=what):
            critical.certify(kinked.at(np.ones(7), [[1.0]], [[0.0]]))
    chain = Network(MLP((2, 1)).layers, 2)
    with pytest.raises(NotImplementedError, match="certify needs dense layers"):
        critical.certify(chain.at(np.ones(3), np.eye(2), np.ones((2, 1))))
    with pytest.raises(TypeError, match="point is of type list"):
        critical.certify([1.0])


def test_weights_precisions_and_batches_are_taken_as_the_point_has_them():
    rng = np.random.default_rng(2)
    net = MLP((3, 2, 1), l2=0.3, reduction="mean")
    x, y = rng.standard_normal((10, 3)), rng.standard_normal((10, 1))
    weights = np.arange(10.0) % 4
    (one,) = critical.find(net, x, y, 1, sample_weight=weights)
    whole = critical.certify(net.at(one.w, x, y, sample_weight=weights))
    batches = [(x[k::2], y[k::2], weights[k::2]) for k in range(2)]
    parts = critical.certify(net.at(one.w, batches))
    counted = critical.certify(
        net.at(one.w, x[weights > 0], y[weights > 0], sample_weight=weights[weights > 0])
    )
    for other in (parts, counted):
        assert other.holds and other.lipschitz == pytest.approx(whole.lipschitz, rel=1e-9)
    single = critical.certify(net.astype(np.float32).at(one.w, x, y, sample_weight=weights))
    assert single.holds and 1e-9 < single.distance < 1e-5  # w was rounded


def test_bounds_beyond_all_numbers_certify_nothing():
    """Without a warning: they are errors here."""
    net = MLP((2, 2, 1), bias=False, activation="identity")
    for size in (1e110, 1e125, 1e140):
        point = net.at([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [[size, 10 * size]], [[1.0]])
        assert not critical.certify(point).holds
