"""What `swiftnets.Network` computes, once more: literal formulas in JAX's float64, for its tests.

`outputs` walks over the objects in `net.layers`; every derivative is JAX's own, by nested `jvp`s of
its gradient. Windows are gathers and products over them, so that one program compiles quickly at
the fourth order. Imports JAX when it is first asked for something.
"""

import itertools

import numpy as np

# Layers ------------------------------------------------------------------------------------------
#
# Between layers a vector is [N, n], a sequence [N, T, d], an image [N, H, W, C], tokens [N, T].


class _Parameters:
    """The flat vector, from which each layer takes its arrays in turn."""

    def __init__(self, w):
        self._w, self._start = w, 0

    def take(self, *shape):
        count = int(np.prod(shape))
        part = self._w[self._start : self._start + count]
        self._start += count
        return part.reshape(shape)

    def pair(self, wanted, count):
        """Scales and shifts of a norm."""
        return (self.take(count), self.take(count)) if wanted else (1.0, 0.0)

    def require_end(self):
        assert self._start == len(self._w), (self._start, len(self._w))


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _windows(layer):
    """Kernel, stride and padding, as pairs."""
    kernel = _pair(layer.kernel_size)
    return kernel, kernel if layer.stride is None else _pair(layer.stride), _pair(layer.padding)


def _patches(jnp, z, layer, outside):
    """[N, H', W', kernel cells in row-major order, C]; what lies outside of the image is `outside`.

    One gather from the image with a cell for the outside behind its last.
    """
    (kh, kw), (sh, sw), (ph, pw) = _windows(layer)
    n, height, width, channels = z.shape
    rows = np.arange((height + 2 * ph - kh) // sh + 1)[:, None] * sh + np.arange(kh) - ph
    columns = np.arange((width + 2 * pw - kw) // sw + 1)[:, None] * sw + np.arange(kw) - pw
    row, column = rows[:, None, :, None], columns[None, :, None, :]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    cells = np.where(inside, row * width + column, height * width)
    flat = jnp.concatenate(
        [z.reshape(n, -1, channels), jnp.full((n, 1, channels), outside, z.dtype)], axis=1
    )
    return flat[:, cells.reshape(*cells.shape[:2], kh * kw)], inside.reshape(
        *cells.shape[:2], kh * kw
    )


def _convolution(jnp, layer, z, parameters):
    kernel, groups, out = _pair(layer.kernel_size), layer.groups, layer.out_channels
    patches, _ = _patches(jnp, z, layer, 0.0)
    depth = z.shape[-1] // groups
    weights = parameters.take(*kernel, depth, out).reshape(-1, depth, groups, out // groups)
    patches = patches.reshape(*patches.shape[:-1], groups, depth)
    y = jnp.einsum("nhwkgc,kcgo->nhwgo", patches, weights).reshape(*patches.shape[:3], out)
    return y + parameters.take(out) if layer.bias else y


def _average_pool(jnp, layer, z):
    patches, inside = _patches(jnp, z, layer, 0.0)
    counts = inside.shape[-1] if layer.count_include_pad else inside.sum(axis=-1)[..., None]
    return patches.sum(axis=3) / counts


def _max_pool(jax, layer, z):
    """The first of the largest in a window; derivatives go to it alone."""
    patches, _ = _patches(jax.numpy, z, layer, -np.inf)
    first = jax.lax.stop_gradient(patches).argmax(axis=3)
    return jax.numpy.take_along_axis(patches, first[:, :, :, None], axis=3)[:, :, :, 0]


def _normalised(jnp, z, axes, eps):
    centred = z - z.mean(axis=axes, keepdims=True)
    variance = (centred * centred).mean(axis=axes, keepdims=True)
    return centred / jnp.sqrt(variance + eps)


def _group_norm(jnp, layer, z, parameters):
    channels = z.shape[-1]
    grouped = z.reshape(len(z), -1, layer.num_groups, channels // layer.num_groups)
    h = _normalised(jnp, grouped, (1, 3), layer.eps).reshape(z.shape)
    scale, shift = parameters.pair(layer.affine, channels)
    return h * scale + shift


def _attention(jax, layer, z, parameters):
    jnp, heads = jax.numpy, layer.heads
    n, length, width = z.shape
    each = width // heads

    def dense(a, outputs):
        a = a @ parameters.take(width, outputs)
        return a + parameters.take(outputs) if layer.bias else a

    joined = dense(z, 3 * width).reshape(n, length, 3, heads, each)
    q, k, v = (joined[:, :, i] for i in range(3))
    scores = jnp.einsum("nthe,nshe->nhts", q, k) / each**0.5
    mixed = jnp.einsum("nhts,nshe->nthe", jax.nn.softmax(scores, axis=-1), v)
    return dense(mixed.reshape(n, length, width), width)


def _activation(jax, activation, a):
    name, jnp = getattr(activation, "name", activation), jax.numpy
    slope = getattr(activation, "parameter", 0.01)
    return {
        "identity": lambda: a,
        "relu": lambda: jnp.where(a > 0, a, 0.0),
        "leaky_relu": lambda: jnp.where(a > 0, a, slope * a),
        "elu": lambda: jnp.where(a > 0, a, slope * jnp.expm1(jnp.where(a > 0, 0.0, a))),
        "tanh": lambda: jnp.tanh(a),
        "sigmoid": lambda: jax.nn.sigmoid(a),
        "softplus": lambda: jax.nn.softplus(a),
        "silu": lambda: a * jax.nn.sigmoid(a),
        "gelu": lambda: a * jax.scipy.special.erfc(-a / 2**0.5) / 2,
        "gelu_tanh": lambda: jax.nn.gelu(a, approximate=True),
        "sine": lambda: jnp.sin(a),
    }[name]()


def _layer(jax, layer, z, parameters):
    jnp, name = jax.numpy, type(layer).__name__
    match name:
        case "Dense":
            y = z @ parameters.take(layer.in_features, layer.out_features)
            return y + parameters.take(layer.out_features) if layer.bias else y
        case "Conv2d":
            return _convolution(jnp, layer, z, parameters)
        case "AvgPool2d":
            return _average_pool(jnp, layer, z)
        case "MaxPool2d":
            return _max_pool(jax, layer, z)
        case "GlobalAvgPool2d":
            return z.mean(axis=(1, 2))
        case "MeanOverPositions":
            return z.mean(axis=1)
        case "Flatten":  # images in the order of (C, H, W)
            return (z.transpose(0, 3, 1, 2) if z.ndim == 4 else z).reshape(len(z), -1)
        case "LayerNorm":
            scale, shift = parameters.pair(layer.affine, z.shape[-1])
            return _normalised(jnp, z, -1, layer.eps) * scale + shift
        case "GroupNorm":
            return _group_norm(jnp, layer, z, parameters)
        case "BatchNorm" | "BatchNorm2d":  # frozen
            scale, shift = parameters.pair(layer.affine, z.shape[-1])
            deviation = np.sqrt(np.asarray(layer.var, np.float64) + layer.eps)
            return (z - np.asarray(layer.mean, np.float64)) / deviation * scale + shift
        case "Embedding":
            return parameters.take(layer.num_embeddings, layer.embedding_dim)[z]
        case "PositionEmbedding":
            return z + parameters.take(layer.length, layer.width)
        case "SelfAttention":
            return _attention(jax, layer, z, parameters)
        case "Residual":
            body, shortcut = z, z
            for inner in layer.body:
                body = _layer(jax, inner, body, parameters)
            for inner in layer.shortcut:
                shortcut = _layer(jax, inner, shortcut, parameters)
            return body + shortcut
        case "Activation" | "str":
            return _activation(jax, layer, z)
    raise AssertionError(name)


def outputs(jax, net, w, x):
    """The outputs (N, outputs) at flat parameters w: a function that JAX differentiates."""
    parameters = _Parameters(w)
    z = jax.numpy.asarray(x).reshape(len(x), *_shape(net))
    z = z.transpose(0, 2, 3, 1) if z.ndim == 4 else z
    for layer in net.layers:
        z = _layer(jax, layer, z, parameters)
    parameters.require_end()
    return z


def _shape(net):
    shape = net.input_shape
    return (shape,) if isinstance(shape, int) else tuple(shape)


# Losses ------------------------------------------------------------------------------------------


def losses(jax, loss, z, y):
    """Of each sample; targets of the softmax are labels, or rows of probabilities."""
    nn, jnp = jax.nn, jax.numpy
    match loss.name:
        case "squared_error":
            return ((z - y) ** 2).sum(axis=-1) / 2
        case "huber":
            r, delta = z - y, loss.parameter
            each = jnp.where(abs(r) < delta, r * r / 2, delta * (abs(r) - delta / 2))
            return each.sum(axis=-1)
        case "binary_cross_entropy":
            return (nn.softplus(z) - y * z).sum(axis=-1)
        case "softmax_cross_entropy":
            rows = np.eye(z.shape[-1])[y] if np.ndim(y) == 1 else y
            return -(rows * nn.log_softmax(z)).sum(axis=-1)
    raise AssertionError(loss)


def shares(net, n, sample_weight=None):
    """What each sample's loss is multiplied by in the sum."""
    s = np.ones(n) if sample_weight is None else np.asarray(sample_weight, np.float64)
    return s / s.sum() if net.reduction == "mean" else s


def loss(jax, net, w, x, y, sample_weight=None):
    """The loss of all samples, with the net's reduction and its l2 term."""
    each = losses(jax, net.loss_function, outputs(jax, net, w, x), y)
    return (shares(net, len(x), sample_weight) * each).sum() + net.l2 / 2 * (w @ w)


# Derivatives -------------------------------------------------------------------------------------

# Seconds of compilation count for more than microseconds of running.
_COMPILER = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def _compiled(jax, function):
    return jax.jit(function, compiler_options=_COMPILER)


def _along(jax, function, direction):
    """The function and its derivative along a direction, as one function of the point."""
    return lambda w: jax.jvp(function, (w,), (direction,))


def to_numpy(tree):
    if isinstance(tree, dict):
        return {name: to_numpy(value) for name, value in tree.items()}
    return np.asarray(tree)


def first_and_second(net, w, x, y, sample_weight=None):
    """By name: outputs, loss, gradient, hessian, jacobian, samples' losses' gradients, and the
    Hessians of their losses in the outputs."""
    import jax

    with jax.enable_x64(True):

        def of_sample(w, row, target):
            z = outputs(jax, net, w, row[None])
            return losses(jax, net.loss_function, z, target[None])[0]

        def rows(z):
            return losses(jax, net.loss_function, z, y)

        def everything(w):
            z = outputs(jax, net, w, x)
            gradient = jax.grad(lambda w: loss(jax, net, w, x, y, sample_weight))
            # The derivative of the sum of rows along output j is, row by row, Hessian column j.
            inner = [
                jax.jvp(jax.grad(lambda z: rows(z).sum()), (z,), (jax.numpy.zeros_like(z) + e,))[1]
                for e in np.eye(z.shape[1])
            ]
            return {
                "outputs": z,
                "loss": loss(jax, net, w, x, y, sample_weight),
                "gradient": gradient(w),
                "hessian": jax.jacfwd(gradient)(w),
                "jacobian": jax.jacrev(lambda w: outputs(jax, net, w, x))(w),
                "samples": jax.jacrev(lambda w: rows(outputs(jax, net, w, x)))(w),
                "inner": jax.numpy.stack(inner, axis=-1),
            }

        return to_numpy(_compiled(jax, everything)(jax.numpy.asarray(w, float)))


def along(net, w, x, y, triples, sample_weight=None):
    """For each triple (u, v, s) a dictionary from subsets of (0, 1, 2) to the derivative of the
    gradient along those directions: () is g, (0,) is H u, (0, 1) T[u, v], (0, 1, 2) Q[u, v, s]."""
    import jax

    with jax.enable_x64(True):
        gradient = jax.grad(lambda w: loss(jax, net, w, x, y, sample_weight))

        def mixed(w, u, v, s):
            return _along(jax, _along(jax, _along(jax, gradient, u), v), s)(w)

        run = _compiled(jax, mixed)
        w = jax.numpy.asarray(w, float)
        found = []
        for triple in triples:
            nested = run(w, *(jax.numpy.asarray(v, float) for v in triple))
            found.append(
                {
                    tuple(i for i in range(3) if chosen[i]): np.asarray(
                        nested[chosen[2]][chosen[1]][chosen[0]]
                    )
                    for chosen in itertools.product((0, 1), repeat=3)
                }
            )
        return found


def gauss_newton(net, found, sample_weight=None):
    """Σ s Jᵀ C J + l2, of what `first_and_second` found."""
    j = found["jacobian"]
    c = shares(net, len(j), sample_weight)[:, None, None] * found["inner"]
    return np.einsum("nap,nab,nbq->pq", j, c, j) + net.l2 * np.eye(j.shape[-1])


def empirical_fisher(net, found, sample_weight=None):
    """Σ s g gᵀ + l2, likewise."""
    g = found["samples"]
    return (g.T * shares(net, len(g), sample_weight)) @ g + net.l2 * np.eye(g.shape[1])
