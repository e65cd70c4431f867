"""A number with its error and how it was got, and what it takes to get one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array

__all__ = ["Cost", "Estimate", "Method"]


def __dir__() -> list[str]:
    return __all__


Method = Literal["auto", "exact", "xtrace", "xdiag", "hutchinson", "lanczos"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number, or a vector, of a matrix: what it may be off by, and how it was got.

    Attributes
    ----------
    value : float or (P,) float array
    error : float or (P,) float array
        Where `is_exact`, what rounding may do, an estimate from the factors' certificate or from
        the sizes of what is summed. Else twice the standard error that the random vectors show,
        with what few Lanczos steps leave out: `value` is off by more in one case of twenty for many
        vectors, in up to one of five for XTrace and XDiag, and far more where there are only a
        dozen vectors. Infinite where it takes a positive definite matrix, and that is not
        certified.
    method : str
        In words.
    is_exact : bool
        Whether there is no error but rounding.
    products, factorizations : int
        What it took.

    Notes
    -----
    ``float(estimate)`` is its value.
    """

    value: Any
    error: Any
    method: str
    is_exact: bool
    products: int = 0
    factorizations: int = 0

    def __float__(self) -> float:
        return float(self.value)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        values: Array = np.array(self.value, dtype=dtype)
        return values

    def __repr__(self) -> str:
        if np.ndim(self.value):
            worst = float(np.max(self.error)) if np.size(self.error) else 0.0
            return f"Estimate({len(self.value)} numbers ± {worst:.2g} at most, {self.method})"
        return f"Estimate({self.value:.10g} ± {self.error:.2g}, {self.method})"


@dataclass(frozen=True)
class Cost:
    """What a call would take.

    Attributes
    ----------
    method : str
        That it would use.
    products : int
        With the matrix.
    factorizations : int
    operations : float
        Real multiplications and additions beside the products, about.
    bytes : int
        Memory that it would hold at once, about, beside the matrix itself.
    """

    method: Method
    products: int
    factorizations: int
    operations: float
    bytes: int

    @property
    def fits(self) -> bool:
        """Whether this machine, or this container, could hold that memory."""
        return checks.fits(self.bytes)

    def __str__(self) -> str:
        return (
            f"{self.method}: {checks.counted(self.products, 'product')}, "
            f"{checks.counted(self.factorizations, 'factorization')}, {self.operations:.1e} "
            f"operations, {checks.readable(self.bytes)}"
        )
