"""Conjugate gradients and MINRES for symmetric operators, for one right-hand side or many at once.

Each right-hand side has a recurrence of its own; their products are asked for together, as rows.
What comes back says how good it is: residuals are computed from the solution, not carried along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _checks

__all__ = ["KrylovResult", "cg", "minres"]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]
Product: TypeAlias = Callable[[Array], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class KrylovResult:
    """What a Krylov method found.

    Attributes
    ----------
    x : (n,) or (k, n) float64 array
        The solutions, in the form of the right-hand sides.
    residual_norms : (k,) float64 array
        ‖b − A x‖, computed from x.
    iterations : (k,) int array
        Steps of each right-hand side, each a product.
    converged : (k,) bool array
        Whether ‖b − A x‖ ≤ tolerance ‖b‖.
    reasons : tuple of str
        ``"converged"``, ``"iterations"`` (the limit), ``"stagnated"`` (rounding lets the residual
        fall no further), ``"negative curvature"`` (conjugate gradients met an indefinite operator).
    """

    x: Array
    residual_norms: Array
    iterations: npt.NDArray[np.int64]
    converged: npt.NDArray[np.bool_]
    reasons: tuple[str, ...]


class _Problem:
    """Checked arguments, and counts."""

    def __init__(
        self, product: Product, b: Any, preconditioner: Product | None, tolerance: Any, limit: Any
    ) -> None:
        if not callable(product):
            raise TypeError(f"product is of type {type(product).__name__}; expected a function")
        if preconditioner is not None and not callable(preconditioner):
            raise TypeError(
                f"preconditioner is of type {type(preconditioner).__name__}; expected a function"
            )
        self.single = _checks.dimensions(b, "b") == 1
        b = _checks.array(b, "b", ("n",) if self.single else ("k", "n"))
        _checks.finite(b, "b")
        self.b = b[None] if self.single else b
        self.tolerance = _checks.real(tolerance, "tolerance", positive=True)
        count, order = self.b.shape
        self.limit = 10 * order if limit is None else _checks.integer(limit, "iterations")
        self.targets = self.tolerance * np.linalg.norm(self.b, axis=1)
        self.x = np.zeros_like(self.b)
        self.iterations = np.zeros(count, np.int64)
        self.reasons = ["iterations"] * count
        self._product, self._preconditioner = product, preconditioner

    def product(self, rows: Array) -> Array:
        return self._rows(self._product, rows, "product")

    def precondition(self, rows: Array) -> Array:
        if self._preconditioner is None:
            return rows
        return self._rows(self._preconditioner, rows, "preconditioner")

    def _rows(self, function: Product, rows: Array, name: str) -> Array:
        result = np.asarray(function(rows), np.float64)
        if result.shape != rows.shape:
            raise ValueError(f"{name} returned shape {result.shape}; expected {rows.shape}")
        if not np.isfinite(result).all():
            raise FloatingPointError(f"{name} returned numbers that are not finite")
        return result

    def refine(self, run: Callable[[_Problem, npt.NDArray[np.int64], Array], None]) -> KrylovResult:
        """Run on what is left of the residuals until they are small or fall no more."""
        norms = np.linalg.norm(self.b, axis=1)
        active = np.flatnonzero(norms > 0)
        for index in np.flatnonzero(norms == 0):
            self.reasons[index] = "converged"
        residuals = self.b[active]
        while len(active):
            run(self, active, residuals)
            residuals = self.b[active] - self.product(self.x[active])
            now = np.linalg.norm(residuals, axis=1)
            going = np.zeros(len(active), bool)
            for place, index in enumerate(active):
                if now[place] <= self.targets[index]:
                    self.reasons[index] = "converged"
                elif self.reasons[index] == "negative curvature":
                    pass
                elif self.iterations[index] >= self.limit:
                    self.reasons[index] = "iterations"
                elif now[place] > norms[index] / 2:
                    self.reasons[index] = "stagnated"
                else:
                    going[place] = True
                norms[index] = now[place]
            active, residuals = active[going], residuals[going]
        x = self.x[0] if self.single else self.x
        converged = np.array([reason == "converged" for reason in self.reasons])
        return KrylovResult(x, norms, self.iterations, converged, tuple(self.reasons))


def cg(
    product: Product,
    b: npt.ArrayLike,
    *,
    preconditioner: Product | None = None,
    tolerance: float = 1e-10,
    iterations: int | None = None,
) -> KrylovResult:
    """Solve A x = b by conjugate gradients (Hestenes & Stiefel 1952), A positive definite.

    Parameters
    ----------
    product : callable
        Takes rows (j, n) and returns A times each: `MLP.linearize(...).hvp`, for one.
    b : (n,) or (k, n) array_like
        A right-hand side, or k of them as rows.
    preconditioner : callable, optional
        Takes rows (j, n) and returns M⁻¹ times each, M symmetric positive definite and near A.
    tolerance : float
        Ends at ‖b − A x‖ ≤ tolerance ‖b‖.
    iterations : int, optional
        Most steps of a right-hand side; 10 n by default.

    Returns
    -------
    KrylovResult
        A direction of negative curvature ends a solve with what it has: the minimiser of the
        quadratic over the directions before. b = 0 costs nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or a function returns another shape.
    FloatingPointError
        If a product is not finite.

    Notes
    -----
    A step costs a product and 10 n operations; the number of steps goes with the square root of the
    condition number, and is at most that of distinct eigenvalues but for rounding.

    Examples
    --------
    >>> matrix = np.diag([1.0, 2.0, 4.0])
    >>> result = cg(lambda rows: rows @ matrix, [1.0, 1.0, 1.0])
    >>> result.x.round(12), result.reasons
    (array([1.  , 0.5 , 0.25]), ('converged',))
    """
    return _Problem(product, b, preconditioner, tolerance, iterations).refine(_cg_run)


def _dots(a: Array, b: Array) -> Array:
    result: Array = np.einsum("kn,kn->k", a, b)
    return result


def _cg_run(problem: _Problem, active: npt.NDArray[np.int64], residuals: Array) -> None:
    r = residuals.copy()
    z = problem.precondition(r)
    p, rz = z.copy(), _dots(r, z)
    while len(active):
        image = problem.product(p)
        curvature = _dots(p, image)
        problem.iterations[active] += 1
        bad = ~(curvature > 0) | ~(rz > 0)
        for index in active[bad]:
            problem.reasons[index] = "negative curvature"
        step = np.where(bad, 0.0, rz / np.where(bad, 1.0, curvature))[:, None]
        problem.x[active] += step * p
        r -= step * image
        done = np.linalg.norm(r, axis=1) <= problem.targets[active]
        keep = ~(bad | done | (problem.iterations[active] >= problem.limit))
        active, r, p, rz = active[keep], r[keep], p[keep], rz[keep]
        if not len(active):
            return
        z = problem.precondition(r)
        before, rz = rz, _dots(r, z)
        p = z + (rz / before)[:, None] * p


def minres(
    product: Product,
    b: npt.ArrayLike,
    *,
    preconditioner: Product | None = None,
    tolerance: float = 1e-10,
    iterations: int | None = None,
) -> KrylovResult:
    """Solve A x = b by MINRES (Paige & Saunders 1975), A symmetric, definite or not.

    A singular A with b in its range is fine, too. Parameters and what is raised are those of `cg`;
    a preconditioner must be positive definite here as well.

    Returns
    -------
    KrylovResult

    Notes
    -----
    A step costs a product and 15 n operations; for indefinite A the number of steps goes with the
    condition number itself.

    Examples
    --------
    >>> matrix = np.diag([1.0, -2.0, 4.0])
    >>> result = minres(lambda rows: rows @ matrix, [1.0, 1.0, 1.0])
    >>> result.x.round(12), result.reasons
    (array([ 1.  , -0.5 ,  0.25]), ('converged',))
    """
    return _Problem(product, b, preconditioner, tolerance, iterations).refine(_minres_run)


def _minres_run(problem: _Problem, active: npt.NDArray[np.int64], residuals: Array) -> None:
    # Lanczos vectors v (before preconditioning) and y = M⁻¹ v; the QR factors of T by rotations.
    v = residuals.copy()
    y = problem.precondition(v)
    beta = np.sqrt(np.maximum(_dots(v, y), 0))
    good = beta > 0
    for index in active[~good]:  # a preconditioner that is not positive definite
        problem.iterations[index] = problem.limit
    active, v, y, beta = active[good], v[good], y[good], beta[good]
    count = len(active)
    previous = np.zeros_like(v)
    w, w_before = np.zeros_like(v), np.zeros_like(v)
    # The estimate φ of the residual is in the norm of M⁻¹: it is scaled by how that began.
    scale = np.linalg.norm(residuals[good], axis=1) / np.where(beta > 0, beta, 1)
    phi, beta_before = beta.copy(), np.ones(count)
    cosine, sine, epsilon, delta_bar = -np.ones(count), np.zeros(count), np.zeros(count), beta * 0
    first = True
    while len(active):
        q = y / beta[:, None]
        image = problem.product(q)
        problem.iterations[active] += 1
        if not first:
            image -= (beta / beta_before)[:, None] * previous
        alpha = _dots(q, image)
        image -= (alpha / beta)[:, None] * v
        previous, v = v, image
        y = problem.precondition(v)
        beta_before, beta = beta, np.sqrt(np.maximum(_dots(v, y), 0))
        old_epsilon = epsilon
        delta = cosine * delta_bar + sine * alpha
        gamma_bar = sine * delta_bar - cosine * alpha
        epsilon, delta_bar = sine * beta, -cosine * beta
        gamma = np.hypot(gamma_bar, beta)
        singular = gamma == 0
        safe = np.where(singular, 1.0, gamma)
        cosine, sine = np.where(singular, 1.0, gamma_bar / safe), beta / safe
        step = np.where(singular, 0.0, cosine * phi)
        phi = sine * phi
        direction = q - old_epsilon[:, None] * w_before - delta[:, None] * w
        w_before, w = w, direction / safe[:, None]
        problem.x[active] += step[:, None] * w
        done = (phi * scale <= problem.targets[active]) | (beta == 0) | singular
        keep = ~(done | (problem.iterations[active] >= problem.limit))
        if not keep.all():
            active, v, y, previous = active[keep], v[keep], y[keep], previous[keep]
            w, w_before, scale = w[keep], w_before[keep], scale[keep]
            beta, beta_before, phi = beta[keep], beta_before[keep], phi[keep]
            cosine, sine = cosine[keep], sine[keep]
            epsilon, delta_bar = epsilon[keep], delta_bar[keep]
        first = False
