"""Tiny nets of every layer and option, with samples and directions, for the tests of `Network`.

All numbers are float32's, so that nets of both dtypes are at the same point.
"""

import functools
import zlib
from dataclasses import dataclass

import layer_references as reference
import numpy as np
from hypothesis import strategies as st

from swiftnets import Network
from swiftnets.nets.activations import ELU, GELU, LeakyReLU
from swiftnets.nets.layers import (
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    LayerNorm,
    MaxPool2d,
    MeanOverPositions,
    PositionEmbedding,
    Residual,
    SelfAttention,
)
from swiftnets.nets.losses import Huber

SOFTMAX = "softmax_cross_entropy"


def single(array):
    return np.asarray(array).astype(np.float32).astype(np.float64)


def statistics(channels):
    """Means and variances of a frozen batch norm."""
    random = np.random.default_rng(channels)
    return single(random.standard_normal(channels)), single(random.uniform(0.5, 2, channels))


def ended(*layers, inputs, outputs=3):
    """With a global average and a dense layer behind them."""
    return [*layers, GlobalAvgPool2d(), Dense(inputs, outputs)]


def block(channels):
    """The body of a residual block: convolution, norm, activation, convolution, norm."""
    return [
        Conv2d(channels, channels, 3, padding=1),
        GroupNorm(2, channels),
        "silu",
        Conv2d(channels, channels, 3, padding=1),
        GroupNorm(2, channels),
    ]


def transformer(width, heads, hidden, activation, **options):
    """A pre-norm block."""
    return [
        Residual([LayerNorm(width), SelfAttention(width, heads, **options)]),
        Residual([LayerNorm(width), Dense(width, hidden), activation, Dense(hidden, width)]),
    ]


# By name: layers, input shape, and what else `Network` takes. A loss that is not told is the
# softmax cross-entropy with labels.
NETS = {
    "dense": lambda: ([Dense(4, 5), "tanh", Dense(5, 3, bias=False)], (4,), {}),
    "smooth activations": lambda: (
        [
            *(Dense(3, 4), "sigmoid", Dense(4, 3), "softplus", Dense(3, 4), "sine"),
            *(Dense(4, 3), GELU("tanh"), Dense(3, 4), "silu", Dense(4, 3), "gelu"),
        ],
        3,
        {"loss": "squared_error"},
    ),
    "kinks": lambda: (
        [
            *(Dense(3, 6), "relu", Dense(6, 5), LeakyReLU(0.25), "identity", Dense(5, 3)),
            *(ELU(0.5), Dense(3, 2), "tanh"),
        ],
        (3,),
        {"loss": "squared_error", "l2": 0.5},
    ),
    "dense over a sequence": lambda: (
        [Dense(3, 4), "tanh", Dense(4, 2, bias=False), Flatten(), Dense(10, 2)],
        (5, 3),
        {"loss": "binary_cross_entropy", "reduction": "mean"},
    ),
    "convolution": lambda: (
        [Conv2d(2, 3, (3, 2)), "tanh", Flatten(), Dense(27, 3)],
        (2, 5, 4),
        {"reduction": "mean", "l2": 0.25},
    ),
    "stride and padding": lambda: (
        [
            Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
            "sigmoid",
            *ended(Conv2d(3, 2, 2, stride=2, padding=1), "tanh", inputs=2),
        ],
        (2, 5, 6),
        {},
    ),
    "many channels": lambda: (
        ended(Conv2d(1, 9, 3, padding=1), "gelu", Conv2d(9, 10, 2), "tanh", inputs=10),
        (1, 4, 5),
        {"loss": Huber(0.75)},
    ),
    "a wide image": lambda: (
        ended(Conv2d(2, 2, 3), "tanh", Conv2d(2, 3, (1, 3), padding=(0, 1)), "sine", inputs=3),
        (2, 3, 19),
        {},
    ),
    "a window as large as the image": lambda: (
        [Conv2d(2, 4, (3, 4)), "tanh", Flatten(), Dense(4, 2)],
        (2, 3, 4),
        {"loss": "squared_error"},
    ),
    "groups": lambda: (
        ended(
            Conv2d(4, 6, 3, padding=1, groups=2, bias=False),
            "tanh",
            Conv2d(6, 4, 1, groups=2),
            "gelu",
            inputs=4,
        ),
        (4, 3, 4),
        {},
    ),
    "depthwise": lambda: (
        ended(
            *(Conv2d(3, 3, 3, padding=1, groups=3), "tanh"),
            *(Conv2d(3, 6, (2, 3), stride=2, groups=3, bias=False), "silu", Conv2d(6, 4, 1)),
            inputs=4,
        ),
        (3, 5, 5),
        {},
    ),
    "average pool": lambda: (
        [Conv2d(1, 3, 2), "tanh", AvgPool2d(2), Conv2d(3, 2, 1), "tanh", Flatten(), Dense(8, 3)],
        (1, 5, 6),  # the pool leaves the last column out
        {},
    ),
    "average pool, padding counted": lambda: (
        ended(Conv2d(2, 3, 2), "tanh", AvgPool2d((3, 2), 2, (1, 0)), "sine", inputs=3),
        (2, 5, 6),
        {},
    ),
    "average pool, padding not counted": lambda: (
        ended(Conv2d(2, 3, 2), "tanh", AvgPool2d(3, 2, 1, False), "sine", inputs=3),
        (2, 6, 5),
        {},
    ),
    "max pool": lambda: (
        [Conv2d(1, 3, 2), "gelu", MaxPool2d(2), Conv2d(3, 2, 1), "tanh", Flatten(), Dense(8, 3)],
        (1, 5, 6),
        {},
    ),
    "max pool, windows overlap": lambda: (
        ended(Conv2d(2, 3, 2), "tanh", MaxPool2d((3, 2), (2, 1), 1), "sine", inputs=3),
        (2, 6, 5),
        {"loss": "squared_error"},
    ),
    "relu and max pool": lambda: (
        ended(Conv2d(2, 4, 2), "relu", MaxPool2d(2), Conv2d(4, 3, 2, padding=1), inputs=3),
        (2, 5, 5),
        {},
    ),
    "group norm": lambda: (
        ended(
            *(Conv2d(2, 4, 2), GroupNorm(2, 4), "tanh"),
            *(Conv2d(4, 3, 2), GroupNorm(3, 3, affine=False), "silu"),
            inputs=3,
        ),
        (2, 4, 5),
        {},
    ),
    "group norm of a vector": lambda: (
        [Dense(3, 6), GroupNorm(2, 6, eps=0.25), "tanh", GroupNorm(1, 6), Dense(6, 2)],
        (3,),
        {"loss": "squared_error"},
    ),
    "layer norm": lambda: (
        [Dense(3, 5), LayerNorm(5), "gelu", LayerNorm(5, eps=0.5, affine=False), Dense(5, 2)],
        (3,),
        {},
    ),
    "layer norm of a sequence": lambda: (
        [LayerNorm(3), Dense(3, 4), "tanh", LayerNorm(4), MeanOverPositions(), Dense(4, 2)],
        (4, 3),
        {"loss": "binary_cross_entropy"},
    ),
    "frozen batch norm": lambda: (
        ended(
            *(Conv2d(2, 3, 2, bias=False), BatchNorm2d(*statistics(3)), "tanh"),
            *(Conv2d(3, 4, 1), BatchNorm2d(*statistics(4), eps=0.25, affine=False), "gelu"),
            inputs=4,
        ),
        (2, 3, 4),
        {},
    ),
    "frozen batch norm of a vector": lambda: (
        [Dense(3, 4), BatchNorm(*statistics(4)), "tanh", Dense(4, 2)],
        (3,),
        {"loss": "squared_error", "reduction": "mean"},
    ),
    "residual": lambda: (
        ended(
            Conv2d(1, 2, 2),
            Residual([Conv2d(2, 2, 3, padding=1), "tanh", Residual([Conv2d(2, 2, 1), "sine"])]),
            "tanh",
            inputs=2,
        ),
        (1, 4, 4),
        {},
    ),
    "residual from the input": lambda: (
        [Residual([Dense(3, 3), "tanh"]), Residual(["sine"], ["tanh"]), Dense(3, 2)],
        (3,),
        {"loss": "squared_error"},
    ),
    "projection": lambda: (
        ended(
            *(Conv2d(2, 3, 1), "silu"),
            Residual(
                [Conv2d(3, 4, 3, stride=2, padding=1), "tanh", Conv2d(4, 4, 3, padding=1)],
                [Conv2d(3, 4, 1, stride=2, bias=False), GroupNorm(2, 4)],
            ),
            "silu",
            inputs=4,
        ),
        (2, 5, 5),
        {},
    ),
    "attention, one head": lambda: (
        [SelfAttention(3, 1), MeanOverPositions(), Dense(3, 2)],
        (4, 3),
        {"loss": "squared_error"},
    ),
    "attention, two heads": lambda: (
        [SelfAttention(4, 2, bias=False), "tanh", Flatten(), Dense(12, 3)],
        (3, 4),
        {},
    ),
    "attention, four heads twice": lambda: (
        [
            PositionEmbedding(3, 4),
            SelfAttention(4, 4),
            SelfAttention(4, 2),
            MeanOverPositions(),
            Dense(4, 3),
        ],
        (3, 4),
        {},
    ),
    "attention of one position": lambda: (
        [SelfAttention(4, 2), Flatten(), Dense(4, 2)],
        (1, 4),
        {},
    ),
    "tokens": lambda: (
        [Embedding(5, 4), PositionEmbedding(4, 4), Dense(4, 3), "tanh", Flatten(), Dense(12, 3)],
        (4,),
        {"reduction": "mean", "l2": 0.5},
    ),
    "tokens with attention": lambda: (
        [
            Embedding(6, 4),
            PositionEmbedding(3, 4),
            *transformer(4, 2, 5, "gelu", bias=False),
            MeanOverPositions(),
            Dense(4, 3),
        ],
        (3,),
        {},
    ),
    "lenet": lambda: (
        [
            *(Conv2d(2, 3, 3), "tanh", AvgPool2d(2), Conv2d(3, 4, 2), "tanh", AvgPool2d(2)),
            *(Flatten(), Dense(4, 6), "tanh", Dense(6, 5), "tanh", Dense(5, 4)),
        ],
        (2, 8, 8),
        {"reduction": "mean"},
    ),
    "resnet": lambda: (
        ended(
            *(Conv2d(2, 4, 3, padding=1), GroupNorm(2, 4), "silu"),
            *(Residual(block(4)), "silu"),
            inputs=4,
            outputs=4,
        ),
        (2, 4, 5),
        {"reduction": "mean"},
    ),
    "strided": lambda: (
        ended(
            *(Conv2d(2, 4, 3, stride=2, padding=1, bias=False), BatchNorm2d(*statistics(4))),
            *("gelu", MaxPool2d(2), Conv2d(4, 4, 3, padding=1, groups=4), "gelu"),
            Residual([Conv2d(4, 8, 1, groups=4), "gelu"], [Conv2d(4, 8, 1)]),
            inputs=8,
            outputs=4,
        ),
        (2, 9, 9),
        {"reduction": "mean"},
    ),
    "former": lambda: (
        [*transformer(4, 2, 6, "gelu"), MeanOverPositions(), Dense(4, 4)],
        (5, 4),
        {"reduction": "mean"},
    ),
}


# Data --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A net at a point, with samples, their weights, and three directions."""

    net: Network
    w: np.ndarray
    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    directions: np.ndarray

    @property
    def data(self):
        return self.w, self.x, self.y

    def in_dtype(self, dtype):
        """The net of that dtype, w, x, y."""
        if dtype == np.float64:
            return self.net, *self.data
        x, y = (a if a.dtype.kind == "i" else a.astype(dtype) for a in (self.x, self.y))
        return self.net.astype(dtype), self.w.astype(dtype), x, y


def draw_inputs(random, net, n):
    shape = net.input_shape
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if type(net.layers[0]).__name__ == "Embedding":
        return random.integers(net.layers[0].num_embeddings, size=(n, *shape))
    return single(random.standard_normal((n, *shape)))


def draw_targets(random, net, n):
    outputs = net.outputs
    match net.loss_function.name:
        case "softmax_cross_entropy":
            return random.integers(outputs, size=n)
        case "binary_cross_entropy":
            return random.integers(9, size=(n, outputs)) / 8
        case _:
            return single(1.5 * random.standard_normal((n, outputs)))


def draw(net, random, n=3):
    """Parameters anywhere about 0, those of norms too."""
    w = single(random.standard_normal(net.parameter_count) * 0.5)
    x, y = draw_inputs(random, net, n), draw_targets(random, net, n)
    directions = single(random.standard_normal((3, net.parameter_count)) / 2)
    return Case(net, w, x, y, random.integers(1, 9, size=n) / 4, directions)


def make(name, **changes):
    layers, shape, settings = NETS[name]()
    return Network(layers, input_shape=shape, **({"loss": SOFTMAX} | settings | changes))


@functools.cache
def case(name, n=3):
    """The same in every run."""
    return draw(make(name), np.random.default_rng(zlib.crc32(name.encode())), n)


@functools.cache
def references(name):
    """What JAX says of a case without sample weights: `first_and_second`, and along directions
    (u, v, s) and (u, u, u)."""
    it = case(name)
    found = reference.first_and_second(it.net, *it.data)
    u, v, s = it.directions
    return found, *reference.along(it.net, *it.data, [(u, v, s), (u, u, u)])


# Random nets -------------------------------------------------------------------------------------

SMOOTH = ["tanh", "sigmoid", "softplus", "silu", "gelu", "gelu_tanh", "sine"]


@st.composite
def nets(draw_from):
    """Nets of random layers that fit each other, of vectors, images, sequences or tokens."""

    def pick(*choices):
        return draw_from(st.sampled_from(choices))

    kind, layers = pick("vector", "image", "image", "sequence", "tokens"), []
    match kind:
        case "vector":
            shape = (draw_from(st.integers(1, 6)),)
        case "image":
            shape = (pick(1, 2, 4), draw_from(st.integers(1, 6)), draw_from(st.integers(1, 6)))
        case _:
            shape = (draw_from(st.integers(1, 4)), pick(2, 4))
    begun = shape
    if kind == "tokens":
        layers, begun = [Embedding(pick(2, 5), shape[1])], shape[:1]
    for _ in range(draw_from(st.integers(1, 5))):
        more, shape = _grown(draw_from, pick, shape)
        if draw_from(st.booleans()) and more and _same_shape(more):
            more = [Residual(more)]
        layers += more
    if len(shape) > 1:
        end = pick("flatten", "mean")
        if end == "flatten":
            layers, shape = [*layers, Flatten()], (int(np.prod(shape)),)
        elif len(shape) == 3:
            layers, shape = [*layers, GlobalAvgPool2d()], shape[:1]
        else:
            layers, shape = [*layers, MeanOverPositions()], shape[1:]
    loss = pick("squared_error", SOFTMAX, "binary_cross_entropy")
    outputs = draw_from(st.integers(1 + (loss == SOFTMAX), 3))  # the loss of one class is 0
    layers.append(Dense(shape[0], outputs, bias=draw_from(st.booleans())))
    net = Network(
        layers,
        input_shape=begun,
        loss=loss,
        reduction=pick("sum", "mean"),
        l2=pick(0.0, 0.5),
    )
    random = np.random.default_rng(draw_from(st.integers(0, 2**32)))
    return draw(net, random, draw_from(st.integers(1, 5) | st.sampled_from([9, 17])))


def _same_shape(layers):
    return all(
        type(layer).__name__ in ("str", "LayerNorm", "GroupNorm", "SelfAttention")
        for layer in layers
    )


def _grown(draw_from, pick, shape):
    """Some layers that take `shape`, and the shape that they make."""
    if draw_from(st.integers(0, 2)) == 0:
        return [pick(*SMOOTH)], shape
    bias = draw_from(st.booleans())
    if len(shape) == 3:
        return _grown_image(draw_from, pick, shape, bias)
    width = shape[-1]
    choice = pick("dense", "norm", "attention") if len(shape) == 2 else pick("dense", "norm")
    if choice == "attention":
        return [SelfAttention(width, width if bias else 1, bias=bias)], shape
    if choice == "norm":  # not of nearly constant rows, whose derivatives grow without bound
        return [LayerNorm(width, eps=0.5, affine=bias)], shape
    outputs = pick(1, 2, 4, 9)
    return [Dense(width, outputs, bias=bias)], (*shape[:-1], outputs)


def _grown_image(draw_from, pick, shape, bias):
    channels, height, width = shape
    kernel = draw_from(st.integers(1, min(3, height))), draw_from(st.integers(1, min(3, width)))
    stride = pick(1, 2), pick(1, 2)
    padding = tuple(draw_from(st.integers(0, k // 2)) for k in kernel)
    after = [
        (size + 2 * p - k) // s + 1
        for size, p, k, s in zip((height, width), padding, kernel, stride, strict=True)
    ]
    choice = pick("convolution", "convolution", "average", "max", "norm")
    if choice == "average":
        return [AvgPool2d(kernel, stride, padding, bias)], (channels, *after)
    if choice == "max":
        return ["tanh", MaxPool2d(kernel, stride, padding)], (channels, *after)
    if choice == "norm":
        groups = pick(*(g for g in (1, 2, channels) if channels % g == 0))
        return [GroupNorm(groups, channels, eps=0.5, affine=bias)], shape
    groups = pick(*(g for g in (1, 1, 2, channels) if channels % g == 0))
    outputs = groups * pick(1, 2, 3)
    layer = Conv2d(channels, outputs, kernel, stride, padding, groups=groups, bias=bias)
    return [layer], (outputs, *after)
