"""What `import swiftnets` costs beyond `import numpy`: medians of alternating fresh processes.

Run: python benchmarks/import_time.py
"""

import argparse
import statistics
import subprocess
import sys
import time

import harness

BASE = "import numpy"
IMPORTS = {
    "`import swiftnets`": "import numpy, swiftnets",
    "and both nets (loads the engine)": "import numpy; from swiftnets import FastNet, SlowNet",
}


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=harness.environment())
    return time.perf_counter() - start


def report(repeats: int) -> str:
    print("import time", flush=True)
    base: list[float] = []
    samples: dict[str, list[float]] = {label: [] for label in IMPORTS}
    try:
        for code in (BASE, *IMPORTS.values()):  # once unmeasured: bytecode and file caches
            seconds(code)
        for _ in range(repeats):
            base.append(seconds(BASE))
            for label, code in IMPORTS.items():
                samples[label].append(seconds(code))
    except subprocess.CalledProcessError:
        return "Import time not measured: swiftnets is not built."
    floor = statistics.median(base)
    rows = [["`import numpy`, whole process", harness.duration(floor), ""]]
    for label, values in samples.items():
        extra = statistics.median(values) - floor
        pairs = [value - other for value, other in zip(values, base, strict=True)]
        low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
        spread = f"{1e3 * low:.0f} – {1e3 * high:.0f} ms"
        rows.append([label, f"{1e3 * extra:+.0f} ms", spread])
    return harness.table(["import", "median", "quartiles of the difference"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=21, help="fresh processes of each kind (21)")
    arguments = parser.parse_args()
    harness.use_cores(2)
    print(report(arguments.repeats))


if __name__ == "__main__":
    main()
