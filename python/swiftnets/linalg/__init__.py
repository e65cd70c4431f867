"""Linear algebra that knows no nets: operators, Krylov and Lanczos methods, dense factors."""

from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.factors import Inertia
from swiftnets.linalg.krylov import cg, minres
from swiftnets.linalg.krylov_result import KrylovResult
from swiftnets.linalg.lanczos import Lanczos, lanczos
from swiftnets.linalg.operator import FunctionOperator, SymmetricOperator

__all__ = [
    "DenseFactorization",
    "FunctionOperator",
    "Inertia",
    "KrylovResult",
    "Lanczos",
    "SymmetricOperator",
    "cg",
    "lanczos",
    "minres",
]


def __dir__() -> list[str]:
    return __all__
