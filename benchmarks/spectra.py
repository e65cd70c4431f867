"""Ten extremal eigenvalues and the trace of a Hessian, beside other libraries.

- F0: 64-12-10 (P 910), tanh, 2000 images of the embedded sample at 8 x 8, at initial weights and
  after 300 iterations of L-BFGS; A2: 64-24-16-10 (P 2130), 1000 of them, at initial weights.
  Softmax cross-entropy (mean), l2 1e-4; one thread.

swiftnets and SciPy: residuals to 1e-10 of the matrix's norm. Lanczos without restarts gets the
number of steps, of 80, 160, 320 ..., that suffices for values to 1e-12 of it, found beforehand and
not timed. hessian-eigenthings and matfree are optional: pip install hessian-eigenthings matfree
Run: python benchmarks/spectra.py
"""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SWIFTNETS_NUM_THREADS")
ONE_THREAD = dict.fromkeys(VARIABLES, "1")
if __name__ == "__main__":
    os.environ.update(ONE_THREAD)  # before NumPy is loaded

import numpy as np  # noqa: E402

import harness  # noqa: E402
from harness import Arrays, Call, System  # noqa: E402

K, TOLERANCE = 10, 1e-10
MATVECS = 120
SIZES = {"F0": (64, 12, 10), "A2": (64, 24, 16, 10)}


def our_net(p: Arrays) -> Any:
    from swiftnets import MLP

    sizes = tuple(int(size) for size in p["sizes"])
    return MLP(sizes, loss="softmax_cross_entropy", reduction="mean", l2=float(p["l2"]))


def our_point(p: Arrays) -> Any:
    return our_net(p).at(p["w"], p["x"], p["y"])


# ---- the peers' nets: parameters in their own order, which leaves what is compared as it is ------


def jax_net(p: Arrays) -> Any:
    """(jax, losses of samples without l2, loss, w)."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp, sizes = jax.numpy, [int(size) for size in p["sizes"]]
    x, y, l2 = jnp.asarray(p["x"]), jnp.asarray(p["y"]), float(p["l2"])

    def sample(w: Any, x: Any, y: Any) -> Any:
        start = 0
        for i, (rows, columns) in enumerate(zip(sizes, sizes[1:], strict=False)):
            end = start + rows * columns
            x = x @ w[start:end].reshape(rows, columns) + w[end : end + columns]
            start = end + columns
            x = jnp.tanh(x) if i < len(sizes) - 2 else x
        return -jax.nn.log_softmax(x)[..., y]

    def loss(w: Any) -> Any:
        return jnp.mean(jax.vmap(sample, (None, 0, 0))(w, x, y)) + l2 / 2 * w @ w

    return jax, sample, loss, jnp.asarray(p["parts"])


def jax_product(p: Arrays) -> Any:
    jax, _, loss, w = jax_net(p)
    return jax, lambda v: jax.jvp(jax.grad(loss), (w,), (v,))[1]


def torch_net(p: Arrays) -> Any:
    import torch

    torch.set_num_threads(1)
    sizes, start, layers = [int(size) for size in p["sizes"]], 0, []
    parts = torch.from_numpy(p["parts"])
    for rows, columns in zip(sizes, sizes[1:], strict=False):
        layer = torch.nn.Linear(rows, columns, dtype=torch.float64)
        end = start + rows * columns
        layer.weight.data = parts[start:end].reshape(rows, columns).T.contiguous()
        layer.bias.data = parts[end : end + columns].clone()
        start = end + columns
        layers += [layer, torch.nn.Tanh()]
    x, y = torch.from_numpy(p["x"]), torch.from_numpy(p["y"])
    return torch, torch.nn.Sequential(*layers[:-1]), x, y


def torch_l2(torch: Any, model: Any, l2: float) -> Callable[[Any, Any], Any]:
    cross = torch.nn.functional.cross_entropy
    return lambda output, y: (
        cross(output, y) + l2 / 2 * sum((w * w).sum() for w in model.parameters())
    )


def torch_eigenthings(p: Arrays) -> Any:
    torch, model, x, y = torch_net(p)
    import hessian_eigenthings as he

    loss = he.supervised_loss(torch_l2(torch, model, float(p["l2"])))
    return torch, he, he.HessianOperator(model, [(x, y)], loss)


def curvlinops_hessian(p: Arrays) -> Any:
    torch, model, x, y = torch_net(p)
    import curvlinops

    operator = curvlinops.HessianLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(x, y)],
        check_deterministic=False,
    )
    return torch, curvlinops, operator


# ---- ten eigenvalues: they, and the products -----------------------------------------------------


def ours_eigsh(p: Arrays, certificate: Any = "auto") -> Call:
    from swiftnets import spectra

    hessian = our_point(p).hessian

    def call() -> list[Any]:
        found = spectra.eigsh(hessian, K, which=str(p["which"]), certificate=certificate)
        return [found.values, found.products]

    return call


def scipy_eigsh(p: Arrays, product: Callable[[np.ndarray], Any]) -> Call:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    size, count = len(p["w"]), [0]
    # Relative to the largest wanted value there, to the norm here.
    tolerance = TOLERANCE * float(p["norm"] / np.abs(p["truth"]).max())

    def counted(v: np.ndarray) -> np.ndarray:
        count[0] += 1
        return np.asarray(product(np.ascontiguousarray(v).ravel()))

    def call() -> list[Any]:
        count[0] = 0
        operator = LinearOperator((size, size), counted, dtype=np.float64)
        v0 = np.random.default_rng(0).standard_normal(size)
        try:
            values = eigsh(
                operator,
                K,
                which=str(p["which"]),
                tol=tolerance,
                v0=v0,
                return_eigenvectors=True,
            )[0]
        except ArpackNoConvergence:
            values = np.zeros(K)
        return [np.sort(values), count[0]]

    return call


def scipy_ours(p: Arrays) -> Call:
    hessian = our_point(p).hessian
    return scipy_eigsh(p, lambda v: hessian @ v)


def scipy_jax(p: Arrays) -> Call:
    jax, product = jax_product(p)
    return scipy_eigsh(p, jax.jit(product))


def scipy_curvlinops(p: Arrays) -> Call:
    torch, _, operator = curvlinops_hessian(p)
    l2 = float(p["l2"])
    return scipy_eigsh(p, lambda v: (operator @ torch.from_numpy(v)).numpy() + l2 * v)


def enough_steps(p: Arrays, run: Callable[[int], Any]) -> Call:
    """Runs of 80, 160, 320 ... steps until the values are right: no restarts."""
    steps = 40
    while True:
        steps = min(2 * steps, len(p["w"]) - 1)
        difference = np.abs(np.sort(np.asarray(run(steps))) - p["truth"]).max()
        if difference <= 1e-12 * p["norm"] or steps == len(p["w"]) - 1:
            return lambda: [np.sort(np.asarray(run(steps))), steps]


def eigenthings_lanczos(p: Arrays) -> Call:
    _, he, operator = torch_eigenthings(p)

    def run(steps: int) -> Any:
        found = he.lanczos(
            operator, k=K, max_iter=steps, reorthogonalize=True, which=str(p["which"]), seed=0
        )
        return found.eigenvalues

    return enough_steps(p, run)


def matfree_lanczos(p: Arrays) -> Call:
    jax, product = jax_product(p)
    from matfree import decomp, eig

    start = jax.random.normal(jax.random.PRNGKey(0), (len(p["w"]),))
    programs: dict[int, Any] = {}

    def run(steps: int) -> Any:
        if steps not in programs:
            solver = eig.eigh_partial(decomp.tridiag_sym(steps))
            programs[steps] = jax.jit(lambda v: solver(product, v))
        values, vectors = jax.block_until_ready(programs[steps](start))
        del vectors
        return values[-K:] if str(p["which"]) == "LA" else values[:K]

    return enough_steps(p, run)


# ---- a trace: it, and the products ---------------------------------------------------------------


def ours_trace(p: Arrays) -> Call:
    from swiftnets import spectra

    hessian = our_point(p).hessian

    def call() -> list[Any]:
        found = spectra.trace(hessian)
        return [found.value, found.products]

    return call


def jax_trace(p: Arrays) -> Call:
    jax, _, loss, w = jax_net(p)
    run = jax.jit(lambda w: jax.numpy.trace(jax.hessian(loss)(w)))
    return lambda: [jax.block_until_ready(run(w)), len(p["w"])]


def eigenthings_trace(p: Arrays) -> Call:
    _, he, operator = torch_eigenthings(p)
    return lambda: [he.trace(operator, num_matvecs=MATVECS, seed=0).estimate, MATVECS]


def curvlinops_trace(p: Arrays) -> Call:
    _, curvlinops, operator = curvlinops_hessian(p)
    l2 = float(p["l2"]) * len(p["w"])
    return lambda: [curvlinops.xtrace(operator, MATVECS).detach().numpy() + l2, MATVECS]


def matfree_trace(p: Arrays) -> Call:
    jax, product = jax_product(p)
    from matfree import stochtrace

    sampler = stochtrace.sampler_normal(jax.numpy.zeros(len(p["w"])), num=MATVECS // 2)
    estimate = stochtrace.estimator_leave_one_out(
        stochtrace.leave_one_out_xtrace(), sampler=sampler
    )
    run = jax.jit(lambda key: estimate(product, key))
    return lambda: [jax.block_until_ready(run(jax.random.PRNGKey(0))), MATVECS]


# ---- the tables ----------------------------------------------------------------------------------

EIGEN = {
    "swiftnets": System("**swiftnets**, certified", ours_eigsh),
    "uncertified": System("swiftnets, no certificate", lambda p: ours_eigsh(p, None)),
    "scipy": System("SciPy eigsh, our products", scipy_ours),
    "scipy-jax": System("SciPy eigsh, JAX's, jitted", scipy_jax),
    "curvlinops": System("SciPy eigsh, curvlinops", scipy_curvlinops),
    "eigenthings": System("hessian-eigenthings, lanczos", eigenthings_lanczos),
    "matfree": System("matfree, eigh_partial, jitted", matfree_lanczos),
}
TRACE = {
    "swiftnets-trace": System("**swiftnets**, exact", ours_trace),
    "jax-trace": System("JAX, exact, jitted", jax_trace),
    "eigenthings-trace": System("hessian-eigenthings, Hutch++", eigenthings_trace),
    "curvlinops-trace": System("curvlinops, XTrace", curvlinops_trace),
    "matfree-trace": System("matfree, XTrace, jitted", matfree_trace),
}


def problem(name: str, trained: bool) -> Arrays:
    from swiftnets import MLP, datasets
    from swiftnets.optimizers import LBFGS
    from swiftnets.problems import NetProblem

    data, count = datasets.load(None), 2000 if name == "F0" else 1000
    grey = data.train_images[:count].reshape(-1, 3, 32, 32).mean(axis=1)
    x = grey.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64) / 255 - 0.3
    y = data.train_labels[:count]
    net = MLP(SIZES[name], loss="softmax_cross_entropy", reduction="mean", l2=1e-4)
    w = net.initial(seed=0)
    if trained:
        w = LBFGS().minimize(NetProblem(net, x, y), w, max_iterations=300).w
    arrays = net.unflatten(w)
    parts = []
    for i, (inputs, outputs) in enumerate(zip(SIZES[name], SIZES[name][1:], strict=False)):
        weights = arrays[f"w{i}"]
        weights = weights if weights.shape == (inputs, outputs) else weights.T
        parts += [weights.ravel(), arrays[f"b{i}"].ravel()]
    return {
        "sizes": np.array(SIZES[name]),
        "l2": np.array(1e-4),
        "w": w,
        "parts": np.concatenate(parts),
        "x": x,
        "y": y.astype(np.int64),
    }


def rows_of(
    label: str, systems: dict[str, System], p: Arrays, truth: np.ndarray, rounds: int
) -> list[list[str]]:
    products: list[int] = []

    def step(answer: np.ndarray) -> np.ndarray:
        products.append(int(answer[-1]))
        return answer[:-1]

    results = harness.measure(__file__, systems, p, truth, step, 2.0, rounds)
    base, counts, rows = next(iter(results.values())), iter(products), []
    for result in results.values():
        if result.missing:
            rows.append([label, result.label, "not installed", "", "", "", ""])
            continue
        low, high = result.quartiles()
        rows.append(
            [
                *[label, result.label, harness.duration(result.median)],
                f"{harness.duration(low)} – {harness.duration(high)}",
                *[f"{next(counts):,}", harness.times(result.median / base.median)],
                f"{result.error:.0e}" if result.error < 0.5 else "not reached",
            ]
        )
    return rows


def tables(rounds: int) -> str:
    rows = []
    for name, trained, which in (("F0", False, "SA"), ("F0", True, "LA"), ("A2", False, "SA")):
        p = problem(name, trained)
        values = np.linalg.eigvalsh(our_point(p).hessian.dense())
        truth = values[-K:] if which == "LA" else values[:K]
        p |= {"truth": truth, "norm": np.abs(values).max(), "which": np.array(which)}
        where = "trained" if trained else "initial"
        rows += rows_of(f"10 {which}, {name} {where}", EIGEN, p, truth, rounds)
        if name == "F0" and not trained:
            total = np.array([values.sum()])
            rows += rows_of(f"trace, {name} {where}", TRACE, p, total, rounds)
    header = ["task", "system", "median", "quartiles", "products", "÷ swiftnets", "relative error"]
    return harness.table(header, rows)


def report(rounds: int = 2) -> str:
    print("spectra", flush=True)
    # Its own process, for the thread counts must be in place before NumPy is loaded.
    command = [sys.executable, __file__, "--rounds", str(rounds)]
    env = {**harness.environment(), **ONE_THREAD}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode != 0:
        return "Not measured: it failed, see above."
    return done.stdout[done.stdout.index("| task") :].strip()


def main() -> None:
    harness.THREADS = 1
    parser = harness.parser(__doc__)
    arguments = parser.parse_args()
    if arguments.worker:
        return harness.serve({**EIGEN, **TRACE}, arguments.worker, arguments.problem)
    print(tables(arguments.rounds))


if __name__ == "__main__":
    main()
