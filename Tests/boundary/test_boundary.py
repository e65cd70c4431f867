"""Whatever comes from Python gives a result, or an exception that names the argument."""

import os
import signal
import subprocess
import sys
import threading
import warnings

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftnets import FastNet, SlowNet, fast_net, slow_net

LIMIT = 300
"""Seconds after which something counts as hanging."""


def batch(n=4, insize=6, outsize=5, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, insize)), np.eye(outsize)[draw.integers(0, outsize, n)]


MAKE = {"slow": lambda: SlowNet(6, 7, 5, seed=1), "fast": lambda: FastNet(6, 5, seed=1)}


@pytest.fixture(params=list(MAKE))
def make(request):
    return MAKE[request.param]


def weights(net):
    return (net.w,) if isinstance(net, FastNet) else (net.w1, net.w2)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# Scalars -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("insize", [2.5, True, 0, -1, "5", None, 10**40, np.float64(2)]),
        ("outsize", [2**31]),
        ("alpha", [np.nan, np.inf, "0.1", None, 1j, True, 10**400, [0.1], np.array([0.1])]),
        ("seed", [1.5, -1, 2**32, "1", True, [1]]),
    ],
)
def test_a_scalar_out_of_range_is_named(name, values):
    for net in (SlowNet, FastNet):
        for value in values:
            with pytest.raises((ValueError, TypeError), match=rf"^{name} is .*; expected "):
                net(**{name: value})


@pytest.mark.parametrize(
    ("net", "name", "values"),
    [
        (SlowNet, "hidsize", [0, 1.0]),
        (SlowNet, "damping", [0, -1.0, np.inf, np.nan, "1", None, False]),
        (FastNet, "r", [0, -1e-9, 2e-16, np.nan, "1e-9", True]),
        (FastNet, "cache_bytes", [-1, 1.5, None, True, 2**80]),
    ],
)
def test_a_scalar_of_one_net_out_of_range_is_named(net, name, values):
    for value in values:
        with pytest.raises((ValueError, TypeError), match=rf"^{name} is .*; expected "):
            net(**{name: value})
    if name != "hidsize":
        made = net(3, 2) if net is FastNet else net(3, 2, 2)
        before = getattr(made, name)
        with pytest.raises((ValueError, TypeError), match=rf"^{name} is "):
            setattr(made, name, values[0])
        assert getattr(made, name) == before


def test_numpy_scalars_are_numbers():
    net = SlowNet(np.int64(6), np.uint8(7), np.int32(5), alpha=np.float32(0.5), seed=np.int64(3))
    assert (net.insize, net.alpha, net.seed) == (6, 0.5, 3)
    assert net.hessian_block(np.eye(6), np.int64(2)).shape == (35, 35)


@pytest.mark.parametrize("layer", [0, 3, 1.0, "1", None, True, 10**30])
def test_a_layer_that_is_not_there_is_named(layer):
    with pytest.raises((ValueError, TypeError), match=r"^layer is .* from 1 to 2$"):
        MAKE["slow"]().hessian_block(np.eye(6), layer)


@pytest.mark.parametrize("method", ["Dense", None, 1, ["dense"]])
def test_a_method_that_is_not_there_is_named(method):
    net = MAKE["slow"]()
    expected = r"^method is .* 'structured' or 'dense'(; did you mean 'dense'\?)?$"
    with pytest.raises((ValueError, TypeError), match=expected):
        net.step(*batch(), method=method)
    with pytest.raises((ValueError, TypeError), match="^method is "):
        net.fit([batch()], method=method)


@pytest.mark.parametrize("name", [[], {}, np.zeros(2), set()], ids=str)
def test_a_batch_name_that_cannot_be_hashed_is_named(name):
    with pytest.raises(TypeError, match="^batch is not hashable"):
        MAKE["fast"]().step(*batch(), batch=name)


@pytest.mark.parametrize(
    "labels",
    [[1.5], [True], [[1, 2]], ["1"], [-1], [3, 100], [2**70], 3, [1 + 0j], [None]],
    ids=str,
)
def test_labels_that_are_none_are_refused(labels):
    for module in (slow_net, fast_net):
        with pytest.raises((ValueError, TypeError), match=r"^labels has .*; expected "):
            module.labels_to_onehots(labels)


def test_a_cardinality_that_is_none_is_refused():
    for cardinality in (0, -1, 1.5, True, "a"):
        with pytest.raises((ValueError, TypeError), match="^cardinality is "):
            slow_net.labels_to_onehots([0], cardinality)
    assert slow_net.labels_to_onehots([], 3).shape == (0, 3)


# Arrays ------------------------------------------------------------------------------------------

dtypes = st.one_of(
    arrays.floating_dtypes(),
    arrays.integer_dtypes(),
    arrays.unsigned_integer_dtypes(),
    arrays.boolean_dtypes(),
    arrays.complex_number_dtypes(),
    arrays.datetime64_dtypes(),
    arrays.byte_string_dtypes(),
)
shapes = st.just((4, 3)) | st.just((4, 2)) | arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
anything = st.tuples(dtypes, shapes).flatmap(lambda both: arrays.arrays(*both))


@settings(max_examples=150)
@given(anything, anything, st.sampled_from(["loss", "step", "gradient"]))
def test_any_two_arrays_give_a_result_or_an_exception_that_names_one(xs, ys, method):
    for net in (SlowNet(3, 2, 2, seed=0), FastNet(3, 2, seed=0)):
        if not hasattr(net, method):
            continue
        fits = xs.shape == (len(xs) if xs.ndim else 0, 3) and ys.shape == (len(xs), 2) and xs.size
        real = all(np.can_cast(a.dtype, np.float64) and a.dtype.kind in "biuf" for a in (xs, ys))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fast_net.RankWarning)
            if not (fits and real):
                with pytest.raises((ValueError, TypeError), match="^(xs|ys) .*; expected"):
                    getattr(net, method)(xs, ys)
                continue
            try:
                getattr(net, method)(xs, ys)
            except ValueError as error:
                assert str(error).startswith(("xs has", "ys has"))
                assert not (np.isfinite(xs).all() and np.isfinite(ys).all())
            except ArithmeticError:
                assert np.isfinite(xs).all() and np.isfinite(ys).all()


finite = st.floats(-1e300, 1e300)


@settings(max_examples=150)
@given(
    arrays.arrays(np.float64, (4, 3), elements=finite),
    arrays.arrays(np.float64, (4, 2), elements=finite),
    st.floats(1e-300, 1e300),
)
def test_any_finite_numbers_leave_finite_weights_or_those_before_and_an_exception(xs, ys, damping):
    for net in (SlowNet(3, 2, 2, seed=0, damping=damping), FastNet(3, 2, seed=0)):
        before = weights(net)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fast_net.RankWarning)
            try:
                net.step(xs, ys)
            except ArithmeticError:
                assert all(a is b for a, b in zip(weights(net), before, strict=True))
        assert all(np.isfinite(w).all() for w in weights(net))


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: a.astype(np.float32),
        lambda a: a.astype(">f8"),
        lambda a: a.tolist(),
        lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
        lambda a: np.frombuffer(b" " + a.tobytes(), np.float64, offset=1).reshape(a.shape),
    ],
    ids=["fortran", "strided", "reversed", "f4", "big-endian", "list", "read-only", "unaligned"],
)
def test_arrays_of_any_layout_give_the_same_step(make, convert):
    xs, ys = batch()
    xs = xs.astype(np.float32).astype(np.float64)
    plain, other = make(), make()
    plain.step(xs, ys)
    other.step(convert(xs), convert(ys))
    assert same(plain, other)


@pytest.mark.parametrize("dtype", [bool, "i1", "u8", "f2"])
def test_integers_and_bools_are_real_numbers(make, dtype):
    xs = np.eye(6)[:4]
    a, b = make(), make()
    a.step(xs, np.eye(5)[:4])
    b.step(xs.astype(dtype), np.eye(5)[:4].astype(dtype))
    assert same(a, b)


@pytest.mark.parametrize(
    ("xs", "error", "message"),
    [
        (np.zeros((4, 5)), ValueError, r"xs has shape \(4, 5\); expected \(n, 6\)"),
        (np.zeros(6), ValueError, r"xs has shape \(6,\); expected \(n, 6\)"),
        (5, ValueError, r"xs has shape \(\); expected \(n, 6\)"),
        (np.zeros((0, 6)), ValueError, r"xs is empty, of shape \(0, 6\); expected \(n, 6\)"),
        (np.zeros((4, 6)) * 1j, TypeError, "xs has dtype complex128; expected real numbers"),
        (np.zeros((4, 6), object), TypeError, "xs has dtype object; expected real numbers"),
        (np.zeros((4, 6), np.longdouble), TypeError, "xs has dtype .*128; expected real numbers"),
        (np.zeros((4, 6), "m8[s]"), TypeError, "xs has dtype timedelta64"),
        ("abc", TypeError, "xs is of type str; expected real numbers"),
        (None, TypeError, "xs is None, or missing; expected real numbers"),
        ([[1.0], [1.0, 2.0]], TypeError, "xs is of type list and makes no array"),
        (np.ma.masked_equal(np.eye(6), 0), TypeError, "xs is a masked array; expected"),
    ],
    ids=str,
)
def test_inputs_that_are_none_are_named(make, xs, error, message):
    for method in ("loss", "step"):
        with pytest.raises(error, match=f"^{message}"):
            getattr(make(), method)(xs, np.zeros((4, 5)))
    with pytest.raises(error, match=f"^{message}"):
        make().predict(xs)


def test_targets_must_have_a_row_for_every_input(make):
    with pytest.raises(ValueError, match=r"^ys has shape \(3, 5\); expected \(4, 5\)"):
        make().step(np.zeros((4, 6)), np.zeros((3, 5)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["xs", "ys"])
def test_an_entry_that_is_not_finite_is_named_with_its_place(make, bad, which):
    pair = {"xs": batch()[0], "ys": batch()[1]}
    pair[which][3, 2] = bad
    net, before = make(), make()
    for method in ("loss", "step"):
        with pytest.raises(ValueError, match=rf"^{which} has {bad} at \[3, 2\]; expected finite"):
            getattr(net, method)(**pair)
    with pytest.raises(ValueError, match=rf"^{which} of train_pairs\[1\] has {bad} at \[3, 2\]"):
        net.fit([batch(), tuple(pair.values())])
    if which == "xs":
        with pytest.raises(ValueError, match=rf"^xs has {bad} at \[3, 2\]"):
            net.predict(pair["xs"])
    assert same(net, before)


def test_weights_that_are_none_are_named(make):
    net = make()
    for name, w in zip(
        ("w",) if len(weights(net)) == 1 else ("w1", "w2"), weights(net), strict=True
    ):
        with pytest.raises(ValueError, match=rf"^{name} has shape \(2, 2\); expected "):
            setattr(net, name, np.eye(2))
        with pytest.raises(ValueError, match=rf"^{name} has nan at \[0, 0\] and {w.size - 1} more"):
            setattr(net, name, w * np.nan)
        w[1, 1] = np.nan  # by way of the net's own array
        with pytest.raises(ValueError, match=rf"^{name} has nan at \[1, 1\]"):
            net.step(*batch())
        w[1, 1] = 0


def test_an_overflow_says_so_and_leaves_the_weights(make):
    xs, ys = batch()
    net, before = make(), make()
    for method in ("loss", "step"):
        with pytest.raises(FloatingPointError) as caught:
            getattr(net, method)(xs * 1e200, ys)
        assert "grew beyond float64" in caught.value.__notes__[0]
    assert same(net, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda: SlowNet(10**6, 10**6, 10),
        lambda: FastNet(10**9, 10**9),
        lambda: SlowNet(2000, 2000, 2, seed=0).hessian_block(np.zeros((1, 2000)), 1),
        lambda: SlowNet(2000, 2000, 2, seed=0).step(
            np.zeros((1, 2000)), np.zeros((1, 2)), method="dense"
        ),
        lambda: slow_net.labels_to_onehots(np.zeros(10**6, int), 2 * 10**9),
        lambda: SlowNet(100, 1, 1).shaper(2 * 10**9),
    ],
    ids=["SlowNet", "FastNet", "hessian_block", "dense", "labels_to_onehots", "shaper"],
)
def test_absurd_sizes_are_refused_with_their_bytes(call):
    with pytest.raises(MemoryError, match=r"would need [\d,]+ bytes \([\d.e+]+ [TP]iB\) of memory"):
        call()


# Threads, processes, signals ---------------------------------------------------------------------


def run_threads(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not any(thread.is_alive() for thread in threads)


def test_threads_on_one_net_take_turns(make):
    net, alone, done = make(), make(), []
    for _ in range(200):
        alone.step(*batch())

    def work():
        for _ in range(50):
            done.append(net.step(*batch()))

    run_threads(*[work] * 4)
    assert len(done) == 200 and same(net, alone)


def test_two_fits_on_one_net_follow_each_other(make):
    runs = [[batch(seed=k) for k in range(6)], [batch(seed=k) for k in range(10, 16)]]
    net, orders = make(), [make(), make()]
    run_threads(*[lambda pairs=pairs: net.fit(pairs, epochs=20) for pairs in runs])
    for alone, order in zip(orders, (runs, runs[::-1]), strict=True):
        for pairs in order:
            alone.fit(pairs, epochs=20)
    assert same(net, orders[0]) or same(net, orders[1])


def test_reading_does_not_wait_for_a_run(make):
    net, read = make(), []

    def look(event):
        run_threads(lambda: read.append(net.predict(np.eye(6))))
        return True

    net.fit([batch()], callback=look)
    assert len(read) == 1


CHILDREN = """
import multiprocessing, sys
import numpy as np
from swiftnets import FastNet, SlowNet

def work(net):
    xs, ys = np.random.RandomState(3).randn(4, 6), np.eye(5)[[0, 1, 2, 4]]
    for _ in range(3):
        net.step(xs, ys)
    return (net.w if isinstance(net, FastNet) else net.w1).tobytes()

if __name__ == "__main__":
    nets = [SlowNet(6, 7, 5, seed=1), FastNet(6, 5, seed=1)]
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        theirs = pool.map(work, nets)
        assert theirs == [work(net) for net in nets]
        assert theirs != pool.map(work, nets)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nets_go_to_other_processes_and_give_the_same_bits(method, tmp_path):
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    done = subprocess.run(
        [sys.executable, script, method], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr


def test_ctrl_c_ends_a_long_step_and_leaves_a_net_that_works():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    net, twin, pair = SlowNet(seed=1), SlowNet(seed=1), batch(50, 50, 100)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(20):  # one is long enough; a faster machine may want more
                w1, w2 = net.w1, net.w2
                net.step(*pair, method="dense")
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert net.w1 is w1 and net.w2 is w2
    net.w1, net.w2 = twin.w1, twin.w2
    net.step(*pair)
    twin.step(*pair)
    assert same(net, twin)
