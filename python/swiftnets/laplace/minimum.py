"""`mode`: to a minimum of the negative log posterior, by damped Newton steps."""

from __future__ import annotations

import numpy as np

from swiftnets._core import ConvergenceError
from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.laplace.target import Target
from swiftnets.solve.factors import Factorization

__all__ = ["find", "mode"]


def __dir__() -> list[str]:
    return __all__


# Of the negative log posterior: what falls by less may be rounding.
_HIDDEN = 1e3 * float(np.finfo(float).eps)
_POLISH = 20  # Newton steps below that
_RAISES = 20  # of the damping, each by twice what the last was


def mode(
    point: Point,
    prior_precision: float | None = None,
    *,
    noise_variance: float = 1.0,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    progress: bool = False,
) -> Point:
    """A minimum of the negative log posterior, from a point: where `fit` takes its curvature.

    Newton's method with the exact Hessian, damped where it is not positive definite or a step does
    not fall as its model says (Levenberg 1944, Marquardt 1963; damping as Nielsen 1999).

    Parameters
    ----------
    point : Point
        Where to start: best trained already, as far ones may lead to other minima.
    prior_precision, noise_variance
        As for `fit`.
    tolerance : float
        Of the distance to the minimum of the quadratic model in the posterior's standard
        deviations, √(gᵀ H⁻¹ g).
    max_iterations : int
        Steps.
    progress : bool
        Show on standard error how far it is.

    Returns
    -------
    Point
        Of the same net, in float64. Where `prior_precision` is not what the net's l2 stands for,
        the point's own gradient is not 0: it has the net's l2 in it.

    Raises
    ------
    swiftnets.ConvergenceError
        If it was not reached; the message has the figures.
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    Each step is a factorisation, layered or dense, and one more for every damping that is tried.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((1, 2, 1), l2=0.1)
    >>> start = net.at(net.initial(seed=0), [[-1.0], [0.0], [1.0]], [[-0.5], [0.1], [0.4]])
    >>> found = mode(start)
    >>> bool(abs(found.gradient).max() < 1e-6)
    True
    """
    target = Target(point, prior_precision, noise_variance)
    tolerance = checks.real(tolerance, "tolerance", positive=True)
    most = checks.integer(max_iterations, "max_iterations")
    with Progress(0, most, "loss", "step", shown=checks.flag(progress, "progress")) as bar:
        return find(target, tolerance, most, bar).point


def find(target: Target, tolerance: float, most: int, bar: Progress | None = None) -> Target:
    """E at its minimum; see `mode`."""
    steps = _Steps(target)
    for _ in range(most):
        if steps.is_done(tolerance):
            return steps.target
        steps.make()
        if bar is not None:
            bar.step(steps.energy)
    if steps.is_done(tolerance):
        return steps.target
    norm = float(np.linalg.norm(steps.gradient))
    raise ConvergenceError(
        f"no minimum of the negative log posterior after {most} Newton steps: it is "
        f"{steps.energy:.6g}, its gradient has norm {norm:.3g}, and the last damping was "
        f"{steps.damping:.3g}; expected more max_iterations, or a point nearer to a minimum"
    )


class _Steps:
    """Newton's steps from a point on.

    Matrices are divided by c, as `Target.matrix` has it, and the damping likewise.
    """

    def __init__(self, target: Target) -> None:
        self.damping, self._growth, self._random = 0.0, 2.0, np.random.default_rng(0)
        self._move(target, target.energy)
        # Of the size of the curvature.
        self._unit = max(float(abs(target.matrix("gauss_newton").diagonal()).max()), 1e-300)

    def _move(self, target: Target, energy: float) -> None:
        self.target, self.energy, self.gradient = target, energy, target.gradient
        self._factors: Factorization | None = None

    def _is_positive(self, damping: float) -> bool:
        """Whether the Hessian plus the damping is positive definite; if so there are factors."""
        try:
            if self._factors is None:
                self._factors = (self.target.matrix("hessian") + damping).factorize()
            elif self._factors.shift != self.target.shift + damping:
                self._factors.update(self.target.shift + damping)
        except np.linalg.LinAlgError:
            return False
        found = self._factors.inertia
        return found is not None and found.negative == 0 and found.zero == 0

    def _solved(self, vector: Array) -> Array:
        assert self._factors is not None  # `_is_positive` made them
        return self._factors.solve(vector) / self.target.scale

    def is_done(self, tolerance: float) -> bool:
        """Whether this is a strict minimum: to the tolerance, or where rounding ends all steps."""
        if self.damping > 1e-3 * self._unit or not self._is_positive(0.0):
            return False
        for _ in range(_POLISH):
            step = self._solved(self.gradient)
            square = float(self.gradient @ step)
            if square <= tolerance**2:
                return True
            if square > _HIDDEN * abs(self.energy):
                return False
            # Rounding hides what is gained. A Newton step is good if gradients fall, in H⁻¹'s norm.
            there = self.target.at(self.target.w - step)
            found = there.gradient
            if not float(found @ self._solved(found)) < square / 4:
                return True
            self._move(there, there.energy)
            if not self._is_positive(0.0):
                return False
        return False

    def make(self) -> None:
        """One step that goes down, whatever damping it takes."""
        for _ in range(_RAISES):
            if not self._is_positive(self.damping):
                self._raise()
                continue
            step = -self._solved(self.gradient)
            # What the model falls by.
            square = float(step @ step) * self.damping * self.target.scale
            fall = 0.5 * (square - float(self.gradient @ step))
            if fall <= _HIDDEN * abs(self.energy) and not self._is_positive(0.0):
                self._leave()
                return
            if self._is_accepted(step, fall):
                return
            self._raise()
        raise ConvergenceError(
            f"no step goes down from a negative log posterior of {self.energy:.6g} with a gradient "
            f"of norm {np.linalg.norm(self.gradient):.3g}, with a damping up to {self.damping:.3g}"
        )

    def _is_accepted(self, step: Array, fall: float) -> bool:
        try:
            there = self.target.at(self.target.w + step)
            energy = there.energy
        except FloatingPointError:
            return False
        ratio = (self.energy - energy) / fall if fall > 0 else 0.0
        if not ratio > 1e-4:
            return False
        self._move(there, energy)
        self.damping *= max(1 / 9, 1 - (2 * ratio - 1) ** 3)
        if self.damping < 1e-9 * self._unit:
            self.damping = 0.0
        self._growth = 2.0
        return True

    def _raise(self) -> None:
        self.damping = max(self.damping * self._growth, 1e-6 * self._unit)
        self._growth *= 2

    def _leave(self) -> None:
        """Off a saddle point, along what the inverse makes largest of the damped Hessian."""
        while not self._is_positive(self.damping):
            self._raise()
        direction = self._random.standard_normal(len(self.gradient))
        for _ in range(5):
            direction = self._solved(direction)
            direction /= np.linalg.norm(direction)
        length = 1e-2 * max(1.0, float(np.linalg.norm(self.target.w)))
        sides = [self.target.at(self.target.w + k * length * direction) for k in (1, -1)]
        there = min(sides, key=lambda side: side.energy)
        self._move(there, there.energy)
