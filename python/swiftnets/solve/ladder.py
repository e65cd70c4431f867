"""Trying methods for (A + λ) x = b one after the other, until one gives what was asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from swiftnets._support.progress import Progress
from swiftnets._support.types import Array, IntegerArray, Product
from swiftnets.curvature.kronecker import kronecker_factors
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.factors import Inertia
from swiftnets.linalg.krylov import cg, default_iterations, minres
from swiftnets.linalg.krylov_result import KrylovResult
from swiftnets.linalg.scaling import row_norms
from swiftnets.solve.factors import Factorization, dense_factors, dense_operations
from swiftnets.solve.layered import Form, LayeredFactorization, plan
from swiftnets.solve.options import DIRECT, TITLES, Options
from swiftnets.solve.system import System

__all__ = ["climb"]


def __dir__() -> list[str]:
    return __all__


_FLOAT64 = np.dtype(np.float64)
# A tolerance is aimed at with room for the rounding of the products, which counts, too.
_ROOM = 0.8
# No other method could do better.
_FINAL = ("converged", "rounding", "least squares", "out of range")


def climb(system: System, options: Options, order: list[str], why: str) -> str:
    """Try methods in this order until all right-hand sides are solved.

    Parameters
    ----------
    system : System
        Takes what is found.
    options : Options
    order : list of {"layered", "primal", "dense", "cg", "minres"}
    why : str
        Why that order.

    Returns
    -------
    str
        What was tried, and what came of it.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the inertia was asked for and is not found, or no method gave an x.
    FloatingPointError
        If products of the last method are not finite.
    MemoryError
        If the last method does not fit in memory, and none gave an x.
    """
    notes: list[str] = [why]
    errors: list[Exception] = []
    steps = _Steps(system, options)
    open_ = system.norms > 0
    for index in np.flatnonzero(~open_):
        system.statuses[index] = "converged"
    system.method = order[0]
    for number, name in enumerate(order):
        if not open_.any() and (system.inertia is not None or not options.wants_inertia):
            break
        if steps.skips(name):
            continue
        if number and name not in DIRECT and options.wants_inertia and system.inertia is None:
            break
        late = steps.lateness(name)
        if late:
            notes.append(f"{TITLES[name]}: {late}")
            for index in np.flatnonzero(open_):
                if system.statuses[index] == "not tried":
                    system.statuses[index] = "time"
            continue
        sides = np.flatnonzero(open_)
        try:
            steps.attempt(name, sides)
        except (np.linalg.LinAlgError, FloatingPointError, MemoryError) as error:
            # What is not finite in a factorisation need not be so in a product.
            if len(order) == 1 or name == order[-1] and isinstance(error, FloatingPointError):
                raise
            errors.append(error)
            notes.append(f"{TITLES[name]}: {error}")
            continue
        if len(sides):
            system.certify(sides)
            open_[sides] = [system.statuses[index] not in _FINAL for index in sides]
            bad = [index for index in sides if system.statuses[index] != "converged"]
            if bad:
                relative = [system.residual_norms[index] / system.norms[index] for index in bad]
                worst = int(np.argmax(relative))
                status = system.statuses[bad[worst]]
                notes.append(f"{TITLES[name]}: {status}, relative residual {relative[worst]:.1e}")
    if options.wants_inertia and system.inertia is None:
        raise np.linalg.LinAlgError(f"the inertia is not found: {'; '.join(notes)}")
    if errors and "not tried" in system.statuses:
        raise errors[-1]
    return "; ".join(notes)


class _Steps:
    """The methods, as they are for one system."""

    def __init__(self, system: System, options: Options) -> None:
        self._system, self._options = system, options

    def skips(self, name: str) -> bool:
        """Whether a method would do what another has done already."""
        system = self._system
        if name in DIRECT and system.is_singular:
            return True
        if name != "primal":
            return False
        return "dual" not in plan(system.net, system.samples, form=system.form).forms

    def lateness(self, name: str) -> str:
        """Why there is no time for a method; empty where there is."""
        system, deadline = self._system, self._options.deadline
        if deadline == math.inf:
            return ""
        left = deadline - time.perf_counter()
        if left <= 0:
            return "no time was left"
        if name in ("cg", "minres"):
            return ""
        if not system.is_timed:
            system.product(system.b[:1])
        if name == "dense":
            count = system.net.parameter_count
            seconds = system.seconds(
                dense_operations(system.net, system.samples, count) + count**3 / 3
            )
        else:
            layered = plan(system.net, system.samples, form=system.form)
            seconds = system.seconds(layered.operations)
        return f"would take about {seconds:.2g} s, and {left:.2g} s are left" * (seconds > left)

    def attempt(self, name: str, sides: IntegerArray) -> None:
        """Solve for some sides by one method; the system takes what is better."""
        if name in ("cg", "minres"):
            self._krylov(name, sides)
        elif self._system.has_blocks:
            self._dense_blocks(sides)
        else:
            self._direct(name, sides)

    # Methods that factor

    def _direct(self, name: str, sides: IntegerArray) -> None:
        system = self._system
        factors: Factorization
        if name == "dense":
            count = system.net.parameter_count
            system.operations += dense_operations(system.net, system.samples, count)
            factors = dense_factors(system.matrix, np.float64)
        else:
            form: Form = "primal" if name == "primal" else system.form
            factors = LayeredFactorization(system.matrix, form, np.float64)
        system.operations += factors.operations
        self._require_regular(factors.inertia, factors.log_determinant)

        def solve(b: Array) -> Array:
            system.operations += len(b) * factors.solve_operations
            return factors.solve(b)

        if self._refined(name, sides, solve):
            system.inertia, system.log_determinant = factors.inertia, factors.log_determinant

    def _dense_blocks(self, sides: IntegerArray) -> None:
        system = self._system
        factors, kind, l2 = [], system.matrix.kind, system.net.l2
        for layer, part in enumerate(system.net.layer_slices):
            # Without l2, which is added with the damping, as one sum.
            block = CurvatureMatrix(system.point, kind, -l2).dense((layer, layer))
            n = part.stop - part.start
            system.operations += dense_operations(system.net, system.samples, n) + n**3 / 3
            factors.append(DenseFactorization.trusted(block, system.damping, _FLOAT64, l2))

        def solve(b: Array) -> Array:
            x = np.empty_like(b)
            for part, factor in zip(system.net.layer_slices, factors, strict=True):
                system.operations += len(b) * factor.solve_operations
                x[:, part] = factor.solve(np.ascontiguousarray(b[:, part]))
            return x

        signs = [factor.inertia for factor in factors if factor.inertia is not None]
        logs = [f.log_determinant for f in factors if f.log_determinant is not None]
        inertia = None
        if len(signs) == len(factors):
            counts = np.sum([(i.positive, i.negative, i.zero) for i in signs], axis=0)
            inertia = Inertia(*map(int, counts))
        self._require_regular(inertia, -math.inf)
        if self._refined("dense", sides, solve):
            system.inertia = inertia
            system.log_determinant = math.fsum(logs) if len(logs) == len(factors) else None

    def _require_regular(self, inertia: Inertia | None, log_determinant: float | None) -> None:
        """A LinAlgError where factors count eigenvalues that are 0; the system keeps the counts."""
        if inertia is None or inertia.zero == 0:
            return
        system = self._system
        system.inertia, system.log_determinant, system.is_singular = inertia, log_determinant, True
        raise np.linalg.LinAlgError(f"the matrix is singular: {inertia}")

    def _refined(self, name: str, sides: IntegerArray, solve: Callable[[Array], Array]) -> bool:
        """Solve, and again for the residual as long as that halves; whether the factors solve."""
        # They say nothing of A + λ otherwise.
        if not len(sides):
            return True
        system = self._system
        statuses = ["rounding"] * len(sides)
        x = self._in_range(solve, sides)
        residuals = system.keep(name, sides, x, statuses)
        before = row_norms(residuals)
        do_solve = bool((before <= 0.1 * system.norms[sides]).all())
        first = True
        while True:
            # One refinement always: it is cheap, and takes the error to that of the residual.
            going = first | (before > _ROOM * system.tolerance * system.norms[sides])
            if not np.any(going) or not np.isfinite(residuals).all():
                break
            x = x + solve(residuals)
            system.refinements += 1
            residuals = system.keep(name, sides, x, statuses)
            now = row_norms(residuals)
            if not (now < before / 2).any():
                break
            before, first = now, False
        for index in sides:
            # Nothing but a wrong factor keeps refinement from the rounding of the products.
            if system.residual_norms[index] > _ROOM * system.tolerance * system.norms[index]:
                system.statuses[index] = "refinement stagnated"
        return do_solve

    def _in_range(self, solve: Callable[[Array], Array], sides: IntegerArray) -> Array:
        """Solutions; in smaller units of b where they are beyond float64 in these."""
        system = self._system
        try:
            return solve(system.b[sides])
        except np.linalg.LinAlgError:
            if not system.rescale(600):
                raise
            return solve(system.b[sides])

    # Krylov methods

    def _krylov(self, name: str, sides: IntegerArray) -> None:
        system, options = self._system, self._options
        method = cg if name == "cg" else minres
        b, product = system.b[sides], system.product
        if system.has_blocks:
            # Each layer to the tolerance: ‖r‖² is the sum over layers, as ‖b‖² is.
            b, product = system.split(b), system.split_product
        total = default_iterations(b.shape[1]) if options.limit is None else options.limit

        def step(_: int, relative: float) -> bool:
            bar.step(relative)
            return time.perf_counter() >= options.deadline

        with Progress(0, total, "relative residual", shown=options.progress) as bar:
            found: KrylovResult = method(
                product,
                b,
                preconditioner=self._preconditioner(),
                tolerance=_ROOM * system.tolerance,
                max_iterations=total,
                callback=step if options.progress or options.deadline < math.inf else None,
            )
        if not np.isfinite(found.solution).all() and system.rescale(600):
            self._krylov(name, sides)
            return
        x, steps = found.solution, found.iterations
        statuses = ["time" if status == "stopped" else status for status in found.statuses]
        system.operations += 12.0 * float(steps.sum()) * x.shape[1]
        if system.has_blocks:
            x = system.joined(x)
            by_layer = steps.reshape(-1, len(sides))
            steps = by_layer.max(axis=0)
            statuses = [
                next((s for s in statuses[k :: len(sides)] if s != "converged"), "converged")
                for k in range(len(sides))
            ]
        system.iterations[sides] += steps
        system.keep(name, sides, x, statuses)

    def _preconditioner(self) -> Product | None:
        kind, system = self._options.preconditioner, self._system
        if kind is None or callable(kind):
            return kind
        if kind == "kronecker":
            shift = system.damping + system.net.l2
            factors = kronecker_factors(system.point)
            largest = max(
                float(np.trace(a) * np.trace(g))
                for a, g in zip(factors.inputs, factors.outputs, strict=True)
            )
            return factors.inverse(max(abs(shift), largest * 1e-16, 1e-300))
        diagonal = abs(system.matrix.diagonal())
        inverse = 1 / np.maximum(diagonal, max(float(diagonal.max()) * 1e-8, 1e-300))
        return lambda rows: rows * inverse
