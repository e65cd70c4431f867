"""The reference against the recorded runs of the originals, and against exact arithmetic."""

from __future__ import annotations

import random
from itertools import islice
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import recordings

from swiftnets.originals import reference

EPS = np.finfo(np.float64).eps
R = 1e-9


def small_net(seed, n=7, insize=4, hidsize=3, outsize=5):
    draw = np.random.RandomState(seed)
    xs, w1, w2 = draw.randn(n, insize), draw.randn(insize, hidsize), draw.randn(hidsize, outsize)
    ys = reference.labels_to_onehots(draw.randint(0, outsize, n), outsize)
    return xs, ys, w1, w2


def some_images(train, test, seed=0, pixels=48):
    draw = np.random.RandomState(seed)
    return SimpleNamespace(
        train_images=draw.randint(0, 256, (train, pixels)).astype(np.uint8),
        train_labels=draw.randint(0, 100, train),
        test_images=draw.randint(0, 256, (test, pixels)).astype(np.uint8),
        test_labels=draw.randint(0, 100, test),
    )


def some_pairs(batches, size, pixels, outsize=6, seed=0):
    draw = np.random.RandomState(seed)
    return [
        (
            draw.randint(0, 256, (size, pixels)) / 256 - 0.5,
            reference.labels_to_onehots(draw.randint(0, outsize, size), outsize),
        )
        for _ in range(batches)
    ]


def relative(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.fixture
def made2(tmp_path):
    folder = tmp_path / "made2"
    recordings.write_images(folder, 1000, 500, 2)
    return folder


def differences(lines, recorded, names):
    """Largest relative difference of errors, and of the weights where they were recorded."""
    errors, weights, correct = 0.0, 0.0, []
    for line in lines:
        errors = max(errors, relative(line.error, recorded["errs"][line.iteration]))
        if line.correct is not None:
            correct.append(line.correct)
        for name, ours in zip(names, line.weights, strict=True):
            if f"{name}@{line.iteration}" in recorded:
                theirs = recorded[f"{name}@{line.iteration}"]
                weights = max(weights, relative(recordings.as_recorded(ours), theirs))
    return errors, weights, correct


# What both share


def test_inv_act_undoes_act_and_the_slopes_are_reciprocal():
    net = np.array([-3.0, -1e-300, 0.0, 1e-300, 2.5])
    assert np.array_equal(reference.inv_act(reference.act(net)), net)
    assert np.array_equal(reference.dact(net), [0.5, 0.5, 0.5, 1.0, 1.0])
    assert np.array_equal(reference.dact(net) * reference.dinv_act(reference.act(net)), np.ones(5))


def test_rand_onehots_draws_one_randint_a_row_from_pythons_generator():
    random.seed(5)
    columns = [random.randint(0, 99) for _ in range(20)]
    random.seed(5)
    assert np.array_equal(
        reference.rand_onehots((20, 100)), reference.labels_to_onehots(columns, 100)
    )


@pytest.mark.parametrize("label", [-1, 100])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(ValueError, match=rf"labels has values from .*{label}.*expected 0 to 99"):
        reference.labels_to_onehots([3, label, 4])


def test_slow_batches_are_equal_and_in_file_order():
    images = some_images(2000, 1000)
    train, test = reference.slow_pairs(images)
    assert [xs.shape for xs, _ in train] == [(2, 48)] * 1000
    assert [ys.shape for _, ys in test] == [(2, 100)] * 500
    assert np.array_equal(np.concatenate([xs for xs, _ in train]), images.train_images / 256 - 0.5)
    assert np.array_equal(np.concatenate([ys for _, ys in test]).argmax(axis=1), images.test_labels)


def test_fast_batches_may_differ_by_one():
    train, test = reference.fast_pairs(some_images(50, 500))
    assert [len(xs) for xs, _ in train] == [3] * 10 + [2] * 10
    assert len(test) == 500


@pytest.mark.parametrize(
    "pairs, train, test, name",
    [
        (reference.slow_pairs, 1500, 500, "train_images has 1500"),
        (reference.slow_pairs, 1000, 501, "test_images has 501"),
        (reference.fast_pairs, 40, 499, "test_images has 499"),
    ],
)
def test_images_that_cannot_be_divided_are_refused(pairs, train, test, name):
    with pytest.raises(ValueError, match=name):
        pairs(some_images(train, test))


# slow_net


@pytest.mark.parametrize("seed", range(5))
def test_the_r_pass_is_the_difference_of_gradients(seed):
    # Along w1 or w2 alone the error is quadratic wherever no activation changes sign, so the
    # central difference is exact for any step that short, but for the rounding of its terms.
    xs, ys, w1, w2 = small_net(seed)
    draw = np.random.RandomState(seed + 100)
    t = 1e-6
    for which in (0, 1):
        v1 = draw.randn(*w1.shape) * (which == 0)
        v2 = draw.randn(*w2.shape) * (which == 1)
        ahead = reference.slow_gradient(xs, ys, w1 + t * v1, w2 + t * v2)
        behind = reference.slow_gradient(xs, ys, w1 - t * v1, w2 - t * v2)
        product = reference.slow_r_pass(xs, ys, w1, w2, v1, v2)
        noise = 20 * EPS / t * max(np.abs(g).max() for g in ahead)
        for k in (0, 1):
            assert np.abs((ahead[k] - behind[k]) / (2 * t) - product[k]).max() <= noise


@pytest.mark.parametrize("seed", range(5))
def test_assembled_blocks_are_the_literal_ones(seed):
    xs, ys, w1, w2 = small_net(seed)
    literal1, literal2 = reference.slow_hessian_blocks(xs, ys, w1, w2)
    block1, parts2 = reference.slow_assembled_blocks(xs, w1, w2)
    block2 = np.zeros((3, 5, 3, 5))
    for o in range(5):
        block2[:, o, :, o] = parts2[o]
    assert relative(block1, literal1) <= 50 * EPS
    assert relative(block2.reshape(15, 15), literal2) <= 50 * EPS


@pytest.mark.parametrize("seed", range(5))
def test_both_blocks_are_positive_semidefinite(seed):
    for block in reference.slow_hessian_blocks(*small_net(seed)):
        values = np.linalg.eigvalsh(block)
        assert values[0] >= -len(block) * EPS * values[-1]


@pytest.mark.parametrize("seed", range(5))
def test_the_saddle_free_step_is_a_damped_solve(seed):
    xs, ys, w1, w2 = small_net(seed)
    literal = reference.slow_step(xs, ys, w1, w2)
    assembled = reference.slow_step(xs, ys, w1, w2, blocks="assembled")
    assert literal[2] == assembled[2]
    for k, block in enumerate(reference.slow_hessian_blocks(xs, ys, w1, w2)):
        condition = np.linalg.norm(block, 2) / 0.1 + 1
        assert relative(assembled[k], literal[k]) <= 20 * EPS * condition


def test_a_step_leaves_its_arguments_alone():
    arguments = small_net(0)
    copies = [a.copy() for a in arguments]
    reference.slow_step(*arguments)
    assert all(np.array_equal(a, b) for a, b in zip(arguments, copies, strict=True))


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="blocks is 'dense'"):
        reference.slow_step(*small_net(0), blocks="dense")
    pairs = some_pairs(1, 2, 8)
    with pytest.raises(ValueError, match="method is 'exact'"):
        next(reference.fast_run(pairs, pairs, 1, 0, method="exact"))
    with pytest.raises(ValueError, match="precision is 'single'"):
        reference.fast_limit_step(*pairs[0], np.zeros((8, 6)), precision="single")


def test_the_seed_draws_what_the_global_generator_would():
    state = np.random.get_state()
    try:
        np.random.seed(9)
        w1, w2 = np.random.randn(5, 4) / 9, np.random.randn(4, 6) / 10
        shaper = np.random.randn(48, 5) / np.sqrt(48)
    finally:
        np.random.set_state(state)
    ours = reference.slow_draws(9, 5, 4, 6, 48)
    assert all(np.array_equal(a, b) for a, b in zip(ours, (w1, w2, shaper), strict=True))


def test_the_leak_steps_on_the_last_test_batch_every_fifty_iterations():
    train, test = some_pairs(60, 3, 12), some_pairs(4, 2, 12, seed=1)
    sizes = dict(seed=3, insize=4, hidsize=3, blocks="assembled")
    leaky = list(reference.slow_run(train, test, 121, **sizes))
    shaper = reference.slow_draws(3, 4, 3, 6, 12)[2]
    counted = [line.iteration for line in leaky if line.correct is not None]
    assert counted == [0, 50, 60, 110, 120]
    for line, after in zip(leaky, leaky[1:], strict=False):
        xs, ys = test[-1] if line.iteration in counted else train[line.iteration % 60]
        expected = reference.slow_step(xs @ shaper, ys, *line.weights, blocks="assembled")
        assert np.array_equal(after.weights[0], expected[0])
        assert np.array_equal(after.weights[1], expected[1])
    honest = list(reference.slow_run(train, test, 1, original=False, **sizes))
    xs, ys = train[0]
    expected = reference.slow_step(xs @ shaper, ys, *honest[0].weights, blocks="assembled")
    assert honest[0].error == leaky[0].error
    assert np.array_equal(honest[1].weights[0], expected[0])


def test_slow_run_reproduces_three_epochs_of_the_original(made2):
    recorded = recordings.load("slow_8-6-100_made2_seed16")
    lines = reference.slow_run(
        *reference.slow_pairs(made2), 2000, 16, insize=8, hidsize=6, blocks="assembled"
    )
    errors, weights, correct = differences(lines, recorded, ("w1", "w2"))
    assert errors <= 1e-10
    assert weights <= 1e-10
    # The recording stops at the last `it:` line, before its count.
    assert correct[:-1] == recorded["corrects"][:, 1].tolist()


def test_the_literal_slow_run_reproduces_the_original(made2):
    recorded = recordings.load("slow_8-6-100_made2_seed16")
    lines = reference.slow_run(*reference.slow_pairs(made2), 51, 16, insize=8, hidsize=6)
    errors, weights, correct = differences(lines, recorded, ("w1", "w2"))
    assert errors <= 1e-10
    assert weights <= 1e-10
    assert correct == recorded["corrects"][:2, 1].tolist()


def test_slow_run_reproduces_the_original_at_full_size_on_real_images(shared):
    recorded = recordings.load("slow_cifar10_seed13")
    pairs = reference.slow_pairs(shared / "data" / "cifar10")
    lines = reference.slow_run(*pairs, 10, 13, blocks="assembled")
    errors, weights, correct = differences(lines, recorded, ("w1", "w2"))
    assert errors <= 1e-10
    assert weights <= 1e-10
    assert correct == recorded["corrects"][:, 1].tolist()


# fast_net


def exact_limit(xs, ys, w, alpha=0.1, r=None):
    """One step in 60 digits; `xs` may repeat its first rows at the end, and has no other relation.

    With r, the finite difference as the script has it; without, the formula of its limit.
    """
    with mpmath.workdps(60):
        rank = np.linalg.matrix_rank(xs)
        x, basis = mpmath.matrix(xs.tolist()), mpmath.matrix(xs[:rank].tolist())
        # x = left * basis, both of full rank: pinv(x) = pinv(basis) * pinv(left).
        left = x * basis.T * mpmath.inverse(basis * basis.T)
        inverse = basis.T * mpmath.inverse(basis * basis.T)
        inverse = inverse * mpmath.inverse(left.T * left) * left.T
        rows, outs = ys.shape

        def each(f, *matrices):
            result = mpmath.matrix(rows, outs)
            for i in range(rows):
                for j in range(outs):
                    result[i, j] = f(*(m[i, j] for m in matrices))
            return result

        y, weights = mpmath.matrix(ys.tolist()), mpmath.matrix(w.tolist())
        net = x * weights
        h = each(lambda a: a if a > 0 else a / 2, net)
        d = each(lambda a: mpmath.mpf(1) if a > 0 else mpmath.mpf("0.5"), net)
        gradient = x.T * each(lambda a, b, c: (a - b) * c, h, y, d)
        dh = each(lambda a, b: a / b, inverse.T * gradient, d)
        alpha = mpmath.mpf(alpha)
        if r is None:
            step = each(lambda a, b: b if a + b > 0 else 2 * b, y, dh)
        else:
            back = [
                each(lambda a, b, s=s: a + s * b if a + s * b > 0 else 2 * (a + s * b), y, dh)
                for s in (1 + r / 2, 1 - r / 2)
            ]
            step = (back[0] - back[1]) / r
        new = weights - alpha * (inverse * step)
        return np.array(new.tolist(), dtype=np.float64)


def small_perceptron(seed, n=4, insize=9, outsize=3):
    draw = np.random.RandomState(seed)
    xs = draw.randint(0, 256, (n, insize)) / 256 - 0.5
    return (
        xs,
        reference.labels_to_onehots(draw.randint(0, outsize, n), outsize),
        draw.randn(insize, outsize),
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_extended_limit_is_the_limit_in_sixty_digits(seed):
    xs, ys, w = small_perceptron(seed)
    exact = exact_limit(xs, ys, w)
    ours, _ = reference.fast_limit_step(xs, ys, w, precision="extended")
    assert relative(ours, exact) <= EPS
    assert relative(exact_limit(xs, ys, w, r=mpmath.mpf(10) ** -20), exact) <= EPS


@pytest.mark.parametrize("seed", range(4))
def test_repeated_images_keep_the_limit_through_the_projector(seed):
    xs, ys, w = small_perceptron(seed)
    ys = np.concatenate([ys, np.roll(ys[:2], 1, axis=1)])  # same image, another label
    xs = np.concatenate([xs, xs[:2]])
    exact = exact_limit(xs, ys, w)
    assert relative(exact_limit(xs, ys, w, r=mpmath.mpf(10) ** -20), exact) <= EPS
    rank, condition = reference.rank_and_condition(xs)
    assert rank == 4
    ours, _ = reference.fast_limit_step(xs, ys, w, precision="extended")
    assert relative(ours, exact) <= EPS
    ours, _ = reference.fast_limit_step(xs, ys, w)
    assert relative(ours, exact) <= 20 * EPS * condition**2


def test_more_images_than_pixels_keep_the_limit():
    draw = np.random.RandomState(3)
    xs = draw.randint(0, 256, (7, 5)) / 256 - 0.5
    ys = reference.labels_to_onehots(draw.randint(0, 3, 7), 3)
    w = draw.randn(5, 3)
    with mpmath.workdps(60):
        exact = exact_limit(xs, ys, w)
    ours, _ = reference.fast_limit_step(xs, ys, w, precision="extended")
    assert relative(ours, exact) <= EPS


def test_images_of_zeros_change_nothing():
    w = np.random.RandomState(0).randn(8, 3)
    xs, ys = np.zeros((2, 8)), np.eye(3)[:2]
    for precision in ("double", "extended"):
        ours, loss = reference.fast_limit_step(xs, ys, w, precision=precision)
        assert np.array_equal(ours, w)
        assert loss == 1.0


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
def test_rank_and_condition_find_a_prescribed_spectrum(condition):
    draw = np.random.RandomState(1)
    left, right = np.linalg.qr(draw.randn(6, 6))[0], np.linalg.qr(draw.randn(20, 6))[0]
    values = np.geomspace(1.0, 1.0 / condition, 6)
    rank, found = reference.rank_and_condition(left * values @ right.T)
    assert rank == 6
    # The Gram matrix squares the condition, and its rounding with it.
    assert found == pytest.approx(condition, rel=20 * EPS * condition**2 + 20 * EPS)
    rank, found = reference.rank_and_condition(left[:, :5] * values[:5] @ right.T[:5])
    assert rank == 5


def test_the_quotient_tends_to_the_limit():
    xs, ys, w = small_perceptron(1)
    limit, loss = reference.fast_limit_step(xs, ys, w, precision="extended")
    condition = reference.rank_and_condition(xs)[1]
    for r in (1e-5, 1e-7, 1e-9):
        ours, same = reference.fast_step(xs, ys, w, r=r)
        assert relative(ours, limit) <= 4 * EPS / r * condition
        assert same == pytest.approx(loss, rel=20 * EPS)


def test_fast_run_counts_after_each_epoch():
    train, test = some_pairs(3, 2, 12), some_pairs(4, 2, 12, seed=1)
    lines = list(reference.fast_run(train, test, 7, 5, method="limit"))
    assert [line.iteration for line in lines if line.correct is not None] == [3, 6]
    hits = sum(
        int((xs @ lines[3].weights[0]).argmax(axis=1)[k] == ys[k].argmax())
        for xs, ys in test
        for k in range(len(xs))
    )
    assert lines[3].correct == hits


def test_the_literal_fast_run_reproduces_the_original(made2):
    recorded = recordings.load("fast_made2_seed15")
    train, test = reference.fast_pairs(made2)
    condition = max(reference.rank_and_condition(xs)[1] for xs, _ in train)
    lines = reference.fast_run(train, test, 41, 15)
    errors, weights, correct = differences(lines, recorded, ("w",))
    assert errors <= 1e-6
    # Either run's quotients are as far from the limit as those above, by rounding of its machine.
    assert weights <= 2 * 4 * EPS / R * condition
    assert correct == recorded["corrects"][:2, 1].tolist()


def test_the_limit_follows_all_lines_of_the_original_within_its_noise(made2):
    recorded = recordings.load("fast_made2_seed15")
    train, test = reference.fast_pairs(made2)
    condition = max(reference.rank_and_condition(xs)[1] for xs, _ in train)
    lines = reference.fast_run(train, test, 199, 15, method="limit")
    errors, weights, _ = differences(lines, recorded, ("w",))
    assert errors <= 1e-6
    # Two evaluations round by eps/2 * condition; two inverse slopes of up to 2 multiply that.
    assert weights <= 4 * EPS / R * condition


def test_the_limit_agrees_with_itself_in_extended_precision_on_real_images(shared):
    pairs = reference.fast_pairs(shared / "data" / "cifar10")
    double = islice(reference.fast_run(*pairs, 2, 14, method="limit"), 3)
    extended = reference.fast_run(*pairs, 2, 14, method="extended")
    for ours, truth in zip(double, extended, strict=True):
        assert relative(ours.error, truth.error) <= 1e-10
        assert relative(ours.weights[0], truth.weights[0]) <= 1e-10


def test_labels_that_are_no_integers_are_not_rounded():
    with pytest.raises(TypeError, match="labels has dtype float64; expected integers"):
        reference.labels_to_onehots([0.5])
    assert reference.labels_to_onehots([]).shape == (0, 100)
