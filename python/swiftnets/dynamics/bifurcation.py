"""What gradient descent does where its step grows past 2 / sharpness at a minimum.

`flip` says whether the iterates begin to alternate, and how far apart; `two_cycle` is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from swiftnets._core import ConvergenceError
from swiftnets._support import checks
from swiftnets._support.plotting import axes_of, styled
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.dynamics.criticality import (
    FLAT,
    SIMPLE,
    VALID,
    finite,
    pseudo_inverse,
    require_critical,
    signed,
)
from swiftnets.dynamics.smooth import moved, smooth_point
from swiftnets.linalg.lapack import aside, eigh
from swiftnets.linalg.scaling import norm
from swiftnets.spectra.eigsh import eigsh

__all__ = ["Flip", "TwoCycle", "flip", "two_cycle"]


def __dir__() -> list[str]:
    return __all__


_DENSE = 1000  # parameters up to which all eigenpairs are computed
_NULL = 1e-13  # of the norm: the same in Newton's matrix, which is small of itself near the flip
_ROUNDING = 1e-13  # what it may leave of a coefficient that is 0, relative
_COLLAPSED = 1e-3  # of the start's distance: two points that are nearer have become one


@dataclass(frozen=True, eq=False)
class Flip:
    """How gradient descent leaves a minimum as its step passes 2 / sharpness; made by `flip`.

    Attributes
    ----------
    point : Point
        The minimum w*, in float64.
    sharpness : float
        S, the Hessian's largest eigenvalue.
    vector : (P,) float64 array
        u, its eigenvector; the entry of largest modulus is positive.
    coefficient : float
        c at η = 2 / S. Above 0: past it there is a stable 2-cycle, which grows like √(η S − 2).
        Below 0: there is an unstable one before it, and past it nothing near to go to. 0 where it
        is that to rounding: higher orders decide.
    null_fraction : float
        The part of t = T[u, u] in the Hessian's null space, relative to ‖t‖. c means nothing where
        it is not nearly 0; see `is_valid`.
    third : (P,) float64 array
        t.
    response : (P,) float64 array
        H⁺ t: the cycle's mean is at w* − ½ A² H⁺ t.
    fourth : float
        Q[u, u, u, u].
    least, next : float
        The Hessian's smallest eigenvalue and its second largest; the latter is NaN for one
        parameter.
    gradient_norm : float
        Of the gradient at w*.
    """

    point: Point
    sharpness: float
    vector: Array
    coefficient: float
    null_fraction: float
    third: Array
    response: Array
    fourth: float
    least: float
    next: float
    gradient_norm: float

    @property
    def critical_step(self) -> float:
        """2 / S, where the minimum loses its stability."""
        return 2 / self.sharpness

    @property
    def is_valid(self) -> bool:
        """Whether the null fraction is at most 1e-6."""
        return self.null_fraction <= VALID

    def amplitude(self, step: float) -> float:
        """A = √((η S − 2) / c), the cycle's distance from the minimum along u, to first order.

        Parameters
        ----------
        step : float
            η, of gradient descent.

        Returns
        -------
        float
            The error is of relative order η S − 2.

        Raises
        ------
        ValueError
            If there is no cycle at this step, as it is on the other side of 2 / S, or the
            coefficient is 0.
        FloatingPointError
            If it is beyond float64.
        """
        step = checks.real(step, "step", positive=True)
        excess = step * self.sharpness - 2
        if excess == 0:
            return 0.0
        if not self.coefficient:
            raise ValueError(
                "the coefficient is 0, and says nothing of cycles: the loss has no terms beyond "
                "the second along this direction, or they cancel"
            )
        if not excess * self.coefficient > 0:
            side = "above" if self.coefficient > 0 else "below"
            raise ValueError(
                f"step is {step:.10g}, and with a coefficient of {self.coefficient:.6g} there are "
                f"cycles only at steps {side} 2 / sharpness = {self.critical_step:.10g}"
            )
        found = math.sqrt(excess / self.coefficient)
        if math.isinf(found):
            raise FloatingPointError(
                f"the amplitude at a step of {step:.6g} is beyond float64: the normal form is of "
                "steps near 2 / sharpness"
            )
        return found

    def cycle(self, step: float) -> Array:
        """The cycle's two points to second order, w* ± A u − ½ A² H⁺ t.

        Parameters
        ----------
        step : float

        Returns
        -------
        (2, P) float64 array
            `two_cycle` makes them exact.

        Raises
        ------
        ValueError
            As `amplitude`.
        FloatingPointError
            If they are beyond float64.
        """
        a = self.amplitude(step)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = self.point.w - 0.5 * a * a * self.response
            found = np.array([mean + a * self.vector, mean - a * self.vector])
        if not np.isfinite(found).all():
            raise FloatingPointError(
                f"the cycle at a step of {step:.6g} is beyond float64: the normal form is of steps "
                "near 2 / sharpness"
            )
        return found

    def plot(self, ax: Any = None, *, steps: npt.ArrayLike | None = None, **lines: Any) -> Any:
        """Draw the fork: where the iterates are along u, against the step; unstable parts dashed.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        steps : (n,) array_like, optional
            In the order drawn; by default within 5 % of 2 / S.
        **lines : object
            As `matplotlib.axes.Axes.plot` takes it.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ValueError
            If a step is not above 0.
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.
        """
        if steps is None:
            # Many near the tip, where the branches are steep.
            near = np.linspace(0, 1, 200) ** 2 * 0.05
            grid = self.critical_step * np.concatenate([1 - near[:0:-1], 1 + near])
        else:
            grid = checks.array(steps, "steps", ("n",))
            if not (np.isfinite(grid).all() and (grid > 0).all()):
                raise ValueError("steps has an entry that is not above 0; expected steps above 0")
        ax = axes_of(ax)
        excess = grid * self.sharpness - 2
        style = styled(lines, color="tab:blue", linewidth=1.5)
        label = style.pop("label", "normal form")
        nothing = np.full(len(grid), np.nan)
        ax.plot(grid, np.where(excess <= 0, 0.0, nothing), **style)
        ax.plot(grid, np.where(excess >= 0, 0.0, nothing), **{"linestyle": "--", **style})
        with np.errstate(divide="ignore", invalid="ignore"):
            there = np.where(excess / self.coefficient >= 0, excess / self.coefficient, np.nan)
        ends = {} if self.coefficient > 0 else {"linestyle": "--"}
        for sign, name in ((1, label), (-1, None)):
            ax.plot(grid, sign * np.sqrt(there), label=name, **{**ends, **style})
        ax.set_xlabel("step η")
        ax.set_ylabel("⟨w − w*, u⟩")
        return ax

    def __repr__(self) -> str:
        if self.coefficient:
            kind = "a stable 2-cycle" if self.coefficient > 0 else "a hard loss of stability"
        else:
            kind = "cycles not decided by the coefficient"
        doubt = "" if self.is_valid else f", not valid: null fraction {self.null_fraction:.1e}"
        return (
            f"Flip({kind} past a step of {self.critical_step:.6g}: sharpness "
            f"{self.sharpness:.6g}, coefficient {self.coefficient:.6g}{doubt})"
        )


def flip(point: Point, *, tolerance: float = 1e-6) -> Flip:
    """How gradient descent leaves a minimum as its step grows past 2 / sharpness.

    The normal form of the flip (Kuznetsov 2004, §5.4) of w ↦ w − η g(w), with S and u the
    Hessian's largest eigenpair and t = T[u, u]: c = (η / 6) (3 tᵀ H⁺ t − Q[u, u, u, u]) at
    η = 2 / S.

    Parameters
    ----------
    point : Point
        A minimum, of a net without kinks. Its Hessian may have a null space if t has no part in it.
    tolerance : float
        Of the gradient, relative to ‖H‖ max(1, ‖w‖), and of eigenvalues below 0, relative to ‖H‖.

    Returns
    -------
    Flip

    Raises
    ------
    TypeError
        If `point` is no point.
    ValueError
        If it is no minimum, by its gradient or a negative eigenvalue; if the net or the loss has
        kinks.
    numpy.linalg.LinAlgError
        If the largest eigenvalue is not simple: then there is no one direction.
    swiftnets.ConvergenceError
        If, above 1000 parameters, eigenpairs or H⁺ t were not found.

    Notes
    -----
    Up to 1000 parameters all eigenpairs; above, three of them by products and one solve. One third
    and one fourth derivative, about 4 and 8 gradients.

    Examples
    --------
    Of (w₁ w₂ − 1)² / 2 at (1, 1): S = 2, tᵀ H⁺ t = 9 and Q[u, u, u, u] = 3.

    >>> from swiftnets import MLP
    >>> net = MLP((1, 1, 1), activation="identity", bias=False)
    >>> found = flip(net.at([1.0, 1.0], [[1.0]], [[1.0]]))
    >>> found.sharpness, round(found.coefficient, 12)
    (2.0, 4.0)
    >>> round(found.amplitude(1.02), 12)
    0.1
    """
    here = smooth_point(point)
    tolerance = checks.real(tolerance, "tolerance", positive=True)
    modes = _DenseModes(here) if len(here.w) <= _DENSE else _Modes(here)
    gradient = require_critical(here, modes.norm, tolerance, "minimum")
    if modes.least < -max(tolerance, FLAT) * modes.norm or not modes.top > 0:
        raise ValueError(
            f"point is no minimum: its Hessian has the eigenvalue {modes.least:.6g}, and the "
            f"largest is {modes.top:.6g}; expected none below 0, and one above"
        )
    if modes.next > (1 - SIMPLE) * modes.top:
        raise np.linalg.LinAlgError(
            f"the largest eigenvalue {modes.top:.10g} is not simple, the next is "
            f"{modes.next:.10g}: there is no one direction to leave the minimum in"
        )
    u = modes.vector
    t = finite(here.third(u, u), "third")
    response, lost = modes.inverse(t)
    fourth = float(u @ finite(here.fourth(u, u, u), "fourth"))
    return Flip(
        point=here,
        sharpness=modes.top,
        vector=u,
        coefficient=_coefficient(3 * float(t @ response), fourth, modes.top, norm(here.w)),
        null_fraction=lost,
        third=t,
        response=response,
        fourth=fourth,
        least=modes.least,
        next=modes.next,
        gradient_norm=gradient,
    )


def _coefficient(coupling: float, fourth: float, sharpness: float, size: float) -> float:
    """c, or 0 where it is that to rounding.

    A derivative of order n is of the size of S / lⁿ⁻², with l the weights' length but at least 1,
    as in the tolerance of gradients: of that rounding leaves a part where they vanish, as at
    minima that symmetries make.

    Parameters
    ----------
    coupling : float
        3 tᵀ H⁺ t.
    fourth, sharpness, size : float
        Q[u, u, u, u], S and l.

    Returns
    -------
    float
    """
    size = max(1.0, size)
    least = _ROUNDING * max(abs(coupling) + abs(fourth), sharpness / size / size)
    found = coupling - fourth
    return found / (3 * sharpness) if abs(found) > least else 0.0


class _DenseModes:
    """The ends of a Hessian's spectrum and its pseudo-inverse, by all eigenpairs."""

    def __init__(self, point: Point) -> None:
        self._values, self._vectors = eigh(point.hessian.dense())
        self.least, self.top = float(self._values[0]), float(self._values[-1])
        self.next = float(self._values[-2]) if len(self._values) > 1 else math.nan
        self.norm = max(abs(self.least), abs(self.top))
        self.vector = signed(self._vectors[:, -1])

    def inverse(self, t: Array) -> tuple[Array, float]:
        """H⁺ t, and the part of t's norm that is in the null space."""
        return pseudo_inverse(self._values, self._vectors, t, norm(t))


class _Modes:
    """The same by products, and a solve."""

    def __init__(self, point: Point) -> None:
        self._hessian = point.hessian
        found = eigsh(self._hessian, 3, which="BE", tolerance=1e-10)
        if not found.converged:
            raise ConvergenceError(f"the Hessian's ends were not found: {found.message}")
        self.least, self.next, self.top = map(float, found.values)
        self.norm = max(abs(self.least), abs(self.top))
        self.vector = signed(found.vectors[:, -1])

    def inverse(self, t: Array) -> tuple[Array, float]:
        """H⁻¹ t, or the least squares solution with the part of t's norm that it leaves."""
        if not t.any():
            return np.zeros_like(t), 0.0
        found = self._hessian.solve(t)
        if found.success:
            return found.solution, 0.0
        if found.status != "least squares":
            raise ConvergenceError(f"H x = T[u, u] was not solved ({found.status}): {found!r}")
        return found.solution, float(found.relative_residuals[0])


@dataclass(frozen=True, eq=False)
class TwoCycle:
    """Two points that gradient descent alternates between; made by `two_cycle`.

    Attributes
    ----------
    step : float
        η.
    points : (2, P) float64 array
        The second is F of the first, F(w) = w − η g(w).
    losses : (2,) float64 array
    amplitude : float
        Half their distance.
    residual : float
        ‖F(F(w)) − w‖ of the first, computed anew from the points returned.
    multipliers : (P,) complex128 array
        Eigenvalues of the derivative of F∘F, of falling modulus. One of modulus above 1 means that
        the cycle repels; exact symmetries of the net have multipliers of 1.
    iterations : int
        Newton steps.
    """

    step: float
    points: Array
    losses: Array
    amplitude: float
    residual: float
    multipliers: npt.NDArray[np.complex128]
    iterations: int

    @property
    def mean(self) -> Array:
        """The middle of the two points (P,)."""
        middle: Array = self.points.mean(axis=0)
        return middle

    @property
    def is_stable(self) -> bool:
        """Whether no multiplier's modulus is above 1 by more than 1e-9."""
        return float(abs(self.multipliers[0])) <= 1 + 1e-9

    def __repr__(self) -> str:
        kind = "stable" if self.is_stable else "unstable"
        return (
            f"TwoCycle({kind}, amplitude {self.amplitude:.6g} at a step of {self.step:.6g}, "
            f"residual {self.residual:.1e}, largest multiplier {abs(self.multipliers[0]):.6g})"
        )


def two_cycle(
    point: Point,
    step: float,
    *,
    start: npt.ArrayLike | Flip | None = None,
    tolerance: float = 1e-9,
    max_iterations: int = 50,
) -> TwoCycle:
    """The exact 2-cycle of gradient descent, by Newton's method on F(F(w)) − w.

    Parameters
    ----------
    point : Point
        Of a net without kinks; a minimum, where there is no `start`.
    step : float
        η.
    start : (P,) array_like or Flip, optional
        Near one of the two points, or what `flip` found at the point: by default that is asked for,
        and its `cycle` is the start.
    tolerance : float
        Of the last Newton step, relative to the distance of the two points.
    max_iterations : int

    Returns
    -------
    TwoCycle

    Raises
    ------
    TypeError
        If `point` is no point.
    ValueError
        As `flip` and `Flip.cycle`, where there is no `start`.
    ConvergenceError
        If Newton's method does not converge, or goes to a point that does not move.
    FloatingPointError
        If the gradient is not finite on the way.
    MemoryError
        If the matrices would not fit in memory.

    Notes
    -----
    A Newton step forms two dense Hessians and takes about 10 P³ operations, the multipliers as many
    once more: seconds at P = 1000, and 40 P² bytes.

    Examples
    --------
    Of (w₁ w₂ − 1)² / 2 along w₁ = w₂ the two are ½ √(1 + 3 / η) ± ½ √(1 − 1 / η).

    >>> from swiftnets import MLP
    >>> net = MLP((1, 1, 1), activation="identity", bias=False)
    >>> found = two_cycle(net.at([1.0, 1.0], [[1.0]], [[1.0]]), 1.02)
    >>> found.is_stable, found.residual < 1e-14
    (True, True)
    >>> bool(np.isclose(found.amplitude, np.sqrt((1 - 1 / 1.02) / 2), rtol=1e-12))
    True
    """
    here = smooth_point(point)
    step = checks.real(step, "step", positive=True)
    tolerance = checks.real(tolerance, "tolerance", positive=True)
    most = checks.integer(max_iterations, "max_iterations")
    count = len(here.w)
    checks.memory(40 * count**2, "the Hessians at the two points, and their product")
    if start is None:
        start = flip(here)
    w = start.cycle(step)[0] if isinstance(start, Flip) else checks.array(start, "start", (count,))
    checks.finite(w, "start")
    one, two, iterations = _solved(here, w, step, tolerance, most)
    back = two.w - step * two.gradient
    return TwoCycle(
        step=step,
        points=np.array([one.w, two.w]),
        losses=np.array([one.loss, two.loss]),
        amplitude=norm(two.w - one.w) / 2,
        residual=norm(back - one.w),
        multipliers=_multipliers(one, two, step),
        iterations=iterations,
    )


def _solved(
    here: Point, w: Array, step: float, tolerance: float, most: int
) -> tuple[Point, Point, int]:
    """The cycle's points from w on, and how many Newton steps it took."""
    one, two = _pair(here, w, step)
    begun = apart = norm(two.w - one.w)
    size = math.inf
    for iteration in range(1, most + 1):
        # F(F(w)) − w, without the rounding of w.
        change = _newton_step(one, two, step, -step * (one.gradient + two.gradient))
        size = norm(change)
        one, two = _pair(here, one.w + change, step)
        apart = norm(two.w - one.w)
        if not apart > _COLLAPSED * begun:
            raise ConvergenceError(
                f"Newton's method went to a point that does not move: the two were {begun:.3g} "
                f"apart, and are {apart:.3g}; expected another start"
            )
        if size <= tolerance * apart:
            return one, two, iteration
    raise ConvergenceError(
        f"no 2-cycle at a step of {step:.6g} after {checks.counted(most, 'Newton step')}: the last "
        f"was {size:.3g} long, the two points {apart:.3g} apart; expected a nearer start, or more "
        "max_iterations"
    )


def _pair(here: Point, w: Array, step: float) -> tuple[Point, Point]:
    """Points at w and where a step leads."""
    one = moved(here, w)
    _require_finite(one, step)
    two = moved(here, one.w - step * one.gradient)
    _require_finite(two, step)
    return one, two


def _require_finite(point: Point, step: float) -> None:
    if not np.isfinite(point.gradient).all():
        raise FloatingPointError(
            f"the gradient at a step of {step:.6g} from the last point is not finite: the iterates "
            "diverge; expected a nearer start, or a smaller step"
        )


def _product(one: Point, two: Point, step: float) -> Array:
    """(I − η H₂)(I − η H₁)."""
    factors = [point.hessian.dense() for point in (two, one)]
    for matrix in factors:
        matrix *= -step
        matrix.flat[:: len(matrix) + 1] += 1
    return cast(Array, aside(2.0 * len(factors[0]) ** 3, np.matmul, *factors))


def _newton_step(one: Point, two: Point, step: float, away: Array) -> Array:
    """The shortest: where symmetries make cycles of a cycle, the nearest is sought."""
    matrix = _product(one, two, step)
    matrix.flat[:: len(matrix) + 1] -= 1
    order = len(away)
    found = aside(10.0 * order**3, lambda: np.linalg.lstsq(matrix, -away, rcond=_NULL))
    return cast(Array, found[0])


def _multipliers(one: Point, two: Point, step: float) -> npt.NDArray[np.complex128]:
    matrix = _product(one, two, step)
    values = aside(10.0 * len(matrix) ** 3, np.linalg.eigvals, matrix)
    return values[np.argsort(-abs(values), kind="stable")].astype(np.complex128)
