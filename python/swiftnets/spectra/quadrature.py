"""Lanczos quadrature: the spectral measures of random vectors as nodes and weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.linalg.lapack import aside, eigh
from swiftnets.linalg.operator import SymmetricOperator
from swiftnets.spectra.eigsh import eigsh
from swiftnets.spectra.given import EPS, Matrix, entries_of, given_matrix, has_structure, images_of

__all__ = [
    "Counted",
    "Pairs",
    "Rule",
    "Runs",
    "counted",
    "eigenvalues",
    "leading",
    "leading_products",
    "sphere",
]


def __dir__() -> list[str]:
    return __all__


class Counted:
    """A symmetric matrix with real entries, in float64, whose products are counted.

    Parameters
    ----------
    operator : SymmetricOperator or (P, P) float64 array

    Attributes
    ----------
    order, products : int
    """

    def __init__(self, operator: SymmetricOperator | Array) -> None:
        self.operator = operator
        self.order: int = len(operator) if isinstance(operator, np.ndarray) else operator.order
        self.products = 0

    @property
    def curvature(self) -> CurvatureMatrix | None:
        """The operator, if it is a curvature matrix."""
        return self.operator if isinstance(self.operator, CurvatureMatrix) else None

    @property
    def is_array(self) -> bool:
        """Whether all entries are there."""
        return isinstance(self.operator, np.ndarray)

    def times(self, rows: Array) -> Array:
        """The matrix times each row (K, P); a FloatingPointError where that is not finite."""
        self.products += len(rows)
        if isinstance(self.operator, SymmetricOperator):
            return images_of(self.operator, rows)
        with np.errstate(over="ignore", invalid="ignore"):
            images: Array = np.asarray(rows @ self.operator, dtype=np.float64)
        if not np.isfinite(images).all():
            raise FloatingPointError("a product with the matrix has numbers that are not finite")
        return images

    @property
    def has_structure(self) -> bool:
        """Whether it is a curvature matrix whose entries need no products."""
        return has_structure(self.curvature)

    @property
    def entry_products(self) -> int:
        """Products that all entries take."""
        return 0 if self.is_array or has_structure(self.operator) else self.order

    def count_entries(self) -> None:
        """Count the products that all entries take."""
        self.products += self.entry_products

    def dense(self) -> Array:
        """All entries; a MemoryError where they do not fit, with the bytes."""
        if isinstance(self.operator, np.ndarray):
            return self.operator
        checks.memory(16 * self.order**2, "the dense matrix")
        self.count_entries()
        return entries_of(self.operator)[0]

    def plus(self, shift: float) -> Counted:
        """The matrix plus a multiple of the identity."""
        if not shift:
            return self
        if isinstance(self.operator, np.ndarray):
            return Counted(self.operator + shift * np.eye(self.order))
        if isinstance(self.operator, CurvatureMatrix):
            return Counted(self.operator + shift)
        return Counted(_Shifted(self.operator, shift))


class _Shifted(SymmetricOperator):
    def __init__(self, operator: SymmetricOperator, shift: float) -> None:
        self.order, self.dtype = operator.order, operator.dtype
        self._operator, self._shift = operator, shift

    def products(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = self._operator.products(rows) + self._shift * rows
        return result

    def dense(self) -> npt.NDArray[Any]:
        entries = entries_of(self._operator)[0]
        entries[np.diag_indices(self.order)] += self._shift
        return entries


def counted(A: Matrix) -> Counted:
    """A user's matrix, whose products are counted; see `given_matrix`."""
    return Counted(given_matrix(A))


def eigenvalues(entries: Array) -> Array:
    """All eigenvalues of a dense symmetric matrix, ascending; Ctrl-C ends it."""
    values: Array = aside(4 * len(entries) ** 3 / 3, np.linalg.eigvalsh, entries)
    return values


def sphere(count: int, order: int, found: Array, rng: np.random.Generator) -> Array:
    """Vectors (count, order) uniform on the unit sphere of what is orthogonal to rows `found`."""
    rows = rng.standard_normal((count, order))
    for _ in range(2):
        rows -= (rows @ found.T) @ found
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    return rows


class Pairs(NamedTuple):
    """Approximate eigenpairs: values (k,), vectors as rows (k, P), and residual norms (k,)."""

    values: Array
    rows: Array
    residual_norms: Array


def leading(matrix: Counted, count: int, rng: np.random.Generator) -> Pairs:
    """Eigenpairs of largest absolute value, for deflation: no proof that none is missing.

    Parameters
    ----------
    matrix : Counted
    count : int
        Pairs at most: those whose residuals are not small beside the norm are left out.
    rng : numpy.random.Generator

    Returns
    -------
    Pairs

    Notes
    -----
    Costs about 5 count + 20 products at most, or where that is cheaper all eigenpairs.
    """
    if count < 1:
        return Pairs(np.empty(0), np.empty((0, matrix.order)), np.empty(0))
    found = eigsh(
        matrix.operator,
        count,
        which="LM",
        tolerance=1e-9,
        certificate=None,
        max_products=leading_products(count),
        seed=int(rng.integers(2**31)),
    )
    matrix.products += found.products
    kept = found.residual_norms <= 1e-5 * float(abs(found.values).max())
    rows = np.ascontiguousarray(found.vectors.T[kept])
    return Pairs(found.values[kept], rows, found.error_bounds[kept])


def leading_products(count: int) -> int:
    """About how many products so many leading pairs take at most."""
    return 5 * count + 20 if count else 0


@dataclass(frozen=True, eq=False)
class Rule:
    """Gauss quadrature of one start's spectral measure.

    Attributes
    ----------
    nodes, weights : (m,) float arrays
        Ascending; the weights' sum is 1.
    reach : tuple of two floats
        How far at most the first and the last node are from an eigenvalue.
    """

    nodes: Array
    weights: Array
    reach: tuple[float, float]

    def integral(self, function: Callable[[Array], Array]) -> float:
        """Of a function over the measure."""
        return float(self.weights @ function(self.nodes))

    def transport(self, low: float, high: float) -> float:
        """A bound on W1 between the start's own measure, on low .. high, and the rule."""
        # Chebyshev, Markov and Stieltjes: beside each node they differ by at most its weight.
        x, w = self.nodes, self.weights
        inner = float(np.diff(x) @ np.maximum(w[1:], w[:-1])) if len(x) > 1 else 0.0
        ends = w[0] * max(x[0] - low, 0.0) + w[-1] * max(high - x[-1], 0.0)
        return inner + float(ends)


class Runs:
    """Lanczos runs side by side from several starts, in the complement of known vectors.

    The three-term recurrence alone: vectors are not kept, and copies of converged Ritz values
    share the weight of one.

    Parameters
    ----------
    matrix : Counted
    starts : (K, P) array
        Unit vectors, orthogonal to `found`.
    found : (k, P) array
        Orthonormal rows.

    Attributes
    ----------
    steps : int
        So far.
    """

    def __init__(self, matrix: Counted, starts: Array, found: Array) -> None:
        self._matrix, self._found = matrix, found
        self._q, self._previous = starts, np.zeros_like(starts)
        self._diagonal: list[Array] = []
        self._off: list[Array] = []
        self._ended = np.full(len(starts), -1)
        self._scale = np.zeros(len(starts))

    @property
    def steps(self) -> int:
        return len(self._diagonal)

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended in an invariant space."""
        return bool((self._ended >= 0).all())

    def advance(self, steps: int, progress: Progress | None = None) -> None:
        """So many more steps of each run, or as many as there are."""
        for _ in range(steps):
            if self.is_complete:
                return
            self._step()
            if progress is not None:
                progress.step()

    def _step(self) -> None:
        q = self._q
        image = self._matrix.times(q)
        if self._off:
            image -= self._off[-1][:, None] * self._previous
        alpha = np.einsum("ij,ij->i", q, image)
        image -= alpha[:, None] * q
        # Last, as what rounding leaves of the known vectors would else grow step by step.
        image -= (image @ self._found.T) @ self._found
        beta = np.linalg.norm(image, axis=1)
        self._scale = np.maximum(self._scale, np.maximum(abs(alpha), beta))
        if not np.isfinite(self._scale).all():
            raise FloatingPointError("a Lanczos coefficient is not finite")
        over = beta <= self._matrix.order * EPS * self._scale
        self._ended[over & (self._ended < 0)] = self.steps + 1
        over |= self._ended >= 0
        beta = np.where(over, 0.0, beta)
        self._diagonal.append(alpha)
        self._off.append(beta)
        self._previous = q
        self._q = image / np.where(over, 1.0, beta)[:, None]
        self._q[over] = 0.0

    def chance_below(self, t: float) -> float:
        """A bound on the probability, over the starts, that an eigenvalue is t or less.

        Parameters
        ----------
        t : float
            Below all Ritz values.

        Returns
        -------
        float

        Notes
        -----
        With Lanczos's polynomials p, (yᵀ v)² Σ p(λ)² ≤ 1 for a unit eigenvector y of λ ≤ t and a
        start v, and Σ p(λ)² ≥ Σ p(t)²; that |yᵀ v| is below s has a probability below s √(2n/π).
        """
        size = self._matrix.order - len(self._found)
        diagonal, off = np.array(self._diagonal), np.array(self._off)
        chance = 1.0
        for run, ended in enumerate(self._ended):
            before, last, total = 0.0, 1.0, 1.0
            for j in range((self.steps if ended < 0 else int(ended)) - 1):
                beta = off[j - 1, run] if j else 0.0
                before, last = last, ((t - diagonal[j, run]) * last - beta * before) / off[j, run]
                total += last * last
                if total > 1e200:
                    break
            # A run that has ended has all eigenvectors but those of which rounding hid the part.
            least = 1 / math.sqrt(total) if ended < 0 else 1e-6
            chance *= min(1.0, least * math.sqrt(2 * size / math.pi))
        return chance

    def rules(self, steps: int | None = None) -> list[Rule]:
        """One for each run, of its first `steps` steps, or of all."""
        diagonal, off = np.array(self._diagonal), np.array(self._off)
        return [
            self._rule(diagonal[:, run], off[:, run], run, steps) for run in range(len(self._q))
        ]

    def _rule(self, diagonal: Array, off: Array, run: int, steps: int | None) -> Rule:
        size = self.steps if steps is None else min(steps, self.steps)
        if self._ended[run] >= 0:
            size = min(size, int(self._ended[run]))
        matrix = np.diag(diagonal[:size])
        places = np.arange(size - 1)
        matrix[places, places + 1] = matrix[places + 1, places] = off[: size - 1]
        values, vectors = eigh(matrix)
        weights = vectors[0] ** 2
        reach = float(off[size - 1]) * abs(vectors[-1])
        return Rule(values, weights / weights.sum(), (float(reach[0]), float(reach[-1])))


def spread(variance: float, order: int, probes: int) -> float:
    """Standard deviation of tr f(A), the mean of order·vᵀ f(A) v over probes v on the sphere.

    Parameters
    ----------
    variance : float
        Of f over the eigenvalues.
    order, probes : int

    Returns
    -------
    float
        Of order times the mean.
    """
    return order * math.sqrt(2 * max(variance, 0.0) / ((order + 2) * probes))
