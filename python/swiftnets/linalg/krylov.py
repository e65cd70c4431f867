"""Conjugate gradients and MINRES for symmetric operators, for one right-hand side or many at once.

Each right-hand side has a recurrence of its own; their products are asked for together, as rows.
What comes back says how good it is: residuals are computed from the solution, not carried along.

Right-hand sides, operator and preconditioner are scaled by powers of two wherever their size could
leave the range of float64 on the way: nothing depends on their units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array, IntegerArray, Product
from swiftnets.linalg.krylov_result import KrylovResult
from swiftnets.linalg.operator import SymmetricOperator, as_product, order_of
from swiftnets.linalg.scaling import exponents, row_norms

__all__ = ["cg", "minres"]


def __dir__() -> list[str]:
    return __all__


Callback: TypeAlias = Callable[[int, float], object]

_EPS = float(np.finfo(np.float64).eps)
# Operators of exponents below are left alone: squares and products of theirs are far from the ends.
_LARGE_EXPONENT = 100
_MOST_ITERATIONS = 10_000
_MOST_FLAT_RUNS = 5
# ‖A r‖ / ‖A‖ ‖r‖ from which on a least-squares solution may be near, and at which it is one: the
# least norm gives r to rounding, and A r to the square root of that.
_NEAR, _LEVEL = 1e-5, 1e-6


class _Low(NamedTuple):
    """An iterate of MINRES with a small ‖A r‖ / ‖A‖ ‖r‖, and with what rounding adds to that."""

    slope: float
    norm: float
    x: Array


class _Problem:
    """Checked and scaled arguments, what is known of each right-hand side, and counts."""

    def __init__(
        self,
        product: Product | SymmetricOperator,
        b: Any,
        preconditioner: Product | None,
        tolerance: Any,
        limit: Any,
        callback: Callback | None,
    ) -> None:
        size = order_of(product) or "n"
        product = as_product(product, "product")
        for function, name in [
            (preconditioner, "preconditioner"),
            (callback, "callback"),
        ]:
            if not callable(function) and function is not None:
                raise TypeError(f"{name} is of type {type(function).__name__}; expected a function")
        self.single = checks.dimensions(b, "b") == 1
        b = checks.array(b, "b", (size,) if self.single else ("k", size))
        checks.finite(b, "b")
        b = b[None] if self.single else b
        self.tolerance = checks.real(tolerance, "tolerance", positive=True)
        count, order = b.shape
        self.limit = (
            default_iterations(order) if limit is None else checks.integer(limit, "max_iterations")
        )
        # Everything below is in these units, and x in those of b over those of A.
        self.units = exponents(b)
        self.b: Array = np.ldexp(b, -self.units[:, None])
        self.operator_units = np.zeros(count, np.int64)
        self.preconditioner_units = np.zeros(count, np.int64)
        self.norms = row_norms(self.b)
        self.targets = self.tolerance * self.norms
        self.aims = self.targets.copy()
        self.x = np.zeros_like(self.b)
        self.iterations = np.zeros(count, np.int64)
        self.reasons = ["iterations"] * count
        self.ends = [""] * count  # of the last run
        self._is_open = np.ones(count, bool)
        self.lows: dict[int, _Low] = {}
        self.slopes = np.zeros(count)  # ‖A r‖ / ‖r‖ where the last run began
        self.flat_runs = np.zeros(count, np.int64)
        self.sizes = np.zeros(count)  # of A, as far as it is known
        self.is_preconditioned = np.full(count, preconditioner is not None)
        self._met = np.zeros((2, count), bool)
        self._product, self._callback = product, callback
        self._preconditioner = (
            None if preconditioner is None else as_product(preconditioner, "preconditioner")
        )

    def product(self, rows: Array, active: IntegerArray) -> Array:
        return self._scaled(self._product, rows, active, "product", self.operator_units, 0)

    def precondition(self, rows: Array, active: IntegerArray) -> Array:
        on = self.is_preconditioned[active]
        if self._preconditioner is None or not on.any():
            return rows
        name, units = "preconditioner", self.preconditioner_units
        if on.all():
            return self._scaled(self._preconditioner, rows, active, name, units, 1)
        result = rows.copy()
        result[on] = self._scaled(self._preconditioner, rows[on], active[on], name, units, 1)
        return result

    def _scaled(
        self,
        function: Product,
        rows: Array,
        active: IntegerArray,
        name: str,
        units: IntegerArray,
        row: int,
    ) -> Array:
        # A copy goes out: what the function does to it, or keeps of it, is no matter here.
        result = returned(function(rows.copy()), name, rows.shape)
        if not self._met[row].all():
            is_new = ~self._met[row, active]
            # The rows that come first are of a size near 1. Even exponents, for the sake of roots.
            found = exponents(result[is_new]) // 2 * 2
            units[active[is_new]] = np.where(abs(found) < _LARGE_EXPONENT, 0, found)
            self._met[row, active] = True
        return np.ldexp(result, -units[active, None]) if units.any() else result

    def end_of_step(self, active: IntegerArray, norms: Array) -> None:
        """Ends what is small enough or has come to the limit, and calls the callback."""
        is_small, is_last = norms <= self.aims[active], self.iterations[active] >= self.limit
        if (is_small | is_last).any():
            self.end(active, is_small, "aim")
            self.end(active, is_last, "iterations")
        if self._callback is not None:
            worst = float((norms / self.norms[active]).max())
            if self._callback(int(self.iterations[active].max()), worst):
                self.end(active, np.ones(len(active), bool), "stopped")

    def end(self, active: IntegerArray, which: npt.NDArray[np.bool_], end: str) -> None:
        """Ends some of the active runs, unless they have ended for another reason."""
        for index in active[which]:
            self.ends[index] = self.ends[index] or end
            self._is_open[index] = False

    def open(self, active: IntegerArray) -> npt.NDArray[np.bool_]:
        """Which go on."""
        return self._is_open[active]

    def refine(
        self, run: Callable[[_Problem, IntegerArray, Array], None], *, of_energy: bool
    ) -> KrylovResult:
        """Run on what is left of the residuals until they are small or fall no more."""
        # An iterate that is the least `of_energy` is kept where its residual has grown, unless that
        # came of rounding.
        norms = self.norms.copy()
        active = np.flatnonzero(norms > 0)
        for index in np.flatnonzero(norms == 0):
            self.reasons[index] = "converged"
        residuals = self.b[active]
        while len(active):
            before = self.x[active]
            for index in active:
                self.ends[index], self._is_open[index] = "", True
            run(self, active, residuals)
            fresh = self.b[active] - self.product(self.x[active], active)
            now = row_norms(fresh)
            self._back_from_null_space(active, fresh, now)
            going = np.zeros(len(active), bool)
            for place, index in enumerate(active):
                end, reason = self.ends[index], ""
                # A least norm is known to rounding only; more than that is what rounding has done.
                is_worse = now[place] > norms[index] * (1 + 1e-6 * (end == "flat"))
                if is_worse and not (of_energy and end in _ENERGY_ENDS):
                    self.x[index], fresh[place] = before[place], residuals[place]
                    now[place] = norms[index]
                    if end == "aim" and self.slopes[index] <= _LEVEL * self.sizes[index]:
                        end = "flat"
                halved = now[place] <= norms[index] / 2
                if now[place] <= self.targets[index]:
                    reason = "converged"
                elif end == "level":
                    reason = "least squares"
                    now[place] = self._shorten(index, fresh[place], now[place])
                elif end == "flat":
                    # The first product of another run will show; one without preconditioner, as
                    # what is least in its norm need not be so in ours.
                    self.flat_runs[index] += 1
                    if self.is_preconditioned[index]:
                        self.is_preconditioned[index], self.sizes[index] = False, 0
                    elif self.flat_runs[index] > _MOST_FLAT_RUNS:
                        reason = "stagnated"
                elif end != "aim":
                    reason = end
                elif not halved:
                    reason = "stagnated"
                norms[index] = now[place]
                self.aims[index] = min(self.targets[index], now[place] / 4)
                self.reasons[index] = reason
                going[place] = not reason
            active, residuals = active[going], fresh[going]
        return self._result(norms)

    def _back_from_null_space(self, active: IntegerArray, fresh: Array, now: Array) -> None:
        """Runs that only grew along A's null space end where they should have."""
        for place, index in enumerate(active.tolist()):
            low = self.lows.pop(index, None)
            if low is None or self.ends[index] != "blown":
                continue
            self.ends[index] = "aim"
            if now[place] > low.norm / 2:
                self.ends[index], self.x[index] = "flat", low.x
                one = np.array([index])
                fresh[place] = self.b[index] - self.product(self.x[one], one)[0]
                now[place] = row_norms(fresh[[place]])[0]

    def _shorten(self, index: Any, residual: Array, norm: float) -> float:
        """The least-squares solution of least norm, from any one in the Krylov space; ‖b − A x‖."""
        # All that its vectors have of A's null space is along the residual (Liu, Milzarek & Roosta
        # 2023). Where that is too inexact for an x so large, x stays.
        x, one = self.x[[index]], np.array([index])
        shorter = x - float(x[0] @ residual) / float(residual @ residual) * residual
        now = float(row_norms(self.b[one] - self.product(shorter, one))[0])
        if now > norm * (1 + 1e-6):
            return norm
        self.x[index] = shorter[0]
        return now

    def _result(self, norms: Array) -> KrylovResult:
        shift = (self.units - self.operator_units)[:, None]
        with np.errstate(over="ignore", under="ignore"):
            x = np.ldexp(self.x, shift)
        exact = (np.ldexp(x, -shift) == self.x).all(axis=1)
        for index in np.flatnonzero(~exact):
            back = np.ldexp(x[index : index + 1], -shift[index])
            norms[index] = np.inf
            if np.isfinite(back).all():
                one = np.array([index])
                norms[index] = row_norms(self.b[one] - self.product(back, one))[0]
            if not norms[index] <= self.targets[index] and self.reasons[index] == "converged":
                self.reasons[index] = "out of range"
        converged = np.array([reason == "converged" for reason in self.reasons])
        with np.errstate(over="ignore", under="ignore"):
            norms = np.ldexp(norms, self.units)
        return KrylovResult(
            x[0] if self.single else x, norms, self.iterations, converged, tuple(self.reasons)
        )


# Ends of runs whose iterate is the least of the quadratic, which the residual need not show.
_ENERGY_ENDS = ("iterations", "negative curvature", "stopped")


def default_iterations(n: int) -> int:
    """The limit where none is given."""
    return min(10 * n, _MOST_ITERATIONS)


def default_tolerance(dtype: np.dtype[Any]) -> float:
    """Of relative residuals, where none is given, by products of this dtype."""
    return 1e-4 if dtype == np.float32 else 1e-10


def returned(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """What a caller's function returned, as finite float64 numbers of the shape expected."""
    raw = checks.unconverted(value, f"what {name} returned")
    if raw.dtype.kind not in "biuf":
        raise TypeError(f"{name} returned dtype {raw.dtype}; expected real numbers")
    result = np.asarray(raw, np.float64)
    if result.shape != shape:
        raise ValueError(f"{name} returned shape {result.shape}; expected {shape}")
    if not np.isfinite(result).all():
        raise FloatingPointError(f"{name} returned numbers that are not finite")
    return result


def cg(
    product: Product | SymmetricOperator,
    b: npt.ArrayLike,
    *,
    preconditioner: Product | None = None,
    tolerance: float = 1e-10,
    max_iterations: int | None = None,
    callback: Callback | None = None,
) -> KrylovResult:
    """Solve A x = b by conjugate gradients (Hestenes & Stiefel 1952), A positive definite.

    Parameters
    ----------
    product : callable
        Takes rows (j, n) and returns A times each, or a `SymmetricOperator`: a point's ``hessian``.
    b : (n,) or (k, n) array_like
        A right-hand side, or k of them as rows.
    preconditioner : callable, optional
        Takes rows (j, n) and returns M⁻¹ times each, M symmetric positive definite and near A.
    tolerance : float
        Ends at ‖b − A x‖ ≤ tolerance ‖b‖.
    max_iterations : int, optional
        Most steps of a right-hand side; by default 10 n, or 10,000 where that is fewer.
    callback : callable, optional
        Called after each step with the number of steps and the largest ‖b − A x‖ / ‖b‖ by the
        recurrences; something true that it returns ends all solves with what they have.

    Returns
    -------
    KrylovResult
        A direction of negative curvature, or of none, ends a solve with what it has: the minimiser
        of the quadratic over the directions before. b = 0 costs nothing.

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
    >>> result.solution.round(12), result.statuses
    (array([1.  , 0.5 , 0.25]), ('converged',))
    """
    problem = _Problem(product, b, preconditioner, tolerance, max_iterations, callback)
    return problem.refine(_cg_run, of_energy=True)


def _dots(a: Array, b: Array) -> Array:
    result: Array = np.einsum("kn,kn->k", a, b)
    return result


def _rounding(n: int) -> float:
    """What is 0 in the product of two vectors of norm 1."""
    return _EPS * max(10.0, float(np.sqrt(n)))


def _cg_run(problem: _Problem, active: IntegerArray, residuals: Array) -> None:
    few = _rounding(residuals.shape[1])
    r = residuals
    z = problem.precondition(r, active)
    p, rz = z, _dots(r, z)
    problem.end(active, ~(rz > 0), "indefinite preconditioner")
    square = rz  # p · M p
    while True:
        keep = problem.open(active)
        if not keep.all():
            active = active[keep]
            r, p, rz, square = (part[keep] for part in (r, p, rz, square))
        if not len(active):
            return
        image = problem.product(p, active)
        curvature = _dots(p, image)
        problem.iterations[active] += 1
        quotient = curvature / square
        sizes = problem.sizes[active] = np.maximum(problem.sizes[active], abs(quotient))
        is_bad = ~(quotient > few * sizes)
        if is_bad.any():
            problem.end(active, is_bad & (quotient >= -few * sizes), "singular")
            problem.end(active, is_bad, "negative curvature")
        step = np.where(is_bad, 0.0, rz / np.where(is_bad, 1.0, curvature))[:, None]
        problem.x[active] += step * p
        r = r - step * image
        z = problem.precondition(r, active)
        before, rz = rz, _dots(r, z)
        norms = np.sqrt(rz if z is r else _dots(r, r))
        problem.end_of_step(active, norms)
        problem.end(active, ~(rz > 0), "indefinite preconditioner")
        ratio = rz / before
        p = z + ratio[:, None] * p
        square = rz + ratio**2 * square


def minres(
    product: Product | SymmetricOperator,
    b: npt.ArrayLike,
    *,
    preconditioner: Product | None = None,
    tolerance: float = 1e-10,
    max_iterations: int | None = None,
    callback: Callback | None = None,
) -> KrylovResult:
    """Solve A x = b by MINRES (Paige & Saunders 1975), A symmetric, definite or not.

    Parameters
    ----------
    product : callable
        Takes rows (j, n) and returns A times each, or a `SymmetricOperator`.
    b : (n,) or (k, n) array_like
        A right-hand side, or k of them as rows.
    preconditioner : callable, optional
        Takes rows (j, n) and returns M⁻¹ times each, M symmetric positive definite and near A in
        modulus.
    tolerance : float
        Ends at ‖b − A x‖ ≤ tolerance ‖b‖.
    max_iterations : int, optional
        Most steps of a right-hand side; by default 10 n, or 10,000 where that is fewer.
    callback : callable, optional
        As of `cg`.

    Returns
    -------
    KrylovResult
        For a singular A with b in its range a solution; with b not in its range the least-squares
        solution, ``"least squares"``, which is not convergence. Without a preconditioner these are
        the ones of least norm, for matrices whose eigenvalues other than 0 are far above 1e-6 ‖A‖.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or a function returns another shape.
    FloatingPointError
        If a product is not finite.

    Notes
    -----
    A step costs a product and 15 n operations; for indefinite A the number of steps goes with the
    condition number itself. A least-squares solution under a preconditioner is gone on with
    without it, as it minimises another norm.

    Examples
    --------
    >>> matrix = np.diag([1.0, -2.0, 4.0])
    >>> result = minres(lambda rows: rows @ matrix, [1.0, 1.0, 1.0])
    >>> result.solution.round(12), result.statuses
    (array([ 1.  , -0.5 ,  0.25]), ('converged',))
    >>> result = minres(lambda rows: rows @ np.diag([1.0, 0.0]), [1.0, -1.0])
    >>> result.solution.round(12) + 0.0, result.statuses
    (array([1., 0.]), ('least squares',))
    """
    problem = _Problem(product, b, preconditioner, tolerance, max_iterations, callback)
    return problem.refine(_minres_run, of_energy=False)


def _look(problem: _Problem, active: IntegerArray, slopes: Array, phi: Array) -> None:
    """Notes the iterates at which ‖A r‖ is least beside ‖A‖ ‖r‖, once that is small.

    Where b is not in the range of A, rounding lets a run come to √ε of the least-squares solution.
    After that x grows along the null space, without end, while the residual stays: such a run ends
    where A x is but rounding.
    """
    for index, slope, norm in zip(active.tolist(), slopes, phi, strict=True):
        noise = _EPS * float(problem.sizes[index] * row_norms(problem.x[[index]])[0])
        low, total = problem.lows.get(index), slope + noise / norm
        if total <= low.slope if low else slope <= _NEAR:
            problem.lows[index] = _Low(total, norm, problem.x[index].copy())
        elif low and 10 * noise > norm:
            problem.end(np.array([index]), np.ones(1, bool), "blown")


def _minres_run(problem: _Problem, active: IntegerArray, residuals: Array) -> None:
    # Lanczos vectors v (before preconditioning) and y = M⁻¹ v; the QR factors of T by rotations.
    few = _rounding(residuals.shape[1])
    v = residuals
    y = problem.precondition(v, active)
    square = _dots(v, y)
    problem.end(active, ~(square > 0), "indefinite preconditioner")
    beta = np.sqrt(np.maximum(square, 0))
    # φ is the residual's norm in that of M⁻¹; under a preconditioner the residual is kept, too.
    is_tracked = bool(problem.is_preconditioned[active].any())
    rest = v if is_tracked else v[:, :0]
    count = len(active)
    previous = np.zeros_like(v)
    w, w_before = np.zeros_like(v), np.zeros_like(v)
    phi, beta_before = beta, np.ones(count)
    cosine, sine, epsilon, delta_bar = -np.ones(count), np.zeros(count), np.zeros(count), beta * 0
    first = True
    while True:
        keep = problem.open(active)
        if not keep.all():
            active = active[keep]
            v, y, previous, w, w_before, rest = (
                part[keep] for part in (v, y, previous, w, w_before, rest)
            )
            beta, beta_before, phi, cosine, sine, epsilon, delta_bar = (
                part[keep] for part in (beta, beta_before, phi, cosine, sine, epsilon, delta_bar)
            )
        if not len(active):
            return
        q = y / beta[:, None]
        image = problem.product(q, active)
        problem.iterations[active] += 1
        # Into an array of our own: the image is the caller's.
        own = (beta / beta_before)[:, None] * previous
        np.subtract(image, own, out=own)
        alpha = _dots(q, own)
        own -= (alpha / beta)[:, None] * v
        previous, v = v, own
        y = problem.precondition(v, active)
        square = _dots(v, y)
        # Where v is rounding itself, the sign of what comes of it says nothing.
        if (square < 0).any():
            is_indefinite = square < -1e-8 * row_norms(v) * row_norms(y)
            problem.end(active, is_indefinite, "indefinite preconditioner")
        column = 0 if first else beta
        beta_before, beta = beta, np.sqrt(np.maximum(square, 0))
        sizes = problem.sizes[active] = np.maximum(
            problem.sizes[active], np.sqrt(column**2 + alpha**2 + beta**2)
        )
        old_epsilon = epsilon
        delta = cosine * delta_bar + sine * alpha
        gamma_bar = sine * delta_bar - cosine * alpha
        epsilon, delta_bar = sine * beta, -cosine * beta
        # ‖A r‖ / ‖r‖ of the residual before this step.
        root = np.hypot(gamma_bar, delta_bar)
        if first:
            problem.slopes[active] = root
            is_level = (root <= _LEVEL * sizes) & (problem.flat_runs[active] > 0)
            problem.end(active, is_level & ~problem.is_preconditioned[active], "level")
        if problem.lows or (root <= _NEAR * sizes).any():
            problem.end(active, root <= few * sizes, "flat")
            _look(problem, active, root / np.where(sizes > 0, sizes, 1), phi)
        gamma = np.hypot(gamma_bar, beta)
        keep = problem.open(active)
        if not keep.all():  # these stay as they are
            gamma = np.where(keep, gamma, np.inf)
        cosine, sine = gamma_bar / gamma, beta / gamma
        step = cosine * phi
        phi = sine * phi if keep.all() else np.where(keep, sine * phi, phi)
        w_before *= old_epsilon[:, None]
        np.subtract(q, w_before, out=w_before)
        w_before -= delta[:, None] * w
        w_before /= gamma[:, None]
        w_before, w = w, w_before
        problem.x[active] += step[:, None] * w
        norms = phi
        if is_tracked:
            scale = phi * cosine / np.where(beta > 0, beta, 1)
            rest = np.where(keep, sine, 1)[:, None] ** 2 * rest - scale[:, None] * v
            norms = row_norms(rest)
        problem.end_of_step(active, norms)
        if not beta.all():
            problem.end(active, beta == 0, "flat")
        first = False
