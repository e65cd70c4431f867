"""Kronecker-factored Gauss–Newton matrices: a cheap inverse to precondition and to step with.

The Gauss–Newton block of a layer is Σₙ zₙ zₙᵀ ⊗ Bₙ over samples, with z the layer's inputs and B
the loss's curvature in its pre-activations. Its factored form is (Σ z zᵀ / N) ⊗ Σ B: exact for one
sample, and where inputs and curvature are uncorrelated (Martens & Grosse 2015; with B exact, not
sampled, as Botev et al. 2017). With sample weights s it is (Σ s z zᵀ / Σ s) ⊗ Σ B, s in B: integer
weights count a sample that often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.point import Point, require_point
from swiftnets.curvature.states import layer_states
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import exponents
from swiftnets.nets.supports import require_dense

__all__ = ["KroneckerFactors", "kronecker_factors"]


def __dir__() -> list[str]:
    return __all__


_CHUNK = 2**22  # numbers of a block of rows that is propagated back at once


@dataclass(frozen=True, eq=False)
class KroneckerFactors:
    """The factors of each layer's block.

    Attributes
    ----------
    inputs : tuple of (in, in) float64 arrays
        Σ s z zᵀ / Σ s with sample weights s, the bias as a last input 1.
    outputs : tuple of (out, out) float64 arrays
        Σ B, sample weights and reduction included.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]

    def inverse(self, damping: float) -> Callable[[npt.ArrayLike], Array]:
        """The function v ↦ (A ⊗ G + damping)⁻¹ v, layer by layer.

        Exact in the eigenbases of the factors (George et al. 2018), so no damping is split between
        them.

        Parameters
        ----------
        damping : float
            Above 0.

        Returns
        -------
        callable
            Takes (P,) or rows (K, P), returns float64 ones. Costs 4 P (in + out) operations.

        Raises
        ------
        TypeError, ValueError
            If the damping is not a number above 0.
        """
        damping = checks.real(damping, "damping", positive=True)
        layers = []
        for inputs, outputs in zip(self.inputs, self.outputs, strict=True):
            a, left = eigh(inputs)
            g, right = eigh(outputs)
            # Both are positive semidefinite: what rounding made negative is 0.
            with np.errstate(over="ignore"):
                scale = 1 / (np.outer(np.maximum(a, 0), np.maximum(g, 0)) + damping)
            layers.append((left, right, scale))
        count = sum(scale.size for _, _, scale in layers)

        def apply(v: npt.ArrayLike) -> Array:
            single = checks.dimensions(v, "v") == 1
            rows = checks.array(v, "v", (count,) if single else ("K", count))
            rows = rows[None] if single else rows
            # By powers of two, which round nothing: sums on the way may be out of range.
            units = exponents(rows)[:, None]
            rows = np.ldexp(rows, -units)
            result, first = np.empty_like(rows), 0
            for left, right, scale in layers:
                part = slice(first, first + scale.size)
                blocks = rows[:, part].reshape(len(rows), *scale.shape)
                inner = (left.T @ blocks @ right) * scale
                result[:, part] = (left @ inner @ right.T).reshape(len(rows), -1)
                first += scale.size
            with np.errstate(over="ignore"):
                whole: Array = np.ldexp(result, units)
            return whole[0] if single else whole

        return apply


def kronecker_factors(point: Point) -> KroneckerFactors:
    """The factors of the Gauss–Newton matrix of a net's loss at a point, l2 left out.

    Parameters
    ----------
    point : Point
        Several batches become one.

    Returns
    -------
    KroneckerFactors
        In float64 whatever the net's dtype.

    Raises
    ------
    NotImplementedError
        If the net is no `MLP`.
    FloatingPointError
        If a factor is not finite.

    Notes
    -----
    A square root of the loss's Hessian is propagated back: as much as a gradient for each output.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((3, 4, 2))
    >>> point = net.at(net.initial(seed=0), [[1.0, 2.0, 3.0]], [[0.0, 1.0]])
    >>> solve = kronecker_factors(point).inverse(0.1)
    >>> v = np.ones(net.parameter_count)
    >>> block = point.gauss_newton.dense((1, 1))  # one sample: exact
    >>> exact = np.linalg.solve(block + 0.1 * np.eye(10), v[-10:])
    >>> bool(np.allclose(solve(v)[-10:], exact))
    True
    """
    require_dense(
        require_point(point).net,
        "the Kronecker factorisation",
        'gauss_newton.dense(), or preconditioner="diagonal"',
    )
    counted = point.in_float64().counted
    layers, hessian = layer_states(counted)
    count = len(hessian)
    outputs = [np.zeros((layer.slopes.shape[1],) * 2) for layer in layers]
    widest = max(layer.slopes.shape[1] for layer in layers)
    step = max(1, _CHUNK // (hessian.shape[1] * widest))
    for first in range(0, count, step):
        some = slice(first, first + step)
        rows = _square_root(hessian[some]) * layers[-1].slopes[some, None, :]
        for index in range(len(layers) - 1, -1, -1):
            flat = rows.reshape(-1, rows.shape[2])
            outputs[index] += flat.T @ flat
            if index:
                below = layers[index - 1].slopes[some]
                weights = layers[index].weights[: below.shape[1]]  # without the bias
                rows = (rows @ weights.T) * below[:, None, :]
    (batch,) = counted.samples.batches
    given = batch.weights
    if given is None:
        inputs = tuple(layer.inputs.T @ layer.inputs / count for layer in layers)
    else:
        # By the largest, lest the sum overflow; all 0 are those of no sample.
        shares = given / (given.max() or 1)
        shares /= shares.sum() or 1
        rooted = (np.sqrt(shares)[:, None] * layer.inputs for layer in layers)
        inputs = tuple(rows.T @ rows for rows in rooted)
    if not all(np.isfinite(factor).all() for factor in (*inputs, *outputs)):
        raise FloatingPointError("the Kronecker factors have numbers that are not finite")
    return KroneckerFactors(inputs, tuple(outputs))


def _square_root(hessian: Array) -> Array:
    """Rows R (N, outputs, outputs) with Rᵀ R the Hessian of each sample's loss."""
    if hessian.ndim == 2:
        roots: Array = np.sqrt(np.maximum(hessian, 0))[:, :, None] * np.eye(hessian.shape[1])
        return roots
    if not np.isfinite(hessian).all():  # LAPACK's answer would be that it does not converge
        raise FloatingPointError("the loss's Hessian has numbers that are not finite")
    values, vectors = np.linalg.eigh(hessian)
    result: Array = np.sqrt(np.maximum(values, 0))[:, :, None] * vectors.transpose(0, 2, 1)
    return result
