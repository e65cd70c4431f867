"""The central flow beside a plain JAX program of the same algorithm.

Three nets at the edge of stability, started at the mean of gradient descent's iterates: 16-16-16-4
tanh on the package's Fashion-MNIST, one eigenvalue at the edge; and with --data DIR, a folder with
CIFAR-10, 48-16-16-4 tanh with three and 3072-32-32-4 GELU, of 99,524 parameters, with one. The JAX
program has the gradient, Hessian products and third derivatives of all pairs jitted, in float64,
and around them the package's own refinement of eigenvectors and complementarity solver: counts of
derivatives are the same, and what is compared is their speed. The package goes by itself into the
span of the last one's inputs, which are more than its samples; JAX's program does it there in a row
of its own. One thread each.
Run: python benchmarks/dynamics.py [--data DIR] [--quick]
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SWIFTNETS_NUM_THREADS")
ONE_THREAD = dict.fromkeys(VARIABLES, "1")
if __name__ == "__main__":
    os.environ.update(ONE_THREAD)  # before NumPy is loaded

import numpy as np  # noqa: E402

import harness  # noqa: E402
from harness import Arrays, Call, System  # noqa: E402

# Sizes, activation, step, iterates before the start, samples, steps of a call, those of --quick.
NETS: dict[str, tuple[tuple[int, ...], str, float, int, int, int, int]] = {
    "F16": ((16, 16, 16, 4), "tanh", 0.4, 400, 200, 100, 10),
    "C48": ((48, 16, 16, 4), "tanh", 0.2, 400, 200, 60, 5),
    "C3072": ((3072, 32, 32, 4), "gelu", 0.013, 200, 400, 100, 10),
}
SUBSTEPS, THRESHOLD = 2, 0.95
# Eigenvectors are found to 1e-3: so far apart paths of the same flow may be, relatively.
LIMIT = 1e-2


# ---- swiftnets -----------------------------------------------------------------------------------


def our_point(p: Arrays) -> Any:
    from swiftnets import MLP

    sizes = [int(size) for size in p["sizes"]]
    net = MLP(sizes, activation=str(p["activation"]), reduction="mean")
    return net.at(p["w"], p["x"], p["y"])


def ours(p: Arrays, certify_every: int | None = None) -> Call:
    from swiftnets import dynamics

    point, step, time = our_point(p), float(p["step"]), int(p["time"])

    def call() -> list[Any]:
        found = dynamics.central_flow(
            point, step=step, time=time, every=None, certify_every=certify_every
        )
        return [found.w]

    return call


# ---- JAX -----------------------------------------------------------------------------------------


def jax_derivatives(p: Arrays) -> tuple[Any, Any, Any]:
    """Jitted: the gradient, products with rows, and third derivatives along pairs of rows."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp, sizes = jax.numpy, [int(size) for size in p["sizes"]]
    x, y = jnp.asarray(p["x"]), jnp.asarray(p["y"])

    def gelu(z: Any) -> Any:
        return jax.nn.gelu(z, approximate=False)

    activation = {"tanh": jnp.tanh, "gelu": gelu}[str(p["activation"])]

    def loss(w: Any) -> Any:
        z, start = x, 0
        for i, (rows, columns) in enumerate(zip(sizes, sizes[1:], strict=False)):
            end = start + rows * columns
            z = z @ w[start:end].reshape(rows, columns) + w[end : end + columns]
            start = end + columns
            z = activation(z) if i < len(sizes) - 2 else z
        return 0.5 * jnp.sum((z - y) ** 2) / len(x)

    gradient = jax.grad(loss)

    def product(w: Any, v: Any) -> Any:
        return jax.jvp(gradient, (w,), (v,))[1]

    def third(w: Any, u: Any, v: Any) -> Any:
        return jax.jvp(lambda w: product(w, v), (w,), (u,))[1]

    return (
        jax.jit(gradient),
        jax.jit(jax.vmap(product, (None, 0))),
        jax.jit(jax.vmap(third, (None, 0, 0))),
    )


def jax_flow(p: Arrays) -> Call:
    gradient, products, thirds = jax_derivatives(p)
    from swiftnets.dynamics import solve_sdcp
    from swiftnets.dynamics.ritz import refine

    step, time, dt = float(p["step"]), int(p["time"]), 1 / SUBSTEPS
    edge, order = 2 / step, len(p["w"])
    critical = THRESHOLD * edge

    def eigenpairs(w: Any, rows: Any, tolerance: float, seed: int) -> Any:
        return refine(
            lambda v: np.asarray(products(w, v)),
            rows,
            2,
            order=order,
            above=critical,
            tolerance=tolerance,
            most=400,
            seed=seed,
            guard=10.0,
        )

    def call() -> list[Any]:
        w, X, old = p["w"], np.zeros((0, 0)), np.empty((0, order))
        for count in range(time * SUBSTEPS):
            found = eigenpairs(w, old if count else None, 1e-3 if count else 1e-6, count)
            c = int((found.values > critical).sum())
            rows, g = found.rows[: max(c + 1, 2)], np.asarray(gradient(w))
            if c:
                i, j = np.triu_indices(c)
                T = np.asarray(thirds(w, rows[i], rows[j]))
                scale = np.where(i == j, 1.0, np.sqrt(2.0))
                M, A = T * scale[:, None], np.diag(edge - found.values[:c]) / (step * dt)
                A[i, j] += T @ g
                A[j, i] = A[i, j]
                turn = rows[:c] @ old[: len(X)].T
                start = turn @ X @ turn.T if len(X) else None
                X = solve_sdcp(A, M @ M.T / 2, start=start).X
                g = g + (np.where(i == j, 0.5, 1.0) * X[i, j]) @ T
            else:
                X = np.zeros((0, 0))
            old, w = rows, w - step * dt * g
        return [w]

    return call


def jax_flow_in_span(p: Arrays) -> Call:
    """The same with x = x̃ Qᵀ, N numbers for each sample, and QᵀW for the first layer's weights."""
    inputs, width = (int(size) for size in p["sizes"][:2])
    split, shape = inputs * width, (inputs, width)
    turn, _ = np.linalg.qr(p["x"].T)
    small = {**p, "x": p["x"] @ turn, "sizes": np.array([turn.shape[1], *p["sizes"][1:]])}
    first = turn.T @ p["w"][:split].reshape(shape)
    small["w"] = np.concatenate([first.ravel(), p["w"][split:]])
    flow = jax_flow(small)

    def call() -> list[Any]:
        np.linalg.qr(p["x"].T)  # for its time
        (w,) = flow()
        moved = turn @ (w[: first.size].reshape(first.shape) - first)
        return [np.concatenate([p["w"][:split] + moved.ravel(), w[first.size :]])]

    return call


# ---- the table -----------------------------------------------------------------------------------

SYSTEMS = {
    "swiftnets": System("**swiftnets**", ours),
    "proofs": System("swiftnets, proofs every 50 steps", lambda p: ours(p, 50)),
    "jax": System("JAX, the same algorithm, jitted", jax_flow),
    "span": System("JAX, the same in the span of the inputs", jax_flow_in_span),
}


def problem(name: str, folder: Path | None, quick: bool) -> Arrays:
    from swiftnets import MLP, datasets
    from swiftnets.dynamics import smoothed

    sizes, activation, step, begin, samples, time, short = NETS[name]
    data = datasets.load(folder)
    chosen = np.flatnonzero(data.train_labels < 4)[:samples]
    images = data.train_images[chosen].reshape(-1, 3, 32, 32) / 255
    if name == "F16":
        images = images[:, :1]
    if sizes[0] < 3072:
        images = images.reshape(samples, -1, 4, 8, 4, 8).mean(axis=(3, 5))
    x = images.reshape(samples, -1)
    x = (x - x.mean(0)) / (x.std(0) + 1e-8)
    y = np.eye(4)[data.train_labels[chosen]]
    net = MLP(sizes, activation=activation, reduction="mean")
    w, last = net.initial(seed=0), []
    for t in range(begin + 5):
        if t >= begin - 4:
            last.append(w)
        w = w - step * net.gradient(w, x, y)
    return {
        "sizes": np.array(sizes),
        "activation": np.array(activation),
        "step": np.array(step),
        "time": np.array(short if quick else time),
        "w": smoothed(last)[0],
        "x": x,
        "y": y,
    }


def rows_of(name: str, folder: Path | None, quick: bool, rounds: int, only: str | None) -> Any:
    p = problem(name, folder, quick)
    print(f"{name}: {len(p['w']):,} parameters, {int(p['time'])} steps", flush=True)
    start = p["w"]
    truth = ours(p, 50)()[0] - start
    systems = {key: SYSTEMS[key] for key in SYSTEMS if not only or key in only.split(",")}
    if len(p["x"]) > p["x"].shape[1]:
        systems.pop("span", None)
    results = harness.measure(
        __file__, systems, p, truth, lambda answer: answer - start, LIMIT, rounds
    )
    base, rows = next(iter(results.values())), []
    for result in results.values():
        if result.missing:
            rows.append([name, result.label, "not installed", "", "", ""])
            continue
        low, high = (harness.duration(t / int(p["time"])) for t in result.quartiles())
        rows.append(
            [
                *[name, result.label, harness.duration(result.median / int(p["time"]))],
                *[f"{low} – {high}", harness.times(result.median / base.median)],
                f"{result.error:.0e}",
            ]
        )
    return rows


def tables(rounds: int, folder: Path | None, quick: bool, only: str | None = None) -> str:
    header = ["net", "system", "median of a step", "quartiles", "÷ swiftnets", "paths differ by"]
    rows = []
    for name in NETS:
        if name == "F16" or folder is not None:
            rows += rows_of(name, None if name == "F16" else folder, quick, rounds, only)
    text = harness.table(header, rows)
    return text if folder is not None else f"{text}\n\nC48 and C3072 need --data DIR with CIFAR-10."


def report(rounds: int = 3, folder: Path | None = None) -> str:
    print("dynamics", flush=True)
    # Its own process, for the thread counts must be in place before NumPy is loaded.
    command = [sys.executable, __file__, "--rounds", str(rounds)]
    command += [] if folder is None else ["--data", str(folder)]
    env = {**harness.environment(), **ONE_THREAD}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode != 0:
        return "Not measured: it failed, see above."
    return done.stdout[done.stdout.index("| net") :].strip()


def main() -> None:
    harness.use_cores(1)
    parser = harness.parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10, for two of the nets")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, one round")
    arguments = parser.parse_args()
    if arguments.worker:
        return harness.serve(SYSTEMS, arguments.worker, arguments.problem)
    rounds = 1 if arguments.quick else arguments.rounds
    print(tables(rounds, arguments.data, arguments.quick, arguments.only))


if __name__ == "__main__":
    main()
