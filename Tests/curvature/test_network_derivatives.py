"""Every derivative of nets of any layers, against JAX, PyTorch and differences; their identities.

Rounding: a number in a derivative of order o went through 2 (o + 1) passes, at most 8, each a chain
of sums of some 4,000 products and functions in all for these nets. Their errors, of at most one
unit each, are independent, so that 8 passes add √(8 × 4000) = 180 units; terms that cancel are up
to 5 times the result. That is 900 units of the largest entry, and 1e-13 in float64, 5e-5 in
float32, which is doubled, for there norms and attention have a range of sizes inside one pass.
"""

import math

import layer_references as reference
import layer_torch
import numpy as np
import pytest
from hypothesis import given, settings
from layer_cases import NETS, case, draw, make, nets, references

import swiftnets
from swiftnets import Network
from swiftnets.nets.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
)

pytest.importorskip("jax")

LIMITS = {np.float64: 1e-13, np.float32: 1e-4}
PARAMETERS = [
    pytest.param(name, dtype, id=f"{name}, {np.dtype(dtype)}") for name in NETS for dtype in LIMITS
]


def assert_near(ours, theirs, limit, size=0.0):
    """No entry further off than `limit` times the largest of theirs, or of `size`."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    size = max(float(abs(theirs).max(initial=0)), size)
    error = float(abs(ours.astype(np.longdouble) - theirs).max(initial=0))
    assert error <= limit * size, f"{error:.2e} of {size:.2e}, {error / (size or 1):.1e}"


def point_of(name, dtype=np.float64):
    """The case's point, its directions, what JAX found, and the limit."""
    it = case(name)
    net, *data = it.in_dtype(dtype)
    return net.at(*data), it.directions.astype(dtype), references(name), LIMITS[dtype]


# Against JAX -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), PARAMETERS)
def test_values_and_gradients_are_those_of_jax(name, dtype):
    point, _, (found, *_), limit = point_of(name, dtype)
    net, (_, *data) = point.net, case(name).in_dtype(dtype)
    assert net.parameter_count == len(found["gradient"])
    assert_near(net.predict(*data[:2]), found["outputs"], limit)
    assert_near(point.outputs, found["outputs"], limit)
    assert_near(net.loss(*data), found["loss"], limit)
    assert_near(point.loss, found["loss"], limit)
    assert_near(net.gradient(*data), found["gradient"], limit)
    assert_near(point.gradient, found["gradient"], limit)
    loss, gradient = net.loss_and_gradient(*data)
    assert_near(loss, found["loss"], limit)
    assert_near(gradient, found["gradient"], limit)
    assert gradient.dtype == dtype


@pytest.mark.parametrize(("name", "dtype"), PARAMETERS)
def test_products_of_the_matrices_are_those_of_jax(name, dtype):
    point, v, (found, *_), limit = point_of(name, dtype)
    net, (_, *data) = point.net, case(name).in_dtype(dtype)
    identity = np.eye(v.shape[1], dtype=dtype)
    theirs = found["hessian"]
    assert_near(net.hvp(*data, v[0]), theirs @ v[0], limit)
    assert_near(net.hvp(*data, v), v @ theirs, limit)
    assert_near(net.hvp(*data, identity), theirs, limit)
    matrices = [
        (point.hessian, theirs),
        (point.gauss_newton, reference.gauss_newton(net, found)),
        (point.fisher("empirical"), reference.empirical_fisher(net, found)),
    ]
    for ours, theirs in matrices:
        assert_near(ours @ v[0], theirs @ v[0], limit)
        assert_near(v @ ours, v @ theirs, limit)
        assert_near(identity @ ours, theirs, limit)


@pytest.mark.parametrize(("name", "dtype"), PARAMETERS)
def test_matrices_blocks_and_diagonals_are_those_of_jax(name, dtype):
    point, _, (found, *_), limit = point_of(name, dtype)
    slices = point.net.layer_slices
    assert [s.start for s in slices[1:]] == [s.stop for s in slices[:-1]]
    assert (slices[0].start, slices[-1].stop) == (0, point.net.parameter_count)
    matrices = [
        (point.hessian, found["hessian"]),
        (point.gauss_newton, reference.gauss_newton(point.net, found)),
        (point.fisher("empirical"), reference.empirical_fisher(point.net, found)),
    ]
    for ours, theirs in matrices:
        size = abs(theirs).max()
        dense = ours.dense()
        assert_near(dense, theirs, limit)
        assert (dense == dense.T).all()
        assert_near(ours.diagonal(), theirs.diagonal(), limit, size)
        diagonal = ours.dense(block="diagonal")
        assert len(diagonal) == len(slices)
        for i, rows in enumerate(slices):
            assert_near(diagonal[i], theirs[rows, rows], limit, size)
            for j, columns in enumerate(slices):
                assert_near(ours.dense(block=(i, j)), theirs[rows, columns], limit, size)


@pytest.mark.parametrize(("name", "dtype"), PARAMETERS)
def test_derivatives_of_samples_and_outputs_are_those_of_jax(name, dtype):
    point, v, (found, *_), limit = point_of(name, dtype)
    jacobian = found["jacobian"]
    u = np.random.default_rng(3).standard_normal((2, *jacobian.shape[:2])).astype(dtype)
    assert_near(point.per_sample_gradients(), found["samples"], limit)
    assert_near(point.jacobian(), jacobian, limit)
    assert_near(point.jvp(v), np.einsum("nap,kp->kna", jacobian, v), limit)
    assert_near(point.jvp(v[0]), jacobian @ v[0], limit)
    assert_near(point.vjp(u), np.einsum("nap,kna->kp", jacobian, u), limit)
    assert_near(point.vjp(u[0]), np.einsum("nap,na->p", jacobian, u[0]), limit)


@pytest.mark.parametrize(("name", "dtype"), PARAMETERS)
def test_third_and_fourth_derivatives_are_those_of_jax(name, dtype):
    point, (u, v, s), (found, mixed, same), limit = point_of(name, dtype)
    # What is 0, as Q of a linear layer under a squared error, is so to the rounding of H.
    size = abs(mixed[0,]).max()
    assert_near(point.third(u, v), mixed[0, 1], limit, size)
    assert_near(point.third(u, np.stack([v, s, u])), [mixed[0, 1], mixed[0, 2], same[0, 1]], limit)
    assert_near(point.fourth(u, v, s), mixed[0, 1, 2], limit, size)
    assert_near(point.fourth(u, u, np.stack([u])), same[0, 1, 2][None], limit, size)
    series = [same[()], same[0,], same[0, 1], same[0, 1, 2]]
    for order in range(4):
        taylor = point.taylor(u, order)
        assert len(taylor.gradient) == order + 1
        for k, theirs in enumerate(series[: order + 1]):
            assert_near(taylor.derivatives[k], theirs, limit, size)
            slope = theirs @ u.astype(float) / math.factorial(k + 1)
            assert_near(taylor.loss[k + 1], slope, limit, abs(theirs) @ abs(u))
        assert_near(taylor.loss[0], found["loss"], limit)


@pytest.mark.parametrize("name", ["lenet", "former", "tokens"])
def test_samples_count_by_their_weights(name):
    it, limit = case(name), LIMITS[np.float64]
    found = reference.first_and_second(it.net, *it.data, it.weights)
    point = it.net.at(*it.data, sample_weight=it.weights)
    assert_near(point.loss, found["loss"], limit)
    assert_near(point.gradient, found["gradient"], limit)
    v = it.directions
    assert_near(v @ point.hessian, v @ found["hessian"], limit)
    gauss_newton = reference.gauss_newton(it.net, found, it.weights)
    assert_near(v @ point.gauss_newton, v @ gauss_newton, limit)
    fisher = reference.empirical_fisher(it.net, found, it.weights)
    assert_near(v @ point.fisher("empirical"), v @ fisher, limit)
    assert_near(point.fisher("empirical").diagonal(), fisher.diagonal(), limit)
    ((mixed),) = reference.along(it.net, *it.data, [v], it.weights)
    assert_near(point.third(v[0], v[1]), mixed[0, 1], limit)
    assert_near(point.fourth(*v), mixed[0, 1, 2], limit)


@pytest.mark.parametrize("name", ["lenet", "former"])
def test_targets_of_the_softmax_may_be_probabilities(name):
    it, limit = case(name), LIMITS[np.float64]
    rows = np.random.default_rng(7).multinomial(8, np.full(4, 0.25), size=len(it.x)) / 8
    found = reference.first_and_second(it.net, it.w, it.x, rows)
    point = it.net.at(it.w, it.x, rows)
    assert_near(point.gradient, found["gradient"], limit)
    assert_near(point.hessian @ it.directions[0], found["hessian"] @ it.directions[0], limit)
    assert_near(point.gauss_newton.dense(), reference.gauss_newton(it.net, found), limit)


# Against PyTorch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_layers_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    it, limit = case(name), LIMITS[np.float64]
    w = torch.tensor(it.w, requires_grad=True)
    outputs = layer_torch.outputs(torch, it.net, w, it.x)
    each = layer_torch.losses(torch, it.net.loss_function, outputs, it.y)
    each = each.mean() if it.net.reduction == "mean" else each.sum()
    (gradient,) = torch.autograd.grad(each + it.net.l2 / 2 * w @ w, w)
    assert_near(it.net.predict(it.w, it.x), outputs.detach().numpy(), limit)
    assert_near(it.net.gradient(*it.data), gradient.numpy(), limit)


# In closed form ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", LIMITS)
def test_ties_of_a_max_pool_go_to_the_first_in_rows(dtype):
    # A 1×1 convolution with weights (1, 1) makes 3 of (1, 2), (3, 0) and (2, 1): the gradient in
    # its weights is the pixel that was taken.
    net = Network(
        [Conv2d(2, 1, 1, bias=False), MaxPool2d(2), Flatten(), Dense(2, 1, bias=False)],
        input_shape=(2, 2, 4),
        dtype=dtype,
    )
    pixels = np.array([[(0, 0), (1, 2), (1, 0), (1, 1)], [(2, 1), (3, 0), (3, 0), (2, 1)]], dtype)
    x = pixels.transpose(2, 0, 1)[None]
    w = np.array([1, 1, 1, 10], dtype)
    (jacobian,) = net.at(w, x).jacobian()
    assert jacobian.tolist() == [[1 + 10 * 3, 2 + 10 * 0, 3, 3]]


def convolved(x, weights, bias, stride, padding):
    """Channels last; a sum over the cells of the kernel."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    kh, kw = weights.shape[:2]
    rows = (x.shape[1] - kh) // stride[0] + 1
    columns = (x.shape[2] - kw) // stride[1] + 1
    total = bias
    for i, j in np.ndindex(kh, kw):
        part = x[:, i :: stride[0], j :: stride[1]][:, :rows, :columns]
        total = total + part @ weights[i, j]
    return total


def extended_loss(w, x, y):
    """Of the net in the test below, in the arithmetic of its arguments."""
    a = np.tanh(convolved(x, w[:54].reshape(3, 3, 2, 3), w[54:57], (2, 1), 1))
    rows = a[:, :1] + a[:, 1:2]  # of three; the pool leaves the last out
    pooled = (rows[:, :, 0::2] + rows[:, :, 1::2]) / 4
    z = pooled.transpose(0, 3, 1, 2).reshape(len(x), -1) @ w[57:69].reshape(6, 2) + w[69:71]
    largest = z.max(axis=1)
    total = np.log(np.exp(z - largest[:, None]).sum(axis=1)) + largest
    return (total - z[np.arange(len(y)), y]).sum()


def test_a_convolution_is_differentiated_as_differences_in_extended_precision_say():
    # Central differences of order 8: Σ c_k (f(w + k h) - f(w - k h)) / h; with h = 2⁻⁷ truncation
    # is h⁸ f⁽⁹⁾ / 630 = 2e-20 f⁽⁹⁾, and rounding 2⁻⁶⁴ × 2 / h = 1e-17; in two directions 3e-15.
    net = Network(
        [
            *(Conv2d(2, 3, 3, stride=(2, 1), padding=1), "tanh"),
            *(AvgPool2d(2), Flatten(), Dense(6, 2)),
        ],
        input_shape=(2, 5, 4),
        loss="softmax_cross_entropy",
    )
    it = draw(net, np.random.default_rng(11))
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("needs a longdouble of 64 bits")
    inputs, direction = it.x / 2, it.directions[0] / 4  # so that the ninth derivatives are small
    w, v = it.w.astype(np.longdouble), direction.astype(np.longdouble)
    x = inputs.transpose(0, 2, 3, 1).astype(np.longdouble)
    step, factors = np.longdouble(2.0**-7), {1: (4, 5), 2: (-1, 5), 3: (4, 105), 4: (-1, 280)}

    def difference(function):
        """The derivative at 0 of a function of a number."""
        terms = (
            (function(k * step) - function(-k * step)) * above / np.longdouble(below)
            for k, (above, below) in factors.items()
        )
        return sum(terms) / step

    basis = np.eye(len(w), dtype=np.longdouble)
    gradient = [difference(lambda t, e=e: extended_loss(w + t * e, x, it.y)) for e in basis]
    product = [
        difference(lambda t, e=e: difference(lambda r: extended_loss(w + t * e + r * v, x, it.y)))
        for e in basis
    ]
    point = net.at(it.w, inputs, it.y)
    assert_near(point.loss, extended_loss(w, x, it.y), LIMITS[np.float64])
    assert_near(point.gradient, np.array(gradient, float), LIMITS[np.float64])
    assert_near(point.hessian @ direction, np.array(product, float), LIMITS[np.float64])


# Identities --------------------------------------------------------------------------------------


@settings(max_examples=60, derandomize=True, database=None)
@given(nets())
def test_random_nets_keep_the_identities_of_derivatives(it):
    point, (u, v, s), limit = it.net.at(*it.data), it.directions, 10 * LIMITS[np.float64]
    hessian, (gradient, loss) = point.hessian, (point.gradient, point.loss)
    series = point.taylor(u, 3)

    def near(ours, theirs, *sizes):
        """Up to the rounding of what both are sums of."""
        sizes = [abs(np.asarray(a)).max(initial=0) for a in (ours, theirs, *sizes)]
        assert_near(ours, theirs, limit, max(sizes))

    # E_k = <g_{k-1}, v> / k, and each order alone is that of the series.
    near(series.loss[0], loss)
    for k, row in enumerate(series.gradient):
        near(series.loss[k + 1], row @ u / (k + 1), abs(row) @ abs(u))
    images = np.stack([u, v, s, u + v]) @ hessian
    thirds, fourth = point.third(u, np.stack([u, v, s, u + v])), point.fourth(u, u, u)
    near(series.derivatives[0], gradient)
    near(series.derivatives[1], images[0])
    near(series.derivatives[2], thirds[0], images)
    near(series.derivatives[3], fourth, images, thirds)
    # Linear in each direction.
    near(images[3], images[0] + images[1], images)
    near(thirds[3], thirds[0] + thirds[1], thirds, images)
    near(point.fourth(u, v, u + s), point.fourth(u, v, u) + point.fourth(u, v, s), fourth, thirds)
    # Symmetric in all.
    near(images[0] @ v, images[1] @ u, abs(images[0]) @ abs(v))
    near(point.third(v, u), thirds[1], thirds, images)
    near(thirds[1] @ s, thirds[2] @ v, abs(thirds).max(0) @ abs(v))
    one = point.fourth(u, v, s)
    near(point.fourth(s, u, v), one, fourth, thirds)
    near(point.fourth(v, s, u), one, fourth, thirds)
    # The forms of one thing.
    dense, jacobian = hessian.dense(), point.jacobian()
    near(dense @ u, images[0], abs(dense) @ abs(u))
    near(hessian.diagonal(), dense.diagonal(), dense)
    near(point.jvp(u), jacobian @ u, abs(jacobian) @ abs(u))
    cotangents = np.random.default_rng(1).standard_normal(jacobian.shape[:2])
    near(point.vjp(cotangents), np.einsum("nap,na->p", jacobian, cotangents), jacobian)
    samples, shares = point.per_sample_gradients(), reference.shares(it.net, len(it.x))
    near(shares @ samples + it.net.l2 * it.w, gradient, samples)
    for matrix in (point.gauss_newton, point.fisher("empirical")):
        dense = matrix.dense()
        near(matrix @ u, dense @ u, abs(dense) @ abs(u))
        near(matrix.diagonal(), dense.diagonal(), dense)
        assert np.linalg.eigvalsh(dense).min() >= it.net.l2 - limit * (1 + abs(dense).max())


@settings(
    max_examples=5,
    derandomize=True,
    database=None,
)
@given(nets())
def test_random_nets_are_differentiated_as_jax_does(it):
    point, limit = it.net.at(*it.data), 10 * LIMITS[np.float64]
    (theirs,) = reference.along(it.net, *it.data, [it.directions])
    u, v, s = it.directions
    size = abs(theirs[0,]).max()
    assert_near(point.gradient, theirs[()], limit)
    assert_near(point.hessian @ u, theirs[0,], limit)
    assert_near(point.third(u, v), theirs[0, 1], limit, size)
    assert_near(point.fourth(u, v, s), theirs[0, 1, 2], limit, size)


# Sums over samples -------------------------------------------------------------------------------


def every_sum(net, w, x, y, directions, with_dense=True):
    """What is a sum over samples, by name."""
    point, (u, v, s) = net.at(w, x, y), directions
    matrices = {
        "hessian": point.hessian,
        "gauss_newton": point.gauss_newton,
        "empirical": point.fisher("empirical"),
    }
    results = {
        "loss": np.array(point.loss),
        "gradient": point.gradient,
        "hvp": net.hvp(w, x, y, u),
        "taylor": point.taylor(u, 3).gradient,
        "third": point.third(u, v),
        "fourth": point.fourth(u, v, s),
    }
    for kind, matrix in matrices.items():
        results[f"{kind}, products"] = directions @ matrix
        results[f"{kind}, diagonal"] = matrix.diagonal()
        if with_dense:
            results[f"{kind}, dense"] = matrix.dense()
    return results


@pytest.mark.parametrize("n", [1, 7, 200])
@pytest.mark.parametrize("name", ["lenet", "resnet", "strided", "former", "tokens with attention"])
def test_many_samples_are_the_sum_of_single_ones(name, n):
    net = make(name, reduction="sum", l2=0.0)
    it = draw(net, np.random.default_rng(n), n)
    with_dense = n < 100
    together = every_sum(net, *it.data, it.directions, with_dense)
    # The terms of a sum cancel, and rounding is relative to their sizes.
    singles, sizes = {}, {}
    for i in range(n):
        one = it.w, it.x[i : i + 1], it.y[i : i + 1]
        for key, value in every_sum(net, *one, it.directions, with_dense).items():
            singles[key] = singles.get(key, 0) + value
            sizes[key] = sizes.get(key, 0) + abs(value).max()
    for key, value in together.items():
        assert_near(value, singles[key], LIMITS[np.float64], float(sizes[key]))
    point = net.at(*it.data)
    rows = {"jacobian": point.jacobian(), "gradients": point.per_sample_gradients()}
    for i in range(0, n, 13):
        one = net.at(it.w, it.x[i : i + 1], it.y[i : i + 1])
        assert_near(rows["jacobian"][i : i + 1], one.jacobian(), LIMITS[np.float64])
        assert_near(rows["gradients"][i : i + 1], one.per_sample_gradients(), LIMITS[np.float64])
        assert_near(point.outputs[i : i + 1], one.outputs, LIMITS[np.float64])


@pytest.mark.parametrize("name", ["lenet", "strided", "former", "tokens"])
def test_samples_may_come_in_batches(name):
    net = make(name)
    it = draw(net, np.random.default_rng(5), 7)
    parts = [(it.x[i : i + 3], it.y[i : i + 3]) for i in range(0, 7, 3)]
    whole, batched = net.at(*it.data), net.at(it.w, parts)
    u, v, s = it.directions
    for ours, theirs in [
        (batched.loss, whole.loss),
        (batched.gradient, whole.gradient),
        (it.directions @ batched.hessian, it.directions @ whole.hessian),
        (batched.gauss_newton.diagonal(), whole.gauss_newton.diagonal()),
        (batched.fourth(u, v, s), whole.fourth(u, v, s)),
        (batched.jacobian(), whole.jacobian()),
    ]:
        assert_near(ours, theirs, LIMITS[np.float64])


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", ["lenet", "resnet", "strided", "former", "tokens with attention"])
def test_one_and_two_threads_give_the_same_bits(name, dtype):
    net = make(name, dtype=dtype)
    it = draw(net, np.random.default_rng(9), 37)
    w, v = it.w.astype(dtype), it.directions.astype(dtype)
    x, y = (a if a.dtype.kind == "i" else a.astype(dtype) for a in (it.x, it.y))
    found = []
    for count in (1, 2, 2):
        with swiftnets.threads(count):
            point = net.at(w, x, y)
            found.append(
                every_sum(net, w, x, y, v)
                | {"jacobian": point.jacobian(), "gradients": point.per_sample_gradients()}
                | {"jvp": point.jvp(v), "outputs": point.outputs}
            )
    for key, value in found[0].items():
        assert (value == found[1][key]).all() and (value == found[2][key]).all(), key


def test_a_net_may_have_no_bias_and_one_of_everything():
    net = Network(
        [Conv2d(1, 1, 1, bias=False), GlobalAvgPool2d(), Dense(1, 1, bias=False)],
        input_shape=(1, 1, 1),
    )
    point = net.at([2.0, 3.0], [[[[5.0]]]], [[1.0]])
    # L = ½ (5 a b - 1)², whose derivative twice in a and twice in b is 2 × 5².
    assert point.loss == 0.5 * 29**2
    assert point.gradient.tolist() == [29 * 15, 29 * 10]
    assert point.hessian.dense().tolist() == [[15**2, 295], [295, 10**2]]
    assert point.fourth([1, 0], [1, 0], [0, 1]).tolist() == [0, 50]
