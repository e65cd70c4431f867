"""slow_net in plain NumPy: saddle-free Newton steps on two exact Hessian blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from swiftnets._support.checks import Array
from swiftnets.originals.reference.common import (
    Line,
    Pairs,
    act,
    dact,
    errfn,
    make_pairs,
    right,
)

__all__ = [
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


def slow_pairs(data: Any = None) -> tuple[Pairs, Pairs]:
    """Make slow_net's batches: 1000 equal ones to train on, 500 to test on, in file order.

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

    Examples
    --------
    >>> train_pairs, test_pairs = slow_pairs()
    >>> len(train_pairs), len(test_pairs), train_pairs[0][0].shape
    (1000, 500, (5, 3072))
    """
    return make_pairs(data, 1000, 500, equal=True)


def slow_draws(
    seed: int | None, insize: int = 50, hidsize: int = 50, outsize: int = 100, pixels: int = 3072
) -> tuple[Array, Array, Array]:
    """Draw initial weights and the fixed projection of the images, in the script's order.

    The script draws twice more and uses neither draw; nothing is drawn after those, so they have no
    effect and are left out.

    Parameters
    ----------
    seed : int or None
        Of the legacy generator; None takes one from the system.
    insize, hidsize, outsize : int
        Widths of the projected input, the hidden layer and the output.
    pixels : int
        Width of the images.

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
    """Compute the gradient of the error by back-propagation.

    Parameters
    ----------
    xs : (n, insize) array
        Projected inputs.
    ys : (n, outsize) array
    w1 : (insize, hidsize) array
    w2 : (hidsize, outsize) array

    Returns
    -------
    dw1 : (insize, hidsize) array
    dw2 : (hidsize, outsize) array

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> xs, w1, w2 = draw.randn(6, 4), draw.randn(4, 3), draw.randn(3, 5)
    >>> dw1, dw2 = slow_gradient(xs, np.eye(6, 5), w1, w2)
    >>> dw1.shape, dw2.shape
    ((4, 3), (3, 5))
    """
    p = _slow_pass(xs, ys, w1, w2)
    return xs.T @ p.dnet1, p.h1.T @ p.dnet2


def slow_r_pass(
    xs: Array, ys: Array, w1: Array, w2: Array, v1: Array, v2: Array
) -> tuple[Array, Array]:
    """Differentiate the gradient along ``(v1, v2)``: the full Hessian times that direction.

    Pearlmutter's R-pass (1994). As the activation's second derivative is 0 wherever it exists, its
    curvature contributes no term.

    Parameters
    ----------
    xs, ys, w1, w2
        As for `slow_gradient`.
    v1 : (insize, hidsize) array
    v2 : (hidsize, outsize) array

    Returns
    -------
    rdw1 : (insize, hidsize) array
    rdw2 : (hidsize, outsize) array

    Examples
    --------
    The error is quadratic along a direction as long as no activation changes sides, so that the
    product is the difference of gradients.

    >>> draw = np.random.RandomState(0)
    >>> xs, w1, w2, v2 = (draw.randn(*n) for n in ((6, 4), (4, 3), (3, 5), (3, 5)))
    >>> ys, v1, t = np.eye(6, 5), np.zeros((4, 3)), 1e-3
    >>> _, product = slow_r_pass(xs, ys, w1, w2, v1, v2)
    >>> ahead, behind = (slow_gradient(xs, ys, w1, w2 + s * v2)[1] for s in (t, -t))
    >>> np.allclose((ahead - behind) / (2 * t), product)
    True
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
    """Form the w1-w1 and w2-w2 blocks of the Hessian, an R-pass along a unit direction a row.

    The cross block is never formed: the script leaves it out.

    Parameters
    ----------
    xs, ys, w1, w2
        As for `slow_gradient`.

    Returns
    -------
    block1 : (insize * hidsize, insize * hidsize) array
    block2 : (hidsize * outsize, hidsize * outsize) array

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> xs, w1, w2 = draw.randn(6, 4), draw.randn(4, 3), draw.randn(3, 5)
    >>> literal, _ = slow_hessian_blocks(xs, np.eye(6, 5), w1, w2)
    >>> np.allclose(literal, slow_assembled_blocks(xs, w1, w2)[0])
    True
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
    """Form the same two blocks in closed form, in which the targets do not occur.

    With d1, d2 the slopes of both layers, entry ``((i, a), (j, b))`` of block 1 is the sum over
    samples of ``x_i x_j d1_a d1_b m_ab``, where ``m_ab`` sums ``w2_ao d2_o**2 w2_bo`` over outputs.
    Block 2 couples only weights of the same output o: its part there is the sum over samples of
    ``h1_a h1_b d2_o**2``. Both are sums of squares, hence positive semidefinite.

    Parameters
    ----------
    xs, w1, w2
        As for `slow_gradient`.

    Returns
    -------
    block1 : (insize * hidsize, insize * hidsize) array
    parts2 : (outsize, hidsize, hidsize) array
        ``parts2[o]`` is the part of block 2 whose rows and columns are ``w2[:, o]``.

    Examples
    --------
    >>> block1, parts2 = slow_assembled_blocks(np.eye(4), np.ones((4, 3)), np.ones((3, 5)))
    >>> block1.shape, parts2.shape
    ((12, 12), (5, 3, 3))
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
    """Take one step of slow_net: ``w -= alpha * Q |1 / (values + damping)| Q.T dw``.

    Saddle-free Newton. Both gradients are taken before either update.

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
        If `blocks` is neither of the two.

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> xs, w1, w2 = draw.randn(6, 4), draw.randn(4, 3), draw.randn(3, 5)
    >>> ys = np.eye(5)[[0, 1, 2, 3, 4, 0]]
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
        raise ValueError(f"blocks is {blocks!r}; expected 'literal' or 'assembled'")
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
        In every 50th iteration of an epoch, from its first, the script counts the test samples that
        it classifies correctly, in variables that it still needs: the step that follows is taken on
        the *last test batch*. True reproduces this leak of test data; False steps on the training
        batch.
    insize, hidsize, alpha, damping, blocks
        As in `slow_step`.

    Yields
    ------
    Line
        With `correct` in every 50th iteration of an epoch.

    Examples
    --------
    >>> draw = np.random.RandomState(0)
    >>> pairs = [(draw.randn(6, 8), np.eye(6, 5)) for _ in range(3)]
    >>> lines = list(slow_run(pairs, pairs, 4, seed=1, insize=4, hidsize=3))
    >>> [line.correct is None for line in lines]
    [False, True, True, False, True]
    """
    outsize, pixels = train_pairs[0][1].shape[1], train_pairs[0][0].shape[1]
    w1, w2, shaper = slow_draws(seed, insize, hidsize, outsize, pixels)
    for iteration in range(iterations + 1):
        it = iteration % len(train_pairs)
        images, ys = train_pairs[it]
        xs = images @ shaper
        error = float(errfn(act(act(xs @ w1) @ w2), ys))
        correct = None
        if it % 50 == 0:
            correct = right((act(act(x @ shaper @ w1) @ w2), y) for x, y in test_pairs)
            if original:
                images, ys = test_pairs[-1]
                xs = images @ shaper
        yield Line(iteration, error, correct, (w1, w2))
        if iteration < iterations:
            w1, w2, _ = slow_step(xs, ys, w1, w2, alpha, damping, blocks=blocks)
