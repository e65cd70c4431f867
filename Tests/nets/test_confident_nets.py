"""Cross-entropies of nets that are sure: small numbers keep their digits, to fourth order.

The references are closed forms in mpmath with as many digits as the margins take, e^-700 included.
"""

import itertools

import mpmath
import numpy as np
import pytest

from swiftnets import MLP, _core
from swiftnets.curvature.kinds import Kind
from swiftnets.curvature.matrix import streamed_products
from swiftnets.nets.losses import SoftmaxCrossEntropy

DIGITS = 400
DTYPES = (np.float64, np.float32)
# The largest margin at which probabilities are still normal numbers, with room for products.
MARGINS = {np.float64: (0, 2, 12, 30, 40, 60, 300, 650), np.float32: (0, 2, 12, 30, 40, 60, 75)}
CASES = [(dtype, margin) for dtype in DTYPES for margin in MARGINS[dtype]]


def exact(array):
    return [mpmath.mpf(float(number)) for number in array]


def partitions(items):
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for size in range(len(rest) + 1):
        for chosen in itertools.combinations(rest, size):
            others = [item for item in rest if item not in chosen]
            for partition in partitions(others):
                yield [[first, *chosen], *partition]


def cumulant(p, *u):
    """The joint cumulant of u[0][j], u[1][j], … for j drawn from p: a derivative of log Σ exp(z)
    along these directions (McCullagh 1987, section 2.3)."""
    total = mpmath.mpf(0)
    for blocks in partitions(list(range(len(u)))):
        term = mpmath.mpf((-1) ** (len(blocks) - 1)) * mpmath.factorial(len(blocks) - 1)
        for block in blocks:
            term *= sum(p_j * mpmath.fprod(u[k][j] for k in block) for j, p_j in enumerate(p))
        total += term
    return total


def near(ours, theirs, sizes, dtype, units):
    """Each entry within so many roundings of the size of its terms, or of subnormal numbers."""
    limits = np.finfo(dtype)
    for a, b, size in zip(np.ravel(ours), theirs, sizes, strict=True):
        size = max(size, mpmath.mpf(float(limits.tiny)))
        assert abs(mpmath.mpf(float(a)) - b) <= units * float(limits.eps) / 2 * size


@pytest.mark.parametrize("target", ["top", "other", "rows"])
@pytest.mark.parametrize(("dtype", "margin"), CASES)
def test_softmax_is_right_to_its_smallest_entries_at_any_margin(dtype, margin, target):
    """One layer, one sample, x = 1: the parameters are the logits.

    The derivative of order k + 1 in logit j along k directions has terms of the size p_j (1 - p_j)
    times the directions' differences. It takes about 8 roundings and 4 more for each order.
    """
    with mpmath.workdps(DIGITS):
        classes = 4
        net = MLP((1, classes), loss="softmax_cross_entropy", bias=False, dtype=dtype)
        z = np.array([0.3, -0.2, margin, -0.7], dtype)
        u = np.random.default_rng(margin).normal(size=(3, classes)).astype(dtype)
        y = {"top": [2], "other": [1], "rows": np.array([[0.25, 0.0, 0.5, 0.75]], dtype)}[target]
        row = exact(np.eye(classes)[y[0]] if target != "rows" else y[0])
        logits, directions = exact(z), [exact(direction) for direction in u]
        units = [exact(e) for e in np.eye(classes)]
        e = [mpmath.exp(number) for number in logits]
        p = [number / sum(e) for number in e]
        rests = [sum(p[:j] + p[j + 1 :]) for j in range(classes)]
        total, x = sum(row), np.ones((1, 1), dtype)
        data = z, x, y

        loss = sum(y_j * (mpmath.log(sum(e)) - z_j) for y_j, z_j in zip(row, logits, strict=True))
        near(net.loss(*data), [loss], [loss], dtype, 4)
        slope = [total * p_j - y_j for p_j, y_j in zip(p, row, strict=True)]
        others = [sum(row[:j] + row[j + 1 :]) for j in range(classes)]
        sizes = [p[j] * others[j] + row[j] * rests[j] for j in range(classes)]
        near(net.gradient(*data), slope, sizes, dtype, 8)
        near(net.at(*data).per_sample_gradients(), slope, sizes, dtype, 8)

        spread = mpmath.mpf(float(2 * abs(u).max()))
        point = net.at(*data)
        ours = [net.hvp(*data, u[0]), point.third(u[0], u[1]), point.fourth(*u)]
        series = point.taylor(u[0])
        for k, result in enumerate(ours, 1):
            theirs = [total * cumulant(p, *directions[:k], unit) for unit in units]
            sizes = [total * p[j] * rests[j] * spread**k for j in range(classes)]
            near(result, theirs, sizes, dtype, 8 + 4 * k)
            theirs = [total * cumulant(p, *directions[:1] * k, unit) for unit in units]
            scaled = series.gradient[k].astype(np.float64) * float(mpmath.factorial(k))
            near(scaled, theirs, sizes, dtype, 8 + 4 * k)
            along = total * cumulant(p, *directions[:1] * (k + 1)) / mpmath.factorial(k + 1)
            near(series.loss[k + 1], [along], [sum(sizes) * spread], dtype, 16 + 4 * k)
        near(series.loss[0], [loss], [loss], dtype, 4)

        blocks = [[-p[i] * p[j] if i != j else p[i] * rests[i] for j in range(4)] for i in range(4)]
        for matrix in (net.hessian(*data), point.gauss_newton.dense()):
            for i in range(classes):
                theirs = [total * entry for entry in blocks[i]]
                near(matrix[i], theirs, [abs(entry) for entry in theirs], dtype, 12)
        diagonal = [total * blocks[i][i] for i in range(classes)]
        for ours in (point.hessian.diagonal(), point.gauss_newton.diagonal()):
            near(ours, diagonal, diagonal, dtype, 12)
        empirical = [number * number for number in slope]
        ours = point.fisher("empirical").diagonal()
        if min(empirical) > np.finfo(dtype).tiny:
            sizes = [p[j] * others[j] + row[j] * rests[j] for j in range(classes)]
            near(ours, empirical, [size * size for size in sizes], dtype, 24)


@pytest.mark.parametrize(("dtype", "margin"), CASES)
@pytest.mark.parametrize("sign", [1, -1])
def test_binary_cross_entropy_is_right_at_any_margin(dtype, margin, sign):
    """Derivatives of softplus, s (1 - s) and so on, as the sums with e^-|z| that they are."""
    with mpmath.workdps(DIGITS):
        x = np.ones((1, 1), dtype)
        net = MLP((1, 1), loss="binary_cross_entropy", bias=False, dtype=dtype)
        margin = sign * (margin + 0.25)
        z, v = np.array([margin], dtype), np.ones(1, dtype)
        s, rest = 1 / (1 + mpmath.exp(-margin)), 1 / (1 + mpmath.exp(margin))
        slope = s * rest
        for y in (0.0, 1.0, 0.25):
            data = z, x, [[y]]
            loss = (1 - y) * mpmath.log(1 + mpmath.exp(margin)) + y * mpmath.log(
                1 + mpmath.exp(-margin)
            )
            near(net.loss(*data), [loss], [loss], dtype, 8)
            theirs = (1 - y) * s - y * rest
            near(net.gradient(*data), [theirs], [(1 - y) * s + y * rest], dtype, 8)
            near(net.hvp(*data, v), [slope], [slope], dtype, 8)
            near(net.at(*data).third(v, v), [slope * (rest - s)], [slope], dtype, 16)
            near(net.at(*data).fourth(v, v, v), [slope * (1 - 6 * slope)], [slope], dtype, 16)


# Two classes ---------------------------------------------------------------------------------


def pair(dtype, margin, label, seed):
    """A net with two outputs of which one is always 0, and the same net with the other alone."""
    random = np.random.default_rng(seed)
    two = MLP((3, 4, 2), loss="softmax_cross_entropy", dtype=dtype)
    one = MLP((3, 4, 1), loss="binary_cross_entropy", dtype=dtype)
    w, x = two.initial(seed), random.normal(size=(1, 3)).astype(dtype)
    v = random.normal(size=(3, len(w))).astype(dtype)
    for vector in (w, *v):
        for view in list(two.unflatten(vector).values())[2:]:
            view[..., 0] = 0
    two.unflatten(w)["b1"][1] = margin
    same = np.ones(len(w), bool)
    for view in list(two.unflatten(same.astype(dtype)).values())[2:]:
        view[..., 0] = 0
    index = np.arange(len(w), dtype=dtype)
    last = [two.unflatten(index)[name][..., 1].ravel() for name in ("w1", "b1")]
    kept = np.concatenate([index[: two.layer_slices[0].stop], *last]).astype(int)
    return (two, (w, x, [label]), v), (one, (w[kept], x, [[float(label)]]), v[:, kept]), kept


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("margin", [-60, -40, -15, 0, 15, 40, 60])
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_classes_are_binary_cross_entropy_to_fourth_order(dtype, margin, label):
    """Both are within a few roundings of the truth in the output, and alike before it."""
    few = 64 * float(np.finfo(dtype).eps)
    (two, data, v), (one, other, u), kept = pair(dtype, margin, label, seed=margin % 7)

    def same(ours, theirs):
        theirs = np.asarray(theirs, np.float64)
        difference = abs(np.asarray(ours, np.float64) - theirs)
        assert (difference <= few * abs(theirs).max()).all()
        assert abs(theirs).max() > 0

    def rows(matrix):
        return matrix[np.ix_(kept, kept)]

    same(two.loss(*data), one.loss(*other))
    same(two.gradient(*data)[kept], one.gradient(*other))
    same(two.hvp(*data, v[0])[kept], one.hvp(*other, u[0]))
    here, there = two.at(*data), one.at(*other)
    same((v[0] @ here.gauss_newton)[kept], u[0] @ there.gauss_newton)
    same(here.third(v[0], v[1])[kept], there.third(u[0], u[1]))
    same(here.fourth(*v)[kept], there.fourth(*u))
    same(rows(two.hessian(*data)), one.hessian(*other))
    same(rows(here.gauss_newton.dense()), there.gauss_newton.dense())
    same(here.hessian.diagonal()[kept], there.hessian.diagonal())
    same(here.gauss_newton.diagonal()[kept], there.gauss_newton.diagonal())
    series, binary = here.taylor(v[0]), there.taylor(u[0])
    for k in range(4):
        same(series.gradient[k][kept], binary.gradient[k])
        # The coefficient of the loss is a sum over parameters, which may cancel.
        size = abs(binary.gradient[k].astype(np.float64) * u[0]).sum() / (k + 1)
        assert abs(series.loss[k + 1] - binary.loss[k + 1]) <= few * size
    empirical = [point.fisher("empirical").dense() for point in (here, there)]
    # Squares of gradients leave float32.
    if abs(empirical[1]).max() > np.finfo(dtype).tiny / few:
        same(rows(empirical[0]), empirical[1])


# Products, matrices, states -------------------------------------------------------------------


@pytest.mark.parametrize("margin", [12, 30, 40, 60])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gauss_newton_products_of_a_sure_net_are_not_negative(dtype, margin):
    """⟨v, G v⟩ = Σ p (u - ⟨p, u⟩)², and rounding is relative to Σ p u² over the other classes."""
    random = np.random.default_rng(margin)
    net = MLP((5, 4, 3), loss="softmax_cross_entropy", dtype=dtype)
    w, x = net.initial(seed=0), random.normal(size=(6, 5)).astype(dtype)
    net.unflatten(w)["b1"][1] += margin
    y = np.full(6, 1)
    v = random.normal(size=(2000, len(w))).astype(dtype)
    matrix = net.at(w, x, y).gauss_newton
    products = (v @ matrix).astype(np.float64)
    dense = matrix.dense().astype(np.float64)
    forms = (v * products).sum(axis=1)
    size = abs(dense).max()
    assert size < 10 * np.exp(-margin + 3)
    few = 200 * float(np.finfo(dtype).eps)
    assert (forms > -few * size).all() and (forms > 0).mean() > 0.99
    assert (abs(products - v.astype(np.float64) @ dense) <= few * size * len(w)).all()
    samples = net.engine.reader.samples(x, y, None)
    streamed = streamed_products(net.engine, Kind.GAUSS_NEWTON, w, samples, v)
    assert (abs(products - streamed) <= few * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("margin", [12, 40, 60])
def test_matrices_products_and_diagonals_of_a_sure_net_agree(dtype, margin):
    random = np.random.default_rng(margin)
    net = MLP((3, 4, 3), loss="softmax_cross_entropy", dtype=dtype)
    w, x = net.initial(seed=1), random.normal(size=(4, 3)).astype(dtype)
    net.unflatten(w)["b1"][2] += margin
    labels = np.full(4, 2)
    few = 300 * float(np.finfo(dtype).eps)
    for y in (labels, np.eye(3, dtype=dtype)[labels]):
        hessian = net.hessian(w, x, y)
        size = abs(hessian).max()
        assert 0 < size < 10 * np.exp(3.0 - margin)
        columns = net.hvp(w, x, y, np.eye(len(w), dtype=dtype))
        assert abs(columns - hessian).max() <= few * size
        assert abs(net.at(w, x, y).hessian.diagonal() - hessian.diagonal()).max() <= few * size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("margin", [0, 40])
def test_labels_and_one_hot_rows_are_the_same_bits(dtype, margin):
    random = np.random.default_rng(3)
    net = MLP((3, 4, 5), loss=SoftmaxCrossEntropy(), reduction="mean", dtype=dtype)
    w, v = net.initial(seed=2), random.normal(size=(3, net.parameter_count)).astype(dtype)
    net.unflatten(w)["b1"][1] += margin
    x, labels = random.normal(size=(7, 3)), random.integers(5, size=7)
    rows, weights = np.eye(5)[labels], random.uniform(size=7)
    for method, more in {"loss": (), "gradient": (), "hvp": (v,), "hessian": ()}.items():
        ours = [getattr(net, method)(w, x, y, *more, sample_weight=weights) for y in (labels, rows)]
        np.testing.assert_array_equal(*ours)
    one, other = (net.at(w, x, y, sample_weight=weights) for y in (labels, rows))
    for quantity in (
        lambda point: point.hessian.diagonal(),
        lambda point: v @ point.gauss_newton,
        lambda point: point.third(v[0], v[1]),
        lambda point: point.fourth(v[0], v[1], v[2]),
    ):
        np.testing.assert_array_equal(quantity(one), quantity(other))


@pytest.mark.parametrize("margin", [0, 40, 300])
def test_layer_states_hold_small_entries_of_the_output_hessian(margin):
    with mpmath.workdps(DIGITS):
        net = MLP((1, 3), loss="softmax_cross_entropy", bias=False)
        w = np.array([1.0, float(margin), -1.5])
        out = np.empty(1 + 3 * 3 + 9)
        kept, _ = _core.linearize(
            net.engine.handle, w, np.ones((1, 1)), None, np.array([1]), None, 1.0, np.empty(3)
        )
        _core.linearization_states(kept, out)
        e = [mpmath.exp(number) for number in exact(w)]
        p = [number / sum(e) for number in e]
        for i, j in np.ndindex(3, 3):
            theirs = -p[i] * p[j] if i != j else p[i] * (sum(p[:i]) + sum(p[i + 1 :]))
            near(out[10 + 3 * i + j], [theirs], [abs(theirs)], float, 8)
        slope = [p[0], -(p[0] + p[2]), p[2]]
        near(out[7:10], slope, [abs(number) for number in slope], float, 8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_margins_past_the_range_underflow_to_what_they_are(dtype):
    net = MLP((1, 3), loss="softmax_cross_entropy", bias=False, dtype=dtype)
    x, v = np.ones((1, 1), dtype), np.array([1, -2, 3], dtype)
    for w in ([0, 1e4, -1e4], [-1e30, 0, -1e38], [0, 3e38, -3e38]):
        assert net.loss(w, x, [1]) == 0
        for result in (
            net.gradient(w, x, [1]),
            net.hvp(w, x, [1], v),
            net.hessian(w, x, [1]),
            net.at(w, x, [1]).third(v, v),
            net.at(w, x, [1]).fourth(v, v, v),
        ):
            np.testing.assert_array_equal(result, 0 * result)
        assert net.loss(w, x, [0]) == float(np.float64(dtype(w[1])) - dtype(w[0]))
        np.testing.assert_array_equal(net.gradient(w, x, [0]), [-1, 1, 0])
