"""Data sets of MLP: batches, chunks, weights, and every kind of array that holds samples."""

import os
import subprocess
import sys

import mlp_reference as reference
import numpy as np
import pytest
from mlp_reference import DTYPES, LOSSES, Net, assert_near, bound, case, every_sum

from swiftnets import MLP
from swiftnets.nets.activations import Activation


def assert_same(ours, theirs, few):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        try:
            assert_near(value, theirs[name], few)
        except AssertionError as error:
            error.add_note(name)
            raise


class Loader:
    """Batches as PyTorch's DataLoader gives them: lists, and anew on every iteration."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter([list(batch) for batch in self.batches])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
def test_batches_add_up_to_the_whole(loss, reduction, weighted, dtype):
    it = case("tanh", loss, True, 2, n=9, reduction=reduction, l2=0.5)
    net, (w, x, y), few = it.net.engine(dtype), it.data(dtype), bound(it.net, 9, dtype, 4)
    s = it.weights.astype(dtype) if weighted else None
    whole = every_sum(net, w, it.directions, x, y, sample_weight=s)
    cuts = [slice(0, 4), slice(4, 5), slice(5, 9)]
    batches = [(x[cut], y[cut], s[cut]) if weighted else (x[cut], y[cut]) for cut in cuts]
    for data in (batches, tuple(batches), Loader(batches)):
        ours = every_sum(net, w, it.directions, data)
        assert_same(ours, whole, few)
        for name, value in every_sum(net, w, it.directions, data).items():
            np.testing.assert_array_equal(value, ours[name])
    one = every_sum(net, w, it.directions, [batches[1]])
    alone = every_sum(
        net, w, it.directions, *batches[1][:2], sample_weight=s if s is None else s[4:5]
    )
    assert_same(one, alone, few)


def test_an_iterator_serves_one_pass():
    it = case("tanh", "squared_error", True, 2, n=4)
    net, (w, x, y) = it.net.engine(), it.data(float)
    pairs = [(x[:2], y[:2]), (x[2:], y[2:])]
    few = bound(it.net, 4, float, 2)
    assert_near(net.gradient(w, iter(pairs)), net.gradient(w, x, y), few)
    blocks = zip(
        net.hessian(w, iter(pairs), block="diagonal"),
        net.hessian(w, x, y, block="diagonal"),
        strict=True,
    )
    for ours, theirs in blocks:
        assert_near(ours, theirs, few)
    generated = (pair for pair in pairs)
    net.gradient(w, generated)
    with pytest.raises(ValueError, match="^x has no batches"):
        net.gradient(w, generated)


@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
def test_samples_in_many_chunks_give_what_small_batches_give(loss):
    """More samples than the 4 MB that are taken at a time, and not a multiple of anything."""
    random, n = np.random.default_rng(0), 12_001
    net = Net((30, 40, 35, 10), (Activation("tanh"),) * 2 + (Activation("identity"),), LOSSES[loss])
    assert n * sum(net.sizes) * 8 > 2 * 4 * 2**20
    ours, w = net.engine(), reference.draw_parameters(random, net)
    x, y = random.normal(size=(n, 30)), reference.draw_targets(random, net, n)
    batches = [(x[k : k + 512], y[k : k + 512]) for k in range(0, n, 512)]
    v = random.normal(size=(3, len(w)))
    few = bound(net, n, float, 4)
    for method, more in ((ours.loss, ()), (ours.gradient, ()), (ours.hvp, (v,))):
        assert_near(method(w, x, y, *more), method(w, batches, None, *more), few)
    kept, parts = ours.at(w, x, y), ours.at(w, batches)
    for quantity in (
        lambda point: v @ point.hessian,
        lambda point: v @ point.gauss_newton,
        lambda point: point.hessian.diagonal(),
        lambda point: point.gauss_newton.diagonal(),
        lambda point: point.third(v[0], v[1]),
        lambda point: point.fourth(v[0], v[1], v[2]),
    ):
        assert_near(quantity(kept), quantity(parts), few)
    assert_near(v @ kept.hessian, ours.hvp(w, batches, v=v), few)
    some = ours.layer_slices[2]
    block = ours.hessian(w, x, y, block=(2, 2))
    assert_near(block, ours.hessian(w, batches, block=(2, 2)), few)
    assert_near(
        ours.hvp(w, x, y, np.eye(1, len(w), some.start)[0])[some], block[0], few, abs(block).max()
    )
    rows = [0, 4095, 4096, n - 1]
    for row in rows:  # predictions, tangents and samples' gradients come out in their places
        alone = ours.predict(w, x[row : row + 1])[0]
        assert_near(ours.predict(w, x)[row], alone, bound(net, 1, float, 0))
        tangent = ours.at(w, x[row : row + 1]).jvp(v)[:, 0]
        assert_near(ours.at(w, x).jvp(v)[:, row], tangent, bound(net, 1, float, 2))
    each = ours.at(w, x[:2000], y[:2000]).per_sample_gradients()
    for row in (0, 1023, 1024, 1999):
        alone = ours.gradient(w, x[row : row + 1], y[row : row + 1])
        assert_near(each[row], alone, bound(net, 1, float, 1))
    u = random.normal(size=(2, n, 10))
    parts = sum(ours.at(w, x[k : k + 512]).vjp(u[:, k : k + 512]) for k in range(0, n, 512))
    assert_near(ours.at(w, x).vjp(u), parts, few)


MEMORY = """
import resource
import numpy as np
from swiftnets import MLP, _core

_core.set_threads(2)
net = MLP((10, 40, 40, 5))
w, x, y = net.initial(seed=0), np.ones((100_000, 10)), np.ones((100_000, 5))
few = slice(0, 20_000)  # more than one chunk

def work(x, y):
    net.gradient(w, x, y)
    net.hvp(w, x, y, [w, w])
    net.hessian(w, x, y, block=(2, 2))
    point = net.at(w, x, y)
    point.hessian.diagonal()
    point.taylor(w)

work(x[few], y[few])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
work(x, y)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_working_memory_does_not_grow_with_the_samples():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # In KiB. One layer's activations of all samples are 32 MB; a few chunks more are 4 MB each.
    assert int(done.stdout) < 16 * 1024


WIDE = """
import resource, signal
import numpy as np
from swiftnets import MLP

# 200 MB a sample; 32 of them would be more than there is.
net = MLP((1, 5000, 1))
resource.setrlimit(resource.RLIMIT_AS, (5 << 30, 5 << 30))
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    net.at(net.initial(seed=0), np.ones((32, 1)), np.ones((32, 1))).hessian.diagonal()
except KeyboardInterrupt:
    print("begun")
"""


def test_diagonals_of_wide_layers_take_fewer_samples_at_a_time():
    done = subprocess.run([sys.executable, "-c", WIDE], capture_output=True, text=True)
    assert done.stdout == "begun\n", done.stderr


# The last that is allocated is the sum of many float32 samples: with a bit less room it is lacking.
SHORT = """
import mmap, os, resource, signal
import numpy as np
from swiftnets import MLP, set_threads

set_threads(1)
net = MLP((600, 600), output_activation="tanh", dtype="float32", bias=False)
w, u = net.initial(seed=0), np.ones((2, net.parameter_count), "f4")
x = np.ones((16400, 600), "f4")
point = net.at(w, x, x)
point.gradient
_, most = resource.getrlimit(resource.RLIMIT_AS)


def fails(room, *, again=False):
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * mmap.PAGESIZE
        resource.setrlimit(resource.RLIMIT_AS, (size + room, most))
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            point.third(u[0], u)
        except KeyboardInterrupt:
            os._exit(0)
        except MemoryError:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if not again:
                os._exit(1)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            point.third(u[0], u)
        except KeyboardInterrupt:
            pass
        os._exit(0)
    return os.waitpid(pid, 0)[1]


low, high = 0, 1 << 28
while high - low > 1 << 16:
    room = (low + high) // 2
    low, high = (room, high) if fails(room) else (low, room)
print([fails(high - k * (1 << 18), again=True) for k in range(1, 6)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_third_derivatives_go_on_after_one_that_memory_did_not_suffice_for():
    environment = dict(os.environ, MALLOC_MMAP_THRESHOLD_="65536")
    done = subprocess.run(
        [sys.executable, "-c", SHORT], capture_output=True, text=True, env=environment
    )
    assert done.stdout == "[0, 0, 0, 0, 0]\n", done.stderr


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_weight_counts_a_sample_that_often(reduction):
    it = case("silu", "binary_cross_entropy", True, 2, n=5, reduction=reduction)
    net, (w, x, y) = it.net.engine(), it.data(float)
    times, few = np.array([2, 0, 1, 3, 1]), bound(it.net, 7, float, 4)
    weighted = every_sum(net, w, it.directions, x, y, sample_weight=times)
    repeated = every_sum(net, w, it.directions, x.repeat(times, 0), y.repeat(times, 0))
    assert_same(weighted, repeated, few)
    ones = every_sum(net, w, it.directions, x, y, sample_weight=[1] * 5)
    assert_same(ones, every_sum(net, w, it.directions, x, y), few)
    # A mean does not change with the weights' scale, a sum does.
    scaled = every_sum(net, w, it.directions, x, y, sample_weight=4 * times)
    factor = 4 if reduction == "sum" else 1
    assert_same(scaled, {name: factor * np.array(v) for name, v in weighted.items()}, few)


def test_weights_all_zero_sum_to_nothing_and_have_no_mean():
    it = case("tanh", "squared_error", True, 2)
    zeros, data = np.zeros(3), it.data(float)
    net = it.net.engine(l2=0.5)
    assert net.loss(*data, sample_weight=zeros) == 0.25 * it.w @ it.w
    np.testing.assert_array_equal(net.gradient(*data, sample_weight=zeros), 0.5 * it.w)
    mean = it.net.engine(reduction="mean")
    for call in (
        mean.loss,
        mean.gradient,
        mean.hessian,
        lambda *given, **more: mean.at(*given, **more).loss,
    ):
        with pytest.raises(ValueError, match="^sample_weight sums to 0"):
            call(*data, sample_weight=zeros)
        with pytest.raises(ValueError, match="^sample_weight sums to 0"):
            call(data[0], [(*data[1:], zeros)])


# Arrays ------------------------------------------------------------------------------------------


def unaligned(a):
    return np.frombuffer(b" " + a.tobytes(), a.dtype, offset=1).reshape(a.shape)


class OnlyDLPack:
    """An array of a library that has no `__array__`."""

    def __init__(self, array):
        self.array = array

    @property
    def shape(self):
        return self.array.shape

    @property
    def ndim(self):
        return self.array.ndim

    def __dlpack__(self, **more):
        return self.array.__dlpack__(**more)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyArray:
    """An object that makes an array when asked to."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array.astype(dtype or self.array.dtype)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "f4": lambda a: a.astype(np.float32),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "list": lambda a: a.tolist(),
    "read-only": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
    "unaligned": unaligned,
    "__array__": OnlyArray,
    "dlpack": OnlyDLPack,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout_give_the_same(layout, loss, dtype):
    it = case("tanh", loss, True, 2, n=5)
    net, (w, x, y) = it.net.engine(dtype), it.data(dtype)
    convert, v, u = LAYOUTS[layout], it.directions, np.ones((2, 5, it.net.sizes[-1]))
    plain = every_sum(net, w, v, x, y, sample_weight=it.weights)
    other = y if layout == "f4" and y.ndim == 1 else convert(y)
    there = convert(w), convert(x), other
    point, same = net.at(w, x, y), net.at(*there)
    inputs, outputs = net.at(w, x), net.at(convert(w), convert(x))
    for ours, theirs in (
        (net.predict(*there[:2]), net.predict(w, x)),
        (net.hvp(*there, convert(v)), net.hvp(w, x, y, v)),
        (same.per_sample_gradients(), point.per_sample_gradients()),
        (outputs.jvp(convert(v)), inputs.jvp(v)),
        (outputs.vjp(convert(u)), inputs.vjp(u)),
        (convert(v) @ same.hessian, v @ point.hessian),
    ):
        np.testing.assert_array_equal(ours, theirs)
    if layout in ("dlpack", "__array__", "list"):
        directions = [convert(row) for row in v]
        for ours, theirs in (
            (net.hvp(*there, directions[0]), net.hvp(w, x, y, v[0])),
            (same.third(*directions[:2]), point.third(*v[:2])),
            (same.fourth(*directions), point.fourth(*v)),
        ):
            np.testing.assert_array_equal(ours, theirs)
        return
    ours = every_sum(
        net, convert(w), convert(v), convert(x), other, sample_weight=convert(it.weights)
    )
    for name, value in ours.items():
        np.testing.assert_array_equal(value, plain[name])


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i8", "u4", "f2", "f4"])
def test_integers_bools_and_shorter_floats_are_real_numbers(kind):
    net = MLP((3, 4, 2))
    x, y = np.eye(3)[[0, 2, 1, 1]], np.eye(2)[[0, 1, 1, 0]]
    w = np.arange(net.parameter_count) % 2.0
    ours = net.gradient(w.astype(kind), x.astype(kind), y.astype(kind))
    np.testing.assert_array_equal(ours, net.gradient(w, x, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_new_contiguous_arrays_of_the_nets_dtype(dtype):
    it = case("tanh", "squared_error", True, 2)
    net, (w, x, y) = it.net.engine(dtype), it.data(dtype)
    before = [a.copy() for a in (w, x, y)]
    results = every_sum(net, w, it.directions.astype(dtype), x, y)
    results["predict"] = net.predict(w, x)
    results["jacobian"] = net.at(w, x).jacobian()
    results["rows"] = net.at(w, x, y).per_sample_gradients()
    results["jvp"] = net.at(w, x).jvp(it.directions)
    results["vjp"] = net.at(w, x).vjp(y)
    results["initial"] = net.initial(seed=0)
    results["upper"] = net.hessian(w, x, y, block=(1, 0))
    for name, value in results.items():
        if name in ("loss", "kept loss"):
            assert type(value) is float
        elif name not in ("both", "blocks", "series of the loss"):
            assert type(value) is np.ndarray and value.dtype == dtype, name
            assert value.flags.c_contiguous, name
            assert value.flags.writeable == (name != "kept"), name  # the point's own gradient
            assert not any(np.shares_memory(value, a) for a in (w, x, y, it.directions)), name
    for array, copy in zip((w, x, y), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_float32_nets_round_what_they_are_given():
    net, wide = MLP((3, 4, 2), dtype=np.float32), MLP((3, 4, 2))
    random = np.random.default_rng(1)
    w, v = random.normal(size=(2, wide.parameter_count))
    x, y = random.normal(size=(5, 3)), random.normal(size=(5, 2))
    rounded = [a.astype(np.float32) for a in (w, x, y, v)]
    np.testing.assert_array_equal(net.hvp(w, x, y, v), net.hvp(*rounded))
    few = bound(Net((3, 4, 2), net.activations, net.loss_function), 5, np.float32, 2)
    assert_near(net.hessian(w, x, y), wide.hessian(*rounded[:3]), few)


def test_tensors_of_torch_are_arrays():
    torch = pytest.importorskip("torch")
    for loss in ("squared_error", "softmax_cross_entropy"):
        it = case("tanh", loss, True, 2, n=6)
        net, (w, x, y) = it.net.engine(), it.data(float)
        tensors = [torch.tensor(a) for a in (w, x, y)]
        tensors[0].requires_grad_()
        v = torch.tensor(it.directions, requires_grad=True)
        weights = torch.tensor(it.weights)
        plain = every_sum(net, w, it.directions, x, y, sample_weight=it.weights)
        ours = every_sum(net, tensors[0], v, *tensors[1:], sample_weight=weights)
        for name, value in ours.items():
            np.testing.assert_array_equal(value, plain[name])
        ours = net.gradient(tensors[0], tensors[1].T.contiguous().T, tensors[2])
        np.testing.assert_array_equal(ours, net.gradient(w, x, y))
        half = tensors[1].to(torch.bfloat16)
        np.testing.assert_array_equal(
            net.gradient(w, half, y), net.gradient(w, half.double().numpy(), y)
        )
        data = torch.utils.data.TensorDataset(*tensors[1:])
        loader = torch.utils.data.DataLoader(data, batch_size=4)
        few = bound(it.net, 6, float, 2)
        assert_near(net.hessian(w, loader), net.hessian(w, x, y), few)
        assert_near(net.loss(w, loader), net.loss(w, x, y), few)
