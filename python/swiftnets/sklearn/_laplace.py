"""The posterior of a fitted estimator: its prior and noise make held back samples most probable."""

from __future__ import annotations

import math
from typing import NamedTuple, cast, get_args

import numpy as np

from swiftnets import laplace
from swiftnets._support import checks
from swiftnets._support.types import Array, FloatArray
from swiftnets.laplace.posterior import Laplace, Structure
from swiftnets.mlp import MLP
from swiftnets.nets.samples import Batch

__all__ = ["posterior_of", "structure_of"]


def __dir__() -> list[str]:
    return __all__


_STRUCTURES: tuple[str, ...] = get_args(Structure)
# Exponents of 10 of prior precisions that are tried, and then beside the best of them by this much.
# The largest leave the net's own outputs.
_FIRST, _CLOSER = (-2.0, 0.0, 2.0, 4.0, 6.0), (1.0, 0.5)
_MOST_HELD = 200  # held back samples that are looked at: each costs a Jacobian a prior


class _Choice(NamedTuple):
    """A prior precision, and what the held back samples say of it."""

    surprise: float
    prior: float
    noise: float


def structure_of(value: object) -> Structure | None:
    """What the estimator's `laplace` asks for; None for nothing."""
    if isinstance(value, (bool, np.bool_)):
        return "kronecker" if value else None
    checks.choice(value, "laplace", _STRUCTURES)
    return cast(Structure, value)


def posterior_of(
    net: MLP, w: FloatArray, batch: Batch, held: Batch, structure: Structure
) -> Laplace:
    """Laplace's approximation at w, with the prior precision that held back samples ask for.

    The prior of the least negative log likelihood of these (Daxberger et al. 2021), the noise of a
    squared error being that of the least one in closed form: the covariance of outputs is σ² S, so
    that σ² = Σ r² / (1 + S) / N.

    Parameters
    ----------
    net : MLP
        Without l2.
    w : (P,) float array
    batch, held : Batch
    structure : str

    Returns
    -------
    Laplace

    Raises
    ------
    numpy.linalg.LinAlgError
        If no prior makes the structure's matrix positive definite.
    """
    point = net.at(w, batch.x, batch.labels_or_targets, sample_weight=batch.weights)
    held = held.each(lambda a: a[:_MOST_HELD])
    is_squared = net.loss_function.name == "squared_error"
    tried: dict[float, _Choice] = {}
    failure: np.linalg.LinAlgError | None = None

    def look(exponent: float) -> None:
        nonlocal failure
        prior = 10.0**exponent
        try:
            found = laplace.fit(point, structure, prior, tolerance=None)
        except np.linalg.LinAlgError as error:
            failure = error
            return
        if is_squared:
            surprise, noise = _surprise_of_numbers(found, held)
        else:
            surprise, noise = _surprise_of_classes(found, held), 1.0
        tried[exponent] = _Choice(surprise, prior / noise, noise)

    for exponent in _FIRST:
        look(exponent)
    if failure is not None and not tried:
        raise failure
    for step in _CLOSER:
        best = min(tried, key=lambda exponent: tried[exponent].surprise)
        for exponent in (best - step, best + step):
            if _FIRST[0] <= exponent <= _FIRST[-1]:
                look(exponent)
    chosen = min(tried.values())
    return laplace.fit(point, structure, chosen.prior, noise_variance=chosen.noise, tolerance=None)


def _mean(values: Array, held: Batch) -> float:
    return float(np.average(values, weights=held.weights))


def _surprise_of_classes(posterior: Laplace, held: Batch) -> float:
    p = posterior.predictive(held.x).probabilities()
    tiny = float(np.finfo(np.float64).tiny)
    if held.labels is not None:
        chosen = p[np.arange(len(p)), held.labels]
        return _mean(-np.log(np.maximum(chosen, tiny)), held)
    y = cast(FloatArray, held.targets)
    terms = y * np.log(np.maximum(p, tiny)) + (1 - y) * np.log(np.maximum(1 - p, tiny))
    return _mean(-terms.sum(axis=1), held)


def _surprise_of_numbers(posterior: Laplace, held: Batch) -> tuple[float, float]:
    """Negative log likelihood, but for a constant, and the noise's variance."""
    found = posterior.predictive(held.x)
    spread = 1 + found.variance
    squares = (cast(FloatArray, held.targets) - found.mean) ** 2
    noise = max(_mean((squares / spread).mean(axis=1), held), 1e-12)
    return 0.5 * (math.log(noise) + _mean(np.log(spread).mean(axis=1), held)), noise
