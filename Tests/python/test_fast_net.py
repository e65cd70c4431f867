"""FastNet against the reference, its cache, and data without full row rank."""

import pickle
import warnings

import numpy as np
import pytest

from swiftnets import FastNet, fast_net, reference

EPSILON = 2.0**-52


def batch(n=12, insize=20, outsize=5, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, insize)), np.eye(outsize)[draw.integers(0, outsize, n)]


def pixels(n, insize, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, insize)) / 256 - 0.5


def relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("make", [pixels, lambda n, k: batch(n, k)[0]], ids=["pixels", "reals"])
@pytest.mark.parametrize("n", [1, 5, 19, 20])
def test_the_limit_agrees_with_extended_precision(make, n):
    xs = make(n, 20)
    ys = batch(n)[1]
    net = FastNet(20, 5, seed=1)
    w, loss = reference.fast_limit_step(xs, ys, net.w, 0.1, precision="extended")
    report = net.step(xs, ys)
    condition = np.linalg.cond(xs)
    assert relative(net.w, w) <= 100 * EPSILON * condition
    assert report.loss == pytest.approx(loss, rel=1e-13)
    assert report.rank == n
    # The estimate comes from below.
    assert condition / 10 <= report.condition <= 1.01 * condition


def test_the_limit_on_a_real_batch_of_2500_agrees_to_1e10(shared):
    pairs = fast_net.get_pairs(shared / "data" / "cifar10")[0]
    xs = np.concatenate([x for x, _ in pairs[:10]])
    # Few outputs: extended precision takes a second for each.
    ys = np.concatenate([y for _, y in pairs[:10]])[:, :3]
    net = FastNet(3072, 3, seed=2)
    w, _ = reference.fast_limit_step(xs, ys, net.w, 0.1, precision="extended")
    report = net.step(xs, ys)
    assert len(xs) == 2500 and report.condition > 1e4
    assert relative(net.w, w) <= 1e-10


@pytest.mark.parametrize("r", [1e-3, 1e-6, 1e-9])
def test_the_difference_is_the_literal_one_to_its_noise(r):
    xs, ys = batch()
    net = FastNet(20, 5, r=r, seed=3)
    w, _ = reference.fast_step(xs, ys, net.w, 0.1, r)
    start = net.w
    net.step(xs, ys)
    assert not np.array_equal(net.w, start)
    assert relative(net.w, w) <= 4 * EPSILON / r * np.linalg.cond(xs)


def rank_deficient(kind):
    xs = pixels(12, 40, seed=4)
    if kind == "repeated":
        xs[7] = xs[2]
    elif kind == "grey":
        xs = np.tile(pixels(12, 5, seed=4), 3)
    elif kind == "constant":
        xs[:] = 0.25
    elif kind == "tall":
        xs = pixels(50, 10, seed=4)
    elif kind == "zero":
        xs[:] = 0
    return xs


@pytest.mark.parametrize(
    ("kind", "rank"), [("repeated", 11), ("grey", 5), ("constant", 1), ("tall", 10), ("zero", 0)]
)
def test_data_without_full_row_rank_are_reported_and_give_the_pseudo_inverses_step(kind, rank):
    xs = rank_deficient(kind)
    ys = batch(len(xs))[1]
    net = FastNet(xs.shape[1], 5, seed=5)
    start = net.w
    with pytest.warns(fast_net.RankWarning, match=f"{len(xs)} samples has rank {rank} "):
        report = net.step(xs, ys)
    assert (report.route, report.rank) == ("orthogonal", rank)
    # The script's own order of operations in its limit, with a pseudo-inverse that cuts well above
    # rounding and well below the least singular value.
    inverse = np.linalg.pinv(xs, rcond=1e-10)
    a = xs @ start
    h, d = reference.act(a), reference.dact(a)
    delta = xs @ (inverse @ ((h - ys) * d)) / d
    step = inverse @ (reference.dinv_act(ys + delta) * delta)
    assert np.abs(net.w - (start - 0.1 * step)).max() <= 1e-11 * max(np.abs(start).max(), 1)


def test_a_kept_factorisation_gives_the_same_bits_and_says_so():
    xs, ys = batch()
    kept, fresh = FastNet(20, 5, seed=6), FastNet(20, 5, seed=6)
    for k in range(3):
        assert kept.step(xs, ys, batch="a").cached == (k > 0)
        assert not fresh.step(xs, ys).cached
    np.testing.assert_array_equal(kept.w, fresh.w)


@pytest.mark.parametrize("change", ["values", "shape"])
def test_a_name_used_for_other_inputs_is_noticed(change):
    xs, ys = batch()
    other, other_ys = batch(12 if change == "values" else 9, seed=7)
    net, fresh = FastNet(20, 5, seed=8), FastNet(20, 5, seed=8)
    net.step(xs, ys, batch=0)
    assert not net.step(other, other_ys, batch=0).cached
    assert net.step(other, other_ys, batch=0).cached
    for pair in ((xs, ys), (other, other_ys), (other, other_ys)):
        fresh.step(*pair)
    np.testing.assert_array_equal(net.w, fresh.w)


def test_the_cache_keeps_its_budget_and_drops_the_oldest():
    batches = [batch(seed=k) for k in range(3)]
    net = FastNet(20, 5, seed=9)
    net.step(*batches[0], batch=0)
    size = net._factors[0].size
    small = FastNet(20, 5, seed=9, cache_bytes=2 * size)
    for k in (0, 1, 0, 2):
        small.step(*batches[k], batch=k)
    assert [small.step(*batches[k], batch=k).cached for k in (0, 2)] == [True, True]
    assert not small.step(*batches[1], batch=1).cached
    none = FastNet(20, 5, seed=9, cache_bytes=0)
    assert [none.step(*batches[0], batch=0).cached for _ in range(2)] == [False, False]


def test_a_full_newton_step_repeated_fits_every_sample():
    xs, ys = batch(n=15)
    net = FastNet(20, 5, alpha=1.0, seed=10)
    for _ in range(8):
        net.step(xs, ys)
    assert net.loss(xs, ys) <= 1e-24


def test_fit_counts_after_each_epoch_and_warns_of_nothing_on_good_data():
    train = [batch(seed=k) for k in range(4)]
    net = FastNet(20, 5, seed=11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = net.fit(train, train, epochs=3)
    assert [row[0] for row in history.corrects] == [4, 8, 12]
    assert [row[2] for row in history.corrects] == [48] * 3
    assert len(history.errs) == 12


def test_a_failed_step_leaves_the_weights():
    xs, ys = batch()
    net = FastNet(20, 5, seed=12)
    w = net.w
    xs[3, 4] = np.inf
    with pytest.raises((ValueError, FloatingPointError), match="finite"):
        net.step(xs, ys)
    assert net.w is w


def test_pickles_go_on_alike():
    xs, ys = batch()
    net = FastNet(20, 5, seed=13)
    net.step(xs, ys, batch=0)
    twin = pickle.loads(pickle.dumps(net))
    net.step(xs, ys, batch=0)
    twin.step(xs, ys, batch=0)
    np.testing.assert_array_equal(twin.w, net.w)
    assert repr(twin) == "FastNet(20, 5, alpha=0.1, r=None)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"r": 0}, ValueError, "r is 0, expected a positive, finite number"),
        ({"r": "1e-9"}, TypeError, "r is '1e-9', expected a number"),
        ({"tolerance": 1.5}, ValueError, "tolerance is 1.5, expected at least 0"),
        ({"cache_bytes": -1}, ValueError, "cache_bytes is -1, expected an integer"),
        ({"w": np.zeros(3)}, ValueError, r"w has shape \(3,\), expected \(3072, 100\)"),
        ({"insize": 2**31 - 1, "outsize": 10**6}, MemoryError, "this machine has"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        FastNet(**arguments)
