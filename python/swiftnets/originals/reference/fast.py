"""fast_net in plain NumPy: Newton steps through the functional inverse of the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets._support.checks import Array
from swiftnets.originals.reference.common import (
    Line,
    Pairs,
    act,
    dact,
    dinv_act,
    errfn,
    inv_act,
    make_pairs,
    right,
)

__all__ = [
    "fast_draws",
    "fast_limit_step",
    "fast_pairs",
    "fast_run",
    "fast_step",
    "rank_and_condition",
]


def __dir__() -> list[str]:
    return __all__


Extended: TypeAlias = npt.NDArray[np.longdouble]


def fast_pairs(data: Any = None) -> tuple[Pairs, Pairs]:
    """Make fast_net's batches: 20 to train on, sizes differing by one at most, 500 to test on.

    Parameters
    ----------
    data : folder, None or object
        As for `slow_pairs`.

    Returns
    -------
    train_pairs, test_pairs : lists of ((k, 3072), (k, 100)) float64 arrays
        Pixels ``image / 256 - 0.5`` and one-hot rows.

    Raises
    ------
    ValueError
        If a number of images cannot be divided so.

    Examples
    --------
    >>> train_pairs, test_pairs = fast_pairs()
    >>> len(train_pairs), len(test_pairs), train_pairs[0][0].shape
    (20, 500, (250, 3072))
    """
    return make_pairs(data, 20, 500, equal=False)


def fast_draws(seed: int | None, insize: int = 3072, outsize: int = 100) -> Array:
    """Draw initial weights of fast_net: normal numbers over ``insize + outsize``.

    Parameters
    ----------
    seed : int or None
        Of the legacy generator; None takes one from the system.
    insize, outsize : int

    Returns
    -------
    (insize, outsize) array

    Examples
    --------
    >>> fast_draws(7).shape
    (3072, 100)
    """
    return np.random.RandomState(seed).randn(insize, outsize) / (insize + outsize)


def fast_step(
    xs: Array, ys: Array, w: Array, alpha: float = 0.1, r: float = 1e-9
) -> tuple[Array, float]:
    """Take one step of fast_net, literally: a finite difference through four pseudo-inverses.

    The gradient, nudged by ``1 + r/2`` and ``1 - r/2``, is sent back through the functional inverse
    of the gradient, from which come two sets of weights. Their difference quotient is the inverse
    Hessian times the gradient, by the inverse function theorem.

    Parameters
    ----------
    xs : (n, insize) array
    ys : (n, outsize) array
    w : (insize, outsize) array
    alpha : float
    r : float
        Width of the difference. The quotient carries rounding noise of about
        ``eps / r * condition(xs)`` relative to the largest weight.

    Returns
    -------
    w : new array
    loss : float
        Before the step.

    Notes
    -----
    ``numpy.linalg.pinv`` cuts singular values below 1e-15 of the largest. If `xs` has not full row
    rank (repeated images, for one), values that should be 0 come out near that cut; one that is
    kept makes the step blow up. That is the script's behaviour, kept here; `fast_limit_step` cuts
    higher.

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> xs, w = draw.randn(3, 8), draw.randn(8, 4)
    >>> ys = np.eye(4)[[0, 1, 3]]
    >>> quotient, loss = fast_step(xs, ys, w)
    >>> np.allclose(quotient, fast_limit_step(xs, ys, w)[0], atol=1e-5)
    True
    """
    net = xs @ w
    h = act(net)
    loss = float(errfn(h, ys))
    gradient = xs.T @ ((h - ys) * dact(net))

    def inverse_of_gradient(nudged: Array) -> Array:
        dnet = np.linalg.pinv(xs.T) @ nudged
        dh = dnet / dact(net)
        result: Array = np.linalg.pinv(xs) @ inv_act(dh + ys)
        return result

    ahead = inverse_of_gradient(gradient * (1.0 + r / 2.0))
    behind = inverse_of_gradient(gradient * (1.0 - r / 2.0))
    return w - alpha * ((ahead - behind) / r), loss


def _gram_eigen(xs: Array) -> tuple[Array, Array]:
    """Nonzero eigenvalues, ascending, and eigenvectors of ``xs @ xs.T``."""
    # The Gram matrix of pixels k / 256 - 0.5 is exact in float64, so that its eigenvalues are known
    # to n * eps of the largest: what lies below is 0. Singular values of xs are thus distinguished
    # from 0 down to sqrt(n * eps) of the largest, 2e-7 for 250 samples.
    values, vectors = np.linalg.eigh(xs @ xs.T)
    kept = values > len(xs) * np.finfo(np.float64).eps * values[-1]
    return values[kept], vectors[:, kept]


def rank_and_condition(xs: Array) -> tuple[int, float]:
    """Estimate a batch's rank, and its largest singular value over the smallest nonzero one.

    Parameters
    ----------
    xs : (n, insize) array

    Returns
    -------
    rank : int
        Singular values below ``sqrt(n * eps)`` of the largest, 2e-7 for 250 samples, count as 0.
    condition : float
        Infinite if all are 0.

    Examples
    --------
    >>> rank_and_condition(np.array([[3.0, 0.0], [0.0, 1.5], [0.0, 0.0]]))
    (2, 2.0)
    """
    values, _ = _gram_eigen(xs)
    return len(values), float(np.sqrt(values[-1] / values[0])) if len(values) else np.inf


def _extended_solve(xs: Array, b: Extended) -> Extended:
    """``pinv(xs) @ b`` in extended precision, by iterative refinement."""
    # A solve in float64 is repeated on residuals formed in numpy.longdouble (64 bits of mantissa on
    # x86). The corrections are xs.T times something, in extended precision, so the iterate stays in
    # the row space and is the minimum-norm solution, or the minimum-norm least-squares solution if
    # xs has not full row rank.
    values, vectors = _gram_eigen(xs)
    if not len(values):
        return np.zeros((xs.shape[1], b.shape[1]), dtype=np.longdouble)
    wide = xs.astype(np.longdouble)
    wide_t = np.ascontiguousarray(wide.T)
    full = len(values) == len(xs)
    inverse = 1.0 / values if full else 1.0 / values**2
    x: Extended = np.zeros((xs.shape[1], b.shape[1]), dtype=np.longdouble)
    residual, size = b, np.inf
    for _ in range(20):
        if not full:
            # What is left of b outside the range of xs must vanish exactly, not to float64.
            residual = wide @ (wide_t @ residual)
        z = vectors @ (inverse[:, None] * (vectors.T @ residual.astype(np.float64)))
        correction = wide_t @ z
        previous, size = size, float(np.abs(correction).max())
        if not size <= previous / 2:
            break
        x = x + correction
        # Each round divides the error by the same factor: it is now at most the square of this.
        if size <= np.sqrt(np.finfo(np.float64).eps) * float(np.abs(x).max()):
            return x
        residual = b - wide @ x
    raise ArithmeticError(
        f"xs: refinement in extended precision does not converge; the condition number of this "
        f"batch of rank {len(values)} is {np.sqrt(values[-1] / values[0]):.1e}"
    )


def fast_limit_step(
    xs: Array,
    ys: Array,
    w: Array,
    alpha: float = 0.1,
    *,
    precision: Literal["double", "extended"] = "double",
) -> tuple[Array, float]:
    """Take the step that `fast_step` tends to as ``r`` goes to 0, which has no noise.

    With ``P = pinv(xs.T) @ xs.T``, the projector on the range of `xs`, the script's step tends to
    ``alpha * pinv(xs) @ (inv_act'(ys + dh) * dh)``, where ``dh = (P @ ((h - ys) * d)) / d`` and d
    are the slopes. For `xs` of full row rank P is the identity, and ``dh = h - ys``.

    Parameters
    ----------
    xs, ys, w, alpha
        As for `fast_step`.
    precision : {"double", "extended"}
        ``"double"`` uses `numpy.linalg.pinv` with a cut of ``max(xs.shape) * eps`` instead of the
        script's 1e-15, which separates singular values that should be 0 from others.
        ``"extended"`` computes everything in `numpy.longdouble`, the pseudo-inverse by iterative
        refinement, and rounds the result once: the truth to compare others with, where
        ``longdouble`` is wider than float64. Without full row rank the error grows with the square
        of the condition number.

    Returns
    -------
    w : new array
    loss : float
        Before the step.

    Raises
    ------
    ValueError
        If `precision` is neither of the two.
    ArithmeticError
        If `xs` is conditioned so badly that refinement does not converge.

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> xs, ys, w = draw.randn(3, 8), np.eye(3, 4), draw.randn(8, 4)
    >>> double, loss = fast_limit_step(xs, ys, w)
    >>> np.allclose(double, fast_limit_step(xs, ys, w, precision="extended")[0], rtol=1e-12)
    True
    """
    if precision not in ("double", "extended"):
        raise ValueError(f"precision is {precision!r}; expected 'double' or 'extended'")
    if precision == "double":
        cut = max(xs.shape) * np.finfo(np.float64).eps
        inverse = np.asarray(np.linalg.pinv(xs, rcond=cut))
        h, d = act(xs @ w), dact(xs @ w)
        dh = (inverse.T @ (xs.T @ ((h - ys) * d))) / d
        return w - alpha * (inverse @ (dinv_act(ys + dh) * dh)), float(errfn(h, ys))
    net = xs.astype(np.longdouble) @ w.astype(np.longdouble)
    h, d = act(net), dact(net)
    dh = h - ys
    if len(_gram_eigen(xs)[0]) < len(xs):
        dh = (xs.astype(np.longdouble) @ _extended_solve(xs, dh * d)) / d
    step = _extended_solve(xs, dinv_act(ys + dh) * dh)
    return (w - np.longdouble(alpha) * step).astype(np.float64), float(errfn(h, ys))


def fast_run(
    train_pairs: Pairs,
    test_pairs: Pairs,
    iterations: int,
    seed: int | None,
    *,
    alpha: float = 0.1,
    r: float = 1e-9,
    method: Literal["literal", "limit", "extended"] = "literal",
) -> Iterator[Line]:
    """Run fast_net for `iterations` steps, going through the training batches again and again.

    Parameters
    ----------
    train_pairs, test_pairs : lists of (xs, ys)
        As `fast_pairs` gives them.
    iterations : int
        Steps. One line more is yielded: the last has the error and the weights after them all.
    seed : int or None
        As for `slow_run`.
    alpha, r : float
        As for `fast_step`; `r` is used by the literal method only.
    method : {"literal", "limit", "extended"}
        `fast_step`, or `fast_limit_step` in either precision.

    Yields
    ------
    Line
        The script counts correctly classified test samples after each epoch; that count comes with
        the first line of the next one, whose weights it belongs to.

    Raises
    ------
    ValueError
        If `method` is none of these.

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> pairs = [(draw.randn(3, 8), np.eye(3, 4)) for _ in range(2)]
    >>> lines = list(fast_run(pairs, pairs, 2, seed=1, method="limit"))
    >>> [line.correct is None for line in lines]
    [True, True, False]
    """
    if method not in ("literal", "limit", "extended"):
        raise ValueError(f"method is {method!r}; expected 'literal', 'limit' or 'extended'")
    w = fast_draws(seed, train_pairs[0][0].shape[1], train_pairs[0][1].shape[1])
    for iteration in range(iterations + 1):
        xs, ys = train_pairs[iteration % len(train_pairs)]
        correct = None
        if iteration and iteration % len(train_pairs) == 0:
            correct = right((act(x @ w), y) for x, y in test_pairs)
        yield Line(iteration, float(errfn(act(xs @ w), ys)), correct, (w,))
        if iteration < iterations:
            if method == "literal":
                w, _ = fast_step(xs, ys, w, alpha, r)
            else:
                precision: Literal["double", "extended"]
                precision = "double" if method == "limit" else "extended"
                w, _ = fast_limit_step(xs, ys, w, alpha, precision=precision)
