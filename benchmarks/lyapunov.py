"""All Lyapunov exponents of gradient descent on a chaotic net of 17 weights, beside plain JAX.

A (2, 3, 2) tanh net with biases, softmax cross-entropy (mean), l2 0.01, twelve samples, step 6;
60,000 steps of 17 tangents, a QR factorisation at each. The JAX program is one compiled loop
(lax.scan) over gradients and Hessian-vector products; compiling it is not timed. The orbits part by
rounding after some hundred steps, so that spectra are compared as what they are, means: their
distance to that of another start in NumPy, relative to its norm. One thread.
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

P, RATE, L2 = 17, 6.0, 0.01
STEPS, TRANSIENT = 60_000, 500
LIMIT = 0.1  # of 6,000 steps; standard errors are some 0.02


def problem(steps: int) -> Arrays:
    random = np.random.default_rng(0)
    x = random.normal(size=(12, 2))
    y = ((x[:, 0] * x[:, 1] > 0) ^ (random.random(12) < 0.15)).astype(np.int64)
    w = np.random.default_rng(1).normal(0.0, 0.7, P)
    return {"x": x, "y": y, "w": w, "steps": np.array(steps)}


def numpy_spectrum(p: Arrays, steps: int) -> np.ndarray:
    """The same by hand: the trusted answer, from another start."""
    x, target = p["x"], np.eye(2)[p["y"]]
    count = len(x)
    inputs = np.hstack([x, np.ones((count, 1))])

    def parts(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = np.concatenate([w[..., :6], w[..., 6:9]], axis=-1)
        second = np.concatenate([w[..., 9:15], w[..., 15:17]], axis=-1)
        return first.reshape(*w.shape[:-1], 3, 3), second.reshape(*w.shape[:-1], 4, 2)

    w = np.random.default_rng(2).normal(0.0, 0.7, P)
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(P, P)))
    total = np.zeros(P)
    for step in range(TRANSIENT + steps):
        one, two = parts(w)
        h = np.tanh(inputs @ one)
        hidden = np.hstack([h, np.ones((count, 1))])
        logits = hidden @ two
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        s = e / e.sum(axis=1, keepdims=True)
        d2 = (s - target) / count
        slope = 1 - h * h
        back = d2 @ two[:3].T
        gradient = np.concatenate([(inputs.T @ (back * slope)).ravel(), (hidden.T @ d2).ravel()])
        t1, t2 = parts(np.ascontiguousarray(q.T))
        dh = (inputs @ t1) * slope
        padded = np.concatenate([dh, np.zeros((P, count, 1))], axis=2)
        dlogits = padded @ two + hidden @ t2
        dd2 = (s * dlogits - s * (s * dlogits).sum(axis=2, keepdims=True)) / count
        dback = dd2 @ two[:3].T + d2 @ t2[:, :3].swapaxes(1, 2)
        inner = inputs.T @ (dback * slope - 2 * back * h * dh)
        outer = hidden.T @ dd2 + padded.swapaxes(1, 2) @ d2
        curved = np.concatenate([inner.reshape(P, -1), outer.reshape(P, -1)], axis=1)
        q, r = np.linalg.qr(q - RATE * (curved.T + L2 * q))
        w = w - RATE * (gradient + L2 * w)
        if step >= TRANSIENT:
            total += np.log(abs(np.diag(r)))
    return total / steps


def ours(p: Arrays) -> Call:
    from swiftnets import MLP
    from swiftnets.dynamics import GradientDescentMap, lyapunov_spectrum
    from swiftnets.problems import NetProblem

    net = MLP((2, 3, 2), loss="softmax_cross_entropy", reduction="mean", l2=L2)
    descent = GradientDescentMap(NetProblem(net, p["x"], p["y"]), learning_rate=RATE)
    steps = int(p["steps"])

    def call() -> list[np.ndarray]:
        found = lyapunov_spectrum(descent, p["w"], k=P, steps=steps, transient=TRANSIENT)
        return [found.exponents]

    return call


def jax_loss(p: Arrays) -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    x, y = jnp.asarray(p["x"]), jnp.asarray(p["y"])

    def loss(w: Any) -> Any:
        hidden = jnp.tanh(x @ w[:6].reshape(2, 3) + w[6:9])
        logs = jax.nn.log_softmax(hidden @ w[9:15].reshape(3, 2) + w[15:17])
        return -jnp.mean(jnp.take_along_axis(logs, y[:, None], 1)) + L2 / 2 * w @ w

    return jax, loss


def jax_scan(p: Arrays) -> Call:
    jax, loss = jax_loss(p)
    jnp, gradient, steps = jax.numpy, jax.grad(loss), int(p["steps"])

    def step(carry: Any, _: Any) -> Any:
        w, q, total = carry
        g, product = jax.linearize(gradient, w)
        q, r = jnp.linalg.qr(q - RATE * jax.vmap(product, 1, 1)(q))
        return (w - RATE * g, q, total + jnp.log(jnp.abs(jnp.diag(r)))), None

    @jax.jit
    def run(w: Any, q: Any) -> Any:
        zero = jnp.zeros(P)
        w, q, _ = jax.lax.scan(step, (w, q, zero), None, TRANSIENT)[0]
        return jax.lax.scan(step, (w, q, zero), None, steps)[0][2] / steps

    w, q = jnp.asarray(p["w"]), jnp.linalg.qr(jax.random.normal(jax.random.key(0), (P, P)))[0]
    compiled = run.lower(w, q).compile()
    return lambda: [np.asarray(compiled(w, q))]


SYSTEMS = {
    "swiftnets": System("swiftnets", ours),
    "jax": System("JAX, one compiled loop", jax_scan),
    "gemm": harness.GEMM,
}


def tables(rounds: int, only: str | None, quick: bool) -> str:
    steps = STEPS // 10 if quick else STEPS
    p = problem(steps)
    results = harness.measure(
        __file__,
        harness.chosen(SYSTEMS, only),
        p,
        numpy_spectrum(p, steps),
        step=lambda answer: answer,
        limit=LIMIT,
        rounds=1 if quick else rounds,
    )
    gemm = results.pop("gemm")
    text = harness.result_table(results, "distance to NumPy's")
    return f"{steps:,} steps, 17 exponents.\n\n{text}\n\n{harness.gemm_line(gemm)}"


def report(rounds: int = 3) -> str:
    print("Lyapunov exponents", flush=True)
    # Its own process, for the thread counts must be in place before NumPy is loaded.
    command = [sys.executable, __file__, "--rounds", str(rounds)]
    env = {**harness.environment(), **ONE_THREAD}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode != 0:
        return "Not measured: it failed, see above."
    return done.stdout[done.stdout.index(f"{STEPS:,} steps") :].strip()


def main() -> None:
    harness.THREADS = 1
    parser = harness.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="6,000 steps, one round")
    arguments = parser.parse_args()
    if arguments.worker:
        return harness.serve(SYSTEMS, arguments.worker, arguments.problem)
    print(tables(arguments.rounds, arguments.only, arguments.quick))


if __name__ == "__main__":
    main()
