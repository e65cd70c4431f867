"""What third and fourth derivatives say of a posterior: corrections of the evidence and the mean.

E's expansion around the mode is ½ H[u, u] + T[u, u, u] / 6 + Q[u, u, u, u] / 24, with u normal of
covariance S = R Rᵀ. Wick's theorem gives the terms of order 1 / N (Tierney & Kadane 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.laplace.structures import Precision
from swiftnets.laplace.target import Target

__all__ = ["Correction"]


def __dir__() -> list[str]:
    return __all__


_CHUNK = 2**22  # numbers of directions that are there at once


@dataclass(frozen=True, eq=False)
class Correction:
    """Terms of order 1 / N beyond the normal approximation; made by `Laplace.correction`.

    Attributes
    ----------
    log_evidence : float
        Their sum, to be added to `Laplace.log_marginal_likelihood`.
    terms : tuple of three float
        (T:S)ᵀ S (T:S) / 8, ‖T‖² / 12 in the metric S, and −Q:S:S / 8.
    mean_shift : (P,) float64 array
        −S (T:S) / 2, to be added to the mode for the posterior's mean.
    jets : int
        How many derivatives along directions were taken.
    """

    log_evidence: float
    terms: tuple[float, float, float]
    mean_shift: Array
    jets: int


def correction(target: Target, precision: Precision, limit: int, progress: bool) -> Correction:
    """Of the whole posterior, its precision being E's Hessian; see `Laplace.correction`."""
    count = precision.order
    jets = count * (count + 1)
    if jets > checks.integer(limit, "limit", 1, 2**62):
        raise ValueError(
            f"limit is {limit:,} jets, and {count:,} parameters take {jets:,}; expected that many, "
            "or a posterior of fewer parameters"
        )
    with Progress(0, count, "", "direction", shown=checks.flag(progress, "progress")) as bar:
        roots = precision.half_columns()
        contracted, square, quartic = np.zeros(count), 0.0, 0.0
        for i, root in enumerate(roots):
            # Pairs i > j count twice.
            some = roots[: i + 1]
            weights = np.where(np.arange(i + 1) < i, 2.0, 1.0)
            thirds = target.third(root, some)
            contracted += thirds[i]
            square += float(weights @ ((thirds @ roots.T) ** 2).sum(axis=1))
            fourths = target.fourth(root, root, some)
            quartic += float(weights @ (fourths * some).sum(axis=1))
            bar.step()
    shift = precision.solve(contracted[None])[0]
    terms = (float(contracted @ shift) / 8, square / 12, -quartic / 8)
    return Correction(sum(terms), terms, -shift / 2, jets)


def third_order_trace(target: Target, precision: Precision) -> float:
    """tr(S T[w′]), with w′ = −S w how the mode moves with the prior precision."""
    count = precision.order
    moved = -precision.solve(target.w[None])[0]
    total, step = 0.0, max(1, _CHUNK // count)
    for first in range(0, count, step):
        rows = np.zeros((min(step, count - first), count))
        rows[np.arange(len(rows)), np.arange(first, first + len(rows))] = 1
        roots = precision.half(rows)
        total += float((target.third(moved, roots) * roots).sum())
    return total
