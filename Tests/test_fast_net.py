"""FastNet against the reference, its kept factorisations, and data without full row rank."""

import copy
import pickle
import warnings

import numpy as np
import pytest

from swiftnets import FastNet, fast_net
from swiftnets.originals import reference

EPSILON = 2.0**-52


def batch(n=12, insize=20, outsize=5, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, insize)), np.eye(outsize)[draw.integers(0, outsize, n)]


def pixels(n, insize, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, insize)) / 256 - 0.5


def relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def needed_bytes(pair):
    """What `cache_bytes` must be for the factorisation of one batch."""
    net = FastNet(20, 5, seed=0)
    net.step(*pair, batch=0)
    return net.cached_bytes


@pytest.mark.parametrize("kind", ["pixels", "reals"])
@pytest.mark.parametrize("n", [1, 5, 19, 20])
def test_the_limit_agrees_with_extended_precision(kind, n):
    xs, ys = batch(n)
    if kind == "pixels":
        xs = pixels(n, 20)
    net = FastNet(20, 5, seed=1)
    w, loss = reference.fast_limit_step(xs, ys, net.w, 0.1, precision="extended")
    report = net.step(xs, ys)
    condition = np.linalg.cond(xs)
    assert relative(net.w, w) <= 100 * EPSILON * condition
    assert abs(report.loss / loss - 1) <= 100 * EPSILON
    assert (report.rank, report.full_rank, report.pixels) == (n, True, kind == "pixels")
    # An estimate from below.
    assert condition / 10 <= report.condition <= 1.01 * condition


def test_the_limit_on_real_batches_of_2500_agrees_to_1e_10(shared):
    pairs = fast_net.get_pairs(shared / "data" / "cifar10")[0][:10]
    xs, ys = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    net = FastNet(seed=2)
    w, _ = reference.fast_limit_step(xs, ys, net.w, 0.1, precision="extended")
    report = net.step(xs, ys)
    assert len(xs) == 2500 and report.condition > 1e4
    assert relative(net.w, w) <= 1e-10


@pytest.mark.parametrize("r", [1e-3, 1e-6, 1e-9])
def test_the_difference_is_the_literal_one_to_its_noise(r):
    xs, ys = batch()
    net = FastNet(20, 5, r=r, seed=3)
    start = net.w
    w, _ = reference.fast_step(xs, ys, start, 0.1, r)
    net.step(xs, ys)
    assert not np.array_equal(net.w, start)
    # Both sides carry the noise.
    assert relative(net.w, w) <= 2 * EPSILON / r * np.linalg.cond(xs) + 100 * EPSILON


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
    with pytest.warns(fast_net.RankWarning, match=f"'some' has {len(xs)} rows and rank {rank} "):
        report = net.step(xs, ys, batch="some")
    assert (report.route, report.rank, report.full_rank) == ("orthogonal", rank, False)
    # The script's order of operations in its limit, by a pseudo-inverse that cuts well above
    # rounding and well below the least singular value.
    inverse = np.linalg.pinv(xs, rcond=1e-10)
    net1 = xs @ start
    h, d = reference.act(net1), reference.dact(net1)
    dh = xs @ (inverse @ ((h - ys) * d)) / d
    step = inverse @ (reference.dinv_act(ys + dh) * dh)
    # A right-hand side at a kink (0 + rounding) may fall on either side of it, so this is compared
    # relative to the inverse's size.
    size = max(np.abs(start).max(), np.linalg.norm(inverse, 2))
    assert np.abs(net.w - (start - 0.1 * step)).max() <= 1e-11 * size


def test_a_batch_warns_once_even_when_its_factorisation_is_not_kept():
    xs, ys = rank_deficient("repeated"), batch()[1]
    net = FastNet(40, 5, seed=1, cache_bytes=0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            assert not net.step(xs, ys, batch="doubled").full_rank
    assert [warning.category for warning in seen] == [fast_net.RankWarning]


def test_a_kept_factorisation_gives_the_same_bits_and_says_so():
    xs, ys = batch()
    kept, fresh = FastNet(20, 5, seed=6), FastNet(20, 5, seed=6)
    for k in range(3):
        assert kept.step(xs, ys, batch="a").cached == (k > 0)
        assert not fresh.step(xs, ys).cached
    np.testing.assert_array_equal(kept.w, fresh.w)


@pytest.mark.parametrize("kind", ["pixels", "reals", "deficient", "tall"])
def test_inputs_under_a_name_that_change_in_one_bit_are_factorised_anew(kind):
    xs, ys = batch(30 if kind == "tall" else 12)
    if kind == "pixels":
        xs = pixels(12, 20)
    if kind == "deficient":
        xs[3] = xs[4]
    bit, far, signs = xs.copy(), xs.copy(), xs.copy()
    bit[5, 7] = np.nextafter(bit[5, 7], 9)
    far[-1, -1] += 1e-9
    signs[[0, 1]] *= -1
    net, fresh = FastNet(20, 5, seed=8), FastNet(20, 5, seed=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fast_net.RankWarning)
        for other in (xs, bit, far, signs, signs[::-1]):
            assert not net.step(other, ys, batch="a").cached
            assert net.step(other.copy(), ys, batch="a").cached
            for _ in range(2):
                fresh.step(other, ys)
            np.testing.assert_array_equal(net.w, fresh.w)


@pytest.mark.parametrize("kind", ["pixels", "reals"])
def test_the_reported_residual_is_that_of_the_step_taken(kind):
    xs, ys = batch()
    if kind == "pixels":
        xs = pixels(12, 20)
    net = FastNet(20, 5, alpha=1.0, w=np.zeros((20, 5)))  # so that w is −s to the last bit
    reported = net.step(xs, ys).residual
    # At h = 0 the inverse slope is 2, the right-hand side −2 ys.
    exact = (2 * ys - xs.astype(np.longdouble) @ net.w.astype(np.longdouble)).astype(float)
    exact = np.linalg.norm(exact) / np.linalg.norm(2 * ys)
    # float64 knows it to the rounding of xs @ s, a sum of 20 products.
    rounding = 20 * EPSILON * np.linalg.norm(xs) * np.linalg.norm(net.w) / np.linalg.norm(2 * ys)
    assert abs(reported - exact) <= rounding
    assert reported >= exact / 4 > 0


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


def test_the_cache_keeps_its_budget_and_drops_what_is_unused_for_longest():
    pairs = [batch(seed=k) for k in range(3)]
    size = needed_bytes(pairs[0])
    net = FastNet(20, 5, seed=9, cache_bytes=2 * size)
    for k in (0, 1, 0, 2):
        net.step(*pairs[k], batch=k)
        assert net.cached_bytes <= 2 * size
    assert [net.step(*pairs[k], batch=k).cached for k in (0, 2)] == [True, True]
    assert not net.step(*pairs[1], batch=1).cached
    net.cache_bytes = size
    assert net.cached_bytes == size
    net.cache_bytes = 0
    assert [net.step(*pairs[0], batch=0).cached for _ in range(2)] == [False, False]


def test_a_fit_on_more_batches_than_fit_keeps_those_it_can():
    train = [batch(seed=k) for k in range(5)]
    net, seen = FastNet(20, 5, seed=1, cache_bytes=3 * needed_bytes(train[0])), []
    net.step(*train[0], batch="of the user")  # gives way to the fit
    net.fit(train, epochs=3, callback=lambda event: seen.append(event.report.cached))
    assert seen == [False] * 5 + 2 * ([True] * 3 + [False] * 2)


def test_full_newton_steps_fit_every_sample():
    xs, ys = batch(n=15)
    net = FastNet(20, 5, alpha=1.0, seed=10)
    for _ in range(8):
        net.step(xs, ys)
    assert net.loss(xs, ys) <= (100 * EPSILON * np.linalg.cond(xs)) ** 2 * xs.size


def test_fit_counts_after_each_epoch_and_warns_of_nothing_on_good_data():
    train = [batch(seed=k) for k in range(4)]
    net = FastNet(20, 5, seed=11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = net.fit(train, train, epochs=3)
    assert [counts.iteration for counts in history.correct_counts] == [4, 8, 12]
    assert history.correct_counts[-1][1:] == net.corrects(train)
    assert history.errs.shape == history.seconds.shape == (12,)


def test_the_originals_quirk_is_its_finite_difference():
    train = [batch(seed=k) for k in range(3)]
    quirk, literal, limit = (FastNet(20, 5, seed=11, r=r) for r in (None, 1e-9, None))
    quirk.fit(train, original=True)
    literal.fit(train)
    limit.fit(train)
    np.testing.assert_array_equal(quirk.w, literal.w)
    assert not np.array_equal(quirk.w, limit.w)
    assert quirk.r is None


def test_copies_and_pickles_go_on_alike_without_factorisations():
    xs, ys = batch()
    net = FastNet(20, 5, seed=13)
    net.step(xs, ys, batch=0)
    twins = [copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    net.step(xs, ys, batch=0)
    for twin in twins:
        assert twin.cached_bytes == 0
        twin.step(xs, ys, batch=0)
        np.testing.assert_array_equal(twin.w, net.w)
        assert repr(twin) == "FastNet(20, 5, alpha=0.1, r=None, seed=13)"


def test_a_seed_draws_what_the_script_draws():
    np.testing.assert_array_equal(FastNet(seed=4).w, reference.fast_draws(4))


def test_batches_are_the_scripts(made_data):
    data = made_data(1007, 500, 5)
    ours, theirs = fast_net.get_pairs(data), reference.fast_pairs(data)
    assert {len(xs) for xs, _ in ours[0]} == {50, 51}
    for part, expected in zip(ours, theirs, strict=True):
        for pair, other in zip(part, expected, strict=True):
            np.testing.assert_array_equal(pair[0], other[0])
            np.testing.assert_array_equal(pair[1], other[1])
    with pytest.raises(ValueError, match="data has 750 test images; expected a multiple of 500"):
        fast_net.get_pairs(made_data(1000, 750, 5))
