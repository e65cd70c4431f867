"""Derivatives of nets with more than dense layers, in float64 and float32.

- lenet: images 3 × 32 × 32; convolutions 5 × 5 to 6 and 16 channels, each with tanh and an average
  pool of 2; dense 120, 84 and 10 with tanh between them; 128 samples
- resnet: images 3 × 32 × 32; a convolution 3 × 3 to 8 channels, GroupNorm(4), SiLU, two residual
  blocks of two such convolutions, none with a bias, a global average, dense 10; 32 samples
- former: 16 tokens of 32, width 32, positions, one pre-norm block of 4 heads and a GELU MLP of 64,
  a mean over positions, dense 10; 64 samples

Softmax cross-entropy (mean). The trusted answers are JAX's in float64.
Run: python benchmarks/layers.py
"""

from typing import Any

import numpy as np

import harness
from harness import Arrays, Call, System

MANY = 16
SAMPLES = {"lenet": 128, "resnet": 32, "former": 64}
CLASSES, TOKENS, LENGTH, WIDTH, HEADS = 10, 32, 16, 32, 4
IMAGE = (3, 32, 32)


def _resnet_shapes() -> list[tuple[int, ...]]:
    norm: list[tuple[int, ...]] = [(8,), (8,)]
    block = [(3, 3, 8, 8), *norm, (3, 3, 8, 8), *norm]
    return [(3, 3, 3, 8), *norm, *block, *block, (8, CLASSES), (CLASSES,)]


# Arrays in the order of the parameter vector: convolutions [kernel, kernel, in, out], dense
# [in, out], each followed by its bias; norms their scale and shift.
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "lenet": [
        *[(5, 5, 3, 6), (6,), (5, 5, 6, 16), (16,)],
        *[(400, 120), (120,), (120, 84), (84,), (84, CLASSES), (CLASSES,)],
    ],
    "resnet": _resnet_shapes(),
    "former": [
        *[(TOKENS, WIDTH), (LENGTH, WIDTH)],
        *[(WIDTH,), (WIDTH,), (WIDTH, 3 * WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,)],
        *[(WIDTH,), (WIDTH,), (WIDTH, 64), (64,), (64, WIDTH), (WIDTH,)],
        *[(WIDTH, CLASSES), (CLASSES,)],
    ],
}
# Which of them are scales of norms, about 1.
SCALES = {"lenet": (), "resnet": (1, 4, 7, 10, 13), "former": (2, 8)}


def split(net: str, w: Any) -> list[Any]:
    """The flat vector as arrays; of any library."""
    arrays, start = [], 0
    for shape in SHAPES[net]:
        count = int(np.prod(shape))
        arrays.append(w[start : start + count].reshape(shape))
        start += count
    return arrays


def problem(net: str, task: str) -> Arrays:
    name, bits = net.split("/")
    rng = np.random.default_rng(2019)
    parts = []
    for index, shape in enumerate(SHAPES[name]):
        size = np.prod(shape[:-1]) ** -0.5 if len(shape) > 1 else 0.1
        part = rng.standard_normal(int(np.prod(shape))) * size
        parts.append(part + (index in SCALES[name]))
    w = np.concatenate(parts)
    n, dtype = SAMPLES[name], np.dtype(f"float{bits}")
    x = (
        rng.integers(0, TOKENS, (n, LENGTH))
        if name == "former"
        else rng.standard_normal((n, *IMAGE)).astype(np.float32).astype(dtype)
    )
    # The numbers are float32's, so that nets of both dtypes are at one point.
    arrays = {
        "w": w,
        "v": rng.standard_normal(w.size) / 10,
        "many": rng.standard_normal((MANY, w.size)) / 10 if task == "many" else np.zeros(0),
    }
    return {
        "net": np.array(name),
        "task": np.array(task),
        "float": np.array(dtype.name),
        "x": x,
        "y": rng.integers(0, CLASSES, n),
        **{key: a.astype(np.float32).astype(dtype) for key, a in arrays.items()},
    }


# ---- swiftnets -----------------------------------------------------------------------------------


def our_net(name: str, dtype: str) -> Any:
    from swiftnets import Network
    from swiftnets.nets import layers as l

    def block() -> Any:
        body: list[Any] = []
        for _ in range(2):
            body += [l.Conv2d(8, 8, 3, padding=1, bias=False), l.GroupNorm(4, 8), "silu"]
        return l.Residual(body[:-1])

    layers: list[Any]
    if name == "lenet":
        layers = [
            *[l.Conv2d(3, 6, 5), "tanh", l.AvgPool2d(2), l.Conv2d(6, 16, 5), "tanh"],
            *[l.AvgPool2d(2), l.Flatten(), l.Dense(400, 120), "tanh", l.Dense(120, 84), "tanh"],
            l.Dense(84, CLASSES),
        ]
    elif name == "resnet":
        layers = [
            *[l.Conv2d(3, 8, 3, padding=1, bias=False), l.GroupNorm(4, 8), "silu"],
            *[block(), "silu", block(), "silu", l.GlobalAvgPool2d(), l.Dense(8, CLASSES)],
        ]
    else:
        layers = [
            *[l.Embedding(TOKENS, WIDTH), l.PositionEmbedding(LENGTH, WIDTH)],
            l.Residual([l.LayerNorm(WIDTH), l.SelfAttention(WIDTH, HEADS)]),
            l.Residual([l.LayerNorm(WIDTH), l.Dense(WIDTH, 64), "gelu", l.Dense(64, WIDTH)]),
            *[l.MeanOverPositions(), l.Dense(WIDTH, CLASSES)],
        ]
    return Network(
        layers,
        input_shape=(LENGTH,) if name == "former" else IMAGE,
        loss="softmax_cross_entropy",
        reduction="mean",
        dtype=dtype,
    )


def swiftnets(p: Arrays) -> Call:
    harness.set_threads()
    net = our_net(str(p["net"]), str(p["float"]))
    w, x, y, v = p["w"], p["x"], p["y"], p["v"]
    return {
        "gradient": lambda: [net.gradient(w, x, y)],
        "hvp": lambda: [net.hvp(w, x, y, v)],
        "many": lambda: [net.hvp(w, x, y, p["many"])],
        "third": lambda: [net.at(w, x, y).taylor(v, order=2).derivatives[2]],
    }[str(p["task"])]


# ---- JAX -----------------------------------------------------------------------------------------


def jax_outputs(jax: Any, name: str, w: Any, x: Any) -> Any:
    """Images NHWC."""
    jnp, nn = jax.numpy, jax.nn
    a = iter(split(name, w))

    def convolution(z: Any, padding: str) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(z, next(a), (1, 1), padding, dimension_numbers=layout)

    def pool(z: Any) -> Any:
        n, h, w, c = z.shape
        return z.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))

    def norm(z: Any, axes: tuple[int, ...]) -> Any:
        z = z - z.mean(axis=axes, keepdims=True)
        return z * jax.lax.rsqrt((z * z).mean(axis=axes, keepdims=True) + 1e-5)

    def group_norm(z: Any) -> Any:
        n, h, w, c = z.shape
        return norm(z.reshape(n, h, w, 4, c // 4), (1, 2, 4)).reshape(z.shape) * next(a) + next(a)

    def dense(z: Any) -> Any:
        return z @ next(a) + next(a)

    if name == "lenet":
        z = pool(jnp.tanh(convolution(x, "VALID") + next(a)))
        z = pool(jnp.tanh(convolution(z, "VALID") + next(a)))
        z = z.transpose(0, 3, 1, 2).reshape(len(x), -1)
        return dense(jnp.tanh(dense(jnp.tanh(dense(z)))))
    if name == "resnet":
        z = nn.silu(group_norm(convolution(x, "SAME")))
        for _ in range(2):
            inner = nn.silu(group_norm(convolution(z, "SAME")))
            z = nn.silu(z + group_norm(convolution(inner, "SAME")))
        return dense(z.mean(axis=(1, 2)))
    z = next(a)[x] + next(a)
    h = norm(z, (-1,)) * next(a) + next(a)
    q, k, v = dense(h).reshape(len(x), LENGTH, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) * (WIDTH // HEADS) ** -0.5
    mixed = (nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(z.shape)
    z = z + dense(mixed)
    h = norm(z, (-1,)) * next(a) + next(a)
    z = z + dense(nn.gelu(dense(h), approximate=False))
    return dense(z.mean(axis=1))


def jax_program(p: Arrays, task: str, many: str = "vmap") -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp, name = jax.numpy, str(p["net"])
    x, y = jnp.asarray(p["x"]), jnp.asarray(p["y"])
    x = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    w, v, rows = (jnp.asarray(p[key]) for key in ("w", "v", "many"))

    def loss(w: Any) -> Any:
        scores = jax.nn.log_softmax(jax_outputs(jax, name, w, x))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))

    gradient = jax.grad(loss)

    def hvp(w: Any, v: Any) -> Any:
        return jax.jvp(gradient, (w,), (v,))[1]

    def mapped(w: Any, rows: Any) -> Any:
        return jax.lax.map(lambda v: hvp(w, v), rows)

    functions = {
        "gradient": lambda w, v: gradient(w),
        "hvp": hvp,
        "many": jax.vmap(hvp, (None, 0)) if many == "vmap" else mapped,
        "third": lambda w, v: jax.jvp(lambda u: hvp(u, v), (w,), (v,))[1],
    }
    run = jax.jit(functions[task])
    direction = rows if task == "many" else v
    return lambda: [jax.block_until_ready(run(w, direction))]


def jax_jit(p: Arrays) -> Call:
    return jax_program(p, str(p["task"]))


def jax_map(p: Arrays) -> Call:
    return jax_program(p, str(p["task"]), "map")


# ---- PyTorch -------------------------------------------------------------------------------------


def torch_outputs(torch: Any, name: str, w: Any, x: Any, layout: Any, task: str) -> Any:
    f = torch.nn.functional
    a = iter(split(name, w))

    def kernel() -> Any:
        weights = next(a).permute(3, 2, 0, 1)
        return weights.contiguous(memory_format=layout)

    def dense(z: Any) -> Any:
        return f.linear(z, next(a).T, next(a))

    def group_norm(z: Any) -> Any:
        return f.group_norm(z, 4, next(a), next(a))

    def layer_norm(z: Any) -> Any:
        if task != "third":
            return f.layer_norm(z, (WIDTH,), next(a), next(a))
        # By hand: the third derivative of its own layer_norm is wrong (PyTorch 2.13).
        z = z - z.mean(-1, keepdim=True)
        return z * torch.rsqrt((z * z).mean(-1, keepdim=True) + 1e-5) * next(a) + next(a)

    if name == "lenet":
        z = f.avg_pool2d(torch.tanh(f.conv2d(x, kernel(), next(a))), 2)
        z = f.avg_pool2d(torch.tanh(f.conv2d(z, kernel(), next(a))), 2)
        return dense(torch.tanh(dense(torch.tanh(dense(z.flatten(1))))))
    if name == "resnet":
        z = f.silu(group_norm(f.conv2d(x, kernel(), padding=1)))
        for _ in range(2):
            inner = f.silu(group_norm(f.conv2d(z, kernel(), padding=1)))
            z = f.silu(z + group_norm(f.conv2d(inner, kernel(), padding=1)))
        return dense(z.mean((2, 3)))
    z = f.embedding(x, next(a)) + next(a)
    joined = dense(layer_norm(z)).reshape(len(x), LENGTH, 3, HEADS, -1)
    q, k, v = joined.permute(2, 0, 3, 1, 4)
    # By hand: scaled_dot_product_attention has no second derivative on a CPU.
    scores = q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
    z = z + dense((scores.softmax(-1) @ v).transpose(1, 2).reshape(z.shape))
    z = z + dense(f.gelu(dense(layer_norm(z))))
    return dense(z.mean(1))


def torch_loss(p: Arrays, layout: str) -> Any:
    import torch

    torch.set_num_threads(harness.THREADS)
    name, task, form = str(p["net"]), str(p["task"]), getattr(torch, layout)
    x, y = torch.from_numpy(p["x"]), torch.from_numpy(p["y"])
    if x.ndim == 4:
        x = x.contiguous(memory_format=form)

    def loss(w: Any) -> Any:
        return torch.nn.functional.cross_entropy(torch_outputs(torch, name, w, x, form, task), y)

    return torch, loss, *(torch.from_numpy(p[key]) for key in ("w", "v", "many"))


def torch_func(p: Arrays) -> Call:
    torch, loss, w, v, rows = torch_loss(p, "contiguous_format")
    gradient = torch.func.grad(loss)

    def hvp(w: Any, v: Any) -> Any:
        return torch.func.jvp(gradient, (w,), (v,))[1]

    many = torch.func.vmap(lambda v: hvp(w, v))
    return {
        "gradient": lambda: [gradient(w)],
        "hvp": lambda: [hvp(w, v)],
        "many": lambda: [many(rows)],
        "third": lambda: [torch.func.jvp(lambda u: hvp(u, v), (w,), (v,))[1]],
    }[str(p["task"])]


def torch_backward(p: Arrays, layout: str = "contiguous_format") -> Call:
    """Backward once for each order; many directions share the gradient's graph."""
    torch, loss, w, v, rows = torch_loss(p, layout)
    w.requires_grad_()
    grad = torch.autograd.grad

    def gradient(create: bool) -> Any:
        return grad(loss(w), w, create_graph=create)[0]

    def many() -> list[Any]:
        g = gradient(True)
        return [grad(g, w, row, retain_graph=True)[0] for row in rows]

    def third() -> list[Any]:
        product = grad(gradient(True), w, v, create_graph=True)[0]
        return [grad(product, w, v)[0]]

    return {
        "gradient": lambda: [gradient(False)],
        "hvp": lambda: [grad(gradient(True), w, v)[0]],
        "many": many,
        "third": third,
    }[str(p["task"])]


def torch_channels_last(p: Arrays) -> Call:
    return torch_backward(p, "channels_last")


# ---- the table -----------------------------------------------------------------------------------

SYSTEMS = {
    "swiftnets": System("**swiftnets**", swiftnets),
    "jax-jit": System("JAX, jitted", jax_jit),
    "jax-map": System("JAX, one after the other, jitted", jax_map),
    "torch.func": System("PyTorch, torch.func", torch_func),
    "torch-backward": System("PyTorch, backward again", torch_backward),
    "torch-channels-last": System("PyTorch, channels_last", torch_channels_last),
}

LABELS = {
    "gradient": "gradient",
    "hvp": "one HVP",
    "many": f"{MANY} HVPs at once",
    "third": "T[v,v]",
}


def _peers(net: str, task: str) -> str:
    names = ["jax-jit", "torch.func", "torch-backward"]
    names += ["jax-map"] if task == "many" else []
    names += ["torch-channels-last"] if net != "former" else []
    return ",".join(names)


TASKS = [
    (f"{net}/{bits}", task, label, _peers(net, task))
    for net in SHAPES
    for bits in (64, 32)
    for task, label in LABELS.items()
]

# Multiplications of one sample's forward pass: of the first layer, which has no product with the
# cotangent of its input; of the other layers with weights; of attention's two products.
PRODUCTS = {
    "lenet": (28**2 * 75 * 6, 10**2 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * CLASSES, 0),
    "resnet": (32**2 * 27 * 8, 4 * 32**2 * 72 * 8 + 8 * CLASSES, 0),
    "former": (
        0,
        LENGTH * (4 * WIDTH * WIDTH + 2 * WIDTH * 64) + WIDTH * CLASSES,
        2 * LENGTH * LENGTH * WIDTH,
    ),
}


def operations(net: str, task: str) -> float:
    """Multiplications and additions of the arithmetic floor, by products alone.

    The pass of order K makes 2 K + 1 products forward and for the cotangents, and one for each pair
    of coefficients up to K for the weights and, forward and backward, in attention. The first
    layer's input has one coefficient.
    """
    name = net.split("/")[0]
    first, later, attention = PRODUCTS[name]
    gradient = 2 * first + 3 * later + 3 * attention
    kept = 2 * first + 6 * later + 6 * attention
    third = 6 * first + 16 * later + 18 * attention
    products = {
        "gradient": gradient,
        "hvp": gradient + kept,
        "many": gradient + MANY * kept,
        "third": third,
    }[task]
    return 2 * SAMPLES[name] * products


def truth(p: Arrays) -> np.ndarray:
    """JAX's answer in float64."""
    wide = {key: a.astype(float) if a.dtype == np.float32 else a for key, a in p.items()}
    (answer,) = jax_program(wide, str(p["task"]))()
    return np.asarray(answer).ravel()


def limit(p: Arrays) -> float:
    """How far off an answer may be: the rounding of sums, and of more of them in higher orders."""
    return 1e-10 if str(p["float"]) == "float64" else 1e-3


SUITE = harness.Suite(__file__, SYSTEMS, problem, truth, operations, limit)


def report(rounds: int, only: str | None = None, tasks: list[str] | None = None) -> str:
    return harness.report_tasks(SUITE, TASKS, rounds, only, tasks)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--tasks", help="NET/BITS/TASK, separated by commas; default all")
    arguments = parser.parse_args()
    if arguments.worker:
        systems = {**SYSTEMS, "gemm": harness.GEMM}
        return harness.serve(systems, arguments.worker, arguments.problem)
    harness.use_cores(2)
    tasks = arguments.tasks.split(",") if arguments.tasks else None
    print(report(arguments.rounds, arguments.only, tasks))


if __name__ == "__main__":
    main()
