"""What Hessians are asked for, beside other libraries: eigenvalues, densities, leave-one-outs ...

- F0: 64-12-10 (P 910), tanh, 2000 images of the embedded sample at 8 x 8, at initial weights and
  after 300 iterations of L-BFGS; A2: 64-24-16-10 (P 2130), 1000 of them, at initial weights.
  Softmax cross-entropy (mean), l2 1e-4; one thread.
- Ten eigenvalues. swiftnets and SciPy: residuals to 1e-10 of the matrix's norm. Lanczos without
  restarts gets the number of steps, of 80, 160, 320 ..., that suffices for values to 1e-12 of it,
  found beforehand and not timed.
- Density: 4 random vectors, 64 steps each. The error is W1 to the true one over the spectrum's
  width. swiftnets also deflates 20 eigenvalues, as it does by default, or not.
- Leave-one-outs of F0's net at a minimum with l2 1e-2, the first 1000 images: all of them, but for
  retraining, whose times are those of 10 images, from what order 1 predicts, times 100. The error
  is that of these 10 moves; none of them is flagged.
- Laplace: there, with the Gauss-Newton matrix; variances of the logits at 100 images.

hessian-eigenthings, matfree and laplace-torch are optional: pip install hessian-eigenthings matfree
laplace-torch. With --quick F0 at initial weights and its minimum with 200 images, one round.
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
import spectra_minima as minima  # noqa: E402
from harness import Arrays, Call, System  # noqa: E402
from spectra_nets import (  # noqa: E402
    curvlinops_hessian,
    in_parts,
    jax_net,
    jax_product,
    our_point,
    torch_eigenthings,
)

K, TOLERANCE = 10, 1e-10
MATVECS = 120
PROBES, STEPS = 4, 64
SIZES = {"F0": (64, 12, 10), "A2": (64, 24, 16, 10)}


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


# ---- a density: nodes, weights, and the products -------------------------------------------------


def ours_density(p: Arrays, deflate: int) -> Call:
    from swiftnets import spectra

    hessian = our_point(p).hessian

    def call() -> list[Any]:
        found = spectra.density(
            hessian, probes=PROBES, steps=STEPS, deflate=deflate, method="lanczos"
        )
        return [found.nodes, found.weights, found.products]

    return call


def matfree_density(p: Arrays) -> Call:
    jax, product = jax_product(p)
    from matfree import decomp, eig

    starts = jax.random.normal(jax.random.PRNGKey(0), (PROBES, len(p["w"])))
    solver = eig.eigh_partial(decomp.tridiag_sym(STEPS))

    def measure(v: Any) -> Any:
        v = v / jax.numpy.linalg.norm(v)
        values, vectors = solver(product, v)
        return values, (vectors @ v) ** 2 / PROBES

    run = jax.jit(lambda starts: jax.lax.map(measure, starts))

    def call() -> list[Any]:
        nodes, weights = jax.block_until_ready(run(starts))
        return [nodes, weights, PROBES * STEPS]

    return call


def eigenthings_density(p: Arrays) -> Call:
    _, he, operator = torch_eigenthings(p)

    def call() -> list[Any]:
        found = he.spectral_density(operator, num_runs=PROBES, lanczos_steps=STEPS, seed=0)
        nodes, weights = found.raw_eigenvalues, found.raw_weights
        weights = np.asarray(weights).ravel()
        return [np.asarray(nodes).ravel(), weights / weights.sum(), PROBES * STEPS]

    return call


def distance(answer: np.ndarray, values: np.ndarray) -> float:
    """W1 between nodes with weights and all eigenvalues, over the spectrum's width."""
    nodes, weights = np.split(answer, 2)
    places = np.concatenate([nodes, values])
    masses = np.concatenate([weights, np.full(len(values), -1 / len(values))])
    order = np.argsort(places, kind="stable")
    gaps = np.cumsum(masses[order])[:-1]
    return float(np.abs(gaps) @ np.diff(places[order]) / (values.max() - values.min()))


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
DENSITY = {
    "density": System("**swiftnets**, 20 deflated", lambda p: ours_density(p, 20)),
    "density-plain": System("swiftnets, none deflated", lambda p: ours_density(p, 0)),
    "matfree-density": System("matfree, jitted", matfree_density),
    "eigenthings-density": System("hessian-eigenthings", eigenthings_density),
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
    found = {
        "sizes": np.array(SIZES[name]),
        "l2": np.array(1e-4),
        "w": w,
        "x": x,
        "y": y.astype(np.int64),
    }
    return found | {"parts": in_parts(found, w)}


def rows_of(
    label: str,
    systems: dict[str, System],
    p: Arrays,
    truth: np.ndarray,
    rounds: int,
    *,
    values: np.ndarray | None = None,
    counts: bool = True,
    share: float = 1.0,
) -> list[list[str]]:
    """A row a system.

    `values`: all eigenvalues, for densities. `counts`: whether answers end with the products.
    `share`: of all leave-one-outs what retraining does.
    """
    products: list[int] = []

    def step(answer: np.ndarray) -> np.ndarray:
        if counts:
            products.append(int(answer[-1]))
            answer = answer[:-1]
        return answer if values is None else truth + distance(answer, values)

    results = harness.measure(__file__, systems, p, truth, step, 2.0, rounds)
    base, told, rows = next(iter(results.values())), iter(products), []
    for name, result in results.items():
        if result.missing:
            rows.append([label, result.label, "not installed", "", "", "", ""])
            continue
        scale = 1 / share if name in minima.RETRAINED else 1.0
        low, high = (scale * seconds for seconds in result.quartiles())
        median = scale * result.median
        rows.append(
            [
                *[label, result.label, harness.duration(median)],
                f"{harness.duration(low)} – {harness.duration(high)}",
                f"{next(told):,}" if counts else "",
                harness.times(median / base.median),
                f"{result.error:.0e}" if result.error < 0.5 else "not reached",
            ]
        )
    return rows


def minimum_rows(quick: bool, rounds: int) -> list[list[str]]:
    """Leave-one-outs and Laplace, at a minimum."""
    count = 200 if quick else 1000
    p = problem("F0", False)
    p |= {"x": p["x"][:count], "y": p["y"][:count]}
    p = minima.at_minimum(p, 10)
    label = f"leave-one-outs, {count} images"
    rows = rows_of(
        label,
        minima.LEFT_OUT,
        p,
        minima.true_moves(p),
        rounds,
        counts=False,
        share=10 / count,
    )
    p |= {"rows": np.arange(100)}
    right = minima.true_variances(p)
    return rows + rows_of("Laplace", minima.LAPLACE, p, right, rounds, counts=False)


def tables(rounds: int, quick: bool = False) -> str:
    rows = []
    cases = (("F0", False, "SA"), ("F0", True, "LA"), ("A2", False, "SA"))
    for name, trained, which in cases[:1] if quick else cases:
        p = problem(name, trained)
        values = np.linalg.eigvalsh(our_point(p).hessian.dense())
        truth = values[-K:] if which == "LA" else values[:K]
        p |= {"truth": truth, "norm": np.abs(values).max(), "which": np.array(which)}
        where = "trained" if trained else "initial"
        rows += rows_of(f"10 {which}, {name} {where}", EIGEN, p, truth, rounds)
        if name == "F0":
            one = np.ones(1)
            label = f"density, {name} {where}"
            rows += rows_of(label, DENSITY, p, one, rounds, values=values)
        if name == "F0" and not trained:
            total = np.array([values.sum()])
            rows += rows_of(f"trace, {name} {where}", TRACE, p, total, rounds)
    rows += minimum_rows(quick, rounds)
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
    harness.use_cores(1)
    parser = harness.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="small cases, one round")
    arguments = parser.parse_args()
    if arguments.worker:
        systems = {**EIGEN, **DENSITY, **TRACE, **minima.LEFT_OUT, **minima.LAPLACE}
        return harness.serve(systems, arguments.worker, arguments.problem)
    print(tables(1 if arguments.quick else arguments.rounds, arguments.quick))


if __name__ == "__main__":
    main()
