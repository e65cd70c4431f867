"""A curvature matrix factored by the method that fits: layer by layer, or dense."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.curvature.matrix import CurvatureMatrix, require_matrix
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.nets.network import BaseNetwork
from swiftnets.solve.layered import FORMS, Form, LayeredFactorization, is_layered, plan

__all__ = ["Factorization", "factorize"]


def __dir__() -> list[str]:
    return __all__


Factorization: TypeAlias = LayeredFactorization | DenseFactorization
FactorMethod: TypeAlias = Literal["auto", "layered", "dense"]

_METHODS = ("auto", "layered", "dense")
# Operations of a layered factorisation that proves the zeros of a matrix which the dense one
# refuses: so many, some seconds, or so many times the dense one's.
_PROOF, _PROOF_RATIO = 1e11, 100


def factorize(
    matrix: CurvatureMatrix, *, method: FactorMethod = "auto", form: Form = "auto"
) -> Factorization:
    """Factors of a curvature matrix with its shift; reached as `CurvatureMatrix.factorize`.

    Parameters
    ----------
    matrix : CurvatureMatrix
        One of a float32 net is factored in float64. With a complex shift solutions are complex;
        layered only.
    method : {"auto", "layered", "dense"}
        ``"layered"`` is for Hessians. ``"auto"``: layered where that takes fewer operations, and
        where the dense one finds a Hessian singular, unless that would take very long: it can count
        the eigenvalues that are 0.
    form : {"auto", "primal", "dual"}
        Of the layered method: which unknowns stand for a layer's weights. ``"primal"``: themselves.
        ``"dual"``: their parts in the span of the layer's inputs, the others being divided by the
        shift where it is large enough. ``"auto"``: dual where samples are fewer than inputs.

    Returns
    -------
    LayeredFactorization or DenseFactorization

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above, or does not go with another.
    NotImplementedError
        If it needs the layered method, and the net is no `MLP`.
    numpy.linalg.LinAlgError
        If the matrix is singular to working precision and its inertia cannot be proved. Where the
        layered method can count the eigenvalues that are 0 it does not raise: they are in
        `inertia`, `log_determinant` is −inf, and `solve` raises.
    MemoryError
        If the factorisation would not fit in memory; `plan` says beforehand what it takes without
        delayed pivots.

    Notes
    -----
    The layered method costs about q³ / 3 + q² N m + q (N m)² operations for a layer of N samples, m
    inputs and n outputs, with q = n min(N, m); see `plan`. Where pivots are nearly 0, mostly for
    shifts far below 1e-3 of ‖H‖, eigenvectors of each layer's block are needed in addition, some
    10 q³ with q = n m; for memory likewise. The dense one forms H and costs P³ / 3 operations after
    that. Ctrl-C stops both.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> point = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))
    >>> damped = point.hessian + 0.1
    >>> step = factorize(damped, method="layered").solve(point.gradient)
    >>> bool(abs(damped @ step - point.gradient).max() < 1e-13)
    True
    """
    require_matrix(matrix)
    checks.choice(method, "method", _METHODS)
    checks.choice(form, "form", FORMS)
    if method == "layered" or (method == "auto" and _layered_is_cheaper(matrix, form)):
        return LayeredFactorization(matrix, form)
    if form != "auto":
        raise ValueError(f'form is {form!r}; expected "auto", as the factors are dense')
    if method == "auto":
        return _dense_or_layered(matrix)
    return dense_factors(matrix, matrix.point.net.dtype)


def dense_factors(matrix: CurvatureMatrix, dtype: npt.DTypeLike) -> DenseFactorization:
    """Of a matrix with a real shift; solutions in `dtype`."""
    if isinstance(matrix.shift, complex):
        raise ValueError(
            f"the shift is {matrix.shift}; expected a real one, as the factors are dense"
        )
    point = matrix.point.in_float64()
    count = point.net.parameter_count
    checks.memory(16 * count**2, f"the {matrix.kind.title} and its factors")
    entries = CurvatureMatrix(point, matrix.kind).bare()
    return DenseFactorization.trusted(entries, matrix.shift, np.dtype(dtype), point.net.l2)


def _dense_or_layered(matrix: CurvatureMatrix) -> Factorization:
    """Dense factors; of a Hessian that is singular layered ones, which may count the zeros."""
    try:
        return dense_factors(matrix, matrix.point.net.dtype)
    except np.linalg.LinAlgError as error:
        if not is_layered(matrix):
            raise
        net, samples = matrix.point.net, matrix.point.counted_samples
        try:
            if plan(net, samples).operations > max(
                _PROOF, _PROOF_RATIO * _dense_operations(matrix)
            ):
                raise error
            return LayeredFactorization(matrix)
        except (np.linalg.LinAlgError, MemoryError):
            raise error from None


def _dense_operations(matrix: CurvatureMatrix) -> float:
    count = matrix.point.net.parameter_count
    samples = matrix.point.counted_samples
    return dense_operations(matrix.point.net, samples, count) + count**3 / 3


def dense_operations(net: BaseNetwork, samples: int, count: int) -> float:
    """Of the entries of a Hessian's block of so many parameters, before it is factored."""
    if "structural_hessian" in net.supports:
        return 2.0 * samples * count**2
    return 12.0 * samples * net.multiplications * count  # a product a column


def _layered_is_cheaper(matrix: CurvatureMatrix, form: Form) -> bool:
    if not matrix.kind.is_layered:
        return False
    if isinstance(matrix.shift, complex) or form != "auto":
        return True
    if not is_layered(matrix):
        return False
    net, samples = matrix.point.net, matrix.point.counted_samples
    try:
        return plan(net, samples).operations <= _dense_operations(matrix)
    except MemoryError:
        return False
