"""What `swiftnets.MLP` computes, once more: literal formulas in any arithmetic, for its tests.

Arrays of float64, of `numpy.longdouble` or of mpmath's numbers (dtype object) all work, and the
parameters may have leading dimensions: one call then evaluates many points. There are only the loss
and its gradient here; second and higher derivatives are differences of that gradient.
"""

import functools
import itertools
import zlib
from dataclasses import dataclass

import mpmath
import numpy as np
from hypothesis import strategies as st

import swiftnets
from swiftnets.nets.activations import ELU, GELU, Activation, LeakyReLU
from swiftnets.nets.losses import Huber, Loss

mpmath.mp.dps = 60

# Arithmetic --------------------------------------------------------------------------------------


def extended(array):
    """The same numbers with the 64 bits of x86's long double."""
    return np.asarray(array).astype(np.longdouble)


def exact(array):
    """The same numbers with mpmath's 60 digits."""
    return np.frompyfunc(mpmath.mpf, 1, 1)(np.asarray(array, np.float64))


def _function(name, a):
    if isinstance(a, mpmath.mpf) or a.dtype == object:
        return np.frompyfunc(getattr(mpmath, name), 1, 1)(a)
    return getattr(np, name)(a)


def _pi(a):
    if a.dtype == object:
        return +mpmath.mp.pi
    return a.dtype.type("3.14159265358979323846264338327950288")


def _normal(a):
    """The standard normal distribution and its density.

    NumPy has no erf, and SciPy's rounds to float64. The series is DLMF 7.6.2; all its terms have
    one sign.
    """
    density = _function("exp", -a * a / 2) / _function("sqrt", 2 * _pi(a))
    if a.dtype == object:
        return _function("ncdf", a), density
    term = total = a
    k = 0
    while (abs(term) > np.finfo(a.dtype).eps / 4 * abs(total)).any():
        k += 1
        term = term * a * a / (2 * k + 1)
        total = total + term
    return (1 + 2 * density * total) / 2, density


def _logistic(a):
    e = _function("exp", -abs(a))
    return np.where(a > 0, 1 / (1 + e), e / (1 + e))


def _softplus(a):
    return np.where(a > 0, a, 0 * a) + _function("log1p", _function("exp", -abs(a)))


# Activations and losses --------------------------------------------------------------------------


def activate(activation, a):
    """s(a) and s'(a)."""
    one = a * 0 + 1
    match activation.name:
        case "identity":
            return a, one
        case "relu" | "leaky_relu":
            slope = activation.parameter * one
            return np.where(a > 0, a, slope * a), np.where(a > 0, one, slope)
        case "elu":
            left = np.where(a > 0, 0 * a, a)
            y, slope = (activation.parameter * _function(name, left) for name in ("expm1", "exp"))
            return np.where(a > 0, a, y), np.where(a > 0, one, slope)
        case "tanh":
            y = _function("tanh", a)
            return y, 1 - y * y
        case "sigmoid":
            y = _logistic(a)
            return y, y * _logistic(-a)
        case "softplus":
            return _softplus(a), _logistic(a)
        case "silu":
            y = _logistic(a)
            return a * y, y + a * y * _logistic(-a)
        case "gelu":
            distribution, density = _normal(a)
            return a * distribution, distribution + a * density
        case "gelu_tanh":
            c = _function("sqrt", 2 / _pi(a))
            t = _function("tanh", c * (a + 44715 * a**3 / 10**6))
            slope = c * (1 + 3 * 44715 * a**2 / 10**6)
            return a * (1 + t) / 2, (1 + t) / 2 + a * (1 - t * t) * slope / 2
        case "sine":
            return _function("sin", a), _function("cos", a)
    raise AssertionError(activation)


def _log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - _function("log", _function("exp", z).sum(axis=-1, keepdims=True))


def loss_of_outputs(loss, z, y):
    """The losses of the samples, and their gradients and Hessians in the outputs z."""
    r, identity = z - y, np.eye(z.shape[-1], dtype=int)
    match loss.name:
        case "squared_error":
            return (r * r).sum(axis=-1) / 2, r, (z * 0 + 1)[..., None] * identity
        case "huber":
            delta, inside, outside = loss.parameter, abs(r) < loss.parameter, np.where(r > 0, 1, -1)
            each = np.where(inside, r * r / 2, delta * (abs(r) - delta / 2))
            curvature = np.where(inside, 1 + 0 * r, 0 * r)
            slope = np.where(inside, r, delta * outside)
            return each.sum(axis=-1), slope, curvature[..., None] * identity
        case "binary_cross_entropy":
            p = _logistic(z)
            each = _softplus(z) - y * z
            return each.sum(axis=-1), p - y, (p * _logistic(-z))[..., None] * identity
        case "softmax_cross_entropy":
            log_p, total = _log_softmax(z), y.sum(axis=-1, keepdims=True)
            p = _function("exp", log_p)
            hessian = p[..., None] * identity - p[..., None] * p[..., None, :]
            return -(y * log_p).sum(axis=-1), total * p - y, total[..., None] * hessian
    raise AssertionError(loss)


# The net -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """The settings of a net, with one activation for each layer."""

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    loss: Loss
    bias: bool = True
    reduction: str = "sum"
    l2: float = 0.0

    @property
    def parameter_count(self):
        return sum((m + self.bias) * n for m, n in itertools.pairwise(self.sizes))

    def engine(self, dtype=np.float64, **changes):
        """The `swiftnets.MLP` of these settings."""
        settings = {
            "activation": self.activations[:-1],
            "output_activation": self.activations[-1],
            "loss": self.loss,
            "bias": self.bias,
            "reduction": self.reduction,
            "l2": self.l2,
        }
        return swiftnets.MLP(self.sizes, dtype=dtype, **(settings | changes))


def layers(net, w):
    """The weights and biases (None where there are none) of each layer."""
    start, pairs = 0, []
    for m, n in itertools.pairwise(net.sizes):
        weights = w[..., start : start + m * n].reshape(*w.shape[:-1], m, n)
        start += m * n
        bias = w[..., None, start : start + n] if net.bias else None
        start += n if net.bias else 0
        pairs.append((weights, bias))
    assert start == w.shape[-1]
    return pairs


def forward(net, w, x):
    """The pre-activations of each layer, and the inputs followed by each layer's outputs."""
    before, after = [], [x]
    for activation, (weights, bias) in zip(net.activations, layers(net, w), strict=True):
        a = after[-1] @ weights
        before.append(a if bias is None else a + bias)
        after.append(activate(activation, before[-1])[0])
    return before, after


def rows_of_targets(net, y, like):
    """Targets as rows of the same arithmetic: labels become one-hot."""
    y = np.asarray(y)
    if net.loss.name == "softmax_cross_entropy" and y.ndim == 1:
        y = np.eye(net.sizes[-1])[y]
    return exact(y) if like.dtype == object else y.astype(like.dtype)


def _scales(net, x, sample_weight):
    s = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight)
    s = exact(s) if x.dtype == object else s.astype(x.dtype)
    return s / s.sum() if net.reduction == "mean" else s


def predict(net, w, x):
    return forward(net, w, x)[1][-1]


def loss(net, w, x, y, sample_weight=None):
    each = loss_of_outputs(net.loss, predict(net, w, x), rows_of_targets(net, y, x))[0]
    return (_scales(net, x, sample_weight) * each).sum(axis=-1) + net.l2 * (w * w).sum(axis=-1) / 2


def backward(net, w, after, before, d):
    """Plain backpropagation of d, the derivatives of a number in the outputs of each sample."""
    gradients = []
    for activation, (weights, _), a, z in zip(
        net.activations[::-1], layers(net, w)[::-1], before[::-1], after[-2::-1], strict=True
    ):
        d = d * activate(activation, a)[1]
        z = np.broadcast_to(z, d.shape[:-2] + z.shape[-2:])
        if net.bias:
            gradients.append(d.sum(axis=-2))
        product = z.swapaxes(-1, -2) @ d
        gradients.append(product.reshape(*product.shape[:-2], -1))
        d = d @ weights.swapaxes(-1, -2)
    return np.concatenate(gradients[::-1], axis=-1)


def gradient(net, w, x, y, sample_weight=None):
    before, after = forward(net, w, x)
    d = loss_of_outputs(net.loss, after[-1], rows_of_targets(net, y, x))[1]
    scales = _scales(net, x, sample_weight)[:, None]
    return backward(net, w, after, before, scales * d) + net.l2 * w


def jacobian(net, w, x):
    """[samples, outputs, parameters], one backpropagation for each output."""
    n, outputs = len(x), net.sizes[-1]
    result = np.empty((n, outputs, len(w)), x.dtype)
    for sample, output in np.ndindex(n, outputs):
        before, after = forward(net, w, x[sample : sample + 1])
        d = after[-1] * 0 + np.eye(outputs, dtype=int)[output]
        result[sample, output] = backward(net, w, after, before, d)
    return result


def gauss_newton(net, w, x, y, sample_weight=None):
    """The sum of s Jᵀ C J over samples, and l2."""
    c = loss_of_outputs(net.loss, predict(net, w, x), rows_of_targets(net, y, x))[2]
    c = _scales(net, x, sample_weight)[:, None, None] * c
    j = jacobian(net, w, x)
    return (j.swapaxes(-1, -2) @ c @ j).sum(axis=0) + net.l2 * np.eye(len(w), dtype=int)


# Differences -------------------------------------------------------------------------------------


def cells(net, w, x, y):
    """On which side of every kink each pre-activation and each residual of Huber's loss is."""
    kinked = [activation.name in KINKED for activation in net.activations]
    if not any(kinked) and net.loss.name != "huber":
        return np.zeros(0, bool)
    before, after = forward(net, w, x)
    sides = [a > 0 for has_kink, a in zip(kinked, before, strict=True) if has_kink]
    if net.loss.name == "huber":
        r = after[-1] - rows_of_targets(net, y, x)
        sides += [r > -net.loss.parameter, r > net.loss.parameter]
    return np.concatenate(sides, axis=-1)


STEP = 2.0**-9
WEIGHTS = {1: (4, 5), 2: (-1, 5), 3: (4, 105), 4: (-1, 280)}


def differences(function, w, check=None):
    """The derivatives of a function in each parameter, in front: central differences, order 8.

    Each entry is Σ c_k (f(w + k h) - f(w - k h)) / h, k = 1…4 (Fornberg 1988). With h = 2⁻⁹ the
    parameters, float32's, move without rounding. The truncation error is h⁸ f⁽⁹⁾ / 630. Where a
    parameter moves an argument of an activation by up to 10 for each 1, f⁽⁹⁾ is about 10⁹ (sine:
    exactly), and the error 2⁻⁷² × 10⁹ / 630 = 3e-16. Rounding adds Σ 2 |c_k| / h = 2.1 × 512 times
    2⁻⁶⁴ times the square root of the roundings of f, about 1e-15: below all bounds by 50.
    """
    h = w.dtype.type(STEP)
    directions = np.eye(len(w), dtype=w.dtype)
    total = 0
    for k, (above, below) in WEIGHTS.items():
        ahead, behind = w + k * h * directions, w - k * h * directions
        if check is not None:
            check(ahead)
            check(behind)
        total = total + (function(ahead) - function(behind)) * w.dtype.type(above) / below
    return total / h


def hessian(net, w, x, y, sample_weight=None):
    """By differences of the gradient, all of them within one cell of a piecewise-linear net."""
    w, x = extended(w), extended(x)
    here = cells(net, w, x, y)

    def check(points):
        assert (cells(net, points, x, y) == here).all()

    return differences(lambda points: gradient(net, points, x, y, sample_weight), w, check)


NUDGE = mpmath.mpf(10) ** -12


def mixed(net, w, x, y, directions, sample_weight=None):
    """g, H[u], …, T[u, v], …, Q[u, v, s]: a dictionary from sets of direction numbers.

    Central differences of the gradient at the 2³ points w ± h u ± h v ± h s, in 60 digits. With
    h = 10⁻¹² the truncation error is h² = 10⁻²⁴ times higher derivatives, and rounding is
    10⁻⁶⁰ / h³ = 10⁻²⁴ times the size of the gradient.
    """
    w, x = exact(w), exact(x)
    here = cells(net, w, x, y)
    sums = {}
    signs = list(itertools.product((1, -1), repeat=len(directions)))
    for sign in signs:
        point = w + NUDGE * sum(s * exact(d) for s, d in zip(sign, directions, strict=True))
        assert (cells(net, point, x, y) == here).all()
        g = gradient(net, point, x, y, sample_weight)
        for size in range(len(directions) + 1):
            for chosen in itertools.combinations(range(len(directions)), size):
                factor = np.prod([sign[i] for i in chosen], dtype=int)
                sums[chosen] = sums.get(chosen, 0) + int(factor) * g
    return {
        chosen: _told_from_zero((total / (len(signs) * NUDGE ** len(chosen))).astype(np.float64))
        for chosen, total in sums.items()
    }


def _told_from_zero(array):
    return np.where(abs(array) < 1e-18, 0, array)


# Cases -------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "identity": Activation("identity"),
    "relu": Activation("relu"),
    "leaky_relu": LeakyReLU(0.25),
    "tanh": Activation("tanh"),
    "sigmoid": Activation("sigmoid"),
    "softplus": Activation("softplus"),
    "silu": Activation("silu"),
    "gelu": GELU(),
    "gelu_tanh": GELU("tanh"),
    "sine": Activation("sine"),
    "elu": ELU(0.75),
}
KINKED = ("relu", "leaky_relu", "elu")
LOSSES = {
    "squared_error": Loss("squared_error"),
    "softmax_cross_entropy": Loss("softmax_cross_entropy"),
    "binary_cross_entropy": Loss("binary_cross_entropy"),
    "huber": Huber(0.75),
}
SIZES = {1: (3, 4), 2: (3, 4, 2), 3: (2, 3, 4, 3), 4: (2, 3, 4, 2, 3)}
ALL = [
    (activation, loss, bias, depth)
    for activation in ACTIVATIONS
    for loss in LOSSES
    for bias in (True, False)
    for depth in SIZES
]
DTYPES = (np.float64, np.float32)


def label(name):
    """Of one of `ALL`, for pytest."""
    activation, loss, bias, depth = name
    return f"{activation}-{loss}-{'bias' if bias else 'no bias'}-{depth}"


MARGIN = 0.125


@dataclass(frozen=True)
class Case:
    """A net at a point on some samples; the numbers are float32's, so both dtypes hold them."""

    net: Net
    w: np.ndarray
    x: np.ndarray
    y: np.ndarray
    directions: np.ndarray
    weights: np.ndarray

    def data(self, dtype):
        y = self.y if self.y.ndim == 1 else self.y.astype(dtype)
        return self.w.astype(dtype), self.x.astype(dtype), y


def draw_targets(random, net, n):
    """Targets of each kind: probabilities are eighths, so that rows sum to 1 in every arithmetic;
    the softmax takes labels where the depth is even."""
    outputs = net.sizes[-1]
    if net.loss.name == "softmax_cross_entropy" and len(net.sizes) % 2:
        return random.integers(outputs, size=n)
    if net.loss.name == "softmax_cross_entropy":
        return random.multinomial(8, np.full(outputs, 1 / outputs), size=n) / 8
    if net.loss.name == "binary_cross_entropy":
        return random.integers(9, size=(n, outputs)) / 8
    return single(1.5 * random.standard_normal((n, outputs)))


def single(array):
    return array.astype(np.float32).astype(np.float64)


def draw_parameters(random, net):
    """Weights that keep the size of what passes through them, and biases of half that size."""
    parts = []
    for m, n in itertools.pairwise(net.sizes):
        parts.append(random.standard_normal(m * n) / m**0.5)
        parts.append(random.standard_normal(n * net.bias) / 2)
    return single(np.concatenate(parts))


@functools.cache
def case(activation, loss, bias, depth, n=3, **settings):
    """A case by the names of its parts, the same in every run.

    Outputs pass through the activation where the depth is odd. Samples are drawn until all are
    farther than `MARGIN` from every kink, and parameters until some sample gets through all layers.
    """
    hidden = ACTIVATIONS[activation]
    output = hidden if depth % 2 else ACTIVATIONS["identity"]
    net = Net(SIZES[depth], (hidden,) * (depth - 1) + (output,), LOSSES[loss], bias, **settings)
    random = np.random.default_rng(zlib.crc32(f"{activation} {loss} {bias} {depth}".encode()))
    first = slice(0, net.sizes[0] * net.sizes[1])
    curved = False
    while not curved:
        w, rows = draw_parameters(random, net), []
        for _ in range(40 + 20 * n):
            x, y = single(random.standard_normal((1, net.sizes[0]))), draw_targets(random, net, 1)
            if len(rows) < n and _distance(net, w, x, y) > MARGIN:
                rows.append((x[0], y[0]))
        if len(rows) == n:
            x, y = (np.array(column) for column in zip(*rows, strict=True))
            curved = gauss_newton(net, w, x, y)[first, first].any()
    directions = single(random.standard_normal((3, len(w))) / 2)
    return Case(net, w, x, y, directions, random.integers(1, 9, size=n) / 4)


def _distance(net, w, x, y):
    """From the nearest kink."""
    before, after = forward(net, w, x)
    far = [np.inf]
    for activation, a in zip(net.activations, before, strict=True):
        if activation.name in KINKED:
            far.append(abs(a).min())
    if net.loss.name == "huber":
        far.append(abs(abs(after[-1] - y) - net.loss.parameter).min())
    return min(far)


@st.composite
def problems(draw):
    """A net, a point, samples, and a generator of more numbers; anywhere, also at kinks.

    Widths and counts are small, or near those at which the engine's loops have remainders.
    """
    widths = st.integers(1, 5) | st.sampled_from([8, 9, 12])
    sizes = tuple(draw(st.lists(widths, min_size=2, max_size=5)))
    net = Net(
        sizes,
        tuple(ACTIVATIONS[draw(st.sampled_from(list(ACTIVATIONS)))] for _ in sizes[1:]),
        LOSSES[draw(st.sampled_from(list(LOSSES)))],
        draw(st.booleans()),
        draw(st.sampled_from(["sum", "mean"])),
        draw(st.sampled_from([0.0, 0.5])),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 9) | st.sampled_from([16, 17, 33]))
    w, x = draw_parameters(random, net), single(random.standard_normal((n, sizes[0])))
    return net, w, x, draw_targets(random, net, n), random


# Bounds ------------------------------------------------------------------------------------------


def bound(net, n, dtype, order):
    """How far rounding may move the largest entry of a derivative of this order, relatively.

    A number in a derivative went through 2ᵒ passes for the orders o = 0, 1, 2, and 2 o for those
    of a Taylor series: forward and backward, and their tangents. In each of them a layer of m
    inputs rounds a sum of at most m + 1 products, and multiplies it by a derivative of its
    activation that is right to 4 units or so: m + 8 units in all. Adding n samples rounds n times.
    The factor 4 is for terms that cancel: the weights keep sizes, so none is much larger than the
    largest entry.
    """
    passes = (1, 2, 4, 6, 8)[order]
    units = passes * sum(m + 8 for m in net.sizes[:-1]) + n
    return 4 * units * float(np.finfo(dtype).eps) / 2


def assert_near(ours, theirs, relative, size=None):
    """No entry further off than `relative` times the largest of theirs, or times `size`."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    size = abs(theirs).max(initial=0) if size is None else size
    error = float(abs(ours.astype(np.longdouble) - theirs).max(initial=0))
    assert error <= relative * size, f"{error:.2e} of {size:.2e}; expected {relative:.2e} of it"


# What a net says ----------------------------------------------------------------------------------


def every_sum(net, w, directions, x, y=None, **more):
    """Everything that is a sum over samples, by name."""
    results = {
        "loss": net.loss(w, x, y, **more),
        "gradient": net.gradient(w, x, y, **more),
        "both": np.append(*net.loss_and_gradient(w, x, y, **more)),
        "hvp": net.hvp(w, x, y, directions[0], **more),
        "hessian": net.hessian(w, x, y, **more),
        "block": net.hessian(w, x, y, block=(0, 1), **more),
        "blocks": np.concatenate(
            [block.ravel() for block in net.hessian(w, x, y, block="diagonal", **more)]
        ),
    }
    kept = net.at(w, x, y, **more)
    results["kept"], results["kept loss"] = kept.gradient, kept.loss
    for name, matrix in {
        "Hessian": kept.hessian,
        "Gauss-Newton": kept.gauss_newton,
        "Fisher": kept.fisher(),
        "empirical": kept.fisher("empirical"),
    }.items():
        results[f"kept {name}"] = matrix.dense()
        results[f"{name} diagonal"] = matrix.diagonal()
        results[f"{name} product"] = directions[0] @ matrix
        results[f"{name} products"] = directions @ matrix
    results["third"] = kept.third(directions[0], directions[1])
    results["fourth"] = kept.fourth(directions[0], directions[1], directions[2])
    series = kept.taylor(directions[0])
    results["series"], results["series of the loss"] = series.gradient, series.loss
    return results
