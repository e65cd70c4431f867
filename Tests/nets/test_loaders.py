"""Loaders that refill one buffer, and arrays that change after the call that took them."""

import itertools
import signal

import numpy as np
import pytest
from mlp_reference import every_sum

from swiftnets import MLP, FastNet, SlowNet, slow_net
from swiftnets._support import checks
from swiftnets.curvature import layer_states, tensors
from swiftnets.curvature.kronecker import kronecker_factors
from swiftnets.interop import as_scipy
from swiftnets.optimizers import SGD, Newton
from swiftnets.problems import Minibatches, NetProblem, loader


def case(targets="rows", reduction="sum"):
    random = np.random.default_rng(5)
    loss = "squared_error" if targets == "rows" else "softmax_cross_entropy"
    net = MLP((3, 4, 2), loss=loss, reduction=reduction, l2=0.1)
    x, labels = random.normal(size=(6, 3)), random.integers(0, 2, 6)
    y = random.normal(size=(6, 2)) if targets == "rows" else labels
    return net, net.initial(seed=1), x, y, random.integers(0, 3, 6).astype(float)


def refilling(*arrays, size=2):
    """Batches of views of one buffer, as loaders that read into pinned memory give them."""
    buffers = [np.empty_like(a[:size]) for a in arrays]
    for first in range(0, len(arrays[0]), size):
        for buffer, a in zip(buffers, arrays, strict=True):
            buffer[:] = a[first : first + size]
        yield tuple(buffer[:] for buffer in buffers)
    for buffer in buffers:
        buffer[:] = -1  # what is read after the end


class Loader:
    """The same, anew on each iteration, as PyTorch's DataLoader is."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        return refilling(*self.arrays)


def rest(net, w, data, folder):
    """What keeps more than one batch at a time, and is no sum of the net's own."""
    found, v = {}, np.arange(1.0, len(w) + 1)
    factors = kronecker_factors(net.at(w, data()))
    found |= {f"Kronecker {i}": a for i, a in enumerate(factors.inputs + factors.outputs)}
    layers, found["output Hessian"] = layer_states(net.at(w, data()))
    found |= {f"states {i}": a for i, a in enumerate(one.inputs for one in layers)}
    for method in ("layered", "dense"):
        found[f"factorize {method}"] = (
            (net.at(w, data()).hessian + 0.3).factorize(method=method).solve(v)
        )
    for method in ("layered", "dense", "minres"):
        found[method] = net.solve(w, data(), b=v, damping=2.0, method=method).solution
    found["Gauss–Newton blocks"] = np.concatenate(
        [a.ravel() for a in net.at(w, data()).gauss_newton.dense(block="diagonal")]
    )
    found["operator"] = net.at(w, data()).hessian.as_linear_operator() @ v
    scipy = as_scipy(net, data())
    found |= {"fun": scipy.fun(w), "jac": scipy.jac(w), "hess": scipy.hess(w)}
    for order in (2, 3):
        tensor = tensors.compute(net.at(w, data()), order=order, path=folder / f"{order}.npy")
        found[f"tensor {order}"] = tensor.contract(v)
        tensors.estimate(net.at(w, data()), order=order)
    problem = NetProblem(net, data())
    found["problem"] = problem.hessian(w)
    found["Newton"] = Newton(damping=2.0).minimize(problem, w, max_iterations=1).w
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", ["rows", "labels"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_buffer_may_be_refilled_for_every_batch(reduction, targets, weighted, tmp_path):
    net, w, x, y, s = case(targets, reduction)
    arrays = (x, y, s) if weighted else (x, y)
    directions = np.random.default_rng(3).normal(size=(3, len(w)))
    apart = [tuple(a[k : k + 2] for a in arrays) for k in (0, 2, 4)]
    ways = {
        "list": lambda: apart,
        "generator": lambda: refilling(*arrays),
        "loader": lambda: Loader(*arrays),
    }
    found = {}
    for name, data in ways.items():
        folder = tmp_path / name
        folder.mkdir()
        sums = every_sum(net, w, directions, Loader(*arrays) if name != "list" else apart)
        found[name] = sums | rest(net, w, data, folder)
    for name in ("generator", "loader"):
        for quantity, value in found[name].items():
            np.testing.assert_array_equal(value, found["list"][quantity], err_msg=quantity)
    more = {"sample_weight": s} if weighted else {}
    # Against the concatenated samples: roundings of sums of six, times conditions below 1e3.
    whole = every_sum(net, w, directions, x, y, **more)
    for quantity, value in whole.items():
        np.testing.assert_allclose(found["loader"][quantity], value, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found["loader"]["hess"], whole["hessian"], rtol=0, atol=1e-11)


def test_arrays_may_change_after_a_problem_was_made_of_them():
    net, w, x, y, s = case()
    kept = [a.copy() for a in (x, y, s)]
    lists = [(x[:3], y[:3], s[:3]), (x[3:], y[3:], s[3:])]
    made = [NetProblem(net, x, y, sample_weight=s), NetProblem(net, lists)]
    batches = Minibatches(net, x, y, batch_size=2, sample_weight=s)
    scipy = [as_scipy(net, x, y, sample_weight=s), as_scipy(net, lists)]
    points = [net.at(w, x, y, sample_weight=s), net.at(w, lists)]
    expected = net.hvp(w, *kept[:2], w, sample_weight=kept[2])
    run = SGD().minimize(batches, w, max_iterations=4).w
    for a in (x, y, s):
        a[:] = np.nan
    for found in (
        *(problem.hvp(w, w) for problem in made),
        *(one.hessp(w, w) for one in scipy),
        *(w @ point.hessian for point in points),
        batches.full.hvp(w, w),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(SGD().minimize(batches, w, max_iterations=4).w, run)


# The two nets -------------------------------------------------------------------------------------


def pairs(insize):
    random = np.random.default_rng(0)
    return random.normal(size=(12, insize)), np.eye(5)[random.integers(0, 5, 12)]


NETS = {
    "slow": (lambda: SlowNet(6, 7, 5, seed=1), 6),
    "slow, projecting": (lambda: SlowNet(6, 7, 5, seed=1), 9),
    "fast": (lambda: FastNet(20, 5, seed=1), 20),
}


@pytest.mark.parametrize("kind", list(NETS))
def test_a_fit_takes_loaders_that_refill_one_buffer(kind, tmp_path):
    make, insize = NETS[kind]
    xs, ys = pairs(insize)
    apart = [(xs[k : k + 4], ys[k : k + 4]) for k in (0, 4, 8)]
    ways = [lambda: apart, lambda: refilling(xs, ys, size=4)]
    ends = []
    for data in ways:
        net = make()
        history = net.fit(data(), data(), epochs=2, checkpoint=tmp_path / "run.npz")
        ends.append((history.errs, history.correct_counts, getattr(net, "w", None), net.__repr__()))
        if net.insize == insize:
            ends[-1] += net.corrects(data())
    # The second found the first's checkpoint to be its own.
    np.testing.assert_equal(ends[0], ends[1])
    (tmp_path / "run.npz").unlink()
    net = make()
    np.testing.assert_array_equal(net.fit(ways[1](), ways[1](), epochs=2).errs, ends[0][0])


def test_projected_batches_do_not_share_a_refilled_buffer():
    xs, ys = pairs(9)
    shaper = SlowNet(6, 7, 5, seed=1).shaper(9)
    found = slow_net.project(refilling(xs, ys, size=4), shaper)
    for k, (some, targets) in enumerate(found):
        np.testing.assert_array_equal(some, xs[4 * k : 4 * k + 4] @ shaper)
        np.testing.assert_array_equal(targets, ys[4 * k : 4 * k + 4])


# Without an end -----------------------------------------------------------------------------------


class Endless:
    """As a DataLoader over a stream; `at` is called with each batch's number."""

    def __init__(self, at=lambda index: None):
        self.at = at

    def __iter__(self):
        for index in itertools.count():
            self.at(index)
            yield np.ones((2, 3)), np.ones((2, 2))


class Long(Endless):
    """One that ends, and says where."""

    def __len__(self):
        return 7

    def __iter__(self):
        return itertools.islice(super().__iter__(), 7)


ROUND = [
    lambda: itertools.cycle([(np.ones((2, 3)), np.ones((2, 2)))]),
    lambda: itertools.repeat((np.ones((2, 3)), np.ones((2, 2)))),
]
NET = MLP((3, 4, 2))
W = NET.initial(seed=0)
KEEPERS = {
    "point": lambda x: NET.at(W, x),
    "problem": lambda x: NetProblem(NET, x),
    "validation": lambda x: SGD().minimize(
        NetProblem(NET, np.ones((2, 3)), np.ones((2, 2))), W, validation=x
    ),
    "scipy": lambda x: as_scipy(NET, x),
    "slow_net": lambda x: SlowNet(3, 4, 2, seed=0).fit(x),
    "fast_net": lambda x: FastNet(3, 2, seed=0).fit(x),
}
SUMS = {
    "loss": lambda x: NET.loss(W, x),
    "gradient": lambda x: NET.gradient(W, x),
    "products": lambda x: NET.hvp(W, x, v=W),
    "accuracy": lambda x: NET.accuracy(W, x),
    "minibatches": lambda x: Minibatches(NET, x),
}


@pytest.mark.parametrize("call", [*KEEPERS.values(), *SUMS.values()], ids=[*KEEPERS, *SUMS])
@pytest.mark.parametrize("make", ROUND, ids=["cycle", "repeat"])
def test_what_goes_round_for_ever_is_refused(call, make):
    with pytest.raises(ValueError, match=r"^\w+ is of type (cycle|repeat), which has no end"):
        call(make())


def test_a_repetition_that_ends_is_taken():
    pair = np.ones((2, 3)), np.ones((2, 2))
    assert NET.loss(W, itertools.repeat(pair, 3)) == NET.loss(W, [pair] * 3)


def test_minibatches_refuse_a_loader_whose_end_is_not_seen(monkeypatch):
    monkeypatch.setattr(loader, "_MOST_BATCHES", 5)
    with pytest.raises(ValueError, match=r"^x, of type Endless, has given 5 batches without an e"):
        Minibatches(NET, Endless())
    assert Minibatches(NET, Long()).per_epoch == 7


def test_a_dataloader_over_a_stream_is_refused_where_its_end_is_not_seen(monkeypatch):
    data = pytest.importorskip("torch.utils.data")

    class Stream(data.IterableDataset):
        def __iter__(self):
            return iter(Endless())

    monkeypatch.setattr(loader, "_MOST_BATCHES", 5)
    with pytest.raises(ValueError, match="^x, of type DataLoader, has given 5 batches without an"):
        Minibatches(NET, data.DataLoader(Stream(), batch_size=None))


@pytest.mark.parametrize("call", KEEPERS.values(), ids=KEEPERS)
def test_batches_that_are_kept_end_with_the_memory(call, monkeypatch):
    monkeypatch.setattr(checks, "_free_memory", lambda: 1000)
    # 2 samples of 3 + 2 numbers are 80 bytes.
    with pytest.raises(
        MemoryError, match=r"^\w+ has given 1.016 KiB with batch 12, all of it kept"
    ):
        call(Endless())


@pytest.mark.parametrize("call", [*KEEPERS.values(), *SUMS.values()], ids=[*KEEPERS, *SUMS])
def test_ctrl_c_ends_the_wait_for_an_end(call):
    def at(index):
        if index == 20:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            call(Endless(at))
    finally:
        signal.signal(signal.SIGINT, before)
