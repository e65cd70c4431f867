"""Trying methods for (A + λ) x = b one after the other, until one gives what was asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets.curvature.kronecker import kronecker_factors
from swiftnets.curvature.matrix import CurvatureMatrix, Kind
from swiftnets.linalg.dense import DenseFactorization, Inertia
from swiftnets.linalg.krylov import KrylovResult, cg, default_iterations, minres
from swiftnets.linalg.lanczos import Lanczos, lanczos
from swiftnets.linalg.scaling import exponents, row_norms
from swiftnets.solve.factors import Factorization, dense_factors
from swiftnets.solve.layered import Form, LayeredFactorization, plan
from swiftnets.solve.solution import DIRECT, Solution

__all__ = ["Late", "Preconditioner", "Product", "System"]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]
Product: TypeAlias = Callable[[Array], npt.NDArray[Any]]
Preconditioner: TypeAlias = Literal["diagonal", "kronecker"] | Product | None

_FLOAT64 = np.dtype(np.float64)
_PROBE = 25  # Lanczos steps that "auto" spends to see the spectrum
# A tolerance is aimed at with room for the rounding of the products, which counts, too.
_ROOM = 0.8
# What float64 numbers are moved by at most to see what rounding does: 32 units of it.
_MOVE = 2.0**-48
_LARGE_EXPONENT = 100  # right-hand sides below are not scaled
_STEP_OVERHEAD = 1e6  # operations that fit in the time that a Krylov step spends outside the engine


class Late(Exception):
    """The time is over."""


class System:
    """One call: the right-hand sides, the best that is known for each, and what it took."""

    def __init__(
        self,
        matrix: CurvatureMatrix,
        b: Any,
        *,
        tolerance: float,
        limit: int | None,
        deadline: float,
        progress: bool,
        wants_inertia: bool,
        has_blocks: bool,
        preconditioner: Preconditioner,
    ) -> None:
        self.dtype = matrix.point.net.dtype
        self.point = matrix.point.in_float64()
        self.damping = float(matrix.shift.real)
        self.matrix = CurvatureMatrix(self.point, matrix.kind, self.damping)
        self.net, self.samples = self.point.net, self.point.counted_samples
        (self.batch,) = self.point.samples.batches
        self.limit, self.deadline, self.progress = limit, deadline, progress
        self.wants_inertia, self.has_blocks = wants_inertia, has_blocks
        self.preconditioner, self.tolerance = preconditioner, tolerance
        count = self.net.parameter_count
        if b is None:
            raise TypeError("b is None; expected a right-hand side")
        self.single = checks.dimensions(b, "b") == 1
        rows = checks.array(b, "b", (count,) if self.single else ("K", count))
        checks.finite(rows, "b")
        rows = rows[None] if self.single else rows
        # All below is in units of these powers of two, x and residuals as well.
        found = exponents(rows)
        self.units = np.where(abs(found) < _LARGE_EXPONENT, 0, found)
        self.b: Array = np.ldexp(rows, -self.units[:, None]) if self.units.any() else rows
        self.norms = row_norms(self.b)
        self.x = np.zeros_like(self.b)
        self.rests = self.b.copy()  # b − (A + λ) x, as computed
        self.residuals = self.norms.copy()
        self.rounding = np.zeros_like(self.norms)
        self.reasons = ["not tried"] * len(self.b)
        self.iterations = np.zeros(len(self.b), np.int64)
        self.refinements, self.operations = 0, 0.0
        self.inertia: Inertia | None = None
        self.log_determinant: float | None = None
        self.is_singular = False
        self.method, self.why = "", ""
        self._is_rescaled = False
        self._multiplied: CurvatureMatrix | None = None
        self._timed, self._seconds = 0.0, 0.0  # operations of products, and what they took

    # The operator

    @property
    def product_operations(self) -> float:
        """Of a Hessian-vector product with the forward and backward pass kept."""
        sizes = self.net.sizes
        return 12.0 * self.samples * sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))

    @property
    def multiplied(self) -> CurvatureMatrix:
        """What products are taken with: the matrix, or while its rounding is seen one beside it."""
        if self._multiplied is None:
            self.operations += self.product_operations / 2
            if not math.isfinite(self.point.loss):
                # A loss may overflow where the Hessian does not; an argument must not.
                checks.finite(self.point.w, "w")
                checks.finite(self.batch.x, "x")
                if self.batch.targets is not None:
                    checks.finite(self.batch.targets, "y")
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

    def rest(self, x: Array, sides: npt.NDArray[np.int64]) -> Array:
        """b − (A + λ) x of some sides, of any size of x."""
        shift = exponents(x)
        shift[abs(shift) < _LARGE_EXPONENT] = 0
        with np.errstate(over="ignore", invalid="ignore"):
            if not shift.any():
                return self.b[sides] - self.product(x)
            image = self.product(np.ldexp(x, -shift[:, None]))
            result: Array = self.b[sides] - np.ldexp(image, shift[:, None])
        return result

    # A row of P numbers as one row for each layer, 0 in the others': what single layers work on.

    def split(self, rows: Array) -> Array:
        slices = self.net.layer_slices
        result = np.zeros((len(slices), *rows.shape))
        for layer, part in enumerate(slices):
            result[layer, :, part] = rows[:, part]
        return result.reshape(-1, rows.shape[1])

    def joined(self, rows: Array) -> Array:
        result: Array = rows.reshape(self.net.depth, -1, rows.shape[1]).sum(axis=0)
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

    def _owners(self, rows: Array) -> npt.NDArray[np.int64]:
        sums = [abs(rows[:, part]).max(axis=1) for part in self.net.layer_slices]
        result: npt.NDArray[np.int64] = np.argmax(sums, axis=0)
        return result

    # Which method

    def choose(self) -> tuple[list[str], str]:
        """Methods in the order in which to try them, and why."""
        if self.has_blocks:
            return self._choose_blocks()
        net, samples, sides = self.net, self.samples, len(self.b)
        count = net.parameter_count
        product = self.product_operations + _STEP_OVERHEAD / sides
        costs = {"dense": 2.0 * samples * count**2 + count**3 / 3 + 4.0 * sides * count**2}
        try:
            if self.matrix.kind is not Kind.HESSIAN:
                raise MemoryError
            layered = plan(net, samples, form=self._form())
            costs["layered"] = layered.operations + 2 * sides * (layered.solve_operations + product)
            checks.memory(layered.bytes, "")
        except MemoryError:
            costs.pop("layered", None)
        try:
            checks.memory(16 * count**2, "the Hessian and its factors")
        except MemoryError:
            costs.pop("dense")
            if self.wants_inertia and not costs:
                raise
        direct = sorted(costs, key=lambda name: costs[name])
        rest = ["primal", *direct[1:], "minres"] if "layered" in costs else [*direct[1:], "minres"]
        if self.wants_inertia or (
            direct and costs[direct[0]] <= _PROBE * sides * product and self.deadline == math.inf
        ):
            return [direct[0], *rest], f"{direct[0]}: fewest operations ({self._told(costs)})"
        try:
            is_definite, steps, seen = self._probe()
        except Late:
            return ["minres"], "minres: it needs no preparation"
        krylov = "cg" if is_definite else "minres"
        costs[krylov] = steps * sides * product
        text = f"{self._told(costs)} for {'about' if is_definite else 'at least'} {steps:.0f} steps"
        best = min(costs, key=lambda name: costs[name])
        if best == krylov:
            order = [krylov, *([] if krylov == "minres" else ["minres"]), *direct]
        else:
            order = [direct[0], *rest]
        return order, f"{best}: fewest operations ({text}; {seen})"

    def _choose_blocks(self) -> tuple[list[str], str]:
        samples, sides = self.samples, len(self.b)
        layers = [part.stop - part.start for part in self.net.layer_slices]
        dense = sum(2.0 * samples * n**2 + n**3 / 3 for n in layers)
        product = self.product_operations * len(layers) + _STEP_OVERHEAD / sides
        # Blocks of single layers are well conditioned as such go: Krylov steps as many as seen.
        text = f"dense {dense:.1e}, {_PROBE} products {_PROBE * sides * product:.1e}"
        if self.wants_inertia:
            return ["dense", "minres"], "dense: tells the inertia"
        if dense <= _PROBE * sides * product:
            return ["dense", "minres"], f"dense: few operations ({text})"
        return ["cg", "minres", "dense"], f"cg: dense takes more operations ({text})"

    def _expected(self, operations: float) -> float:
        """Seconds at the pace of the products so far; 0 where there was none."""
        return operations * self._seconds / self._timed if self._timed else 0.0

    def _told(self, costs: dict[str, float]) -> str:
        texts = []
        for name, cost in costs.items():
            seconds = self._expected(cost)
            texts.append(f"{name} {cost:.1e}" + (f", {seconds:.2g} s," if seconds > 1 else ""))
        return ", ".join(texts).replace(",,", ",").removesuffix(",")

    def _probe(self) -> tuple[bool, float, str]:
        """Whether A + λ seems definite, Krylov steps to expect, and what was seen."""
        start = self.b[int(self.norms.argmax())]
        if not start.any():
            return True, 1.0, "b is 0"

        def product(v: Array) -> Array:
            if time.perf_counter() >= self.deadline:
                raise Late
            result: Array = self.product(v[None])[0]
            return result

        run = lanczos(product, start, _PROBE)
        values, _ = run.eigenvalues()
        seen = f"Ritz values {values[0]:.2g} to {values[-1]:.2g}"
        low, high, taken = float(values[0]), float(abs(values).max()), len(values)
        if high == 0 or taken < _PROBE:
            return low > 0, float(taken), seen
        digits = math.log(2 / self.tolerance)
        # Eigenvalues of nets crowd around 0, those of A + λ around λ: none is seen nearer to 0.
        shift = abs(self.damping + self.net.l2)
        nearest = max(min(low, shift) if low > 0 else shift, high * np.finfo(float).eps)
        condition = high / nearest
        if low > 0:
            steps = math.sqrt(condition) / 2 * digits
        else:
            # Where eigenvalues lie on both sides of 0 and near it, only the pace tells something:
            # of the residual over the second half of these steps, of which it slows down.
            half, all_ = _least_residual(run, taken // 2), _least_residual(run, taken)
            pace = max(math.log(half / all_), 1e-9) / (taken - taken // 2)
            left = max(math.log(all_ / self.tolerance), 0.0)
            steps = max(condition / 2 * digits, taken + left / pace)
        return low > 0, max(1.0, min(steps, 3.0 * self.net.parameter_count)), seen

    def _form(self) -> Form:
        # The dual form divides by λ.
        return "auto" if self.damping + self.net.l2 != 0 else "primal"

    # Trying them

    def run(self, order: list[str], why: str) -> None:
        notes: list[str] = [why]
        errors: list[Exception] = []
        open_ = self.norms > 0
        for index in np.flatnonzero(~open_):
            self.reasons[index] = "converged"
        self.method, self.why = order[0], why
        for number, name in enumerate(order):
            if not open_.any() and (self.inertia is not None or not self.wants_inertia):
                break
            if self._skips(name):
                continue
            if number and name not in DIRECT and self.wants_inertia and self.inertia is None:
                break
            late = self._lateness(name)
            if late:
                notes.append(f"{_TITLES[name]}: {late}")
                for index in np.flatnonzero(open_):
                    if self.reasons[index] == "not tried":
                        self.reasons[index] = "time"
                continue
            sides = np.flatnonzero(open_)
            try:
                self._attempt(name, sides)
            except (np.linalg.LinAlgError, FloatingPointError, MemoryError) as error:
                # What is not finite in a factorisation need not be so in a product.
                if len(order) == 1 or name == order[-1] and isinstance(error, FloatingPointError):
                    raise
                errors.append(error)
                notes.append(f"{_TITLES[name]}: {error}")
                continue
            if len(sides):
                self._certify(sides)
                open_[sides] = [self.reasons[index] not in _FINAL for index in sides]
                bad = [index for index in sides if self.reasons[index] != "converged"]
                if bad:
                    worst = max(bad, key=lambda index: self.residuals[index] / self.norms[index])
                    relative = self.residuals[worst] / self.norms[worst]
                    reason = self.reasons[worst]
                    notes.append(f"{_TITLES[name]}: {reason}, relative residual {relative:.1e}")
        if self.wants_inertia and self.inertia is None:
            raise np.linalg.LinAlgError(f"the inertia is not found: {'; '.join(notes)}")
        if errors and "not tried" in self.reasons:
            raise errors[-1]
        self.why = "; ".join(notes)

    def _skips(self, name: str) -> bool:
        """Whether a method would do what another has done already."""
        if name in DIRECT and self.is_singular:
            return True
        if name != "primal":
            return False
        return "dual" not in plan(self.net, self.samples, form=self._form()).forms

    def _lateness(self, name: str) -> str:
        """Why there is no time for a method; empty where there is."""
        if self.deadline == math.inf:
            return ""
        left = self.deadline - time.perf_counter()
        if left <= 0:
            return "the time is over"
        count = self.net.parameter_count
        if name in ("cg", "minres"):
            return ""
        if not self._timed:
            self.product(self.b[:1])
        if name == "dense":
            seconds = self._expected(2.0 * self.samples * count**2 + count**3 / 3)
        else:
            seconds = self._expected(plan(self.net, self.samples, form=self._form()).operations)
        return f"would take about {seconds:.2g} s, and {left:.2g} s are left" * (seconds > left)

    def _attempt(self, name: str, sides: npt.NDArray[np.int64]) -> None:
        if name in ("cg", "minres"):
            self._krylov(name, sides)
        elif self.has_blocks:
            self._dense_blocks(sides)
        else:
            self._direct(name, sides)

    def _keep(self, name: str, sides: npt.NDArray[np.int64], x: Array, reasons: list[str]) -> Array:
        """Take over solutions that are better than what is known; the residuals of x."""
        rest = self.rest(x, sides)
        sizes = row_norms(rest)
        sizes[~np.isfinite(sizes)] = np.inf
        for place, index in enumerate(sides):
            if sizes[place] < self.residuals[index] or self.reasons[index] == "not tried":
                self.x[index], self.residuals[index] = x[place], sizes[place]
                self.rests[index] = rest[place]
                self.method = "layered" if name == "primal" else name
                self.reasons[index] = reasons[place]
        return rest

    # What is known of a solution

    def _certify(self, sides: npt.NDArray[np.int64]) -> None:
        """Residuals of what will be returned, with the rounding of the products; the reasons."""
        x = self._returned(sides)
        is_same = np.array([np.array_equal(a, b) for a, b in zip(x, self.x[sides], strict=True)])
        if is_same.all():
            rests = self.rests[sides]
        else:
            rests = np.full_like(x, np.inf)
            good = np.isfinite(x).all(axis=1)
            if good.any():
                rests[good] = self.rest(x[good], sides[good])
        computed = row_norms(rests)
        noise = self._noise(x, rests, sides)
        told = computed + noise
        told[~np.isfinite(told)] = np.inf
        for place, index in enumerate(sides):
            target = self.tolerance * self.norms[index]
            aimed = self.residuals[index]
            self.residuals[index], self.rounding[index] = told[place], noise[place]
            if told[place] <= target:
                self.reasons[index] = "converged"
            elif not np.isfinite(told[place]):
                self.reasons[index] = "out of range"
            elif self.reasons[index] != "least squares" and (
                aimed <= target or computed[place] <= 4 * noise[place]
            ):
                self.reasons[index] = "rounding"

    def _returned(self, sides: npt.NDArray[np.int64]) -> Array:
        """x as it will be returned, in the units of this class."""
        units = self.units[sides, None]
        with np.errstate(over="ignore", under="ignore"):
            x = np.ldexp(self.x[sides], units).astype(self.dtype).astype(np.float64)
        result: Array = np.ldexp(x, -units)
        return result

    def _noise(self, x: Array, rests: Array, sides: npt.NDArray[np.int64]) -> Array:
        """How far b − (A + λ) x moves where all that goes into H and x moves by some roundings."""
        good = np.isfinite(x).all(axis=1)
        if not good.any():
            return np.full(len(x), np.inf)
        rng = np.random.default_rng(0)

        def moved(values: Array) -> Array:
            result: Array = values * (1 + _MOVE * rng.uniform(-1, 1, values.shape))
            return result

        w, y = moved(self.point.w), self.batch.labels_or_targets
        if self.batch.targets is not None:
            y = moved(y)
            if self.net.loss_function.name == "binary_cross_entropy":
                y = 1 - abs(1 - y)  # a probability of 1 can but fall
        try:
            self.operations += self.product_operations / 2
            beside = self.point.elsewhere(w, y)
            self._multiplied = CurvatureMatrix(beside, self.matrix.kind, self.damping)
            # Twice: where few numbers of x matter, what one draw does to them may cancel.
            twice = np.tile(sides[good], 2)
            moves = self.rest(moved(np.tile(x[good], (2, 1))), twice) - np.tile(rests[good], (2, 1))
            result = np.full(len(x), np.inf)
            result[good] = row_norms(moves).reshape(2, -1).max(axis=0)
        finally:
            self._multiplied = None
        return result + np.finfo(float).eps * self.norms[sides]

    # The methods

    def _direct(self, name: str, sides: npt.NDArray[np.int64]) -> None:
        factors: Factorization
        if name == "dense":
            self.operations += 2.0 * self.samples * self.net.parameter_count**2
            factors = dense_factors(self.matrix, np.float64)
        else:
            form: Form = "primal" if name == "primal" else self._form()
            factors = LayeredFactorization(self.matrix, form, np.float64)
        self.operations += factors.operations
        inertia, log_determinant = factors.inertia, factors.log_determinant
        if inertia is not None and inertia.zero > 0:
            self.inertia, self.log_determinant, self.is_singular = inertia, log_determinant, True
            raise np.linalg.LinAlgError(f"the matrix is singular: {inertia}")

        def refine(b: Array) -> Array:
            self.operations += len(b) * factors.solve_operations
            return factors.solve(b)

        if self._refined(name, sides, refine):
            self.inertia, self.log_determinant = inertia, log_determinant

    def _refined(
        self, name: str, sides: npt.NDArray[np.int64], solve: Callable[[Array], Array]
    ) -> bool:
        """Solve, and for the residual again as long as that halves it.

        Returns whether the factors themselves solve: they say nothing of A + λ otherwise.
        """
        if not len(sides):
            return True
        reasons = ["rounding"] * len(sides)
        x = self._in_range(solve, sides)
        rest = self._keep(name, sides, x, reasons)
        before = row_norms(rest)
        do_solve = bool((before <= 0.1 * self.norms[sides]).all())
        first = True
        while True:
            # One refinement always: it is cheap, and takes the error to that of the residual.
            going = first | (before > _ROOM * self.tolerance * self.norms[sides])
            if not np.any(going) or not np.isfinite(rest).all():
                break
            x = x + solve(rest)
            self.refinements += 1
            rest = self._keep(name, sides, x, reasons)
            now = row_norms(rest)
            if not (now < before / 2).any():
                break
            before, first = now, False
        for index in sides:
            # Nothing but a wrong factor keeps refinement from the rounding of the products.
            if self.residuals[index] > _ROOM * self.tolerance * self.norms[index]:
                self.reasons[index] = "refinement stagnated"
        return do_solve

    def _in_range(self, solve: Callable[[Array], Array], sides: npt.NDArray[np.int64]) -> Array:
        """Solutions; in smaller units of b where they are beyond float64 in these."""
        try:
            return solve(self.b[sides])
        except np.linalg.LinAlgError:
            if not self._rescale(600):
                raise
            return solve(self.b[sides])

    def _rescale(self, e: int) -> bool:
        """Once, smaller units of b, and of x with it; whether that was to be done."""
        if self._is_rescaled:
            return False
        self._is_rescaled = True
        self.units = self.units + e
        for name in ("b", "x", "rests", "norms", "residuals", "rounding"):
            setattr(self, name, np.ldexp(getattr(self, name), -e))
        return True

    def _dense_blocks(self, sides: npt.NDArray[np.int64]) -> None:
        factors = []
        for layer, part in enumerate(self.net.layer_slices):
            block = CurvatureMatrix(self.point, self.matrix.kind).dense((layer, layer))
            n = part.stop - part.start
            self.operations += 2.0 * self.samples * n**2 + n**3 / 3
            factors.append(DenseFactorization.trusted(block, self.damping, _FLOAT64, 0.0))

        def solve(b: Array) -> Array:
            x = np.empty_like(b)
            for part, factor in zip(self.net.layer_slices, factors, strict=True):
                self.operations += len(b) * factor.solve_operations
                x[:, part] = factor.solve(np.ascontiguousarray(b[:, part]))
            return x

        signs = [factor.inertia for factor in factors if factor.inertia is not None]
        logs = [f.log_determinant for f in factors if f.log_determinant is not None]
        inertia = None
        if len(signs) == len(factors):
            counts = np.sum([(i.positive, i.negative, i.zero) for i in signs], axis=0)
            inertia = Inertia(*map(int, counts))
        log_determinant = math.fsum(logs) if len(logs) == len(factors) else None
        if inertia is not None and inertia.zero > 0:
            self.inertia, self.log_determinant, self.is_singular = inertia, -math.inf, True
            raise np.linalg.LinAlgError(f"the matrix is singular: {inertia}")
        if self._refined("dense", sides, solve):
            self.inertia, self.log_determinant = inertia, log_determinant

    def _krylov(self, name: str, sides: npt.NDArray[np.int64]) -> None:
        method = cg if name == "cg" else minres
        b, product = self.b[sides], self.product
        if self.has_blocks:
            # Each layer to the tolerance: ‖r‖² is the sum over layers, as ‖b‖² is.
            b, product = self.split(b), self.split_product
        total = default_iterations(b.shape[1]) if self.limit is None else self.limit
        bar = Progress(0, total, "relative residual") if self.progress else None

        def step(_: int, relative: float) -> bool:
            if bar is not None:
                bar.step(relative)
            return time.perf_counter() >= self.deadline

        try:
            found: KrylovResult = method(
                product,
                b,
                preconditioner=self._preconditioner(),
                tolerance=_ROOM * self.tolerance,
                max_iterations=total,
                callback=step if bar is not None or self.deadline < math.inf else None,
            )
        finally:
            if bar is not None:
                bar.close()
        if not np.isfinite(found.solution).all() and self._rescale(600):
            self._krylov(name, sides)
            return
        x, steps = found.solution, found.iterations
        reasons = ["time" if reason == "stopped" else reason for reason in found.statuses]
        self.operations += 12.0 * float(steps.sum()) * x.shape[1]
        if self.has_blocks:
            x = self.joined(x)
            by_layer = steps.reshape(-1, len(sides))
            steps = by_layer.max(axis=0)
            reasons = [
                next((r for r in reasons[k :: len(sides)] if r != "converged"), "converged")
                for k in range(len(sides))
            ]
        self.iterations[sides] += steps
        self._keep(name, sides, x, reasons)

    def _preconditioner(self) -> Product | None:
        kind = self.preconditioner
        if kind is None or callable(kind):
            return kind
        if kind == "kronecker":
            shift = self.damping + self.net.l2
            factors = kronecker_factors(self.point)
            largest = max(
                float(np.trace(a) * np.trace(g))
                for a, g in zip(factors.inputs, factors.outputs, strict=True)
            )
            return factors.inverse(max(abs(shift), largest * 1e-16, 1e-300))
        diagonal = abs(self.matrix.diagonal())
        inverse = 1 / np.maximum(diagonal, max(float(diagonal.max()) * 1e-8, 1e-300))
        return lambda rows: rows * inverse

    # The end

    def solution(self, start: float) -> Solution:
        relative = np.divide(
            self.residuals, self.norms, out=np.zeros_like(self.norms), where=self.norms > 0
        )
        with np.errstate(over="ignore", under="ignore"):
            x = np.ldexp(self.x, self.units[:, None]).astype(self.dtype)
            residuals, rounding = (
                np.ldexp(part, self.units) for part in (self.residuals, self.rounding)
            )
        return Solution(
            x[0] if self.single else x,
            residuals,
            relative,
            rounding,
            np.array([reason == "converged" for reason in self.reasons]),
            tuple(self.reasons),
            self.iterations,
            self.refinements,
            self.method,
            self.why,
            self.operations,
            time.perf_counter() - start,
            self.inertia,
            self.log_determinant,
        )


def _least_residual(run: Lanczos, steps: int) -> float:
    """‖b − A x‖ / ‖b‖ after so many steps of MINRES, from a longer run."""
    matrix = np.zeros((steps + 1, steps))
    matrix[:steps] = run.matrix[:steps, :steps]
    matrix[steps, steps - 1] = [*run.off_diagonal, run.residual][steps - 1]
    q = np.linalg.qr(matrix, mode="complete")[0]
    return max(abs(float(q[0, -1])), np.finfo(float).eps)


# No other method could do better.
_FINAL = ("converged", "rounding", "least squares", "out of range")
_TITLES = {
    "layered": "layered",
    "primal": "layered, primal form",
    "dense": "dense",
    "cg": "CG",
    "minres": "MINRES",
}
