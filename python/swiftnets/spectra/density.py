"""`density`: how the eigenvalues of a symmetric matrix are distributed, with error bars.

Stochastic Lanczos quadrature (Golub & Welsch 1969; Ubaru, Chen & Saad 2017) from starts on the
sphere. The weights that such a start gives to the eigenvalues have Dirichlet's distribution with
parameters 1/2, whatever the matrix: errors follow from the distribution itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.spectra.given import Matrix
from swiftnets.spectra.quadrature import (
    Counted,
    Pairs,
    Rule,
    Runs,
    counted,
    eigenvalues,
    leading,
    leading_products,
    sphere,
)

__all__ = ["Density", "density"]


def __dir__() -> list[str]:
    return __all__


DensityMethod: TypeAlias = Literal["auto", "exact", "lanczos"]
_METHODS = ("auto", "exact", "lanczos")
# Kolmogorov's distribution: sup|Brownian bridge| is below this with probability 0.95.
_KOLMOGOROV = 1.358
# |z| of a normal z is below this many times its mean with probability 0.95.
_RARE = 2.5
# Steps are raised until the bound on truncation is below so many times the sampling error.
_BALANCE = 5.0


@dataclass(frozen=True, eq=False)
class Density:
    """The distribution of a matrix's P eigenvalues, as nodes with weights.

    Attributes
    ----------
    nodes : (m,) float array
        Ascending.
    weights : (m,) float array
        The share of the eigenvalues that each node stands for; their sum is 1.
    band : float
        Half the width of the 95 % band around the CDF that sampling alone makes, the same at every
        x; see `bounds`. 0 where all eigenvalues are known.
    sampling_error : float
        What W1 to the true distribution is expected to be, as far as it is due to few probes.
    truncation_error : float
        A bound on the part of W1 that is due to few steps: Chebyshev, Markov and Stieltjes. It is
        mostly 6 to 25 times what that part is.
    deflation_error : float
        A bound on the part of W1 that is due to the deflated eigenvectors' residuals.
    order : int
        P.
    deflated : (k,) float array
        Eigenvalues found beforehand, which have nodes of their own with weight 1 / P.
    probes, steps, products : int
        Products in all, deflation included.
    method : {"exact", "lanczos"}
    message : str
        What was done, and whether steps were enough.
    """

    nodes: Array
    weights: Array
    band: float
    sampling_error: float
    truncation_error: float
    deflation_error: float
    order: int
    deflated: Array
    probes: int
    steps: int
    products: int
    method: Literal["exact", "lanczos"]
    message: str
    _rules: tuple[Rule, ...] = field(init=False, default=(), repr=False)

    @property
    def wasserstein_error(self) -> float:
        """What W1 to the true distribution does not exceed but in one run of twenty.

        2.5 times the expected sampling error, and the bounds of the other two. 2.5 is for the worst
        case, an error that one gap in the spectrum makes: it is ``|z| √(π/2)`` of a normal z then.
        """
        return _RARE * self.sampling_error + self.truncation_error + self.deflation_error

    def cdf(self, x: npt.ArrayLike) -> Any:
        """The share of eigenvalues that are at most x.

        Parameters
        ----------
        x : float or array_like

        Returns
        -------
        float or array like x
        """
        places = np.searchsorted(self.nodes, _real(x), side="right")
        sums = np.concatenate([[0.0], np.cumsum(self.weights)])
        result = np.minimum(sums[places], 1.0)
        return float(result) if result.ndim == 0 else result

    def bounds(self, x: npt.ArrayLike) -> tuple[Any, Any]:
        """Below and above the share of eigenvalues that are at most x, at 95 % for all x at once.

        Sampling and truncation together. Where one node stands for many eigenvalues, as mostly at
        0, steps leave open on which side of x they are, and the bounds are wide: count eigenvalues
        there by inertia.

        Parameters
        ----------
        x : float or array_like

        Returns
        -------
        low, high : float or array like x
        """
        points = _real(x)
        if not self._rules:
            exact = np.asarray(self.cdf(points))
            low, high = exact, exact
        else:
            share = 1 - len(self.deflated) / self.order
            known = np.searchsorted(self.deflated, points, side="right") / self.order
            low, high = np.zeros(points.shape), np.zeros(points.shape)
            for rule in self._rules:
                sums = np.concatenate([[0.0], np.cumsum(rule.weights), [1.0]])
                places = np.searchsorted(rule.nodes, points, side="right")
                # Between nodes i and i + 1 at least the weights before i, at most those to i + 1.
                low += sums[np.maximum(places - 1, 0)]
                high += sums[np.minimum(places + 1, len(rule.nodes) + 1)]
            low = known + share * low / len(self._rules) - self.band
            high = known + share * high / len(self._rules) + self.band
            low, high = np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
        return (float(low), float(high)) if points.ndim == 0 else (low, high)

    def distance(self, other: Density | npt.ArrayLike) -> float:
        """W1 to another distribution, or to that of eigenvalues: ``∫ |F − G| dx``.

        Parameters
        ----------
        other : Density or (n,) array_like

        Returns
        -------
        float
        """
        if isinstance(other, Density):
            nodes, weights = other.nodes, other.weights
        else:
            nodes = np.sort(checks.array(other, "other", ("n",)))
            weights = np.full(len(nodes), 1 / len(nodes))
        places = np.concatenate([self.nodes, nodes])
        order = np.argsort(places, kind="stable")
        differences = np.cumsum(np.concatenate([self.weights, -weights])[order])
        return float(abs(differences[:-1]) @ np.diff(places[order]))

    def plot(
        self,
        ax: Any = None,
        *,
        kind: Literal["density", "cdf"] = "density",
        width: float | None = None,
        **style: Any,
    ) -> Any:
        """Draw it; needs Matplotlib.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where; by default on a figure of its own, ``ax.figure``.
        kind : {"density", "cdf"}
            The density, smoothed by a Gaussian, on a logarithmic axis; or the share of eigenvalues
            up to x, with its 95 % bounds.
        width : float, optional
            Standard deviation of that Gaussian; by default a hundredth of the spread.
        **style : object
            For Matplotlib's `plot`.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            Without Matplotlib.
        """
        is_cdf = bool(checks.choice(kind, "kind", ("density", "cdf")))
        extent = float(self.nodes[-1] - self.nodes[0]) or max(abs(float(self.nodes[0])), 1.0)
        sigma = extent / 100 if width is None else checks.real(width, "width", positive=True)
        ax = axes_of(ax)
        if is_cdf:
            ax.step(self.nodes, self.cdf(self.nodes), where="post", **style)
            low, high = self.bounds(self.nodes)
            ax.fill_between(self.nodes, low, high, step="post", alpha=0.25, color="gray")
            ax.set_ylabel("share of eigenvalues up to x")
        else:
            first, last = self.nodes[0] - 4 * sigma, self.nodes[-1] + 4 * sigma
            x = np.linspace(first, last, max(500, min(4000, int(8 * (last - first) / sigma))))
            y = np.zeros_like(x)
            for node, weight in zip(self.nodes, self.weights, strict=True):
                near = abs(x - node) < 8 * sigma
                y[near] += weight * np.exp(-(((x[near] - node) / sigma) ** 2) / 2)
            y /= sigma * math.sqrt(2 * math.pi)
            ax.semilogy(x, np.where(y > 0, y, np.nan), **style)
            # One eigenvalue's own peak, with room below.
            ax.set_ylim(bottom=1e-2 / (self.order * sigma * math.sqrt(2 * math.pi)))
            ax.set_ylabel("density")
        ax.set_xlabel("eigenvalue")
        return ax

    def __repr__(self) -> str:
        return (
            f"Density({len(self.nodes)} nodes from {self.nodes[0]:.6g} to {self.nodes[-1]:.6g}, "
            f"order={self.order}, wasserstein_error={self.wasserstein_error:.2g}, {self.method})"
        )


def density(
    A: Matrix,
    *,
    probes: int = 4,
    steps: int = 64,
    deflate: int = 20,
    max_steps: int | None = None,
    method: DensityMethod = "auto",
    seed: int = 0,
    progress: bool = False,
) -> Density:
    """The spectral density of a symmetric matrix, with error bars that need no parameter.

    Lanczos quadrature from random starts on the sphere, orthogonal to the eigenvectors of largest
    absolute value, which are found first: outliers of trained nets would else be most of the error.

    Parameters
    ----------
    A : CurvatureMatrix, SymmetricOperator or (P, P) array_like
    probes : int
        Starts; errors due to their number fall with its root.
    steps : int
        Lanczos steps of each, of which more resolve finer. They are raised, up to `max_steps`,
        until the bound on truncation is below 5 times the expected sampling error.
    deflate : int
        Eigenvalues of largest absolute value that get nodes of their own; fewer where their
        residuals after about 5 `deflate` + 20 products are not small.
    max_steps : int, optional
        Four times `steps` by default. ``max_steps=steps`` takes just these; `message` tells where
        the bound says that they are few.
    method : {"auto", "exact", "lanczos"}
        Exact: all eigenvalues, of the dense matrix. Auto: exact where P is no more than the
        products that quadrature would take.
    seed : int
        Of the starts.
    progress : bool
        Whether to show how far it is.

    Returns
    -------
    Density

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind above; the message names it.
    FloatingPointError
        If a product is not finite.
    MemoryError
        If vectors, or the dense matrix, do not fit; the message has the bytes.

    Notes
    -----
    Costs about 5 `deflate` + 20 + `probes` · `steps` products, and 8 P bytes for each of 5
    `deflate` + 20 vectors and 5 `probes` more; exact, 4/3 P³ operations and 16 P² bytes. `cost`
    says it beforehand.

    With F the CDF, n = P − k and v probes, F(x) has variance 2 F (1 − F) / ((n + 2) v): a Brownian
    bridge, from which band and W1 follow. CDFs of trained nets jump at 0, where their nodes carry
    0.2 to 0.9 of the mass: compare by W1, and not by ``sup |F − G|``.

    Examples
    --------
    >>> import numpy as np
    >>> found = density(np.diag([1.0, 2.0, 2.0, 5.0]))
    >>> found.cdf(2.0), found.wasserstein_error, found.method
    (0.75, 0.0, 'exact')
    """
    matrix = counted(A)
    probes = checks.integer(probes, "probes")
    steps = checks.integer(steps, "steps")
    deflate = checks.integer(deflate, "deflate", 0)
    most = 4 * steps if max_steps is None else checks.integer(max_steps, "max_steps", steps)
    name = _METHODS[checks.choice(method, "method", _METHODS)]
    rng = np.random.default_rng(checks.integer(seed, "seed", 0))
    shows = checks.flag(progress, "progress")
    if name == "exact" or (name == "auto" and matrix.order <= planned(probes, steps, deflate)):
        return _exact(matrix)
    pairs = leading(matrix, min(deflate, matrix.order // 2), rng)
    size = matrix.order - len(pairs.values)
    checks.memory(40 * probes * matrix.order, "the Lanczos vectors")
    runs = Runs(matrix, sphere(probes, matrix.order, pairs.rows, rng), pairs.rows)
    with Progress(0, most, "W1 error", "step", shown=shows) as bar:
        while True:
            goal = steps if not runs.steps else min(most, runs.steps + max(steps // 2, 1))
            runs.advance(goal - runs.steps, bar)
            rules = tuple(runs.rules())
            found = _combined(matrix, pairs, rules, size)
            truncation = found[-1]
            is_enough = truncation <= _BALANCE * found[-2] or runs.is_complete
            if is_enough or runs.steps >= most:
                break
    nodes, weights, band, sampling, truncation = found
    message = (
        f"{checks.counted(probes, 'run')} of {checks.counted(runs.steps, 'step')}, "
        f"{checks.counted(len(pairs.values), 'eigenvalue')} deflated"
    )
    if runs.steps > steps:
        message += f"; steps were raised from {steps}"
    if not is_enough:
        message += (
            f"; the bound on truncation, {truncation:.2g}, is more than {_BALANCE:g} times the "
            f"sampling error, {sampling:.2g}: more steps would lower it"
        )
    deflation = 2 * float(pairs.residual_norms.sum()) / matrix.order
    result = Density(
        nodes,
        weights,
        band,
        sampling,
        truncation,
        deflation,
        matrix.order,
        pairs.values,
        probes,
        runs.steps,
        matrix.products,
        "lanczos",
        message,
    )
    object.__setattr__(result, "_rules", rules)  # for the bounds alone
    return result


def planned(probes: int, steps: int, deflate: int) -> int:
    """Products that quadrature takes where steps are not raised."""
    return probes * steps + leading_products(deflate)


def _exact(matrix: Counted) -> Density:
    values = eigenvalues(matrix.dense())
    order = matrix.order
    message = f"all {checks.counted(order, 'eigenvalue')} of the dense matrix"
    weights = np.full(order, 1 / order)
    none = np.empty(0)
    return Density(
        values, weights, 0.0, 0.0, 0.0, 0.0, order, none, 0, 0, matrix.products, "exact", message
    )


def _combined(
    matrix: Counted, pairs: Pairs, rules: tuple[Rule, ...], size: int
) -> tuple[Array, Array, float, float, float]:
    """Nodes, weights, half the band, and W1's parts of sampling and truncation."""
    share, probes = size / matrix.order, len(rules)
    x = np.concatenate([rule.nodes for rule in rules])
    w = np.concatenate([rule.weights for rule in rules]) / probes
    order = np.argsort(x, kind="stable")
    cdf = np.clip(np.cumsum(w[order])[:-1], 0.0, 1.0)
    # Of the complement's own distribution, and then of the whole.
    factor = 2 / ((size + 2) * probes)
    sampling = math.sqrt(2 / math.pi) * float(np.sqrt(factor * cdf * (1 - cdf)) @ np.diff(x[order]))
    low = min(rule.nodes[0] - rule.reach[0] for rule in rules)
    high = max(rule.nodes[-1] + rule.reach[1] for rule in rules)
    truncation = float(np.mean([rule.transport(low, high) for rule in rules]))
    nodes = np.concatenate([x, pairs.values])
    weights = np.concatenate([share * w, np.full(len(pairs.values), 1 / matrix.order)])
    order = np.argsort(nodes, kind="stable")
    band = share * _KOLMOGOROV * math.sqrt(factor)
    return nodes[order], weights[order], band, share * sampling, share * truncation


def _real(x: npt.ArrayLike) -> Array:
    points = np.asarray(x)
    if points.dtype.kind not in "biuf":
        raise TypeError(f"x has dtype {points.dtype}; expected real numbers")
    result: Array = points.astype(np.float64)
    return result
