"""Saddle-free Newton: steps f(H) g with a positive f, so that negative curvature repels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array, FloatArray
from swiftnets.linalg.lanczos import Lanczos, lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import norm
from swiftnets.nets.supports import require_dense
from swiftnets.optimizers.base import Optimizer, State, StepResult, check_settings
from swiftnets.optimizers.negative_curvature import look, seen, unlooked
from swiftnets.optimizers.newton import finish, gradient_operations
from swiftnets.optimizers.secular import resolved
from swiftnets.problems import PointLike, Problem
from swiftnets.problems.computed import hessian, linearized
from swiftnets.problems.counted import count_cost, net_problem
from swiftnets.problems.functional_inverse import refined
from swiftnets.solve.layered import LayeredFactorization

__all__ = ["SaddleFreeNewton", "inverse_root_nodes"]


def __dir__() -> list[str]:
    return __all__


Function: TypeAlias = Literal["smooth", "absolute", "original"]

_FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "smooth": lambda values, damping: 1 / np.hypot(values, damping),
    "absolute": lambda values, damping: 1 / (abs(values) + damping),
    "original": lambda values, damping: abs(1 / (values + damping)),
}
_PROBE = 20  # Lanczos steps to bound the spectrum
_RATIONAL = ('method="rational"', '"krylov" or "exact"')
_SOLVED = 1e-8  # residual of a shifted system, in units of the gradient


@dataclass(frozen=True, kw_only=True)
class SaddleFreeNewton(Optimizer):
    """w − η f(H) g with a positive function f of the exact Hessian (Dauphin et al. 2014).

    Parameters
    ----------
    damping : float
        δ, above 0.
    function : {"smooth", "absolute", "original"}
        Of an eigenvalue h: 1 / √(h² + δ²), 1 / (abs(h) + δ), or the script's abs(1 / (h + δ)),
        which has a pole at −δ. The first two are within a factor √2.
    method : {"krylov", "exact", "rational"}
        ``"krylov"``: f(H) g on a space of Lanczos vectors, fully orthogonalised. ``"exact"``: all
        eigenvalues of the dense Hessian. ``"rational"``: for nets and ``"smooth"``, quadrature over
        layered solves with imaginary shifts.
    block : {None, "diagonal"}
        ``"diagonal"``: the blocks of single layers, as slow_net; for nets, ``"exact"`` only.
    learning_rate : float
        η.
    line_search : bool
        Halve the step until the loss falls (Armijo 1966): −f(H) g always descends at first. Whole
        steps diverge on most nets unless δ is large.
    steps : int
        Lanczos steps of ``"krylov"``, each a product.
    nodes : int
        Of ``"rational"``, each a complex factorisation.

    Notes
    -----
    ``"exact"`` costs some 9 P³ operations. ``"krylov"`` converges with the best polynomial of
    degree `steps` for f on the spectrum: faster for large δ. The error of ``"rational"`` falls
    geometrically in `nodes`, at a rate that depends on log(‖H‖ / δ) alone (Hale, Higham &
    Trefethen 2008); each step reports it, as ``"quadrature_error"``. It is for small batches of
    narrow nets, see ``docs/inverse.md``.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> saddle = Quadratic([[2.0, 0.0], [0.0, -2.0]])
    >>> method = SaddleFreeNewton(damping=1e-6)
    >>> method.minimize(saddle, [1.0, 1e-3], max_iterations=1).w.round(6) + 0.0
    array([0.   , 0.002])
    """

    damping: float = 0.1
    function: Function = "smooth"
    method: Literal["krylov", "exact", "rational"] = "krylov"
    block: Literal["diagonal"] | None = None
    learning_rate: float = 1.0
    line_search: bool = True
    steps: int = 40
    nodes: int = 12

    def __post_init__(self) -> None:
        check_settings(self, "damping", "learning_rate")
        checks.flag(self.line_search, "line_search")
        checks.choice(self.function, "function", tuple(_FUNCTIONS))
        checks.choice(self.method, "method", ("krylov", "exact", "rational"))
        if self.block is not None:
            checks.choice(self.block, "block", ("diagonal",))
            if self.method != "exact":
                raise ValueError(
                    f'block is "diagonal" with method={self.method!r}; expected method="exact"'
                )
        checks.integer(self.steps, "steps")
        checks.integer(self.nodes, "nodes", 1, 1000)
        if self.method == "rational" and self.function != "smooth":
            raise ValueError(f'function is {self.function!r}; expected "smooth" with "rational"')

    def initial_state(self, problem: Problem, w: FloatArray) -> State:
        return {} if self.method == "exact" else unlooked()

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        point = linearized(problem, w)
        length = norm(point.gradient)
        found, least, info, is_all = self._found(problem, w, point)
        kept: State = {}
        if self.method != "exact":
            beside, _, kept = look(point, state, is_all)
            least = min(least, beside)
        if length == 0:
            return StepResult(
                w,
                point.loss,
                0.0,
                kept,
                False,
                failure="the gradient is 0",
                least_curvature=seen(least),
            )
        with np.errstate(over="ignore", invalid="ignore"):
            step = -w.dtype.type(self.learning_rate) * found.astype(w.dtype, copy=False)
        if not np.isfinite(step).all():
            raise FloatingPointError("the step has numbers that are not finite")
        result = finish(self.line_search, problem, w, step, point.loss, point.gradient, kept)
        return replace(result, info={**result.info, **info}, least_curvature=seen(least))

    def direction(
        self, problem: Problem, w: FloatArray, point: PointLike | None = None
    ) -> npt.NDArray[np.float64]:
        """f(H) g in float64.

        Parameters
        ----------
        problem : Problem
        w : (P,) float array
        point : PointLike, optional
            The problem linearised at w, where that is at hand.

        Returns
        -------
        (P,) float64 array

        Raises
        ------
        FloatingPointError
            If the gradient or the Hessian is not finite.
        numpy.linalg.LinAlgError
            If a node of ``"rational"`` is not solved.
        """
        return self._found(problem, w, linearized(problem, w) if point is None else point)[0]

    def _found(
        self, problem: Problem, w: FloatArray, point: PointLike
    ) -> tuple[Array, float, dict[str, float], bool]:
        """f(H) g, the least curvature seen, further numbers, and whether products see no more."""
        # That is: no more than what the gradient has a part in.
        if self.method == "exact":
            return *self._exact(problem, w, point), {}, False
        if self.method == "rational":
            require_dense(net_problem(problem, 'method="rational"').net, *_RATIONAL)
        if not point.gradient.any():
            return np.zeros(len(w)), math.inf, {}, True
        steps = self.steps if self.method == "krylov" else _PROBE
        run = lanczos(point.hessian, point.gradient, steps)
        is_all = len(run.diagonal) < min(steps, len(w))
        least = resolved(run.eigenvalues()[0], len(w), w.dtype)[1]
        if self.method == "krylov":
            return run.apply(self._function).astype(np.float64, copy=False), least, {}, is_all
        largest = largest_eigenvalue(run)
        error = inverse_root_error(self.damping, largest, self.nodes)
        found = self._rational(problem, w, point, largest)
        return found, least, {"quadrature_error": error}, is_all

    def _function(self, values: Array) -> Array:
        with np.errstate(divide="ignore"):
            return _FUNCTIONS[self.function](values, self.damping)

    def _exact(self, problem: Problem, w: FloatArray, point: PointLike) -> tuple[Array, float]:
        gradient = point.gradient.astype(np.float64, copy=False)
        if self.block is None:
            return self._applied(hessian(problem, w), gradient)
        net = net_problem(problem, 'block="diagonal"')
        matrix = net.at(w).hessian
        result, least = np.empty_like(gradient), math.inf
        for layer, part in enumerate(net.net.layer_slices):
            block = matrix.dense((layer, layer))
            count_cost(problem, 2 * len(block))
            if not np.isfinite(block).all():
                raise FloatingPointError("the Hessian has numbers that are not finite")
            result[part], lowest = self._applied(block, gradient[part])
            least = min(least, lowest)
        return result, least

    def _applied(self, matrix: FloatArray, gradient: Array) -> tuple[Array, float]:
        values, vectors = eigh(matrix)
        result: Array = vectors @ (self._function(values) * (vectors.T @ gradient))
        return result, resolved(values, len(values), matrix.dtype)[1]

    def _rational(self, problem: Problem, w: FloatArray, point: PointLike, largest: float) -> Array:
        net = net_problem(problem, 'method="rational"')
        gradient = point.gradient.astype(np.float64, copy=False)
        shifts, weights = inverse_root_nodes(self.damping, largest, self.nodes)
        wide = net.in_float64()
        is_wider, net = wide is not net, wide
        here = net.at(w)
        exact = here if is_wider else point
        factors: LayeredFactorization | None = None
        result = np.zeros_like(gradient)
        for shift, weight in zip(shifts, weights, strict=True):
            if factors is None:
                factors = LayeredFactorization(here.hessian + complex(0.0, -shift))
            else:
                factors.update(complex(0.0, -shift))

            def product(v: npt.NDArray[np.complex128], shift: float = shift) -> Array:
                """(H − i τ) v, exactly: H on real and imaginary part."""
                if is_wider:
                    count_cost(problem, 4)
                images = np.stack([v.real, v.imag]) @ exact.hessian
                image: Array = images[0] + 1j * images[1] - 1j * shift * v
                return image

            solution, residual = refined(factors.solve, product, gradient.astype(np.complex128))
            if not residual <= _SOLVED:
                raise np.linalg.LinAlgError(
                    f"(H − {shift:.3g} i) x = g is not solved: relative residual {residual:.1e}"
                )
            # Im (H − i τ)⁻¹ g = τ (H² + τ²)⁻¹ g.
            result += weight / shift * solution.imag
            spent = factors.operations + 2 * factors.solve_operations
            count_cost(problem, spent / gradient_operations(net))
        return result


def largest_eigenvalue(run: Lanczos) -> float:
    """A bound on |eigenvalues|, but for directions that the start hardly has."""
    values, errors = run.eigenvalues()
    return 1.05 * float((abs(values) + errors).max())


def inverse_root_nodes(damping: float, largest: float, count: int) -> tuple[Array, Array]:
    """Shifts τ and weights c with 1 / √(h² + δ²) ≈ Σ cⱼ / (h² + τⱼ²) for |h| ≤ `largest`.

    The integral (2 / π) ∫ (h² + δ² + t²)⁻¹ dt over t ≥ 0, by the midpoint rule after the
    substitution t = δ sn u / cn u, in which the integrand is analytic in a strip (Hale, Higham &
    Trefethen 2008).

    Parameters
    ----------
    damping : float
        δ, above 0.
    largest : float
        Not negative.
    count : int

    Returns
    -------
    tuple of two (count,) float64 arrays

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    See Also
    --------
    inverse_root_error : How good the approximation is.

    Examples
    --------
    >>> shifts, weights = inverse_root_nodes(0.1, 10.0, 12)
    >>> h = 3.0
    >>> bool(abs(np.sum(weights / (h**2 + shifts**2)) * np.hypot(h, 0.1) - 1) < 1e-7)
    True
    """
    damping = checks.real(damping, "damping", positive=True)
    largest = checks.nonnegative(largest, "largest")
    count = checks.integer(count, "count")
    small, large = _moduli(damping, largest)
    quarter = math.pi / (2 * _arithmetic_geometric(1.0, small))  # the quarter period K
    half: Array = np.arange((count + 1) // 2, dtype=np.float64)
    below = _tangent((half + 0.5) * (quarter / count), small, large)
    if count % 2:
        below[-1] = 1 / math.sqrt(small)  # at K / 2
    # What is beyond the middle is its mirror image: sc(K − u) = 1 / (k′ sc u).
    tangents = np.concatenate([below, 1 / (small * below[: count // 2][::-1])])
    shifts = damping * np.hypot(1, tangents)
    # dn / cn², with both in terms of sn / cn.
    weights = np.hypot(1, small * tangents) * np.hypot(1, tangents)
    return shifts, 2 * quarter / (math.pi * count) * damping * weights


def inverse_root_error(damping: float, largest: float, count: int) -> float:
    """The largest relative error of `inverse_root_nodes`, at 50 places h a node.

    Parameters
    ----------
    damping, largest : float
    count : int
        As of `inverse_root_nodes`.

    Returns
    -------
    float

    Examples
    --------
    >>> bool(inverse_root_error(0.1, 10.0, 12) < 1e-7)
    True
    >>> bool(inverse_root_error(1e-8, 1.0, 12) > 1e-4)
    True
    """
    shifts, weights = inverse_root_nodes(damping, largest, count)
    small, large = _moduli(damping, largest)
    # In units of δ: at 0, and up to `largest` even in log h.
    last = large / small
    h = np.concatenate([[0.0], np.geomspace(0.1 * min(1.0, last), last, 50 * count)])
    ratio = np.zeros_like(h)
    for shift, weight in zip(shifts / damping, weights / damping, strict=True):
        size = np.hypot(h, shift)
        ratio += weight / size * (np.hypot(h, 1) / size)
    return float(abs(ratio - 1).max())


def _moduli(damping: float, largest: float) -> tuple[float, float]:
    """k′ and k, in the range where 1 / k′ and √k are."""
    tiny = float(np.finfo(float).tiny)
    e = max(math.frexp(damping)[1], math.frexp(largest)[1])
    a, b = math.ldexp(damping, -e), math.ldexp(largest, -e)
    size = math.hypot(a, b)
    return max(a / size, tiny), max(b / size, tiny)


def _arithmetic_geometric(a: float, b: float) -> float:
    while abs(a - b) > 4 * np.finfo(float).eps * a:
        a, b = (a + b) / 2, math.sqrt(a) * math.sqrt(b)
    return a


def _tangent(u: Array, small: float, large: float) -> Array:
    """sn / cn for u ≤ K / 2, by Landen transformations of the complementary modulus."""
    # sc(u, k) = −i sn(i u, k′), and as k′ → 0 that is sinh u: a few transformations get there (NIST
    # DLMF 22.7). Nothing cancels, as k′ sc² ≤ 1.
    if small < 1e-20:
        return np.sinh(u)
    # (1 − k) / (1 + k) without cancellation.
    lower = (small / (1 + large)) ** 2
    inner = _tangent(u / (1 + lower), lower, 2 * math.sqrt(large) / (1 + large))
    return (1 + lower) * inner / (1 - lower * inner**2)
