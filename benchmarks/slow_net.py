"""One slow_net iteration at the original's size: 50-50-100, batch 50, float64.

Inputs are standard normal; weights at initial scale, randn/(in + out), and at trained scale,
randn/√in. Run: python benchmarks/slow_net.py
"""

import numpy as np

import harness
from harness import Arrays, Call, System

SIZES = (50, 50, 100)
SAMPLES = 50
ALPHA = DAMPING = 0.1
TOLERANCE = 1e-12  # of the residual, relative, wherever conjugate gradients solve


def problem(scale: str) -> Arrays:
    rng = np.random.default_rng(2019)
    n_in, n_hid, n_out = SIZES
    trained = scale == "trained"
    return {
        "xs": rng.standard_normal((SAMPLES, n_in)),
        "ys": np.eye(n_out)[rng.integers(0, n_out, SAMPLES)],
        "w1": rng.standard_normal((n_in, n_hid)) / (np.sqrt(n_in) if trained else n_in + n_hid),
        "w2": rng.standard_normal((n_hid, n_out)) / (np.sqrt(n_hid) if trained else n_hid + n_out),
    }


# ---- swiftnets, and the original's algorithm -----------------------------------------------------


def swiftnets(p: Arrays) -> Call:
    from swiftnets import SlowNet

    harness.set_threads()
    net = SlowNet(*SIZES, alpha=ALPHA, damping=DAMPING)

    def call():
        net.w1, net.w2 = p["w1"], p["w2"]
        net.step(p["xs"], p["ys"])
        return net.w1, net.w2

    return call


def numpy_original(p: Arrays) -> Call:
    from swiftnets.originals import reference

    return lambda: reference.slow_step(**p, alpha=ALPHA, damping=DAMPING)[:2]


# ---- NumPy, with the structure -------------------------------------------------------------------


def passes(p: Arrays):
    """What every program below starts from: h1, D1, D2², loss and both gradients."""
    xs, ys, w1, w2 = p["xs"], p["ys"], p["w1"], p["w2"]
    n1 = xs @ w1
    d1 = np.where(n1 > 0, 1.0, 0.5)
    h1 = n1 * d1
    n2 = h1 @ w2
    d2 = np.where(n2 > 0, 1.0, 0.5)
    error = n2 * d2 - ys
    g2 = error * d2
    g1 = (g2 @ w2.T) * d1
    return h1, d1, d2 * d2, 0.5 * np.sum(error * error), xs.T @ g1, h1.T @ g2


def assembled_step(p: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The trusted answer: blocks as sums of Kronecker products over samples, solved densely."""
    xs, w1, w2 = p["xs"], p["w1"], p["w2"]
    h1, d1, d2d2, _, dw1, dw2 = passes(p)
    n, n_in = xs.shape
    n_hid = w1.shape[1]
    middle = (w2 * d2d2[:, None, :]) @ w2.T * d1[:, :, None] * d1[:, None, :]
    outer = (xs[:, :, None] * xs[:, None, :]).reshape(n, -1)
    block = (outer.T @ middle.reshape(n, -1)).reshape(n_in, n_in, n_hid, n_hid)
    block1 = block.transpose(0, 2, 1, 3).reshape(n_in * n_hid, -1)
    block1[np.diag_indices_from(block1)] += DAMPING
    blocks2 = h1.T @ (h1 * d2d2.T[:, :, None]) + DAMPING * np.eye(n_hid)
    step1 = np.linalg.solve(block1, dw1.ravel()).reshape(w1.shape)
    step2 = np.linalg.solve(blocks2, dw2.T[:, :, None])[:, :, 0].T
    return w1 - ALPHA * step1, w2 - ALPHA * step2


def numpy_assembled(p: Arrays) -> Call:
    return lambda: assembled_step(p)


def numpy_cg(p: Arrays) -> Call:
    xs, w1, w2 = p["xs"], p["w1"], p["w2"]

    def solve(product, b):
        x, r = np.zeros_like(b), b
        direction, rr = r, np.vdot(r, r)
        stop = TOLERANCE**2 * rr
        while rr > stop:
            image = product(direction) + DAMPING * direction
            length = rr / np.vdot(direction, image)
            x = x + length * direction
            r = r - length * image
            rr, last = np.vdot(r, r), rr
            direction = r + (rr / last) * direction
        return x

    def call():
        h1, d1, d2d2, _, dw1, dw2 = passes(p)
        step1 = solve(lambda v: xs.T @ (((((xs @ v) * d1) @ w2 * d2d2) @ w2.T) * d1), dw1)
        step2 = solve(lambda v: h1.T @ ((h1 @ v) * d2d2), dw2)
        return w1 - ALPHA * step1, w2 - ALPHA * step2

    return call


# ---- JAX -----------------------------------------------------------------------------------------


def jax_modules():
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax, jax.numpy


def jax_passes(jnp, xs, ys, w1, w2):
    n1 = xs @ w1
    d1 = jnp.where(n1 > 0, 1.0, 0.5)
    h1 = n1 * d1
    n2 = h1 @ w2
    d2 = jnp.where(n2 > 0, 1.0, 0.5)
    error = n2 * d2 - ys
    g2 = error * d2
    return h1, d1, d2 * d2, 0.5 * jnp.sum(error * error), xs.T @ ((g2 @ w2.T) * d1), h1.T @ g2


def jax_call(p: Arrays, step) -> Call:
    """`step(xs, ys, w1, w2) -> w1, w2, loss` compiled; data already on JAX's side."""
    jax, jnp = jax_modules()
    compiled = jax.jit(step)
    arrays = [jnp.asarray(p[name]) for name in ("xs", "ys", "w1", "w2")]
    return lambda: jax.block_until_ready(compiled(*arrays))[:2]


def jax_cg(p: Arrays) -> Call:
    """Conjugate gradients on both blocks' R-products, a compiled loop a layer, in one program."""
    jax, jnp = jax_modules()

    def solve(product, b):
        start = (jnp.zeros_like(b), b, b, jnp.vdot(b, b))
        stop = TOLERANCE**2 * start[3]

        def iterate(state):
            x, r, direction, rr = state
            image = product(direction) + DAMPING * direction
            length = rr / jnp.vdot(direction, image)
            r = r - length * image
            rr_next = jnp.vdot(r, r)
            return x + length * direction, r, r + (rr_next / rr) * direction, rr_next

        return jax.lax.while_loop(lambda state: state[3] > stop, iterate, start)[0]

    def step(xs, ys, w1, w2):
        h1, d1, d2d2, loss, dw1, dw2 = jax_passes(jnp, xs, ys, w1, w2)
        step1 = solve(lambda v: xs.T @ (((((xs @ v) * d1) @ w2 * d2d2) @ w2.T) * d1), dw1)
        step2 = solve(lambda v: h1.T @ ((h1 @ v) * d2d2), dw2)
        return w1 - ALPHA * step1, w2 - ALPHA * step2, loss

    return jax_call(p, step)


def jax_preconditioned(p: Arrays) -> Call:
    """All the structure: batched Cholesky for layer 2, Kronecker-preconditioned CG for layer 1."""
    jax, jnp = jax_modules()

    def step(xs, ys, w1, w2):
        h1, d1, d2d2, loss, dw1, dw2 = jax_passes(jnp, xs, ys, w1, w2)
        blocks2 = h1.T @ (h1 * d2d2.T[:, :, None]) + DAMPING * jnp.eye(h1.shape[1])
        factor = jnp.linalg.cholesky(blocks2)
        step2 = jax.scipy.linalg.cho_solve((factor, True), dw2.T[:, :, None])[:, :, 0].T

        middle = ((w2 * d2d2[:, None, :]) @ w2.T * d1[:, :, None] * d1[:, None, :]).sum(0)
        values_x, vectors_x = jnp.linalg.eigh(xs.T @ xs / xs.shape[0])
        values_k, vectors_k = jnp.linalg.eigh(middle)
        scale = 1 / (values_x[:, None] * values_k + DAMPING)

        def precondition(r):
            return vectors_x @ ((vectors_x.T @ r @ vectors_k) * scale) @ vectors_k.T

        def product(v):
            image = xs.T @ (((((xs @ v) * d1) @ w2 * d2d2) @ w2.T) * d1)
            return image + DAMPING * v

        z = precondition(dw1)
        start = (jnp.zeros_like(dw1), dw1, z, jnp.vdot(dw1, z))
        stop = TOLERANCE**2 * jnp.vdot(dw1, dw1)

        def iterate(state):
            x, r, direction, rz = state
            image = product(direction)
            length = rz / jnp.vdot(direction, image)
            r = r - length * image
            z = precondition(r)
            rz_next = jnp.vdot(r, z)
            return x + length * direction, r, z + (rz_next / rz) * direction, rz_next

        step1 = jax.lax.while_loop(lambda s: jnp.vdot(s[1], s[1]) > stop, iterate, start)[0]
        return w1 - ALPHA * step1, w2 - ALPHA * step2, loss

    return jax_call(p, step)


def jax_dense(p: Arrays) -> Call:
    """The obvious program: both blocks by automatic differentiation, then Cholesky."""
    jax, jnp = jax_modules()

    def act(a):
        return jnp.where(a > 0, a, 0.5 * a)

    def step(xs, ys, w1, w2):
        def loss(v1, v2):
            return 0.5 * jnp.sum(
                (act(act(xs @ v1.reshape(w1.shape)) @ v2.reshape(w2.shape)) - ys) ** 2
            )

        def solve(gradient, v):
            block = jax.jacfwd(gradient)(v)
            factor = jax.scipy.linalg.cho_factor(block + DAMPING * jnp.eye(v.size))
            return v - ALPHA * jax.scipy.linalg.cho_solve(factor, gradient(v))

        v1, v2 = w1.ravel(), w2.ravel()
        next1 = solve(jax.grad(lambda v: loss(v, v2)), v1)
        next2 = solve(jax.grad(lambda v: loss(v1, v)), v2)
        return next1, next2, loss(v1, v2)

    return jax_call(p, step)


# ---- PyTorch -------------------------------------------------------------------------------------


def torch_dense(p: Arrays) -> Call:
    """Both blocks by torch.func, in chunks that keep memory moderate, then Cholesky."""
    import torch
    from torch.func import grad, jvp, vmap

    torch.set_num_threads(harness.THREADS)
    xs, ys, w1, w2 = (torch.from_numpy(p[name]) for name in ("xs", "ys", "w1", "w2"))

    def act(a):
        return torch.where(a > 0, a, 0.5 * a)

    def loss(v1, v2):
        return 0.5 * ((act(act(xs @ v1.reshape(w1.shape)) @ v2.reshape(w2.shape)) - ys) ** 2).sum()

    def solve(gradient, v):
        identity = torch.eye(v.numel(), dtype=v.dtype)
        block = vmap(lambda t: jvp(gradient, (v,), (t,))[1], chunk_size=500)(identity)
        block.diagonal().add_(DAMPING)
        factor = torch.linalg.cholesky(block)
        return v - ALPHA * torch.cholesky_solve(gradient(v)[:, None], factor)[:, 0]

    def call():
        v1, v2 = w1.reshape(-1), w2.reshape(-1)
        next1 = solve(grad(lambda v: loss(v, v2)), v1)
        next2 = solve(grad(lambda v: loss(v1, v)), v2)
        loss(v1, v2)
        return next1, next2

    return call


SYSTEMS = {
    "swiftnets": System("**swiftnets**", swiftnets),
    "jax-preconditioned": System("JAX, our algorithm, jitted", jax_preconditioned),
    "jax-cg": System("JAX, CG on block R-products to 1e-12, jitted", jax_cg),
    "numpy-cg": System("NumPy, CG on block R-products to 1e-12", numpy_cg),
    "numpy-assembled": System(
        "NumPy, Kronecker blocks, dense solves (trusted)",
        numpy_assembled,
    ),
    "jax-dense": System("JAX, blocks by autodiff, Cholesky, jitted", jax_dense),
    "torch-dense": System("PyTorch, blocks by torch.func, Cholesky", torch_dense),
    "numpy-original": System("the original's algorithm in NumPy", numpy_original, once=True),
}


def report(rounds: int, only: str | None = None) -> str:
    parts = []
    for scale, divisor in (("initial", "(in + out)"), ("trained", "√in")):
        print(f"slow_net, {scale} scale", flush=True)
        p = problem(scale)
        start = np.concatenate([p["w1"].ravel(), p["w2"].ravel()])
        truth = start - np.concatenate([w.ravel() for w in assembled_step(p)])
        # A residual of 1e-12 allows an error of 1e-12 times the condition number, here below 1e4.
        results = harness.measure(
            __file__,
            harness.chosen(SYSTEMS, only),
            p,
            truth,
            step=lambda answer, start=start: start - answer,
            limit=1e-8,
            rounds=rounds,
        )
        gemm = results.pop("gemm")
        parts += [
            f"**{scale.capitalize()} scale** (weights randn/{divisor}):",
            harness.result_table(results, "step differs by"),
            harness.gemm_line(gemm),
        ]
    return "\n\n".join(parts)


def main() -> None:
    arguments = harness.parser(__doc__).parse_args()
    if arguments.worker:
        systems = {**SYSTEMS, "gemm": harness.GEMM}
        return harness.serve(systems, arguments.worker, arguments.problem)
    harness.use_cores(2)
    print(report(arguments.rounds, arguments.only))


if __name__ == "__main__":
    main()
