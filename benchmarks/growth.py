"""How the time of derivatives grows with width, depth and the number of samples.

A tanh net with softmax cross-entropy, float64, 64-64-64-64-10 and 256 samples, one of the three
changed at a time; the exponent is a line fitted to the logarithms, for the larger half of the
sizes. Run: python benchmarks/growth.py
"""

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

import harness

WIDTH, HIDDEN, SAMPLES, CLASSES, MANY = 64, 3, 256, 10, 16
AXES = {
    "width": [16, 32, 64, 128, 256, 512],
    "hidden layers": [1, 2, 4, 8, 16, 32],
    "samples": [16, 64, 256, 1024, 4096, 16384],
}
DENSE_AXES = {
    "width": [16, 32, 64, 96],
    "hidden layers": [1, 2, 4, 6],
    "samples": [16, 64, 256, 1024, 4096],
}


def net_of(width: int, hidden: int, samples: int):
    from swiftnets import MLP

    rng = np.random.default_rng(2019)
    sizes = (*[width] * (hidden + 1), CLASSES)
    net = MLP(sizes, loss="softmax_cross_entropy", bias=False, reduction="mean")
    x = rng.standard_normal((samples, width))
    return net, net.initial(seed=0), x, rng.integers(0, CLASSES, samples)


def operations(net, samples: int) -> tuple[float, float]:
    """Multiplications and additions of a gradient, and of an HVP at a kept point."""
    products = [m * k for m, k in zip(net.sizes, net.sizes[1:], strict=False)]
    later = sum(products[1:])
    return 2 * samples * (2 * sum(products) + later), 2 * samples * (2 * sum(products) + 4 * later)


def cases(axis: str, dense: bool) -> Iterator[tuple[int, list[Callable[[], object]], list[float]]]:
    """Sizes, with the calls to time and their operations, 0 where there is no plain count."""
    for value in (DENSE_AXES if dense else AXES)[axis]:
        width, hidden, samples = (
            value if name == axis else default
            for name, default in (("width", WIDTH), ("hidden layers", HIDDEN), ("samples", SAMPLES))
        )
        net, w, x, y = net_of(width, hidden, samples)
        if dense:
            out = np.empty((net.parameter_count,) * 2)
            yield (
                value,
                [lambda net=net, w=w, x=x, y=y, out=out: net.hessian(w, x, y, out=out)],
                [0],
            )
            continue
        v = np.random.default_rng(0).standard_normal((MANY, net.parameter_count))
        point = net.at(w, x, y)
        gradient, kept = operations(net, samples)
        calls = [
            lambda net=net, w=w, x=x, y=y: net.gradient(w, x, y),
            lambda point=point, v=v: v[0] @ point.hessian,
            lambda point=point, v=v: v @ point.hessian,
        ]
        yield value, calls, [gradient, kept, MANY * kept]


def median(call: Callable[[], object], seconds: float) -> float:
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def exponent(sizes: list[int], times: list[float]) -> str:
    half = len(sizes) // 2
    return f"{np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0]:.2f}"


def section(axis: str, dense: bool, seconds: float) -> str:
    sizes, columns, rows = [], [], []
    labels = ["dense Hessian"] if dense else ["gradient", "HVP, pass kept", f"{MANY} HVPs"]
    for value, calls, counts in cases(axis, dense):
        times = [median(call, seconds) for call in calls]
        sizes.append(value)
        columns.append(times)
        rates = [f" ({c / t / 1e9:.0f})" if c else "" for c, t in zip(counts, times, strict=True)]
        rows.append(
            [f"{value:,}", *(harness.duration(t) + r for t, r in zip(times, rates, strict=True))]
        )
    fits = [exponent(sizes, [times[i] for times in columns]) for i in range(len(labels))]
    return harness.table([axis, *labels], [*rows, ["exponent", *fits]])


def report(seconds: float = 0.3) -> str:
    print("growth", flush=True)
    harness.set_threads()
    a, b = np.random.default_rng(0).standard_normal((2, harness.GEMM_SIZE, harness.GEMM_SIZE))
    parts, rates = [], []
    for dense in (False, True):
        for axis in AXES:
            parts.append(section(axis, dense, seconds))
            rates.append(2e-9 * harness.GEMM_SIZE**3 / median(lambda: a @ b, seconds))
            time.sleep(0.3)  # NumPy's threads stop spinning
    parts.append(
        f"In brackets GFLOP/s; dgemm between the tables: {min(rates):.0f} to {max(rates):.0f}."
    )
    return "\n\n".join(parts)


def main() -> None:
    parser = harness.parser(__doc__, side_by_side=False)
    arguments = parser.parse_args()
    harness.use_cores(2)
    print(report(0.1 * arguments.rounds / 3))


if __name__ == "__main__":
    main()
