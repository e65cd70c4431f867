"""Points of one net one after the other: the next takes over the memory of the last."""

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.nets import CustomActivation

SIZES = (7, 5, 4, 3)


def data(n, seed):
    draw = np.random.default_rng(seed)
    y = draw.random((n, 3))
    return draw.standard_normal((n, 7)), y / y.sum(axis=1, keepdims=True), draw.random(n)


def answers(net, w, x, y, weights, before=()):
    point = net.at(w, x, y, sample_weight=weights)
    rows = np.random.default_rng(9).standard_normal((3, net.parameter_count)).astype(net.dtype)
    named = {
        "gradient": lambda: point.gradient,
        "hessian": lambda: point.hessian @ rows.T,
        "third": lambda: point.third(rows[0], rows),
        "factors": lambda: (point.hessian + 50.0).factorize(method="layered").solve(rows[1]),
    }
    if net.dtype != np.float64:
        del named["factors"]
    for name in before:  # what a point was asked for makes no difference to the next
        named[name]()
    return {name: call().tobytes() for name, call in named.items()}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
def test_a_point_after_others_has_the_bits_of_a_first_one(loss, dtype):
    def new():
        return MLP(SIZES, loss=loss, dtype=dtype)

    net = new()
    ws = [scale * net.initial(seed=0) for scale in (1.0, np.nan, 30.0, -0.5)]
    cases = [(w, *data(n, seed)) for seed, n in enumerate((12, 12, 300, 12)) for w in ws]
    for i, case in enumerate(cases):
        w, *samples = case
        if np.isnan(w).any():
            net.at(w, *samples[:2]).third(np.ones_like(w), np.ones_like(w))
            continue
        before = ("third", "hessian")[: i % 3]
        assert answers(net, *case, before) == answers(new(), *case)


def test_points_that_live_at_once_share_nothing():
    net = MLP(SIZES)
    x, y, _ = data(12, 0)
    ws = [net.initial(seed=seed) for seed in range(4)]
    expected = [MLP(SIZES).at(w, x, y).third(ws[0], ws[1]) for w in ws]
    points = [net.at(w, x, y) for w in ws[:2]]
    kept = points[0].third(ws[0], ws[1]), points[1].third(ws[0], ws[1])
    points.append(net.at(ws[2], x, y))
    factors = (points[0].hessian + 50.0).factorize(method="layered")
    solution = factors.solve(ws[0])
    del points[0]
    points.append(net.at(ws[3], x, y))  # in the place of the first
    for point, want in zip(points, expected[1:], strict=True):
        np.testing.assert_array_equal(point.third(ws[0], ws[1]), want)
    np.testing.assert_array_equal(kept, expected[:2])
    np.testing.assert_array_equal(factors.solve(ws[0]), solution)


def test_an_activation_that_fails_leaves_nothing_for_the_next_call():
    failing = []

    def sine(a):
        if failing:
            raise RuntimeError("not now")
        return np.sin(a)

    functions = (sine, np.cos, lambda a: -np.sin(a), lambda a: -np.cos(a), np.sin)
    net = MLP((2, 3, 1), activation=CustomActivation("own", *functions))
    w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    v = np.ones_like(w)
    want = net.at(w, x, y).third(v, v)
    point = net.at(w, x, y)
    assert point.loss > 0
    failing.append(True)
    with pytest.raises(RuntimeError, match="not now"):
        point.third(v, v)
    with pytest.raises(RuntimeError, match="not now"):
        assert net.at(2 * w, x, y).loss
    failing.clear()
    np.testing.assert_array_equal(point.third(v, v), want)
    np.testing.assert_array_equal(net.at(w, x, y).third(v, v), want)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("sizes", "n"), [(SIZES, 12), ((300, 9, 3), 900), ((3, 2), 17_000)])
@pytest.mark.parametrize("c", [1, 3, 10])
def test_third_derivatives_of_all_pairs_are_those_of_each(sizes, n, c, dtype):
    # In one piece and in several, samples that float32 adds up in blocks, more than have a place.
    net, draw = MLP(sizes, loss="softmax_cross_entropy", dtype=dtype), np.random.default_rng(c)
    x, labels = draw.standard_normal((n, sizes[0])), draw.integers(0, sizes[-1], n)
    passed = net.at(net.initial(seed=0), x, labels).passed
    u = draw.standard_normal((c, net.parameter_count)).astype(dtype)
    want = np.concatenate([passed.third(row, u[i:]) for i, row in enumerate(u)])
    # Several threads may share one pair's samples, and add their parts in another order.
    limit = 256 * np.finfo(dtype).eps * abs(want).max()
    np.testing.assert_allclose(passed.thirds(u), want, rtol=0, atol=limit)
    one = [passed.third(a, b[None])[0] for i, a in enumerate(u) for b in u[i:]]
    np.testing.assert_allclose(want, one, rtol=0, atol=limit)
    np.testing.assert_array_equal(passed.thirds(u), passed.thirds(u))
