"""Every function of swiftnets._core with arrays larger than any memory, for test_sizes.py.

`python absurd_sizes.py` makes the arrays of pages that nobody has touched, lets the process take
little more than it has, and calls. A call may raise what it likes, or be interrupted; it may not
end the process. Prints a line for each, so that one sees which did.
"""

import faulthandler
import itertools
import mmap
import resource
import signal
import sys
import time

import numpy as np

from swiftnets import Network, _core, nets

HUGE, LARGE = 1 << 30, 1 << 20
MOST = 1 << 40  # numbers in one array
ROOM = 2 << 30  # bytes that a call may take for itself
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # known to Python from 3.13 on
SECONDS = 0.3  # before a call that computes is interrupted


class Interrupted(Exception):
    pass


def interrupt(number, frame):
    raise Interrupted


def absurd(*shape, dtype=np.float64):
    """Zeros that take address space alone."""
    count = np.dtype(dtype).itemsize
    for size in shape:
        count *= size
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    return np.frombuffer(mmap.mmap(-1, count, flags=flags), dtype).reshape(shape)


def slow_calls(n, i, h, o):
    xs, ys, w1, w2 = absurd(n, i), absurd(n, o), absurd(i, h), absurd(h, o)
    out1, out2 = absurd(i, h), absurd(h, o)
    workspace = _core.slow_workspace()
    yield _core.slow_loss, xs, ys, w1, w2
    yield _core.slow_predict, xs, w1, w2, absurd(n, o)
    yield _core.slow_gradient, xs, ys, w1, w2, out1, out2
    for method in (0, 1):
        yield _core.slow_step, workspace, xs, ys, w1, w2, 0.1, 0.1, method, out1, out2
    for layer, side in ((1, i * h), (2, h * o)):
        if side <= LARGE:
            yield _core.slow_hessian_block, xs, w1, w2, layer, absurd(side, side)


def fast_calls(n, i, o):
    xs, ys, w, out = absurd(n, i), absurd(n, o), absurd(i, o), absurd(i, o)
    small, _ = _core.fast_factorize(np.eye(2, 3), -1)
    yield _core.fast_loss, xs, ys, w
    if n * o <= LARGE:  # it needs no memory of its own, and would fill the output
        yield _core.fast_predict, xs, w, absurd(n, o)
    yield _core.fast_factorize, xs, -1
    yield _core.fast_step, small, xs, ys, w, 0.1, 0.0, out
    yield _core.dense, absurd(min(n, LARGE), min(n, LARGE)), 0.0
    yield _core.dense_trace_of_inverse, absurd(min(n, LARGE), min(n, LARGE)), 1.0, 2.0**-100


def layered(samples, gradient, *arguments):
    """The call on the pass of such samples."""
    return _core.layered(_core.linearize(*samples, gradient)[0], *arguments)


def layer_states(samples, gradient, out):
    """The call on the pass of such samples."""
    return _core.linearization_states(_core.linearize(*samples, gradient)[0], out)


def net_calls(sizes, n, loss, bias, dtype):
    """`loss` is 0, half the squared error, or 3, softmax with labels."""
    net = _core.mlp(sizes, [(2, 0.0)] * (len(sizes) - 1), int(dtype == "f"), bias, loss, 0.0, None)
    layers = [(a + bias) * b for a, b in itertools.pairwise(sizes)]
    p, o = sum(layers), sizes[-1]
    if loss == 0 and n * o > MOST:
        return
    samples = samples_of(net, p, (sizes[0],), o, n, loss, dtype)
    yield from derivative_calls(samples, layers, o, n, dtype)
    out = absurd(p, dtype=dtype)
    yield layered, samples, out, 0, 1.0, None
    yield layered, samples, out, 2, 1.0, 1.0
    for form in (0, 1, 2):
        yield _core.layered_plan, net, (1 << 31) - 1, 1, form
    inputs, outputs = sum(sizes[:-1]) + bias * len(layers), sum(sizes[1:])
    states = n * (inputs + 3 * outputs + (o if loss == 0 else o * o))
    if states <= MOST:
        yield layer_states, samples, out, absurd(states)


def network_calls(layers, shape, n, loss, dtype):
    """Of a net of any layers; `loss` as above."""
    kind = "softmax_cross_entropy" if loss else "squared_error"
    try:
        net = Network(layers, shape, loss=kind, dtype=dtype)
        handle = net.engine.handle
    except (MemoryError, ValueError) as error:
        print(f"refused: {error}", flush=True)
        return
    o, p = net.outputs, net.parameter_count
    blocks = {}
    for row in net.parameter_table:
        blocks[row.layer] = blocks.get(row.layer, 0) + int(np.prod(row.shape))
    if n * int(np.prod(shape)) > MOST or (loss == 0 and n * o > MOST):
        return
    is_tokens = isinstance(layers[0], nets.Embedding)
    samples = samples_of(handle, p, shape, o, n, loss, dtype, np.int64 if is_tokens else dtype)
    yield _core.mlp_memory, handle, n
    yield from derivative_calls(samples, list(blocks.values()), o, n, dtype)


def samples_of(net, p, shape, o, n, loss, dtype, kind=None):
    """What calls on a net with p parameters take."""
    y = absurd(n, o, dtype=dtype) if loss == 0 else None
    labels = None if loss == 0 else absurd(n, dtype=np.int64)
    x = absurd(n, int(np.prod(shape)), dtype=kind or dtype)
    return net, absurd(p, dtype=dtype), x, y, labels, None, 1.0


def derivative_calls(samples, layers, o, n, dtype):
    """`layers` are the parameters of each."""
    p = sum(layers)

    def new(*shape):
        return absurd(*shape, dtype=dtype)

    w, v, out, image = samples[1], new(1, p), new(p), new(1, p)
    yield _core.mlp_loss, *samples
    yield _core.mlp_gradient, *samples, out
    yield _core.linearize, *samples, out
    for kind in (0, 1, 2):
        yield _core.mlp_diagonal, *samples, kind, out
        yield _core.mlp_product, *samples, kind, v, image
        for upper, lower in [(-1, -1), (0, 0), (len(layers) - 1, 0)]:
            shape = (p, p) if upper < 0 else (layers[upper], layers[lower])
            if shape[0] * shape[1] <= MOST:
                yield _core.mlp_dense, *samples, kind, upper, lower, new(*shape)
    for order in (1, 3):
        yield _core.mlp_taylor, *samples, order, out, new(order + 1, p)
    for s in (None, w):
        yield _core.mlp_multilinear, *samples, out, s, v, image
    if n * o <= MOST:
        yield _core.mlp_predict, *samples, new(n, o)
        yield _core.mlp_jvp, *samples, v, new(1, n, o)
        yield _core.mlp_vjp, *samples, new(1, n, o), image
    if n * p <= MOST:
        yield _core.mlp_sample_gradients, *samples, new(n, p)
    if n * o * p <= MOST:
        yield _core.mlp_jacobian, *samples, new(n, o, p)


def networks():
    """(layers, one sample's shape, samples): each with numbers that no memory holds."""
    side, wide = 1 << 15, 1 << 14
    mean = [nets.GlobalAvgPool2d(), nets.Dense(2, 2)]
    yield [nets.Conv2d(1, 2, side, padding=1), *mean], (1, side, side), 1
    yield [nets.Conv2d(1, 2, 3, padding=9999), nets.AvgPool2d(1), *mean], (1, 2, 2), 1
    yield (
        [nets.Conv2d(1, wide, 3, padding=1), "tanh", nets.Conv2d(wide, 2, 1), *mean],
        (1, 99, 8),
        9,
    )
    body = [nets.Conv2d(2, 2, 3, padding=1), nets.GroupNorm(2, 2), "gelu"]
    yield [nets.Residual(body), *mean], (2, side, wide), 300
    yield [nets.MaxPool2d(3, 1, 1), nets.AvgPool2d(3, 1, 1), *mean], (2, side, wide), 1
    yield [nets.Conv2d(1, 2, 1), nets.Flatten(), nets.Dense(LARGE, 1)], (1, 1 << 10, 1 << 9), HUGE
    yield [nets.Conv2d(LARGE, LARGE, 9, groups=LARGE), nets.Flatten()], (LARGE, 9, 9), LARGE
    attention = [nets.SelfAttention(2, 2), nets.MeanOverPositions(), nets.Dense(2, 2)]
    yield attention, (LARGE, 2), 1
    yield attention, (HUGE >> 1, 2), 1
    yield [nets.SelfAttention(1 << 19, 1), nets.MeanOverPositions()], (1, 1 << 19), 1
    yield [nets.SelfAttention(1 << 18, 1 << 18), nets.MeanOverPositions()], (99, 1 << 18), 1
    ended = [nets.LayerNorm(2), nets.MeanOverPositions(), nets.Dense(2, 2)]
    yield [nets.Embedding(HUGE, 2), nets.PositionEmbedding(4, 2), *ended], (4,), 2
    yield [nets.Embedding(3, 2), nets.PositionEmbedding(HUGE >> 1, 2), *ended], (HUGE >> 1,), 2
    yield [nets.Embedding(HUGE, wide >> 1), nets.MeanOverPositions()], (wide,), HUGE
    narrow = nets.Residual([nets.Dense(HUGE, 1), nets.Dense(1, HUGE)])
    yield [narrow, nets.Dense(HUGE, 1)], (HUGE,), 1


def groups():
    """(name, the function that yields its calls)."""
    most = (1 << 31) - 1
    for n, i, h, o in [
        (HUGE, 1, HUGE, 1),
        (HUGE, 1, 1, 1),
        (1, 1, HUGE, 1),
        (most, 1, most, 1),
        (1, most, 1, most),
        (LARGE, LARGE, LARGE, LARGE),
        (1, 1, 1, most),
        (300, LARGE, 1 << 14, 300),
    ]:
        yield f"slow {n} {i} {h} {o}", lambda s=(n, i, h, o): slow_calls(*s)
    for n, i, o in [
        (HUGE, 1, 1),
        (1, most >> 4, 1),
        (1 << 10, 1, HUGE),
        (LARGE, LARGE, LARGE),
        (2, 1, most),
        (most, 2, 1),
    ]:
        yield f"fast {n} {i} {o}", lambda s=(n, i, o): fast_calls(*s)
    for sizes, n in [
        ((1, HUGE), 1),
        ((1, HUGE), HUGE),
        ((HUGE, 1), 1),
        ((HUGE, 1, 1 << 14), 2),
        ((1, 1 << 20, 1 << 20), 1),
        ((1, most, 1), most),
        ((LARGE, LARGE), LARGE),
        ((1, 1 << 15), 1 << 15),
        ((1, 1, 1), most),
        ((1,) * 40 + (LARGE,) * 2, 1),
    ]:
        for loss, bias, dtype in [(0, 0, "d"), (3, 1, "f")]:
            name = f"net {sizes if len(sizes) < 5 else 'deep'} n={n} loss={loss} {dtype}"
            yield name, lambda a=(sizes, n, loss, bias, dtype): net_calls(*a)

    for index, (layers, shape, n) in enumerate(networks()):
        for loss, dtype in [(0, "d"), (3, "f")]:
            name = f"network {index} {shape} n={n} loss={loss} {dtype}"
            yield name, lambda a=(layers, shape, n, loss, dtype): network_calls(*a)


def limit(count):
    resource.setrlimit(resource.RLIMIT_AS, (count, resource.RLIM_INFINITY))


def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * mmap.PAGESIZE


def main(only):
    faulthandler.enable()
    signal.signal(signal.SIGALRM, interrupt)
    _core.set_threads(2)
    for name, calls in groups():
        if only not in name:
            continue
        for function, *arguments in calls():
            print(f"{name}: {function.__name__}", end=" ", flush=True)
            start = time.monotonic()
            try:
                limit(address_space() + ROOM)
                try:
                    signal.setitimer(signal.ITIMER_REAL, SECONDS)
                    function(*arguments)
                    answer = "done"
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except (MemoryError, ValueError, ArithmeticError, Interrupted) as error:
                answer = f"{type(error).__name__}: {error}"
            limit(resource.RLIM_INFINITY)
            print(f"{answer} ({time.monotonic() - start:.1f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
