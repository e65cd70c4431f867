"""Kronecker-factored Gauss–Newton matrices: a cheap inverse to precondition and to step with.

The Gauss–Newton block of a layer is Σₙ zₙ zₙᵀ ⊗ Bₙ over samples, with z the layer's inputs and B
the loss's curvature in its pre-activations. Its factored form is (Σ z zᵀ / N) ⊗ Σ B: exact for one
sample, and where inputs and curvature are uncorrelated (Martens & Grosse 2015). With sample weights
s it is (Σ s z zᵀ / Σ s) ⊗ Σ B, s in B: integer weights count a sample that often.

B is Rᵀ R for rows R that are propagated back from the outputs: as many as the net has outputs for
all of it (Botev et al. 2017), or one, the gradient for a target drawn from the model, whose
expectation it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.probabilities import sigmoid, softmax
from swiftnets._support.types import Array, FloatArray
from swiftnets.curvature.point import Point, require_point
from swiftnets.curvature.states import LayerState, layer_states
from swiftnets.linalg.lapack import eigh
from swiftnets.linalg.scaling import exponents
from swiftnets.nets.supports import require_dense

__all__ = ["KroneckerEigenbasis", "KroneckerFactors", "Targets", "kronecker_factors"]


def __dir__() -> list[str]:
    return __all__


Targets: TypeAlias = Literal["exact", "sampled"]

_CHUNK = 2**22  # numbers of a block of rows that is propagated back at once


@dataclass(frozen=True, eq=False)
class KroneckerEigenbasis:
    """A matrix, block by block, that is diagonal in the eigenbases of Kronecker factors.

    Made by `KroneckerFactors.eigenbasis`. The block of a layer is (U ⊗ V) diag(S) (U ⊗ V)ᵀ.

    Attributes
    ----------
    inputs : tuple of (in, in) float64 arrays
        U of each layer, orthogonal.
    outputs : tuple of (out, out) float64 arrays
        V.
    values : tuple of (in, out) float64 arrays
        S, not negative: products of the factors' eigenvalues, or what `rescaled` puts in their
        place.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    values: tuple[Array, ...]

    @property
    def order(self) -> int:
        """P."""
        return sum(block.size for block in self.values)

    def inverse(self, damping: float) -> Callable[[npt.ArrayLike], Array]:
        """The function v ↦ (K + damping)⁻¹ v, with K this matrix.

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
        with np.errstate(over="ignore"):
            scales = [1 / (block + damping) for block in self.values]

        def apply(v: npt.ArrayLike) -> Array:
            single = checks.dimensions(v, "v") == 1
            rows = checks.array(v, "v", (self.order,) if single else ("K", self.order))
            rows = rows[None] if single else rows
            # By powers of two, which round nothing: sums on the way may be out of range.
            units = exponents(rows)[:, None]
            result = self._mapped(np.ldexp(rows, -units), scales)
            with np.errstate(over="ignore"):
                whole: Array = np.ldexp(result, units)
            return whole[0] if single else whole

        return apply

    def _mapped(self, rows: Array, scales: list[Array]) -> Array:
        """Rows times the matrix with these numbers on its diagonal."""
        result, first = np.empty_like(rows), 0
        for left, right, scale in zip(self.inputs, self.outputs, scales, strict=True):
            part = slice(first, first + scale.size)
            blocks = rows[:, part].reshape(len(rows), *scale.shape)
            inner = (left.T @ blocks @ right) * scale
            result[:, part] = (left @ inner @ right.T).reshape(len(rows), -1)
            first += scale.size
        return result

    def dense(self) -> list[Array]:
        """The block of each layer, entry by entry.

        Returns
        -------
        list of (in · out, in · out) float64 arrays
            In the order of the layer's part of the parameter vector.

        Raises
        ------
        MemoryError
            If the largest would not fit into memory.
        """
        checks.memory(8 * sum(s.size**2 for s in self.values), "the blocks of all layers")
        blocks = []
        for left, right, scale in zip(self.inputs, self.outputs, self.values, strict=True):
            root = np.kron(left, right) * np.sqrt(scale.reshape(-1))
            blocks.append(root @ root.T)
        return blocks

    def rescaled(
        self, point: Point, *, targets: Targets = "exact", seed: int | np.random.Generator = 0
    ) -> KroneckerEigenbasis:
        """The matrix of this form that is nearest to the Gauss–Newton blocks: EKFAC's.

        S becomes the diagonal of the layers' Gauss–Newton blocks in these bases, which leaves the
        smallest Frobenius error that they allow (George et al. 2018).

        Parameters
        ----------
        point : Point
        targets : {"exact", "sampled"}
            As of `kronecker_factors`. Sampled ones of few samples leave directions that no sample
            has seen with values near 0, in which steps are then far too long.
        seed : int or numpy.random.Generator

        Returns
        -------
        KroneckerEigenbasis

        Raises
        ------
        NotImplementedError, FloatingPointError
            As of `kronecker_factors`.
        ValueError
            If the point is of a net of another shape.
        """
        return Propagated(point, targets, seed).moments(self)


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

    def eigenbasis(self) -> KroneckerEigenbasis:
        """The factors diagonalised: the same matrix, to rounding.

        Returns
        -------
        KroneckerEigenbasis
            Costs about 10 (in³ + out³) operations a layer.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> point = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> kronecker_factors(point).eigenbasis().values[0].round(12)
        array([[ 0.],
               [25.]])
        """
        lefts, rights, values = [], [], []
        for inputs, outputs in zip(self.inputs, self.outputs, strict=True):
            a, left = eigh(inputs)
            g, right = eigh(outputs)
            lefts.append(left)
            rights.append(right)
            # Both are positive semidefinite: what rounding made negative is 0.
            with np.errstate(over="ignore"):
                values.append(np.outer(np.maximum(a, 0), np.maximum(g, 0)))
        return KroneckerEigenbasis(tuple(lefts), tuple(rights), tuple(values))

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
            As of `KroneckerEigenbasis.inverse`.

        Raises
        ------
        TypeError, ValueError
            If the damping is not a number above 0.
        """
        damping = checks.real(damping, "damping", positive=True)
        return self.eigenbasis().inverse(damping)


def kronecker_factors(
    point: Point, *, targets: Targets = "exact", seed: int | np.random.Generator = 0
) -> KroneckerFactors:
    """The factors of the Gauss–Newton matrix of a net's loss at a point, l2 left out.

    Parameters
    ----------
    point : Point
        Several batches become one.
    targets : {"exact", "sampled"}
        ``"exact"``: B itself. ``"sampled"``: δ δᵀ with δ the gradient for targets that are drawn
        from the model's own distribution, whose expectation B is: a class, a Bernoulli or a normal
        variable; for Huber's loss, which is no likelihood, a normal variable times the root of its
        second derivative.
    seed : int or numpy.random.Generator
        Of what is drawn.

    Returns
    -------
    KroneckerFactors
        In float64 whatever the net's dtype.

    Raises
    ------
    NotImplementedError
        If the net is no `MLP`.
    TypeError, ValueError
        If an argument is not as above.
    FloatingPointError
        If a factor is not finite.

    Notes
    -----
    Exact: a square root of the loss's Hessian is propagated back, as much as a gradient for each
    output. Sampled: one gradient.

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
    return Propagated(point, targets, seed).factors()


def mixed_factors(point: Point, random: np.random.Generator) -> KroneckerFactors:
    """The factors with δ δᵀ for B, of the point's own pass and in its precision.

    δ is a combination, by random signs, of the columns of a root of each sample's B, whose
    expectation is B for every loss (Martens, Sutskever & Swersky 2012): one backward pass.

    Parameters
    ----------
    point : Point
        Of an `MLP`.
    random : numpy.random.Generator

    Returns
    -------
    KroneckerFactors
        Of the net's dtype; in float64 where several batches become one.

    Raises
    ------
    FloatingPointError
        If a factor is not finite.
    """
    counted = point.counted
    if not counted.samples.is_single:
        counted = point.in_float64().counted
    net = counted.net
    chain = require_dense(net, "the Kronecker factorisation", "gauss_newton.dense()")
    size = counted.counted_samples * net.outputs
    signs = random.integers(0, 2, size, np.int8).astype(net.dtype)
    signs += signs
    signs -= 1
    shapes = list(zip(chain.layer_rows, chain.sizes[1:], strict=True))
    rest: FloatArray = np.empty(sum(m * m + n * n for m, n in shapes), net.dtype)
    counted.call_on_pass(_core.linearization_factors, signs, rest)
    require_finite(rest)
    inputs, outputs = [], []
    for m, n in shapes:
        inputs.append(rest[: m * m].reshape(m, m))
        outputs.append(rest[m * m : m * m + n * n].reshape(n, n))
        rest = rest[m * m + n * n :]
    return KroneckerFactors(tuple(inputs), tuple(outputs))


class Propagated:
    """The layers' inputs z, and rows R with Rᵀ R their B, propagated back from the outputs.

    Rows that are drawn are drawn once: factors and moments are of the same ones.
    """

    def __init__(self, point: Point, targets: Targets, seed: int | np.random.Generator) -> None:
        require_dense(
            require_point(point).net,
            "the Kronecker factorisation",
            'gauss_newton.dense(), or preconditioner="diagonal"',
        )
        is_sampled = checks.choice(targets, "targets", get_args(Targets)) == 1
        if not isinstance(seed, np.random.Generator):
            seed = np.random.default_rng(checks.integer(seed, "seed", 0, 2**63 - 1))
        counted = point.in_float64().counted
        self._layers, self._hessian = layer_states(counted)
        (self._batch,) = counted.samples.batches
        self._drawn = _drawn(counted, self._layers[-1], self._hessian, seed) if is_sampled else None

    def _rows(self) -> Iterator[tuple[int, slice, Array]]:
        """Layer, samples, their rows (n, rows of each, out): in chunks, the last layer first."""
        layers, count = self._layers, len(self._hessian)
        each = self._hessian.shape[1] if self._drawn is None else 1
        step = max(1, _CHUNK // (each * max(layer.slopes.shape[1] for layer in layers)))
        for first in range(0, count, step):
            some = slice(first, first + step)
            if self._drawn is None:
                rows = _square_root(self._hessian[some])
            else:
                rows = self._drawn[some, None, :]
            rows = rows * layers[-1].slopes[some, None, :]
            for index in range(len(layers) - 1, -1, -1):
                yield index, some, rows
                if index:
                    below = layers[index - 1].slopes[some]
                    weights = layers[index].weights[: below.shape[1]]  # without the bias
                    # As one matrix: many small products take far longer.
                    flat = rows.reshape(-1, rows.shape[2]) @ weights.T
                    rows = flat.reshape(*rows.shape[:2], -1) * below[:, None, :]

    def factors(self) -> KroneckerFactors:
        """The factors."""
        outputs = [np.zeros((layer.slopes.shape[1],) * 2) for layer in self._layers]
        for index, _, rows in self._rows():
            flat = rows.reshape(-1, rows.shape[2])
            outputs[index] += flat.T @ flat
        given = self._batch.weights
        if given is None:
            count = len(self._hessian)
            inputs = tuple(layer.inputs.T @ layer.inputs / count for layer in self._layers)
        else:
            # By the largest, lest the sum overflow; all 0 are those of no sample.
            shares = given / (given.max() or 1)
            shares /= shares.sum() or 1
            rooted = (np.sqrt(shares)[:, None] * layer.inputs for layer in self._layers)
            inputs = tuple(rows.T @ rows for rows in rooted)
        require_finite(*inputs, *outputs)
        return KroneckerFactors(inputs, tuple(outputs))

    def moments(self, basis: KroneckerEigenbasis) -> KroneckerEigenbasis:
        """The diagonals of the blocks in these bases: Σ (zᵀ u)² (R v)²."""
        shapes = [(layer.inputs.shape[1], layer.slopes.shape[1]) for layer in self._layers]
        if [block.shape for block in basis.values] != shapes:
            raise ValueError(
                f"point is of a net whose layers are {shapes}; expected those of the bases, "
                f"{[block.shape for block in basis.values]}"
            )
        values = [np.zeros(shape) for shape in shapes]
        for index, some, rows in self._rows():
            turned = (self._layers[index].inputs[some] @ basis.inputs[index]) ** 2
            flat = rows.reshape(-1, rows.shape[2]) @ basis.outputs[index]
            values[index] += turned.T @ (flat.reshape(rows.shape) ** 2).sum(axis=1)
        require_finite(*values)
        return KroneckerEigenbasis(basis.inputs, basis.outputs, tuple(values))


def require_finite(*factors: Array) -> None:
    """A FloatingPointError if a number is not finite."""
    if not all(np.isfinite(factor).all() for factor in factors):
        raise FloatingPointError("the Kronecker factors have numbers that are not finite")


def _drawn(
    point: Point, last: LayerState, hessian: Array, random: np.random.Generator
) -> FloatArray:
    """The root of each sample's weight times the gradient for a target drawn from the model."""
    loss = point.net.loss_function
    if loss.name in ("squared_error", "huber"):
        normal: FloatArray = random.standard_normal(hessian.shape)
        return normal * np.sqrt(np.maximum(hessian, 0))
    (batch,) = point.samples.batches
    batch, scale = point.net.engine.scaled(batch)
    shares: Array = np.full(len(hessian), scale)
    if batch.weights is not None:
        shares *= batch.weights
    outputs = point.outputs
    if loss.name == "binary_cross_entropy":
        other = sigmoid(-np.abs(outputs))  # of the less likely target
        drawn: FloatArray = (random.random(other.shape) < other) - other
        signed: FloatArray = np.where(outputs > 0, drawn, -drawn)
        return np.sqrt(shares)[:, None] * signed
    if batch.targets is not None:  # the Hessian's own factor
        shares *= np.maximum(batch.targets.sum(axis=1), 0)
    p = softmax(outputs)
    # The first class at which the sum of probabilities is above a uniform number.
    sums = p.cumsum(axis=1)
    chosen = (sums <= random.random(len(p))[:, None] * sums[:, -1:]).sum(axis=1)
    place = np.arange(len(p)), np.minimum(chosen, p.shape[1] - 1)
    p[place] = 0
    p[place] = -p.sum(axis=1)  # its probability less 1, however near they are
    return np.sqrt(shares)[:, None] * p


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
