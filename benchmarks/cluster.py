"""What sums over samples on a Dask cluster cost beside their arithmetic, and a model of it.

A scheduler and one or two workers of one thread, as processes: where root may make them, in network
namespaces whose bytes the kernel counts.

- scaling: a Hessian product of a tanh net 256-256-10 on 20,000 samples in two partitions, in this
  process and on one and two workers
- latency: products of a net of 12 parameters, by the number of partitions, and what the scheduler
  and the client compute for a task
- bytes: what a worker of two sends and receives for a product with vectors of 1 MiB
- the model of docs/dask.md with these numbers, to 1,000 workers

Times are the least of many. Seconds of a processor, as the kernel counts them, are a mean, and hold
on a machine that has other work, too.
Needs Dask: pip install swiftnets[dask]. Run: python benchmarks/cluster.py
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import harness

sys.path.append(str(harness.ROOT / "Tests" / "support"))

WIDTH, SAMPLES, CLASSES = 256, 20_000, 10
COUNTS = (1, 2, 8, 32, 128, 512)
FAN_IN = 8  # as swiftnets.dask has it
BANDWIDTH = 1.25e9  # of the model, bytes a second: 10 Gbit/s
PARAMETERS = 100_000


@contextmanager
def cluster(workers: int) -> Iterator[tuple[Any, Any]]:
    from dask_cluster import ProcessCluster
    from distributed import Client

    with tempfile.TemporaryDirectory() as folder:
        made = ProcessCluster(Path(folder), (1,) * workers)
        try:
            with Client(made.address, timeout=60) as client:
                client.wait_for_workers(workers, timeout=60)
                yield made, client
        finally:
            made.close()


def least(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def processor(*pids: int) -> float:
    """Seconds that processes have computed, by the kernel."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def spread(net: Any, x: Any, y: Any, partitions: int) -> Any:
    import dask.array

    from swiftnets.dask import DaskProblem

    size = math.ceil(len(x) / partitions)
    far = [dask.array.from_array(a, chunks=(size, *a.shape[1:])) for a in (x, y)]
    return DaskProblem(net, *far)


def net_and_vector() -> tuple[Any, Any]:
    from swiftnets import MLP

    net = MLP((WIDTH, WIDTH, CLASSES), loss="softmax_cross_entropy", reduction="mean")
    return net, np.random.default_rng(1).standard_normal(net.parameter_count)


def scaling(repeats: int) -> str:
    import dask

    from swiftnets import threads
    from swiftnets.dask import DaskProblem

    def batch(seed: int) -> tuple[Any, Any]:
        import numpy

        rng = numpy.random.default_rng(seed)
        return rng.standard_normal((SAMPLES // 2, WIDTH)), rng.integers(0, CLASSES, SAMPLES // 2)

    net, v = net_and_vector()
    w = net.initial(seed=0)
    x, y = (np.concatenate(pair) for pair in zip(batch(0), batch(1), strict=True))
    here = net.at(w, x, y).hessian
    with threads(1):
        exact, start = here @ v, processor(os.getpid())
        base = least(lambda: here @ v, repeats)
        used = (processor(os.getpid()) - start) / (repeats + 1)
    rows = [["this process, one thread", harness.duration(base), harness.duration(used), "", ""]]
    for workers in (1, 2):
        with cluster(workers) as (made, _):
            far = DaskProblem(net, [dask.delayed(batch)(seed) for seed in (0, 1)]).at(w).hessian
            error = float(np.abs(far @ v - exact).max() / np.abs(exact).max())
            groups = [[p.pid] for p in made.workers.values()]
            groups.append([made.processes[0].pid, os.getpid()])
            before = [processor(*group) for group in groups]
            value = least(lambda far=far: far @ v, repeats)
            *busy, rest = [
                (processor(*group) - start) / (repeats + 1)
                for group, start in zip(groups, before, strict=True)
            ]
        label = f"{workers} worker{'s' * (workers > 1)}"
        numbers = [harness.duration(one) for one in (value, max(busy), rest)]
        rows.append([label, *numbers, f"{error:.0e}"])
    head = ["a product, P = 68,362", "least", "busiest worker's processor"]
    return harness.table([*head, "scheduler's and client's", "difference"], rows)


def tasks(partitions: int) -> int:
    """Of one product: one a partition, and the tree's."""
    count, level = partitions, partitions
    while level > 1:
        level = math.ceil(level / FAN_IN)
        count += level
    return count


def latency(repeats: int) -> tuple[str, float, float]:
    """The table, the time of a round trip and that of a task."""
    from swiftnets import MLP

    net = MLP((2, 2, 2))
    rng = np.random.default_rng(0)
    w, v = net.initial(seed=0), rng.standard_normal(net.parameter_count)
    rows, times = [], []
    with cluster(2) as (made, _):
        pids = made.processes[0].pid, os.getpid()
        for count in COUNTS:
            x, y = rng.standard_normal((count, 2)), rng.standard_normal((count, 2))
            hessian = spread(net, x, y, count).at(w).hessian
            _ = hessian @ v
            before, calls = processor(*pids), max(3, repeats // max(1, count // 32))
            times.append(least(lambda hessian=hessian: hessian @ v, calls))
            used = (processor(*pids) - before) / (calls + 1) / tasks(count)
            numbers = [times[-1], times[-1] / tasks(count), used]
            rows.append([f"{count}", f"{tasks(count)}", *map(harness.duration, numbers)])
    head = ["partitions", "tasks", "a product", "a task", "scheduler's and client's processors"]
    return harness.table(head, rows), times[0], used


def traffic(process: Any) -> np.ndarray:
    """Bytes that a process's namespace received and sent, by the kernel."""
    lines = Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()[2:]
    numbers = [line.split(":")[1].split() for line in lines if not line.strip().startswith("lo:")]
    return np.array([[int(row[0]), int(row[8])] for row in numbers]).sum(axis=0)


def bytes_moved(repeats: int) -> str:
    net, v = net_and_vector()
    v, rng = np.array([v, v]), np.random.default_rng(0)  # 1.04 MiB
    x, y = rng.standard_normal((200, WIDTH)), rng.integers(0, CLASSES, 200)
    with cluster(2) as (made, _):
        if not made.networks.made:
            return "Bytes are counted in network namespaces, which root alone makes."
        hessian = spread(net, x, y, 2).at(net.initial(seed=0)).hessian
        _ = v @ hessian
        before = [traffic(process) for process in made.workers.values()]
        for _ in range(repeats):
            _ = v @ hessian
        after = [traffic(process) for process in made.workers.values()]
    moved = np.sum([b - a for a, b in zip(before, after, strict=True)], axis=0) / repeats
    received, sent = moved / v.nbytes
    return (
        f"Bytes of a product with vectors of {v.nbytes:,} bytes on two workers, in such vectors, "
        f"by the kernel's counters: both together receive {received:.2f} and send {sent:.2f}. The "
        "model has 3 of each: v from the scheduler and on to the other worker, that one's part, "
        "and the sum to the client."
    )


def model(trip: float, task: float) -> str:
    vector = 8 * PARAMETERS / BANDWIDTH
    rows = []
    for workers in (1, 2, 10, 100, 1000):
        count = tasks(workers)
        levels = math.ceil(math.log(workers, FAN_IN) - 1e-9) if workers > 1 else 0
        doubling = math.ceil(math.log2(workers))
        moving = vector * (2 + doubling + (FAN_IN - 1) * levels)
        total = trip + task * (count - 1) + moving
        rows.append(
            [
                f"{workers:,}",
                f"{count:,}",
                harness.duration(task * (count - 1)),
                harness.duration(moving),
                harness.duration(total),
                harness.duration(4 * total),
            ]
        )
    head = [
        "workers",
        "tasks",
        "scheduler",
        "vectors",
        "a product's overhead",
        "arithmetic at 80 %",
    ]
    return harness.table(head, rows)


def report(repeats: int = 30) -> str:
    print("cluster", flush=True)
    try:
        import distributed  # noqa: F401
    except ImportError:
        return "Not measured: Dask is not installed."
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    table, trip, task = latency(repeats)
    return "\n\n".join(
        [
            scaling(repeats),
            table,
            f"A round trip takes {harness.duration(trip)}; a task of many takes "
            f"{harness.duration(task)} of the scheduler's and the client's processors together.",
            bytes_moved(repeats),
            f"The model with these, P = {PARAMETERS:,}, a partition a worker, 10 Gbit/s:",
            model(trip, task),
        ]
    )


def main() -> None:
    parser = harness.parser(__doc__, side_by_side=False)
    parser.add_argument("--repeats", type=int, default=30, help="calls of each kind (30)")
    print(report(parser.parse_args().repeats))


if __name__ == "__main__":
    main()
