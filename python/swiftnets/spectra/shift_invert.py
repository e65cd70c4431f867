"""(A − σ)⁻¹ as an operator, from factors."""

from __future__ import annotations

import math

import numpy as np

from swiftnets._support.types import Array
from swiftnets.spectra.given import EPS
from swiftnets.spectra.inertia import negative_count, spectral_norm
from swiftnets.spectra.targets import Target

__all__ = ["Inverse"]


def __dir__() -> list[str]:
    return __all__


_AWAY = (0.0, 1e-6, -1e-6, 1e-5, -1e-5, 1e-4, -1e-4)  # of the norm


class Inverse:
    """Solves with A − σ, refined where the factors' rounding is large.

    Parameters
    ----------
    target : Target
    sigma : float
        In the scaled matrix's scale.
    nearest : bool
        Whether it may be moved where A − σ is singular, by 1e-6 of the norm and up to 1e-4: the
        nearest values stay the nearest, but sides do not.

    Attributes
    ----------
    sigma : float
        Where it was factored.
    norm : float
        Of A.
    below : int
        Eigenvalues below sigma.
    """

    def __init__(self, target: Target, sigma: float, nearest: bool) -> None:
        self._target = target
        self.norm = spectral_norm(target)
        size = max(self.norm, abs(sigma)) or 1.0
        for away in _AWAY if nearest else _AWAY[:1]:
            self.sigma = sigma + away * size
            try:
                counted = negative_count(target, self.sigma, self.norm)
                break
            except np.linalg.LinAlgError as error:
                reason = error
        else:
            shown = math.ldexp(sigma, target.exponent)
            if nearest:
                raise np.linalg.LinAlgError(
                    f"sigma is {shown}: A - sigma is singular to working precision there and at "
                    f"1e-6 to 1e-4 of the norm beside it ({reason})"
                )
            raise np.linalg.LinAlgError(
                f'sigma is {shown}, an eigenvalue of A to working precision; expected which="LM", '
                f"or a sigma away from the spectrum by more than rounding ({reason})"
            )
        self.below = counted.number
        self._is_refined = counted.error > 10 * target.order * EPS * self.norm

    def products(self, rows: Array) -> Array:
        """(A − σ)⁻¹ times each row."""
        e = self._target.exponent
        factors = self._target.factors(self.sigma, self.norm)
        x: Array = np.ldexp(factors.solve(rows), e)
        if self._is_refined:
            rest = rows - (self._target.products(x) - self.sigma * x)
            x += np.ldexp(factors.solve(rest), e)
        return x
