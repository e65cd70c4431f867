"""Traces, log-determinants, diagonals and norms: exact where structure gives them, else estimates.

Every result says what it may be off by and how it was got, and `cost` what it would take.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array
from swiftnets.curvature.kinds import Kind
from swiftnets.spectra import exact
from swiftnets.spectra.costs import Options, start
from swiftnets.spectra.eigsh import eigsh
from swiftnets.spectra.estimates import Estimate, Method
from swiftnets.spectra.given import EPS, Matrix
from swiftnets.spectra.quadrature import (
    Counted,
    Runs,
    counted,
    leading,
    sphere,
    spread,
)
from swiftnets.spectra.sampling import hutchinson, hutchinson_diagonal, xdiag, xtrace

__all__ = ["diagonal", "effective_dimension", "logdet", "norm", "trace"]


def __dir__() -> list[str]:
    return __all__


Function: TypeAlias = Literal["square", "inverse", "absolute", "logarithm"] | None
DiagonalFunction: TypeAlias = Literal["square", "inverse"] | None
Norm: TypeAlias = Literal["fro", "nuc", 2]
# What is called certified: an eigenvalue that is not positive would have been missed by chance.
_CHANCE = 1e-6
_Mapped: TypeAlias = Callable[[Array], Array]


# Traces


def trace(
    A: Matrix,
    function: Function | _Mapped = None,
    *,
    method: Method = "auto",
    products: int = 120,
    probes: int = 30,
    steps: int = 64,
    deflate: int = 30,
    seed: int = 0,
    progress: bool = False,
) -> Estimate:
    """tr A or tr f(A).

    Parameters
    ----------
    A : CurvatureMatrix, SymmetricOperator or (P, P) array_like
    function : {None, "square", "inverse", "absolute", "logarithm"} or callable
        f; a callable takes an array of eigenvalues. tr log A is for positive definite matrices; see
        `logdet` for others.
    method : {"auto", "exact", "xtrace", "hutchinson", "lanczos"}
        Exact: the sum of the diagonal; of the squares of all entries; for the inverse one
        factorisation with a complex step; else all eigenvalues of the dense matrix. XTrace and
        Hutchinson are for tr A and tr A², Lanczos quadrature with leading eigenvalues deflated for
        the others. Auto: exact where that fits in memory and takes up to about a minute.
    products : int
        With the matrix, for XTrace and Hutchinson.
    probes, steps, deflate : int
        For Lanczos quadrature: starts, steps of each, and eigenvalues of largest absolute value
        found beforehand.
    seed : int
    progress : bool
        Whether to show how far quadrature is.

    Returns
    -------
    Estimate

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind above; the message names it.
    numpy.linalg.LinAlgError
        If the matrix is singular to working precision, or not positive definite where quadrature is
        to give its inverse or logarithm: only factors answer then.
    FloatingPointError
        If numbers on the way are not finite.
    MemoryError
        If it does not fit; the message has the bytes. See `cost`.

    Notes
    -----
    XTrace (Epperly, Tropp & Webber 2024) is best where the spectrum decays; its own estimate of its
    error is up to 1.7 times low, and reported twice. For flat spectra Hutchinson's mean is as good.
    With h so small that its square vanishes, tr A⁻¹ = Im log det (A + ih) / h exactly: no
    differences. Layered factors give it without the dense matrix.

    Examples
    --------
    >>> found = trace(np.diag([1.0, 2.0, 4.0]), "inverse")
    >>> round(found.value, 12), found.is_exact
    (1.75, True)
    """
    options = Options(products, probes, steps, deflate, seed, progress)
    matrix = counted(A)
    if function is None:
        return _linear(matrix, "trace", method, options)
    if callable(function):
        return _of_function(matrix, _checked(function), "a function", method, options)
    names = get_args(get_args(Function)[0])
    name = names[checks.choice(function, "function", names)]
    if name == "square":
        return _linear(matrix, "trace of square", method, options)
    if name == "inverse":
        return _inverse(matrix, method, options)
    if name == "absolute":
        return _of_function(matrix, np.abs, "absolute values", method, options)
    return _logarithm(matrix, method, options)


def _linear(matrix: Counted, what: str, method: Method, options: Options) -> Estimate:
    """tr A or tr A²."""
    chosen = start(matrix, what, method, options)
    is_square = what != "trace"
    if chosen == "exact":
        return exact.squares(matrix) if is_square else exact.trace_of(matrix)
    order = matrix.order

    def gram(rows: Array) -> Array:
        images = matrix.times(rows)
        product: Array = images @ images.T
        return product

    if chosen == "hutchinson":
        count = options.products
        if is_square:
            rows = sphere(count, order, np.empty((0, order)), options.rng)
            forms = order * (matrix.times(rows) ** 2).sum(axis=1)
            value = float(forms.mean())
            error = float(forms.std(ddof=1)) / math.sqrt(count)
        else:
            value, error = hutchinson(matrix.times, order, count, options.rng)
        text = f"mean over {count} probes, twice its standard error"
    elif is_square:
        # A² of a test vector takes two products, of the basis one.
        count = max(2, min(options.products // 3, order))
        value, error = xtrace(
            lambda rows: matrix.times(matrix.times(rows)), order, count, options.rng, gram
        )
        text = f"XTrace with {count} test vectors, its error doubled"
    else:
        count = max(2, min(options.products // 2, order))
        value, error = xtrace(matrix.times, order, count, options.rng)
        text = f"XTrace with {count} test vectors, its error doubled"
    return Estimate(value, 2 * error, text, False, matrix.products)


def _checked(function: _Mapped) -> _Mapped:
    """f, of which arrays of real numbers come."""

    def mapped(values: Array) -> Array:
        with np.errstate(all="ignore"):
            found = np.asarray(function(values))
        if found.dtype.kind not in "biuf":
            raise TypeError(f"function returned dtype {found.dtype}; expected real numbers")
        if found.shape != values.shape:
            raise ValueError(f"function returned shape {found.shape}; expected {values.shape}")
        return found.astype(np.float64)

    return mapped


def _of_function(
    matrix: Counted, function: _Mapped, text: str, method: Method, options: Options
) -> Estimate:
    what = "norm nuc" if function is np.abs else "trace of function"
    if start(matrix, what, method, options) == "exact":
        return exact.of_eigenvalues(matrix, function, text)
    return _quadrature(matrix, function, text, options)


def _inverse(matrix: Counted, method: Method, options: Options) -> Estimate:
    if start(matrix, "trace of inverse", method, options) == "exact":
        found = exact.inverse_of(matrix)
        text = f"exact: complex step in {found.method} factors"
        return Estimate(found.value, found.error, text, True, matrix.products, found.factorizations)
    return _quadrature(matrix, lambda x: 1 / x, "the inverse", options, needs_positive=True)


def _logarithm(matrix: Counted, method: Method, options: Options) -> Estimate:
    """tr log A."""
    if start(matrix, "logdet", method, options) != "exact":
        return _quadrature(matrix, np.log, "the logarithm", options, needs_positive=True)
    factors = exact.factors_of(matrix)
    inertia = factors.inertia
    if inertia.negative or inertia.zero:
        raise np.linalg.LinAlgError(
            f"{inertia.negative} eigenvalues are negative and {inertia.zero} are 0; the logarithm "
            "is of positive definite matrices (logdet gives log|det|)"
        )
    return exact.log_determinant(matrix, factors)


def _quadrature(
    matrix: Counted,
    function: _Mapped,
    text: str,
    options: Options,
    needs_positive: bool = False,
) -> Estimate:
    """Σ f(λ) by Lanczos quadrature on the sphere, with leading pairs deflated."""
    order, rng = matrix.order, options.rng
    pairs = leading(matrix, min(options.deflate, order // 2), rng)
    size = order - len(pairs.values)
    runs = Runs(matrix, sphere(options.probes, order, pairs.rows, rng), pairs.rows)
    with Progress(0, options.steps, unit="step", shown=options.progress) as bar:
        runs.advance(options.steps, bar)
    rules = runs.rules()
    chance = 0.0
    if needs_positive:
        # Ritz values lie inside the spectrum: one that is not positive is proof.
        least = min([*pairs.values, *(rule.nodes[0] for rule in rules)])
        if least <= 0:
            raise np.linalg.LinAlgError(
                f"{text} by quadrature is of positive definite matrices, and an eigenvalue is at "
                f"most {least:.3g}: a larger damping, or method 'exact', whose factors answer"
            )
        if not _is_definite(matrix):
            chance = runs.chance_below(0.0)
    known = function(pairs.values)
    integrals = np.array([rule.integral(function) for rule in rules])
    if not np.isfinite(integrals).all() or not np.isfinite(known).all():
        raise FloatingPointError(f"{text} is not finite at an eigenvalue")
    mean = float(integrals.mean())
    variance = float(
        np.mean([rule.integral(lambda x: (function(x) - mean) ** 2) for rule in rules])
    )
    sampling = spread(variance, size, options.probes)
    fewer = runs.rules(max(1, runs.steps - runs.steps // 4))
    before = np.array([rule.integral(function) for rule in fewer])
    truncation = 0.0 if runs.is_complete else size * abs(float(before.mean()) - mean)
    moved = abs(function(pairs.values + pairs.residual_norms) - known)
    deflation = float(moved[np.isfinite(moved)].sum())
    value = float(known.sum()) + size * mean
    method = (
        f"Lanczos quadrature of {text}: {options.probes} runs of {runs.steps} steps, "
        f"{len(pairs.values)} eigenvalues deflated"
    )
    error = 2 * sampling + truncation + deflation + 16 * EPS * abs(value)
    if chance > _CHANCE:
        error = math.inf
        method += "; not certified to be positive definite: more probes or steps, or method 'exact'"
    elif needs_positive and not _is_definite(matrix):
        shown = max(chance, 1e-99)
        method += f"; positive definite but with a probability of {shown:.0e} at most"
    return Estimate(value, error, method, False, matrix.products)


def _is_definite(matrix: Counted) -> bool:
    """Whether it is so by its structure: a Gauss–Newton matrix plus something positive."""
    curvature = matrix.curvature
    if curvature is None or curvature.kind is Kind.HESSIAN:
        return False
    return curvature.point.net.l2 + curvature.shift.real > 0


# Log-determinant and effective dimension


def logdet(
    A: Matrix,
    *,
    method: Method = "auto",
    probes: int = 30,
    steps: int = 64,
    deflate: int = 30,
    seed: int = 0,
    progress: bool = False,
) -> Estimate:
    """log|det A|.

    Parameters
    ----------
    A : CurvatureMatrix, SymmetricOperator or (P, P) array_like
    method : {"auto", "exact", "lanczos"}
        Exact: from the pivots of one factorisation. Lanczos: quadrature of the logarithm, for
        positive definite matrices. Auto: exact where that fits and takes up to about a minute.
    probes, steps, deflate, seed, progress : int, int, int, int, bool
        As in `trace`.

    Returns
    -------
    Estimate
        −inf where factors prove that eigenvalues are 0.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is singular to working precision, or not positive definite where quadrature is
        asked for.
    TypeError, ValueError, FloatingPointError, MemoryError
        As in `trace`.

    Examples
    --------
    >>> round(float(logdet(np.diag([1.0, -2.0, 4.0]))), 12)
    2.07944154168
    """
    options = Options(120, probes, steps, deflate, seed, progress)
    matrix = counted(A)
    if start(matrix, "logdet", method, options) == "exact":
        return exact.log_determinant(matrix, exact.factors_of(matrix))
    return _quadrature(matrix, np.log, "the logarithm", options, needs_positive=True)


def effective_dimension(
    A: Matrix,
    damping: float,
    *,
    method: Method = "auto",
    probes: int = 30,
    steps: int = 64,
    deflate: int = 30,
    seed: int = 0,
    progress: bool = False,
) -> Estimate:
    """tr A (A + λ)⁻¹ = P − λ tr (A + λ)⁻¹: parameters that the data determine (MacKay 1992).

    Parameters
    ----------
    A : CurvatureMatrix, SymmetricOperator or (P, P) array_like
        The net's l2 is part of a curvature matrix: with ``A - l2`` and ``damping=l2`` the prior is
        λ alone.
    damping : float
        λ, not 0.
    method : {"auto", "exact", "lanczos"}
        Exact: one factorisation with a complex step, for any λ that is not minus an eigenvalue.
        Lanczos: quadrature, for positive definite A + λ.
    probes, steps, deflate, seed, progress : int, int, int, int, bool
        As in `trace`.

    Returns
    -------
    Estimate

    Raises
    ------
    numpy.linalg.LinAlgError
        If A + λ is singular to working precision, or not positive definite where quadrature is
        asked for.
    ValueError
        If damping is 0, and as in `trace`.
    TypeError, FloatingPointError, MemoryError
        As in `trace`.

    Examples
    --------
    >>> round(float(effective_dimension(np.diag([9.0, 1.0, 0.0]), 1.0)), 12)
    1.4
    """
    options = Options(120, probes, steps, deflate, seed, progress)
    value = checks.real(damping, "damping")
    if value == 0:
        raise ValueError("damping is 0; expected another number (the dimension then is the rank)")
    matrix = counted(A)
    shifted = matrix.plus(value)
    if start(shifted, "effective_dimension", method, options) == "exact":
        found = exact.inverse_of(shifted)
        order = matrix.order
        error = abs(value) * found.error + 4 * EPS * order
        text = f"exact: complex step in {found.method} factors"
        result = order - value * found.value
        return Estimate(result, error, text, True, shifted.products, found.factorizations)
    return _quadrature(
        shifted, lambda x: (x - value) / x, "A (A + λ)⁻¹", options, needs_positive=True
    )


# Diagonals


def diagonal(
    A: Matrix,
    function: DiagonalFunction = None,
    *,
    method: Method = "auto",
    products: int = 120,
    seed: int = 0,
) -> Estimate:
    """The diagonal of A, of A² or of A⁻¹.

    Parameters
    ----------
    A : CurvatureMatrix, SymmetricOperator or (P, P) array_like
    function : {None, "square", "inverse"}
    method : {"auto", "exact", "xdiag", "hutchinson"}
        Exact: entries; squares of all entries; P solves with factors. XDiag and Hutchinson's mean
        of z ∘ A z are for A and A², the latter with solves also for the inverse, where XDiag is
        worse. Auto: exact where that fits in memory and takes up to about a minute.
    products : int
        With the matrix, or solves.
    seed : int

    Returns
    -------
    Estimate
        `value` and `error` are (P,) arrays.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is singular to working precision, for the inverse.
    TypeError, ValueError, FloatingPointError, MemoryError
        As in `trace`.

    Examples
    --------
    >>> diagonal([[2.0, 1.0], [1.0, 3.0]], "square").value
    array([ 5., 10.])
    """
    options = Options(products, 1, 4, 0, seed, False)
    matrix = counted(A)
    names = (None, *get_args(get_args(DiagonalFunction)[0]))
    if function is not None:
        checks.choice(function, "function", names[1:])
    what = "diagonal" if function is None else f"diagonal of {function}"
    chosen = start(matrix, what, method, options)
    if chosen == "exact":
        find = {"square": exact.square_diagonal, "inverse": exact.inverse_diagonal}
        return find.get(function or "", exact.diagonal_of)(matrix)
    order, used = matrix.order, 0
    if function == "inverse":
        factors = exact.factors_of(matrix)
        used = 1

        def times(rows: Array) -> Array:
            return np.asarray(factors.solve(rows), np.float64)

    elif function == "square":

        def times(rows: Array) -> Array:
            return matrix.times(matrix.times(rows))

    else:
        times = matrix.times
    each = 2 if function == "square" else 1
    if chosen == "hutchinson":
        count = max(2, options.products // each)
        values, errors = hutchinson_diagonal(times, order, count, options.rng)
        text = f"mean over {count} probes, twice its standard error"
    else:
        count = max(2, min(options.products // (2 * each), order))
        values, errors = xdiag(times, order, count, options.rng)
        text = f"XDiag with {count} test vectors, its error doubled"
    return Estimate(values, 2 * errors, text, False, matrix.products, used)


# Norms


def norm(
    A: Matrix,
    ord: Norm = "fro",  # noqa: A002  # as NumPy has it
    *,
    method: Method = "auto",
    products: int = 120,
    probes: int = 30,
    steps: int = 64,
    deflate: int = 30,
    seed: int = 0,
    progress: bool = False,
) -> Estimate:
    """Frobenius', the nuclear or the spectral norm.

    Parameters
    ----------
    A : CurvatureMatrix, SymmetricOperator or (P, P) array_like
    ord : {"fro", "nuc", 2}
        As of `numpy.linalg.norm`: (tr A²)^½, ``Σ |λ|``, or ``max |λ|``.
    method : str
        As in `trace`: "exact", "xtrace" and "hutchinson" for ``"fro"``, "exact" and "lanczos" for
        the others.
    products, probes, steps, deflate, seed, progress : int, int, int, int, int, bool
        As in `trace`.

    Returns
    -------
    Estimate
        For 2 by Lanczos's method it is that of `eigsh`, with its certificate: `error` bounds what
        the value is off by, and is infinite where nothing is proved.

    Raises
    ------
    TypeError, ValueError, FloatingPointError, MemoryError
        As in `trace`.

    Examples
    --------
    >>> float(norm(np.diag([3.0, -4.0]))), float(norm(np.diag([3.0, -4.0]), 2))
    (5.0, 4.0)
    """
    options = Options(products, probes, steps, deflate, seed, progress)
    matrix = counted(A)
    orders = ("fro", "nuc", "2")
    place = checks.choice("2" if _is_two(ord) else ord, "ord", orders)
    if place == 1:
        found = _of_function(matrix, np.abs, "absolute values", method, options)
        return found
    if place == 0:
        chosen = start(matrix, "norm fro", method, options)
        found = _linear(matrix, "trace of square", chosen, options)
        value = math.sqrt(max(found.value, 0.0))
        # |√a − √b| is at most both |a − b| / √a and √|a − b|.
        bound = math.sqrt(found.error)
        error = min(found.error / value, bound) if value else bound
        return replace(found, value=value, error=error)
    if start(matrix, "norm 2", method, options) == "exact":
        found = exact.extreme(matrix)
        return found
    pair = eigsh(matrix.operator, 1, which="LM", seed=options.seed)
    value, proof = float(abs(pair.values[0])), pair.certificate
    error = float(pair.error_bounds[0]) + (proof.margin if proof else math.inf)
    text = f"eigsh: {pair.message}"
    return Estimate(value, error, text, False, pair.products, pair.factorizations)


def _is_two(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value == 2
