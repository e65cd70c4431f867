"""Solves with the Hessian, saddle-free Newton steps, and epochs of SGD and Adam.

Solves: nets of equal widths, tanh, ½ sum of squares, with biases, λ = 0.1, one right-hand side.
Dense is our own: the Hessian by structure, then Cholesky or Bunch–Kaufman. Saddle-free Newton: the
joint Hessian of slow_net's net, δ = 0.1. Epochs: 10,000 samples, 784-256-10, batches of 100,
float32. Run: python benchmarks/inverse.py
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import harness

DAMPING = 0.1
DEPTHS = [2, 4, 8, 16, 32, 64]
WIDTH = SAMPLES = 8
WIDE = [(8, 8, 32), (8, 16, 32), (8, 32, 16), (16, 8, 8), (16, 16, 8), (32, 8, 4)]
"""Width, samples, depth."""


def problem(width: int, samples: int, depth: int):
    from swiftnets import MLP

    rng = np.random.default_rng(2019)
    net = MLP([width] * (depth + 1))
    w = net.initial(seed=0)
    x, y = rng.standard_normal((2, samples, width))
    return net, w, x, y, rng.standard_normal(net.parameter_count)


def layered(net, w, x, y, b):
    """Factored, solved, and refined once with an exact product."""
    factors = (net.at(w, x, y).hessian + DAMPING).factorize(method="layered")
    solution = factors.solve(b)
    residual = b - net.hvp(w, x, y, solution) - DAMPING * solution
    return solution + factors.solve(residual)


def dense(net, w, x, y, b):
    return (net.at(w, x, y).hessian + DAMPING).factorize(method="dense").solve(b)


def residual(net, w, x, y, b, solution) -> float:
    rest = b - net.hvp(w, x, y, solution) - DAMPING * solution
    return float(np.linalg.norm(rest) / np.linalg.norm(b))


def medians(calls: list[Callable[[], object]], seconds: float, rounds: int) -> list[float]:
    """In turns, as elsewhere, but in one process: both are ours."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for index, call in enumerate(calls):
            end = time.perf_counter() + seconds
            while True:
                start = time.perf_counter()
                call()
                now = time.perf_counter()
                times[index].append(now - start)
                if now >= end:
                    break
    return [statistics.median(values) for values in times]


def rows(cases, rounds: int) -> tuple[list[list[str]], list[float]]:
    lines, fast = [], []
    for width, samples, depth in cases:
        p = problem(width, samples, depth)
        ours, other = medians([lambda p=p: layered(*p), lambda p=p: dense(*p)], 0.1, rounds)
        fast.append(ours)
        count = p[0].parameter_count
        lines.append(
            [
                f"{width}, {samples}, {depth}",
                f"{count:,}",
                harness.duration(ours),
                f"{residual(*p, layered(*p)):.0e}",
                harness.duration(other),
                f"{residual(*p, dense(*p)):.0e}",
                harness.times(other / ours),
            ]
        )
    return lines, fast


HEADER = ["width, samples, depth", "P", "layered", "residual", "dense", "residual", "ratio"]


# Against Krylov methods ---------------------------------------------------------------------------

MAP = [(samples, depth) for samples in (4, 8, 16, 32) for depth in (4, 16, 48)]
METHODS = ("layered", "dense", "cg", "minres")


def win_or_lose() -> list[list[str]]:
    """Times of single solves to a relative residual of 1e-8, weakly damped and definite."""
    lines = []
    for samples, depth in MAP:
        net, w, x, y, b = problem(WIDTH, samples, depth)
        lowest = float(np.linalg.eigvalsh(net.hessian(w, x, y))[0])
        for damping, kind in [(DAMPING, "indefinite"), (-1.1 * lowest, "definite")]:
            cells, best = [], ("", np.inf)
            for method in METHODS:
                if method == "cg" and kind == "indefinite":
                    cells.append("")
                    continue
                times = []
                for _ in range(3):
                    found = net.solve(
                        w,
                        x,
                        y,
                        b,
                        damping=damping,
                        method=method,
                        tolerance=1e-8,
                        max_iterations=4000,
                    )
                    times.append(found.seconds)
                seconds = statistics.median(times)
                good = found.success and found.method == method
                cells.append(harness.duration(seconds) if good else "not reached")
                if good and seconds < best[1]:
                    best = (method, seconds)
            auto = net.solve(w, x, y, b, damping=damping, tolerance=1e-8).method
            lines.append([f"{samples}, {depth}", kind, *cells, best[0], auto])
    return lines


MAP_HEADER = ["samples, depth", "H + λ", *METHODS, "fastest", '"auto" takes']


# Saddle-free Newton -------------------------------------------------------------------------------


def saddle_free() -> str:
    """The exact step on the joint Hessian of slow_net's net, once, and Krylov ones."""
    from swiftnets import MLP
    from swiftnets.nets.activations import LeakyReLU
    from swiftnets.optimizers import SaddleFreeNewton
    from swiftnets.problems import NetProblem

    rng = np.random.default_rng(2019)
    leaky = LeakyReLU(0.5)
    net = MLP((50, 50, 100), activation=leaky, output_activation=leaky, bias=False)
    x = rng.integers(0, 256, (50, 50)) / 256 - 0.5
    y = np.eye(100)[rng.integers(0, 100, 50)]
    task, w = NetProblem(net, x, y), net.initial(seed=0, scheme="original")

    def timed(**settings):
        method = SaddleFreeNewton(damping=0.1, **settings)
        start = time.perf_counter()
        return method.direction(task, w), time.perf_counter() - start

    exact, exact_seconds = timed(method="exact")
    lines = []
    for steps in (40, 80, 120, 160, 200):
        runs = [timed(steps=steps) for _ in range(3)]
        error = np.linalg.norm(runs[0][0] - exact) / np.linalg.norm(exact)
        seconds = statistics.median(run[1] for run in runs)
        lines.append(
            [
                str(steps),
                harness.duration(seconds),
                f"{error:.0e}",
                harness.times(exact_seconds / seconds),
            ]
        )
    header = ["Lanczos steps", "time", "error", "exact ÷ Krylov"]
    return f"Exact step: {harness.duration(exact_seconds)}.\n\n{harness.table(header, lines)}"


# Epochs of minibatches ----------------------------------------------------------------------------

SIZES, IMAGES, BATCH = (784, 256, 10), 10_000, 100


def ours(name: str) -> Callable[[], float]:
    from swiftnets import MLP
    from swiftnets.optimizers import SGD, Adam
    from swiftnets.problems import Minibatches

    x, y = images()
    net = MLP(
        SIZES,
        activation="relu",
        loss="softmax_cross_entropy",
        reduction="mean",
        dtype=np.float32,
    )
    batches, w = Minibatches(net, x, y, batch_size=BATCH), net.initial(seed=0)
    method = Adam() if name == "Adam" else SGD()
    return lambda: method.minimize(batches, w, max_iterations=IMAGES // BATCH).history.seconds[-1]


def torchs(name: str) -> Callable[[], float]:
    import torch

    torch.set_num_threads(2)
    x, y = (torch.from_numpy(array) for array in images())
    net = torch.nn.Sequential(
        torch.nn.Linear(SIZES[0], SIZES[1]), torch.nn.ReLU(), torch.nn.Linear(SIZES[1], SIZES[2])
    )
    kind = torch.optim.Adam if name == "Adam" else torch.optim.SGD
    method, loss = kind(net.parameters(), lr=1e-3), torch.nn.CrossEntropyLoss()

    def epoch() -> float:
        start = time.perf_counter()
        order = torch.randperm(IMAGES)
        for first in range(0, IMAGES, BATCH):
            rows = order[first : first + BATCH]
            method.zero_grad()
            error = loss(net(x[rows]), y[rows])
            error.backward()
            method.step()
            error.item()
        return time.perf_counter() - start

    return epoch


def images():
    rng = np.random.default_rng(2019)
    x = rng.standard_normal((IMAGES, SIZES[0])).astype(np.float32)
    return x, rng.integers(0, SIZES[2], IMAGES)


def epochs(rounds: int) -> str:
    """Epochs by each, each library in a process of its own, in turns."""
    lines = []
    for name in ("SGD", "Adam"):
        times: dict[str, list[float]] = {"ours": [], "torchs": []}
        for _ in range(rounds):
            for who, found in times.items():
                found.append(_elsewhere(who, name))
        mine, other = (statistics.median(times[who]) for who in ("ours", "torchs"))
        lines.append(
            [name, harness.duration(mine), harness.duration(other), harness.times(other / mine)]
        )
    return harness.table(["epoch", "swiftnets", "PyTorch", "PyTorch ÷ swiftnets"], lines)


def _elsewhere(who: str, name: str) -> float:
    """The median of five epochs after one, in a new process."""
    code = (
        f"import statistics, inverse; epoch = inverse.{who}({name!r}); epoch(); "
        "print(statistics.median(epoch() for _ in range(5)))"
    )
    here = Path(__file__).parent
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env=harness.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(out.stdout.split()[-1])


def report(rounds: int) -> str:
    print("inverse Hessians", flush=True)
    harness.set_threads()
    lines, times = rows([(WIDTH, SAMPLES, depth) for depth in DEPTHS], rounds)
    exponent = np.polyfit(np.log(DEPTHS), np.log(times), 1)[0]
    others, _ = rows([case for case in WIDE if case != (8, 8, 32)], rounds)
    return "\n\n".join(
        [
            harness.table(HEADER, lines),
            f"Time of the layered solve by depth: fitted exponent {exponent:.2f}.",
            harness.table(HEADER, others),
            harness.table(MAP_HEADER, win_or_lose()),
            saddle_free(),
            epochs(rounds),
        ]
    )


def main() -> None:
    arguments = harness.parser(__doc__, side_by_side=False).parse_args()
    harness.use_cores(2)
    print(report(arguments.rounds))


if __name__ == "__main__":
    main()
