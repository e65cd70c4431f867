"""From many starts to points of zero gradient, by Levenberg and Marquardt's method on ½‖∇L‖²."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.critical.models import LEAST, METHODS, Method, Model, chosen
from swiftnets.critical.results import CriticalPoint, CriticalPoints
from swiftnets.curvature.point import Point
from swiftnets.linalg.lanczos import lanczos
from swiftnets.linalg.scaling import norm
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.supports import require_dense

__all__ = ["find"]


def __dir__() -> list[str]:
    return __all__


_EPS = float(np.finfo(np.float64).eps) / 2
_FIRST = 1e-3  # μ / ‖H‖² at a start
# A gradient of which so much is null is flat. At rounding's level of ‖H g‖ no step is left.
_FLAT_SHARE, _LEVEL = 0.9, 1e-11
# A Newton step so long beside w, with a gradient that is nearly 0, leads to infinity.
_LONG = 1e-3
_FURTHER = 2  # steps after convergence
_MOST_COUNTED = 3000  # parameters of a Hessian that is factored for the index alone
_LEAST_STEP = 1e-15  # of ‖w‖
_LOOK = 12  # steps of Lanczos's method
_MESSAGES = {
    "critical": "the gradient's norm is at most the tolerance",
    "rounding": "the gradient is 0 to rounding",
    "flat": "the gradient lies in the Hessian's null space: its norm has a local minimum here, "
    "or nearly, but it is not 0",
    "escaping": "the gradient's norm is at most the tolerance, but a Newton step is long: the loss "
    "levels out towards infinity",
    "iterations": "the limit of iterations is reached",
    "stalled": "no step makes the gradient's norm smaller",
}


class _Settings(NamedTuple):
    tolerance: float
    limit: int
    null: float


def find(
    net: BaseNetwork,
    x: Any,
    y: Any = None,
    starts: npt.ArrayLike | int = 20,
    *,
    sample_weight: npt.ArrayLike | None = None,
    method: Method = "auto",
    gradient_tolerance: float = 1e-12,
    max_iterations: int = 300,
    null_tolerance: float = 1e-8,
    seed: int = 0,
    progress: bool = False,
) -> CriticalPoints:
    """Search for critical points of a net's loss, saddles as well as minima, from many starts.

    Levenberg and Marquardt's method on ½‖g‖², g the gradient: steps s = −(H² + μ)⁻¹ H g with μ by
    Nielsen's rule (1999), taken where ‖g‖ falls.

    Parameters
    ----------
    net : MLP or Network
        One of dtype float32 is taken in float64.
    x, y, sample_weight
        As for `Network.at`.
    starts : int or (K, P) array_like
        Parameters to start from: one row each; a number of them is drawn by ``net.initial``.
    method : {"auto", "layered", "dense", "krylov"}
        How steps are computed. ``"layered"``: s = −Re (H − i √μ)⁻¹ g by one complex layered
        factorisation a step, of an `MLP`. ``"dense"``: all eigenpairs of H, for any μ.
        ``"krylov"``: the least ‖g + H s‖² + μ ‖s‖² over a Krylov space of 120 products a step,
        for nets whose Hessian does not fit. ``"auto"``: what takes the fewest operations.
    gradient_tolerance : float
        A critical point has ‖g‖ at most this, or at most what rounding leaves of it, as seen from
        gradients at weights that differ by units of rounding.
    max_iterations : int
        Most steps from each start.
    null_tolerance : float
        Eigenvalues of modulus at most this part of ‖H‖ are counted as 0, in nullities.
    seed : int
        Of the starts that are drawn: ``net.initial(seed=seed + k)``.
    progress : bool
        Show on standard error how many starts have ended.

    Returns
    -------
    CriticalPoints
        One `CriticalPoint` a start, in their order, whatever became of it; its status tells
        critical points from others.

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above.
    NotImplementedError
        If the method is ``"layered"`` and the net no `MLP`.
    FloatingPointError
        If the loss or gradient at a start is not finite.
    MemoryError
        If the Hessian does not fit and the method is ``"dense"``.

    Notes
    -----
    **What fails.** Of 72 starts along gradient descent of a net 16-4-3 with the cross-entropy, 17
    to 27 ended at critical points, by how far apart they were, and all others at points where the
    gradient is in the null space of H to the last digit, ‖H g‖ / (‖H‖ ‖g‖) about 1e-10, and not
    small: gradient-flat points, which methods that minimise ‖g‖² do not leave (Frye et al. 2021).
    They are reported as ``"flat"``. A fall of ‖g‖ by orders says nothing of a critical point.
    Newton-MR (Roosta et al. 2022), the usual alternative, found no more, and is not here.

    Which critical points are found depends on starts and method: they are no sample of all there
    are. Without l2, losses such as the cross-entropy have infima at infinity (``"escaping"``), and
    exact symmetries make H singular (`CriticalPoint.nullity`).

    Index and nullity come from two factorisations, of H ± τ with τ the null tolerance times ‖H‖,
    and are None where these refuse, and for ``"krylov"`` above 3000 parameters.

    Costs a gradient a trial, and a step's factorisation; P³ times about 12 for ``"dense"``.

    Examples
    --------
    A linear net of one hidden unit, y ≈ a b x: minima on a b = 1, and a saddle at 0.

    >>> from swiftnets import MLP
    >>> net = MLP((1, 1, 1), activation="identity", bias=False)
    >>> found = find(net, [[1.0]], [[1.0]], starts=[[0.2, 0.1], [2.0, 1.0]])
    >>> [(point.status, point.index, point.nullity) for point in found]
    [('critical', 1, 0), ('critical', 0, 1)]
    """
    if not isinstance(net, BaseNetwork):
        raise TypeError(f"net is of type {type(net).__name__}; expected an MLP or a Network")
    checks.choice(method, "method", METHODS)
    settings = _Settings(
        checks.real(gradient_tolerance, "gradient_tolerance", positive=True),
        checks.integer(max_iterations, "max_iterations"),
        checks.real(null_tolerance, "null_tolerance", positive=True),
    )
    rows = _starts(net, starts, seed)
    shows = checks.flag(progress, "progress")
    if method == "layered":
        require_dense(net, 'method="layered" of find', '"dense" or "krylov"')
    # What makes points lies above this room: every net has it.
    first: Point = cast(Any, net).at(rows[0], x, y, sample_weight=sample_weight).in_float64()
    (batch,) = first.samples.batches
    name, model = chosen(first, method)

    def place(w: Array) -> Point:
        w.flags.writeable = False
        return first.elsewhere(w, cast(Array, batch.targets))

    found = []
    with Progress(0, len(rows), "gradient norm", "start", shown=shows) as bar:
        for number, row in enumerate(rows):
            start = place(row.copy())
            found.append(_descend(place, start, number, model, name, settings))
            bar.step(found[-1].gradient_norm)
    return CriticalPoints(found)


def _starts(net: BaseNetwork, given: Any, seed: Any) -> Array:
    first = checks.seed(seed) or 0
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        count = checks.integer(given, "starts")
        return np.array([net.initial(seed=first + k) for k in range(count)], np.float64)
    single = checks.dimensions(given, "starts") == 1
    shape = (net.parameter_count,) if single else ("K", net.parameter_count)
    rows = checks.array(given, "starts", shape)
    checks.finite(rows, "starts")
    return rows[None] if single else rows


# One start ----------------------------------------------------------------------------------------


def _descend(
    place: Callable[[Array], Point],
    point: Point,
    number: int,
    make: Callable[[Point], Model],
    method: str,
    settings: _Settings,
) -> CriticalPoint:
    try:
        size = norm(_finite_gradient(point))
    except FloatingPointError as error:
        (batch,) = point.samples.batches
        named = {"starts": point.w, "x": batch.x}
        if batch.targets is not None:
            named["y"] = batch.targets
        raise checks.explain(error, **named) from None
    model, growth, status, steps = make(point), 2.0, "iterations", 0
    mu, before, further = _FIRST * model.norm**2, math.inf, 0
    while True:
        if size <= settings.tolerance:
            status = "critical"
            # The last steps are nearly Newton's: one or two more come close to rounding.
            if further == _FURTHER or size > 0.1 * before or size == 0:
                break
            further += 1
        elif model.slope <= _LEVEL * model.norm * size:
            status = "stalled"
            break
        elif steps == settings.limit:
            break
        trial = None
        while trial is None:
            length, ratio = 0.0, -math.inf
            try:
                step, left = model.step(mu)
                length = norm(step)
                there = place(point.w + step)
                new = norm(_finite_gradient(there))
                expected = (size - left) * (size + left)
                ratio = (size - new) * (size + new) / expected if expected > 0 else -math.inf
            except (np.linalg.LinAlgError, FloatingPointError):
                pass
            if ratio > 0:
                trial = there, new
            elif further:
                break
            else:
                mu, growth = max(mu, (LEAST * model.norm) ** 2) * growth, 2 * growth
                if 0 < length <= _LEAST_STEP * norm(point.w) or not math.isfinite(mu * growth):
                    break
        if trial is None:
            status = "critical" if further else "stalled"
            break
        before = size
        (point, size), steps = trial, steps + 1
        model = make(point)
        mu *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
        mu, growth = max(mu, (LEAST * model.norm) ** 2), 2.0
    return _ended(place, point, number, model, method, status, steps, settings)


def _finite_gradient(point: Point) -> Array:
    gradient = point.gradient
    if not np.isfinite(gradient).all():
        raise FloatingPointError("the gradient is not finite")
    return gradient


def _ended(
    place: Callable[[Array], Point],
    point: Point,
    number: int,
    model: Model,
    method: str,
    status: str,
    steps: int,
    settings: _Settings,
) -> CriticalPoint:
    """What a point is, judged anew from itself."""
    size = norm(point.gradient)
    share, flatness = 0.0, 0.0
    if size > 0 and model.norm > 0:
        flatness = min(model.slope / (model.norm * size), 1.0)
        try:
            share = model.null_share()
        except np.linalg.LinAlgError:
            share = math.nan
    message = ""
    if status != "critical" and size <= 4 * _noise(place, point):
        status, message = "critical", _MESSAGES["rounding"]
    elif status != "critical" and share >= _FLAT_SHARE:
        status = "flat"
    elif status == "critical" and _is_escaping(point, model):
        status = "escaping"
    index, nullity, doubt = None, None, ""
    if method == "krylov" and len(point.w) > _MOST_COUNTED:
        doubt = "; the index is not counted, as nothing this large is factored beside Krylov steps"
    else:
        try:
            index, nullity = _index(point, settings.null * _norm(point, model))
        except (np.linalg.LinAlgError, MemoryError) as error:
            doubt = f"; the index is not proved: {error}"
    return CriticalPoint(
        number,
        place(point.w),  # without the pass, which holds memory
        status,
        (message or _MESSAGES[status]) + doubt,
        point.loss,
        size,
        index,
        nullity,
        share,
        flatness,
        steps,
    )


def _norm(point: Point, model: Model) -> float:
    """‖H‖: a Krylov space of a gradient that is rounding may have next to nothing of it."""
    start = np.random.default_rng(0).standard_normal(len(point.w))
    values, _ = lanczos(point.hessian, start, _LOOK).eigenvalues()
    return max(model.norm, float(abs(values).max()))


def _index(point: Point, tau: float) -> tuple[int, int]:
    """Eigenvalues below −τ, and from there to τ: by the inertia of H + τ and of H − τ."""
    if tau == 0:  # that of ‖H‖ times the tolerance
        return 0, len(point.w)
    above = (point.hessian + tau).factorize().inertia
    below = (point.hessian - tau).factorize().inertia
    if above is None or below is None:
        raise np.linalg.LinAlgError("its factors prove no inertia")
    return above.negative, below.negative + below.zero - above.negative


def _noise(place: Callable[[Array], Point], point: Point) -> float:
    """What a unit of rounding in each weight makes of the gradient."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(2):
        signs = rng.integers(0, 2, len(point.w)) * 2 - 1
        there = place(point.w * (1 + 2 * _EPS * signs))
        worst = max(worst, norm(there.gradient - point.gradient))
    return worst


def _is_escaping(point: Point, model: Model) -> bool:
    if not (model.norm > 0 and model.slope > 0):
        return False
    try:
        step, _ = model.step((LEAST * model.norm) ** 2)
    except np.linalg.LinAlgError:
        return False
    return norm(step) > _LONG * max(norm(point.w), 1.0)
