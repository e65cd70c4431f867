"""Runs every benchmark and writes the results into benchmarks/README.md, between its markers.

About an hour on two cores, nothing else running. Run: python benchmarks/run.py [--print]
"""

import argparse
import datetime
import subprocess
import sys
from pathlib import Path

import cluster
import derivatives
import dynamics
import estimators
import fast_net
import growth
import harness
import import_time
import inverse
import kfac
import layers
import lyapunov
import sizes
import slow_net
import spectra
from swiftnets import _core

README = Path(__file__).with_name("README.md")
HEADLINES = ["slow/gradient", "slow/hvp", "slow/hvp-kept", "deep/third", "mlp/gradient", "mlp/hvp"]
LAYER_HEADLINES = [f"{net}/64/hvp" for net in layers.SHAPES]
# Their peers take minutes to compile, and one turn is many calls.
LAYER_LEVEL_TASKS = [f"{net}/64/{task}" for net in layers.SHAPES for task in ("gradient", "hvp")]
LAYER_LEVEL_TASKS += ["lenet/64/third"]
LAYER_ROUNDS = 1
BEGIN, END = "<!-- results: written by run.py -->", "<!-- end of results -->"
LEVEL_BEGIN = "rows of one level:"


def full_run(iterations: int | None, data: Path | None) -> str:
    print("the whole slow_net run", flush=True)
    command = [sys.executable, str(Path(__file__).with_name("full_run.py"))]
    command += ["--all"] if iterations is None else ["--iterations", str(iterations)]
    command += [] if data is None else ["--data", str(data)]
    # Its own process, for the thread counts must be in place before NumPy is loaded.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=harness.environment())
    return done.stdout.strip() if done.returncode == 0 else "Not measured: it failed, see above."


def quick(data: Path | None) -> list[str]:
    """One-call tasks, some minutes."""
    return [
        harness.machine(),
        slow_net.report(3),
        fast_net.report(3, data),
        derivatives.report(3, tasks=HEADLINES),
        layers.report(LAYER_ROUNDS, tasks=LAYER_HEADLINES),
    ]


# Those whose peers take long, or that say little of a level, are left out.
LEVEL_TASKS = [f"{net}/{task}" for net, task, *_ in derivatives.TASKS if task != "dense"]


def at_level(data: Path | None) -> str:
    """The rows that a processor's level decides, in the level that the environment sets."""
    return "\n\n".join(
        [
            harness.machine(),
            "#### slow_net, one iteration",
            slow_net.report(3),
            "#### fast_net, one iteration",
            fast_net.report(3, data),
            "#### Derivatives of three nets",
            derivatives.report(3, tasks=LEVEL_TASKS),
            "#### Nets with more than dense layers",
            layers.report(LAYER_ROUNDS, tasks=LAYER_LEVEL_TASKS),
            "#### Epochs of minibatches",
            inverse.epochs(3),
        ]
    )


def avx2(data: Path | None) -> str:
    """`at_level` with swiftnets and its peers kept to AVX2: in a process of its own."""
    if _core.level() != "v4":
        return f"The rows above are at level {_core.level()}."
    command = [sys.executable, __file__, "--level"]
    command += [] if data is None else ["--data", str(data)]
    env = {**harness.environment(), "SWIFTNETS_LEVEL": "v3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode != 0:
        return "Not measured: it failed, see above."
    return done.stdout.split(LEVEL_BEGIN, 1)[1].strip()


def write(results: str) -> None:
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n\n{results}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns for each system (3)")
    parser.add_argument("--data", type=Path, help="CIFAR for fast_net; default generated images")
    parser.add_argument("--slow-data", type=Path, help="CIFAR-100 for the whole run; likewise")
    parser.add_argument("--iterations", type=int, default=5000, help="of the whole run (5000)")
    parser.add_argument("--all", action="store_true", help="all 200,000 iterations of it")
    parser.add_argument("--print", action="store_true", help="print, leave the README as it is")
    parser.add_argument("--quick", action="store_true", help="print the headline rows alone")
    parser.add_argument("--level", action="store_true", help="print the rows of this level alone")
    arguments = parser.parse_args()
    harness.use_cores(2)
    if arguments.quick:
        return print("\n\n".join(quick(arguments.data)))
    if arguments.level:
        results = at_level(arguments.data)
        return print(f"{LEVEL_BEGIN}\n\n{results}")

    command = "python benchmarks/run.py"
    command += f" --rounds {arguments.rounds}" if arguments.rounds != 3 else ""
    command += " --data DIR" if arguments.data else ""
    command += " --slow-data DIR" if arguments.slow_data else ""
    command += " --all" if arguments.all else ""
    if not arguments.all and arguments.iterations != 5000:
        command += f" --iterations {arguments.iterations}"
    sections = [
        f"`{command}`, {datetime.date.today()}: {harness.machine()}",
        "### slow_net, one iteration",
        slow_net.report(arguments.rounds),
        "### fast_net, one iteration",
        fast_net.report(arguments.rounds, arguments.data),
        "### Derivatives of three nets",
        derivatives.report(arguments.rounds),
        "### Nets with more than dense layers",
        layers.report(LAYER_ROUNDS),
        "### Nets of every size",
        sizes.report(arguments.rounds),
        "### How derivatives grow",
        growth.report(),
        "### Inverse Hessians",
        inverse.report(arguments.rounds),
        "### K-FAC",
        kfac.report(),
        "### Estimators for scikit-learn",
        estimators.report(),
        "### Eigenvalues, densities and the trace of a Hessian; retraining; posteriors",
        spectra.report(),
        "### Lyapunov exponents",
        lyapunov.report(),
        "### The central flow",
        dynamics.report(arguments.rounds, arguments.data),
        "### slow_net, the original's whole run",
        full_run(None if arguments.all else arguments.iterations, arguments.slow_data),
        "### With AVX2 alone",
        "`SWIFTNETS_LEVEL=v3`, and the peers kept to AVX2 by variables of their own.",
        avx2(arguments.data),
        "### Sums on a Dask cluster",
        cluster.report(),
        "### Import",
        import_time.report(repeats=21),
    ]
    results = "\n\n".join(sections)
    if arguments.print:
        print(results)
    else:
        write(results)


if __name__ == "__main__":
    main()
