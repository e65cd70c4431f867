"""What a caller of `swiftnets.solve.solve` may ask for, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from swiftnets._support.types import Product

__all__ = ["DIRECT", "SOLVE_METHODS", "TITLES", "Options", "Preconditioner", "SolveMethod"]


def __dir__() -> list[str]:
    return __all__


SolveMethod: TypeAlias = Literal["auto", "layered", "dense", "cg", "minres"]
Preconditioner: TypeAlias = Literal["diagonal", "kronecker"] | Product | None

SOLVE_METHODS = ("auto", "layered", "dense", "cg", "minres")
# Those that factor; the primal form of the layered one is tried where the dual one is inaccurate.
DIRECT = ("layered", "primal", "dense")
# As messages name them.
TITLES = {
    "layered": "layered",
    "primal": "layered, primal form",
    "dense": "dense",
    "cg": "CG",
    "minres": "MINRES",
}


@dataclass(frozen=True)
class Options:
    """Limits and wishes of one call of `solve`.

    Attributes
    ----------
    limit : int or None
        Most products of a Krylov method for each right-hand side.
    deadline : float
        When to stop, by `time.perf_counter`.
    progress : bool
    wants_inertia : bool
    preconditioner : {None, "diagonal", "kronecker"} or callable
        Of Krylov methods.
    """

    limit: int | None = None
    deadline: float = math.inf
    progress: bool = False
    wants_inertia: bool = False
    preconditioner: Preconditioner = None
