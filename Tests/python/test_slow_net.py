"""SlowNet against the reference, and its behaviour as an object."""

import copy
import pickle
import threading

import numpy as np
import pytest

from swiftnets import ConvergenceError, SlowNet, reference, slow_net


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
    # A relative residual of 1e-12 times a condition number of at most 1e3 here, times alpha.
    assert relative(net.w1, w1) <= 1e-10
    assert relative(net.w2, w2) <= 1e-10
    assert report.loss == pytest.approx(loss, rel=1e-13)
    assert report.residual <= 1e-12
    assert report.method == method
    assert (report.iterations > 0) == (method == "structured")


@pytest.mark.parametrize("scale", ["initial", "trained"])
def test_a_step_at_the_originals_size_is_the_assembled_step(scale):
    xs, ys = batch(50, 50, 100)
    draw = np.random.RandomState(1)
    divisors = (100, 150) if scale == "initial" else (50**0.5, 50**0.5)
    net = SlowNet(w1=draw.randn(50, 50) / divisors[0], w2=draw.randn(50, 100) / divisors[1])
    w1, w2, _ = reference.slow_step(xs, ys, net.w1, net.w2, blocks="assembled")
    net.step(xs, ys)
    assert relative(net.w1, w1) <= 1e-10
    assert relative(net.w2, w2) <= 1e-10


def test_weights_stay_on_the_reference_over_a_hundred_iterations():
    pairs = [batch(9, 6, 5, seed=k) for k in range(10)]
    net = SlowNet(6, 7, 5, seed=4)
    w1, w2 = net.w1, net.w2
    for k in range(100):
        w1, w2, loss = reference.slow_step(*pairs[k % 10], w1, w2, blocks="assembled")
        assert net.step(*pairs[k % 10]).loss == pytest.approx(loss, rel=1e-10)
    assert relative(net.w1, w1) <= 1e-10
    assert relative(net.w2, w2) <= 1e-10


def test_loss_prediction_gradient_and_blocks_are_the_references():
    xs, ys = batch()
    net = SlowNet(6, 7, 5, seed=5)
    h2 = reference.act(reference.act(xs @ net.w1) @ net.w2)
    assert relative(net.predict(xs), h2) <= 1e-14
    assert net.loss(xs, ys) == pytest.approx(reference.errfn(h2, ys), rel=1e-14)
    for ours, theirs in zip(
        net.gradient(xs, ys), reference.slow_gradient(xs, ys, net.w1, net.w2), strict=True
    ):
        assert relative(ours, theirs) <= 1e-13
    blocks = reference.slow_hessian_blocks(xs, ys, net.w1, net.w2)
    for layer, theirs in zip((1, 2), blocks, strict=True):
        block = net.hessian_block(xs, layer)
        assert relative(block, theirs) <= 1e-13
        # Positive semidefinite, to the rounding of its largest eigenvalue.
        assert np.linalg.eigvalsh(block)[0] >= -1e-14 * np.abs(block).sum(axis=1).max()


def test_a_seed_draws_what_the_script_draws():
    net = SlowNet(seed=11)
    w1, w2, shaper = reference.slow_draws(11)
    np.testing.assert_array_equal(net.w1, w1)
    np.testing.assert_array_equal(net.w2, w2)
    np.testing.assert_array_equal(net.project(np.eye(3072)[:5]), (np.eye(3072) @ shaper)[:5])


def test_fit_leaks_test_data_only_where_the_original_is_asked_for():
    train = [batch(4, seed=k) for k in range(60)]
    test = [batch(4, seed=100 + k) for k in range(3)]
    runs = {}
    for original in (False, True):
        net = SlowNet(6, 7, 5, seed=6)
        history = net.fit(train, test, original=original)
        runs[original] = net
        assert [row[0] for row in history.corrects] == [1, 51]
    w1, w2 = SlowNet(6, 7, 5, seed=6).w1, SlowNet(6, 7, 5, seed=6).w2
    for original in (False, True):
        a, b = w1, w2
        for it, pair in enumerate(train):
            chosen = test[-1] if original and it % 50 == 0 else pair
            a, b, _ = reference.slow_step(*chosen, a, b, blocks="assembled")
        assert relative(runs[original].w1, a) <= 1e-10
        assert relative(runs[original].w2, b) <= 1e-10


def test_a_step_never_writes_into_weights_it_gave_out():
    xs, ys = batch()
    net = SlowNet(6, 7, 5, seed=7)
    w1 = net.w1
    before = w1.copy()
    net.step(xs, ys)
    np.testing.assert_array_equal(w1, before)
    assert net.w1 is not w1


def test_a_failed_step_leaves_the_weights():
    xs, ys = batch()
    net = SlowNet(6, 7, 5, seed=7)
    w1 = net.w1
    with pytest.raises(FloatingPointError, match="loss"):
        net.step(xs * 1e200, ys)
    assert net.w1 is w1
    net.step(xs, ys)


def test_copies_and_pickles_go_on_alike():
    xs, ys = batch()
    net = SlowNet(6, 7, 5, alpha=0.2, damping=0.3, seed=8)
    net.step(xs, ys)
    twins = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    net.step(xs, ys)
    for twin in twins:
        assert repr(twin) == repr(net) == "SlowNet(6, 7, 5, alpha=0.2, damping=0.3)"
        twin.step(xs, ys)
        np.testing.assert_array_equal(twin.w1, net.w1)


def test_threads_on_one_object_take_turns():
    xs, ys = batch()
    net, alone = SlowNet(6, 7, 5, seed=9), SlowNet(6, 7, 5, seed=9)
    workers = [
        threading.Thread(target=lambda: [net.step(xs, ys) for _ in range(25)]) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for _ in range(100):
        alone.step(xs, ys)
    np.testing.assert_array_equal(net.w1, alone.w1)


def test_the_convergence_error_is_an_arithmetic_error():
    assert issubclass(ConvergenceError, ArithmeticError)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"insize": 0}, ValueError, "insize is 0, expected an integer from 1"),
        ({"hidsize": 2.5}, TypeError, r"hidsize is 2\.5, expected a positive integer"),
        ({"outsize": True}, TypeError, "outsize is True"),
        ({"alpha": float("nan")}, ValueError, "alpha is nan, expected a finite number"),
        ({"alpha": "1"}, TypeError, "alpha is '1', expected a number"),
        ({"damping": 0}, ValueError, "damping is 0, expected a positive, finite number"),
        ({"seed": -1}, ValueError, "seed is -1, expected an integer from 0"),
        ({"seed": 1.0}, TypeError, r"seed is 1\.0"),
        ({"w1": np.zeros((2, 3))}, ValueError, r"w1 has shape \(2, 3\), expected \(50, 50\)"),
        ({"insize": 10**9, "hidsize": 10**9}, MemoryError, "needs .* this machine has"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        SlowNet(**arguments)


def test_absurd_blocks_are_refused_before_they_are_allocated():
    net = SlowNet(3000, 3000, 1, seed=0)
    with pytest.raises(MemoryError, match="Hessian block of layer 1.* needs .* this machine has"):
        net.hessian_block(np.zeros((1, 3000)), 1)


def test_a_layer_and_a_method_that_do_not_exist_are_named():
    xs, ys = batch()
    net = SlowNet(6, 7, 5)
    with pytest.raises(ValueError, match="layer is 3, expected 1 or 2"):
        net.hessian_block(xs, 3)
    with pytest.raises(ValueError, match="method is 'quick', expected 'structured' or 'dense'"):
        net.step(xs, ys, method="quick")


def test_the_module_has_the_scripts_names():
    assert slow_net.act(np.array([-2.0, 0.0, 2.0])).tolist() == [-1.0, 0.0, 2.0]
    assert slow_net.dact(np.array([-2.0, 0.0, 2.0])).tolist() == [0.5, 0.5, 1.0]
    assert slow_net.inv_act(np.array([-1.0, 0.0, 2.0])).tolist() == [-2.0, 0.0, 2.0]
    assert slow_net.errfn(np.ones((2, 2)), np.zeros((2, 2))) == 2.0
    with pytest.raises(ValueError, match="labels: got values from 0 to 100, expected 0 to 99"):
        slow_net.labels_to_onehots([0, 100])
