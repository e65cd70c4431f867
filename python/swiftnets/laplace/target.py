"""The negative log posterior that a net's loss stands for: E = c Σ sₙ lossₙ + ½ l ‖w‖².

c is 1 where the loss is a sum over samples, and Σ s where it is a mean; with noise of variance σ²
of a squared error it is divided by that. l is the prior precision, by default c times the net's l2.
"""

from __future__ import annotations

import math

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.curvature.point import Point, require_point
from swiftnets.nets.samples import Samples

__all__ = ["Target"]


def __dir__() -> list[str]:
    return __all__


class Target:
    """E at a point, with its derivatives.

    Parameters
    ----------
    point : Point
    prior_precision : float, optional
    noise_variance : float

    Attributes
    ----------
    point : Point
        In float64, of one batch.
    scale : float
        c.
    prior_precision : float
        l.
    noise_variance : float
        σ².
    count : float
        Σ s, of the samples' weights.
    """

    def __init__(self, point: Point, prior_precision: float | None, noise_variance: float) -> None:
        loss = require_point(point).net.loss_function
        if not loss.is_likelihood:
            raise ValueError(
                f"the loss is {loss.name!r}, which is no likelihood; expected a squared error or "
                "a cross-entropy"
            )
        self.noise_variance = checks.real(noise_variance, "noise_variance", positive=True)
        if loss.name != "squared_error" and self.noise_variance != 1:
            raise ValueError(
                f"noise_variance is {noise_variance} and the loss {loss.name!r}; expected 1, as "
                "noise is the squared error's"
            )
        self.point = point.in_float64()
        net = self.point.net
        (batch,) = self.point.samples.batches
        self.count = batch.total_weight
        total = self.count if net.reduction == "mean" else 1.0
        self.scale = total / (loss.factor * self.noise_variance)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"the sample weights sum to {self.count}; expected a number above 0")
        # What is added to the net's l2: nothing, to the last bit, where l2 is the prior.
        self.shift = 0.0
        if prior_precision is None:
            self.prior_precision = self.scale * net.l2
            if not net.l2:
                raise ValueError(
                    "prior_precision is missing and the net's l2 is 0; expected a number above 0: "
                    "the precision of the normal prior of the parameters"
                )
        else:
            self.prior_precision = checks.real(prior_precision, "prior_precision", positive=True)
            self.shift = self.prior_precision / self.scale - net.l2

    def at(self, w: Array) -> Target:
        """The same at other parameters."""
        fixed = w.copy()
        fixed.flags.writeable = False
        here = self.point
        point = Point(here.net, fixed, Samples(here.whole, True), here.solver)
        return self._copy(point, self.prior_precision, self.shift)

    def with_prior(self, prior_precision: float) -> Target:
        """The same with another prior."""
        shift = prior_precision / self.scale - self.point.net.l2
        return self._copy(self.point, prior_precision, shift)

    def _copy(self, point: Point, prior_precision: float, shift: float) -> Target:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.point, other.prior_precision, other.shift = point, prior_precision, shift
        return other

    @property
    def w(self) -> Array:
        """The parameters (P,)."""
        return self.point.w

    @property
    def energy(self) -> float:
        """E, without what normalises likelihood and prior."""
        square = float(self.w @ self.w)
        return self.scale * (self.point.loss + 0.5 * self.shift * square)

    @property
    def gradient(self) -> Array:
        """E's (P,)."""
        found = self.scale * (self.point.gradient + self.shift * self.w)
        if not np.isfinite(found).all():
            raise FloatingPointError("the gradient of the negative log posterior is not finite")
        return found

    def matrix(self, kind: str) -> CurvatureMatrix:
        """Its Hessian or Gauss–Newton matrix divided by c."""
        found: CurvatureMatrix = getattr(self.point, kind)
        return found + self.shift if self.shift else found

    def third(self, u: Array, rows: Array) -> Array:
        """T[u, v] of E for each row v."""
        return self._multilinear(self.point.third(u, rows))

    def fourth(self, u: Array, v: Array, rows: Array) -> Array:
        """Q[u, v, s] of E for each row s."""
        return self._multilinear(self.point.fourth(u, v, rows))

    def _multilinear(self, found: Array) -> Array:
        if not np.isfinite(found).all():
            raise FloatingPointError("derivatives of the negative log posterior are not finite")
        return self.scale * found

    @property
    def log_likelihood(self) -> float:
        """Normalised: of a squared error with noise of variance σ²."""
        fitted = -self.scale * (self.point.loss - self.point.net.engine.penalty(self.w))
        if self.point.net.loss_function.name == "squared_error":
            numbers = self.count * self.point.net.outputs
            fitted -= 0.5 * numbers * math.log(2 * math.pi * self.noise_variance)
        return fitted
