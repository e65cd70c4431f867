"""The edge of stability at a point: the leading eigenpairs, and what the third derivative does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point, require_point
from swiftnets.dynamics.complementarity import places, smat, solve_checked
from swiftnets.dynamics.ritz import refine
from swiftnets.dynamics.smooth import smooth_point
from swiftnets.spectra import Certificate, cost, count, eigsh

__all__ = ["Edge", "LeadingEigenpairs", "certified", "edge", "held", "leading_eigenpairs", "thirds"]


def __dir__() -> list[str]:
    return __all__


_CRITICAL = 0.95  # of the edge: from here on an eigenvalue may be held there
_EXACT = 1e-8
_CHEAP = 1e11  # operations of a factorisation, some seconds


@dataclass(frozen=True, eq=False)
class LeadingEigenpairs:
    """The largest eigenvalues of a Hessian and their eigenvectors; made by `leading_eigenpairs`.

    Attributes
    ----------
    values : (k,) float64 array
        The largest first.
    vectors : (P, k) float64 array
        As columns, orthonormal.
    residuals : (k,) float64 array
        ‖H u − λ u‖.
    products : int
        With H.
    count : int or None
        How many eigenvalues are above the threshold `above`; None without one.
    certificate : swiftnets.spectra.Certificate or None
        That no larger eigenvalue is missing; None where none was asked for, or it was not reached.
    """

    values: Array
    vectors: Array
    residuals: Array
    products: int
    count: int | None
    certificate: Certificate | None


def leading_eigenpairs(
    point: Point,
    *,
    k: int = 1,
    above: float | None = None,
    tolerance: float = 1e-3,
    start: npt.ArrayLike | None = None,
    certify: bool = False,
) -> LeadingEigenpairs:
    """The largest eigenvalues of a Hessian, to the digits that following them needs.

    Parameters
    ----------
    point : Point
    k : int
        How many, at least.
    above : float, optional
        Take as many as there are above this, and one below.
    tolerance : float
        Of residuals, relative to the largest eigenvalue.
    start : (P,) or (P, m) array_like, optional
        Eigenvectors at a point nearby. Several columns are improved together; one column, such as
        the sum of those known, starts Lanczos's method, as a random one does without.
    certify : bool
        Prove that none is missing, by the inertia of H − s where a factorisation is cheap, else but
        for a small probability by a random vector: as `swiftnets.spectra.eigsh` does it.

    Returns
    -------
    LeadingEigenpairs

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above.
    FloatingPointError
        If numbers overflow.
    numpy.linalg.LinAlgError
        If residuals do not get below the tolerance.

    Notes
    -----
    A net's Hessian has few outliers, so that a random start takes about 12 products for one
    eigenvalue to 1e-3, and a start from a step before some k + 1. A single column finds one vector
    of each multiple eigenvalue only, and training at the edge of stability makes eigenvalues equal:
    there, start from more columns than are equal, or certify.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> point = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))
    >>> found = leading_eigenpairs(point, k=2, tolerance=1e-6)
    >>> exact = np.linalg.eigvalsh(point.hessian.dense())
    >>> bool(np.allclose(found.values, exact[:-3:-1]))
    True
    """
    order = require_point(point).net.parameter_count
    k = checks.integer(k, "k", 1, order)
    if above is not None:
        above = checks.real(above, "above")
    if not 0 < checks.real(tolerance, "tolerance") < 1:
        raise ValueError(f"tolerance is {tolerance}; expected a number between 0 and 1")
    rng = np.random.default_rng(0)
    if start is None:
        rows = rng.standard_normal((1, order))
    else:
        single = checks.dimensions(start, "start") == 1
        columns = checks.array(start, "start", (order,) if single else (order, "m"))
        checks.finite(columns, "start")
        rows = np.ascontiguousarray(columns.reshape(order, -1).T)
    if checks.flag(certify, "certify"):
        return certified(point, k, above, tolerance, rows if start is not None else None)
    most = 200 + 40 * k
    found = refine(
        lambda rows: _products(point, rows),
        rows,
        k,
        above=above,
        tolerance=tolerance,
        most=most,
        rng=rng,
    )
    if not found.converged:
        raise np.linalg.LinAlgError(
            f"{found.products} products leave a residual of {found.residuals.max():.1e}; expected "
            f"a tolerance above {tolerance}, or certify=True"
        )
    number = None if above is None else int((found.values > above).sum())
    vectors = np.ascontiguousarray(found.rows.T)
    return LeadingEigenpairs(found.values, vectors, found.residuals, found.products, number, None)


def _products(point: Point, rows: Array) -> Array:
    """With the Hessian, in float64."""
    hessian = point.hessian
    return np.asarray(hessian.products(np.ascontiguousarray(rows, hessian.dtype)), np.float64)


def certified(
    point: Point, k: int, above: float | None, tolerance: float, start: Array | None
) -> LeadingEigenpairs:
    """The same with proof, from checked arguments.

    Parameters
    ----------
    point : Point
    k : int
    above : float, optional
    tolerance : float
    start : (m, P) array, optional

    Returns
    -------
    LeadingEigenpairs

    Raises
    ------
    numpy.linalg.LinAlgError
        If they are not found.
    """
    order, products = point.net.parameter_count, 0
    rng = np.random.default_rng(0)
    if k < order and _is_countable(point):
        more = k if above is not None else k + 1
        found = refine(
            lambda rows: _products(point, rows),
            rng.standard_normal((1, order)) if start is None else start,
            more,
            above=above,
            tolerance=tolerance,
            most=200 + 40 * more,
            rng=rng,
        )
        products = found.products
        start = found.rows
        proof = _proof(point, found.values, k if above is None else None, above)
        if found.converged and proof is not None:
            number = None if above is None else int((found.values > above).sum())
            keep = k if above is None else len(found.values)
            return LeadingEigenpairs(
                found.values[:keep],
                np.ascontiguousarray(found.rows[:keep].T),
                found.residuals[:keep],
                products,
                number,
                proof,
            )
    while True:
        columns = None if start is None else start.T
        pairs = eigsh(point.hessian, k, which="LA", tolerance=tolerance, start=columns)
        products += pairs.products
        if above is None or pairs.values[0] <= above or k == order:
            break
        k, start = min(k + 2, order), np.ascontiguousarray(pairs.vectors.T)
    if not pairs.converged:
        raise np.linalg.LinAlgError(f"the eigenvalues were not found: {pairs.message}")
    values = np.array(pairs.values[::-1])
    number = None if above is None else int((values > above).sum())
    vectors = np.ascontiguousarray(pairs.vectors[:, ::-1])
    residuals = np.array(pairs.residual_norms[::-1])
    return LeadingEigenpairs(values, vectors, residuals, products, number, pairs.certificate)


def _is_countable(point: Point) -> bool:
    """Whether a factorisation takes no more than some seconds."""
    found = cost(point.hessian, "logdet", method="exact")
    return found.fits and found.operations <= _CHEAP


def _proof(
    point: Point, values: Array, number: int | None, above: float | None
) -> Certificate | None:
    """That so many eigenvalues, or those above, are all; None if the inertia says otherwise."""
    # In the gap below them: next to an eigenvalue the inertia would be a matter of rounding.
    if number is None:
        assert above is not None
        number = int((values > above).sum())
        upper = float(values[number - 1]) if number else max(2 * above - float(values[0]), above)
    else:
        upper = float(values[number - 1])
    if number >= len(values):
        return None
    shift = (upper + float(values[number])) / 2
    try:
        if count(point.hessian, shift, math.inf) != number:
            return None
    except np.linalg.LinAlgError:
        return None
    margin = max(0.0, upper - shift) if number else 0.0
    return Certificate("inertia", -math.inf, shift, False, number, margin)


def thirds(point: Point, rows: Array) -> Array:
    """T[u_i, u_j] for i ≤ j: c (c + 1) / 2 third derivatives, the directions of each i at once.

    Parameters
    ----------
    point : Point
    rows : (c, P) array

    Returns
    -------
    (c (c + 1) / 2, P) array
        In the order of `complementarity.svec`, without its factors.
    """
    return np.concatenate([point.third(row, rows[i:]) for i, row in enumerate(rows)])


@dataclass(frozen=True, eq=False)
class Edge:
    """Where a point is with respect to the edge of stability; made by `edge`.

    Attributes
    ----------
    edge : float
        2 / η, or (2 + 2 β) / η of heavy ball with momentum β: with a larger eigenvalue of the
        Hessian a quadratic would diverge.
    eigenpairs : LeadingEigenpairs
        The critical ones, above 0.95 of the edge, and one more; at least two.
    third : (c, c, P) float64 array
        T[u_i, u_j] of the critical ones, or of the top one alone where none is critical: then c
        is 1.
    alpha : float
        −⟨g, T[u, u]⟩ of the top one: how fast the gradient flow raises its eigenvalue.
    beta : float
        ‖T[u, u]‖²: how much an oscillation along u lowers it.
    X : (m, m) float64 array
        Of the m critical ones, the covariance of oscillation that holds them: the solution of a
        complementarity problem; 2 [α]₊ / β of a single one. Empty where none is critical.
    mean_loss : float
        The loss with that oscillation: L + tr X / η, or L + (1 + β) tr X / η of heavy ball.
    loss : float
    certificate : swiftnets.spectra.Certificate or None
        That no eigenvalue above the last of `eigenpairs` is missing: no critical one.
    """

    edge: float
    eigenpairs: LeadingEigenpairs
    third: Array
    alpha: float
    beta: float
    X: Array
    mean_loss: float
    loss: float
    certificate: Certificate | None

    @property
    def sharpness(self) -> float:
        """The largest eigenvalue of the Hessian."""
        return float(self.eigenpairs.values[0])

    @property
    def delta(self) -> float:
        """√(2 α / β), the amplitude at which an oscillation along u holds its eigenvalue.

        0 where α is not above 0: nothing raises it.
        """
        return math.sqrt(2 * self.alpha / self.beta) if self.alpha > 0 and self.beta > 0 else 0.0

    def __repr__(self) -> str:
        return (
            f"Edge(sharpness={self.sharpness:.6g}, edge={self.edge:.6g}, critical={len(self.X)}, "
            f"alpha={self.alpha:.4g}, beta={self.beta:.4g})"
        )


def edge(point: Point, *, step: float, momentum: float = 0.0) -> Edge:
    """Where a point is with respect to the edge of stability of gradient descent or heavy ball.

    Gradient descent on a net first raises the largest eigenvalue of the Hessian to 2 / η, and then
    stays there [1]_: an oscillation along its eigenvector grows until the third derivative's pull
    on the eigenvalue holds it [2]_.

    Parameters
    ----------
    point : Point
        Of a smooth net. Best of iterates that are averaged, as `smoothed` does it: the iterates
        themselves jump from side to side.
    step : float
        η.
    momentum : float
        β of heavy ball, m' = β m + g, w' = w − η m'; 0 is gradient descent.

    Returns
    -------
    Edge

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above, or the net has a kink.
    FloatingPointError
        If numbers overflow.
    numpy.linalg.LinAlgError
        If the eigenpairs, or X, are not found.

    Notes
    -----
    Costs the eigenpairs to 1e-8 with their certificate, and c (c + 1) / 2 third derivatives, each
    about two products. Of heavy ball, only the threshold and the mean loss differ: its eigenvalues
    burst about the edge, and no flow is offered that follows them.

    References
    ----------
    .. [1] J. Cohen, S. Kaur, Y. Li, J. Z. Kolter and A. Talwalkar, "Gradient descent on neural
       networks typically occurs at the edge of stability", ICLR 2021, arXiv:2103.00065.
    .. [2] A. Damian, E. Nichani and J. D. Lee, "Self-stabilization: the implicit bias of gradient
       descent at the edge of stability", ICLR 2023, arXiv:2209.15594.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> point = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))
    >>> found = edge(point, step=0.1)
    >>> found.edge, bool(found.sharpness < found.edge), found.X.shape
    (20.0, True, (0, 0))
    """
    found = smooth_point(point)
    step = checks.real(step, "step", positive=True)
    momentum = checks.nonnegative(momentum, "momentum")
    if momentum >= 1:
        raise ValueError(f"momentum is {momentum}; expected a number from 0 to below 1")
    limit = (2 + 2 * momentum) / step
    order = found.net.parameter_count
    pairs = certified(found, min(2, order), _CRITICAL * limit, _EXACT, None)
    critical = pairs.count or 0
    rows = np.ascontiguousarray(pairs.vectors.T)[: max(critical, 1)]
    flat = thirds(found, rows)
    c = len(rows)
    third = np.empty((c, c, order))
    upper = np.triu_indices(c)
    third[upper] = flat
    third[upper[1], upper[0]] = flat
    gradient = found.gradient
    alpha, beta = -float(gradient @ third[0, 0]), float(third[0, 0] @ third[0, 0])
    X = np.zeros((0, 0))
    if critical:
        X = held(gradient, flat, None)
    mean_loss = found.loss + (1 + momentum) / step * float(np.trace(X))
    return Edge(limit, pairs, third, alpha, beta, X, mean_loss, found.loss, pairs.certificate)


def held(
    gradient: Array,
    flat: Array,
    slack: Array | None,
    start: Array | None = None,
    unit: float = 0.0,
) -> Array:
    """The covariance of oscillation that holds critical eigenvalues.

    Parameters
    ----------
    gradient : (P,) array
    flat : (K, P) array
        What `thirds` gives.
    slack : (c,) array, optional
        By how much the eigenvalues may still rise, over η times the time they have; none without.
    start : (c, c) array, optional
    unit : float
        As of `complementarity.solve_checked`.

    Returns
    -------
    (c, c) array

    Raises
    ------
    numpy.linalg.LinAlgError
        If there is none.
    """
    if len(flat) == 1:
        t = flat[0]
        pull = float(t @ t) / 2
        push = -float(t @ gradient) - (0.0 if slack is None else float(slack[0]))
        if push > 0 and not pull > 0:
            raise np.linalg.LinAlgError(
                "T[u, u] is 0, and nothing holds the eigenvalue: no oscillation does"
            )
        return np.array([[push / pull if push > 0 else 0.0]])
    _, _, factors, _ = places((math.isqrt(8 * len(flat) + 1) - 1) // 2)
    M = flat * factors[:, None]
    A = smat(M @ gradient)
    if slack is not None:
        A = A + np.diag(slack)
    return solve_checked(A, M @ M.T / 2, start, unit).X
