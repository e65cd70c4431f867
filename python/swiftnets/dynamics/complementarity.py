"""The semidefinite complementarity problem whose solution holds a training run at its edge."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array, FloatArray
from swiftnets.linalg.lapack import aside
from swiftnets.linalg.scaling import exponent

__all__ = ["Complementarity", "places", "smat", "solve_checked", "solve_sdcp", "svec"]


def __dir__() -> list[str]:
    return __all__


_GOOD = 1e-9  # what a solution's residuals are at most, or there is none
# Where B[X] cancels against itself its rounding is more; so much counts, and no more.
_ROUNDING, _WORST = 64 * float(np.finfo(np.float64).eps), 1e-6
_SQRT2 = math.sqrt(2.0)
_NEWTON, _HALVINGS, _POLISH = 50, 12, 6
_INTERIOR, _MU = 100, 1e-13
_FAR = 200  # binary orders of magnitude: norms of matrices further from 1 may not be numbers


@dataclass(frozen=True, eq=False)
class Complementarity:
    """A solution of a semidefinite complementarity problem; made by `solve_sdcp`.

    Attributes
    ----------
    X : (k, k) float64 array
    S : (k, k) float64 array
        A + B[X].
    residuals : tuple of three floats
        How far X is from positive semidefinite, relative to ‖X‖; how far S is, relative to ‖A‖; and
        abs(⟨X, S⟩) / (‖X‖ ‖A‖). All of the X that is returned, in the problem as it was given.
    iterations : int
        Of either method.
    method : {"closed form", "newton", "interior point"}
        That found X.
    """

    X: Array
    S: Array
    residuals: tuple[float, float, float]
    iterations: int
    method: str


# Symmetric matrices as vectors --------------------------------------------------------------------


@functools.cache
def places(k: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array, Array]:
    """Rows and columns of the upper triangle, the factors √2, and the basis (K, k, k).

    Parameters
    ----------
    k : int

    Returns
    -------
    tuple of arrays
        Not to be changed.
    """
    rows, columns = np.triu_indices(k)
    factors = np.where(rows == columns, 1.0, _SQRT2)
    basis = np.zeros((len(rows), k, k))
    basis[np.arange(len(rows)), rows, columns] = 1 / factors
    basis[np.arange(len(rows)), columns, rows] = 1 / factors
    return rows, columns, factors, basis


def svec(X: Array) -> Array:
    """A symmetric matrix (k, k) as a vector of k (k + 1) / 2 numbers with the same inner product.

    Parameters
    ----------
    X : (k, k) array

    Returns
    -------
    array
        The upper triangle row by row, times √2 off the diagonal.
    """
    rows, columns, factors, _ = places(len(X))
    vector: Array = X[rows, columns] * factors
    return vector


def smat(x: Array) -> Array:
    """The matrix that `svec` makes x of.

    Parameters
    ----------
    x : (k (k + 1) / 2,) array

    Returns
    -------
    (k, k) array
    """
    k = (math.isqrt(8 * len(x) + 1) - 1) // 2
    rows, columns, factors, _ = places(k)
    X = np.empty((k, k))
    X[rows, columns] = X[columns, rows] = x / factors
    return X


def _sandwich(W: Array) -> Array:
    """The matrix of X to W X W for `svec`."""
    basis = places(len(W))[3]
    images = W @ basis @ W
    count = len(basis)
    matrix: Array = basis.reshape(count, -1) @ images.reshape(count, -1).T
    return matrix


# The problem --------------------------------------------------------------------------------------


def solve_sdcp(
    A: npt.ArrayLike, B: npt.ArrayLike, *, start: npt.ArrayLike | None = None
) -> Complementarity:
    """Find X ≥ 0 with S = A + B[X] ≥ 0 and ⟨X, S⟩ = 0, in the order of semidefinite matrices.

    By a semismooth Newton method [1]_, and by an interior-point method of Nesterov and Todd's
    direction [2]_ where that does not get there; the answer's residuals are computed from it.

    Parameters
    ----------
    A : (k, k) array_like
        Symmetric.
    B : (K, K) array_like
        Symmetric and positive semidefinite, for K = k (k + 1) / 2: a linear map of symmetric
        matrices in the coordinates of the upper triangle, row by row, entries off the diagonal
        times √2.
    start : (k, k) array_like, optional
        Symmetric; near the solution, such as that of the problem before.

    Returns
    -------
    Complementarity

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above.
    numpy.linalg.LinAlgError
        If no X was found with residuals up to 1e-9, or to what the rounding of B[X] allows, at most
        1e-6. With a singular B there may be none.
    FloatingPointError
        If X is too large, or too small, for float64.

    Notes
    -----
    Costs some K³ operations an iteration: microseconds for k up to 4. Where B is singular X need
    not be unique.

    References
    ----------
    .. [1] D. Sun and J. Sun, "Semismooth matrix-valued functions", Math. Oper. Res. 27, 2002.
    .. [2] M. J. Todd, K. C. Toh and R. H. Tütüncü, "On the Nesterov–Todd direction in semidefinite
       programming", SIAM J. Optim. 8, 1998.

    Examples
    --------
    >>> found = solve_sdcp(np.diag([-2.0, 1.0]), np.eye(3))
    >>> found.X
    array([[2., 0.],
           [0., 0.]])
    >>> max(found.residuals) <= 1e-9
    True
    """
    A = checks.array(A, "A", ("k", "k"))
    k = len(A)
    A = _symmetric(checks.array(A, "A", (k, k)), "A")
    count = k * (k + 1) // 2
    B = _symmetric(checks.array(B, "B", (count, count)), "B")
    values: Array = aside(4 * len(B) ** 3 / 3, np.linalg.eigvalsh, B)
    least, most = float(values[0]), float(values[-1])
    if least < -1e-10 * max(most, -least):
        raise ValueError(
            f"B has the eigenvalue {least:.3g} beside {most:.3g}; expected a positive semidefinite "
            "matrix"
        )
    if start is not None:
        start = _symmetric(checks.array(start, "start", (k, k)), "start")
    return solve_checked(A, B, start)


def _symmetric(matrix: Array, name: str) -> Array:
    checks.finite(matrix, name)
    difference = float(np.abs(matrix - matrix.T).max())
    if difference > 1e-8 * float(np.abs(matrix).max()):
        raise ValueError(
            f"{name} differs from its transpose by {difference:.3g}; expected a symmetric matrix"
        )
    half: Array = (matrix + matrix.T) / 2
    return half


def solve_checked(
    A: Array, B: Array, start: Array | None = None, unit: float = 0.0
) -> Complementarity:
    """As `solve_sdcp`, of arguments that are known to be good.

    Parameters
    ----------
    A, B, start : arrays
    unit : float
        Where ‖A‖ is below this, residuals are good that would be with that norm.

    Returns
    -------
    Complementarity

    Raises
    ------
    numpy.linalg.LinAlgError
        As there.
    FloatingPointError
        As there.
    """
    k = len(A)
    zero = np.zeros_like(A)
    if not A.diagonal().min() < 0 and float(np.linalg.eigvalsh(A)[0]) >= 0:
        return Complementarity(zero, A.copy(), (0.0, 0.0, 0.0), 0, "closed form")
    diagonal = B.diagonal()[_diagonal(k)]
    largest = float(np.abs(B).max())
    if not largest > 0:
        raise np.linalg.LinAlgError("A has a negative eigenvalue and B is 0: there is no solution")
    a_exponent, b_exponent = exponent(A), exponent(B)
    if max(abs(a_exponent), abs(b_exponent)) > _FAR:
        return _rescaled(A, B, start, unit, a_exponent, b_exponent)
    if k == 1:
        X = -A / B
        return Complementarity(X, *_checked(A, B, X), 0, "closed form")
    # Each B_(ii,ii) to 1, then both to norm 1.
    d = np.maximum(diagonal, 1e-12 * largest) ** -0.25
    rows, columns, _, _ = places(k)
    pairs = d[rows] * d[columns]
    scaled_A = A * np.outer(d, d)
    scaled_B = B * np.outer(pairs, pairs)
    a, b = _norm(scaled_A), _norm(scaled_B)
    problem = _Problem(svec(scaled_A) / a, scaled_B / b)
    x = np.zeros(len(B))
    if start is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            near = svec(start / np.outer(d, d)) * (b / a)
            if math.isfinite(near @ near):  # else it is far off
                x = near

    best: Complementarity | None = None
    limit = _GOOD * max(1.0, unit / _norm(A))
    iterations = 0
    for method, solve in (("newton", problem.newton), ("interior point", problem.interior)):
        x, F, steps = solve(x)
        iterations += steps
        for answer in (x - F, x):  # the positive part of x - A - B[x], which a solution is
            X = smat(answer) * (a / b) * np.outer(d, d)
            S, residuals = _checked(A, B, X)
            if best is None or max(residuals) < max(best.residuals):
                best = Complementarity(X, S, residuals, iterations, method)
            # In the scaled problem ‖A‖ and ‖B‖ are 1.
            rounding = _ROUNDING * _norm(answer)
            if max(residuals) <= max(limit, min(_WORST, rounding)):
                return best
    assert best is not None
    raise np.linalg.LinAlgError(
        "no solution of the complementarity problem was found: the residuals are "
        f"{', '.join(f'{r:.1e}' for r in best.residuals)}, over {_GOOD:.0e}; with a singular B "
        "there may be none"
    )


def _rescaled(
    A: Array, B: Array, start: Array | None, unit: float, a: int, b: int
) -> Complementarity:
    """By way of A / 2ᵃ and B / 2ᵇ, which are near 1."""
    small_A, small_B = np.ldexp(A, -a), np.ldexp(B, -b)
    with np.errstate(over="ignore", under="ignore"):
        near = None if start is None else np.ldexp(start, b - a)
        if near is not None and not np.isfinite(near).all():
            near = None
        found = solve_checked(small_A, small_B, near, float(np.ldexp(unit, -a)))
        X, S = np.ldexp(found.X, a - b), np.ldexp(found.S, a)
        back = np.ldexp(X, b - a)  # without the digits that X has lost
    _, residuals = _checked(small_A, small_B, back)
    if not max(residuals) <= max(_WORST, *found.residuals):
        raise FloatingPointError(
            f"X is some 2^{a - b + exponent(found.X)}, which float64 does not hold to {_WORST:.0e}"
        )
    return Complementarity(X, S, residuals, found.iterations, found.method)


@functools.cache
def _diagonal(k: int) -> npt.NDArray[np.intp]:
    """Where the diagonal's entries are."""
    rows, columns, _, _ = places(k)
    return np.flatnonzero(rows == columns)


def _checked(A: Array, B: Array, X: Array) -> tuple[Array, tuple[float, float, float]]:
    """A + B[X], and what the answer misses; infinite where it is not finite."""
    if not np.isfinite(X).all():
        return np.full_like(A, math.nan), (math.inf, math.inf, math.inf)
    S = A + smat(B @ svec(X))
    size, target = _norm(X), _norm(A)
    lowest, least = np.linalg.eigvalsh(np.array([X, S]))[:, 0].tolist()
    own = max(0.0, -lowest) / size if size else 0.0
    slack = max(0.0, -least) / target
    inner = abs(float(np.vdot(X, S))) / (size * target) if size else 0.0
    # A NaN would pass for small wherever it is compared.
    return S, tuple(math.inf if math.isnan(r) else r for r in (own, slack, inner))  # type: ignore[return-value]


def _norm(array: Array) -> float:
    """Frobenius's."""
    return math.sqrt(np.vdot(array, array))


class _Problem:
    """A and B of norm 1, in the coordinates of `svec`."""

    def __init__(self, a: Array, B: Array) -> None:
        self._a, self._B = a, B
        self._unit = np.eye(len(a))
        self._basis = places(len(smat(a)))[3]

    def _value(self, x: Array) -> tuple[Array, Array, Array]:
        """F(x) = x − (x − a − B x)⁺, and the eigenpairs that its derivative is made of."""
        values, vectors = np.linalg.eigh(smat(x - self._a - self._B @ x))
        positive = svec((vectors * np.maximum(values, 0)) @ vectors.T)
        return x - positive, values, vectors

    def _direction(self, F: Array, values: Array, vectors: Array, *, least: bool = False) -> Array:
        """Newton's step; where it is not unique the least, if asked for."""
        operations = (24.0 if least else 5.0) * len(F) ** 3
        return aside(operations, self._step, F, values, vectors, least)

    def _step(self, F: Array, values: Array, vectors: Array, least: bool) -> Array:
        if values[0] > 0 and not least:  # S is to be 0, and nothing is projected
            near: FloatArray = np.linalg.solve(self._B, -F)
            return near
        plus = np.maximum(values, 0)
        size = np.abs(values)
        total = np.add.outer(size, size)
        # Two zeros: any number between 0 and 1 is of the generalised derivative.
        quotients = np.where(total > 0, np.add.outer(plus, plus) / np.maximum(total, 1e-300), 0.5)
        turned = (vectors.T @ self._basis @ vectors).reshape(len(F), -1)
        D = turned @ (quotients.reshape(-1, 1) * turned.T)
        J = self._unit - D @ (self._unit - self._B)
        step: FloatArray = np.linalg.lstsq(J, -F)[0] if least else np.linalg.solve(J, -F)
        return step

    def newton(self, x: Array) -> tuple[Array, Array, int]:
        """From x, with steps halved until the residual falls; what was reached, F there, steps."""
        F, *pairs = self._value(x)
        size = _norm(F)
        for step in range(_NEWTON):
            if size <= 1e-15 * (1 + _norm(x)):
                return x, F, step
            try:
                direction = self._direction(F, *pairs)
            except np.linalg.LinAlgError:
                return x, F, step
            length = 1.0
            for _ in range(_HALVINGS):
                trial = x + length * direction
                value, *others = self._value(trial)
                reached = _norm(value)
                if reached <= (1 - 0.1 * length) * size:
                    break
                length /= 2
            else:
                return x, F, step
            x, F, pairs, size = trial, value, others, reached
        return x, F, _NEWTON

    def interior(self, _: Array) -> tuple[Array, Array, int]:
        """From well inside, by a predictor and a corrector; then Newton's undamped steps."""
        a, B = self._a, self._B
        k = len(smat(a))
        middle: Array = aside(len(a) ** 3, np.linalg.solve, B + 1e-6 * self._unit, a)
        x = svec(np.eye(k)) * max(1.0, float(np.linalg.norm(middle)) / math.sqrt(k))
        s = a + B @ x
        lowest = float(np.linalg.eigvalsh(smat(s))[0])
        if lowest <= 0.1:
            s = s + svec(np.eye(k)) * (1.0 - lowest)
        steps = 0
        for steps in range(1, _INTERIOR + 1):  # noqa: B007 (it is returned)
            residual = a + B @ x - s
            mu = float(x @ s) / k
            rounding = max(_MU, _ROUNDING * _norm(x))
            if mu <= _MU and _norm(residual) <= rounding:
                break
            try:
                x, s = aside(2.0 * len(x) ** 3, self._interior_step, x, s, residual, mu, k)
            except np.linalg.LinAlgError:
                break
        F, *pairs = self._value(x)
        for _polish in range(_POLISH):
            try:
                trial = x + self._direction(F, *pairs, least=True)
            except np.linalg.LinAlgError:
                break
            value, *others = self._value(trial)
            if not _norm(value) < _norm(F):
                break
            x, F, pairs = trial, value, others
        return x, F, steps

    def _interior_step(
        self, x: Array, s: Array, residual: Array, mu: float, k: int
    ) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(smat(x))
        if not values[0] > 0:
            raise np.linalg.LinAlgError("X has left the interior")
        root = (vectors * np.sqrt(values)) @ vectors.T
        inverse_root = (vectors / np.sqrt(values)) @ vectors.T
        inner_values, inner = np.linalg.eigh(root @ smat(s) @ root)
        geometric = (inner * np.sqrt(np.maximum(inner_values, 0))) @ inner.T
        system = self._B + _sandwich(inverse_root @ geometric @ inverse_root)
        inverse = svec(inverse_root @ inverse_root)

        def directions(sigma: float) -> tuple[Array, Array, float]:
            dx: FloatArray = np.linalg.solve(system, sigma * mu * inverse - s - residual)
            ds = self._B @ dx + residual
            return dx, ds, min(_to_boundary(x, dx), _to_boundary(s, ds))

        dx, ds, length = directions(0.0)
        length = min(1.0, length)
        reached = float((x + length * dx) @ (s + length * ds)) / k
        dx, ds, length = directions(min(1.0, max(reached, 0.0) / mu) ** 3)
        length = min(1.0, 0.95 * length)
        return x + length * dx, s + length * ds


def _to_boundary(x: Array, dx: Array) -> float:
    """The largest t with x + t dx still positive semidefinite."""
    values, vectors = np.linalg.eigh(smat(x))
    if not values[0] > 0:
        raise np.linalg.LinAlgError("outside of the interior")
    inverse_root = vectors / np.sqrt(values)
    lowest = float(np.linalg.eigvalsh(inverse_root.T @ smat(dx) @ inverse_root)[0])
    return math.inf if lowest >= 0 else -1 / lowest
