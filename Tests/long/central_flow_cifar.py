"""The central flow on images of CIFAR-10 beside the iterates' means: the figures that are recorded.

48-16-16-4 with three eigenvalues at the edge, and 3072-32-32-4 of 99,524 parameters, which takes a
minute or some. Printed are the distances to the means, of the flow and of the gradient flow, what a
substep costs, and what the mean loss and the spread of iterates are off; the program ends with
status 1 where a distance is 30 % from the recorded one, or a critical eigenvalue was missed.

Run: python Tests/long/central_flow_cifar.py FOLDER [--only small]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from edge_problems import Problem, cifar_small, cifar_wide

from swiftnets.dynamics import central_flow

# Distances of the flow and of the gradient flow, products and thirds of a substep at most.
RECORDED = {"small": (0.043, 0.545, 5.0, 6.0), "wide": (0.0013, 0.079, 4.0, 1.0)}


def holds(name: str, problem: Problem) -> bool:
    means, rows, losses = problem.means()
    start, time, end = problem.at(means[0]), problem.time, means[problem.time]
    flow = central_flow(start, step=problem.step, time=time, every=None, progress=True)
    gradient_flow = central_flow(
        start, step=problem.step, time=time, every=None, threshold=np.inf, progress=True
    )
    found = [float(np.linalg.norm(one.w - end)) for one in (flow, gradient_flow)]
    costs = [flow.products / (2 * time), flow.thirds / (2 * time)]
    box = np.ones(31) / 31
    begin = problem.begin
    mean = np.convolve(losses[begin : begin + time + 1], box, "valid")
    spread = np.convolve(np.sum((rows - means)[: time + 1] ** 2, axis=1), box, "valid")
    off = [float(np.abs(f.mean_losses[15:-15] / mean - 1).mean()) for f in (flow, gradient_flow)]
    ratio = flow.traces[15:-15] / spread
    print(
        f"{name}: {problem.net.parameter_count} parameters, moved "
        f"{np.linalg.norm(end - means[0]):.3f}; distances {found[0]:.4f} and {found[1]:.4f}; "
        f"{costs[0]:.2f} products and {costs[1]:.2f} thirds a substep; mean losses off by "
        f"{off[0]:.2%} and {off[1]:.1%}; tr X over the spread {ratio[20:].mean():.3f}; "
        f"{flow.missed} critical eigenvalues missed",
        flush=True,
    )
    *distances, products, thirds = RECORDED[name]
    close = all(abs(f / d - 1) <= 0.3 for f, d in zip(found, distances, strict=True))
    return close and costs[0] <= products and costs[1] <= thirds and flow.missed == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="with CIFAR-10, as swiftnets.datasets.load takes it")
    parser.add_argument("--only", choices=sorted(RECORDED))
    arguments = parser.parse_args()
    makers = {"small": cifar_small, "wide": cifar_wide}
    names = [arguments.only] if arguments.only else list(makers)
    results = [holds(name, makers[name](arguments.folder)) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
