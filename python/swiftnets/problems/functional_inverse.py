"""The functional inverse of the gradient: from a gradient back to the parameters that have it.

`FunctionalInverse` gives it near a point of any `swiftnets.problems.Problem`, as a series from one
factorisation of the Hessian and continued by further ones; `PerceptronInverse` in closed form, as
fast_net uses it. What its terms are is in ``docs/inverse.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array, FloatArray
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.lapack import aside
from swiftnets.linalg.scaling import norm, row_norms
from swiftnets.problems.base import Problem
from swiftnets.problems.computed import hessian, require_finite, trial_gradient
from swiftnets.problems.counted import Counted, take_net_problem
from swiftnets.problems.net import NetProblem
from swiftnets.solve import Factorization, factorize, plan

__all__ = ["FunctionalInverse", "InverseResult", "InverseSeries", "PerceptronInverse"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class InverseSeries:
    """w(t) = Σ wₖ tᵏ with ∇L(w(t)) = (1 − t) ∇L(w₀) + t g, but for terms beyond the order.

    Attributes
    ----------
    coefficients : (order + 1, P) float array
        w₀, w₁, …: w₁ at t = 1 is Newton's step, w₁ + w₂ Chebyshev's.
    """

    coefficients: FloatArray

    @property
    def order(self) -> int:
        """Of the last term."""
        return len(self.coefficients) - 1

    @property
    def radius(self) -> float:
        """How far in t the series seems to converge: the ratio of the last two terms' norms.

        The true radius is the distance to the nearest t, complex ones included, where the Hessian
        is singular.
        """
        if self.order < 2:
            return float("inf")
        last, before = map(float, row_norms(self.coefficients[[-1, -2]]))
        with np.errstate(over="ignore"):
            return float(np.float64(before) / last) if last > 0 else float("inf")

    def __call__(self, t: float) -> FloatArray:
        """w(t)."""
        with np.errstate(over="ignore", invalid="ignore"):
            powers = (float(t) ** np.arange(self.order + 1)).astype(self.coefficients.dtype)
            result: FloatArray = powers @ self.coefficients
        return result


@dataclass(frozen=True, eq=False)
class InverseResult:
    """Parameters found for a gradient.

    Attributes
    ----------
    w : (P,) float array
    residual_norm : float
        The certificate: ‖∇L(w) − g‖, computed from w; for float32 nets in float64.
    residual_norms : (n + 1,) float64 array
        That at the start and after each step.
    success : bool
        Whether it is at most the tolerance.
    status : str
        ``"converged"``, ``"iterations"``, ``"singular"`` (the Hessian became so on the way, to
        rounding), ``"stagnated"`` (no part of a step lowers the residual: rounding, or a fold) or
        ``"overflow"`` (a derivative on the way is not finite).
    """

    w: FloatArray
    residual_norm: float
    residual_norms: Array
    success: bool
    status: str

    @property
    def message(self) -> str:
        """The status in words."""
        return _MESSAGES[self.status]


_MESSAGES = {
    "converged": "the gradient is within the tolerance",
    "iterations": "the limit of iterations is reached",
    "singular": "the Hessian became singular to rounding on the way",
    "stagnated": "no part of a step lowers the residual: rounding, or a fold",
    "overflow": "a derivative on the way is not finite",
}


class FunctionalInverse:
    """The inverse function of ∇L around a point where the Hessian is regular.

    Parameters
    ----------
    problem : Problem
    w : (P,) array_like
        The point: of all parameters with a given gradient, those are found that are connected to
        it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    FloatingPointError
        If the gradient or the Hessian is not finite at w.
    numpy.linalg.LinAlgError
        If the Hessian is singular at w.

    Notes
    -----
    Costs a factorisation: of nets layer by layer where that is cheaper than dense, and dense where
    that does not solve. Each solve is refined with exact products, in float64, until its residual
    is small; if it does not become 1e-6 of the right-hand side, that is a LinAlgError. A series of
    order 3 costs three solves, a Taylor series and a mixed third derivative more.

    Examples
    --------
    >>> from swiftnets.problems import LinearRegression, Rosenbrock
    >>> line = LinearRegression([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [0.0, 2.0, 4.0])
    >>> FunctionalInverse(line, [5.0, 5.0]).solve().w.round(12) + 0.0
    array([0., 2.])
    >>> valley = Rosenbrock(2)
    >>> result = FunctionalInverse(valley, [0.8, 0.6]).solve()
    >>> result.success, result.w.round(12)
    (True, array([1., 1.]))
    """

    def __init__(self, problem: Problem, w: npt.ArrayLike) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem is of type {type(problem).__name__}; expected a Problem")
        self._problem = problem
        self.w: FloatArray = np.array(
            checks.array(w, "w", (problem.parameter_count,), problem.dtype)
        )
        checks.finite(self.w, "w")
        with np.errstate(over="ignore", invalid="ignore"):
            point = problem.at(self.w)
        self.gradient: FloatArray = point.gradient
        require_finite(0.0, self.gradient)  # the loss itself is not asked for
        exact = in_double(problem)
        self._counted = None if exact is None else Counted(exact)
        if self._counted is not None:
            point = self._counted.at(self.w.astype(np.float64))
        self._solver = _Solver(self._counted or problem, self.w, lambda v: v @ point.hessian)
        self._charge()

    def derivative(self, v: npt.ArrayLike) -> FloatArray:
        """That of the inverse function: H⁻¹ v, by the inverse function theorem.

        Parameters
        ----------
        v : (P,) array_like

        Returns
        -------
        (P,) float array

        Raises
        ------
        numpy.linalg.LinAlgError
            If H is singular to rounding.
        """
        vector = self._problem.vector(v, "v")
        checks.finite(vector, "v")
        return self._solve(vector)

    def _solve(self, b: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            x: FloatArray = self._solver(b).astype(self._problem.dtype, copy=False)
        self._charge()
        if not np.isfinite(x).all():
            raise FloatingPointError("a solution with the Hessian is not finite")
        return x

    def _charge(self) -> None:
        """What was asked of the problem in float64 counts as asked of the problem."""
        if self._counted is not None and isinstance(self._problem, Counted):
            self._problem.cost += self._counted.cost
            self._counted.cost = 0.0

    def series(self, g: npt.ArrayLike | None = None, order: int = 3) -> InverseSeries:
        """The path from w to the parameters with gradient g, as a power series.

        Parameters
        ----------
        g : (P,) array_like, optional
            0 by default: a stationary point.
        order : int
            1, 2 or 3.

        Returns
        -------
        InverseSeries

        Raises
        ------
        FloatingPointError
            If a derivative is not finite.
        numpy.linalg.LinAlgError
            If the Hessian is singular to rounding.

        Examples
        --------
        >>> from swiftnets.problems import Quadratic
        >>> FunctionalInverse(Quadratic([[2.0]]), [3.0]).series([2.0], 1)(1.0)
        array([1.])
        """
        order = checks.integer(order, "order", 1, 3)
        target = self._target(g)
        first = self._solve(target - self.gradient)
        terms = [self.w, first]
        with np.errstate(over="ignore", invalid="ignore"):
            if order > 1:
                jet = self._problem.taylor(self.w, first, order).gradient
                second = -self._solve(jet[2])
                terms.append(second)
            if order > 2:
                mixed = self._problem.third(self.w, first, second)
                terms.append(-self._solve(mixed + jet[3]))
        return InverseSeries(np.stack(terms))

    def solve(
        self,
        g: npt.ArrayLike | None = None,
        *,
        order: int = 3,
        tolerance: float = 1e-10,
        max_iterations: int = 50,
    ) -> InverseResult:
        """Parameters with gradient g, continued from w along the path of `series`.

        Each step takes as much of a series as brings the gradient nearer by half of what the path
        predicts, and begins anew there; near the end steps are whole and converge with the order
        of the series plus one.

        Parameters
        ----------
        g : (P,) array_like, optional
            0 by default.
        order : int
            Of the series: 1 is Newton's method.
        tolerance : float
            Of ‖∇L(w) − g‖ in units of that at the start.
        max_iterations : int
            Series, each with its factorisation, at most.

        Returns
        -------
        InverseResult
            Whatever came of it, with its certificate.
        """
        target = self._target(g)
        order = checks.integer(order, "order", 1, 3)
        tolerance = checks.real(tolerance, "tolerance", positive=True)
        limit = checks.integer(max_iterations, "max_iterations")
        here: FunctionalInverse = self
        w, norms = self.w, [norm(self.gradient - target)]
        goal = tolerance * norms[0]
        reason = "iterations"
        try:
            while norms[-1] > goal and len(norms) <= limit:
                found = advance(here._problem, here.series(target, order), target, norms[-1])
                if found is None:
                    reason = "stagnated"
                    break
                w = found[0]
                norms.append(found[1])
                if norms[-1] > goal:
                    here = FunctionalInverse(self._problem, w)
        except np.linalg.LinAlgError:
            reason = "singular"
        except FloatingPointError:
            reason = "overflow"
        exact = self._counted
        if exact is not None:  # a float32 gradient does not see all of its rounding
            norms[-1] = _distance(exact, w.astype(np.float64), target.astype(np.float64))
            self._charge()
            reason = "stagnated" if reason == "iterations" and len(norms) <= limit else reason
        converged = norms[-1] <= goal
        reason = "converged" if converged else reason
        return InverseResult(w, norms[-1], np.array(norms), converged, reason)

    def _target(self, g: npt.ArrayLike | None) -> FloatArray:
        if g is None:
            return np.zeros_like(self.gradient)
        target = self._problem.vector(g, "g")
        checks.finite(target, "g")
        return target

    def __repr__(self) -> str:
        return f"FunctionalInverse({self._problem!r})"


def advance(
    problem: Problem, series: InverseSeries, target: FloatArray, before: float
) -> tuple[FloatArray, float, float] | None:
    """How far along a series the gradient nears the target: w, how near, t; or None."""
    t = 1.0
    for _ in range(40):
        new = series(t)
        size = _distance(problem, new, target)
        # The path predicts 1 − t of the residual.
        if size <= (1 - t / 2) * before:
            return new, size, t
        t /= 2
    return None


def _distance(problem: Problem, w: FloatArray, target: FloatArray) -> float:
    """‖∇L(w) − target‖; NaN where there is no gradient."""
    with np.errstate(over="ignore"):
        return norm(trial_gradient(problem, w) - target)


# Solving with the Hessian -------------------------------------------------------------------------

_SOLVED = 1e-6  # of the right-hand side


def in_double(problem: Problem) -> NetProblem | None:
    """A float32 net's problem in float64, with which products are exact beside the solutions."""
    net = take_net_problem(problem)
    return None if net is None or net.dtype == np.float64 else net.in_float64()


def refined(
    solve: Callable[[Any], Any], product: Callable[[Any], Any], b: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], float]:
    """Solve A x = b, and compute ‖b − A x‖ / ‖b‖ from x.

    Once for the residual of an exact product, as long as that is halved, and no further than
    rounding.

    Parameters
    ----------
    solve, product : callable
        Of a vector: about A⁻¹ of it, and A of it.
    b : (P,) float64 or complex128 array
        Not 0.

    Returns
    -------
    tuple of x, and the error
    """

    def size(v: npt.NDArray[Any]) -> float:
        return math.hypot(norm(v.real), norm(v.imag)) if np.iscomplexobj(v) else norm(v)

    x = solve(b)
    residual = b - product(x)
    smallest = size(b)
    error = size(residual) / smallest
    goal = 0.0  # the first time in any case
    while error > goal:
        new = x + solve(residual)
        residual = b - product(new)
        before, after = error, size(residual) / smallest
        if after < before:
            x, error = new, after
        if not after < before / 2:
            break
        goal = 1e-12
    return x, error


class _Solver:
    """H⁻¹ b at one place, certified: layer by layer where that is cheap and does, else dense."""

    def __init__(
        self, problem: Problem, w: FloatArray, product: Callable[[Any], FloatArray]
    ) -> None:
        self._problem, self._w, self._product = problem, w, product
        layered = self._layered()
        self._is_dense = layered is None
        self._factors = layered or self._dense()

    def _layered(self) -> Factorization | None:
        inner = take_net_problem(self._problem)
        if inner is None or "layered_solve" not in inner.net.supports:
            return None
        net, count, samples = inner.net, inner.parameter_count, inner.sample_count
        dense = 2.0 * samples * count**2 + count**3 / 3
        # The dual form divides by the shift, which here is the net's l2 alone.
        form: Any = "auto" if net.l2 else "primal"
        if plan(net, samples, form=form).operations >= dense:
            return None
        try:
            matrix = inner.at(self._w).hessian
            factors = factorize(matrix, method="layered", form=form)
        except np.linalg.LinAlgError:  # a block of H is singular, or the layers are not trusted
            return None
        return None if _has_zeros(factors) else factors

    def _dense(self) -> Factorization:
        factors = DenseFactorization(hessian(self._problem, self._w))
        if _has_zeros(factors):
            raise np.linalg.LinAlgError("the Hessian at w is singular to rounding")
        return factors

    def __call__(self, b: FloatArray) -> Array:
        b = b.astype(np.float64, copy=False)
        if not np.isfinite(b).all():
            raise FloatingPointError("a derivative at w has numbers that are not finite")
        if not b.any():
            return np.zeros_like(b)
        if not self._is_dense:
            try:
                return self._solved(b)
            except np.linalg.LinAlgError as error:
                try:
                    self._factors, self._is_dense = self._dense(), True
                except MemoryError:
                    raise error from None
        return self._solved(b)

    def _solved(self, b: Array) -> Array:
        def product(v: Array) -> Array:
            image: Array = self._product(v.astype(self._problem.dtype, copy=False))
            return image.astype(np.float64, copy=False)

        x, residual = refined(self._factors.solve, product, b)
        if not residual <= _SOLVED:
            raise np.linalg.LinAlgError(
                "the Hessian at w is singular to rounding: a solve leaves a relative residual of "
                f"{residual:.1e}"
            )
        return x


def _has_zeros(factors: Factorization) -> bool:
    return factors.inertia is not None and factors.inertia.zero > 0


# The perceptron -----------------------------------------------------------------------------------


class PerceptronInverse:
    """The inverse of the gradient of a perceptron in closed form, of minimum norm.

    The net is h = s(x W), s leaky with this slope for negative numbers, its loss ½ ‖h − y‖². Its
    gradient is xᵀ (S ∘ (h − y)), with S the slopes s′. Backwards: from the gradient to h with the
    pseudoinverse of xᵀ, to x W through 1 / S, and to W with that of x: all linear as long as no
    sum changes its sign. At a kink the slope is the one on its left, as everywhere here.

    Parameters
    ----------
    x : (N, inputs) array_like
    y : (N, outputs) array_like
    w : (inputs, outputs) array_like
        Where the slopes S are taken.
    slope : float
        Above 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    Costs one singular value decomposition. Gradients are reached exactly where x has full row rank
    (which needs N ≤ inputs); else the nearest one is, in the sense of x's pseudoinverse.

    Examples
    --------
    >>> x, y = np.eye(2), np.zeros((2, 1))
    >>> inverse = PerceptronInverse(x, y, [[1.0], [-1.0]], slope=0.5)
    >>> inverse.gradient.ravel(), inverse.solve([[2.0], [-0.5]]).w.ravel()
    (array([ 1.  , -0.25]), array([ 2., -2.]))
    """

    def __init__(
        self, x: npt.ArrayLike, y: npt.ArrayLike, w: npt.ArrayLike, slope: float = 0.5
    ) -> None:
        self._x = checks.array(x, "x", ("N", "inputs"))
        self._y = checks.array(y, "y", (len(self._x), "outputs"))
        self.w: Array = checks.array(w, "w", (self._x.shape[1], self._y.shape[1]))
        for name, value in (("x", self._x), ("y", self._y), ("w", self.w)):
            checks.finite(value, name)
        self._slope = checks.real(slope, "slope", positive=True)
        self._slopes = self._slopes_at(self.w)
        long = 20.0 * self._x.size * min(self._x.shape)
        left, values, right = aside(long, np.linalg.svd, self._x, False)
        # As numpy.linalg.matrix_rank: what is below is rounding.
        kept = values > values[0] * max(self._x.shape) * np.finfo(float).eps
        self._inverse: Array = (right[kept].T / values[kept]) @ left[:, kept].T

    def _slopes_at(self, w: Array) -> Array:
        return np.where(self._x @ w > 0, 1.0, self._slope)

    def _gradient_at(self, w: Array) -> Array:
        slopes = self._slopes_at(w)
        result: Array = self._x.T @ (slopes * (slopes * (self._x @ w) - self._y))
        return result

    @property
    def gradient(self) -> Array:
        """At w, (inputs, outputs).

        Raises
        ------
        FloatingPointError
            If it overflows.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return _finite(self._gradient_at(self.w), "the gradient")

    def solve(self, g: npt.ArrayLike) -> InverseResult:
        """The W of minimum norm with this gradient.

        Parameters
        ----------
        g : (inputs, outputs) array_like

        Returns
        -------
        InverseResult
            Its certificate is that of W with its own slopes: large where sums changed their signs.
        """
        g = self._like_w(g, "g")
        w = self._weights(g)
        with np.errstate(over="ignore", invalid="ignore"):
            residual = norm((self._gradient_at(w) - g).ravel())
        # What the products themselves round.
        x = norm(self._x.ravel())
        size = x * (x * norm(w.ravel()) + norm(self._y.ravel())) + norm(g.ravel())
        small = len(w) * float(np.finfo(float).eps) * size
        converged = math.isfinite(residual) and residual <= small
        reason = "converged" if converged else "stagnated"
        return InverseResult(w, residual, np.array([residual]), converged, reason)

    def derivative(self, v: npt.ArrayLike, r: float | None = None) -> Array:
        """That of the inverse function at the gradient, along v (inputs, outputs).

        x⁺ S⁻² x⁺ᵀ v: Newton's step for v = g.

        Parameters
        ----------
        v : (inputs, outputs) array_like
        r : float, optional
            Take the difference quotient over g ± r v / 2 in its place, as the original script.

        Returns
        -------
        (inputs, outputs) float64 array
        """
        v = self._like_w(v, "v")
        if r is None:
            with np.errstate(over="ignore", invalid="ignore"):
                targets = (self._inverse.T @ v) / self._slopes / self._slopes
                return _finite(self._inverse @ targets, "the derivative")
        r = checks.real(r, "r", positive=True)
        g = self.gradient
        with np.errstate(over="ignore", invalid="ignore"):
            quotient = (self._weights(g + r / 2 * v) - self._weights(g - r / 2 * v)) / r
        return _finite(quotient, "the difference quotient")

    def _weights(self, g: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = (self._inverse.T @ g) / self._slopes + self._y
            return _finite(self._inverse @ (outputs / self._slopes), "the solution")

    def _like_w(self, value: npt.ArrayLike, name: str) -> Array:
        array = checks.array(value, name, self.w.shape)
        checks.finite(array, name)
        return array


def _finite(array: Array, what: str) -> Array:
    if not np.isfinite(array).all():
        raise FloatingPointError(f"{what} has numbers that are not finite")
    return array
