"""Both nets in plain NumPy: the definition of right that the engine is checked against.

Nothing here is fast and nothing here uses the engine. Each function says one thing that the two
scripts of ``howonlee/twostrangethings`` (2019) compute, in the order in which they compute it,
quirks included:

- `slow_run`: a 50-50-100 net trained by saddle-free Newton steps on two exact Hessian blocks;
- `fast_run`: a perceptron trained by a finite difference through the gradient's functional inverse.

Beside the literal steps stand two that are equal to them and can be afforded or trusted more:
`slow_step(..., blocks="assembled")` writes the blocks down in closed form instead of by one R-pass
an entry, and `fast_limit_step` is the limit of the finite difference as ``r`` goes to 0, on request
in extended precision.

Samples are rows; weights are flattened row by row: entry ``(i, j)`` of ``w1`` is
``i * hidsize + j``.
"""

from __future__ import annotations

from swiftnets.originals.reference.common import (
    Line,
    act,
    dact,
    dinv_act,
    errfn,
    inv_act,
    labels_to_onehots,
    rand_onehots,
)
from swiftnets.originals.reference.fast import (
    fast_draws,
    fast_limit_step,
    fast_pairs,
    fast_run,
    fast_step,
    rank_and_condition,
)
from swiftnets.originals.reference.slow import (
    slow_assembled_blocks,
    slow_draws,
    slow_gradient,
    slow_hessian_blocks,
    slow_pairs,
    slow_r_pass,
    slow_run,
    slow_step,
)

__all__ = [
    "Line",
    "act",
    "dact",
    "dinv_act",
    "errfn",
    "fast_draws",
    "fast_limit_step",
    "fast_pairs",
    "fast_run",
    "fast_step",
    "inv_act",
    "labels_to_onehots",
    "rand_onehots",
    "rank_and_condition",
    "slow_assembled_blocks",
    "slow_draws",
    "slow_gradient",
    "slow_hessian_blocks",
    "slow_pairs",
    "slow_r_pass",
    "slow_run",
    "slow_step",
]


def __dir__() -> list[str]:
    return __all__
