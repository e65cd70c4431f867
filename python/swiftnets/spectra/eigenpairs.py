"""`Eigenpairs`: what was found, how far off it may be, and what is proved of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swiftnets._support.types import Array
from swiftnets.spectra.certificates import Certificate

__all__ = ["Eigenpairs", "residual_bounds"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues and eigenvectors of a symmetric matrix A; made by `eigsh`.

    Attributes
    ----------
    values : (k,) float64 array
        Ascending.
    vectors : (P, k) float64 array
        As columns, orthonormal.
    residual_norms : (k,) float64 array
        ‖A x − θ x‖, by products with the vectors that are returned.
    error_bounds : (k,) float64 array
        How far each value at most is from the eigenvalue of its place where there is a certificate,
        and without one from some eigenvalue, another for each value. From residuals (Kahan; Parlett
        1998), with 4 √P u ‖A‖ for the rounding of products: that is a model.
    products : int
        With A, those of the certificate included.
    factorizations : int
        Of A − s, those of the certificate included.
    certificate : Certificate or None
        None where nothing is proved: `message` says why.
    message : str
        What was found, and what is proved of it.
    converged : bool
        Whether all residuals are below the tolerance.
    """

    values: Array
    vectors: Array
    residual_norms: Array
    error_bounds: Array
    products: int
    factorizations: int
    certificate: Certificate | None
    message: str
    converged: bool = True

    def __repr__(self) -> str:
        low, high = self.values[0], self.values[-1]
        return (
            f"Eigenpairs({len(self.values)} from {low:.6g} to {high:.6g}, errors at most "
            f"{self.error_bounds.max():.1e}, {self.products} products: {self.message})"
        )


def residual_bounds(
    values: Array, rows: Array, residuals: Array, norm: float, unit: float
) -> Array:
    """How far each Ritz value at most is from an eigenvalue, one for each.

    Parameters
    ----------
    values : (k,) array
        Ascending.
    rows, residuals : (k, P) arrays
        Orthonormal x and A x − θ x.
    norm, unit : float
        ‖A‖ and the rounding of products, relative.

    Returns
    -------
    (k,) array
        Values whose intervals meet are taken together: there are as many eigenvalues within the
        spectral norm of their residuals.
    """
    loss = float(np.linalg.norm(rows @ rows.T - np.eye(len(rows))))
    rounding = (4 * math.sqrt(rows.shape[1]) * unit + 2 * loss) * norm
    gram = residuals @ residuals.T

    def radius(group: slice) -> float:
        largest = float(np.linalg.eigvalsh(gram[group, group])[-1])
        return math.sqrt(max(largest, 0.0)) * (1 + loss) + rounding

    groups: list[tuple[int, int, float]] = []
    for i in range(len(values)):
        first, size = i, radius(slice(i, i + 1))
        # While the interval before meets this one's they are one.
        while groups and values[groups[-1][1] - 1] + groups[-1][2] >= values[first] - size:
            first = groups.pop()[0]
            size = radius(slice(first, i + 1))
        groups.append((first, i + 1, size))
    bounds = np.empty(len(values))
    for first, last, size in groups:
        bounds[first:last] = size
    return bounds
