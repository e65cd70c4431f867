"""swiftnets.sklearn beside scikit-learn's own MLP: seconds to the same training loss.

Images of the package (2000 of Fashion-MNIST, grey, 16 x 16) and scikit-learn's digits and diabetes,
scaled; one hidden layer of 100 ReLUs, float64, the same start. scikit-learn's estimator runs for a
number of epochs of Adam, or iterations of L-BFGS; its loss is then evaluated by other code (its
metrics), and ours is given the least number that reaches that loss by the same code. Then both
whole fits are timed in turns: seconds of the processor, one thread, medians with the smallest and
largest. K-FAC goes to the loss of their Adam, and is compared with the faster of theirs there.
Run: python benchmarks/estimators.py [--quick]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SWIFTNETS_NUM_THREADS")
ONE_THREAD = dict.fromkeys(VARIABLES, "1")
if __name__ == "__main__":
    os.environ.update(ONE_THREAD)  # before NumPy is loaded

import numpy as np  # noqa: E402

import harness  # noqa: E402

ALPHA = 1e-4
EPOCHS, ITERATIONS = 30, 40  # of theirs
MOST = 4000  # epochs or iterations that are tried

Arrays = tuple[np.ndarray, np.ndarray, bool]  # X, y, whether y has classes


def images() -> Arrays:
    from swiftnets import datasets

    data = datasets.load(None)
    grey = data.train_images[:2000].reshape(-1, 3, 32, 32).mean(axis=1)
    x = grey.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(-1, 256) / 255 - 0.3
    return x, data.train_labels[:2000], True


def digits() -> Arrays:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y, True


def diabetes() -> Arrays:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std(), False


DATA: dict[str, Callable[[], Arrays]] = {"images": images, "digits": digits, "diabetes": diabetes}


def estimator(ours: bool, solver: str, most: int, is_classes: bool, seed: int) -> Any:
    import sklearn.neural_network

    import swiftnets.sklearn

    module: Any = swiftnets.sklearn if ours else sklearn.neural_network
    kind = module.MLPClassifier if is_classes else module.MLPRegressor
    settings = {"hidden_layer_sizes": (100,), "alpha": ALPHA, "random_state": seed}
    # To the end, whatever the loss does.
    limits = {"max_iter": most, "tol": 0.0, "n_iter_no_change": MOST}
    return kind(solver=solver, **settings, **limits)


def fitted(data: Arrays, *settings: Any) -> tuple[Any, float]:
    """A fitted estimator, and the seconds that it took."""
    model = estimator(*settings[:3], data[2], settings[3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begin = time.process_time()
        model.fit(data[0], data[1])
        return model, time.process_time() - begin


def loss_of(model: Any, data: Arrays) -> float:
    """The training loss, of all samples, by scikit-learn's metrics."""
    from sklearn.metrics import log_loss, mean_squared_error

    x, y, is_classes = data
    penalty = 0.5 * ALPHA * sum(float((coef**2).sum()) for coef in model.coefs_) / len(x)
    if is_classes:
        return float(log_loss(y, model.predict_proba(x))) + penalty
    return 0.5 * float(mean_squared_error(y, model.predict(x))) + penalty


def least(data: Arrays, ours: bool, solver: str, seed: int, loss: float) -> int:
    """How many epochs or iterations get to the loss: doubled, then halved."""

    def reaches(most: int) -> bool:
        return loss_of(fitted(data, ours, solver, most, seed)[0], data) <= loss

    high = 1
    while not reaches(high):
        high *= 2
        if high > MOST:
            return 0
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def spread(values: list[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{harness.duration(middle)} ({harness.duration(low)} – {harness.duration(high)})"


def row(
    name: str, data: Arrays, label: str, theirs: list[tuple[str, int]], ours: str, rounds: int
) -> list[str]:
    """Of one of our solvers: counts and seconds, beside theirs."""
    seed = 0
    loss = loss_of(fitted(data, False, *theirs[0], seed)[0], data)
    systems = {f"their {solver}": (False, solver, most, seed) for solver, most in theirs}
    for solver, _ in theirs[1:]:
        most = least(data, False, solver, seed, loss)
        systems[f"their {solver}"] = (False, solver, most, seed)
    systems["ours"] = (True, ours, least(data, True, ours, seed, loss), seed)
    systems = {key: value for key, value in systems.items() if value[2]}
    if "ours" not in systems:
        return [name, label, f"{loss:.4g}", "not reached", "", "", "", ""]
    seconds: dict[str, list[float]] = {key: [] for key in systems}
    for _ in range(rounds):
        for key, settings in systems.items():
            seconds[key].append(fitted(data, *settings)[1])
    mine = seconds.pop("ours")
    best = min(seconds, key=lambda key: statistics.median(seconds[key]))
    ratio = statistics.median(seconds[best]) / statistics.median(mine)
    return [
        name,
        label,
        f"{loss:.4g}",
        f"{systems['ours'][2]}",
        spread(mine),
        f"{best.removeprefix('their ')}, {systems[best][2]}",
        spread(seconds[best]),
        harness.times(ratio),
    ]


def table(rounds: int, quick: bool) -> str:
    epochs, iterations = (8, 15) if quick else (EPOCHS, ITERATIONS)
    rows = []
    for name, load in DATA.items():
        if quick and name == "images":
            continue
        data = load()
        few = epochs if data[2] else 5 * epochs  # few samples are few steps an epoch
        methods = [
            ("L-BFGS", [("lbfgs", iterations)], "lbfgs"),
            ("Adam", [("adam", few)], "adam"),
            ("K-FAC", [("adam", few), ("lbfgs", 0)], "kfac"),
        ]
        for label, theirs, ours in methods:
            rows.append(row(name, data, label, theirs, ours, rounds))
            print(*rows[-1], sep="; ", file=sys.stderr, flush=True)
    counted = "iterations or epochs"
    head = ["data", "solver", "to the loss", counted, "swiftnets", f"scikit-learn's: {counted}"]
    return harness.table([*head, "scikit-learn", "÷ swiftnets"], rows)


def report(rounds: int = 5, quick: bool = False) -> str:
    print("estimators for scikit-learn", flush=True)
    # Its own process, for the thread counts must be in place before NumPy is loaded.
    command = [sys.executable, __file__, "--rounds", str(rounds)] + ["--quick"] * quick
    env = {**harness.environment(), **ONE_THREAD}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    return done.stdout.strip() if done.returncode == 0 else "Not measured: it failed, see above."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="fits of each (5)")
    parser.add_argument("--quick", action="store_true", help="short fits of the small data alone")
    arguments = parser.parse_args()
    print(table(arguments.rounds, arguments.quick))


if __name__ == "__main__":
    main()
