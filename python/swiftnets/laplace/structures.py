"""Precision matrices of Gaussian posteriors, each with what it is cheap at: solves and roots.

Λ is the precision, S = Λ⁻¹ the covariance, and R a root, R Rᵀ = S: R times white noise is a sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.kronecker import KroneckerFactors
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.linalg.lapack import aside, eigh
from swiftnets.solve.layered import LayeredFactorization

__all__ = ["CholeskyRoot", "DensePrecision", "Diagonal", "FactoredMatrix", "Kronecker", "Precision"]


def __dir__() -> list[str]:
    return __all__


_BLOCK = 96  # rows of a triangle that are solved for at once
_CHUNK = 2**22  # numbers of vectors that are worked on at once
_REFINED = 3  # corrections of layered solves, at most


class Precision(ABC):
    """A precision matrix Λ, of the parameters in a slice of the vector.

    Attributes
    ----------
    order : int
        P, of the matrix.
    """

    order: int

    @property
    @abstractmethod
    def log_determinant(self) -> float:
        """Of Λ."""

    @abstractmethod
    def solve(self, rows: Array) -> Array:
        """S times each row.

        Parameters
        ----------
        rows : (K, P) array

        Returns
        -------
        (K, P) array
        """

    @abstractmethod
    def half(self, rows: Array) -> Array:
        """R times each row: of white noise, samples.

        Parameters
        ----------
        rows : (K, P) array

        Returns
        -------
        (K, P) array
        """

    @property
    @abstractmethod
    def variances(self) -> Array:
        """The diagonal of S."""

    @property
    def trace_of_inverse(self) -> float:
        """tr S."""
        return float(self.variances.sum())

    def half_columns(self) -> Array:
        """R's columns, as rows.

        Returns
        -------
        (P, P) array
        """
        checks.memory(16 * self.order**2, "a root of the posterior covariance")
        return self.half(np.eye(self.order))


class CholeskyRoot:
    """The Cholesky factor L of a positive definite matrix, and solves with it and with Lᵀ.

    Parameters
    ----------
    matrix : (P, P) array

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite to rounding.
    """

    def __init__(self, matrix: Array) -> None:
        self._lower: Array = aside(len(matrix) ** 3 / 3, np.linalg.cholesky, matrix)

    @property
    def log_determinant(self) -> float:
        """Of the matrix."""
        return 2 * float(np.log(self._lower.diagonal()).sum())

    def forward(self, rows: Array) -> Array:
        """L⁻¹ times each row."""
        lower, x = self._lower, rows.T.copy()
        for first in range(0, len(lower), _BLOCK):
            here = slice(first, first + _BLOCK)
            x[here] = np.linalg.solve(lower[here, here], x[here])
            x[first + _BLOCK :] -= lower[first + _BLOCK :, here] @ x[here]
        return np.ascontiguousarray(x.T)

    def backward(self, rows: Array) -> Array:
        """L⁻ᵀ times each row."""
        lower, x = self._lower, rows.T.copy()
        for first in range((len(lower) - 1) // _BLOCK * _BLOCK, -1, -_BLOCK):
            here = slice(first, first + _BLOCK)
            x[here] = np.linalg.solve(lower[here, here].T, x[here])
            x[:first] -= lower[here, :first].T @ x[here]
        return np.ascontiguousarray(x.T)

    def variances(self) -> Array:
        """The diagonal of the inverse: sums of squares of L⁻¹'s columns."""
        count = len(self._lower)
        found, step = np.empty(count), max(1, _CHUNK // count)
        for first in range(0, count, step):
            rows = np.zeros((min(step, count - first), count))
            rows[np.arange(len(rows)), np.arange(first, first + len(rows))] = 1
            found[first : first + step] = (self.forward(rows) ** 2).sum(axis=1)
        return found


class DensePrecision(Precision):
    """Λ entry by entry.

    Parameters
    ----------
    matrix : (P, P) array
        Positive definite.
    """

    def __init__(self, matrix: Array) -> None:
        self.order = len(matrix)
        self._root = CholeskyRoot(matrix)

    @property
    def log_determinant(self) -> float:
        return self._root.log_determinant

    def solve(self, rows: Array) -> Array:
        return self._root.backward(self._root.forward(rows))

    def half(self, rows: Array) -> Array:
        return self._root.backward(rows)

    @cached_property
    def variances(self) -> Array:
        return self._root.variances()


class FactoredMatrix(Precision):
    """Λ = scale (A + shift) of a curvature matrix, solved by our factors.

    They prove the inertia. They have no half-solves, so roots are from a dense Cholesky
    factorisation, which is made when first needed.

    Parameters
    ----------
    matrix : CurvatureMatrix
        With the shift, of a point in float64.
    scale : float

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite, which is proved, or singular to working precision.
    """

    def __init__(self, matrix: CurvatureMatrix, scale: float) -> None:
        self.order, self._matrix, self._scale = matrix.order, matrix, scale
        title = f"the {matrix.kind.title} of the negative log posterior"
        try:
            self.factors = matrix.factorize()
        except np.linalg.LinAlgError as error:
            error.add_note(f"That is {title}.")
            raise
        found = self.factors.inertia
        if found is None or found.negative or found.zero:
            figures = "" if found is None else f"{found.negative} negative and {found.zero} zero "
            raise np.linalg.LinAlgError(
                f"{title} has {figures}eigenvalues of {self.order}; expected a strict minimum, "
                "where all are positive: see swiftnets.laplace.mode, or a larger prior_precision"
            )

    @cached_property
    def _root(self) -> CholeskyRoot:
        checks.memory(24 * self.order**2, "the dense posterior precision and its Cholesky factor")
        return CholeskyRoot(self._matrix.dense() * self._scale)

    @cached_property
    def log_determinant(self) -> float:
        found = self.factors.log_determinant
        if found is None:  # the factors' may be off by more than a thousandth
            return self._root.log_determinant
        return found + self.order * float(np.log(self._scale))

    def solve(self, rows: Array) -> Array:
        x: Array = self.factors.solve(rows)
        if isinstance(self.factors, LayeredFactorization):
            for _ in range(_REFINED):
                change = self.factors.solve(rows - self._matrix.products(x))
                x += change
                if not abs(change).max() > 1e-13 * abs(x).max():
                    break
        return x / self._scale

    def half(self, rows: Array) -> Array:
        return self._root.backward(rows)

    @cached_property
    def variances(self) -> Array:
        return self._root.variances()


class Diagonal(Precision):
    """Λ with its diagonal alone.

    Parameters
    ----------
    entries : (P,) array
        Above 0.
    """

    def __init__(self, entries: Array) -> None:
        self.order, self._entries = len(entries), entries

    @property
    def log_determinant(self) -> float:
        return float(np.log(self._entries).sum())

    def solve(self, rows: Array) -> Array:
        return rows / self._entries

    def half(self, rows: Array) -> Array:
        return rows / np.sqrt(self._entries)

    @property
    def variances(self) -> Array:
        return 1 / self._entries


class Kronecker(Precision):
    """Λ = scale (A ⊗ G) + prior, layer by layer, exact in the eigenbases of the factors.

    Parameters
    ----------
    factors : KroneckerFactors
    scale, prior : float
    """

    def __init__(self, factors: KroneckerFactors, scale: float, prior: float) -> None:
        self._layers: list[tuple[Array, Array, Array]] = []
        for inputs, outputs in zip(factors.inputs, factors.outputs, strict=True):
            a, left = eigh(inputs)
            g, right = eigh(outputs)
            # Both are positive semidefinite: what rounding made negative is 0.
            values = scale * np.outer(np.maximum(a, 0), np.maximum(g, 0)) + prior
            self._layers.append((left, right, values))
        self.order = sum(values.size for _, _, values in self._layers)

    @property
    def log_determinant(self) -> float:
        return sum(float(np.log(values).sum()) for _, _, values in self._layers)

    def solve(self, rows: Array) -> Array:
        into = np.empty_like(rows)
        for part, (left, right, _) in self._parts():
            blocks = rows[:, part].reshape(len(rows), len(left), len(right))
            into[:, part] = _on_both_sides(left.T, blocks, right).reshape(len(rows), -1)
        return self._out(into, 1.0)

    def half(self, rows: Array) -> Array:
        return self._out(rows, 0.5)

    def _out(self, rows: Array, power: float) -> Array:
        """Out of the eigenbases, divided by a power of the eigenvalues before."""
        result = np.empty_like(rows)
        for part, (left, right, values) in self._parts():
            blocks = rows[:, part].reshape(len(rows), *values.shape) / values**power
            result[:, part] = _on_both_sides(left, blocks, right.T).reshape(len(rows), -1)
        return result

    def _parts(self) -> Iterator[tuple[slice, tuple[Array, Array, Array]]]:
        first = 0
        for layer in self._layers:
            stop = first + layer[2].size
            yield slice(first, stop), layer
            first = stop

    @property
    def variances(self) -> Array:
        parts = [
            _on_both_sides(left**2, 1 / values, (right**2).T)
            for left, right, values in self._layers
        ]
        return np.concatenate([part.ravel() for part in parts])


def _on_both_sides(left: Array, blocks: Array, right: Array) -> Array:
    """`left @ blocks @ right`."""
    operations = 2.0 * blocks.size * (len(left) + len(right))
    return aside(operations, lambda: left @ blocks @ right)
