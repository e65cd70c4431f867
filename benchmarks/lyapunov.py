"""Lyapunov exponents of gradient descent on two nets, beside plain JAX; one thread.

- chaos: a (2, 3, 2) tanh net with biases (P 17), softmax cross-entropy (mean), l2 0.01, twelve
  samples, step 6: all 17 exponents, 60,000 steps.
- edge: 16-16-16-4 (P 612) tanh, squared error (mean), 200 images of the embedded sample at 4 x 4,
  step 0.4, from initial weights: 8 exponents, 400 steps.

A QR factorisation at each step. The JAX program is one compiled loop (lax.scan) over gradients and
Hessian-vector products; compiling it is not timed. Orbits of the first part by rounding after some
hundred steps, so that its spectra are compared as what they are, means: their distance to that of
another start, relative to its norm. The trusted program is NumPy's.
Run: python benchmarks/lyapunov.py [--quick]
"""

import os
import subprocess
import sys
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SWIFTNETS_NUM_THREADS")
ONE_THREAD = dict.fromkeys(VARIABLES, "1")
if __name__ == "__main__":
    os.environ.update(ONE_THREAD)  # before NumPy is loaded

import numpy as np  # noqa: E402

import harness  # noqa: E402
from harness import Arrays, Call, System  # noqa: E402

TRANSIENT = 500  # of the first
# Of 6,000 steps standard errors are some 2 % of the norm; the second's orbit does not part.
LIMITS = {"chaos": 0.1, "edge": 1e-3}


def problem(name: str, quick: bool) -> Arrays:
    from swiftnets import datasets

    if name == "chaos":
        random = np.random.default_rng(0)
        x = random.normal(size=(12, 2))
        labels = ((x[:, 0] * x[:, 1] > 0) ^ (random.random(12) < 0.15)).astype(np.int64)
        sizes, rate, l2, k = [2, 3, 2], 6.0, 0.01, 17
        steps, transient = 6_000 if quick else 60_000, TRANSIENT
    else:
        data = datasets.load(None)
        rows = np.flatnonzero(data.train_labels < 4)[:200]
        x = data.train_images[rows].reshape(-1, 3, 4, 8, 4, 8)[:, 0].mean(axis=(2, 4)) / 255
        x = x.reshape(-1, 16)
        x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-8)
        labels = data.train_labels[rows]
        sizes, rate, l2, k = [16, 16, 16, 4], 0.4, 0.0, 8
        steps, transient = 400, 0
    arrays = {"x": x, "targets": np.eye(sizes[-1])[labels], "sizes": np.array(sizes)}
    arrays["w"] = net_of(arrays | {"l2": np.array(l2)}).initial(seed=0)
    count = len(arrays["w"])
    starts = [np.random.default_rng([0, i]).standard_normal(count) for i in range(k)]
    arrays["q"] = np.linalg.qr(np.array(starts).T)[0]  # those of swiftnets' seed 0
    numbers = {"rate": rate, "l2": l2, "steps": steps, "transient": transient}
    return arrays | {key: np.array(value) for key, value in numbers.items()}


def is_chaotic(p: Arrays) -> bool:
    return bool(p["transient"] > 0)


def layers_of(w: Any, sizes: np.ndarray) -> list[Any]:
    """Weights over biases, layer by layer, of one flat vector or of several."""
    found, start = [], 0
    for rows, columns in zip(sizes, sizes[1:], strict=False):
        end = start + (rows + 1) * columns
        found.append(w[..., start:end].reshape(*w.shape[:-1], rows + 1, columns))
        start = end
    return found


def numpy_spectrum(p: Arrays) -> np.ndarray:
    """The trusted answer, by hand; of the chaotic net from another start."""
    x, targets, sizes = p["x"], p["targets"], p["sizes"]
    rate, l2, w, q = float(p["rate"]), float(p["l2"]), p["w"], p["q"]
    if is_chaotic(p):
        w = np.random.default_rng(2).normal(0.0, 0.7, len(w))
    count, k = len(x), q.shape[1]

    def padded(z: np.ndarray, value: float) -> np.ndarray:
        return np.concatenate([z, np.full((*z.shape[:-1], 1), value)], axis=-1)

    def derivatives(w: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradient, and the Hessian times each row."""
        weights, moved = layers_of(w, sizes), layers_of(rows, sizes)
        z, dz = [padded(x, 1.0)], [np.zeros((k, count, x.shape[1] + 1))]
        for layer, (a, da) in enumerate(zip(weights, moved, strict=True)):
            out, dout = z[-1] @ a, dz[-1] @ a + z[-1] @ da
            if layer < len(weights) - 1:
                out = np.tanh(out)
                dout = dout * (1 - out * out)
                z.append(padded(out, 1.0))
                dz.append(padded(dout, 0.0))
        if l2:  # the chaotic net's loss is the cross-entropy
            e = np.exp(out - out.max(axis=1, keepdims=True))
            s = e / e.sum(axis=1, keepdims=True)
            back = (s - targets) / count
            dback = (s * dout - s * (s * dout).sum(axis=2, keepdims=True)) / count
        else:
            back, dback = (out - targets) / count, dout / count
        gradient, products = [], []
        for layer in range(len(weights) - 1, -1, -1):
            a, da, h, dh = weights[layer], moved[layer], z[layer], dz[layer]
            gradient.append((h.T @ back).ravel())
            products.append((h.T @ dback + dh.swapaxes(1, 2) @ back).reshape(k, -1))
            if layer:
                h, dh = h[:, :-1], dh[..., :-1]
                before = back @ a[:-1].T
                dbefore = dback @ a[:-1].T + back @ da[:, :-1].swapaxes(1, 2)
                back = before * (1 - h * h)
                dback = dbefore * (1 - h * h) - 2 * before * h * dh
        return np.concatenate(gradient[::-1]), np.concatenate(products[::-1], axis=1)

    total, transient, steps = np.zeros(k), int(p["transient"]), int(p["steps"])
    for step in range(transient + steps):
        gradient, products = derivatives(w, np.ascontiguousarray(q.T))
        q, r = np.linalg.qr(q - rate * (products.T + l2 * q))
        w = w - rate * (gradient + l2 * w)
        if step >= transient:
            total += np.log(abs(np.diag(r)))
    return total / steps


def net_of(p: Arrays) -> Any:
    from swiftnets import MLP

    l2 = float(p["l2"])
    loss = "softmax_cross_entropy" if l2 else "squared_error"
    return MLP([int(size) for size in p["sizes"]], loss=loss, reduction="mean", l2=l2)


def ours(p: Arrays) -> Call:
    from swiftnets.dynamics import GradientDescentMap, lyapunov_spectrum
    from swiftnets.problems import NetProblem

    descent = GradientDescentMap(
        NetProblem(net_of(p), p["x"], p["targets"]), learning_rate=float(p["rate"])
    )
    options = {"k": p["q"].shape[1], "steps": int(p["steps"]), "transient": int(p["transient"])}
    return lambda: [lyapunov_spectrum(descent, p["w"], **options).exponents]


def jax_scan(p: Arrays) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    x, targets, sizes = jnp.asarray(p["x"]), jnp.asarray(p["targets"]), p["sizes"].tolist()
    rate, l2, k = float(p["rate"]), float(p["l2"]), p["q"].shape[1]
    transient, steps = int(p["transient"]), int(p["steps"])

    def loss(w: Any) -> Any:
        z, weights = x, layers_of(w, np.array(sizes))
        for layer, a in enumerate(weights):
            z = z @ a[:-1] + a[-1]
            z = jnp.tanh(z) if layer < len(weights) - 1 else z
        if l2:
            return -(targets * jax.nn.log_softmax(z)).sum() / len(x) + l2 / 2 * w @ w
        return ((z - targets) ** 2).sum() / (2 * len(x))

    def step(carry: Any, _: Any) -> Any:
        w, q, total = carry
        g, product = jax.linearize(jax.grad(loss), w)
        q, r = jnp.linalg.qr(q - rate * jax.vmap(product, 1, 1)(q))
        return (w - rate * g, q, total + jnp.log(jnp.abs(jnp.diag(r)))), None

    @jax.jit
    def run(w: Any, q: Any) -> Any:
        zero = jnp.zeros(k)
        w, q, _ = jax.lax.scan(step, (w, q, zero), None, transient)[0]
        return jax.lax.scan(step, (w, q, zero), None, steps)[0][2] / steps

    w, q = jnp.asarray(p["w"]), jnp.asarray(p["q"])
    compiled = run.lower(w, q).compile()
    return lambda: [np.asarray(compiled(w, q))]


SYSTEMS = {
    "swiftnets": System("swiftnets", ours),
    "jax": System("JAX, one compiled loop", jax_scan),
    "gemm": harness.GEMM,
}


def tables(rounds: int, only: str | None, quick: bool) -> str:
    texts = []
    for name, limit in LIMITS.items():
        p = problem(name, quick)
        results = harness.measure(
            __file__,
            harness.chosen(SYSTEMS, only),
            p,
            numpy_spectrum(p),
            step=lambda answer: answer,
            limit=limit,
            rounds=1 if quick else rounds,
        )
        gemm = results.pop("gemm")
        what = f"{name}: {p['q'].shape[1]} exponents, {int(p['steps']):,} steps."
        table = harness.result_table(results, "distance to NumPy's")
        texts.append(f"{what}\n\n{table}\n\n{harness.gemm_line(gemm)}")
    return "\n\n".join(texts)


def report(rounds: int = 3) -> str:
    print("Lyapunov exponents", flush=True)
    # Its own process, for the thread counts must be in place before NumPy is loaded.
    command = [sys.executable, __file__, "--rounds", str(rounds)]
    env = {**harness.environment(), **ONE_THREAD}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode != 0:
        return "Not measured: it failed, see above."
    return done.stdout[done.stdout.index("chaos: ") :].strip()


def main() -> None:
    harness.use_cores(1)
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the chaotic steps, one round"
    )
    arguments = parser.parse_args()
    if arguments.worker:
        return harness.serve(SYSTEMS, arguments.worker, arguments.problem)
    print(tables(arguments.rounds, arguments.only, arguments.quick))


if __name__ == "__main__":
    main()
