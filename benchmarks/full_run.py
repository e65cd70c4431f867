"""The original's whole slow_net run: 200 epochs of 1000 iterations, test accuracy every 50.

Runs the first --iterations of it, quirks included, and extrapolates; --all runs everything.
Weights grow as they train and the solves take more products, so the extrapolation goes by the last
tenth, and the first tenth is shown beside it. Run: python benchmarks/full_run.py
"""

import argparse
import math
import statistics
import time
from itertools import pairwise
from pathlib import Path

import harness
import images

EPOCHS, BATCHES, TEST_BATCHES = 200, 1000, 500


def pairs(data: Path | None):
    """CIFAR-100's sizes: 50,000 images in batches of 50, and 10,000 in batches of 20."""
    if data is None:
        train = images.generated_batches(50 * BATCHES, BATCHES, seed=0)
        return train, images.generated_batches(20 * TEST_BATCHES, TEST_BATCHES, seed=2)
    from swiftnets import slow_net

    return slow_net.get_pairs(data)


def report(iterations: int, data: Path | None) -> str:
    from swiftnets import SlowNet

    harness.set_threads()
    train, test = pairs(data)
    net = SlowNet(seed=2019)
    marks = [time.perf_counter()]
    net.fit(
        train,
        test,
        epochs=math.ceil(iterations / len(train)),
        iterations=iterations,
        original=True,
        callback=lambda *_: marks.append(time.perf_counter()),
    )
    total = time.perf_counter() - marks[0]
    steps = [after - before for before, after in pairwise(marks[1:])]
    tenth = max(1, len(steps) // 10)
    first, last = steps[:tenth], steps[-tenth:]
    whole = EPOCHS * BATCHES
    rows = [
        [f"{iterations:,} iterations, wall clock", harness.duration(total)],
        ["of which before the first iteration ended", harness.duration(marks[1] - marks[0])],
        ["an iteration, median, first tenth", harness.duration(statistics.median(first))],
        ["an iteration, median, last tenth", harness.duration(statistics.median(last))],
    ]
    if iterations < whole:
        rest = (whole - iterations) * statistics.mean(last)  # the mean: it includes the test passes
        label = f"{whole:,} iterations, extrapolated from the last tenth"
        rows.append([label, f"{(total + rest) / 60:.1f} min"])
    size = f"{len(train)} batches of {len(train[0][0])}, {len(test)} test batches"
    source = "generated images" if data is None else "CIFAR"
    return f"{size}, {source}.\n\n" + harness.table(["slow_net, whole run", "time"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=5000, help="how many to run (5000)")
    parser.add_argument("--all", action="store_true", help="run all 200,000")
    parser.add_argument("--data", type=Path, help="folder or archive with CIFAR; default generated")
    arguments = parser.parse_args()
    harness.use_cores(2)
    print(report(EPOCHS * BATCHES if arguments.all else arguments.iterations, arguments.data))


if __name__ == "__main__":
    main()
