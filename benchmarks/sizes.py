"""A gradient and one Hessian product of nets of every size, against the best peer.

Nets of equal widths with 10 outputs, tanh, softmax cross-entropy (mean), no biases, float64. A row
is called WIDTHxDEPTH/SAMPLES, its depth that of all its layers of weights but the last.
Run: python benchmarks/sizes.py
"""

import derivatives
import harness

# Width, depth, samples: a corner of each class that a CPU does in a second.
NETS = [
    (16, 1, 16),
    (16, 1, 1024),
    (16, 1, 16384),
    (16, 32, 256),
    (64, 1, 256),
    (64, 4, 4096),
    (64, 32, 256),
    (256, 1, 16),
    (256, 2, 256),
    (256, 2, 4096),
    (256, 16, 256),
    (512, 2, 256),
    (1024, 1, 16),
    (1024, 2, 256),
]
PEERS = "jax-jit,torch.func,torch-double-backward"
TASKS = []
for width, depth, samples in NETS:
    name = f"{width}x{depth}/{samples}"
    derivatives.SIZES[name] = (*[width] * (depth + 1), 10)
    derivatives.SAMPLES[name] = samples
    TASKS += [(name, "gradient", "gradient", PEERS), (name, "hvp", "one HVP", PEERS)]


def report(rounds: int, only: str | None = None) -> str:
    return derivatives.report(rounds, only, rows_of=TASKS, script=__file__)


def main() -> None:
    arguments = harness.parser(__doc__).parse_args()
    if arguments.worker:
        systems = {**derivatives.SYSTEMS, "gemm": harness.GEMM}
        return harness.serve(systems, arguments.worker, arguments.problem)
    harness.use_cores(2)
    print(report(arguments.rounds, arguments.only))


if __name__ == "__main__":
    main()
