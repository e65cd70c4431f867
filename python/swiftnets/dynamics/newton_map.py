"""Newton's method as a map: damped, and saddle-free."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array, FloatArray
from swiftnets.dynamics.maps import ProblemMap, dense
from swiftnets.linalg.lapack import aside, eigh, log_determinant
from swiftnets.problems import Problem

__all__ = ["NewtonMap"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class NewtonMap(ProblemMap):
    """Newton's method, damped or saddle-free (Dauphin et al. 2014); the state is w.

    Parameters
    ----------
    problem : Problem
        Of float64 numbers and with third derivatives, such as ``NetProblem(net, x, y)``; the net
        without kinks or an ELU, the loss not Huber's.
    damping : float
        λ in w − η (H + λ)⁻¹ g, of either sign; with `saddle_free` δ above 0 in
        w − η (H² + δ²)^−½ g.
    learning_rate : float
        η.
    saddle_free : bool

    Raises
    ------
    numpy.linalg.LinAlgError
        By its methods, if H + λ is singular.

    Notes
    -----
    With s = (H + λ)⁻¹ g the derivative is J = 1 − η (H + λ)⁻¹ (H − T[s, ·]), T the third
    derivative, and not symmetric. That of (H² + δ²)^−½ is by divided differences (Daleckii & Krein
    1965), which need one third derivative T[vᵢ, uᵢ] an eigenvector, whatever the number of
    tangents. All is dense: a step costs the Hessian, some P³ and as many third derivatives as there
    are tangents or, with `saddle_free`, weights.

    Examples
    --------
    >>> from swiftnets.problems import Rosenbrock
    >>> newton = NewtonMap(Rosenbrock(2), damping=0.0)
    >>> newton.tangent(newton.state([1.0, 1.0]), np.eye(2)).round(9) + 0.0  # at its minimum
    array([[0., 0.],
           [0., 0.]])
    """

    damping: float
    learning_rate: float = 1.0
    saddle_free: bool = False

    _twice: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.flag(self.saddle_free, "saddle_free")
        checks.real(self.damping, "damping", positive=bool(self.saddle_free))
        checks.real(self.learning_rate, "learning_rate", positive=True)

    def _made(self, w: Array) -> Any:
        kind = _SaddleFree if self.saddle_free else _Damped
        return kind(self.problem, w.copy(), self.damping)

    def step(self, state: Array) -> Array:
        w = self._state(state)
        new: Array = w - self.learning_rate * self._here(w).direction
        return new

    def tangent(self, state: Array, rows: Array) -> Array:
        rows = self._rows(rows)
        moved: Array = self._here(self._state(state)).tangent(rows)
        return rows - self.learning_rate * moved

    def adjoint(self, state: Array, rows: Array) -> Array:
        rows = self._rows(rows)
        moved: Array = self._here(self._state(state)).adjoint(rows)
        return rows - self.learning_rate * moved

    def log_determinant(self, state: Array) -> float:
        found: float = self._here(self._state(state)).log_determinant(self.learning_rate)
        return found


class _At:
    """A problem's derivatives at w, dense."""

    def __init__(self, problem: Problem, w: Array, damping: float) -> None:
        self._problem, self._w, self._damping = problem, w, damping
        self._point: Any = problem.at(w)
        self.gradient = self._point.gradient

    @cached_property
    def hessian(self) -> Array:
        matrix = dense(self._point)
        if not np.isfinite(matrix).all():
            raise FloatingPointError("the Hessian has entries that are not finite")
        return matrix

    def third(self, u: Array, rows: Array) -> Array:
        """T[u, ·] of rows, by the point's pass where it has one."""
        own = getattr(self._point, "third", None)
        found: Array = self._problem.third(self._w, u, rows) if own is None else own(u, rows)
        return found


class _Damped(_At):
    """d = (H + λ)⁻¹ g and its derivative."""

    @cached_property
    def _shifted(self) -> Array:
        matrix = self.hessian.copy()
        matrix.flat[:: len(matrix) + 1] += self._damping
        return matrix

    def _solved(self, columns: Array) -> Array:
        try:
            operations = len(columns) ** 2 * (len(columns) + 2.0 * columns.shape[1])
            found: FloatArray = aside(operations, np.linalg.solve, self._shifted, columns)
        except np.linalg.LinAlgError:
            raise np.linalg.LinAlgError(
                f"the Hessian plus damping={self._damping} is singular"
            ) from None
        return found

    @cached_property
    def direction(self) -> Array:
        return self._solved(self.gradient[:, None])[:, 0]

    def _turned(self, rows: Array) -> Array:
        """H − T[d, ·], which is symmetric, times each row."""
        return rows @ self.hessian - self.third(self.direction, rows)

    def tangent(self, rows: Array) -> Array:
        return np.ascontiguousarray(self._solved(self._turned(rows).T).T)

    def adjoint(self, rows: Array) -> Array:
        return self._turned(np.ascontiguousarray(self._solved(rows.T).T))

    def log_determinant(self, rate: float) -> float:
        """Of 1 − η times the derivative, by determinants of what is solved with."""
        turned = self._turned(np.eye(len(self._w)))
        whole = log_determinant(self._shifted - rate * turned)
        return whole - log_determinant(self._shifted)


class _SaddleFree(_At):
    """d = f(H) g, f(h) = (h² + δ²)^−½, and its derivative."""

    @cached_property
    def _eigen(self) -> tuple[Array, Array, Array]:
        values, vectors = eigh(self.hessian)
        f: Array = 1 / np.hypot(values, self._damping)
        return values, vectors, f

    @cached_property
    def direction(self) -> Array:
        _, vectors, f = self._eigen
        found: Array = vectors @ (f * (self.gradient @ vectors))
        return found

    @cached_property
    def _bent(self) -> Array:
        """Rows T[vᵢ, uᵢ]: how the coefficient of vᵢ changes as H does.

        ⟨vᵢ, T[q, vⱼ]⟩ = ⟨q, T[vᵢ, vⱼ]⟩, so that Σⱼ Lᵢⱼ ⟨vᵢ, T[q, vⱼ]⟩ ⟨vⱼ, g⟩ takes one third
        derivative for all q.
        """
        values, vectors, f = self._eigen
        # (fᵢ − fⱼ) / (hᵢ − hⱼ) without the differences.
        squares = f * f
        divided = -np.outer(squares, squares) * np.add.outer(values, values) / np.add.outer(f, f)
        mixed = (divided * (self.gradient @ vectors)) @ vectors.T
        rows = [self.third(v, u[None])[0] for v, u in zip(vectors.T, mixed, strict=True)]
        return np.array(rows)

    def tangent(self, rows: Array) -> Array:
        values, vectors, f = self._eigen
        return ((rows @ vectors) * (f * values) + rows @ self._bent.T) @ vectors.T

    def adjoint(self, rows: Array) -> Array:
        values, vectors, f = self._eigen
        along = rows @ vectors
        return (along * (f * values)) @ vectors.T + along @ self._bent

    def log_determinant(self, rate: float) -> float:
        """Of 1 − η times the derivative: in the eigenvectors, where f(H) H is diagonal."""
        values, vectors, f = self._eigen
        return log_determinant(np.diag(1 - rate * f * values) - rate * self._bent @ vectors)
