"""slow_net: a two-layer net trained by saddle-free Newton steps on its exact Hessian blocks.

The first of the two strange things of ``howonlee/twostrangethings`` (2019), on the engine. As a
program, ``python -m swiftnets.slow_net`` does and prints what the original script does; `SlowNet`
is the net as an object; the functions are the script's own, by their names.

The net is ``h2 = act(act(xs @ w1) @ w2)`` without biases, its error half the sum of squared
differences from the targets. Samples are rows. The images come in through a fixed random
projection, the *shaper*, that does not learn.

The script tests on every 50th batch in variables that it still needs, so that the step that follows
is taken on the last *test* batch. ``original=True`` (``--original``) reproduces this leak of test
data into training; otherwise nothing here trains on test data.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.checkpoints import CheckpointError
from swiftnets._support.checks import Array, Pair
from swiftnets._support.files import File
from swiftnets._support.locks import lock_of
from swiftnets.originals import training
from swiftnets.originals.training import Corrects, Event, History

__all__ = [
    "CheckpointError",
    "Corrects",
    "Event",
    "History",
    "SlowNet",
    "StepReport",
    "act",
    "dact",
    "errfn",
    "get_pairs",
    "inv_act",
    "labels_to_onehots",
    "main",
    "project",
    "rand_onehots",
]


def __dir__() -> list[str]:
    return __all__


Method: TypeAlias = Literal["structured", "dense"]

TRAIN_BATCHES, TEST_BATCHES, EPOCHS = 1000, 500, 200
EVALUATE_EVERY = 50
_METHODS = ("structured", "dense")  # by the engine's number


# The script's functions --------------------------------------------------------------------------


def act(net: npt.ArrayLike) -> Any:
    """Leaky activation: ``net`` where positive, half of it elsewhere.

    Parameters
    ----------
    net : array_like of float

    Returns
    -------
    array of the same shape

    Examples
    --------
    >>> act([2.0, 0.0, -2.0])
    array([ 2.,  0., -1.])
    """
    net = np.asarray(net)
    return np.where(net > 0, net, 0.5 * net)


def dact(net: npt.ArrayLike) -> Any:
    """Slope of `act`: 1 where ``net`` is positive, 0.5 elsewhere, 0 included.

    Examples
    --------
    >>> dact([2.0, 0.0, -2.0])
    array([1. , 0.5, 0.5])
    """
    return np.where(np.asarray(net) > 0, 1.0, 0.5)


def inv_act(h: npt.ArrayLike) -> Any:
    """Inverse of `act`: ``h`` where positive, twice it elsewhere.

    Examples
    --------
    >>> inv_act(act([2.0, 0.0, -2.0]))
    array([ 2.,  0., -2.])
    """
    h = np.asarray(h)
    return np.where(h > 0, h, 2.0 * h)


def errfn(h: npt.ArrayLike, ys: npt.ArrayLike) -> float:
    """Half the sum of squares of ``h - ys``, over samples and outputs; a sum, not a mean.

    Parameters
    ----------
    h, ys : arrays of one shape

    Raises
    ------
    ValueError
        If the shapes differ; they are not broadcast.

    Examples
    --------
    >>> errfn([[1.0, 2.0]], [[1.0, 0.0]])
    2.0
    """
    h, ys = np.asarray(h), np.asarray(ys)
    if h.shape != ys.shape:
        raise ValueError(f"ys has shape {ys.shape}; expected that of h, {h.shape}")
    return float(0.5 * np.sum((h - ys) ** 2))


def labels_to_onehots(labels: npt.ArrayLike, cardinality: int = 100) -> Array:
    """Rows of the identity, chosen by `labels`.

    Parameters
    ----------
    labels : (n,) integers from 0 to ``cardinality - 1``
    cardinality : int
        The number of columns; 100 whatever the data, as in the script.

    Returns
    -------
    (n, cardinality) float64 array

    Raises
    ------
    ValueError
        If a label is out of range, or `labels` has not one dimension.
    TypeError
        If the labels are not integers.

    Examples
    --------
    >>> labels_to_onehots([1, 0], cardinality=3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    columns = checks.integer(cardinality, "cardinality")
    index = checks.unconverted(labels, "labels")
    if index.ndim != 1:
        raise ValueError(f"labels has shape {index.shape}; expected (n,)")
    if index.dtype.kind not in "iu" and index.size:
        raise TypeError(f"labels has dtype {index.dtype}; expected integers")
    # First: a look at entries that take no memory, as broadcast ones, may take for ever.
    checks.memory(8 * len(index) * columns, "the array of one-hot rows")
    if index.size and not (index.min() >= 0 and index.max() < columns):
        wrong = index.min() if index.min() < 0 else index.max()
        where = int(np.flatnonzero(index == wrong)[0])
        raise ValueError(
            f"labels has {wrong} at [{where}]; expected integers from 0 to {columns - 1}"
        )
    onehots = np.zeros((len(index), columns))
    onehots[np.arange(len(index)), index.astype(np.intp)] = 1.0
    return onehots


def rand_onehots(shape: tuple[int, int]) -> Array:
    """One-hot rows at random, by one ``random.randint`` of Python a row.

    Parameters
    ----------
    shape : (rows, columns)

    Examples
    --------
    >>> random.seed(0)
    >>> rand_onehots((2, 4))
    array([[0., 0., 0., 1.],
           [0., 0., 0., 1.]])
    """
    try:
        rows, columns = shape
    except (TypeError, ValueError):
        raise TypeError(f"shape is {shape!r}; expected (rows, columns)") from None
    rows = checks.integer(rows, "shape[0]", 0)
    columns = checks.integer(columns, "shape[1]")
    return labels_to_onehots([random.randint(0, columns - 1) for _ in range(rows)], columns)


def get_pairs(data: Any = None) -> tuple[list[Pair], list[Pair]]:
    """The script's batches: 1000 equal ones to train on and 500 to test on, in file order.

    Parameters
    ----------
    data : folder or file, None, or Dataset
        What `swiftnets.datasets.load` reads (None: the sample inside the package), or its result.

    Returns
    -------
    train_pairs, test_pairs : lists of ((n, 3072), (n, 100)) float64 arrays
        Pixels ``image / 256 - 0.5`` and one-hot rows. CIFAR-100 gives 50 and 20 images a batch, and
        takes 1.5 GB.

    Raises
    ------
    ValueError
        If the images do not divide into that many batches, or a label is not below 100.
    OSError
        If the data cannot be read.

    Examples
    --------
    >>> train_pairs, test_pairs = get_pairs()
    >>> len(train_pairs), len(test_pairs), train_pairs[0][0].shape, train_pairs[0][1].shape
    (1000, 500, (5, 3072), (5, 100))
    """
    train, test = _image_batches(training.images(data))
    return list(train), list(test)


def _image_batches(data: Any) -> tuple[Iterable[Pair], Iterable[Pair]]:
    return (
        training.image_batches(data, "train", TRAIN_BATCHES, labels_to_onehots, equal=True),
        training.image_batches(data, "test", TEST_BATCHES, labels_to_onehots, equal=True),
    )


def project(pairs: Iterable[Pair], shaper: npt.ArrayLike) -> list[Pair]:
    """The same batches with inputs ``xs @ shaper``.

    The shaper never changes, so that this is done once for a whole run. Batches go through one by
    one: given a generator, only one is in memory unprojected.

    Parameters
    ----------
    pairs : iterable of (xs, ys)
        ``xs`` of shape (n, pixels).
    shaper : (pixels, insize) array
        As `SlowNet.shaper` draws it.

    Returns
    -------
    list of ((n, insize), (n, outsize)) float64 arrays

    Raises
    ------
    ValueError, TypeError
        If a shape or dtype is wrong or an entry not finite; the message names the batch.

    Examples
    --------
    >>> [(xs, ys)] = project([(np.ones((2, 3)), np.eye(2))], np.full((3, 1), 0.5))
    >>> xs
    array([[1.5],
           [1.5]])
    """
    matrix = checks.array(shaper, "shaper", ("pixels", "insize"))
    checks.finite(matrix, "shaper")
    return training.taken(pairs, "pairs", len(matrix), "outsize", shaper=lambda _: matrix)[0]


# The net -----------------------------------------------------------------------------------------


class StepReport(NamedTuple):
    """What one step of `SlowNet` was, and what proves its solves."""

    loss: float
    """Error of the batch before the step."""
    residual: float
    """The larger of `residuals`."""
    residuals: tuple[float, float]
    """``‖(H + damping) s - dw‖ / ‖dw‖`` of each layer, recomputed from the step ``s``."""
    iterations: int
    """Products with the first layer's block; 0 for the dense method."""
    refinements: int
    """Corrections of the float32 solve by a float64 residual; 0 for the dense method."""
    converged: bool
    """Always True: a solve that falls short raises `swiftnets.ConvergenceError` instead."""
    method: str


class SlowNet:
    """A two-layer net with leaky activations, trained by saddle-free Newton steps.

    One step inverts both diagonal blocks of the Hessian exactly, damped:
    ``w -= alpha * (H + damping)⁻¹ dw``, both layers' gradients taken first. The cross block is left
    out, as in the script. Both blocks are positive semidefinite, so the absolute values of the
    saddle-free method (Dauphin et al. 2014) never act.

    Parameters
    ----------
    insize, hidsize, outsize : int
        Widths of the projected input, the hidden layer and the output.
    alpha : float
        Length of a step.
    damping : float
        Added to all eigenvalues; above 0.
    seed : int, optional
        From 0 to 2**32 - 1. Draws ``w1 = randn(insize, hidsize) / (insize + hidsize)``, then ``w2``
        likewise, then the `shaper`: what ``numpy.random.seed(seed)`` before the script makes it
        draw. Without it a seed is taken from the system; the attribute `seed` tells it.
    w1 : (insize, hidsize) array, optional
        Initial weights instead of those drawn; copied.
    w2 : (hidsize, outsize) array, optional

    Attributes
    ----------
    w1, w2 : float64 arrays
        A step puts new arrays in their place and never changes one: a reference to the old ones is
        a snapshot. Assigning copies and checks.
    alpha, damping : float
        May be assigned.
    insize, hidsize, outsize, seed : int

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range or of the wrong type or shape.
    MemoryError
        If the weights would not fit into this machine's memory; the message has the bytes.

    Notes
    -----
    Several threads may use one net: `step` and `fit` take turns, a `fit` as a whole, and what only
    reads (`loss`, `predict`, …) sees the weights before or after a step. Nets can be copied and
    pickled.

    Ctrl-C ends any call at once and leaves the net as it was before the step under way.

    Examples
    --------
    >>> net = SlowNet(4, 3, 5, seed=1)
    >>> xs, ys = np.random.RandomState(2).randn(6, 4), labels_to_onehots([0, 1, 2, 3, 4, 0], 5)
    >>> report = net.step(xs, ys)
    >>> report.loss > net.loss(xs, ys), report.residual <= 1e-12
    (True, True)
    """

    def __init__(
        self,
        insize: int = 50,
        hidsize: int = 50,
        outsize: int = 100,
        *,
        alpha: float = 0.1,
        damping: float = 0.1,
        seed: int | None = None,
        w1: npt.ArrayLike | None = None,
        w2: npt.ArrayLike | None = None,
    ) -> None:
        self._insize = checks.integer(insize, "insize")
        self._hidsize = checks.integer(hidsize, "hidsize")
        self._outsize = checks.integer(outsize, "outsize")
        self.alpha = alpha
        self.damping = damping
        given = checks.seed(seed)
        self._seed = secrets.randbits(32) if given is None else given
        self._seed_given = given is not None
        checks.memory(
            8 * self._hidsize * (self._insize + self._outsize),
            f"SlowNet({self._insize}, {self._hidsize}, {self._outsize})",
        )
        _, drawn1, drawn2 = self._draw(self._seed)
        self._weights = drawn1, drawn2
        self._given: tuple[Array, Array] | None = None  # weights assigned, until a step
        self._begin()
        if w1 is not None:
            self.w1 = w1
        if w2 is not None:
            self.w2 = w2

    def _draw(self, seed: int) -> tuple[np.random.RandomState, Array, Array]:
        draw = np.random.RandomState(seed)
        w1 = draw.randn(self._insize, self._hidsize)
        w1 /= self._insize + self._hidsize
        w2 = draw.randn(self._hidsize, self._outsize)
        w2 /= self._hidsize + self._outsize
        return draw, w1, w2

    def _begin(self) -> None:
        self._lock = lock_of(self)  # one step, or one fit, at a time
        self._workspace = _core.slow_workspace()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"], state["_workspace"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __repr__(self) -> str:
        return (
            f"SlowNet({self._insize}, {self._hidsize}, {self._outsize}, alpha={self._alpha}, "
            f"damping={self._damping}, seed={self._seed})"
        )

    @property
    def insize(self) -> int:
        return self._insize

    @property
    def hidsize(self) -> int:
        return self._hidsize

    @property
    def outsize(self) -> int:
        return self._outsize

    @property
    def seed(self) -> int:
        return self._seed

    @property
    def alpha(self) -> float:
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = checks.real(value, "alpha")

    @property
    def damping(self) -> float:
        return self._damping

    @damping.setter
    def damping(self, value: float) -> None:
        self._damping = checks.real(value, "damping", positive=True)

    @property
    def w1(self) -> Array:
        return self._weights[0]

    @w1.setter
    def w1(self, value: npt.ArrayLike) -> None:
        w1 = checks.weights(value, "w1", (self._insize, self._hidsize))
        with self._lock:
            self._weights = self._given = w1, self._weights[1]

    @property
    def w2(self) -> Array:
        return self._weights[1]

    @w2.setter
    def w2(self, value: npt.ArrayLike) -> None:
        w2 = checks.weights(value, "w2", (self._hidsize, self._outsize))
        with self._lock:
            self._weights = self._given = self._weights[0], w2

    def shaper(self, pixels: int = 3072) -> Array:
        """The fixed projection of images that the script draws after the weights.

        Parameters
        ----------
        pixels : int
            Width of the images.

        Returns
        -------
        (pixels, insize) float64 array
            ``randn(pixels, insize) / √pixels``, drawn anew at every call and the same every time.

        Examples
        --------
        >>> SlowNet(seed=7).shaper().shape
        (3072, 50)
        """
        return self._shaper(checks.integer(pixels, "pixels"), self._seed)

    def _shaper(self, pixels: int, seed: int) -> Array:
        checks.memory(8 * pixels * self._insize, f"a shaper of {pixels} by {self._insize}")
        shaper = self._draw(seed)[0].randn(pixels, self._insize)
        shaper /= np.sqrt(pixels)
        return shaper

    def project(self, images: npt.ArrayLike) -> Array:
        """Images through this net's `shaper`: what its other methods take.

        Parameters
        ----------
        images : (n, pixels) array_like

        Returns
        -------
        (n, insize) float64 array

        Raises
        ------
        ValueError, TypeError
            If the shape or dtype is wrong, or an entry is not finite.

        Examples
        --------
        >>> SlowNet(seed=7).project(np.zeros((2, 3072))).shape
        (2, 50)
        """
        x = checks.array(images, "images", ("n", "pixels"))
        checks.finite(x, "images")
        with np.errstate(over="ignore", invalid="ignore"):  # the result shows it
            return np.asarray(x @ self.shaper(x.shape[1]))

    def loss(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> float:
        """Half the sum of squared errors.

        Parameters
        ----------
        xs : (n, insize) array_like
            Projected inputs.
        ys : (n, outsize) array_like

        Raises
        ------
        ValueError, TypeError
            If a shape or dtype is wrong, or an entry is not finite.
        FloatingPointError
            If the result overflows.

        Examples
        --------
        >>> SlowNet(2, 2, 2, seed=0).loss(np.zeros((3, 2)), np.ones((3, 2)))
        3.0
        """
        x, y = checks.batch(xs, ys, self._insize, self._outsize)
        w1, w2 = self._weights
        return checks.loss(_core.slow_loss(x, y, w1, w2), xs=x, ys=y, w1=w1, w2=w2)

    def predict(self, xs: npt.ArrayLike) -> Array:
        """The output activations ``h2``.

        Parameters
        ----------
        xs : (n, insize) array_like
            Projected inputs.

        Returns
        -------
        (n, outsize) float64 array
            The column of a row's largest entry is the class predicted.

        Raises
        ------
        ValueError, TypeError
            If the shape or dtype is wrong, or an entry is not finite.
        MemoryError
            If the result would not fit into memory.

        Examples
        --------
        >>> SlowNet(2, 2, 3, seed=0).predict(np.zeros((1, 2)))
        array([[0., 0., 0.]])
        """
        x = checks.array(xs, "xs", ("n", self._insize))
        checks.finite(x, "xs")
        return self._predict(x)

    def _predict(self, xs: Array) -> Array:
        checks.memory(8 * len(xs) * self._outsize, "predict")
        out = np.empty((len(xs), self._outsize))
        _core.slow_predict(xs, *self._weights, out)
        return out

    def gradient(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> tuple[Array, Array]:
        """The gradient of `loss`, by back-propagation.

        Parameters
        ----------
        xs : (n, insize) array_like
        ys : (n, outsize) array_like

        Returns
        -------
        dw1 : (insize, hidsize) float64 array
        dw2 : (hidsize, outsize) float64 array

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            As for `loss`.

        Examples
        --------
        >>> dw1, dw2 = SlowNet(2, 2, 3, seed=0).gradient(np.zeros((1, 2)), np.ones((1, 3)))
        >>> dw1.shape, dw2.shape
        ((2, 2), (2, 3))
        """
        x, y = checks.batch(xs, ys, self._insize, self._outsize)
        w1, w2 = self._weights
        dw1, dw2 = np.empty_like(w1), np.empty_like(w2)
        loss = _core.slow_gradient(x, y, w1, w2, dw1, dw2)
        checks.loss(loss, xs=x, ys=y, w1=w1, w2=w2)
        return dw1, dw2

    def hessian_block(self, xs: npt.ArrayLike, layer: int) -> Array:
        """One diagonal block of the Hessian of `loss`, exact and dense.

        It does not depend on the targets, as the activation has no curvature. Formed by one R-pass
        (Pearlmutter 1994) a column.

        Parameters
        ----------
        xs : (n, insize) array_like
        layer : {1, 2}

        Returns
        -------
        (p, p) float64 array
            ``p = insize * hidsize`` for layer 1 and ``hidsize * outsize`` for layer 2; weights
            flattened row by row.

        Raises
        ------
        ValueError, TypeError
            If a shape or dtype is wrong, an entry not finite, or there is no such layer.
        MemoryError
            If the block would not fit into memory; the message has the bytes.

        Examples
        --------
        >>> block = SlowNet(2, 3, 4, seed=0).hessian_block(np.eye(2), layer=2)
        >>> block.shape, bool((np.linalg.eigvalsh(block) > -1e-15).all())
        ((12, 12), True)
        """
        x = checks.array(xs, "xs", ("n", self._insize))
        checks.finite(x, "xs")
        layer = checks.integer(layer, "layer", 1, 2)
        w1, w2 = self._weights
        size = (w1 if layer == 1 else w2).size
        checks.memory(8 * size**2, f"the Hessian block of layer {layer}, {size} by {size},")
        block = np.empty((size, size))
        _core.slow_hessian_block(x, w1, w2, layer, block)
        return block

    def step(
        self, xs: npt.ArrayLike, ys: npt.ArrayLike, method: Method = "structured"
    ) -> StepReport:
        """One iteration: put new arrays in the place of `w1` and `w2`.

        Parameters
        ----------
        xs : (n, insize) array_like
            Projected inputs.
        ys : (n, outsize) array_like
        method : {"structured", "dense"}
            ``"structured"``: conjugate gradients on the first layer and one small Cholesky
            factorisation an output on the second. ``"dense"``: what the script does, both blocks
            formed and diagonalised; seconds instead of a millisecond at 50-50-100.

        Returns
        -------
        StepReport

        Raises
        ------
        ValueError, TypeError
            If a shape or dtype is wrong, or an entry is not finite.
        FloatingPointError
            If the loss or the step overflows.
        ConvergenceError
            If a solve does not reach a relative residual of 1e-13, or what rounding allows; for the
            dense method, 1.5e-8.
        MemoryError
            If the dense method's matrices would not fit into memory.

        After any of these the weights are as before.

        Examples
        --------
        >>> net = SlowNet(4, 3, 5, seed=1)
        >>> net.step(np.eye(4), labels_to_onehots([0, 1, 2, 3], 5), method="dense").method
        'dense'
        """
        number = checks.choice(method, "method", _METHODS)
        x, y = checks.batch(xs, ys, self._insize, self._outsize)
        with self._lock:
            return self._step(x, y, number)

    def _step(self, xs: Array, ys: Array, method: int) -> StepReport:
        w1, w2 = self._weights
        if method == 1:
            # The block, its eigenvectors, and as much again for LAPACK to work in.
            size = max(w1.size, w2.size)
            checks.memory(32 * size**2, f"the dense method, on blocks of {size} by {size},")
        new1, new2 = np.empty_like(w1), np.empty_like(w2)
        try:
            loss, residual1, residual2, iterations, refinements = _core.slow_step(
                self._workspace,
                xs,
                ys,
                w1,
                w2,
                self._alpha,
                self._damping,
                method,
                new1,
                new2,
            )
        except FloatingPointError as error:
            raise checks.explain(error, xs=xs, ys=ys, w1=w1, w2=w2) from None
        self._weights = new1, new2
        return StepReport(
            loss,
            max(residual1, residual2),
            (residual1, residual2),
            iterations,
            refinements,
            True,
            _METHODS[method],
        )

    def corrects(self, pairs: Iterable[Pair]) -> tuple[int, int]:
        """How many samples have their largest output where their target has its.

        Parameters
        ----------
        pairs : iterable of ((n, insize), (n, outsize)) arrays
            Projected batches.

        Returns
        -------
        count, total : int

        Examples
        --------
        >>> net = SlowNet(2, 2, 3, seed=0)
        >>> net.corrects([(np.eye(2), labels_to_onehots([0, 1], 3))])[1]
        2
        """
        checked, _, _ = training.taken(pairs, "pairs", self._insize, self._outsize)
        return training.counter(self._predict, checked)()

    def fit(
        self,
        train_pairs: Iterable[Pair],
        test_pairs: Iterable[Pair] | None = None,
        *,
        epochs: int = 1,
        iterations: int | None = None,
        method: Method = "structured",
        original: bool = False,
        evaluate_every: int = EVALUATE_EVERY,
        callback: Callable[[Event[StepReport]], object] | None = None,
        progress: bool = False,
        checkpoint: File | None = None,
        checkpoint_every: int | None = None,
    ) -> History:
        """Go through the training batches in order, one step on each, `epochs` times.

        Parameters
        ----------
        train_pairs : list of (xs, ys), or another iterable of them
            As `get_pairs` gives them: images, which are projected by ``self.shaper(pixels)``, one
            batch after another. Inputs that are `insize` wide are taken as projected.
        test_pairs : list of (xs, ys), optional
            Counted right or wrong before every `evaluate_every`-th step of an epoch, from its
            first.
        epochs : int
        iterations : int, optional
            End after so many steps in all, even within an epoch.
        method : {"structured", "dense"}
        original : bool
            Turn on the script's leak of test data: the step that follows a count is taken on the
            *last test batch* instead of the training batch. Needs `test_pairs`.
        evaluate_every : int
        callback : callable, optional
            Called with an `Event` after every iteration; a true result ends the run.
        progress : bool
            Show progress on standard error.
        checkpoint : path, optional
            Save the run here: every `checkpoint_every` iterations, at the end, and when anything
            ends it, Ctrl-C included. If the file exists, the run goes on from it, to the same bits
            as without the interruption; a net made without a seed takes over the checkpoint's, and
            weights given to a net must be those that the run started with. The file is replaced
            as a whole, so that one that works survives a crash at any moment.
        checkpoint_every : int, optional
            By default once an epoch.

        Returns
        -------
        History
            Of the whole run, resumed parts included.

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong; the message names it, batches by their index.
        CheckpointError
            If the checkpoint is damaged, or of other settings, sizes or data; says which.
        FloatingPointError, ConvergenceError
            As for `step`; a note names the iteration.

        Examples
        --------
        >>> draw = np.random.RandomState(0)
        >>> pairs = [(draw.randn(6, 8), np.eye(5)[draw.randint(5, size=6)]) for _ in range(20)]
        >>> history = SlowNet(4, 3, 5, seed=1).fit(pairs, pairs[:4], epochs=2, evaluate_every=10)
        >>> history.errs.shape, [counts.iteration for counts in history.corrects]
        ((40,), [1, 11, 21, 31])
        """
        number = checks.choice(method, "method", _METHODS)
        every = checks.integer(evaluate_every, "evaluate_every")
        original = checks.flag(original, "original")
        if test_pairs is None and original:
            raise ValueError("test_pairs is None; expected batches, as original=True steps on one")
        hashing = checkpoint is not None
        with self._lock:
            start = training.start_of(checkpoint)
            seed = self._seed if self._seed_given or start is None else start.seed

            def shaper(xs: Array) -> Array | None:
                if (width := xs.shape[1]) < self._insize:
                    raise ValueError(
                        f"xs of train_pairs[0] has shape {xs.shape}; expected {self._insize} "
                        "columns (projected inputs), or more (images, which are projected)"
                    )
                return None if width == self._insize else self._shaper(width, seed)

            train, width, train_hash = training.taken(
                train_pairs, "train_pairs", "insize", self._outsize, hashing, shaper
            )
            test, test_hash = list[Pair](), ""
            if test_pairs is not None:
                test, _, test_hash = training.taken(
                    test_pairs, "test_pairs", width, self._outsize, hashing, shaper
                )
            length = training.Length.of(
                len(train), epochs, iterations, checkpoint, checkpoint_every
            )

            def counts(it: int) -> bool:
                return bool(test) and it % every == 0

            def step(it: int) -> tuple[float, StepReport]:
                xs, ys = train[it]
                if original and counts(it):
                    # The script's leak: the error of the training batch, a step on test data.
                    return self.loss(xs, ys), self._step(*test[-1], number)
                report = self._step(xs, ys, number)
                return report.loss, report

            def restore(weights: tuple[Array, ...]) -> None:
                self._weights = weights[0], weights[1]
                self._seed = seed

            run = training.Run(
                length=length,
                step=step,
                count=training.counter(self._predict, training.merged(test)),
                counts_before=counts,
                weights=lambda: self._weights,
                restore=restore,
                settings={
                    "net": "slow_net",
                    "sizes": [self._insize, self._hidsize, self._outsize],
                    "alpha": self._alpha,
                    "damping": self._damping,
                    "seed": seed,
                    "weights": training.start_weights(
                        start, self._weights, self._weights is self._given
                    ),
                    "method": method,
                    "original": bool(original),
                    "evaluate_every": every,
                    "train batches": len(train),
                    "test batches": len(test),
                    "train_pairs": train_hash,
                    "test_pairs": test_hash,
                },
            )
            return run.go(start, callback, progress)


# The program -------------------------------------------------------------------------------------


def _print_event(event: Event[StepReport]) -> None:
    if event.batch == 0:
        print(f"epoch:  {event.epoch}\n{time.time()}")
    print(f"it: {event.batch}, err: {event.err}\n{time.time()}")
    if event.corrects is not None:
        print(f"corrects: {float(event.corrects.correct)}\ntotal: {float(event.corrects.total)}")


def _work(options: argparse.Namespace) -> None:
    from swiftnets import datasets

    net = SlowNet(seed=training.seed_of(options))
    images = datasets.load(options.data)
    train, test = _image_batches(images)  # projected as they come: one at a time is in memory
    history = net.fit(
        train,
        test,
        epochs=options.epochs,
        iterations=options.iterations,
        method=options.method,
        original=options.original,
        callback=None if options.quiet else _print_event,
        progress=training.wants_bar(options),
        checkpoint=options.checkpoint,
    )
    if options.save is not None:
        shaper = net.shaper(images.train_images.shape[1])
        training.save(options.save, history, net.seed, w1=net.w1, w2=net.w2, shaper=shaper)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status.

    Parameters
    ----------
    argv : list of str, optional
        Arguments instead of those of the command line.
    """
    parser = training.Parser(
        "slow_net",
        "Train a 50-50-100 net on images by saddle-free Newton steps on its exact Hessian blocks, "
        "and print what the original script prints.",
        EPOCHS,
        original="turn on every quirk of the original: the step after each count of test samples "
        "is taken on the last test batch, which leaks test data into training",
    )
    parser.add_argument(
        "--method",
        choices=_METHODS,
        default=_METHODS[0],
        help="how a step is computed: by the blocks' structure, or by forming and diagonalising "
        "them as the original does (default: %(default)s)",
    )
    return training.program(parser, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
