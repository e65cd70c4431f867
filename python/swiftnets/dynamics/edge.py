"""The edge of stability at a point: the leading eigenpairs, and what the third derivative does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point
from swiftnets.dynamics.holding import held, thirds
from swiftnets.dynamics.leading import LeadingEigenpairs, certified
from swiftnets.dynamics.smooth import smooth_point
from swiftnets.spectra import Certificate

__all__ = ["Edge", "edge"]


def __dir__() -> list[str]:
    return __all__


_CRITICAL = 0.95  # of the edge: from here on an eigenvalue may be held there
_EXACT = 1e-8


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
    burst about the edge, and no flow is offered that follows them. Nor is a period of oscillation,
    though alpha and beta suggest one: stiff directions that relax have a part in both.

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
    loss = checks.loss(found.loss, w=found.w)
    limit = (2 + 2 * momentum) / step
    if math.isinf(limit):
        raise FloatingPointError(f"step is {step}: 2 / step is beyond float64")
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
    with np.errstate(over="ignore", invalid="ignore"):
        # 0 less it: no −0.0.
        alpha, beta = 0.0 - float(gradient @ third[0, 0]), float(third[0, 0] @ third[0, 0])
    X = held(gradient, flat, None) if critical else np.zeros((0, 0))
    with np.errstate(over="ignore"):
        mean_loss = loss + (1 + momentum) * float(np.trace(X) / step)
    for name, value in (("alpha", alpha), ("beta", beta), ("mean_loss", mean_loss)):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} is {value}: the derivatives are too large; expected samples, parameters "
                "or a loss of smaller scale"
            )
    return Edge(limit, pairs, third, alpha, beta, X, mean_loss, loss, pairs.certificate)
