"""(A + λ) x = b as one call has it: products, residuals and their rounding, the best x so far."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array, IntegerArray
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.linalg.factors import Inertia
from swiftnets.linalg.scaling import exponents, row_norms
from swiftnets.solve.layered import Form
from swiftnets.solve.solution import Solution

__all__ = ["System"]


def __dir__() -> list[str]:
    return __all__


# What float64 numbers are moved by at most to see what rounding does: 32 units of it.
_MOVE = 2.0**-48
_LARGE_EXPONENT = 100  # right-hand sides below are not scaled


class System:
    """One call: the right-hand sides, the best that is known for each, and what it took.

    Attributes
    ----------
    matrix : CurvatureMatrix
        A + λ, of a float64 net.
    b, x, residuals : (K, P) float64 arrays
        Right-hand sides, the best solutions so far, and b − (A + λ) x as computed: in units of
        powers of two, one for each side.
    norms, residual_norms, rounding : (K,) float64 arrays
        ‖b‖, and what is known of ‖b − (A + λ) x‖ and of the rounding in it, in the same units.
    statuses : list of str
        As of `Solution`.
    """

    def __init__(
        self, matrix: CurvatureMatrix, b: Any, *, tolerance: float, has_blocks: bool = False
    ) -> None:
        self.dtype = matrix.point.net.dtype
        self.point = matrix.point.in_float64()
        self.damping = float(matrix.shift.real)
        self.matrix = CurvatureMatrix(self.point, matrix.kind, self.damping)
        self.net, self.samples = self.point.net, self.point.counted_samples
        (self._batch,) = self.point.samples.batches
        self.tolerance, self.has_blocks = tolerance, has_blocks
        count = self.net.parameter_count
        if b is None:
            raise TypeError("b is None; expected a right-hand side")
        self._is_single = checks.dimensions(b, "b") == 1
        rows = checks.array(b, "b", (count,) if self._is_single else ("K", count))
        checks.finite(rows, "b")
        rows = rows[None] if self._is_single else rows
        found = exponents(rows)
        self._units = np.where(abs(found) < _LARGE_EXPONENT, 0, found)
        self.b: Array = np.ldexp(rows, -self._units[:, None]) if self._units.any() else rows
        self.norms = row_norms(self.b)
        self.x = np.zeros_like(self.b)
        self.residuals = self.b.copy()
        self.residual_norms = self.norms.copy()
        self.rounding = np.zeros_like(self.norms)
        self.statuses = ["not tried"] * len(self.b)
        self.iterations = np.zeros(len(self.b), np.int64)
        self.refinements, self.operations = 0, 0.0
        self.inertia: Inertia | None = None
        self.log_determinant: float | None = None
        self.is_singular = False
        self.method = ""
        self._is_rescaled = False
        self._multiplied: CurvatureMatrix | None = None
        self._timed, self._seconds = 0.0, 0.0  # operations of products, and what they took

    # The operator

    @property
    def product_operations(self) -> float:
        """Of a Hessian-vector product with the forward and backward pass kept."""
        return 12.0 * self.samples * self.net.multiplications

    @property
    def multiplied(self) -> CurvatureMatrix:
        """What products are taken with: the matrix, or while its rounding is seen one beside it."""
        if self._multiplied is None:
            self.operations += self.product_operations / 2
            if not math.isfinite(self.point.loss):
                # A loss may overflow where the Hessian does not; an argument must not.
                checks.finite(self.point.w, "w")
                checks.finite(self.net.engine.reader.shaped(self._batch.x), "x")
                if self._batch.targets is not None:
                    checks.finite(self._batch.targets, "y")
            self._multiplied = self.matrix
        return self._multiplied

    def product(self, rows: Array) -> Array:
        """(A + λ) times each row, or its diagonal blocks'."""
        if not self.has_blocks:
            return self._damped(rows)
        return self.joined(self.split_product(self.split(rows)))

    def _damped(self, rows: Array) -> Array:
        operations = len(rows) * self.product_operations
        matrix = self.multiplied
        matrix.point.passed  # noqa: B018  # its time is not the products'
        start = time.perf_counter()
        image: Array = matrix.products(rows)
        self._seconds += time.perf_counter() - start
        self._timed += operations
        self.operations += operations
        return image

    def residual(self, x: Array, sides: IntegerArray) -> Array:
        """b − (A + λ) x of some sides, of any size of x."""
        shift = exponents(x)
        shift[abs(shift) < _LARGE_EXPONENT] = 0
        with np.errstate(over="ignore", invalid="ignore"):
            if not shift.any():
                return self.b[sides] - self.product(x)
            image = self.product(np.ldexp(x, -shift[:, None]))
            result: Array = self.b[sides] - np.ldexp(image, shift[:, None])
        return result

    def seconds(self, operations: float) -> float:
        """What so many operations take at the pace of the products so far; 0 if there was none."""
        return operations * self._seconds / self._timed if self._timed else 0.0

    @property
    def is_timed(self) -> bool:
        """Whether there was a product whose pace is known."""
        return self._timed > 0

    @property
    def form(self) -> Form:
        """The form in which a layered factorisation is tried first: the dual one divides by λ."""
        return "auto" if self.damping + self.net.l2 != 0 else "primal"

    # A row of P numbers as one row for each layer, 0 in the others': what single layers work on.

    def split(self, rows: Array) -> Array:
        """One row for each layer and row, all rows of the first layer first."""
        slices = self.net.layer_slices
        result = np.zeros((len(slices), *rows.shape))
        for layer, part in enumerate(slices):
            result[layer, :, part] = rows[:, part]
        return result.reshape(-1, rows.shape[1])

    def joined(self, rows: Array) -> Array:
        """The rows that `split` made these of."""
        result: Array = rows.reshape(len(self.net.layer_slices), -1, rows.shape[1]).sum(axis=0)
        return result

    def split_product(self, rows: Array) -> Array:
        """Each row through the block of the one layer in which it is not 0."""
        image = self._damped(rows)
        owners = self._owners(rows)
        for layer, part in enumerate(self.net.layer_slices):
            kept = image[owners == layer, part]
            image[owners == layer] = 0
            image[owners == layer, part] = kept
        return image

    def _owners(self, rows: Array) -> IntegerArray:
        sums = [abs(rows[:, part]).max(axis=1) for part in self.net.layer_slices]
        result: IntegerArray = np.argmax(sums, axis=0)
        return result

    # What is known of a solution

    def keep(self, name: str, sides: IntegerArray, x: Array, statuses: list[str]) -> Array:
        """Take over solutions that are better than what is known; the residuals of x."""
        residuals = self.residual(x, sides)
        sizes = row_norms(residuals)
        sizes[~np.isfinite(sizes)] = np.inf
        for place, index in enumerate(sides):
            if sizes[place] < self.residual_norms[index] or self.statuses[index] == "not tried":
                self.x[index], self.residual_norms[index] = x[place], sizes[place]
                self.residuals[index] = residuals[place]
                self.method = "layered" if name == "primal" else name
                self.statuses[index] = statuses[place]
        return residuals

    def certify(self, sides: IntegerArray) -> None:
        """Residuals of what will be returned, with the rounding of the products; the statuses."""
        x = self._returned(sides)
        is_same = np.array([np.array_equal(a, b) for a, b in zip(x, self.x[sides], strict=True)])
        if is_same.all():
            residuals = self.residuals[sides]
        else:
            residuals = np.full_like(x, np.inf)
            good = np.isfinite(x).all(axis=1)
            if good.any():
                residuals[good] = self.residual(x[good], sides[good])
        computed = row_norms(residuals)
        noise = self._noise(x, residuals, sides)
        total = computed + noise
        total[~np.isfinite(total)] = np.inf
        for place, index in enumerate(sides):
            target = self.tolerance * self.norms[index]
            aimed = self.residual_norms[index]
            self.residual_norms[index], self.rounding[index] = total[place], noise[place]
            if total[place] <= target:
                self.statuses[index] = "converged"
            elif not np.isfinite(total[place]):
                self.statuses[index] = "out of range"
            elif self.statuses[index] != "least squares" and (
                aimed <= target or computed[place] <= 4 * noise[place]
            ):
                self.statuses[index] = "rounding"

    def _returned(self, sides: IntegerArray) -> Array:
        """x as it will be returned, in the units of this class."""
        units = self._units[sides, None]
        with np.errstate(over="ignore", under="ignore"):
            x = np.ldexp(self.x[sides], units).astype(self.dtype).astype(np.float64)
        result: Array = np.ldexp(x, -units)
        return result

    def _noise(self, x: Array, residuals: Array, sides: IntegerArray) -> Array:
        """How far b − (A + λ) x moves where all that goes into A and x moves by some roundings."""
        good = np.isfinite(x).all(axis=1)
        if not good.any():
            return np.full(len(x), np.inf)
        rng = np.random.default_rng(0)

        def moved(values: Array) -> Array:
            result: Array = values * (1 + _MOVE * rng.uniform(-1, 1, values.shape))
            return result

        w, y = moved(self.point.w), self._batch.labels_or_targets
        if self._batch.targets is not None:
            y = moved(y)
            if self.net.loss_function.name == "binary_cross_entropy":
                y = 1 - abs(1 - y)  # a probability of 1 can but fall
        try:
            self.operations += self.product_operations / 2
            beside = self.point.elsewhere(w, y)
            self._multiplied = CurvatureMatrix(beside, self.matrix.kind, self.damping)
            # Twice: where few numbers of x matter, what one draw does to them may cancel.
            twice = np.tile(sides[good], 2)
            there = self.residual(moved(np.tile(x[good], (2, 1))), twice)
            moves = there - np.tile(residuals[good], (2, 1))
            result = np.full(len(x), np.inf)
            result[good] = row_norms(moves).reshape(2, -1).max(axis=0)
        finally:
            self._multiplied = None
        return result + np.finfo(float).eps * self.norms[sides]

    def rescale(self, e: int) -> bool:
        """Once, smaller units of b, and of x with it; whether that was to be done."""
        if self._is_rescaled:
            return False
        self._is_rescaled = True
        self._units = self._units + e
        for name in ("b", "x", "residuals", "norms", "residual_norms", "rounding"):
            setattr(self, name, np.ldexp(getattr(self, name), -e))
        return True

    # The end

    def solution(self, message: str, start: float) -> Solution:
        """What was found, in the user's units; `start` is when the call began."""
        relative = np.divide(
            self.residual_norms, self.norms, out=np.zeros_like(self.norms), where=self.norms > 0
        )
        with np.errstate(over="ignore", under="ignore"):
            x = np.ldexp(self.x, self._units[:, None]).astype(self.dtype)
            norms, rounding = (
                np.ldexp(part, self._units) for part in (self.residual_norms, self.rounding)
            )
        return Solution(
            x[0] if self._is_single else x,
            norms,
            relative,
            rounding,
            np.array([status == "converged" for status in self.statuses]),
            tuple(self.statuses),
            self.iterations,
            self.refinements,
            self.method,
            message,
            self.operations,
            time.perf_counter() - start,
            self.inertia,
            self.log_determinant,
        )
