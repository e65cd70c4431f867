"""K-FAC beside Adam, L-BFGS and the trust region: iterations and seconds to a training loss.

The net of notebook 05: the package's 2000 images of Fashion-MNIST at 8 x 8, 64-12-10 with tanh,
softmax cross-entropy (mean) with l2 1e-4; one thread. Five starts, the methods in turns at each;
medians, and the smallest and largest. Minibatches: the loss of all samples, seen every ten steps
and not timed.
Run: python benchmarks/kfac.py
"""

import argparse
import os
import statistics
import subprocess
import sys
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SWIFTNETS_NUM_THREADS")
ONE_THREAD = dict.fromkeys(VARIABLES, "1")
if __name__ == "__main__":
    os.environ.update(ONE_THREAD)  # before NumPy is loaded

import numpy as np  # noqa: E402

import harness  # noqa: E402

LOSSES = (0.4, 0.3)
SIZES = (500, 100)
LIMIT = 2500  # steps


def problem_parts() -> tuple[Any, np.ndarray, np.ndarray]:
    from swiftnets import MLP, datasets

    data = datasets.load(None)
    grey = data.train_images[:2000].reshape(-1, 3, 32, 32).mean(axis=1)
    x = grey.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64) / 255 - 0.3
    net = MLP((64, 12, 10), loss="softmax_cross_entropy", reduction="mean", l2=1e-4)
    return net, x, data.train_labels[:2000]


def full_methods() -> dict[str, Any]:
    from swiftnets.optimizers import KFAC, LBFGS, Adam, TrustRegion

    return {
        "K-FAC": KFAC(),
        "K-FAC, without momentum": KFAC(momentum=False),
        "K-FAC, fixed damping": KFAC(adaptation=1.0),
        "EKFAC": KFAC(ekfac=True),
        "L-BFGS": LBFGS(),
        "trust region": TrustRegion(),
        "Adam, 0.02": Adam(learning_rate=0.02),
    }


def batch_methods() -> dict[str, Any]:
    from swiftnets.optimizers import KFAC, Adam

    return {"K-FAC": KFAC(), "EKFAC": KFAC(ekfac=True), "Adam, 0.01": Adam(learning_rate=0.01)}


def spread(values: list[float], form: str) -> str:
    if not all(np.isfinite(values)):
        reached = sum(map(np.isfinite, values))
        return f"{reached} of {len(values)} within {LIMIT}"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} – {high:{form}})"


def full_batch(starts: int) -> str:
    from swiftnets.problems import NetProblem

    net, x, labels = problem_parts()
    problem, methods = NetProblem(net, x, labels), full_methods()
    taken: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for start in range(starts):
        for name, method in methods.items():
            history = method.minimize(
                problem,
                net.initial(seed=start),
                max_iterations=LIMIT,
                time_limit=30.0,
                callback=lambda event: event.loss <= LOSSES[-1],
            ).history
            # A loss is that before its step: the seconds are those until then.
            seconds = np.concatenate([[0.0], history.seconds])
            for loss in LOSSES:
                there = np.flatnonzero(history.loss <= loss)
                found = (there[0], seconds[there[0]]) if len(there) else (np.inf, np.inf)
                taken.setdefault((name, loss), []).append(found)
    heads = [f"{what} to {loss}" for loss in LOSSES for what in ("iterations", "ms")]
    rows = []
    for name in methods:
        row = [name]
        for loss in LOSSES:
            counts, seconds = zip(*taken[name, loss], strict=True)
            row += [spread(list(counts), ".0f"), spread([1e3 * s for s in seconds], ".0f")]
        rows.append(row)
    return harness.table(["all samples", *heads], rows)


def minibatches(starts: int) -> str:
    from swiftnets.problems import Minibatches

    net, x, labels = problem_parts()
    rows = []
    for size in SIZES:
        taken: dict[str, list[tuple[float, float]]] = {}
        for start in range(starts):
            for name, method in batch_methods().items():
                found: list[tuple[float, float]] = []

                def reached(event: Any, found: list = found) -> bool:
                    if event.iteration % 10 == 9 and net.loss(event.w, x, labels) <= LOSSES[0]:
                        found.append((event.iteration + 1, event.seconds))
                    return bool(found)

                batches = Minibatches(net, x, labels, batch_size=size, seed=start)
                method.minimize(
                    batches, net.initial(seed=start), max_iterations=LIMIT, callback=reached
                )
                taken.setdefault(name, []).append(found[0] if found else (np.inf, np.inf))
        for name, ends in taken.items():
            counts, seconds = zip(*ends, strict=True)
            numbers = [spread(list(counts), ".0f"), spread([1e3 * s for s in seconds], ".0f")]
            rows.append([f"{size}", name, *numbers])
    return harness.table(["batch", "method", f"iterations to {LOSSES[0]}", "ms"], rows)


def report(starts: int = 5) -> str:
    print("K-FAC", flush=True)
    # Its own process, for the thread counts must be in place before NumPy is loaded.
    command = [sys.executable, __file__, "--starts", str(starts)]
    env = {**harness.environment(), **ONE_THREAD}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    return done.stdout.strip() if done.returncode == 0 else "Not measured: it failed, see above."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=5, help="of each method (5)")
    starts = parser.parse_args().starts
    print(full_batch(starts), minibatches(starts), sep="\n\n")


if __name__ == "__main__":
    main()
