"""`landau`: the energy along a soft mode, and the order of the transition that it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

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
from swiftnets.dynamics.smooth import smooth_point
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import exponent, norm

__all__ = ["Landau", "landau"]


def __dir__() -> list[str]:
    return __all__


Order: TypeAlias = Literal["first", "second"] | None

_ZERO = 1e-8  # what rounding may leave of a coefficient that is 0, relative
_SOFT = 0.5


@dataclass(frozen=True, eq=False)
class Landau:
    """The loss along a soft mode, all other modes at their minima; made by `landau`.

    E(x) = a x² / 2 + b₃ x³ / 6 + b₄ x⁴ / 24, above the loss at the point.

    Attributes
    ----------
    point : Point
        The critical point, in float64.
    vector : (P,) float64 array
        u, the mode.
    a : float
        Its eigenvalue of the Hessian.
    b3 : float
        T[u, u, u].
    b4 : float
        Q[u, u, u, u] − 3 tᵀ H⊥⁺ t: what the other modes give way by is in it.
    fourth : float
        Q[u, u, u, u] alone.
    third : (P,) float64 array
        t = T[u, u].
    response : (P,) float64 array
        H⊥⁺ t: the others are at −½ x² of it.
    order : {"first", "second"} or None
        Of the transition as a passes through 0. ``"second"``: b₃ is 0 to rounding and b₄ > 0, x
        grows from 0 like √−a. ``"first"``: it jumps. None: both are 0, and higher orders decide.
    null_fraction : float
        The part of t that is in the null space of the Hessian off u, relative to ‖t‖. b₄ means
        nothing where it is not nearly 0.
    gap : float
        The smallest modulus of H⊥'s eigenvalues that are not 0; infinite where there is none.
    gradient_norm : float
        Of the gradient at the point.
    """

    point: Point
    vector: Array
    a: float
    b3: float
    b4: float
    fourth: float
    third: Array
    response: Array
    order: Order
    null_fraction: float
    gap: float
    gradient_norm: float

    @property
    def softness(self) -> float:
        """``|a|`` / gap: small where the mode is soft and the others are not."""
        return abs(self.a) / self.gap

    @property
    def is_valid(self) -> bool:
        """Whether the null fraction is at most 1e-6 and the softness at most ½.

        Where other modes are as soft the order is that along this one alone.
        """
        return self.null_fraction <= VALID and self.softness <= _SOFT

    @property
    def amplitude(self) -> float:
        """How far E's furthest minimum is from 0; 0 where there is none, NaN where b₄ ≤ 0.

        With b₃ = 0 and a < 0 that is √(−6 a / b₄), right to first order in a. Where b₄ ≤ 0 terms
        that are not here hold the loss up.
        """
        if not self.b4 > 0:
            return math.nan
        if self.order == "second":
            return math.sqrt(max(-6 * self.a / self.b4, 0.0))
        root = 0.25 * self.b3**2 - 2 * self.a * self.b4 / 3
        return (0.5 * abs(self.b3) + math.sqrt(root)) / (self.b4 / 3) if root > 0 else 0.0

    def energy(self, x: npt.ArrayLike) -> Array:
        """E at x.

        Parameters
        ----------
        x : float or array_like

        Returns
        -------
        float64 array
            Of the same shape.

        Raises
        ------
        TypeError, ValueError
            If x is not of finite real numbers.
        FloatingPointError
            If E is beyond float64.
        """
        x = _numbers(x)
        with np.errstate(over="ignore", invalid="ignore"):
            value: Array = x * x * (self.a / 2 + x * (self.b3 / 6 + x * self.b4 / 24))
        if not np.isfinite(value).all():
            raise FloatingPointError("x has entries so large that E is beyond float64")
        return value

    def path(self, x: float) -> Array:
        """Parameters w + x u − ½ x² H⊥⁺ t: the mode at x, the others where they give way to.

        Parameters
        ----------
        x : float

        Returns
        -------
        (P,) float64 array
        """
        x = checks.real(x, "x")
        found: Array = self.point.w + x * self.vector - 0.5 * x * x * self.response
        return found

    def plot(self, ax: Any = None, *, x: npt.ArrayLike | None = None, **lines: Any) -> Any:
        """Draw E against x, and the loss itself along `path`, less that at the point.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        x : (n,) array_like, optional
            By default to 1.6 times the amplitude; where that is 0 or NaN, to 1.
        **lines : object
            For both lines, as `matplotlib.axes.Axes.plot` takes it.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.
        """
        if x is None:
            most = 1.6 * self.amplitude if self.amplitude > 0 else 1.0
            grid = np.linspace(-most, most, 201)
        else:
            grid = checks.array(x, "x", ("n",))
            checks.finite(grid, "x")
        ax = axes_of(ax)
        net, samples = self.point.net, self.point.samples
        here = self.point.loss
        loss = [net.loss_on(self.path(float(one)), samples) - here for one in grid]
        wide = styled(lines, linewidth=3.0)
        ax.plot(grid, loss, **{**wide, "color": "0.6", "label": "the loss itself"})
        style = styled(lines, color="tab:blue", linewidth=1.5, label="to fourth order")
        ax.plot(grid, self.energy(grid), **style)
        ax.set_xlabel("x, along the soft mode")
        ax.set_ylabel("loss, less that at the point")
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        order = f"{self.order} order" if self.order else "order not decided by b3, b4"
        doubt = ""
        if self.null_fraction > VALID:
            doubt = f", not valid: null fraction {self.null_fraction:.1e}"
        elif not self.is_valid:
            doubt = f", not valid: another mode is as soft, at {self.gap:.3g}"
        return f"Landau({order}: a {self.a:.6g}, b3 {self.b3:.6g}, b4 {self.b4:.6g}{doubt})"


def landau(point: Point, *, vector: npt.ArrayLike | None = None, tolerance: float = 1e-6) -> Landau:
    """Coefficients of the loss along a soft mode, after Landau: the order of a transition.

    A soft mode is an eigenvector u of the Hessian whose eigenvalue a is near 0 while the others are
    not: a passes through 0 as l2, a scale of the targets or another parameter of the problem moves.
    The other modes are eliminated: they follow x along u at −½ x² H⊥⁻¹ T[u, u].

    Parameters
    ----------
    point : Point
        A critical point, of a net without kinks; such as w = 0 of a net with an odd hidden layer.
    vector : (P,) array_like, optional
        u, of any length; by default the eigenvector of the eigenvalue of smallest modulus.
    tolerance : float
        Of the gradient, relative to ‖H‖ max(1, ‖w‖), and of ‖H u − a u‖ relative to ‖H‖.

    Returns
    -------
    Landau

    Raises
    ------
    TypeError
        If `point` is no point.
    ValueError
        If its gradient is not 0, `vector` no eigenvector, or the net or the loss has kinks.
    numpy.linalg.LinAlgError
        If there is no `vector` and the eigenvalue is not simple.
    MemoryError
        If the Hessian and its eigenvectors would not fit in memory.

    Notes
    -----
    All eigenpairs of the Hessian: 24 P² bytes and about 10 P³ operations, once more than that with
    its deflated form; a third and a fourth derivative, about 4 and 8 gradients.

    Examples
    --------
    (w₁ w₂ − 1)² / 2 + ½ l2 ‖w‖² at 0: x² = 2 (1 − l2).

    >>> from swiftnets import MLP
    >>> net = MLP((1, 1, 1), activation="identity", bias=False, l2=0.92)
    >>> found = landau(net.at([0.0, 0.0], [[1.0]], [[1.0]]))
    >>> found.order, round(found.a, 12), round(found.b4, 12), round(found.amplitude, 12)
    ('second', -0.08, 3.0, 0.4)
    """
    here = smooth_point(point)
    tolerance = checks.real(tolerance, "tolerance", positive=True)
    count = len(here.w)
    checks.memory(24 * count**2, "the Hessian and its eigenvectors")
    hessian: Array = here.hessian.dense()
    values, vectors = eigh(hessian)
    size = float(abs(values).max()) or 1.0
    gradient = require_critical(here, size, tolerance, "critical point")
    if vector is None:
        u, a = _softest(values, vectors, size)
    else:
        u, a = _given(hessian, vector, tolerance * size)
    # The Hessian off u: u itself is moved to the end of the spectrum.
    off = hessian - np.outer(u, hessian @ u)
    off = off - np.outer(off @ u, u) + 2 * size * np.outer(u, u)
    values, vectors = eigh(off)
    t = finite(here.third(u, u), "third")
    b3 = float(u @ t)
    response, lost = pseudo_inverse(values, vectors, t - b3 * u, norm(t))
    response -= (u @ response) * u
    fourth = float(u @ finite(here.fourth(u, u, u), "fourth"))
    coupling = 3 * float(t @ response)
    rest = abs(values[:-1])
    rest = rest[rest > FLAT * size]
    return Landau(
        point=here,
        vector=u,
        a=a,
        b3=b3,
        b4=fourth - coupling,
        fourth=fourth,
        third=t,
        response=response,
        order=_order(b3, fourth, coupling, norm(t), size),
        null_fraction=lost,
        gap=float(rest.min()) if len(rest) else math.inf,
        gradient_norm=gradient,
    )


def _numbers(x: npt.ArrayLike) -> Array:
    """Float64 numbers of any shape, all finite."""
    given = checks.unconverted(x, "x")
    if given.dtype.kind not in "fiub":
        raise TypeError(f"x has dtype {given.dtype}; expected real numbers")
    found = np.asarray(given, np.float64)
    checks.finite(found, "x")
    return found


def _softest(values: Array, vectors: Array, size: float) -> tuple[Array, float]:
    order = np.argsort(abs(values), kind="stable")
    first = float(values[order[0]])
    if len(order) > 1 and abs(values[order[1]] - first) <= SIMPLE * size:
        raise np.linalg.LinAlgError(
            f"the eigenvalue of smallest modulus, {first:.10g}, is not simple, the next is "
            f"{values[order[1]]:.10g}; expected a soft mode alone, or vector=u"
        )
    return signed(vectors[:, order[0]]), first


def _given(hessian: Array, vector: npt.ArrayLike, most: float) -> tuple[Array, float]:
    u = np.array(checks.array(vector, "vector", (len(hessian),)))
    checks.finite(u, "vector")
    if not u.any():
        raise ValueError("vector has norm 0; expected a number above 0")
    u = np.ldexp(u, -exponent(u))
    u /= norm(u)
    u.flags.writeable = False
    image = hessian @ u
    a = float(u @ image)
    off = norm(image - a * u)
    if not off <= most:
        raise ValueError(
            f"vector is no eigenvector of the Hessian: ‖H u − a u‖ is {off:.3g} at a = {a:.6g}; "
            f"expected at most {most:.3g}"
        )
    return u, a


def _order(b3: float, fourth: float, coupling: float, third: float, size: float) -> Order:
    b4, most = fourth - coupling, abs(fourth) + abs(coupling)
    is_flat = abs(b4) <= _ZERO * max(most, size)
    # A cubic and a quartic term meet at curvatures b₃² / b₄.
    if abs(b3) > _ZERO * max(third, math.sqrt(abs(b4) * size), size):
        return "first"
    if is_flat:
        return None
    return "second" if b4 > 0 else "first"
