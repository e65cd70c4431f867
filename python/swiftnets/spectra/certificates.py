"""Proofs that no eigenvalue is missing: by inertia, and by a random vector without factors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.spectra.given import EPS
from swiftnets.spectra.targets import Target

__all__ = ["Certificate", "Probe", "beta_cdf", "log_square_sum", "upper_bound"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Certificate:
    """What is proved of a set of eigenpairs that was returned.

    Attributes
    ----------
    method : {"inertia", "probabilistic", "dense"}
        ``"inertia"``: counts by factors. ``"probabilistic"``: by a random vector's Lanczos run, but
        for `failure_probability`. ``"dense"``: all eigenpairs are there, and Weyl's inequality.
    lower, upper : float
        Where the count was made. Infinite on a side without one.
    inside : bool
        Whether it is of the eigenvalues between `lower` and `upper`, or of those beyond.
    count : int
        How many eigenvalues A has there; all of them are among those returned.
    margin : float
        By how much at most a value that is returned may be less extreme than the true one of its
        place: the distance of the shifts from the last of the values.
    failure_probability : float
        0 but for ``"probabilistic"``.
    """

    method: Literal["inertia", "probabilistic", "dense"]
    lower: float
    upper: float
    inside: bool
    count: int
    margin: float
    failure_probability: float = 0.0

    def scaled(self, e: int) -> Certificate:
        """For the matrix times 2ᵉ.

        Parameters
        ----------
        e : int

        Returns
        -------
        Certificate
        """
        if not e:
            return self
        with np.errstate(over="ignore"):  # a place beyond all numbers is infinite
            lower, upper, margin = (
                float(number) for number in np.ldexp([self.lower, self.upper, self.margin], e)
            )
        return replace(self, lower=lower, upper=upper, margin=margin)

    def __str__(self) -> str:
        if self.method == "dense":
            return "all eigenvalues were computed (dense)"
        if self.inside:
            where = f"between {self.lower:.9g} and {self.upper:.9g}"
        else:
            sides = []
            if math.isfinite(self.lower):
                sides.append(f"below {self.lower:.9g}")
            if math.isfinite(self.upper):
                sides.append(f"above {self.upper:.9g}")
            where = " or ".join(sides)
        text = f"A has {checks.counted(self.count, 'eigenvalue')} {where}, and all are found"
        text = f"{text}, to {self.margin:.1e}"
        if self.method == "probabilistic":
            return f"except with probability {self.failure_probability:.1e} {text}"
        return f"{text} (inertia)"


# The cdf of Beta(1/2, b) --------------------------------------------------------------------------


def beta_cdf(x: float, b: float) -> float:
    """Probability that a number of the distribution Beta(1/2, b) is at most x.

    Of a unit vector uniform on the sphere in n dimensions the square of one coordinate has it, for
    b = (n - 1) / 2.

    Parameters
    ----------
    x : float
    b : float
        Not negative; with 0 all is at 1.

    Returns
    -------
    float
        To some 1e-12 of itself, however small.
    """
    if x >= 1:
        return 1.0
    if x <= 0 or b <= 0:
        return 0.0
    front = math.exp(0.5 * math.log(x) + b * math.log1p(-x) - _log_beta_half(b))
    if x < 1.5 / (b + 2.5):
        return min(1.0, front * _fraction(x, 0.5, b) / 0.5)
    return max(0.0, 1.0 - front * _fraction(1.0 - x, b, 0.5) / b)


def _log_beta_half(b: float) -> float:
    """log B(1/2, b): for large b by the series of Γ(b + 1/2) / Γ(b), where lgammas would cancel."""
    if b < 50:
        return math.lgamma(0.5) + math.lgamma(b) - math.lgamma(b + 0.5)
    t = 1.0 / b
    series = 1 + t * (
        -1 / 8 + t * (1 / 128 + t * (5 / 1024 + t * (-21 / 32768 - t * 399 / 262144)))
    )
    return 0.5 * math.log(math.pi / b) - math.log(series)


def _fraction(x: float, a: float, b: float) -> float:
    """Of the incomplete Beta function, by the modified method of Lentz (Press et al. 2007)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    h = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + numerator / c
            c = c if abs(c) > tiny else tiny
            h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return h


# The random certificate ---------------------------------------------------------------------------


def log_square_sum(t: float, alpha: list[float], beta: list[float], least: float) -> float:
    """log of what (y·v)² is at most 1 over, for an eigenvector y of an eigenvalue t.

    Parameters
    ----------
    t : float
        Above all eigenvalues of the tridiagonal matrix.
    alpha, beta : lists of m floats
        Its diagonal, and what is beside it with the last remainder's norm.
    least : float
        Above 0: the last remainder is known no better.

    Returns
    -------
    float
        With p_j the orthonormal polynomials of the run, Σ p_j(t)² over j ≤ m; where the run has
        ended, of the sum without the last and of the last the larger.
    """
    previous, p, total, log_scale = 0.0, 1.0, 1.0, 0.0
    last_beta = 0.0
    for j, (a, b) in enumerate(zip(alpha, beta, strict=True)):
        numerator = (t - a) * p - last_beta * previous
        if j + 1 == len(alpha):
            following = numerator / max(b, least)
            total = total + following**2 if b > least else max(total, following**2)
            break
        previous, p, last_beta = p, numerator / b, b
        total += p * p
        if total > 1e100:  # by a power of two, exactly
            e = math.frexp(math.sqrt(total))[1]
            previous, p = math.ldexp(previous, -e), math.ldexp(p, -e)
            total, log_scale = math.ldexp(total, -2 * e), log_scale + 2 * e * math.log(2)
    return math.log(total) + log_scale


def upper_bound(alpha: list[float], beta: list[float], least: float, n: int, delta: float) -> float:
    """t with which no eigenvalue is above t, except with probability delta.

    Parameters
    ----------
    alpha, beta : lists of m floats
        Of a Lanczos run from a vector uniform on the sphere of n dimensions.
    least : float
        As in `log_square_sum`.
    n : int
    delta : float

    Returns
    -------
    float
        inf where nothing can be said.
    """
    matrix = np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    values = np.linalg.eigvalsh(matrix)
    top, spread = float(values[-1]), float(values[-1] - values[0])
    spread = max(spread, beta[-1], least)

    def fails(t: float) -> float:
        return beta_cdf(math.exp(-log_square_sum(t, alpha, beta, least)), (n - 1) / 2)

    low, step = top, max(least, EPS * spread)
    while fails(top + step) > delta:
        low, step = top + step, 4 * step
        if step > 1e12 * spread:
            return math.inf
    high = top + step
    for _ in range(60):
        middle = low + (high - low) / 2
        if not low < middle < high or high - low <= 1e-3 * (high - top):
            break
        if fails(middle) > delta:
            low = middle
        else:
            high = middle
    return high


class Probe:
    """A Lanczos run from a random vector in the complement of what is found, step by step.

    Parameters
    ----------
    target : Target
    found : (k, P) array
        Orthonormal rows.
    steps : int
        At most.
    rng : numpy.random.Generator

    Attributes
    ----------
    alpha, beta : lists of floats
        The tridiagonal matrix so far, and the norm of what is left.
    ended : bool
        Whether the space is invariant to rounding, or all steps are made.
    """

    def __init__(self, target: Target, found: Array, steps: int, rng: np.random.Generator) -> None:
        self._target, self._found = target, found
        self.dimension = target.order - len(found)
        self._limit = min(steps, self.dimension)
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self._norm, self.ended = 0.0, self.dimension <= 0
        if self.ended:  # nothing is left, and no direction to start in
            return
        v = rng.standard_normal(target.order)
        v /= np.linalg.norm(v)
        for _ in range(2):
            v -= (found @ v) @ found
        self._basis = np.empty((self._limit + 1, target.order))
        self._basis[0] = v / np.linalg.norm(v)

    @property
    def least(self) -> float:
        """Rounding of products."""
        tiny = float(np.finfo(np.float64).tiny)
        return max(self._target.order * self._target.unit * self._norm, tiny)

    def step(self) -> None:
        """One product."""
        j = len(self.alpha)
        image = self._target.products(self._basis[j : j + 1])[0]
        known = self._basis[: j + 1]
        self.alpha.append(float(known[j] @ image))
        for _ in range(2):
            image -= (self._found @ image) @ self._found
            image -= (known @ image) @ known
        length = float(np.linalg.norm(image))
        self.beta.append(length)
        self._norm = max(self._norm, abs(self.alpha[-1]), length)
        self.ended = length <= self.least or j + 1 >= self._limit
        if not self.ended:
            self._basis[j + 1] = image / length

    def extremes(self) -> tuple[float, float]:
        """Lowest and highest Ritz value."""
        off = self.beta[:-1]
        values = np.linalg.eigvalsh(np.diag(self.alpha) + np.diag(off, 1) + np.diag(off, -1))
        return float(values[0]), float(values[-1])

    def fails(self, t: float, side: int) -> float:
        """The probability at most with which such a run goes past an eigenvalue beyond t.

        Parameters
        ----------
        t : float
        side : {1, -1}
            Above t, or below.

        Returns
        -------
        float
            1 where a Ritz value is beyond.
        """
        least, most = self.extremes()
        alpha = [side * a for a in self.alpha]
        if side * t <= (most if side > 0 else -least):
            return 1.0
        logarithm = log_square_sum(side * t, alpha, self.beta, self.least)
        return beta_cdf(math.exp(-logarithm), (self.dimension - 1) / 2)

    def above(self, delta: float) -> float:
        """Above this there is no eigenvalue in the complement, except with probability delta."""
        return upper_bound(self.alpha, self.beta, self.least, self.dimension, delta)

    def below(self, delta: float) -> float:
        """Below this there is none."""
        alpha = [-a for a in self.alpha]
        return -upper_bound(alpha, self.beta, self.least, self.dimension, delta)
