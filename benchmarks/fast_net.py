"""One fast_net iteration at the original's size: 2500 images of 3072 pixels, 100 outputs, float64.

Pixels are CIFAR's with --data DIR, else generated ones of like statistics; each program's error is
measured against an answer refined in extended precision. Run: python benchmarks/fast_net.py
"""

from pathlib import Path

import numpy as np

import harness
import images
from harness import Arrays, Call, System

SAMPLES, OUTPUTS = 2500, 100
ALPHA = 0.1


def problem(data: Path | None) -> Arrays:
    if data is None:
        xs, ys = images.generated_batches(SAMPLES, 1)[0]
    else:
        from swiftnets import datasets

        loaded = datasets.load(data)
        if len(loaded.train_labels) < SAMPLES:
            raise SystemExit(
                f"--data: {data} has {len(loaded.train_labels)} images, {SAMPLES} needed"
            )
        xs = loaded.train_images[:SAMPLES] / 256 - 0.5
        ys = images.one_hot(np.asarray(loaded.train_labels[:SAMPLES]))
    w = np.random.default_rng(2019).standard_normal((xs.shape[1], OUTPUTS))
    return {"xs": xs, "ys": ys, "w": w / (xs.shape[1] + OUTPUTS)}


def right_hand_side(xp, xs, ys, w):
    """inv_act'(h) ∘ (h - Y) for NumPy, PyTorch and JAX alike."""
    net = xs @ w
    h = xp.where(net > 0, net, 0.5 * net)
    return xp.where(net > 0, 1.0, 2.0) * (h - ys)


# ---- swiftnets, and the original's algorithm -----------------------------------------------------


def swiftnets(batch: str | None):
    def prepare(p: Arrays) -> Call:
        from swiftnets import FastNet

        harness.set_threads()
        net = FastNet(p["w"].shape[0], OUTPUTS, alpha=ALPHA)

        def call():
            net.w = p["w"]
            net.step(p["xs"], p["ys"], batch=batch)
            return [net.w]

        return call

    return prepare


def numpy_original(p: Arrays) -> Call:
    from swiftnets.originals import reference

    return lambda: reference.fast_step(**p, alpha=ALPHA, r=1e-9)[:1]


# ---- peers ---------------------------------------------------------------------------------------


def numpy_pinv(p: Arrays) -> Call:
    xs, ys, w = p["xs"], p["ys"], p["w"]
    return lambda: [w - ALPHA * (np.linalg.pinv(xs) @ right_hand_side(np, xs, ys, w))]


def scipy_gram(keep: bool):
    def prepare(p: Arrays) -> Call:
        from scipy.linalg import cho_factor, cho_solve

        xs, ys, w = p["xs"], p["ys"], p["w"]

        factors = []

        def call():
            if not (keep and factors):
                gram = xs @ xs.T
                factors[:] = [cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)]
            b = right_hand_side(np, xs, ys, w)
            y = cho_solve(factors[0], b, overwrite_b=True, check_finite=False)
            return [w - ALPHA * (xs.T @ y)]

        return call

    return prepare


def torch_program(solve):
    def prepare(p: Arrays) -> Call:
        import torch

        torch.set_num_threads(harness.THREADS)
        xs, ys, w = (torch.from_numpy(p[name]) for name in ("xs", "ys", "w"))
        return lambda: [w - ALPHA * solve(torch, xs, right_hand_side(torch, xs, ys, w))]

    return prepare


def torch_gram(torch, xs, b):
    return xs.T @ torch.cholesky_solve(b, torch.linalg.cholesky(xs @ xs.T))


def torch_gels(torch, xs, b):
    return torch.linalg.lstsq(xs, b, driver="gels").solution


def torch_gelsy(torch, xs, b):
    return torch.linalg.lstsq(xs, b, driver="gelsy").solution


def jax_gram(p: Arrays) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    @jax.jit
    def step(xs, ys, w):
        factor = jax.scipy.linalg.cho_factor(xs @ xs.T, lower=True)
        return w - ALPHA * (
            xs.T @ jax.scipy.linalg.cho_solve(factor, right_hand_side(jnp, xs, ys, w))
        )

    arrays = [jnp.asarray(p[name]) for name in ("xs", "ys", "w")]
    return lambda: [jax.block_until_ready(step(*arrays))]


SYSTEMS = {
    "swiftnets": System("**swiftnets**, first epoch", swiftnets(None)),
    "swiftnets-later": System("**swiftnets**, later epochs (factor kept)", swiftnets("batch 0")),
    "scipy-gram-kept": System("SciPy, Gram and Cholesky, factor kept", scipy_gram(keep=True)),
    "scipy-gram": System("SciPy, Gram and Cholesky", scipy_gram(keep=False)),
    "torch-gram": System("PyTorch, Gram and Cholesky", torch_program(torch_gram)),
    "torch-gels": System("PyTorch, lstsq (gels)", torch_program(torch_gels)),
    "torch-gelsy": System("PyTorch, lstsq (gelsy)", torch_program(torch_gelsy)),
    "jax-gram": System("JAX, Gram and Cholesky, jitted", jax_gram),
    "numpy-pinv": System("NumPy, one pinv", numpy_pinv, once=True),
    "numpy-original": System("the original's four pinvs in NumPy", numpy_original, once=True),
}


def report(rounds: int, data: Path | None, only: str | None = None) -> str:
    from swiftnets.originals import reference

    print("fast_net, after the extended-precision answer (half a minute)", flush=True)
    p = problem(data)
    values = np.linalg.svd(p["xs"], compute_uv=False)
    trusted, _ = reference.fast_limit_step(**p, alpha=ALPHA, precision="extended")
    start = p["w"].ravel()
    truth = (start - trusted.ravel()) / ALPHA
    # Wide enough for the original's difference quotient, whose noise is (2.2e-16/1e-9)·condition.
    results = harness.measure(
        __file__,
        harness.chosen(SYSTEMS, only),
        p,
        truth,
        step=lambda answer: (start - answer) / ALPHA,
        limit=0.1,
        rounds=rounds,
    )
    gemm = results.pop("gemm")
    source = "Generated images" if data is None else "CIFAR images"
    return "\n\n".join(
        [
            f"{source}, condition number {values[0] / values[-1]:.2e}.",
            harness.result_table(results, "error of the step", memory=True),
            harness.gemm_line(gemm),
        ]
    )


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder or archive with CIFAR; default generated")
    arguments = parser.parse_args()
    if arguments.worker:
        systems = {**SYSTEMS, "gemm": harness.GEMM}
        return harness.serve(systems, arguments.worker, arguments.problem)
    harness.use_cores(2)
    print(report(arguments.rounds, arguments.data, arguments.only))


if __name__ == "__main__":
    main()
