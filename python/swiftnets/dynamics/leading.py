"""The leading eigenpairs of a Hessian, to the digits that following them needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point, require_point
from swiftnets.dynamics.ritz import Ritz, refine
from swiftnets.spectra import Certificate, cost, count, eigsh

__all__ = ["LeadingEigenpairs", "certified", "leading_eigenpairs"]


def __dir__() -> list[str]:
    return __all__


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

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.6g}" for value in self.values[:4])
        count = "" if self.count is None else f", {self.count} above the threshold"
        proof = "not certified" if self.certificate is None else f"by {self.certificate.method}"
        return (
            f"LeadingEigenpairs({shown}{', …' * (len(self.values) > 4)}: residuals up to "
            f"{self.residuals.max():.1e}{count}, {proof})"
        )


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
    there, start from more columns than are equal, or certify. Nor does anything but `certify` find
    a larger eigenvalue where the start spans an invariant space, such as that of other eigenvectors
    to the last digit.

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
    checks.finite(point.w, "point.w")
    k = checks.integer(k, "k", 1, order)
    if above is not None:
        above = checks.real(above, "above")
    if not 0 < checks.real(tolerance, "tolerance") < 1:
        raise ValueError(f"tolerance is {tolerance}; expected a number between 0 and 1")
    if start is None:
        rows = None
    else:
        single = checks.dimensions(start, "start") == 1
        columns = checks.array(start, "start", (order,) if single else (order, "m"))
        checks.finite(columns, "start")
        rows = np.ascontiguousarray(columns.reshape(order, -1).T)
    if checks.flag(certify, "certify"):
        return certified(point, k, above, tolerance, rows)
    found = _refined(point, rows, k, above, tolerance)
    if not found.converged:
        raise np.linalg.LinAlgError(
            f"{found.products} products leave a residual of {found.residuals.max():.1e}; expected "
            f"a tolerance above {tolerance}, or certify=True"
        )
    vectors, number = np.ascontiguousarray(found.rows.T), _number(found.values, above)
    return LeadingEigenpairs(found.values, vectors, found.residuals, found.products, number, None)


def _refined(
    point: Point, start: Array | None, k: int, above: float | None, tolerance: float
) -> Ritz:
    """Of the Hessian, by products in float64."""
    hessian = point.hessian

    def products(rows: Array) -> Array:
        return np.asarray(hessian.products(np.ascontiguousarray(rows, hessian.dtype)), np.float64)

    order, most = point.net.parameter_count, 200 + 40 * k
    return refine(products, start, k, order=order, above=above, tolerance=tolerance, most=most)


def _number(values: Array, above: float | None) -> int | None:
    """How many values are above a threshold, if there is one."""
    return None if above is None else int((values > above).sum())


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
    if k < order and _is_countable(point):
        more = k if above is not None else k + 1
        found = _refined(point, start, more, above, tolerance)
        products = found.products
        start = found.rows
        proof = _proof(point, found.values, k if above is None else None, above)
        if found.converged and proof is not None:
            keep = k if above is None else len(found.values)
            return LeadingEigenpairs(
                found.values[:keep],
                np.ascontiguousarray(found.rows[:keep].T),
                found.residuals[:keep],
                products,
                _number(found.values, above),
                proof,
            )
    least = k
    while True:
        columns = None if start is None else start.T
        pairs = eigsh(point.hessian, k, which="LA", tolerance=tolerance, start=columns)
        products += pairs.products
        if above is None or pairs.values[0] <= above or k == order:
            break
        # By parts of what there is, so that many take few rounds.
        k, start = min(k + max(2, k // 2), order), np.ascontiguousarray(pairs.vectors.T)
    if not pairs.converged:
        raise np.linalg.LinAlgError(f"the eigenvalues were not found: {pairs.message}")
    values = np.array(pairs.values[::-1])
    number = _number(values, above)
    keep = least if number is None else max(least, number + 1)
    return LeadingEigenpairs(
        values[:keep].copy(),
        np.ascontiguousarray(pairs.vectors[:, ::-1][:, :keep]),
        np.array(pairs.residual_norms[::-1][:keep]),
        products,
        number,
        pairs.certificate,
    )


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
