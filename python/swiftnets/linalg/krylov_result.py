"""What conjugate gradients and MINRES return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array, IntegerArray

__all__ = ["KrylovResult"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class KrylovResult:
    """What a Krylov method found.

    Attributes
    ----------
    solution : (n,) or (k, n) float64 array
        x, in the form of the right-hand sides.
    residual_norms : (k,) float64 array
        ‖b − A x‖, computed from x. The rounding of the products is in it as it is in them.
    iterations : (k,) int array
        Steps of each right-hand side, each a product.
    converged : (k,) bool array
        Whether ‖b − A x‖ ≤ tolerance ‖b‖.
    statuses : tuple of str
        ``"converged"``; ``"iterations"``: the limit; ``"stagnated"``: rounding lets the residual
        fall no further; ``"stopped"``: by the callback; ``"out of range"``: x has numbers beyond or
        below those of float64; ``"indefinite preconditioner"``: it is not positive definite.
        Of `cg` alone, ``"negative curvature"``: A is not positive semidefinite; ``"singular"``: a
        direction was met along which A is 0 to rounding. Of `minres` alone, ``"least squares"``: A
        is singular to rounding and b not in its range; ‖A r‖ ≤ 1e-6 ‖A‖ ‖r‖ for the residual r,
        and no x was found that makes it smaller.
    """

    solution: Array
    residual_norms: Array
    iterations: IntegerArray
    converged: npt.NDArray[np.bool_]
    statuses: tuple[str, ...]

    @property
    def success(self) -> bool:
        """Whether all have converged."""
        return bool(self.converged.all())

    @property
    def status(self) -> str:
        """``"converged"``, or that of the first right-hand side that has not."""
        return next((status for status in self.statuses if status != "converged"), "converged")

    @property
    def message(self) -> str:
        """The status in words, and of how many right-hand sides."""
        total, done = len(self.statuses), int(np.count_nonzero(self.converged))
        steps = checks.counted(int(max(self.iterations, default=0)), "step")
        which = "" if total == 1 else f"{done} of {total} right-hand sides have converged; "
        return f"{which}{_MESSAGES[self.status]}, after {steps} at most"


_MESSAGES = {
    "converged": "the residual is at most the tolerance times b",
    "iterations": "the limit of iterations is reached",
    "stagnated": "rounding lets the residual fall no further",
    "stopped": "the callback ended the solve",
    "out of range": "the solution has numbers beyond or below those of float64",
    "indefinite preconditioner": "the preconditioner is not positive definite",
    "negative curvature": "A is not positive semidefinite",
    "singular": "a direction was met along which A is 0 to rounding",
    "least squares": "A is singular to rounding, and b is not in its range",
}
