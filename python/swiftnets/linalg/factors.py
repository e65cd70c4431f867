"""What factors of a symmetric matrix prove of it, and how the engine's are asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.internals import Internals
from swiftnets._support.types import Array

__all__ = [
    "FactorSummary",
    "Factors",
    "Inertia",
    "factor",
    "right_hand_sides",
    "rounded",
    "solve_with",
]


def __dir__() -> list[str]:
    return __all__


_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Inertia:
    """How many eigenvalues of a symmetric matrix are positive, negative and zero.

    Counted in the factors (Sylvester's law of inertia), which are proved by exact products with the
    matrix. Zero are those that rounding errors do not separate from it: mostly below 1e-14 of the
    norm, and by products with vectors of the kernel at most about 1e-13.

    Attributes
    ----------
    positive, negative, zero : int
    """

    positive: int
    negative: int
    zero: int


# log|det| is withheld where it may be off by more: the determinant itself by a thousandth.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class FactorSummary:
    """What the factors say, with the logarithm of the determinant even where it is withheld."""

    inertia: Inertia | None = None
    logarithm: float | None = None
    error: float | None = None
    certificate: float | None = None

    @classmethod
    def of(cls, found: _core._Summary) -> FactorSummary:
        real, certificate, _ = found
        if real is None:
            return cls(certificate=certificate)
        return cls(Inertia(*real[:3]), real[3], real[4], certificate)

    @property
    def log_determinant(self) -> float | None:
        return None if self.error is None or self.error > _TOLERANCE else self.logarithm

    def __str__(self) -> str:
        parts = []
        if self.inertia is not None:
            i = self.inertia
            parts.append(f"inertia=({i.positive}, {i.negative}, {i.zero})")
            if self.log_determinant is not None:
                parts.append(f"log_determinant={self.log_determinant:.12g}")
            parts.append(f"log_determinant_error={self.error:.1e}")
        if self.certificate is not None:
            parts.append(f"certificate={self.certificate:.1e}")
        return ", ".join(parts) or "no factors"


class Factors(Internals, internal=("summary", "trusted")):
    """What is known of a symmetric matrix plus a shift, A + λ, from its factors F.

    Attributes
    ----------
    summary : FactorSummary
        A subclass sets it with every factorisation.
    """

    summary: FactorSummary

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can be neither pickled nor copied; pickle the matrix and "
            "factor it again"
        )

    @property
    def inertia(self) -> Inertia | None:
        """Of A + λ; None where λ is complex or the last update failed."""
        return self.summary.inertia

    @property
    def log_determinant(self) -> float | None:
        """log|det(A + λ)|; −inf where eigenvalues are 0.

        None where it may be off by more than 1e-3, λ is complex or the last update failed.
        """
        return self.summary.log_determinant

    @property
    def log_determinant_error(self) -> float | None:
        """What log|det(A + λ)| may be off by: 2 √P times the certificate."""
        return self.summary.error

    @property
    def certificate(self) -> float | None:
        """An estimate of ‖1 − (A + λ) F⁻¹‖ in Frobenius' norm, at most 0.1.

        Below 1 the inertia of F is that of A + λ. None where eigenvalues are 0, and after an update
        that failed.
        """
        return self.summary.certificate


# Calls of the engine ------------------------------------------------------------------------------


def factor(shift: object, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """The engine's factorisation, its refusals as NumPy names them."""
    try:
        return function(*arguments)
    except FloatingPointError:
        raise
    except ArithmeticError as error:
        raise np.linalg.LinAlgError(f"with {shift} added to its diagonal {error}") from None


def right_hand_sides(b: npt.ArrayLike, count: int) -> tuple[Array, bool]:
    """b as finite rows, and whether it is just one."""
    single = checks.dimensions(b, "b") == 1
    rows = checks.array(b, "b", (count,) if single else ("K", count))
    checks.finite(rows, "b")
    return (rows[None] if single else rows), single


def solve_with(function: Callable[..., None], *arguments: Any) -> None:
    """Let the engine solve, its refusals as NumPy names them."""
    try:
        function(*arguments)
    except ArithmeticError as error:
        raise np.linalg.LinAlgError(str(error)) from None


def rounded(x: Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A solution in `dtype`; a LinAlgError where it overflows."""
    with np.errstate(over="ignore"):
        result = x.astype(dtype, copy=False)
    if not np.isfinite(result).all():
        raise np.linalg.LinAlgError(f"the solution overflows {dtype}")
    return result
