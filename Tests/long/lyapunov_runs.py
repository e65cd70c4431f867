"""The chaotic net's whole spectrum: 60,000 steps from each of some starts, beside what is recorded.

Each exponent that is known, the sum and the Kaplan–Yorke dimension are to be within four standard
errors, and ln|det J| is compared at every step. Run: python Tests/long/lyapunov_runs.py --starts 2
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import chaotic_net as recorded  # noqa: E402

from swiftnets.dynamics import GradientDescentMap, lyapunov_spectrum  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60_000)
    arguments = parser.parse_args()
    one = GradientDescentMap(recorded.problem(), learning_rate=recorded.LEARNING_RATE)
    worst = 0.0
    for seed in range(arguments.starts):
        started = time.perf_counter()
        found = lyapunov_spectrum(
            one,
            one.state(recorded.net().initial(seed=seed)),
            k=17,
            steps=arguments.steps,
            transient=1000,
            certify=True,
            progress=True,
        )
        seconds = time.perf_counter() - started
        sums = found.blocks.sum(axis=1)
        places = [*range(5), 5, 16]
        cases = [
            *zip(
                found.exponents[places],
                found.standard_errors[places],
                [*recorded.LARGEST, recorded.SIXTH, recorded.LEAST],
                [recorded.LARGEST_ERROR] * 6 + [0.005],
                strict=True,
            ),
            (
                sums.mean(),
                np.std(sums, ddof=1) / len(sums) ** 0.5,
                recorded.SUM,
                recorded.SUM_ERROR,
            ),
            (
                found.kaplan_yorke,
                found.kaplan_yorke_error,
                recorded.DIMENSION,
                recorded.DIMENSION_ERROR,
            ),
        ]
        for value, error, want, want_error in cases:
            off = abs(value - want) / np.hypot(error, want_error)
            worst = max(worst, off)
            print(f"  {value:9.4f} ± {error:.4f}, recorded {want:7.3f}: {off:.1f} standard errors")
        gauge = np.sort(abs(found.exponents - recorded.GAUGE))[:4].max()
        print(f"start {seed}: {seconds:.0f} s, four equal exponents to {gauge:.1e}")
        print("\n".join(f"  {line}" for line in found.messages))
        if gauge > 2e-4 or found.sum_deviation > 1e-10 or found.positive != 5:
            sys.exit("the gauge exponents, the determinants or the signs are off")
    if worst > 4:
        sys.exit(f"{worst:.1f} standard errors off")


if __name__ == "__main__":
    main()
