"""Systems side by side: each in a process of its own, taking turns, on two threads.

A benchmark script lists `System`s and calls `measure`. That starts the script again once a system
(`--worker`), hands each the same arrays, compares the answers with a trusted one, and only then
times: in every round each system calls for a short while as the others wait, so that a slow phase
of the machine falls on all of them alike.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
ROOT = Path(__file__).resolve().parent.parent
Arrays = dict[str, np.ndarray]
Call = Callable[[], Sequence[Any]]

sys.path.append(str(ROOT / "python"))  # the package of this checkout, where none is installed


@dataclass(frozen=True)
class System:
    """One program to time. `prepare` gets the problem, imports, and returns the call."""

    label: str
    prepare: Callable[[Arrays], Call]
    once: bool = False  # too slow to repeat: its first and only call is the time
    checked: bool = True  # whether what it returns is an answer to the problem


@dataclass
class Result:
    label: str
    seconds: list[float] = field(default_factory=list)
    error: float | None = None  # relative, against the trusted answer
    peak: int = 0  # bytes, the whole process
    before: int = 0  # bytes it held before the first call: libraries and data
    missing: str = ""  # why there is nothing to report

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def quartiles(self) -> tuple[float, float]:
        if len(self.seconds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


# ---- the worker's side ---------------------------------------------------------------------------


def _memory(key: str) -> int:
    # Not getrusage: its ru_maxrss starts at the size of the process that started this one.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def serve(systems: dict[str, System], name: str, problem: Path) -> None:
    """Answers `measure` line by line on stdout; whatever a library prints goes to stderr."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(**values: Any) -> None:
        print(json.dumps(values), file=replies)

    clock = time.perf_counter
    try:
        with np.load(problem) as arrays:
            call = systems[name].prepare(dict(arrays))
    except (
        ImportError,
        AttributeError,
    ) as error:  # not installed or built
        return reply(missing=f"{type(error).__name__}: {error}")
    reply(before=_memory("VmRSS"))
    for line in sys.stdin:
        command, value = line.rstrip("\n").split(" ", 1)
        if command == "answer":
            start = clock()
            answer = call()
            seconds = clock() - start
            np.save(value, np.concatenate([np.asarray(part).ravel() for part in answer]))
            reply(seconds=[seconds], peak=_memory("VmHWM"))
        else:
            seconds, end = [], clock() + float(value)
            while not seconds or clock() < end:
                start = clock()
                call()
                seconds.append(clock() - start)
            reply(seconds=seconds, peak=_memory("VmHWM"))


# ---- the measuring side --------------------------------------------------------------------------


# What keeps each library to AVX2 where swiftnets is kept to it.
AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


def environment() -> dict[str, str]:
    """THREADS for every library, its level that of swiftnets, and swiftnets found from here."""
    threads = {f"{name}_NUM_THREADS": str(THREADS) for name in ("OPENBLAS", "OMP", "MKL")}
    level = AVX2 if os.environ.get("SWIFTNETS_LEVEL") == "v3" else {}
    env = {**os.environ, **threads, **level, "JAX_PLATFORMS": "cpu"}
    found = importlib.util.find_spec("swiftnets")
    if found is not None and found.origin is not None:
        path = [str(Path(found.origin).parent.parent), env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return env


def use_cores(count: int) -> None:
    """Keeps this process and its children on so many cores: XLA has a thread for each there is."""
    global THREADS
    THREADS = count
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


class _Worker:
    def __init__(self, script: Path, name: str, problem: Path) -> None:
        command = [sys.executable, str(script), "--worker", name, "--problem", str(problem)]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended without an answer, status {self.process.wait()}")
        return json.loads(line)

    def ask(self, command: str) -> dict[str, Any]:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def measure(
    script: str,
    systems: dict[str, System],
    problem: Arrays,
    truth: np.ndarray,
    step: Callable[[np.ndarray], np.ndarray],
    limit: float,
    rounds: int,
    turn: float = 0.3,
) -> dict[str, Result]:
    """Answers compared first, then `rounds` turns of one call or more, about `turn` seconds.

    `step` turns a flat answer into what is compared with `truth`, in relative 2-norm; more than
    `limit` away is an error, for then the times would compare different things.
    """
    results: dict[str, Result] = {}
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory() as folder:
        problem_file, answer_file = Path(folder, "problem.npz"), Path(folder, "answer.npy")
        np.savez(problem_file, **problem)
        try:
            for name, system in systems.items():
                result = results[name] = Result(system.label)
                worker = _Worker(Path(script), name, problem_file)
                workers.append(worker)
                hello = worker.read()
                if "missing" in hello:
                    result.missing = hello["missing"]
                    print(f"  {name:28} not measured: {result.missing}", flush=True)
                    workers.pop().close()
                    continue
                result.before = hello["before"]
                first = worker.ask(f"answer {answer_file}")
                result.peak = first["peak"]
                if system.checked:
                    difference = step(np.load(answer_file)) - truth
                    result.error = float(np.linalg.norm(difference) / np.linalg.norm(truth))
                    print(f"  {name:28} differs by {result.error:.1e}", flush=True)
                    if not result.error <= limit:
                        raise SystemExit(f"{name} is {result.error:.1e} off, over {limit:.0e}")
                if system.once:
                    result.seconds = first["seconds"]
                    workers.pop().close()
            for _ in range(rounds):
                for worker in workers:
                    time.sleep(0.3)  # the previous system's idle threads stop spinning
                    reply = worker.ask(f"turn {turn}")
                    results[worker.name].seconds += reply["seconds"]
                    results[worker.name].peak = reply["peak"]
        finally:
            for worker in workers:
                worker.close()
    return results


# ---- the machine's speed, in the same rotation ---------------------------------------------------

GEMM_SIZE = 1024


def _gemm(p: Arrays) -> Call:
    matrices = np.random.default_rng(0).standard_normal((2, GEMM_SIZE, GEMM_SIZE))
    a, b = matrices.astype(str(p.get("float", "float64")))
    return lambda: [(a @ b)[0]]


GEMM = System("NumPy gemm, 1024³", _gemm, checked=False)


STEADY = 0.15


def is_steady(gemm: Result) -> bool:
    """Whether the machine's dgemm kept its time within 15 %, from quartile to quartile."""
    low, high = gemm.quartiles()
    return high - low <= STEADY * gemm.median


def gemm_line(result: Result) -> str:
    low, high = (2e-9 * GEMM_SIZE**3 / seconds for seconds in reversed(result.quartiles()))
    rate = 2e-9 * GEMM_SIZE**3 / result.median
    return f"dgemm, in turns with these: {rate:.0f} GFLOP/s (quartiles {low:.0f} to {high:.0f})."


# ---- reports -------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.2g}×"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def result_table(results: dict[str, Result], error: str, *, memory: bool = False) -> str:
    """One row a system, in the order listed; ratios are its median over that of the first."""
    base = next(iter(results.values()))
    header = ["system", "median", "quartiles", "calls", "÷ first row", error]
    rows = []
    for result in results.values():
        if result.missing:
            rows.append([result.label, "not measured", *[""] * (5 if memory else 4)])
            continue
        low, high = result.quartiles()
        spread = f"{duration(low)} – {duration(high)}" if len(result.seconds) > 1 else "one run"
        ratio = times(result.median / base.median) if base.seconds else ""
        row = [result.label, duration(result.median), spread, str(len(result.seconds)), ratio]
        row.append(f"{result.error:.1e}" if result.error is not None else "")
        if memory:
            row.append(f"{result.peak / 1e9:.2f} GB ({(result.peak - result.before) / 1e9:.2f})")
        rows.append(row)
    return table(header + (["peak memory (above start)"] if memory else []), rows)


def machine() -> str:
    """Processor, versions: what a reader needs to judge the numbers."""
    from swiftnets import _core  # here: the peers' processes do without it

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = models[0].split(":")[1].strip() if models else processor
    versions = [f"CPython {platform.python_version()}"]
    for package in ("numpy", "scipy", "torch", "jax"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    return (
        f"{processor}, level {_core.level()}, {THREADS} cores used of {os.cpu_count()}; "
        + ", ".join(versions)
        + "."
    )


# ---- tables of tasks -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Suite:
    """Tasks on nets, and the systems that do them."""

    script: str
    systems: dict[str, System]
    problem: Callable[[str, str], Arrays]  # of a net's and a task's names
    truth: Callable[[Arrays], np.ndarray]  # the trusted answer, flat
    operations: Callable[
        [str, str], float
    ]  # of the arithmetic floor; 0 where there is no plain one
    limit: Callable[[Arrays], float]  # how far off an answer may be, relatively


def report_tasks(
    suite: Suite,
    rows_of: Sequence[tuple[str, str, str, str]],
    rounds: int,
    only: str | None = None,
    tasks: list[str] | None = None,
) -> str:
    """One row for each net, task, its name, and the peers that have it, separated by commas."""
    rows = []
    for net, task, label, peers in rows_of:
        if tasks and f"{net}/{task}" not in tasks:
            continue
        print(f"{net}: {label}", end="", flush=True)
        p = suite.problem(net, task)
        names = ["swiftnets", *peers.split(",")]
        systems = {
            name: suite.systems[name] for name in names if not only or name in only.split(",")
        }
        right = suite.truth(p)
        for _ in range(2):
            results = measure(
                suite.script,
                {**systems, "gemm": GEMM},
                p,
                right,
                step=lambda answer: answer,
                limit=suite.limit(p),
                rounds=min(rounds, 2) if task == "dense" else rounds,  # up to half a minute a call
                turn=0.2,
            )
            if task == "dense" or is_steady(results["gemm"]):
                break
            print(f" (dgemm moved by more than {STEADY:.0%})", end="", flush=True)
        else:
            label += " †"
        gemm = results.pop("gemm")
        rows.append(_task_row(net, label, results, gemm, suite.operations(net, task)))
    header = ["net", "task", "swiftnets", "GFLOP/s (of dgemm's)", "memory", "best peer"]
    text = table([*header, "÷ swiftnets", "others ÷ swiftnets"], rows)
    unsteady = (
        "†: twice the machine's dgemm moved by more than 15 % in this row; it proves nothing."
    )
    return f"{text}\n\n{unsteady}" if "†" in text else text


def _task_row(
    net: str, label: str, results: dict[str, Result], gemm: Result, operations: float
) -> list[str]:
    ours = results.pop("swiftnets")
    timed = sorted((r for r in results.values() if not r.missing), key=lambda r: r.median)
    best = f"; {timed[0].label} {duration(timed[0].median)}" if timed else ""
    print(f": {duration(ours.median)}{best}", flush=True)
    rate = operations / ours.median / 1e9
    share = rate / (2e-9 * GEMM_SIZE**3 / gemm.median)
    peak = (ours.peak - ours.before) / 1e6
    return [
        net,
        label,
        duration(ours.median),
        f"{rate:.0f} ({share:.0%})" if rate else "",
        f"{peak:,.0f} MB",
        f"{timed[0].label}, {duration(timed[0].median)}" if timed else "none",
        times(timed[0].median / ours.median) if timed else "",
        ", ".join(f"{r.label} {times(r.median / ours.median)}" for r in timed[1:]),
    ]


def parser(description: str, *, side_by_side: bool = True) -> argparse.ArgumentParser:
    """What benchmarks take: the rounds, and those with `System`s which of them."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rounds", type=int, default=9, help="turns for each system (9)")
    if not side_by_side:
        return arguments
    arguments.add_argument("--only", help="names of systems, separated by commas; default all")
    arguments.add_argument("--worker", help=argparse.SUPPRESS)
    arguments.add_argument("--problem", type=Path, help=argparse.SUPPRESS)
    return arguments


def chosen(systems: dict[str, System], only: str | None) -> dict[str, System]:
    names = only.split(",") if only else list(systems)
    unknown = [name for name in names if name not in systems]
    if unknown:
        raise SystemExit(f"--only: no system {', '.join(unknown)}; there are {', '.join(systems)}")
    return {name: systems[name] for name in names} | {"gemm": GEMM}


def set_threads() -> None:
    """Tells the engine; NumPy, SciPy, PyTorch and JAX read the environment and the affinity."""
    from swiftnets import _core

    _core.set_threads(THREADS)
