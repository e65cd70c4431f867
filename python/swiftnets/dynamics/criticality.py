"""What is shared by those who take coefficients where the gradient is 0."""

from __future__ import annotations

import numpy as np

from swiftnets._support.types import Array, FloatArray
from swiftnets.curvature.point import Point
from swiftnets.linalg.scaling import norm

__all__ = [
    "FLAT",
    "SIMPLE",
    "VALID",
    "finite",
    "pseudo_inverse",
    "require_critical",
    "signed",
]


def __dir__() -> list[str]:
    return __all__


FLAT = 1e-10  # of the norm: eigenvalues below count as 0
SIMPLE = 1e-6  # of the norm: closer eigenvalues have no eigenvectors of their own
VALID = 1e-6  # of |t|: what may be in the null space


def require_critical(point: Point, size: float, tolerance: float, what: str) -> float:
    """The gradient's norm; a ValueError if it is too large for curvatures of that size."""
    length = norm(point.gradient)
    most = tolerance * size * max(1.0, norm(point.w))
    if not length <= most:
        raise ValueError(
            f"point is no {what}: its gradient has norm {length:.3g}; expected at most {most:.3g}, "
            "the tolerance times ‖H‖ max(1, ‖w‖) (swiftnets.laplace.mode and "
            "swiftnets.critical.find go to such points)"
        )
    return length


def pseudo_inverse(values: Array, vectors: Array, t: Array, size: float) -> tuple[Array, float]:
    """H⁺ t of a matrix with these eigenpairs, and t's norm in its null space over a size."""
    parts = vectors.T @ t
    flat = abs(values) <= FLAT * abs(values).max()
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(flat, 0.0, parts / values)
    lost = norm(parts[flat]) / size if size else 0.0
    response: Array = vectors @ inverse
    return response, lost


def signed(vector: FloatArray) -> Array:
    """The one of ± u whose entry of largest modulus is positive."""
    u: Array = np.array(vector, np.float64)
    u *= np.sign(u[np.argmax(abs(u))])
    u.flags.writeable = False
    return u


def finite(derivative: Array, name: str) -> Array:
    """The derivative; a FloatingPointError if a number of it is not finite."""
    if not np.isfinite(derivative).all():
        raise FloatingPointError(f"the {name} derivative at the point is not finite")
    return derivative
