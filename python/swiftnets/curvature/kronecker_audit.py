"""How good a Kronecker factorisation is: beside the exact matrix, entry by entry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.curvature.kronecker import KroneckerEigenbasis, KroneckerFactors
from swiftnets.curvature.matrix import CurvatureMatrix, require_matrix
from swiftnets.linalg.lapack import aside
from swiftnets.linalg.scaling import norm

__all__ = ["KroneckerAudit", "kronecker_audit"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False)
class KroneckerAudit:
    """What `kronecker_audit` measured.

    Attributes
    ----------
    frobenius_error : float
        ‖K − A‖ / ‖A‖ of the whole matrices, the net's l2 and the matrix's shift left out; K is 0
        between layers.
    block_errors : tuple of float
        The same of each layer's own block.
    outside : float
        ‖A between layers‖ / ‖A‖: the part of the error that no matrix of the layers' own blocks can
        make up for.
    eigenvalues : (P,) float64 array
        Of (K + λ)⁻¹ (A + λ), ascending, l2 and the shift in both: all 1 where K is exact. Steps
        with this inverse overshoot along those above 2 and are slow along those near 0.
    condition : float
        The ratio of the largest to the smallest of them, in modulus: what conjugate gradients
        with this preconditioner see. Without one it would be that of `plain_condition`.
    plain_condition : float
        The same of A + λ alone.
    damping : float
        λ.
    """

    frobenius_error: float
    block_errors: tuple[float, ...]
    outside: float
    eigenvalues: Array
    condition: float
    plain_condition: float
    damping: float

    def __repr__(self) -> str:
        blocks = ", ".join(f"{error:.3g}" for error in self.block_errors)
        return (
            f"KroneckerAudit(frobenius_error={self.frobenius_error:.3g}, blocks {blocks}, "
            f"outside {self.outside:.3g}; condition {self.plain_condition:.3g} to "
            f"{self.condition:.3g} at damping {self.damping:.3g})"
        )


def kronecker_audit(
    factors: KroneckerFactors | KroneckerEigenbasis, matrix: CurvatureMatrix, *, damping: float
) -> KroneckerAudit:
    """Compare a Kronecker factorisation K with the exact matrix A.

    Parameters
    ----------
    factors : KroneckerFactors or KroneckerEigenbasis
        Such as ``kronecker_factors(point)``.
    matrix : CurvatureMatrix
        Such as ``point.gauss_newton``, which K approximates; another one will do.
    damping : float
        λ, not negative. The net's l2, the matrix's shift and λ together are above 0.

    Returns
    -------
    KroneckerAudit

    Raises
    ------
    TypeError
        If an argument is not of the kind above.
    ValueError
        If it is not as above, or factors and matrix are of nets of other shapes.
    FloatingPointError
        If numbers of the matrix are not finite.
    MemoryError
        If three matrices of this size do not fit into memory: it is for small nets.

    Notes
    -----
    Forms A and takes the eigenvalues of two matrices: some 5 P³ operations.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> from swiftnets.curvature import kronecker_factors
    >>> net = MLP((3, 4, 2), loss="softmax_cross_entropy")
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> point = net.at(net.initial(seed=0), x, np.arange(50) % 2)
    >>> audit = kronecker_audit(kronecker_factors(point), point.gauss_newton, damping=0.1)
    >>> audit.condition < audit.plain_condition
    True
    """
    if not isinstance(factors, (KroneckerFactors, KroneckerEigenbasis)):
        raise TypeError(
            f"factors is of type {type(factors).__name__}; expected KroneckerFactors or a "
            "KroneckerEigenbasis, such as kronecker_factors(point)"
        )
    shift = require_matrix(matrix).shift
    if isinstance(shift, complex):
        raise ValueError(f"matrix has the shift {shift}; expected a real one")
    damping = checks.nonnegative(damping, "damping")
    net = matrix.point.net
    total = net.l2 + shift
    if not total + damping > 0:
        raise ValueError(
            f"damping is {damping:g}, and l2 and the matrix's shift are {total:g}; expected a sum "
            "above 0"
        )
    basis = factors.eigenbasis() if isinstance(factors, KroneckerFactors) else factors
    sizes = [part.stop - part.start for part in net.layer_slices]
    if [block.size for block in basis.values] != sizes:
        raise ValueError(
            f"factors are of layers with {[block.size for block in basis.values]} parameters; "
            f"expected those of the matrix's net, {sizes}"
        )
    checks.memory(24 * matrix.order**2, "three matrices of all parameters")
    # Without shift and damping, whose roundings may be larger than all of A: they come after.
    exact = (matrix - shift).dense().astype(np.float64, copy=False)
    if not np.isfinite(exact).all():
        raise FloatingPointError(f"the {matrix.kind.title} has numbers that are not finite")
    diagonal = np.arange(len(exact))
    own_diagonal = exact[diagonal, diagonal]
    exact[diagonal, diagonal] += shift + damping
    plain = _spectrum(exact)
    # Symmetric, and with the eigenvalues of (K + λ)⁻¹ (A + λ).
    half = _halved(basis, _halved(basis, exact, total + damping).T, total + damping)
    eigenvalues = _spectrum((half + half.T) / 2)
    exact[diagonal, diagonal] = own_diagonal - net.l2
    size, block_errors, missed = norm(exact.ravel()), [], 0.0
    for part, block in zip(net.layer_slices, basis.dense(), strict=True):
        own = exact[part, part]
        error = norm((block - own).ravel())
        block_errors.append(_ratio(error, norm(own.ravel())))
        missed = math.hypot(missed, error)
        own[:] = 0
    between = norm(exact.ravel())
    return KroneckerAudit(
        _ratio(math.hypot(missed, between), size),
        tuple(block_errors),
        _ratio(between, size),
        eigenvalues,
        _condition(eigenvalues),
        _condition(plain),
        damping,
    )


def _halved(basis: KroneckerEigenbasis, rows: Array, damping: float) -> Array:
    """Rows times (K + damping)^(−½), in the eigenbasis."""
    result, first = np.empty_like(rows), 0
    for left, right, values in zip(basis.inputs, basis.outputs, basis.values, strict=True):
        part = slice(first, first + values.size)
        blocks = rows[:, part].reshape(len(rows), *values.shape)
        turned = (left.T @ blocks @ right) / np.sqrt(values + damping)
        result[:, part] = turned.reshape(len(rows), -1)
        first += values.size
    return result


def _spectrum(matrix: Array) -> Array:
    return aside(4 / 3 * len(matrix) ** 3, np.linalg.eigvalsh, matrix)


def _condition(values: Array) -> float:
    sizes = abs(values)
    return _ratio(float(sizes.max()), float(sizes.min()))


def _ratio(a: float, b: float) -> float:
    if b == 0:
        return 0.0 if a == 0 else float("inf")
    return a / b
