"""Saddle-free Newton: steps f(H) g with a positive f, so that negative curvature repels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _checks
from swiftnets._samples import FloatArray
from swiftnets._scaling import norm
from swiftnets.factorizations import LayeredFactorization, factorize
from swiftnets.lanczos import Lanczos, lanczos
from swiftnets.optimizers.base import (
    Optimizer,
    State,
    StepResult,
    check_settings,
    count_cost,
    net_problem,
)
from swiftnets.optimizers.newton import finish, gradient_operations
from swiftnets.problems import PointLike, Problem

__all__ = ["SaddleFreeNewton", "inverse_root_nodes"]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Literal["smooth", "absolute", "original"]

_FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "smooth": lambda values, damping: 1 / np.hypot(values, damping),
    "absolute": lambda values, damping: 1 / (abs(values) + damping),
    "original": lambda values, damping: abs(1 / (values + damping)),
}
_PROBE = 20  # Lanczos steps to bound the spectrum


@dataclass(frozen=True, kw_only=True)
class SaddleFreeNewton(Optimizer):
    """w − η f(H) g with a positive function f of the exact Hessian (Dauphin et al. 2014).

    Parameters
    ----------
    damping : float
        δ, above 0.
    function : {"smooth", "absolute", "original"}
        Of an eigenvalue h: 1 / √(h² + δ²), 1 / (|h| + δ), or the original script's |1 / (h + δ)|,
        which has a pole at −δ. The first two are within a factor √2.
    method : {"exact", "krylov", "rational"}
        ``"exact"``: all eigenvalues of the dense Hessian. ``"krylov"``: f(H) g on a space of
        Lanczos vectors, fully orthogonalised. ``"rational"``: for nets and ``"smooth"``,
        quadrature over layered solves with imaginary shifts.
    blocks : {None, "diagonal"}
        ``"diagonal"``: the blocks of single layers, as slow_net; for nets, ``"exact"`` only.
    learning_rate : float
        η.
    line_search : bool
        Halve the step until the loss falls (Armijo 1966): −f(H) g always descends at first. For
        full batches.
    steps : int
        Lanczos steps of ``"krylov"``, each a product.
    nodes : int
        Of ``"rational"``, each a complex factorisation.

    Notes
    -----
    ``"exact"`` costs some 9 P³ operations. ``"krylov"`` converges with the best polynomial of
    degree `steps` for f on the spectrum: faster for large δ. The error of ``"rational"`` falls
    geometrically in `nodes`, at a rate that depends on log(‖H‖ / δ) alone (Hale, Higham &
    Trefethen 2008); for small batches of narrow nets, see ``docs/inverse.md``.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> saddle = Quadratic([[2.0, 0.0], [0.0, -2.0]])
    >>> method = SaddleFreeNewton(damping=1e-6)
    >>> method.minimize(saddle, [1.0, 1e-3], iterations=1).w.round(6) + 0.0
    array([0.   , 0.002])
    """

    damping: float = 0.1
    function: Function = "smooth"
    method: Literal["exact", "krylov", "rational"] = "exact"
    blocks: Literal["diagonal"] | None = None
    learning_rate: float = 1.0
    line_search: bool = False
    steps: int = 100
    nodes: int = 12

    def __post_init__(self) -> None:
        check_settings(self, "damping", "learning_rate")
        _checks.choice(self.function, "function", tuple(_FUNCTIONS))
        _checks.choice(self.method, "method", ("exact", "krylov", "rational"))
        if self.blocks is not None:
            _checks.choice(self.blocks, "blocks", ("diagonal",))
            if self.method != "exact":
                raise ValueError(
                    f'blocks is "diagonal" with method={self.method!r}; expected "exact"'
                )
        _checks.integer(self.steps, "steps")
        _checks.integer(self.nodes, "nodes", 1, 1000)
        if self.method == "rational" and self.function != "smooth":
            raise ValueError(f'function is {self.function!r}; expected "smooth" with "rational"')

    def step(self, problem: Problem, w: FloatArray, state: State) -> StepResult:
        point = problem.linearize(w)
        length = norm(point.gradient)
        if length == 0:
            return StepResult(w, point.loss, 0.0, state, False, failure="the gradient is 0")
        direction = self.direction(problem, w, point).astype(w.dtype, copy=False)
        step = -w.dtype.type(self.learning_rate) * direction
        return finish(self.line_search, problem, w, step, point.loss, point.gradient, state)

    def direction(
        self, problem: Problem, w: FloatArray, point: PointLike | None = None
    ) -> npt.NDArray[np.float64]:
        """f(H) g in float64.

        Parameters
        ----------
        problem : Problem
        w : (P,) float array
        point : Point or Linearization, optional
            The problem linearised at w, where that is at hand.
        """
        point = problem.linearize(w) if point is None else point
        if self.method == "krylov":
            run = lanczos(point.hvp, point.gradient, self.steps)
            result: Array = run.apply(self._function).astype(np.float64, copy=False)
            return result
        if self.method == "rational":
            return self._rational(problem, w, point)
        return self._exact(problem, w, point)

    def _function(self, values: Array) -> Array:
        return _FUNCTIONS[self.function](values, self.damping)

    def _exact(self, problem: Problem, w: FloatArray, point: PointLike) -> Array:
        gradient = point.gradient.astype(np.float64, copy=False)
        if self.blocks is None:
            return self._applied(problem.hessian(w), gradient)
        net = net_problem(problem, 'blocks="diagonal"')
        x, y, weights = net.samples
        result = np.empty_like(gradient)
        for layer, part in enumerate(net.net.layer_slices):
            block = net.net.hessian(w, x, y, block=(layer, layer), sample_weight=weights)
            count_cost(problem, 2 * len(block))
            result[part] = self._applied(block, gradient[part])
        return result

    def _applied(self, hessian: FloatArray, gradient: Array) -> Array:
        values, vectors = np.linalg.eigh(hessian.astype(np.float64, copy=False))
        result: Array = vectors @ (self._function(values) * (vectors.T @ gradient))
        return result

    def _rational(self, problem: Problem, w: FloatArray, point: PointLike) -> Array:
        net = net_problem(problem, 'method="rational"')
        gradient = point.gradient.astype(np.float64, copy=False)
        shifts, weights = inverse_root_nodes(
            self.damping, largest_eigenvalue(lanczos(point.hvp, point.gradient, _PROBE)), self.nodes
        )
        x, y, sample_weight = net.samples
        factors: LayeredFactorization | None = None
        result = np.zeros_like(gradient)
        for shift, weight in zip(shifts, weights, strict=True):
            if factors is None:
                made = factorize(
                    net.net, w, x, y, shift=complex(0.0, -shift), sample_weight=sample_weight
                )
                assert isinstance(made, LayeredFactorization)
                factors = made
            else:
                factors.update(shift=complex(0.0, -shift))
            solution = factors.solve(gradient).astype(np.complex128)
            # One refinement with exact products: H − i τ on real and imaginary part.
            images = point.hvp(np.stack([solution.real, solution.imag]).astype(w.dtype))
            image = images[0] + 1j * images[1] - 1j * shift * solution
            solution += factors.solve(gradient - image)
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
        δ.
    largest : float
    count : int

    Returns
    -------
    tuple of two (count,) float64 arrays

    Examples
    --------
    >>> shifts, weights = inverse_root_nodes(0.1, 10.0, 12)
    >>> h = 3.0
    >>> bool(abs(np.sum(weights / (h**2 + shifts**2)) * np.hypot(h, 0.1) - 1) < 1e-7)
    True
    """
    small = damping / math.hypot(largest, damping)  # the complementary modulus
    means = _arithmetic_geometric(small)
    quarter = math.pi / (2 * means[-1][0])  # the quarter period K
    u = (np.arange(count) + 0.5) * (quarter / count)
    # Amplitude by descending Landen transformations (Abramowitz & Stegun 16.4).
    angle = 2.0 ** (len(means) - 1) * means[-1][0] * u
    for a, c in reversed(means[1:]):
        angle = (angle + np.arcsin(c / a * np.sin(angle))) / 2
    sine, cosine = np.sin(angle), np.cos(angle)
    dn = np.hypot(cosine, small * sine)
    shifts = damping * np.hypot(1, sine / cosine)
    weights = 2 * quarter * damping / (math.pi * count) * dn / cosine**2
    return shifts, weights


def _arithmetic_geometric(small: float) -> list[tuple[float, float]]:
    """Means a and half differences c of the arithmetic-geometric mean of 1 and `small`."""
    a, b = 1.0, small
    result = [(a, math.sqrt(1 - small**2))]
    while abs(a - b) > 4 * np.finfo(float).eps * a:
        a, b, c = (a + b) / 2, math.sqrt(a * b), (a - b) / 2
        result.append((a, c))
    return result
