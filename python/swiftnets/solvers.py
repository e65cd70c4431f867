"""Solving (H + λ) x = b for a net's exact Hessian, by the method that fits.

`solve` is reached as `MLP.solve`. How the methods compare is in ``docs/inverse.md``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _checks
from swiftnets.factorizations import (
    DenseFactorization,
    Factorization,
    Form,
    Inertia,
    LayeredFactorization,
    _hessian,
    _Problem,
    plan,
)
from swiftnets.kronecker import kronecker_factors
from swiftnets.krylov import KrylovResult, cg, minres
from swiftnets.lanczos import lanczos
from swiftnets.mlp import MLP, Linearization

__all__ = ["Solution", "solve"]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]
Product: TypeAlias = Callable[[Array], npt.NDArray[Any]]
Method: TypeAlias = Literal["auto", "layered", "dense", "cg", "minres"]
Preconditioner: TypeAlias = Literal["diagonal", "kronecker"] | Product | None

METHODS = ("auto", "layered", "dense", "cg", "minres")
_FLOAT64 = np.dtype(np.float64)
_PROBE = 25  # Lanczos steps that "auto" spends to see the spectrum
_STEP_OVERHEAD = 1e6  # operations that fit in the time that a Krylov step spends outside the engine


@dataclass(frozen=True, eq=False)
class Solution:
    """What `solve` found, and how.

    Attributes
    ----------
    x : (P,) or (K, P) float array
        In the form of b, of the net's dtype.
    residual_norms, relative_residuals : (K,) float64 arrays
        ‖b − (H + λ) x‖, computed from x with exact products, and that divided by ‖b‖.
    converged : (K,) bool array
        Whether the relative residual is at most the tolerance.
    reasons : tuple of str
        For each right-hand side: ``"converged"``, or why not.
    iterations : (K,) int array
        Products of a Krylov method; 0 for the others.
    refinements : int
        Solves with the factors after the first one, for the residual.
    method : str
        The method that gave x: ``"layered"``, ``"dense"``, ``"cg"`` or ``"minres"``.
    why : str
        Why that one, and what was tried before it.
    operations : float
        Multiplications and additions of all that was tried, about.
    seconds : float
    inertia : Inertia or None
        Of H + λ, where it was factored; with ``blocks="diagonal"`` of its diagonal blocks.
    log_determinant : float or None
        log|det| of the same.
    """

    x: npt.NDArray[Any]
    residual_norms: Array
    relative_residuals: Array
    converged: npt.NDArray[np.bool_]
    reasons: tuple[str, ...]
    iterations: npt.NDArray[np.int64]
    refinements: int
    method: str
    why: str
    operations: float
    seconds: float
    inertia: Inertia | None
    log_determinant: float | None

    @property
    def success(self) -> bool:
        """Whether all have converged."""
        return bool(self.converged.all())

    def __repr__(self) -> str:
        worst = float(self.relative_residuals.max())
        return (
            f"Solution({self.method}, relative residual {worst:.1e}, "
            f"{'converged' if self.success else 'not converged'}: {self.why})"
        )


def solve(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any = None,
    b: npt.ArrayLike | None = None,
    *,
    damping: float,
    method: Method = "auto",
    blocks: Literal["diagonal"] | None = None,
    preconditioner: Preconditioner = None,
    tolerance: float = 1e-10,
    iterations: int | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> Solution:
    """Solve (H + damping) x = b, H the exact Hessian of the net's loss.

    Parameters
    ----------
    net : MLP
        Its l2 is part of H.
    w, x, y, sample_weight
        As `MLP.loss` takes them; several batches become one.
    b : (P,) or (K, P) array_like
        A right-hand side, or K of them as rows.
    damping : float
        λ, of any sign.
    method : {"auto", "layered", "dense", "cg", "minres"}
        ``"layered"``: elimination layer by layer, refined with exact products; where the residual
        does not fall below the tolerance, its primal form, then dense, then MINRES.
        ``"dense"``: Cholesky, or Bunch–Kaufman where H + λ is indefinite; refined, too.
        ``"cg"``: conjugate gradients; for a positive definite H + λ.
        ``"minres"``: for an indefinite or singular one.
        ``"auto"``: what takes the fewest operations, by the shape of the net, the number of
        samples and right-hand sides, and a look at the spectrum.
    blocks : {None, "diagonal"}
        ``"diagonal"``: of H the blocks of single layers alone. Not with ``"layered"``.
    preconditioner : {None, "diagonal", "kronecker"} or callable
        For ``"cg"`` and ``"minres"``. ``"diagonal"``: |diagonal of H + λ|; ``"kronecker"``: the
        Kronecker-factored Gauss–Newton matrix plus |λ|; a callable takes rows (j, P) and returns
        M⁻¹ times each, M symmetric positive definite.
    tolerance : float
        Of ‖b − (H + λ) x‖ / ‖b‖.
    iterations : int, optional
        Most products for each right-hand side of a Krylov method; 10 P by default.

    Returns
    -------
    Solution
        Also where it has not converged: it says so.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.
    numpy.linalg.LinAlgError
        If every method that could be tried met a singular matrix.
    MemoryError
        If what the method needs does not fit in memory.

    Notes
    -----
    Works in float64 whatever the net's dtype. For many solves at one point keep the factors:
    `MLP.factorize`.

    Examples
    --------
    >>> net = MLP((2, 3, 1))
    >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    >>> solution = solve(net, w, x, y, net.gradient(w, x, y), damping=0.1, method="layered")
    >>> solution.success, solution.inertia
    (True, Inertia(positive=9, negative=4, zero=0))
    """
    start = time.perf_counter()
    _checks.net(net)
    _checks.choice(method, "method", METHODS)
    if blocks is not None:
        _checks.choice(blocks, "blocks", ("diagonal",))
        if method == "layered":
            raise ValueError(
                'blocks is "diagonal" with method="layered"; expected "auto", "dense", "cg" or '
                '"minres", as single layers are not coupled'
            )
    if preconditioner is not None:
        if not callable(preconditioner):
            _checks.choice(preconditioner, "preconditioner", ("diagonal", "kronecker"))
        if method not in ("cg", "minres"):
            raise ValueError(f'preconditioner is for "cg" and "minres"; method is {method!r}')
    limit = None if iterations is None else _checks.integer(iterations, "iterations")
    system = _System(
        _Problem(net, w, x, y, sample_weight),
        b,
        _checks.real(damping, "damping"),
        _checks.real(tolerance, "tolerance", positive=True),
        limit,
        blocks is not None,
        preconditioner,
    )
    if method == "auto":
        system.run(*system.choose())
    elif method == "layered":
        system.run(["layered", "primal", "dense", "minres"], "as asked")
    else:
        system.run([method], "as asked")
    return system.solution(net.dtype, time.perf_counter() - start)


class _System:
    """One call: the right-hand sides, the best that is known for each, and what it took."""

    def __init__(
        self,
        problem: _Problem,
        b: Any,
        damping: float,
        tolerance: float,
        limit: int | None,
        blocks: bool,
        preconditioner: Preconditioner,
    ) -> None:
        self.problem, self.damping, self.limit = problem, damping, limit
        self.blocks, self.preconditioner, self.tolerance = blocks, preconditioner, tolerance
        count = problem.net.parameter_count
        if b is None:
            raise TypeError("b is None; expected a right-hand side")
        self.single = _checks.dimensions(b, "b") == 1
        rows = _checks.array(b, "b", (count,) if self.single else ("K", count))
        _checks.finite(rows, "b")
        self.b: Array = rows[None] if self.single else rows
        self.norms = np.linalg.norm(self.b, axis=1)
        self.x = np.zeros_like(self.b)
        self.residuals = self.norms.copy()
        self.reasons = ["not tried"] * len(self.b)
        self.iterations = np.zeros(len(self.b), np.int64)
        self.refinements, self.operations = 0, 0.0
        self.inertia: Inertia | None = None
        self.log_determinant: float | None = None
        self.method, self.why = "", ""
        self._point: Linearization | None = None

    # The operator

    @property
    def product_operations(self) -> float:
        """Of a Hessian-vector product with the forward and backward pass kept."""
        sizes = self.problem.net.sizes
        return (
            12.0 * self.problem.samples * sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))
        )

    @property
    def point(self) -> Linearization:
        if self._point is None:
            p = self.problem
            y = p.batch.targets if p.batch.labels is None else p.batch.labels
            self._point = p.net.linearize(p.w, p.batch.x, y, sample_weight=p.batch.weights)
            self.operations += self.product_operations / 2
        return self._point

    def product(self, rows: Array) -> Array:
        """(H + λ) times each row, or its diagonal blocks'."""
        if not self.blocks:
            self.operations += len(rows) * self.product_operations
            result: Array = self.point.hvp(rows)
            result += self.damping * rows
            return result
        return self.joined(self.split_product(self.split(rows)))

    # A row of P numbers as one row for each layer, 0 in the others': what single layers work on.

    def split(self, rows: Array) -> Array:
        slices = self.problem.net.layer_slices
        result = np.zeros((len(slices), *rows.shape))
        for layer, part in enumerate(slices):
            result[layer, :, part] = rows[:, part]
        return result.reshape(-1, rows.shape[1])

    def joined(self, rows: Array) -> Array:
        result: Array = rows.reshape(self.problem.net.depth, -1, rows.shape[1]).sum(axis=0)
        return result

    def split_product(self, rows: Array) -> Array:
        """Each row through the block of the one layer in which it is not 0."""
        self.operations += len(rows) * self.product_operations
        image = self.point.hvp(rows)
        image += self.damping * rows
        owners = self._owners(rows)
        for layer, part in enumerate(self.problem.net.layer_slices):
            kept = image[owners == layer, part]
            image[owners == layer] = 0
            image[owners == layer, part] = kept
        return image

    def _owners(self, rows: Array) -> npt.NDArray[np.int64]:
        sums = [abs(rows[:, part]).max(axis=1) for part in self.problem.net.layer_slices]
        result: npt.NDArray[np.int64] = np.argmax(sums, axis=0)
        return result

    # Which method

    def choose(self) -> tuple[list[str], str]:
        """Methods in the order in which to try them, and why."""
        if self.blocks:
            return self._choose_blocks()
        net, samples, sides = self.problem.net, self.problem.samples, len(self.b)
        count = net.parameter_count
        product = self.product_operations + _STEP_OVERHEAD / sides
        costs = {"dense": 2.0 * samples * count**2 + count**3 / 3 + 4.0 * sides * count**2}
        try:
            layered = plan(net, samples, form=self._form())
            costs["layered"] = layered.operations + 2 * sides * (layered.solve_operations + product)
            _checks.memory(layered.bytes, "")
        except MemoryError:
            costs.pop("layered", None)
        try:
            _checks.memory(16 * count**2, "")
        except MemoryError:
            costs.pop("dense")
        direct = min(costs, key=lambda name: costs[name], default="minres")
        text = ", ".join(f"{name} {cost:.1e}" for name, cost in costs.items())
        rest = ["primal", "dense", "minres"] if "layered" in costs else ["dense", "minres"]
        rest = [name for name in rest if name != direct and (name != "dense" or name in costs)]
        if direct in costs and costs[direct] <= _PROBE * sides * product:
            return [direct, *rest], f"{direct}: fewest operations ({text})"
        definite, steps, seen = self._probe()
        krylov = "cg" if definite else "minres"
        costs[krylov] = steps * sides * product
        text += f", {krylov} {costs[krylov]:.1e} for about {steps:.0f} steps; {seen}"
        if direct not in costs or costs[krylov] < costs[direct]:
            others = [direct] if direct in costs else []
            tried = [krylov, *([] if krylov == "minres" else ["minres"]), *others]
            return tried, f"{krylov}: fewest operations ({text})"
        return [direct, *rest], f"{direct}: fewest operations ({text})"

    def _choose_blocks(self) -> tuple[list[str], str]:
        samples, sides = self.problem.samples, len(self.b)
        layers = [part.stop - part.start for part in self.problem.net.layer_slices]
        dense = sum(2.0 * samples * n**2 + n**3 / 3 for n in layers)
        product = self.product_operations * len(layers) + _STEP_OVERHEAD / sides
        # Blocks of single layers are well conditioned as such go: Krylov steps as many as seen.
        text = f"dense {dense:.1e}, {_PROBE} products {_PROBE * sides * product:.1e}"
        if dense <= _PROBE * sides * product:
            return ["dense", "minres"], f"dense: few operations ({text})"
        return ["cg", "minres", "dense"], f"cg: dense takes more operations ({text})"

    def _probe(self) -> tuple[bool, float, str]:
        """Whether H + λ seems definite, Krylov steps to expect, and what was seen."""
        start = self.b[int(self.norms.argmax())]
        if not start.any():
            return True, 1.0, "b is 0"
        run = lanczos(lambda v: self.product(v[None])[0], start, _PROBE)
        values, _ = run.eigenvalues()
        low, high = float(values[0]), float(abs(values).max())
        definite = low > 0
        # Eigenvalues of nets crowd around 0, those of H + λ around λ: none is seen nearer to 0.
        shift = abs(self.damping + self.problem.net.l2)
        nearest = max(min(low, shift) if definite else shift, high * np.finfo(float).eps)
        condition = high / nearest
        digits = math.log(2 / self.tolerance)
        count = self.problem.net.parameter_count
        steps = math.sqrt(condition) / 2 * digits if definite else condition / 2 * digits
        seen = f"Ritz values {values[0]:.2g} to {values[-1]:.2g}"
        return definite, max(1.0, min(steps, 3.0 * count)), seen

    def _form(self) -> Form:
        # The dual form divides by λ.
        return "automatic" if self.damping + self.problem.net.l2 != 0 else "primal"

    # The methods

    def run(self, order: list[str], why: str) -> None:
        notes: list[str] = [why]
        errors: list[np.linalg.LinAlgError | MemoryError] = []
        open_ = self.norms > 0
        for index in np.flatnonzero(~open_):
            self.reasons[index] = "converged"
        self.method, self.why = order[0], why
        if not open_.any():
            return
        for name in order:
            if (
                name == "primal"
                and "dual"
                not in plan(self.problem.net, self.problem.samples, form=self._form()).forms
            ):
                continue
            sides = np.flatnonzero(open_)
            try:
                self._attempt(name, sides)
            except (np.linalg.LinAlgError, MemoryError) as error:
                if len(order) == 1:
                    raise
                errors.append(error)
                notes.append(f"{_TITLES[name]}: {error}")
                continue
            open_ = self.residuals > self.tolerance * self.norms
            if not open_.any():
                break
            worst = float((self.residuals[open_] / self.norms[open_]).max())
            notes.append(f"{_TITLES[name]}: relative residual {worst:.1e}")
        if len(errors) == len([name for name in order if name != "primal"]) and open_.any():
            raise errors[-1]
        self.why = "; ".join(notes)

    def _attempt(self, name: str, sides: npt.NDArray[np.int64]) -> None:
        if name in ("cg", "minres"):
            self._krylov(name, sides)
        elif self.blocks:
            self._dense_blocks(sides)
        else:
            self._direct(name, sides)

    def _keep(self, name: str, sides: npt.NDArray[np.int64], x: Array, reasons: list[str]) -> Array:
        """Take over solutions that are better than what is known; the residuals of x."""
        rest = self.b[sides] - self.product(x)
        sizes = np.linalg.norm(rest, axis=1)
        sizes[~np.isfinite(sizes)] = np.inf
        for place, index in enumerate(sides):
            if sizes[place] < self.residuals[index] or self.reasons[index] == "not tried":
                self.x[index], self.residuals[index] = x[place], sizes[place]
                self.method = "layered" if name == "primal" else name
                converged = sizes[place] <= self.tolerance * self.norms[index]
                self.reasons[index] = "converged" if converged else reasons[place]
        return rest

    def _direct(self, name: str, sides: npt.NDArray[np.int64]) -> None:
        factors: Factorization
        if name == "dense":
            self.operations += 2.0 * self.problem.samples * self.problem.net.parameter_count**2
            factors = DenseFactorization._of(
                _hessian(self.problem), self.damping, _FLOAT64, self.problem.net.l2
            )
        else:
            form: Form = "primal" if name == "primal" else self._form()
            factors = LayeredFactorization(self.problem, _FLOAT64, self.damping, form)
        self.operations += factors.operations
        self.inertia, self.log_determinant = factors.inertia, factors.log_determinant

        def refine(b: Array) -> Array:
            self.operations += len(b) * factors.solve_operations
            return factors.solve(b)

        self._refined(name, sides, refine)

    def _refined(
        self, name: str, sides: npt.NDArray[np.int64], solve: Callable[[Array], Array]
    ) -> None:
        """Solve, and for the residual again as long as that halves it."""
        reasons = ["rounding: the residual falls no further"] * len(sides)
        x = solve(self.b[sides])
        rest = self._keep(name, sides, x, reasons)
        before = np.linalg.norm(rest, axis=1)
        first = True
        while True:
            # One refinement always: it is cheap, and takes the error to that of the residual.
            going = first | (before > self.tolerance * self.norms[sides])
            if not np.any(going):
                return
            x = x + solve(np.where(np.isfinite(rest), rest, 0))
            self.refinements += 1
            rest = self._keep(name, sides, x, reasons)
            now = np.linalg.norm(rest, axis=1)
            if not (now < before / 2).any():
                return
            before, first = np.asarray(now), False

    def _dense_blocks(self, sides: npt.NDArray[np.int64]) -> None:
        p = self.problem
        y = p.batch.targets if p.batch.labels is None else p.batch.labels
        factors = []
        for layer, part in enumerate(p.net.layer_slices):
            block = p.net.hessian(
                p.w, p.batch.x, y, block=(layer, layer), sample_weight=p.batch.weights
            )
            n = part.stop - part.start
            self.operations += 2.0 * p.samples * n**2 + n**3 / 3
            factors.append(DenseFactorization._of(block, self.damping, _FLOAT64, 0.0))

        def solve(b: Array) -> Array:
            x = np.empty_like(b)
            for part, factor in zip(p.net.layer_slices, factors, strict=True):
                self.operations += len(b) * factor.solve_operations
                x[:, part] = factor.solve(np.ascontiguousarray(b[:, part]))
            return x

        known = [(factor.inertia, factor.log_determinant) for factor in factors]
        counts = np.sum(
            [(i.positive, i.negative, i.zero) for i, _ in known if i is not None], axis=0
        )
        self.inertia = Inertia(*map(int, counts))
        self.log_determinant = math.fsum(value for _, value in known if value is not None)
        self._refined("dense", sides, solve)

    def _krylov(self, name: str, sides: npt.NDArray[np.int64]) -> None:
        method = cg if name == "cg" else minres
        b, product = self.b[sides], self.product
        limit = self.limit
        if self.blocks:
            # Each layer to the tolerance: ‖r‖² is the sum over layers, as ‖b‖² is.
            b, product = self.split(b), self.split_product
        found: KrylovResult = method(
            product,
            b,
            preconditioner=self._preconditioner(),
            tolerance=self.tolerance,
            iterations=limit,
        )
        x, steps, reasons = found.x, found.iterations, list(found.reasons)
        self.operations += 12.0 * float(steps.sum()) * x.shape[1]
        if self.blocks:
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
        kind, p = self.preconditioner, self.problem
        if kind is None or callable(kind):
            return kind
        y = p.batch.targets if p.batch.labels is None else p.batch.labels
        weights = p.batch.weights
        shift = self.damping + (p.net.l2 if kind == "kronecker" else 0.0)
        if kind == "kronecker":
            factors = kronecker_factors(p.net, p.w, p.batch.x, y, sample_weight=weights)
            largest = max(
                float(np.trace(a) * np.trace(g))
                for a, g in zip(factors.inputs, factors.outputs, strict=True)
            )
            return factors.inverse(max(abs(shift), largest * 1e-16, 1e-300))
        diagonal = abs(p.net.hessian_diagonal(p.w, p.batch.x, y, sample_weight=weights) + shift)
        inverse = 1 / np.maximum(diagonal, max(float(diagonal.max()) * 1e-8, 1e-300))
        return lambda rows: rows * inverse

    # The end

    def solution(self, dtype: np.dtype[Any], seconds: float) -> Solution:
        relative = np.divide(
            self.residuals, self.norms, out=np.zeros_like(self.norms), where=self.norms > 0
        )
        x = (self.x[0] if self.single else self.x).astype(dtype, copy=False)
        return Solution(
            x,
            self.residuals,
            relative,
            relative <= self.tolerance,
            tuple(self.reasons),
            self.iterations,
            self.refinements,
            self.method,
            self.why,
            self.operations,
            seconds,
            self.inertia,
            self.log_determinant,
        )


_TITLES = {
    "layered": "layered",
    "primal": "layered, primal form",
    "dense": "dense",
    "cg": "CG",
    "minres": "MINRES",
}
