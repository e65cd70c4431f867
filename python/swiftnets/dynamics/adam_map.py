"""Adam as a map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.dynamics.maps import ProblemMap, between, vectors, whole

__all__ = ["AdamMap"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class AdamMap(ProblemMap):
    """Adam with bias correction (Kingma & Ba 2015); the state is w, m, v, and the steps made.

    Parameters
    ----------
    problem : Problem
        Of float64 numbers, such as ``NetProblem(net, x, y)``; the net without kinks.
    learning_rate : float
        η.
    beta1, beta2 : float
        Between 0 and 1.
    epsilon : float
        Above 0.

    Notes
    -----
    m' = β₁ m + (1 − β₁) g and v' = β₂ v + (1 − β₂) g² have the determinant (β₁ β₂)ᴾ, and
    w' = w − η m'/κ₁ / (√(v'/κ₂) + ε), with κᵢ = 1 − βᵢᵗ, is a shear: ln|det J| is P ln(β₁ β₂) for
    any net. A step with K tangents costs a pass and K products. Where an entry of v' is 0 the root
    has no derivative, and neither has the map.

    Where gradients are small a change of v moves w by far, the more so for β₂ near 1: J is
    ill-conditioned, and sums of exponents agree with ln|det J| to fewer digits.

    Examples
    --------
    >>> from swiftnets.problems import Quadratic
    >>> adam = AdamMap(Quadratic([[1.0]]), learning_rate=0.1)
    >>> adam.step(adam.state([1.0])).round(4)
    array([0.9  , 0.1  , 0.001, 1.   ])
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    _parts: ClassVar[int] = 3
    _counts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.real(self.learning_rate, "learning_rate", positive=True)
        checks.real(self.epsilon, "epsilon", positive=True)
        for name in ("beta1", "beta2"):
            between(getattr(self, name), name, "with 0 or 1 J is singular")

    def state(
        self,
        w: npt.ArrayLike,
        mean: npt.ArrayLike | None = None,
        square: npt.ArrayLike | None = None,
        steps: Any = 0,
    ) -> Array:
        """The state of a run from w.

        Parameters
        ----------
        w : (P,) array_like
        mean, square : (P,) array_like, optional
            m and v; 0 by default. ``**result.state`` of a run of `swiftnets.optimizers.Adam` fits.
        steps : int
            Made before.

        Returns
        -------
        (3 P + 1,) float64 array

        Raises
        ------
        TypeError
            If an argument is of another kind.
        ValueError
            If it is not as above, or an entry of `square` is below 0.
        """
        if isinstance(steps, np.ndarray) and steps.ndim == 0:
            steps = steps[()]
        count = checks.integer(steps, "steps", 0)
        named = [("w", w), ("mean", mean), ("square", square)]
        parts = [self._vector(value, name) for name, value in named]
        if (parts[2] < 0).any():
            raise ValueError(f"square has {parts[2].min()}; expected numbers not below 0")
        return np.concatenate([*parts, [count]])

    def _next(self, state: Array) -> tuple[Array, Any, Array, Array, Array, float, float]:
        """w, what is at it, m', v', √(v'/κ₂), κ₁ and κ₂."""
        w, m, v = self._split(state)
        count = whole(state[-1]) + 1
        here = self._here(w)
        g = here.gradient
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * (g * g)
        k1, k2 = 1 - self.beta1**count, 1 - self.beta2**count
        return w, here, m, v, np.sqrt(v / k2), k1, k2

    def step(self, state: Array) -> Array:
        w, _, m, v, r, k1, _ = self._next(state)
        w = w - self.learning_rate / k1 * m / (r + self.epsilon)
        return np.concatenate([w, m, v, [state[-1] + 1]])

    def _derivatives(self, state: Array) -> tuple[Any, Array, Array, Array]:
        """The Hessian, g, and w's derivatives in m' (negated) and in v'."""
        _, here, m, v, r, k1, k2 = self._next(state)
        if not r.all():
            zero = np.flatnonzero(r == 0)
            raise FloatingPointError(
                f"{checks.counted(len(zero), 'weight')} of {len(r)}, the first at {zero[0]}, "
                "had no gradient that is not 0 so far: Adam's map has no derivative where the mean "
                "of squares is 0"
            )
        in_m = self.learning_rate / (k1 * (r + self.epsilon))
        in_v = self.learning_rate * m / (2 * k1 * k2 * r * (r + self.epsilon) ** 2)
        return here.hessian, here.gradient, in_m, in_v

    def tangent(self, state: Array, rows: Array) -> Array:
        hessian, g, in_m, in_v = self._derivatives(state)
        dw, dm, dv = vectors(self._rows(rows), 3)
        dg = hessian.products(dw)
        dm = self.beta1 * dm + (1 - self.beta1) * dg
        dv = self.beta2 * dv + 2 * (1 - self.beta2) * (g * dg)
        return np.concatenate([dw - in_m * dm + in_v * dv, dm, dv], axis=1)

    def adjoint(self, state: Array, rows: Array) -> Array:
        hessian, g, in_m, in_v = self._derivatives(state)
        x, y, z = vectors(self._rows(rows), 3)
        y, z = y - in_m * x, z + in_v * x
        dg = (1 - self.beta1) * y + 2 * (1 - self.beta2) * (g * z)
        back = [x + hessian.products(dg), self.beta1 * y, self.beta2 * z]
        return np.concatenate(back, axis=1)

    def log_determinant(self, state: Array) -> float:
        self._state(state)
        return self.problem.parameter_count * (math.log(self.beta1) + math.log(self.beta2))
