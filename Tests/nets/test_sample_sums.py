"""Sums over many samples in float32, and means with weights of any size."""

import mlp_reference as reference
import numpy as np
import pytest

from swiftnets import MLP

SAMPLES = 10**6


@pytest.fixture(scope="module")
def many():
    """A million samples of which all terms of a sum have one sign, so that nothing cancels."""
    random = np.random.default_rng(0)
    x = random.choice([0.7, 0.9, 1.3], (SAMPLES, 2)).astype(np.float32)
    return (
        x,
        np.full((SAMPLES, 1), -2.0, np.float32),
        random.choice([0.3, 1.0], SAMPLES).astype(np.float32),
    )


def nets(**settings):
    """A net in both types at the same parameters, all positive."""
    sizes, kinds = (2, 3, 1), (np.float32, np.float64)
    single, double = (MLP(sizes, dtype=dtype, **settings) for dtype in kinds)
    w = np.linspace(0.1, 0.9, single.parameter_count).astype(np.float32)
    return (single, w), (double, w.astype(np.float64))


def quantities(net, w, x, y, s):
    v = np.linspace(0.5, 1, len(w))
    yield "loss", net.loss(w, x, y, sample_weight=s)
    yield "gradient", net.gradient(w, x, y, sample_weight=s)
    yield "hvp", net.hvp(w, x, y, [v, 2 * v], sample_weight=s)
    yield "one hvp", net.hvp(w, x, y, v, sample_weight=s)
    yield "hessian", net.hessian(w, x, y, sample_weight=s)
    point = net.at(w, x, y, sample_weight=s)
    yield "kept gradient", point.gradient
    yield "kept hvp", v @ point.hessian
    yield "kept hvps", [v, v, v, v] @ point.hessian
    yield "Hessian's diagonal", point.hessian.diagonal()
    yield "Gauss-Newton product", v @ point.gauss_newton
    yield "Gauss-Newton diagonal", point.gauss_newton.diagonal()
    fisher = point.fisher("empirical")
    yield "Fisher product", v @ fisher
    yield "Fisher diagonal", fisher.diagonal()
    yield "Fisher", fisher.dense()
    yield "third", point.third(v, v)
    yield "fourth", point.fourth(v, v, [v, v])
    series = point.taylor(v)
    yield "taylor", series.gradient
    yield "taylor loss", series.loss
    yield "vjp", point.vjp(np.ones((len(x), net.sizes[-1])))


# A chain of 64 terms in a register, of 16 such in a chunk, of √(N / 1024) chunks in a block, and
# of the blocks; each sum rounds by half a unit of what it has so far. Then a sample's own numbers.
CHAIN = 64 + 16 + 2 * (SAMPLES / 1024) ** 0.5 + 64
BOUND = CHAIN * 2.0**-24


def test_a_million_samples_in_float32_are_those_of_float64(many):
    x, y, s = many
    (single, w), (double, wide) = nets()
    theirs = dict(quantities(double, wide, x, y, s))
    for name, ours in quantities(single, w, x, y, s):
        size = abs(np.atleast_1d(theirs[name])).max(axis=-1, keepdims=True)
        assert (abs(ours - theirs[name]) <= BOUND * size).all(), name


def test_a_million_samples_in_small_batches_are_those_of_float64(many):
    x, y, s = many
    (single, w), (double, wide) = nets(reduction="mean")
    size = 500
    batches = [(x[i : i + size], y[i : i + size], s[i : i + size]) for i in range(0, SAMPLES, size)]
    for method in ("loss", "gradient"):
        ours = getattr(single, method)(w, batches)
        theirs = getattr(double, method)(wide, x, y, sample_weight=s)
        assert np.all(abs(ours - theirs) <= BOUND * np.abs(theirs).max()), method
    point, other = single.at(w, batches), double.at(wide, x, y, sample_weight=s)
    for quantity in (
        lambda point: point.hessian.diagonal(),
        lambda point: point.fisher("empirical").diagonal(),
    ):
        theirs = quantity(other)
        assert (abs(quantity(point) - theirs) <= BOUND * abs(theirs).max()).all()
    theirs = double.hvp(wide, x, y, wide, sample_weight=s)
    assert (abs(w @ point.hessian - theirs) <= BOUND * abs(theirs).max()).all()
    theirs = other.taylor(wide, order=1).loss
    np.testing.assert_allclose(point.taylor(w, order=1).loss, theirs, BOUND)


# Means ----------------------------------------------------------------------------------------


SCALES = {
    np.float64: (1e-310, 1e-300, 1e-150, 1, 1e150, 1e307),
    np.float32: (1e-40, 1e-30, 1, 1e38),
}


def powers(dtype):
    """Powers of two near these, by which scaling is exact."""
    return [dtype(2.0 ** np.floor(np.log2(scale))) for scale in SCALES[dtype]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_mean_does_not_depend_on_the_size_of_the_weights(dtype):
    random = np.random.default_rng(1)
    for loss in ("squared_error", "softmax_cross_entropy"):
        net = MLP((2, 3, 2), loss=loss, reduction="mean", dtype=dtype)
        w, x, y = net.initial(0), random.normal(size=(5, 2)), random.integers(2, size=(5, 2))
        # Multiples of an eighth: their products with powers of two are exact, subnormal ones too.
        s = np.array([1, 0, 0.5, 0.125, 0.875], dtype)
        usual = dict(quantities(net, w, x, y, s))
        for scale in powers(dtype):
            # The last bits of subnormal weights are 2^-1074; 1e-310 still has 44 of them.
            for name, value in quantities(net, w, x, y, s * scale):
                few = 64 * float(np.finfo(dtype).eps)
                size = np.abs(usual[name]).max()
                assert np.all(abs(value - usual[name]) <= few * size), (name, scale)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batches_may_have_weights_of_any_two_sizes(dtype):
    """The lighter batch counts as much as its weight says: nothing, where that underflows."""
    random = np.random.default_rng(2)
    net = MLP((2, 3, 1), reduction="mean", dtype=dtype)
    w, v = net.initial(0), np.linspace(-1, 1, net.parameter_count)
    x, y, s = random.normal(size=(2, 4, 2)), random.normal(size=(2, 4, 1)), np.full((2, 4), 0.5)
    few = 64 * float(np.finfo(dtype).eps)
    for first in (0.0, *powers(dtype)):
        for second in (0.0, *powers(dtype)):
            if first == second == 0:
                continue
            batches = [(x[0], y[0], dtype(first) * s[0]), (x[1], y[1], dtype(second) * s[1])]
            largest = max(first, second)
            weights = np.concatenate([s[0] * (first / largest), s[1] * (second / largest)])
            whole = np.concatenate(x), np.concatenate(y)
            point = net.at(w, batches)
            expected = MLP((2, 3, 1), reduction="mean", dtype=np.float64)
            wide = w.astype(np.float64)
            for ours, theirs in (
                (net.loss(w, batches), expected.loss(wide, *whole, sample_weight=weights)),
                (net.gradient(w, batches), expected.gradient(wide, *whole, sample_weight=weights)),
                (
                    net.hvp(w, batches, None, v),
                    expected.hvp(wide, *whole, v, sample_weight=weights),
                ),
                (v @ point.hessian, expected.hvp(wide, *whole, v, sample_weight=weights)),
                (point.loss, expected.loss(wide, *whole, sample_weight=weights)),
                (
                    point.taylor(v).loss,
                    expected.at(wide, *whole, sample_weight=weights).taylor(v).loss,
                ),
            ):
                assert np.all(abs(ours - theirs) <= few * abs(np.asarray(theirs)).max())


def test_a_loss_over_batches_that_leaves_the_range_is_inf():
    net = MLP((1, 1), bias=False)
    batches = [([[1.0]], [[0.0]])] * 9
    assert net.loss([1e154], batches[:1]) == 5e307
    assert net.loss([1e154], batches) == np.inf
    assert np.isnan(net.loss([np.nan], batches))


def test_averaged_batches_are_exact_powers_of_two_away():
    net = MLP((1, 1))
    reader = net.engine.reader
    weights = np.array([3e307, 1e308, 1e308])
    batch, factor = reader.batch(np.ones((3, 1)), np.ones((3, 1)), weights).averaged()
    ratio = batch.weights / weights
    assert (ratio == ratio[0]).all() and np.frexp(ratio[0])[0] == 0.5
    assert factor == 1 / batch.weights.sum()
    with pytest.raises(ValueError, match="sums to 0"):
        reader.batch(np.ones((3, 1)), np.ones((3, 1)), np.zeros(3)).averaged()


def test_empirical_fisher_diagonals_square_what_is_in_range():
    """z² and δ² alone would leave float32; (z δ)² does not."""
    net = MLP((1, 1), bias=False, dtype=np.float32)
    ours = net.at([0.0], [[1e25]], [[1e-15]]).fisher("empirical").diagonal()
    np.testing.assert_allclose(ours, (1e25 * 1e-15) ** 2, 1e-6)


# Taylor series --------------------------------------------------------------------------------


def test_coefficients_of_the_loss_are_summed_in_float64():
    """Of 10⁵ parameters; float32 would lose what is small beside 2²⁴."""
    net = MLP((10**5, 1), bias=False, dtype=np.float32)
    x = np.ones((1, 10**5), np.float32)
    v = np.full(10**5, 3.0, np.float32)
    v[0] = 2.0**26
    ours = net.at(np.zeros(10**5), x, [[-1.0]]).taylor(v, order=0)
    # z = 0, so that the gradient is x and exact.
    assert ours.loss[1] == 2.0**26 + 3 * (10**5 - 1)


def test_the_l2_term_is_in_range_where_the_square_of_the_norm_is_not():
    for dtype, size, l2 in ((np.float64, 1e-170, 1e200), (np.float32, 1e-30, 1e30)):
        net = MLP((1, 1), bias=False, l2=l2, dtype=dtype)
        w = np.array([size], dtype)
        theirs = 0.5 * (l2 * float(w[0])) * float(w[0])
        np.testing.assert_allclose(net.loss(w, [[0.0]], [[0.0]]), theirs, 1e-15)


@pytest.mark.parametrize(("l2", "size"), [(1e60, 1e-30), (1e-60, 1e30)])
def test_an_l2_beyond_float32_is_not_rounded_to_it(l2, size):
    net = MLP((1, 2), bias=False, l2=l2, dtype=np.float32)
    w = np.array([size, 0], np.float32)
    data = w, [[0.0]], [[0.0, 0.0]]
    point = net.at(*data)
    # One product in float64, and the rounding to float32.
    theirs = np.array([l2 * float(w[0]), 0]).astype(np.float32)
    for ours in (
        net.gradient(*data),
        net.hvp(*data, w),
        w @ point.fisher("empirical"),
        point.gradient,
        w @ point.hessian,
        *point.taylor(w).gradient[:2],
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("error")
def test_sums_that_leave_the_range_are_inf_without_a_warning():
    """As in the engine; runs that diverge tell it by their status."""
    net = MLP((1, 1), bias=False, l2=1e200)
    data, v = ([1e200], [[1.0]], [[0.0]]), [1e200]
    assert net.gradient(*data) == net.hvp(*data, v) == v @ net.at(*data).hessian == np.inf
    assert (net.at(*data).taylor(v).gradient[:2] == np.inf).all()
    net = MLP((1, 1), bias=False, l2=1.7e308)
    data = [0.0], [[1e154]], [[0.0]]
    assert net.hessian(*data) == net.at(*data).hessian.diagonal() == np.inf
    net, batches = MLP((1, 1), bias=False), [([[1e154]], [[0.0]])] * 9
    assert net.gradient([1.0], batches) == net.hessian([1.0], batches) == np.inf
    assert net.hvp([1.0], batches, None, [1.0]) == np.inf
    assert [1.0] @ net.at([1.0], batches).hessian == np.inf


def test_the_references_sums_are_ours():
    """The means above are those of the literal formulas."""
    it = reference.case("tanh", "squared_error", True, 2, reduction="mean")
    ours = it.net.engine().loss(it.w, it.x, it.y, sample_weight=it.weights * 2.0**900)
    theirs = reference.loss(it.net, it.w, it.x, it.y, it.weights)
    np.testing.assert_allclose(ours, theirs, 1e-13)
