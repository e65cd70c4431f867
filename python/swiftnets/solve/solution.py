"""What a solve found, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import Array, IntegerArray
from swiftnets.linalg.factors import Inertia

__all__ = ["Solution"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class Solution:
    """What `solve` found, and how.

    Attributes
    ----------
    solution : (P,) or (K, P) float array
        x, in the form of b, of the net's dtype.
    residual_norms, relative_residuals : (K,) float64 arrays
        ‖b − (A + λ) x‖ of this very x, rounded to the net's dtype as it is, and that divided by
        ‖b‖: computed with float64 products, and what these may be off by added.
    rounding : (K,) float64 array
        That part of the residual norms: how far products move when weights, targets and x are moved
        at random by up to 32 units of rounding, the larger of two draws. An estimate, not a bound.
    converged : (K,) bool array
        Whether the relative residual is at most the tolerance.
    statuses : tuple of str
        For each right-hand side: ``"converged"``, or why not. ``"rounding"``: no float64 product
        could show a smaller residual, or no x of the net's dtype has one. ``"least squares"``:
        A + λ is singular to rounding, b is not in its range, and no x leaves less.
        ``"refinement stagnated"``: the factors are too inaccurate for the tolerance, and no other
        method has done better. ``"iterations"`` and ``"time"``: the limits. ``"out of range"``: x
        has numbers beyond those of its dtype. Others are those of
        `swiftnets.linalg.KrylovResult`.
    iterations : (K,) int array
        Products of a Krylov method; 0 for the others.
    refinements : int
        Solves with the factors after the first one, for the residual.
    method : str
        The method that gave x: ``"layered"``, ``"dense"``, ``"cg"`` or ``"minres"``.
    message : str
        Why that one, and what was tried before it.
    operations : float
        Multiplications and additions of all that was tried, about.
    seconds : float
    inertia : Inertia or None
        Of A + λ, where factors of it were made that solve; with ``block="diagonal"`` of its
        diagonal blocks. None says that nothing is known: Krylov methods do not factor.
        ``inertia=True`` asks for it.
    log_determinant : float or None
        log|det| of the same; None, too, where the factors do not give it well.
    """

    solution: npt.NDArray[Any]
    residual_norms: Array
    relative_residuals: Array
    rounding: Array
    converged: npt.NDArray[np.bool_]
    statuses: tuple[str, ...]
    iterations: IntegerArray
    refinements: int
    method: str
    message: str
    operations: float
    seconds: float
    inertia: Inertia | None
    log_determinant: float | None

    @property
    def success(self) -> bool:
        """Whether all have converged."""
        return bool(self.converged.all())

    @property
    def status(self) -> str:
        """``"converged"``, or that of the right-hand side with the largest relative residual."""
        if self.success:
            return "converged"
        return self.statuses[int(np.where(self.converged, -1, self.relative_residuals).argmax())]

    def __repr__(self) -> str:
        worst = float(self.relative_residuals.max())
        outcome = "converged"
        if not self.success:
            outcome = f"not converged: {self.status}"
        known = "inertia not known, as nothing was factored"
        if self.inertia is not None:
            signs = self.inertia
            known = f"inertia {signs.positive}, {signs.negative}, {signs.zero}"
        elif self.refinements:
            known = "inertia not known, as the factors are inaccurate"
        worst_of = f"relative residual {worst:.1e}, {outcome}"
        return f"Solution({self.method}, {worst_of}; {known}; {self.message})"
