"""SlowNet against the reference, and what its object promises."""

import copy
import pickle
import random

import numpy as np
import pytest

from swiftnets import SlowNet, slow_net
from swiftnets.originals import reference

EPSILON = 2.0**-52
# A step's relative residual is at most of 1e-12. Divided by the damping, 0.1 of a block whose
# eigenvalues are below 100 in these cases, that is an error of the step of 1e-9 at most; the step
# is a tenth of the weights or less.
SOLVED = 1e-10


def batch(n=12, insize=6, outsize=5, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, insize)), np.eye(outsize)[draw.integers(0, outsize, n)]


def relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("method", ["structured", "dense"])
@pytest.mark.parametrize("n", [1, 4, 7, 30])
def test_a_step_is_the_literal_step(method, n):
    xs, ys = batch(n)
    net = SlowNet(6, 7, 5, seed=3)
    w1, w2, loss = reference.slow_step(xs, ys, net.w1, net.w2)
    report = net.step(xs, ys, method=method)
    assert relative(net.w1, w1) <= SOLVED
    assert relative(net.w2, w2) <= SOLVED
    assert abs(report.loss / loss - 1) <= 100 * EPSILON
    assert report.residual == max(report.residuals) <= 1e-12
    assert report.converged and report.method == method
    assert (report.iterations > 0) == (method == "structured")


@pytest.mark.parametrize("divisors", [(100, 150), (50**0.5, 50**0.5)], ids=["initial", "trained"])
def test_a_step_at_the_originals_size_is_the_assembled_step(divisors):
    xs, ys = batch(50, 50, 100)
    draw = np.random.RandomState(1)
    net = SlowNet(w1=draw.randn(50, 50) / divisors[0], w2=draw.randn(50, 100) / divisors[1])
    w1, w2, _ = reference.slow_step(xs, ys, net.w1, net.w2, blocks="assembled")
    net.step(xs, ys)
    assert relative(net.w1, w1) <= SOLVED
    assert relative(net.w2, w2) <= SOLVED


def test_weights_stay_on_the_reference_over_a_hundred_iterations():
    pairs = [batch(9, seed=k) for k in range(10)]
    net = SlowNet(6, 7, 5, alpha=0.2, damping=0.3, seed=4)
    w1, w2 = net.w1, net.w2
    for k in range(100):
        w1, w2, loss = reference.slow_step(*pairs[k % 10], w1, w2, 0.2, 0.3, blocks="assembled")
        assert abs(net.step(*pairs[k % 10]).loss / loss - 1) <= 1e-10
    assert relative(net.w1, w1) <= SOLVED
    assert relative(net.w2, w2) <= SOLVED


def test_loss_predictions_gradients_and_blocks_are_the_references():
    xs, ys = batch()
    net = SlowNet(6, 7, 5, seed=5)
    h2 = reference.act(reference.act(xs @ net.w1) @ net.w2)
    few = 100 * EPSILON  # sums of at most 60 products, a few after another
    assert relative(net.predict(xs), h2) <= few
    assert abs(net.loss(xs, ys) / reference.errfn(h2, ys) - 1) <= few
    gradients = reference.slow_gradient(xs, ys, net.w1, net.w2)
    for ours, theirs in zip(net.gradient(xs, ys), gradients, strict=True):
        assert relative(ours, theirs) <= few
    blocks = reference.slow_hessian_blocks(xs, ys, net.w1, net.w2)
    for layer, theirs in zip((1, 2), blocks, strict=True):
        block = net.hessian_block(xs, layer)
        assert relative(block, theirs) <= few
        # Positive semidefinite, to the rounding of the largest eigenvalue.
        assert np.linalg.eigvalsh(block)[0] >= -few * np.linalg.norm(block)


def test_corrects_counts_the_largest_outputs():
    xs, ys = batch(40)
    net = SlowNet(6, 7, 5, seed=6)
    hits = (net.predict(xs).argmax(axis=1) == ys.argmax(axis=1)).sum()
    assert net.corrects([(xs[:7], ys[:7]), (xs[7:], ys[7:])]) == (hits, 40)


def test_a_seed_draws_what_the_script_draws_in_its_order():
    for w1, w2, shaper in (reference.slow_draws(11),):
        net = SlowNet(seed=11)
        for _ in range(2):
            np.testing.assert_array_equal(net.shaper(), shaper)
        np.testing.assert_array_equal(net.w1, w1)
        np.testing.assert_array_equal(net.w2, w2)
    # Given weights leave the projection as it is.
    np.testing.assert_array_equal(SlowNet(seed=11, w1=2 * w1).shaper(), shaper)


def test_a_net_without_a_seed_tells_the_one_it_took():
    net = SlowNet(6, 7, 5)
    np.testing.assert_array_equal(SlowNet(6, 7, 5, seed=net.seed).w2, net.w2)
    assert str(net.seed) in repr(net)


def test_fit_leaks_test_data_only_where_the_original_is_asked_for():
    train = [batch(4, seed=k) for k in range(60)]
    test = [batch(3, seed=100 + k) for k in range(3)]
    for original in (False, True):
        net = SlowNet(6, 7, 5, seed=6)
        w1, w2 = net.w1, net.w2
        history = net.fit(train, test, original=original)
        for it, pair in enumerate(train):
            error = reference.errfn(reference.act(reference.act(pair[0] @ w1) @ w2), pair[1])
            assert abs(history.errs[it] / error - 1) <= 1e-10
            chosen = test[-1] if original and it % 50 == 0 else pair
            w1, w2, _ = reference.slow_step(*chosen, w1, w2, blocks="assembled")
        assert relative(net.w1, w1) <= SOLVED
        assert relative(net.w2, w2) <= SOLVED
        assert [counts.iteration for counts in history.correct_counts] == [1, 51]
        assert [counts.total for counts in history.correct_counts] == [9, 9]


def test_fit_projects_images_as_project_does():
    images = [batch(4, 20, seed=k) for k in range(5)]
    net, twin = SlowNet(6, 7, 5, seed=6), SlowNet(6, 7, 5, seed=6)
    net.fit(images)
    twin.fit(slow_net.project(images, twin.shaper(20)))
    np.testing.assert_array_equal(net.w1, twin.w1)
    with pytest.raises(ValueError, match=r"shaper has shape \(3,\); expected \(pixels, insize\)"):
        slow_net.project(images, np.zeros(3))
    with pytest.raises(ValueError, match=r"xs of pairs\[0\] has shape .* expected \(n, 19\)"):
        slow_net.project(images, np.zeros((19, 2)))


def test_a_step_never_writes_into_weights_it_gave_out():
    net = SlowNet(6, 7, 5, seed=7)
    before = net.w1, net.w2
    copies = [w.copy() for w in before]
    net.step(*batch())
    for w, kept, now in zip(before, copies, (net.w1, net.w2), strict=True):
        np.testing.assert_array_equal(w, kept)
        assert now is not w


def test_assigned_weights_are_copies():
    net, w1 = SlowNet(6, 7, 5, seed=7), np.ones((6, 7))
    net.w1 = w1
    w1[0, 0] = 5
    assert (net.w1 == 1).all()
    net.w1 = [[1] * 7] * 6
    assert net.w1.dtype == np.float64


def test_copies_and_pickles_go_on_alike():
    net = SlowNet(6, 7, 5, alpha=0.2, damping=0.3, seed=8)
    net.step(*batch())
    twins = [copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    net.step(*batch())
    for twin in twins:
        assert repr(twin) == repr(net) == "SlowNet(6, 7, 5, alpha=0.2, damping=0.3, seed=8)"
        twin.step(*batch())
        np.testing.assert_array_equal(twin.w1, net.w1)
        np.testing.assert_array_equal(twin.shaper(9), net.shaper(9))


def test_a_pickle_that_names_the_net_by_its_program_is_read():
    net = SlowNet(6, 7, 5, seed=8)
    pickled = pickle.dumps(net, protocol=2)
    renamed = pickled.replace(b"cswiftnets.originals.slow\n", b"cswiftnets.slow_net\n")
    assert renamed != pickled
    twin = pickle.loads(renamed)
    assert type(twin) is SlowNet
    np.testing.assert_array_equal(twin.w1, net.w1)


@pytest.mark.thread_unsafe(reason="Python's own generator, which the script draws from")
def test_the_scripts_functions_are_the_references():
    values = np.linspace(-2, 2, 9)
    for name in ("act", "dact", "inv_act"):
        ours, theirs = getattr(slow_net, name), getattr(reference, name)
        np.testing.assert_array_equal(ours(values), theirs(values))
    np.testing.assert_array_equal(slow_net.inv_act(slow_net.act(values)), values)
    assert slow_net.errfn(values, values + 1) == 4.5
    with pytest.raises(ValueError, match=r"ys has shape \(9,\); expected that of h, \(9, 1\)"):
        slow_net.errfn(values[:, None], values)
    random.seed(3)
    ours = slow_net.rand_onehots((20, 7))
    random.seed(3)
    np.testing.assert_array_equal(ours, reference.rand_onehots((20, 7)))


def test_batches_are_the_scripts(made_data):
    data = made_data(2000, 500, 5)
    ours, theirs = slow_net.get_pairs(data), reference.slow_pairs(data)
    assert [len(part) for part in ours] == [1000, 500]
    for part, expected in zip(ours, theirs, strict=True):
        for pair, other in zip(part, expected, strict=True):
            np.testing.assert_array_equal(pair[0], other[0])
            np.testing.assert_array_equal(pair[1], other[1])
    with pytest.raises(ValueError, match="data has 1500 train images; expected a multiple of 1000"):
        slow_net.get_pairs(made_data(1500, 500, 5))


def test_the_dense_method_raises_where_rounding_leaves_no_digit_of_its_step():
    """H is 1e16 along (1, 1), ¼ along (1, −1) and the gradient: its eigenvectors know nothing of
    that. In 40 digits the step is (−1.43, 1.43); the eigendecomposition makes it (−5, 5)."""
    xs, ys = np.array([[1e8 + 1, 1e8 - 1], [1e8 + 2, 1e8 - 2]]), np.array([[1.0], [-1.0]])
    net = SlowNet(2, 2, 1, w1=np.eye(2), w2=np.zeros((2, 1)), alpha=1.0)
    before = net.w2
    for method in ("dense", "structured"):
        with pytest.raises(ArithmeticError):
            net.step(xs, ys, method)
        assert net.w2 is before


@pytest.mark.parametrize("method", ["structured", "dense"])
@pytest.mark.parametrize("scale", [1e-100, 1e-170, 1e-300])
def test_residuals_of_tiny_gradients_are_those_of_the_step(scale, method):
    """The layer is 0, so that its new weights are −s to the last bit; its block is nothing beside
    the damping, so that s is the gradient over it."""
    random = np.random.default_rng(0)
    xs, ys = random.normal(size=(6, 4)), np.eye(3)[random.integers(0, 3, 6)]
    w1, w2 = random.normal(size=(4, 5)), random.normal(size=(5, 3))
    for layer, start in enumerate(((0 * w1, scale * w2), (scale * w1, 0 * w2))):
        net = SlowNet(4, 5, 3, w1=start[0], w2=start[1], alpha=1.0, damping=0.5)
        gradient = net.gradient(xs, ys)[layer]
        reported = net.step(xs, ys, method).residuals[layer]
        step = -(net.w1, net.w2)[layer]
        assert abs(step).max() > 0
        np.testing.assert_allclose(step, 2 * gradient, rtol=0, atol=1e-12 * abs(step).max())
        exact = np.linalg.norm((0.5 * step - gradient) / scale) / np.linalg.norm(gradient / scale)
        # Known to the rounding of 20 entries.
        assert reported == pytest.approx(exact, rel=1e-3, abs=20 * np.finfo(float).eps)
