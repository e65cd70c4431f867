"""Both nets in plain NumPy: the definition of right that the engine is checked against.

Nothing here is fast and nothing here uses the engine. Each function says one thing that the two
scripts of ``howonlee/twostrangethings`` (2019) compute, in the order in which they compute it,
quirks included:

- `slow_run`: a 50-50-100 net trained by saddle-free Newton steps on two exact Hessian blocks;
- `fast_run`: a perceptron trained by a finite difference through the gradient's functional inverse.

Beside the literal steps stand two that are equal to them and can be afforded or trusted more:
`slow_step(..., blocks="assembled")` writes the blocks down in closed form instead of by one R-pass
an entry, and `fast_limit_step` is the limit of the finite difference as ``r`` goes to 0, on request
in extended precision.

Samples are rows; weights are flattened row by row: entry ``(i, j)`` of ``w1`` is
``i * hidsize + j``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Line",
    "act",
    "dact",
    "errfn",
    "fast_draws",
    "fast_limit_step",
    "fast_pairs",
    "fast_run",
    "fast_step",
    "inv_act",
    "labels_to_onehots",
    "rand_onehots",
    "rank_and_condition",
    "slow_assembled_blocks",
    "slow_draws",
    "slow_gradient",
    "slow_hessian_blocks",
    "slow_pairs",
    "slow_r_pass",
    "slow_run",
    "slow_step",
]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]
Extended: TypeAlias = npt.NDArray[np.longdouble]
Pairs: TypeAlias = list[tuple[Array, Array]]


# What both share ---------------------------------------------------------------------------------


def act(net: Any) -> Any:
    """Leaky activation: ``net`` where positive, half of it elsewhere; same shape and float type.

    >>> act(np.array([2.0, 0.0, -2.0]))
    array([ 2.,  0., -1.])
    """
    return np.where(net > 0, net, net / 2)


def dact(net: Any) -> Any:
    """Slope of `act`: 1 where ``net`` is positive, 0.5 elsewhere (0 included)."""
    return np.where(net > 0, 1.0, 0.5)


def inv_act(h: Any) -> Any:
    """Inverse of `act`: ``h`` where positive, twice it elsewhere."""
    return np.where(h > 0, h, 2 * h)


def dinv_act(h: Any) -> Any:
    """Slope of `inv_act`: 1 where ``h`` is positive, 2 elsewhere."""
    return np.where(h > 0, 1.0, 2.0)


def errfn(h: Any, ys: Any) -> Any:
    """Half the sum of squares of ``h - ys`` over samples and outputs; a sum, not a mean."""
    return 0.5 * np.sum((h - ys) ** 2)


def labels_to_onehots(labels: npt.ArrayLike, cardinality: int = 100) -> Array:
    """Rows of the identity chosen by ``labels``.

    Parameters
    ----------
    labels : (n,) integers in ``0 .. cardinality - 1``
    cardinality : int

    Returns
    -------
    (n, cardinality) float64 array

    Raises
    ------
    ValueError
        If a label lies outside the range.
    TypeError
        If labels are not integers.

    Examples
    --------
    >>> labels_to_onehots([1, 0], cardinality=3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    index = np.asarray(labels)
    if index.size and not np.issubdtype(index.dtype, np.integer):
        raise TypeError(f"labels: got dtype {index.dtype}, expected integers")
    index = index.astype(np.int64)
    if index.size and not 0 <= index.min() <= index.max() < cardinality:
        raise ValueError(
            f"labels: got values from {index.min()} to {index.max()}, "
            f"expected 0 to {cardinality - 1}"
        )
    onehots = np.zeros((len(index), cardinality))
    onehots[np.arange(len(index)), index] = 1.0
    return onehots


def rand_onehots(shape: tuple[int, int]) -> Array:
    """One-hot rows whose columns are drawn by Python's ``random.randint``, row after row."""
    rows, columns = shape
    return labels_to_onehots([random.randint(0, columns - 1) for _ in range(rows)], columns)


class Line(NamedTuple):
    """What one printed ``it:`` line knows, and the weights before the step that follows it."""

    iteration: int
    """Lines before this one, counted over all epochs."""
    error: float
    """Loss of the iteration's training batch, before the step."""
    corrects: int | None
    """Test samples classified rightly, where the script counts them; None elsewhere."""
    weights: tuple[Array, ...]
    """``(w1, w2)`` or ``(w,)``; never changed afterwards."""


def _corrects(outputs: Iterator[tuple[Array, Array]]) -> int:
    return sum(int((h.argmax(axis=1) == ys.argmax(axis=1)).sum()) for h, ys in outputs)


def _pairs(data: Any, train_parts: int, test_parts: int, equal: bool) -> tuple[Pairs, Pairs]:
    if data is None or isinstance(data, (str, os.PathLike)):
        from swiftnets import datasets  # only files need it: arrays can be used without

        data = datasets.load(data)

    def split(name: str, parts: int, equal: bool) -> Pairs:
        images, labels = getattr(data, f"{name}_images"), getattr(data, f"{name}_labels")
        if equal and len(images) % parts:
            raise ValueError(
                f"{name}_images: got {len(images)} images, expected a multiple of {parts}, "
                f"because they are split into {parts} equal batches"
            )
        xs = np.array_split(np.asarray(images) / 256.0 - 0.5, parts)
        ys = np.array_split(labels_to_onehots(labels), parts)
        return list(zip(xs, ys, strict=True))

    return split("train", train_parts, equal), split("test", test_parts, True)


def slow_pairs(data: Any = None) -> tuple[Pairs, Pairs]:
    """The batches of slow_net: 1000 equal ones to train on, 500 to test on, in file order.

    Parameters
    ----------
    data : folder, None or object
        What `swiftnets.datasets.load` reads (None: the embedded sample), or its result, or anything
        with the same ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``.

    Returns
    -------
    train_pairs, test_pairs : lists of ((k, 3072), (k, 100)) float64 arrays
        Pixels ``image / 256 - 0.5`` and one-hot rows.

    Raises
    ------
    ValueError
        If a number of images cannot be divided so.
    """
    return _pairs(data, 1000, 500, equal=True)


def fast_pairs(data: Any = None) -> tuple[Pairs, Pairs]:
    """The batches of fast_net: 20 to train on, sizes differing by one at most, 500 to test on.

    Arguments, result and errors as for `slow_pairs`.
    """
    return _pairs(data, 20, 500, equal=False)


# slow_net ----------------------------------------------------------------------------------------


def slow_draws(
    seed: int | None, insize: int = 50, hidsize: int = 50, outsize: int = 100, pixels: int = 3072
) -> tuple[Array, Array, Array]:
    """Initial weights and the fixed projection of the images, in the script's order.

    The script draws twice more and uses neither draw; nothing is drawn after those, so they have no
    effect and are left out.

    Returns
    -------
    w1 : (insize, hidsize) array
    w2 : (hidsize, outsize) array
    shaper : (pixels, insize) array

    Examples
    --------
    >>> w1, w2, shaper = slow_draws(7)
    >>> w1.shape, w2.shape, shaper.shape
    ((50, 50), (50, 100), (3072, 50))
    """
    draw = np.random.RandomState(seed)
    w1 = draw.randn(insize, hidsize) / (insize + hidsize)
    w2 = draw.randn(hidsize, outsize) / (hidsize + outsize)
    shaper = draw.randn(pixels, insize) / np.sqrt(pixels)
    return w1, w2, shaper


class _Pass(NamedTuple):
    """A forward and backward pass of slow_net; ``d*`` are derivatives of the error."""

    net1: Array
    h1: Array
    net2: Array
    h2: Array
    dnet2: Array
    dnet1: Array


def _slow_pass(xs: Array, ys: Array, w1: Array, w2: Array) -> _Pass:
    net1 = xs @ w1
    h1 = act(net1)
    net2 = h1 @ w2
    h2 = act(net2)
    dnet2 = (h2 - ys) * dact(net2)
    dnet1 = (dnet2 @ w2.T) * dact(net1)
    return _Pass(net1, h1, net2, h2, dnet2, dnet1)


def slow_gradient(xs: Array, ys: Array, w1: Array, w2: Array) -> tuple[Array, Array]:
    """Gradient of the error by back-propagation.

    Parameters
    ----------
    xs : (n, insize) array
        Projected inputs.
    ys : (n, outsize) array
    w1 : (insize, hidsize) array
    w2 : (hidsize, outsize) array

    Returns
    -------
    dw1, dw2 : arrays shaped as w1, w2
    """
    p = _slow_pass(xs, ys, w1, w2)
    return xs.T @ p.dnet1, p.h1.T @ p.dnet2


def slow_r_pass(
    xs: Array, ys: Array, w1: Array, w2: Array, v1: Array, v2: Array
) -> tuple[Array, Array]:
    """Derivative of the gradient along ``(v1, v2)``: the full Hessian times that direction.

    Pearlmutter's R-pass (1994). As the activation's second derivative is 0 wherever it exists, its
    curvature contributes no term.

    Returns
    -------
    rdw1, rdw2 : arrays shaped as w1, w2
    """
    p = _slow_pass(xs, ys, w1, w2)
    rnet1 = xs @ v1
    rh1 = rnet1 * dact(p.net1)
    rnet2 = rh1 @ w2 + p.h1 @ v2
    rh2 = rnet2 * dact(p.net2)
    rdnet2 = rh2 * dact(p.net2)
    rdnet1 = (rdnet2 @ w2.T + p.dnet2 @ v2.T) * dact(p.net1)
    return xs.T @ rdnet1, p.h1.T @ rdnet2 + rh1.T @ p.dnet2


def slow_hessian_blocks(xs: Array, ys: Array, w1: Array, w2: Array) -> tuple[Array, Array]:
    """The w1-w1 and w2-w2 blocks of the Hessian, one R-pass along one unit direction a row.

    The cross block is never formed: the script leaves it out.

    Returns
    -------
    block1 : (insize * hidsize, insize * hidsize) array
    block2 : (hidsize * outsize, hidsize * outsize) array
    """
    zero1, zero2 = np.zeros_like(w1), np.zeros_like(w2)
    block1, block2 = np.zeros((w1.size, w1.size)), np.zeros((w2.size, w2.size))
    for row in range(w1.size):
        v1 = np.zeros_like(w1)
        v1.flat[row] = 1.0
        block1[row] = slow_r_pass(xs, ys, w1, w2, v1, zero2)[0].ravel()
    for row in range(w2.size):
        v2 = np.zeros_like(w2)
        v2.flat[row] = 1.0
        block2[row] = slow_r_pass(xs, ys, w1, w2, zero1, v2)[1].ravel()
    return block1, block2


def slow_assembled_blocks(xs: Array, w1: Array, w2: Array) -> tuple[Array, Array]:
    """The same two blocks in closed form; they depend on the targets no more.

    With d1, d2 the slopes of both layers, entry ``((i, a), (j, b))`` of block 1 is the sum over
    samples of ``x_i x_j d1_a d1_b m_ab``, where ``m_ab`` sums ``w2_ao d2_o**2 w2_bo`` over outputs.
    Block 2 couples only weights of the same output o: its part there is the sum over samples of
    ``h1_a h1_b d2_o**2``. Both are sums of squares, hence positive semidefinite.

    Returns
    -------
    block1 : (insize * hidsize, insize * hidsize) array
    parts2 : (outsize, hidsize, hidsize) array
        ``parts2[o]`` is the part of block 2 whose rows and columns are ``w2[:, o]``.
    """
    (n, insize), hidsize = xs.shape, w1.shape[1]
    net1 = xs @ w1
    h1, d1 = act(net1), dact(net1)
    squares = dact(h1 @ w2) ** 2
    inner = np.matmul(w2 * squares[:, None, :], w2.T) * d1[:, :, None] * d1[:, None, :]
    outer = xs[:, :, None] * xs[:, None, :]
    by_inputs = outer.reshape(n, -1).T @ inner.reshape(n, -1)  # rows (i, j), columns (a, b)
    block1 = by_inputs.reshape(insize, insize, hidsize, hidsize).transpose(0, 2, 1, 3)
    parts2 = np.matmul(h1.T * squares.T[:, None, :], h1)
    return block1.reshape(insize * hidsize, insize * hidsize), parts2


def _saddle_free(block: Array, gradient: Array, damping: float) -> Array:
    values, vectors = np.linalg.eigh(block)
    inverse = vectors @ np.abs(np.diag(1.0 / (values + damping))) @ vectors.T
    step: Array = (inverse @ gradient.ravel()).reshape(gradient.shape)
    return step


def _solve(matrices: Array, columns: Array) -> Array:
    # Columns, never vectors: NumPy 2 changed what a stack of vectors means to solve.
    return np.asarray(np.linalg.solve(matrices, columns))


def slow_step(
    xs: Array,
    ys: Array,
    w1: Array,
    w2: Array,
    alpha: float = 0.1,
    damping: float = 0.1,
    *,
    blocks: Literal["literal", "assembled"] = "literal",
) -> tuple[Array, Array, float]:
    """One saddle-free Newton step of slow_net: ``w -= alpha * Q |1 / (values + damping)| Q.T dw``.

    Both gradients are taken before either update.

    Parameters
    ----------
    xs : (n, insize) array
        Projected inputs.
    ys : (n, outsize) array
    w1 : (insize, hidsize) array
    w2 : (hidsize, outsize) array
    alpha, damping : float
    blocks : {"literal", "assembled"}
        ``"literal"``: an R-pass an entry, then ``eigh``, as the script does (some 20 s at
        50-50-100). ``"assembled"``: the blocks in closed form and two linear solves. The step is
        the same in exact arithmetic, because both blocks are positive semidefinite and the
        absolute value never acts.

    Returns
    -------
    w1, w2 : new arrays
    loss : float
        Before the step.

    Raises
    ------
    ValueError
        If `blocks` names neither.

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> xs, w1, w2 = draw.randn(6, 4), draw.randn(4, 3), draw.randn(3, 5)
    >>> ys = labels_to_onehots([0, 1, 2, 3, 4, 0], 5)
    >>> literal = slow_step(xs, ys, w1, w2)
    >>> assembled = slow_step(xs, ys, w1, w2, blocks="assembled")
    >>> np.allclose(literal[0], assembled[0], rtol=1e-10)
    True
    """
    dw1, dw2 = slow_gradient(xs, ys, w1, w2)
    loss = float(errfn(_slow_pass(xs, ys, w1, w2).h2, ys))
    if blocks == "literal":
        block1, block2 = slow_hessian_blocks(xs, ys, w1, w2)
        step1 = _saddle_free(block1, dw1, damping)
        step2 = _saddle_free(block2, dw2, damping)
    elif blocks == "assembled":
        block1, parts2 = slow_assembled_blocks(xs, w1, w2)
        step1 = _solve(block1 + damping * np.eye(w1.size), dw1.ravel()[:, None]).reshape(w1.shape)
        step2 = _solve(parts2 + damping * np.eye(w1.shape[1]), dw2.T[:, :, None])[:, :, 0].T
    else:
        raise ValueError(f"blocks: got {blocks!r}, expected 'literal' or 'assembled'")
    return w1 - alpha * step1, w2 - alpha * step2, loss


def slow_run(
    train_pairs: Pairs,
    test_pairs: Pairs,
    iterations: int,
    seed: int | None,
    *,
    original: bool = True,
    insize: int = 50,
    hidsize: int = 50,
    alpha: float = 0.1,
    damping: float = 0.1,
    blocks: Literal["literal", "assembled"] = "literal",
) -> Iterator[Line]:
    """Run slow_net for `iterations` steps, going through the training batches again and again.

    Parameters
    ----------
    train_pairs, test_pairs : lists of (xs, ys)
        As `slow_pairs` gives them: images, not yet projected.
    iterations : int
        Steps. One line more is yielded: the last has the error and the weights after them all.
    seed : int or None
        Seeds the legacy generator, so that ``numpy.random.seed(seed)`` before the script draws the
        same.
    original : bool
        In every 50th iteration of an epoch, from its first, the script counts what it gets right
        on the test batches in variables that it still needs: the step that follows is taken on the
        *last test batch*. True reproduces this leak of test data; False steps on the training
        batch.
    insize, hidsize, alpha, damping, blocks
        As in `slow_step`.

    Yields
    ------
    Line
        `corrects` in every 50th iteration of an epoch.
    """
    outsize, pixels = train_pairs[0][1].shape[1], train_pairs[0][0].shape[1]
    w1, w2, shaper = slow_draws(seed, insize, hidsize, outsize, pixels)
    for iteration in range(iterations + 1):
        it = iteration % len(train_pairs)
        images, ys = train_pairs[it]
        xs = images @ shaper
        error = float(errfn(act(act(xs @ w1) @ w2), ys))
        corrects = None
        if it % 50 == 0:
            corrects = _corrects((act(act(x @ shaper @ w1) @ w2), y) for x, y in test_pairs)
            if original:
                images, ys = test_pairs[-1]
                xs = images @ shaper
        yield Line(iteration, error, corrects, (w1, w2))
        if iteration < iterations:
            w1, w2, _ = slow_step(xs, ys, w1, w2, alpha, damping, blocks=blocks)


# fast_net ----------------------------------------------------------------------------------------


def fast_draws(seed: int | None, insize: int = 3072, outsize: int = 100) -> Array:
    """Initial weights of fast_net: (insize, outsize) normal draws over ``insize + outsize``."""
    return np.random.RandomState(seed).randn(insize, outsize) / (insize + outsize)


def fast_step(
    xs: Array, ys: Array, w: Array, alpha: float = 0.1, r: float = 1e-9
) -> tuple[Array, float]:
    """One step of fast_net, literally: a finite difference through four pseudo-inverses.

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
    >>> ys = labels_to_onehots([0, 1, 3], 4)
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
    """Nonzero eigenvalues, ascending, and eigenvectors of ``xs @ xs.T``.

    The Gram matrix of pixels ``k / 256 - 0.5`` is exact in float64, so its eigenvalues are known to
    ``n * eps`` of the largest: what lies below is 0. Singular values of `xs` are thus told from 0
    down to ``sqrt(n * eps)`` of the largest, 2e-7 for 250 samples.
    """
    values, vectors = np.linalg.eigh(xs @ xs.T)
    kept = values > len(xs) * np.finfo(np.float64).eps * values[-1]
    return values[kept], vectors[:, kept]


def rank_and_condition(xs: Array) -> tuple[int, float]:
    """Rank of a batch, and the ratio of its largest singular value to its smallest nonzero one.

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
    """``pinv(xs) @ b`` in extended precision, by iterative refinement.

    A solve in float64 is repeated on residuals formed in `numpy.longdouble` (64 bits of mantissa on
    x86). The corrections are ``xs.T`` times something, in extended precision, so the iterate stays
    in the row space and is the minimum-norm solution, or the minimum-norm least-squares solution if
    `xs` has not full row rank.
    """
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
    """The limit of `fast_step` as ``r`` goes to 0, which has no noise.

    With ``P = pinv(xs.T) @ xs.T``, the projector on the range of `xs`, the script's step tends to
    ``alpha * pinv(xs) @ (inv_act'(ys + dh) * dh)``, where ``dh = (P @ ((h - ys) * d)) / d`` and d
    are the slopes. For `xs` of full row rank P is the identity, and ``dh = h - ys``.

    Parameters
    ----------
    xs, ys, w, alpha
        As for `fast_step`.
    precision : {"double", "extended"}
        ``"double"`` uses `numpy.linalg.pinv` with a cut of ``max(xs.shape) * eps`` instead of the
        script's 1e-15, which tells singular values that should be 0 from others.
        ``"extended"`` computes everything in `numpy.longdouble`, the pseudo-inverse by iterative
        refinement, and rounds the result once: the truth to judge others by, where ``longdouble``
        is wider than float64. Without full row rank the error grows with the square of the
        condition number.

    Returns
    -------
    w : new array
    loss : float
        Before the step.

    Raises
    ------
    ValueError
        If `precision` names neither.
    ArithmeticError
        If `xs` is conditioned so badly that refinement does not converge.
    """
    if precision not in ("double", "extended"):
        raise ValueError(f"precision: got {precision!r}, expected 'double' or 'extended'")
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
        The script counts what it gets right after each epoch; that count comes with the first line
        of the next one, whose weights it belongs to.

    Raises
    ------
    ValueError
        If `method` names none of these.
    """
    if method not in ("literal", "limit", "extended"):
        raise ValueError(f"method: got {method!r}, expected 'literal', 'limit' or 'extended'")
    w = fast_draws(seed, train_pairs[0][0].shape[1], train_pairs[0][1].shape[1])
    for iteration in range(iterations + 1):
        xs, ys = train_pairs[iteration % len(train_pairs)]
        corrects = None
        if iteration and iteration % len(train_pairs) == 0:
            corrects = _corrects((act(x @ w), y) for x, y in test_pairs)
        yield Line(iteration, float(errfn(act(xs @ w), ys)), corrects, (w,))
        if iteration < iterations:
            if method == "literal":
                w, _ = fast_step(xs, ys, w, alpha, r)
            else:
                precision: Literal["double", "extended"]
                precision = "double" if method == "limit" else "extended"
                w, _ = fast_limit_step(xs, ys, w, alpha, precision=precision)
