"""A proof that a critical point is near: Newton and Kantorovich's theorem, with explicit bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swiftnets._support.types import Array
from swiftnets.critical.bounds import Bounds
from swiftnets.critical.extended import UNIT, extended_gradient
from swiftnets.critical.results import CriticalPoint
from swiftnets.curvature.point import Point, require_point
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import norm

__all__ = ["Certificate", "certify"]


def __dir__() -> list[str]:
    return __all__


_U = float(np.finfo(np.float64).eps) / 2
_MOST_DENSE = 2000  # parameters whose eigenvalues are all found; beyond, two factorisations
_STEPS = 40  # of Lanczos's method on solves
_RADII = 40


@dataclass(frozen=True, eq=False)
class Certificate:
    """What `certify` proved of a point w; true where it holds.

    Attributes
    ----------
    holds : bool
        Whether a critical point is proved to be near.
    message : str
        In words, why not or what.
    distance : float
        From w to the critical point at most; infinite where it does not hold.
    unique_within : float
        In the ball of this radius about w there is no other; 0 where it does not hold, infinite
        for a loss that is quadratic.
    index : int or None
        Negative eigenvalues of the critical point's Hessian.
    h : float
        β η K, at most ½ where the certificate holds.
    beta : float
        ‖H⁻¹‖ at w at most; infinite where H may be singular.
    eta : float
        The Newton step's length at most: β (‖g‖ + rounding).
    lipschitz : float
        K: the third derivative's norm at most, on the ball of radius 4 η about w.
    least_eigenvalue : float
        The smallest modulus of H's eigenvalues: as computed, or below it where P > 2000.
    gradient_norm, rounding : float
        ‖g‖ as computed, in extended precision where there is that, and what it may be off by.
    """

    holds: bool
    message: str
    distance: float
    unique_within: float
    index: int | None
    h: float
    beta: float
    eta: float
    lipschitz: float
    least_eigenvalue: float
    gradient_norm: float
    rounding: float

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        return f"Certificate({'holds' if self.holds else 'refused'}: {self.message})"


def certify(point: Point | CriticalPoint) -> Certificate:
    """Prove that a critical point is near, how near, and its index.

    By Newton and Kantorovich's theorem: with β ≥ ‖H⁻¹‖, η ≥ ‖H⁻¹ g‖ and K ≥ ‖T‖ on a ball about w,
    T the third derivative, h = β η K ≤ ½ implies a critical point within (1 − √(1 − 2h)) / (β K),
    and no other within (1 + √(1 − 2h)) / (β K), as far as the ball goes. K bounds the change of
    every eigenvalue of H a unit of distance, so that the index there is that of H at w (Weyl).

    Parameters
    ----------
    point : Point or CriticalPoint
        Of an `MLP` whose activations have no kinks and are no ELU, with the squared error or a
        cross-entropy. One of dtype float32 is taken in float64.

    Returns
    -------
    Certificate
        It holds, or says why it does not: h is too large, or H is singular to rounding, as at every
        critical point of a loss with a continuous symmetry, where the theorem says nothing.

    Raises
    ------
    TypeError
        If it is no such point.
    NotImplementedError
        If the net is no `MLP`, an activation has a kink (``"relu"``) or a second derivative that
        jumps (``"elu"``), or the loss is ``"huber"``.
    FloatingPointError
        If the gradient or Hessian is not finite.

    Notes
    -----
    K comes from norms of each sample's activations, layer by layer, and is some tens of times the
    largest ‖T[u, v]‖ that searches find, more in deep nets: the certificate may be refused where a
    critical point is near. On nets with 80 parameters it held from 1e-9 to 1e-6 of a critical
    point, by its least eigenvalue, and not from 1e-5: take Newton steps first.

    Rigorous but for rounding. That of the gradient is bounded by the standard model of arithmetic,
    to first order: in NumPy's extended precision where that has 64 bits, no activation needs an
    error function and there are at most 1e8 weights times samples, else in float64. For H's
    eigenvalues there is a model alone: 8 P u ‖H‖, and N + 16 units of rounding of a bound of the
    samples' Hessians. Above 2000 parameters β comes from the inertia of H ± σ, σ below the least
    modulus by Lanczos's method on solves, which factors prove (`LayeredFactorization.certificate`).

    Costs all eigenvalues of H, or three factorisations and 40 solves.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 1), l2=0.5)
    >>> found = certify(net.at([2 / 7, 2 / 7, 4 / 7], np.eye(2), [[1.0], [1.0]]))
    >>> found.holds, found.index, bool(found.distance < 1e-14)
    (True, 0, True)
    """
    if isinstance(point, CriticalPoint):
        point = point.point
    wide = require_point(point).in_float64().counted
    bounds = Bounds(wide)
    gradient = wide.gradient
    if not np.isfinite(gradient).all():
        raise FloatingPointError("the gradient is not finite")
    better = extended_gradient(wide)
    unit = _U if better is None else UNIT
    size = norm(gradient) if better is None else norm(better.astype(np.float64))
    rounding = bounds.rounding(unit) + 4 * unit * wide.net.l2 * norm(wide.w) + 4 * _U * size
    least, largest, index, why = _spectrum(wide)
    samples = wide.counted_samples
    doubt = 8 * len(wide.w) * _U * largest
    doubt += (samples + 16) * _U * bounds.hessian_and_third(0.0)[0]
    if why or not least > 2 * doubt:
        why = why or (
            f"H is singular to rounding, its least eigenvalue being {least:.1e} of {largest:.1e}"
        )
        return Certificate(
            False,
            f"{why}: the theorem needs its inverse",
            math.inf,
            0.0,
            None,
            *(math.inf, math.inf, math.inf, bounds.hessian_and_third(0.0)[1]),
            *(least, size, rounding),
        )
    beta = 1 / (least - doubt)
    eta = beta * (size + rounding)
    lipschitz = bounds.hessian_and_third(4 * eta)[1] if math.isfinite(eta) else math.inf
    h = beta * eta * lipschitz
    numbers = (h, beta, eta, lipschitz, least, size, rounding)
    if not h <= 0.5:
        return Certificate(
            False,
            f"h = β η K is {h:.2g}, above 1/2: the gradient, {size:.1e}, is too large beside the "
            f"least eigenvalue, {least:.1e}, and the third derivative, up to {lipschitz:.1e}",
            math.inf,
            0.0,
            None,
            *numbers,
        )
    distance = _near(beta, eta, lipschitz)
    alone = _unique(bounds, beta, eta)
    return Certificate(
        True,
        f"a critical point of index {index} within {distance:.1e}, alone within {alone:.1e}",
        distance,
        alone,
        index if h < 0.5 else None,
        *numbers,
    )


def _near(beta: float, eta: float, lipschitz: float) -> float:
    """(1 − √(1 − 2h)) / (β K), without cancellation."""
    h = beta * eta * lipschitz
    return 2 * eta / (1 + math.sqrt(1 - 2 * h))


def _unique(bounds: Bounds, beta: float, eta: float) -> float:
    """The largest radius of uniqueness: K grows with the ball, and holds no further than it."""

    def far(radius: float) -> float:
        """(1 + √(1 − 2h)) / (β K) with K of that ball; 0 where h is too large there."""
        lipschitz = bounds.hessian_and_third(radius)[1]
        h = beta * eta * lipschitz
        if not h <= 0.5:
            return 0.0
        return (1 + math.sqrt(1 - 2 * h)) / (beta * lipschitz) if lipschitz else math.inf

    first = 4 * eta
    most = far(first)
    if math.isinf(most):  # K is 0 everywhere, or here by chance
        most = max(far(1.0), first)
    if most <= first or math.isinf(most):
        return most
    radii = np.geomspace(first, most, _RADII) if first else np.linspace(0, most, _RADII)
    return max(min(float(radius), far(float(radius))) for radius in radii)


def _spectrum(point: Point) -> tuple[float, float, int | None, str]:
    """The least modulus of H's eigenvalues, the largest, the index; or why they are not known."""
    hessian, count = point.hessian, len(point.w)
    if count <= _MOST_DENSE:
        values: Array
        values, _ = eigh(hessian.dense())
        moduli = abs(values)
        return float(moduli.min()), float(moduli.max()), int(np.count_nonzero(values < 0)), ""
    start = np.random.default_rng(0).standard_normal(count)
    largest = float(abs(lanczos(hessian, start, _STEPS).eigenvalues()[0]).max())
    try:
        factors = hessian.factorize()
        inverse = lanczos(factors.solve, start, _STEPS).eigenvalues()[0]
        sigma = 0.9 / float(abs(inverse).max())
        for _ in range(4):
            above = (hessian + sigma).factorize().inertia
            below = (hessian - sigma).factorize().inertia
            if above is not None and above.zero == 0 and above == below:
                return sigma, largest, above.negative, ""
            sigma /= 2
    except np.linalg.LinAlgError as error:
        return 0.0, largest, None, f"H cannot be factored ({error})"
    return 0.0, largest, None, "no gap about 0 in the spectrum of H could be proved"
