"""Lanczos's method: a symmetric operator as a small tridiagonal matrix, from its products alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.linalg.krylov import returned
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.operator import SymmetricOperator, as_product, order_of
from swiftnets.linalg.scaling import exponent, norm

__all__ = ["Lanczos", "lanczos"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class Lanczos:
    """A Q = Q T + β q eᵀ, with T tridiagonal and the columns of Q orthonormal.

    Attributes
    ----------
    diagonal : (k,) float array
        Of T.
    off_diagonal : (k - 1,) float array
        Of T, not negative.
    residual : float
        β: 0 to rounding where the space is invariant, and T's eigenvalues then are A's.
    basis : (k, P) float array
        Q transposed: the vectors are rows.
    norm : float
        ‖start‖, of which the first vector is the direction; inf where float64 does not hold it.
    """

    diagonal: FloatArray
    off_diagonal: FloatArray
    residual: float
    basis: FloatArray
    norm: float

    @property
    def matrix(self) -> FloatArray:
        """T, dense (k, k)."""
        off = self.off_diagonal
        matrix: FloatArray = np.diag(self.diagonal) + np.diag(off, 1) + np.diag(off, -1)
        return matrix

    def eigenvalues(self) -> tuple[FloatArray, FloatArray]:
        """Ritz values, and how far at most each is from an eigenvalue of A.

        Returns
        -------
        values : (k,) float64 array
            Ascending.
        errors : (k,) float64 array
            But for the rounding of the products.
        """
        values, vectors = eigh(self.matrix)
        return values, self.residual * abs(vectors[-1])

    def apply(self, function: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """f(A) start, approximately: ‖start‖ Q f(T) e₁.

        Exact for polynomials f of degree below k.

        Parameters
        ----------
        function : callable
            f, of an array of eigenvalues.

        Returns
        -------
        (P,) float array
            Infinite where its dtype does not hold a number.

        Raises
        ------
        TypeError
            If the function returns numbers that are not real.
        ValueError
            If it returns another count of them.
        FloatingPointError
            If ‖start‖ is infinite.
        """
        checks.function(function, "function", "eigenvalues")
        if not math.isfinite(self.norm):
            raise FloatingPointError("norm is inf: float64 does not hold ‖start‖")
        values, vectors = eigh(self.matrix)
        mapped = np.asarray(function(values))
        if mapped.dtype.kind not in "biuf":
            raise TypeError(f"function returned dtype {mapped.dtype}; expected real numbers")
        if mapped.shape not in ((), values.shape):
            raise ValueError(f"function returned shape {mapped.shape}; expected {values.shape}")
        # By powers of two, which round nothing: sums on the way may be out of range.
        length, e = math.frexp(self.norm)
        weights = length * (vectors @ (mapped * vectors[0]))
        f = exponent(weights)
        with np.errstate(over="ignore", invalid="ignore"):
            inner = np.ldexp(weights, -f).astype(self.basis.dtype) @ self.basis
            result: FloatArray = np.ldexp(inner, e + f)
        return result


def lanczos(
    product: Callable[[FloatArray], FloatArray] | SymmetricOperator,
    start: npt.ArrayLike,
    steps: int,
) -> Lanczos:
    """Lanczos's tridiagonalisation, every vector orthogonalised twice against all before.

    Parameters
    ----------
    product : SymmetricOperator or callable
        A, or v ↦ A v for (P,) arrays, A symmetric, of any size that float64 holds: a point's
        ``hessian``, for one.
    start : (P,) array_like
        Float32 stays that, all else becomes float64.
    steps : int
        Products at most: fewer where the space becomes invariant, and never more than P.

    Returns
    -------
    Lanczos

    Raises
    ------
    TypeError
        If an argument is not of the kind above.
    ValueError
        If it is not as above, or `start` is 0 or not finite.
    FloatingPointError
        If a product is not finite.

    Notes
    -----
    Costs a product and 8 P j operations in step j, and keeps `steps` vectors. Without
    orthogonalisation the vectors lose their orthogonality as Ritz values converge (Paige 1971);
    done twice it stays at the rounding (Giraud et al. 2005). For many runs whose vectors are not
    needed see `swiftnets.curvature.CurvatureMatrix.lanczos`.

    Examples
    --------
    >>> matrix = np.diag([1.0, 2.0, 4.0])
    >>> result = lanczos(lambda v: matrix @ v, np.ones(3), 3)
    >>> result.eigenvalues()[0].round(12)
    array([1., 2., 4.])
    >>> result.apply(np.sqrt).round(12)
    array([1.        , 1.41421356, 2.        ])
    """
    order = order_of(product)
    product = as_product(product, "product")
    single = getattr(start, "dtype", None) == np.float32
    dtype: np.dtype[Any] = np.dtype(np.float32 if single else np.float64)
    unit = float(np.finfo(np.float32).eps if single else np.finfo(np.float64).eps)
    first = checks.array(start, "start", (order or "P",), dtype)
    checks.finite(first, "start")
    steps = min(checks.integer(steps, "steps"), len(first))
    if not first.any():
        raise ValueError("start is 0; expected a vector with a direction")
    basis = np.empty((steps, len(first)), dtype)
    scaled = np.ldexp(first, -exponent(first))
    basis[0] = scaled / dtype.type(norm(scaled))
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    beta, scale = 0.0, 0.0  # the latter of T, as far as it is known
    limits = np.finfo(dtype)
    small, large = float(limits.tiny) / unit, float(limits.max) * unit
    for j in range(steps):
        # Copies: what the function does to its argument, or keeps of its result, is no matter here.
        image = returned(product(basis[j].copy()), "product", first.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            image = image.astype(dtype)
            diagonal.append(float(np.vdot(basis[j], image)))
            known = basis[: j + 1]
            for _ in range(2):
                image -= (known @ image) @ known
        beta = norm(image)
        scale = max(scale, abs(diagonal[-1]), beta)
        if not math.isfinite(scale):
            raise FloatingPointError(f"product {j} is beyond the range of {dtype}")
        # Below this the direction is the rounding of the product.
        if j + 1 == steps or beta <= len(first) * unit * scale:
            break
        off_diagonal.append(beta)
        if small < beta < large:
            basis[j + 1] = image / dtype.type(beta)
        else:  # scaled: β itself in float32 need not be a number
            e = exponent(image)
            basis[j + 1] = np.ldexp(image, -e) / dtype.type(math.ldexp(beta, -e))
    kept = basis[: len(diagonal)]
    return Lanczos(np.array(diagonal), np.array(off_diagonal), beta, kept, norm(first))
