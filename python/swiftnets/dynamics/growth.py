"""The largest possible growth of a small change over a window of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.dynamics.graded import Graded
from swiftnets.dynamics.maps import Map
from swiftnets.dynamics.stepping import Stepper, directions, factored, fixed, tangent_count

__all__ = ["OptimalGrowth", "optimal_growth"]


def __dir__() -> list[str]:
    return __all__


_GUARDS = 2  # vectors beyond those asked for, which make the others converge faster
_FAR = math.log(1e9)


@dataclass(frozen=True, eq=False, repr=False)
class OptimalGrowth:
    """The largest singular values of a window's tangent map; made by `optimal_growth`.

    Attributes
    ----------
    logarithms : (k,) float64 array
        ln σᵢ, descending: e to that is how much a change of the first state grows at most.
    starts : (k, D) float64 array
        Orthonormal rows vᵢ: the changes that grow so.
    ends : (k, D) float64 array
        Orthonormal rows uᵢ: what they become, but for the length.
    residuals : (k,) float64 array
        ‖Mᵀ uᵢ / σᵢ − vᵢ‖ of the vectors returned, M vᵢ = σᵢ uᵢ holding to rounding: within that
        part of σᵢ there is a singular value. That no larger one is missed is likely, not proved.
    steps : int
        Of the window.
    iterations : int
    success : bool
        Whether all residuals are as small as was asked.
    message : str
    """

    logarithms: Array
    starts: Array
    ends: Array
    residuals: Array
    steps: int
    iterations: int
    success: bool
    message: str

    @property
    def rates(self) -> Array:
        """ln σᵢ a step, (k,): at most, where a Lyapunov exponent is what random changes see."""
        return self.logarithms / self.steps

    def __repr__(self) -> str:
        values = ", ".join(f"{value:.6g}" for value in self.logarithms[:4])
        more = ", …" * (len(self.logarithms) > 4)
        return (
            f"OptimalGrowth(logarithms [{values}{more}] over {checks.counted(self.steps, 'step')}, "
            f"residuals up to {self.residuals.max():.1e}, success={self.success})"
        )


def optimal_growth(
    map: Map,
    state: npt.ArrayLike,
    *,
    steps: int | None = None,
    k: int = 1,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> OptimalGrowth:
    """ln σ₁ ≥ … ≥ ln σₖ of the product of a window's derivatives, with what grows so.

    Power iteration on Mᵀ M for several vectors at once, M = Jₙ … J₁: forward along the window by
    ``tangent``, back by ``adjoint``, factored at each step so that nothing overflows (singular
    vectors of forecasts, Lorenz 1965; optimal growth, Farrell 1988).

    Parameters
    ----------
    map : Map
        With ``adjoint(state, rows)``, Jᵀ times each row, as all maps of this module have it. A map
        of your own whose J is symmetric may say ``adjoint = tangent``.
    state : (S,) or (n, S) array_like
        Where the window starts, with `steps`; or its path, the states before each step.
    steps : int, optional
        Of the window. Not with a path.
    k : int
        How many.
    tolerance : float
        Of the residuals.
    max_iterations : int
    seed : int
    progress : bool
        Show how far it is, on standard error.

    Returns
    -------
    OptimalGrowth
        With ``success=False`` and a message if the limit of iterations came first.

    Raises
    ------
    TypeError
        If an argument is of another kind, or the map has no ``adjoint``; the message says so.
    ValueError
        If an argument is not as above.
    FloatingPointError
        If the orbit diverges, or a derivative has numbers that are not finite.
    numpy.linalg.LinAlgError
        If the product is singular and fewer than k values are above 0.

    Notes
    -----
    An iteration costs 2 n passes with k + 2 tangents each; the path of n states is kept. Values may
    differ by any factor, and keep their digits. Of residuals, parts along vectors whose values are
    over 1e9 times larger are left out: they are rounding alone, times that factor.

    Examples
    --------
    A shear keeps all lengths in the long run, and yet something grows in ten steps:

    >>> class Shear:
    ...     matrix = np.array([[1.0, 1.0], [0.0, 1.0]])
    ...
    ...     def step(self, state):
    ...         return self.matrix @ state
    ...
    ...     def tangent(self, state, rows):
    ...         return rows @ self.matrix.T
    ...
    ...     def adjoint(self, state, rows):
    ...         return rows @ self.matrix
    >>> growth = optimal_growth(Shear(), [0.0, 0.0], steps=10, k=2)
    >>> growth.logarithms.round(6), growth.success
    (array([ 2.312438, -2.312438]), True)
    >>> np.log(np.linalg.svd([[1.0, 10.0], [0.0, 1.0]])[1]).round(6)
    array([ 2.312438, -2.312438])
    """
    stepper, path = _path(map, state, steps)
    k = tangent_count(k, stepper.dimension)
    tolerance = checks.real(tolerance, "tolerance", positive=True)
    limit = checks.integer(max_iterations, "max_iterations")
    seed = checks.integer(seed, "seed", 0)
    bar = Progress(0, limit, "residual", shown=checks.flag(progress, "progress"))
    block = min(k + _GUARDS, stepper.dimension)
    starts, iterations = directions(seed, block, stepper.dimension), 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            while True:
                iterations += 1
                found, starts = _iterated(stepper, path, starts)
                if not np.isfinite(found.logarithms[:k]).all():
                    raise np.linalg.LinAlgError(
                        f"the window's product has only {np.isfinite(found.logarithms).sum()} "
                        f"singular values above 0; expected {k}"
                    )
                worst = float(found.residuals[:k].max())
                bar.step(worst)
                if worst <= tolerance or iterations == limit:
                    break
        finally:
            bar.close()
    success = worst <= tolerance
    told = f"residuals up to {worst:.1e}, tolerance {tolerance:.1e}"
    return OptimalGrowth(
        logarithms=found.logarithms[:k].copy(),
        starts=found.starts[:k].copy(),
        ends=found.ends[:k].copy(),
        residuals=found.residuals[:k].copy(),
        steps=len(path),
        iterations=iterations,
        success=success,
        message=told if success else f"the limit of {limit} iterations is reached: {told}",
    )


def _path(map: Map, state: npt.ArrayLike, steps: Any) -> tuple[Stepper, list[Array]]:
    """The map, checked, and the states before each step of the window."""
    if checks.dimensions(state, "state") == 2:
        if steps is not None:
            raise ValueError(f"steps is {steps!r} with a path of states; expected None")
        rows = checks.array(state, "state", ("n", "S"))
        return Stepper(map, rows.shape[1], "adjoint"), [fixed(row) for row in rows]
    if steps is None:
        raise TypeError("steps is missing; expected how many from state on, or a path of states")
    steps = checks.integer(steps, "steps")
    path = [fixed(state)]
    stepper = Stepper(map, len(path[0]), "adjoint")
    with np.errstate(over="ignore", invalid="ignore"):
        while len(path) < steps:
            path.append(stepper.step(path[-1], len(path) - 1))
    return stepper, path


class _Found(NamedTuple):
    """Of all vectors of the block."""

    logarithms: Array
    starts: Array
    ends: Array
    residuals: Array


def _iterated(stepper: Stepper, path: list[Array], starts: Array) -> tuple[_Found, Array]:
    """Singular values on the span of orthonormal rows, and the span for the next iteration."""
    ends, product = starts, Graded(len(starts))
    for done, state in enumerate(path):
        ends, triangle = factored(stepper.rows("tangent", state, ends, done))
        product.multiply(triangle)
    left, logarithms, right = product.svd()
    starts, ends = right.T @ starts, left.T @ ends
    back, product = ends, Graded(len(ends))
    for done in range(len(path) - 1, -1, -1):
        back, triangle = factored(stepper.rows("adjoint", path[done], back, done))
        product.multiply(triangle)
    # Mᵀ uᵢ over σᵢ, in the rows of `back`. Along vectors of far larger values it is rounding of uᵢ,
    # grown.
    far = np.subtract.outer(logarithms, logarithms) > _FAR
    parts = np.where(np.triu(far, 1), 0.0, product.rows)
    powers = np.exp(product.exponents[:, None] * math.log(2) - logarithms)
    columns = np.where(parts == 0, 0.0, parts * powers)
    residuals = np.linalg.norm(columns.T @ back - starts, axis=1)
    return _Found(logarithms, starts, ends, residuals), back
