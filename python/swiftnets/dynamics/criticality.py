"""What is shared by those who take coefficients where the gradient is 0 and there are no kinks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from swiftnets._support.types import Array, FloatArray
from swiftnets.curvature.point import Point, require_point
from swiftnets.nets.activations import Activation
from swiftnets.nets.layers.images import MaxPool2d
from swiftnets.nets.layers.residual import Residual

__all__ = [
    "FLAT",
    "VALID",
    "finite",
    "moved",
    "pseudo_inverse",
    "require_critical",
    "require_smooth",
    "signed",
]


def __dir__() -> list[str]:
    return __all__


FLAT = 1e-10  # of the norm: eigenvalues below count as 0
VALID = 1e-6  # of |t|: what may be in the null space


def require_smooth(point: object, what: str) -> Point:
    """The point, if its net and loss have third derivatives everywhere; `what` asks for them.

    Parameters
    ----------
    point : Point
    what : str
        The function's name, for the message.

    Returns
    -------
    Point

    Raises
    ------
    TypeError
        If it is no point, or one without targets.
    ValueError
        If an activation, a layer or the loss has kinks: the derivatives on either side of one say
        nothing of what happens across it.
    """
    here = require_point(point)
    if not here.samples.batches:  # asks for targets as well
        raise ValueError("the point has no samples of a weight above 0; expected at least one")
    for layer in _all(here.net.layers):
        kinked = isinstance(layer, Activation) and layer.name in ("relu", "leaky_relu")
        if kinked or isinstance(layer, MaxPool2d):
            raise ValueError(
                f"{what} needs third derivatives, and the net has {layer!r}, which has kinks; "
                'expected smooth layers, such as "gelu", "softplus" or "tanh"'
            )
    loss = here.net.loss_function
    if loss.name == "huber":
        raise ValueError(
            f"{what} needs third derivatives, and the loss is {loss.name!r}, whose second one "
            "jumps; expected a squared error or a cross-entropy"
        )
    return here


def _all(layers: Sequence[Any]) -> Iterator[Any]:
    for layer in layers:
        if isinstance(layer, Residual):
            yield from _all(layer.body)
            yield from _all(layer.shortcut)
        else:
            yield layer


def require_critical(point: Point, size: float, tolerance: float, what: str) -> float:
    """The gradient's norm; a ValueError if it is too large for curvatures of that size."""
    norm = float(np.linalg.norm(point.gradient))
    most = tolerance * size * max(1.0, float(np.linalg.norm(point.w)))
    if not norm <= most:
        raise ValueError(
            f"point is no {what}: its gradient has norm {norm:.3g}; expected at most {most:.3g}, "
            "the tolerance times ‖H‖ max(1, ‖w‖) (swiftnets.laplace.mode and "
            "swiftnets.critical.find go to such points)"
        )
    return norm


def pseudo_inverse(values: Array, vectors: Array, t: Array, size: float) -> tuple[Array, float]:
    """H⁺ t of a matrix with these eigenpairs, and t's norm in its null space over a size."""
    parts = vectors.T @ t
    flat = abs(values) <= FLAT * abs(values).max()
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(flat, 0.0, parts / values)
    lost = float(np.linalg.norm(parts[flat])) / size if size else 0.0
    response: Array = vectors @ inverse
    return response, lost


def signed(vector: FloatArray) -> Array:
    """The one of ± u whose entry of largest modulus is positive."""
    u: Array = np.array(vector, np.float64)
    u *= np.sign(u[np.argmax(abs(u))])
    u.flags.writeable = False
    return u


def moved(point: Point, w: Array) -> Point:
    """The same net on the same samples, of one batch, at other parameters."""
    w = w.copy()
    w.flags.writeable = False
    (batch,) = point.samples.batches
    return point.elsewhere(w, cast(Array, batch.targets))  # None where there are labels


def finite(derivative: Array, name: str) -> Array:
    """The derivative; a FloatingPointError if a number of it is not finite."""
    if not np.isfinite(derivative).all():
        raise FloatingPointError(f"the {name} derivative at the point is not finite")
    return derivative
