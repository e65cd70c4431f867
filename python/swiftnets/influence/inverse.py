"""The inverse of the Hessian at a minimum, by factors, eigenvectors or Krylov steps."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.linalg import scaling
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.operator import FunctionOperator
from swiftnets.solve.factors import Factorization, dense_operations
from swiftnets.solve.layered import is_layered, plan

__all__ = ["METHODS", "Inverse", "Method", "chosen", "invert", "norm_of", "smallest_eigenvalue"]


def __dir__() -> list[str]:
    return __all__


Method: TypeAlias = Literal["auto", "factors", "eigen", "krylov"]
METHODS: tuple[str, ...] = get_args(Method)

_UNIT = float(np.finfo(np.float64).eps) / 2
# Of ‖H‖: eigenvalues below are those of an exact symmetry where the next one is a thousand times
# as large.
_NULL, _GAP = 1e-12, 1e3
# "auto" factors up to this order, and larger ones where that takes at most so many times the
# operations of Krylov solves of so many steps: factors prove something.
_SMALL, _WORTH, _KRYLOV_STEPS = 2000, 3.0, 100
_STEPS = 40
_REFINEMENTS, _REFINED = 5, 1e-11


class Inverse(Protocol):
    """(H + λ)⁻¹, or the pseudo-inverse of a positive semidefinite one.

    Attributes
    ----------
    smallest : float
        No eigenvalue but those that are 0 is below it: proven, if `is_proven`.
    null : (k, P) array
        Orthonormal rows of its null space.
    """

    is_proven: bool
    null: Array
    title: str

    @property
    def smallest(self) -> float: ...

    def solve(self, rows: Array) -> Array: ...


def chosen(matrix: CurvatureMatrix, solves: int) -> Method:
    """``"factors"`` where for so many solves they fit and take not much more than Krylov steps.

    Parameters
    ----------
    matrix : CurvatureMatrix
    solves : int

    Returns
    -------
    {"factors", "krylov"}
    """
    return "factors" if _is_factorable(matrix, solves) else "krylov"


def _is_factorable(matrix: CurvatureMatrix, solves: int) -> bool:
    count, net, samples = matrix.order, matrix.point.net, matrix.point.counted_samples
    if count <= _SMALL:
        return True
    product = 12.0 * samples * net.multiplications
    most = _WORTH * solves * _KRYLOV_STEPS * product
    if checks.fits(24 * count**2):
        dense = dense_operations(net, samples, count) + count**3 + 2.0 * solves * count**2
        if dense <= most:
            return True
    if not is_layered(matrix):
        return False
    try:
        return 2 * plan(net, samples).operations <= most
    except MemoryError:
        return False


def invert(matrix: CurvatureMatrix, method: Method, tolerance: float) -> Inverse:
    """The inverse of a matrix at a minimum.

    Parameters
    ----------
    matrix : CurvatureMatrix
        Of float64.
    method : {"factors", "eigen", "krylov"}
    tolerance : float
        Of Krylov solves.

    Returns
    -------
    Inverse

    Raises
    ------
    numpy.linalg.LinAlgError
        Where an eigenvalue is negative, or so small that it is neither 0 nor not.
    """
    if method == "krylov":
        return _Krylov(matrix, tolerance)
    if method == "factors":
        try:
            factors = matrix.factorize()
        except np.linalg.LinAlgError:
            return _Eigen(matrix)  # which says what is singular
        found = factors.inertia
        if found is None or found.zero:
            return _Eigen(matrix)
        if found.negative:
            least = float(_ritz_values(matrix, _STEPS)[0][0])
            raise np.linalg.LinAlgError(_negative(matrix, found.negative, least))
        return _Factors(matrix, factors)
    return _Eigen(matrix)


def _negative(matrix: CurvatureMatrix, count: int, least: float) -> str:
    """What is said of eigenvalues below 0, of which the least is no larger than that."""
    eigenvalues = checks.counted(count, "eigenvalue")
    if matrix.shift:
        shifted, wanted = f"the Hessian + {matrix.shift:g}", "a larger damping"
    else:
        shifted, wanted = "the Hessian", "a minimum, or a damping above that"
    return (
        f"{shifted} has {eigenvalues} of {matrix.order} below 0, down to {least:.3g}; "
        f"expected {wanted}"
    )


def _ritz_values(matrix: CurvatureMatrix, steps: int) -> tuple[Array, Array]:
    start = np.random.default_rng(0).standard_normal(matrix.order)
    return lanczos(matrix, start, steps).eigenvalues()


class _Factors:
    """Dense or layered factors, refined where they need it."""

    is_proven = True

    def __init__(self, matrix: CurvatureMatrix, factors: Factorization) -> None:
        self._matrix, self._factors = matrix, factors
        self.null: Array = np.empty((0, matrix.order))
        self.title = f"{factors.forms[0]} factors" if len(factors.forms) == 1 else "layered factors"
        self._is_accurate = (factors.certificate or 1.0) <= 1e-9

    @cached_property
    def smallest(self) -> float:
        return smallest_eigenvalue(self._factors, float(self._matrix.shift.real))

    def solve(self, rows: Array) -> Array:
        x: Array = self._factors.solve(rows)
        if self._is_accurate:
            return x
        norms = scaling.row_norms(rows)
        for _ in range(_REFINEMENTS):
            residual = rows - self._matrix.products(x)
            if (scaling.row_norms(residual) <= _REFINED * norms).all():
                break
            x += self._factors.solve(residual)
        return x


def smallest_eigenvalue(factors: Factorization, shift: float) -> float:
    """A lower bound of the eigenvalues of a positive definite matrix, proven by its inertia.

    Parameters
    ----------
    factors : LayeredFactorization or DenseFactorization
        They are updated, and are what they were before after it.
    shift : float
        Of the matrix.

    Returns
    -------
    float
        Mostly 0.9 of the smallest eigenvalue, by Lanczos steps with the inverse.
    """
    count = factors.parameter_count
    inverse = FunctionOperator(count, factors.solve)
    start = np.random.default_rng(0).standard_normal(count)
    values, _ = lanczos(inverse, start, _STEPS).eigenvalues()
    least = 1 / float(values[-1])
    try:
        for factor in (0.9, 0.5, 0.1, 0.01):
            try:
                found = factors.update(shift - factor * least).inertia
            except np.linalg.LinAlgError:
                continue
            if found is not None and found.positive == count:
                return factor * least
    finally:
        factors.update(shift)
    return 0.0


class _Eigen:
    """All eigenvectors of a dense matrix; the pseudo-inverse where eigenvalues are 0."""

    is_proven = True

    def __init__(self, matrix: CurvatureMatrix) -> None:
        count = matrix.order
        checks.memory(32 * count**2, "the eigenvectors of the Hessian")
        values, vectors = eigh(matrix.dense())
        norm = float(abs(values).max())
        rounding = 8 * count * _UNIT * norm
        # What the gradient's own rounding leaves of them, too.
        limit = max(rounding, _NULL * norm)
        if values[0] < -limit:
            raise np.linalg.LinAlgError(
                _negative(matrix, int((values < -limit).sum()), float(values[0]))
            )
        is_null = abs(values) <= limit
        rest = values[~is_null]
        if not len(rest) or (is_null.any() and rest[0] < _GAP * limit):
            near = float(rest[0]) if len(rest) else 0.0
            small = checks.counted(int(is_null.sum()), "eigenvalue")
            raise np.linalg.LinAlgError(
                f"the Hessian has {small} below {limit:.1e}, which rounding does not tell from 0, "
                f"and the next is {near:.1e}; expected a gap, or a damping > 0 (another problem)"
            )
        self.null: Array = np.ascontiguousarray(vectors[:, is_null].T)
        self._vectors = np.ascontiguousarray(vectors[:, ~is_null].T)
        self._values = rest
        self._smallest = float(rest[0]) - rounding
        self.title = "the pseudo-inverse" if len(self.null) else "eigenvectors"

    @property
    def smallest(self) -> float:
        return self._smallest

    def solve(self, rows: Array) -> Array:
        result: Array = (rows @ self._vectors.T / self._values) @ self._vectors
        return result


class _Krylov:
    """Conjugate gradients for every row, and Lanczos's estimate of the smallest eigenvalue."""

    is_proven = False
    title = "conjugate gradients"

    def __init__(self, matrix: CurvatureMatrix, tolerance: float) -> None:
        self._matrix, self._tolerance = matrix, tolerance
        self.null: Array = np.empty((0, matrix.order))
        values, errors = _ritz_values(matrix, 4 * _STEPS)
        negative = int((values + errors < 0).sum())
        if negative:
            raise np.linalg.LinAlgError(_negative(matrix, negative, float(values[0])))
        self._smallest = max(float(values[0] - errors[0]), 0.0)

    @property
    def smallest(self) -> float:
        return self._smallest

    def solve(self, rows: Array) -> Array:
        found = self._matrix.solve(rows, method="cg", tolerance=self._tolerance)
        bad = [s for s in found.statuses if s not in ("converged", "rounding")]
        if bad:
            worst = float(found.relative_residuals.max())
            raise np.linalg.LinAlgError(
                f"conjugate gradients ended with {bad[0]!r} for {len(bad)} of {len(rows)} "
                f"right-hand sides, relative residual {worst:.1e}"
            )
        result: Array = found.solution
        return result


def norm_of(matrix: CurvatureMatrix) -> float:
    """About the largest modulus of an eigenvalue, by ten products."""
    return float(abs(_ritz_values(matrix, 10)[0]).max())
