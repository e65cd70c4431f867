"""Products of triangles, and their singular values, whatever range of sizes these span."""

from __future__ import annotations

import math

import numpy as np

from swiftnets._support.types import Array, IntegerArray

__all__ = ["Graded"]


def __dir__() -> list[str]:
    return __all__


_NOTHING = -(2**40)  # the exponent of 0
_FAR = 200  # powers of two from which on a rotation is a projection
_SWEEPS = 30


class Graded:
    """A square matrix, each row times its own power of two: products of hundreds of steps fit.

    Parameters
    ----------
    order : int
        Of the identity, which it begins as.

    Attributes
    ----------
    rows : (K, K) float64 array
        The largest entry of each row between ½ and 1, unless all are 0.
    exponents : (K,) int64 array
    """

    def __init__(self, order: int) -> None:
        self.rows: Array = np.eye(order) / 2
        self.exponents: IntegerArray = np.ones(order, np.int64)

    def multiply(self, triangle: Array) -> None:
        """Make it `triangle` times what it was.

        Parameters
        ----------
        triangle : (K, K) float64 array
            An upper one: then a row is made of those that follow, which as a rule are smaller, and
            keeps its own digits.
        """
        sizes = np.frexp(triangle)[1] + self.exponents
        largest = np.where(triangle != 0, sizes, _NOTHING).max(axis=1)
        shifts = np.maximum(self.exponents - largest[:, None], -4000)
        self.rows = np.ldexp(triangle, np.where(triangle != 0, shifts, 0)) @ self.rows
        self.exponents = largest
        for row in range(len(self.rows)):
            self._normalise(row)

    def _normalise(self, row: int) -> None:
        exponent = math.frexp(float(abs(self.rows[row]).max()))[1]
        self.rows[row] = np.ldexp(self.rows[row], -exponent)
        self.exponents[row] += exponent

    def svd(self) -> tuple[Array, Array, Array]:
        """Singular values and vectors, by rotations of pairs of rows (one-sided Jacobi).

        They keep small values to their own digits, where NumPy's keeps them to those of the largest
        (Demmel & Veselić 1992). The matrix is used up.

        Returns
        -------
        U : (K, K) float64 array
            As columns.
        logarithms : (K,) float64 array
            Of the singular values, descending; −inf of 0.
        V : (K, K) float64 array
            As columns; 0 for values that are 0.
        """
        count = len(self.rows)
        left: Array = np.eye(count)
        for _ in range(_SWEEPS):
            turned = [self._turn(p, q, left) for p in range(count) for q in range(p + 1, count)]
            if not any(turned):
                break
        lengths = np.linalg.norm(self.rows, axis=1)
        with np.errstate(divide="ignore"):
            logarithms: Array = np.log(lengths) + self.exponents * math.log(2)
        order = np.argsort(-logarithms, kind="stable")
        right = self.rows / np.where(lengths > 0, lengths, 1.0)[:, None]
        return left[order].T, logarithms[order], right[order].T

    def _turn(self, p: int, q: int, left: Array) -> bool:
        """Make two rows orthogonal; whether they were not."""
        if self.exponents[p] < self.exponents[q]:
            p, q = q, p
        x, y = self.rows[p], self.rows[q]
        a, b, c = float(x @ x), float(y @ y), float(x @ y)
        if abs(c) <= np.finfo(float).eps * math.sqrt(a * b):
            return False
        apart = int(self.exponents[q] - self.exponents[p])
        if apart < -_FAR:
            self.rows[q] = y - c / a * x
        else:
            zeta = (math.ldexp(b, 2 * apart) - a) / math.ldexp(c, apart + 1)
            t = math.copysign(1.0, zeta) / (abs(zeta) + math.hypot(1.0, zeta))
            cosine = 1 / math.hypot(1.0, t)
            near = np.ldexp(y, apart)
            # y's own exponent stays: t is about 2**apart where they are far from each other.
            self.rows[p], self.rows[q] = (
                cosine * (x - t * near),
                cosine * (math.ldexp(t, -apart) * x + y),
            )
            turn = np.array([[cosine, -cosine * t], [cosine * t, cosine]])
            left[[p, q]] = turn @ left[[p, q]]
            self._normalise(p)
        self._normalise(q)
        return True
