"""Derivatives of three nets: gradients, Hessian products, dense Hessians, third and fourth order.

- slow: 50-50-100, leaky slope 0.5 on both layers, ½ sum of squares, 50 samples
- deep: 64-64-64-64-10 tanh, softmax cross-entropy (mean), 256 samples
- mlp: 784-256-10 tanh, softmax cross-entropy (mean), 1000 samples

No biases, float64, standard normal inputs. JAX is needed: the trusted answers are nested
`jax.jvp`s of its gradient. Run: python benchmarks/derivatives.py
"""

from collections.abc import Sequence

import numpy as np

import harness
from harness import Arrays, Call, System

SIZES = {"slow": (50, 50, 100), "deep": (64, 64, 64, 64, 10), "mlp": (784, 256, 10)}
SAMPLES = {"slow": 50, "deep": 256, "mlp": 1000}
MANY, RUNS, STEPS = 64, 10, 50
SLOPE = 0.5


def problem(net: str, task: str) -> Arrays:
    rng = np.random.default_rng(2019)
    sizes, n = SIZES[net], SAMPLES[net]
    scale = {"slow": lambda m, k: 1 / (m + k)}.get(net, lambda m, k: 1 / np.sqrt(m))
    w = [
        (rng.standard_normal((m, k)) * scale(m, k)).ravel()
        for m, k in zip(sizes, sizes[1:], strict=False)
    ]
    count = sum(part.size for part in w)
    return {
        "net": np.array(net),
        "task": np.array(task),
        "w": np.concatenate(w),
        "x": rng.standard_normal((n, sizes[0])),
        "y": (
            rng.standard_normal((n, sizes[-1])) if net == "slow" else rng.integers(0, sizes[-1], n)
        ),
        "v": rng.standard_normal(count),
        "many": rng.standard_normal((MANY, count)) if "many" in task else np.zeros(0),
        "starts": rng.standard_normal((RUNS, count)) if task == "lanczos" else np.zeros(0),
    }


def probes(count: int) -> list[int]:
    """Rows of a dense Hessian that are compared: some of every layer."""
    return [0, count // 3, count // 2, count - 1]


# ---- swiftnets -----------------------------------------------------------------------------------


def swiftnets(p: Arrays) -> Call:
    from swiftnets import MLP
    from swiftnets.nets.activations import LeakyReLU

    harness.set_threads()
    name, task = str(p["net"]), str(p["task"])
    if name == "slow":
        leaky = LeakyReLU(SLOPE)
        net = MLP(SIZES[name], activation=leaky, output_activation=leaky, bias=False)
    else:
        net = MLP(SIZES[name], loss="softmax_cross_entropy", bias=False, reduction="mean")
    w, x, y, v = p["w"], p["x"], p["y"], p["v"]
    if task == "hvp-kept":
        point = net.at(w, x, y)
        return lambda: [v @ point.hessian]
    if task == "lanczos":
        # The first steps only: later ones tell how the starting rounding grew.
        starts = p["starts"]
        return lambda: [net.at(w, x, y).hessian.lanczos(starts, STEPS)[0].T[:8]]

    def dense():
        hessian = net.hessian(w, x, y)
        return [hessian[row].copy() for row in probes(w.size)]  # not views, which would keep it

    return {
        "gradient": lambda: [net.gradient(w, x, y)],
        "hvp": lambda: [net.hvp(w, x, y, v)],
        "many": lambda: [net.hvp(w, x, y, p["many"])],
        "dense": dense,
        "third": lambda: [net.at(w, x, y).taylor(v, order=2).derivatives[2]],
        "fourth": lambda: [net.at(w, x, y).taylor(v, order=3).derivatives[3]],
    }[task]


# ---- JAX -----------------------------------------------------------------------------------------


def jax_gradient(p: Arrays):
    """(jax, the jitted-to-be gradient as a function of flat w, w, v) in float64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    name = str(p["net"])
    sizes = SIZES[name]
    x, y = jnp.asarray(p["x"]), jnp.asarray(p["y"])

    def act(a):
        return jnp.where(a > 0, a, SLOPE * a) if name == "slow" else jnp.tanh(a)

    def loss(w):
        z, start = x, 0
        for layer, (m, k) in enumerate(zip(sizes, sizes[1:], strict=False)):
            z = z @ w[start : start + m * k].reshape(m, k)
            start += m * k
            if layer < len(sizes) - 2 or name == "slow":
                z = act(z)
        if name == "slow":
            return 0.5 * jnp.sum((z - y) ** 2)
        return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(len(y)), y])

    return jax, jax.grad(loss), jnp.asarray(p["w"]), jnp.asarray(p["v"])


def jax_jit(p: Arrays) -> Call:
    jax, gradient, w, v = jax_gradient(p)
    jnp = jax.numpy

    def hvp(w, v):
        return jax.jvp(gradient, (w,), (v,))[1]

    def third(w, v):
        return jax.jvp(lambda u: hvp(u, v), (w,), (v,))[1]

    def fourth(w, v):
        return jax.jvp(lambda u: third(u, v), (w,), (v,))[1]

    task = str(p["task"])
    if task == "lanczos":
        return jax_lanczos(jax, hvp, w, p["starts"])
    if task == "many":
        run, v = jax.jit(jax.vmap(hvp, (None, 0))), jnp.asarray(p["many"])
    elif task == "dense":
        chunk = 500 if w.size < 10_000 else 202
        compiled = jax.jit(
            lambda w: jax.lax.map(lambda e: hvp(w, e), jnp.eye(w.size), batch_size=chunk)
        )

        def dense():
            hessian = jax.block_until_ready(compiled(w))
            return [hessian[row] for row in probes(w.size)]

        return dense
    else:
        functions = {
            "gradient": lambda w, v: gradient(w),
            "hvp": hvp,
            "third": third,
            "fourth": fourth,
        }
        run = jax.jit(functions[task])
    return lambda: [jax.block_until_ready(run(w, v))]


def jax_lanczos(jax, hvp, w, starts) -> Call:
    jnp = jax.numpy

    def one(w, start):
        def step(state, _):
            q, before, beta = state
            image = hvp(w, q) - beta * before
            alpha = jnp.vdot(q, image)
            image = image - alpha * q
            beta = jnp.linalg.norm(image)
            return (image / beta, q, beta), alpha

        q = start / jnp.linalg.norm(start)
        return jax.lax.scan(step, (q, jnp.zeros_like(q), 0.0), None, length=STEPS)[1]

    # Without orthogonalisation, as ours.
    run, starts = jax.jit(jax.vmap(one, (None, 0))), jnp.asarray(starts)
    return lambda: [jax.block_until_ready(run(w, starts)).T[:8]]


def jax_linearize(p: Arrays) -> Call:
    jax, gradient, w, v = jax_gradient(p)
    _, product = jax.linearize(gradient, w)
    run = jax.jit(product)
    return lambda: [jax.block_until_ready(run(v))]


def jax_jet(p: Arrays) -> Call:
    jax, gradient, w, v = jax_gradient(p)
    from jax.experimental.jet import jet

    order = {"third": 2, "fourth": 3}[str(p["task"])]
    zeros = [jax.numpy.zeros_like(w)] * (order - 1)
    run = jax.jit(lambda w, v: jet(gradient, (w,), ((v, *zeros),))[1][-1])
    return lambda: [jax.block_until_ready(run(w, v))]


# ---- PyTorch -------------------------------------------------------------------------------------


def torch_loss(p: Arrays):
    import torch

    torch.set_num_threads(harness.THREADS)
    name = str(p["net"])
    sizes = SIZES[name]
    x, y = torch.from_numpy(p["x"]), torch.from_numpy(p["y"])

    def loss(w):
        z, start = x, 0
        for layer, (m, k) in enumerate(zip(sizes, sizes[1:], strict=False)):
            z = z @ w[start : start + m * k].view(m, k)
            start += m * k
            if name == "slow":
                z = torch.where(z > 0, z, SLOPE * z)
            elif layer < len(sizes) - 2:
                z = torch.tanh(z)
        if name == "slow":
            return 0.5 * ((z - y) ** 2).sum()
        return torch.nn.functional.cross_entropy(z, y)

    return torch, loss, torch.from_numpy(p["w"]), torch.from_numpy(p["v"])


def torch_func(p: Arrays) -> Call:
    torch, loss, w, v = torch_loss(p)
    gradient = torch.func.grad(loss)

    def hvp(w, v):
        return torch.func.jvp(gradient, (w,), (v,))[1]

    def third(w, v):
        return torch.func.jvp(lambda u: hvp(u, v), (w,), (v,))[1]

    def fourth(w, v):
        return torch.func.jvp(lambda u: third(u, v), (w,), (v,))[1]

    task = str(p["task"])
    if task in ("many", "dense"):
        chunk = None if task == "many" else 500 if w.numel() < 10_000 else 202
        rows = torch.from_numpy(p["many"]) if task == "many" else torch.eye(w.numel()).to(w)
        many = torch.func.vmap(lambda u: hvp(w, u), chunk_size=chunk)
        if task == "many":
            return lambda: [many(rows)]

        def dense():
            hessian = many(rows)
            return [hessian[row].clone() for row in probes(w.numel())]

        return dense
    run = {"gradient": lambda w, v: gradient(w), "hvp": hvp, "third": third, "fourth": fourth}[task]
    return lambda: [run(w, v)]


def torch_double_backward(p: Arrays) -> Call:
    torch, loss, w, v = torch_loss(p)
    w.requires_grad_()
    task = str(p["task"])

    def gradient(create):
        return torch.autograd.grad(loss(w), w, create_graph=create)[0]

    if task == "gradient":
        return lambda: [gradient(False)]
    if task == "hvp":
        return lambda: [torch.autograd.grad(gradient(True), w, v)[0]]
    kept = gradient(True)
    if task == "hvp-kept":
        return lambda: [torch.autograd.grad(kept, w, v, retain_graph=True)[0]]
    rows = torch.from_numpy(p["many"])
    return lambda: [
        torch.autograd.grad(gradient(True), w, rows, is_grads_batched=True, retain_graph=False)[0]
    ]


def curvlinops(p: Arrays) -> Call:
    torch, _, w, _ = torch_loss(p)
    from curvlinops import HessianLinearOperator

    name = str(p["net"])
    sizes = SIZES[name]
    layers, start = [], 0
    for m, k in zip(sizes, sizes[1:], strict=False):
        linear = torch.nn.Linear(m, k, bias=False).double()
        with torch.no_grad():
            linear.weight.copy_(w[start : start + m * k].view(m, k).T)
        start += m * k
        layers += [linear, torch.nn.LeakyReLU(SLOPE) if name == "slow" else torch.nn.Tanh()]
    model = torch.nn.Sequential(*(layers if name == "slow" else layers[:-1]))
    x, y = torch.from_numpy(p["x"]), torch.from_numpy(p["y"])
    # Its squared error has no ½: the sum of squares is halved afterwards.
    half = name == "slow"
    loss = torch.nn.MSELoss(reduction="sum") if half else torch.nn.CrossEntropyLoss()
    parameters = [q for q in model.parameters() if q.requires_grad]
    operator = HessianLinearOperator(model, loss, parameters, [(x, y)], check_deterministic=False)
    # Its order is PyTorch's, weights [out, in].
    rows = p["many"].reshape(MANY, -1)
    pieces, start = [], 0
    for m, k in zip(sizes, sizes[1:], strict=False):
        part = rows[:, start : start + m * k].reshape(MANY, m, k)
        pieces.append(part.transpose(0, 2, 1).reshape(MANY, -1))
        start += m * k
    columns = torch.from_numpy(np.ascontiguousarray(np.concatenate(pieces, 1).T))

    def call():
        return [operator @ columns]

    call()
    return call


SYSTEMS = {
    "swiftnets": System("**swiftnets**", swiftnets),
    "jax-jit": System("JAX, jitted", jax_jit),
    "jax-linearize": System("JAX, jax.linearize, jitted", jax_linearize),
    "jax-jet": System("JAX, jax.experimental.jet, jitted", jax_jet),
    "torch.func": System("PyTorch, torch.func", torch_func),
    "torch-double-backward": System("PyTorch, backward twice", torch_double_backward),
    "curvlinops": System("curvlinops", curvlinops, checked=False),  # in another order, not halved
}

# Net, task, its name, and what the peers have for it.
TASKS = [
    ("slow", "gradient", "gradient", "jax-jit,torch.func,torch-double-backward"),
    ("slow", "hvp", "one HVP", "jax-jit,torch.func,torch-double-backward"),
    ("slow", "hvp-kept", "one HVP, forward pass kept", "jax-linearize,torch-double-backward"),
    ("slow", "many", "64 HVPs at once", "jax-jit,torch.func,torch-double-backward,curvlinops"),
    ("slow", "dense", "dense Hessian (7,500²)", "jax-jit,torch.func"),
    ("slow", "third", "T[v,v]", "jax-jit,jax-jet,torch.func"),
    ("slow", "fourth", "Q[v,v,v]", "jax-jit,jax-jet,torch.func"),
    ("slow", "lanczos", "10 Lanczos runs × 50 steps", "jax-jit"),
    ("deep", "gradient", "gradient", "jax-jit,torch.func,torch-double-backward"),
    ("deep", "hvp", "one HVP", "jax-jit,torch.func,torch-double-backward"),
    ("deep", "hvp-kept", "one HVP, forward pass kept", "jax-linearize,torch-double-backward"),
    ("deep", "many", "64 HVPs at once", "jax-jit,torch.func,torch-double-backward,curvlinops"),
    ("deep", "dense", "dense Hessian (12,928²)", "jax-jit,torch.func"),
    ("deep", "third", "T[v,v]", "jax-jit,jax-jet,torch.func"),
    ("deep", "fourth", "Q[v,v,v]", "jax-jit,jax-jet,torch.func"),
    ("deep", "lanczos", "10 Lanczos runs × 50 steps", "jax-jit"),
    ("mlp", "gradient", "gradient", "jax-jit,torch.func,torch-double-backward"),
    ("mlp", "hvp", "one HVP", "jax-jit,torch.func,torch-double-backward"),
    ("mlp", "hvp-kept", "one HVP, forward pass kept", "jax-linearize,torch-double-backward"),
]


def operations(net: str, task: str) -> float:
    """Multiplications and additions of the arithmetic floor, where the task has a plain one."""
    sizes, n = SIZES[net], SAMPLES[net]
    products = [m * k for m, k in zip(sizes, sizes[1:], strict=False)]
    later = sum(products[1:])
    gradient = 2 * n * (2 * sum(products) + later)
    kept = 2 * n * (2 * sum(products) + 4 * later)
    return {
        "gradient": gradient,
        "hvp": gradient + kept,
        "hvp-kept": kept,
        "many": gradient + MANY * kept,
        "lanczos": RUNS * STEPS * kept,
    }.get(task, 0.0)


def truth(p: Arrays) -> np.ndarray:
    """The trusted answer, on one device in float64 without compilation."""
    if str(p["task"]) == "dense":
        jax, gradient, w, _ = jax_gradient(p)
        rows = np.eye(w.size)[probes(w.size)]
        return np.concatenate([np.asarray(jax.jvp(gradient, (w,), (row,))[1]) for row in rows])
    name = {"hvp-kept": "hvp"}.get(str(p["task"]), str(p["task"]))
    return np.concatenate([np.asarray(part).ravel() for part in jax_jit({**p, "task": name})()])


def report(
    rounds: int,
    only: str | None = None,
    tasks: list[str] | None = None,
    rows_of: Sequence[tuple[str, str, str, str]] = TASKS,
    script: str = __file__,
) -> str:
    # Q is 0 on slow up to rounding along v inside a cell, T not; elsewhere answers agree to the
    # rounding of sums over samples and layers.
    suite = harness.Suite(script, SYSTEMS, problem, truth, operations, limit=lambda _: 1e-10)
    return harness.report_tasks(suite, rows_of, rounds, only, tasks)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--tasks", help="NET/TASK, separated by commas; default all")
    arguments = parser.parse_args()
    if arguments.worker:
        systems = {**SYSTEMS, "gemm": harness.GEMM}
        return harness.serve(systems, arguments.worker, arguments.problem)
    harness.use_cores(2)
    tasks = arguments.tasks.split(",") if arguments.tasks else None
    print(report(arguments.rounds, arguments.only, tasks))


if __name__ == "__main__":
    main()
