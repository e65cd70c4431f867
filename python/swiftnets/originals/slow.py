"""SlowNet: a two-layer net trained by saddle-free Newton steps on its exact Hessian blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.checks import Array, Pair
from swiftnets._support.files import File
from swiftnets.originals.checkpoint import Length, start_of, start_weights
from swiftnets.originals.history import FitEvent, FitHistory
from swiftnets.originals.net import ScriptNet
from swiftnets.originals.pairs import counter, merge, prepare
from swiftnets.originals.training import Run

__all__ = ["METHODS", "SlowNet", "StepReport"]


def __dir__() -> list[str]:
    return __all__


Method: TypeAlias = Literal["structured", "dense"]

METHODS = ("structured", "dense")  # by the engine's number
EVALUATE_EVERY = 50


class StepReport(NamedTuple):
    """What one step of `SlowNet` was, and what proves its solves."""

    loss: float
    """Error of the batch before the step."""
    residual: float
    """The larger one of `residuals`."""
    residuals: tuple[float, float]
    """``‖(H + damping) s - dw‖ / ‖dw‖`` of each layer, recomputed from the step ``s``."""
    iterations: int
    """Products with the first layer's block; 0 for the dense method."""
    refinements: int
    """Corrections of the float32 solve by a float64 residual; 0 for the dense method."""
    converged: bool
    """Always True: a solve that falls short raises `swiftnets.ConvergenceError` instead."""
    method: str


class SlowNet(ScriptNet):
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
        draw. Without it a seed is taken from the system, and is the attribute `seed`.
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
    ValueError
        If an argument is out of its range or of the wrong shape.
    TypeError
        If an argument is of the wrong type.
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
    >>> xs, ys = np.random.RandomState(2).randn(6, 4), np.eye(5)[[0, 1, 2, 3, 4, 0]]
    >>> report = net.step(xs, ys)
    >>> report.loss > net.loss(xs, ys), report.residual <= 1e-12
    (True, True)
    """

    _transient: ClassVar[tuple[str, ...]] = ("_lock", "_workspace")

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
        self._take_seed(seed)
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
        super()._begin()
        self._workspace = _core.slow_workspace()

    def __repr__(self) -> str:
        """Show sizes, settings and seed, not the weights."""
        return (
            f"SlowNet({self._insize}, {self._hidsize}, {self._outsize}, alpha={self._alpha}, "
            f"damping={self._damping}, seed={self._seed})"
        )

    @property
    def hidsize(self) -> int:
        """Width of the hidden layer."""
        return self._hidsize

    @property
    def damping(self) -> float:
        """Number that is added to all eigenvalues; may be assigned."""
        return self._damping

    @damping.setter
    def damping(self, value: float) -> None:
        self._damping = checks.real(value, "damping", positive=True)

    @property
    def w1(self) -> Array:
        """Weights of the first layer, (insize, hidsize); assigning copies and checks."""
        return self._weights[0]

    @w1.setter
    def w1(self, value: npt.ArrayLike) -> None:
        w1 = checks.weights(value, "w1", (self._insize, self._hidsize))
        with self._lock:
            self._weights = self._given = w1, self._weights[1]

    @property
    def w2(self) -> Array:
        """Weights of the second layer, (hidsize, outsize); assigning copies and checks."""
        return self._weights[1]

    @w2.setter
    def w2(self, value: npt.ArrayLike) -> None:
        w2 = checks.weights(value, "w2", (self._hidsize, self._outsize))
        with self._lock:
            self._weights = self._given = self._weights[0], w2

    def shaper(self, pixels: int = 3072) -> Array:
        """Draw the fixed projection of images, as the script does after the weights.

        Parameters
        ----------
        pixels : int
            Width of the images.

        Returns
        -------
        (pixels, insize) float64 array
            ``randn(pixels, insize) / √pixels``, drawn anew at every call and the same every time.

        Raises
        ------
        ValueError
            If `pixels` is out of its range.
        TypeError
            If `pixels` is no integer.
        MemoryError
            If the result would not fit into memory.

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
        """Project images by this net's `shaper`: what its other methods take.

        Parameters
        ----------
        images : (n, pixels) array_like

        Returns
        -------
        (n, insize) float64 array

        Raises
        ------
        ValueError
            If the shape is wrong, or an entry is not finite.
        TypeError
            If the dtype is wrong.

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
        """Compute half the sum of squared errors.

        Parameters
        ----------
        xs : (n, insize) array_like
            Projected inputs.
        ys : (n, outsize) array_like

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If a shape is wrong, or an entry is not finite.
        TypeError
            If a dtype is wrong.
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

    def _predict(self, xs: Array) -> Array:
        checks.memory(8 * len(xs) * self._outsize, "predict")
        out = np.empty((len(xs), self._outsize))
        _core.slow_predict(xs, *self._weights, out)
        return out

    def gradient(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> tuple[Array, Array]:
        """Compute the gradient of `loss`, by back-propagation.

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
        ValueError
            If a shape is wrong, or an entry is not finite.
        TypeError
            If a dtype is wrong.
        FloatingPointError
            If the result overflows.

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
        """Form one diagonal block of the Hessian of `loss`, exact and dense.

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
        ValueError
            If a shape is wrong, an entry not finite, or there is no such layer.
        TypeError
            If a dtype is wrong.
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
        """Make one iteration: put new arrays in the place of `w1` and `w2`.

        If that fails, the weights stay as they were.

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
        ValueError
            If a shape is wrong, or an entry is not finite.
        TypeError
            If a dtype is wrong.
        FloatingPointError
            If the loss or the step overflows.
        ConvergenceError
            If a solve does not reach a relative residual of 1e-13, or what rounding allows; for the
            dense method, 1.5e-8.
        MemoryError
            If the dense method's matrices would not fit into memory.

        Examples
        --------
        >>> net = SlowNet(4, 3, 5, seed=1)
        >>> net.step(np.eye(4), np.eye(4, 5), method="dense").method
        'dense'
        """
        number = checks.choice(method, "method", METHODS)
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
            METHODS[method],
        )

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
        callback: Callable[[FitEvent[StepReport]], object] | None = None,
        progress: bool = False,
        checkpoint: File | None = None,
        checkpoint_every: int | None = None,
    ) -> FitHistory:
        """Go through the training batches in order, one step on each, `epochs` times.

        Parameters
        ----------
        train_pairs : list of (xs, ys), or another iterable of them
            As `get_pairs` gives them: images, which are projected by ``self.shaper(pixels)``, one
            batch after another. Inputs that are `insize` wide are taken as projected.
        test_pairs : list of (xs, ys), optional
            Classified and counted before every `evaluate_every`-th step of an epoch, from its
            first.
        epochs : int
            Passes through the training batches.
        iterations : int, optional
            End after so many steps in all, even within an epoch.
        method : {"structured", "dense"}
            As for `step`.
        original : bool
            Turn on the script's leak of test data: the step that follows a count is taken on the
            *last test batch* instead of the training batch. Needs `test_pairs`.
        evaluate_every : int
            Steps of an epoch from one count of test samples to the next.
        callback : callable, optional
            Called with a `FitEvent` after every iteration; a true result ends the run.
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
        FitHistory
            Of the whole run, resumed parts included.

        Raises
        ------
        ValueError
            If an argument is wrong; the message names it, batches by their index.
        TypeError
            If an argument is of a wrong type.
        CheckpointError
            If the checkpoint is damaged, or of other settings, sizes or data; says which.
        FloatingPointError
            If a loss or a step overflows; a note names the iteration.
        ConvergenceError
            If a solve falls short, as for `step`; a note names the iteration.

        Examples
        --------
        >>> draw = np.random.RandomState(0)
        >>> pairs = [(draw.randn(6, 8), np.eye(5)[draw.randint(5, size=6)]) for _ in range(20)]
        >>> history = SlowNet(4, 3, 5, seed=1).fit(pairs, pairs[:4], epochs=2, evaluate_every=10)
        >>> history.errs.shape, [count.iteration for count in history.correct_counts]
        ((40,), [1, 11, 21, 31])
        """
        number = checks.choice(method, "method", METHODS)
        every = checks.integer(evaluate_every, "evaluate_every")
        original = checks.flag(original, "original")
        if test_pairs is None and original:
            raise ValueError("test_pairs is None; expected batches, as original=True steps on one")
        hashing = checkpoint is not None
        with self._lock:
            start = start_of(checkpoint)
            seed = self._seed if self._seed_given or start is None else start.seed

            def shaper(xs: Array) -> Array | None:
                if (width := xs.shape[1]) < self._insize:
                    raise ValueError(
                        f"xs of train_pairs[0] has shape {xs.shape}; expected {self._insize} "
                        "columns (projected inputs), or more (images, which are projected)"
                    )
                return None if width == self._insize else self._shaper(width, seed)

            train, width, train_hash = prepare(
                train_pairs, "train_pairs", "insize", self._outsize, hashing, shaper
            )
            test, test_hash = list[Pair](), ""
            if test_pairs is not None:
                test, _, test_hash = prepare(
                    test_pairs, "test_pairs", width, self._outsize, hashing, shaper
                )
            length = Length.of(len(train), epochs, iterations, checkpoint, checkpoint_every)

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

            run = Run(
                length=length,
                step=step,
                count=counter(self._predict, merge(test)),
                counts_before=counts,
                weights=lambda: self._weights,
                restore=restore,
                settings={
                    "net": "slow_net",
                    "sizes": [self._insize, self._hidsize, self._outsize],
                    "alpha": self._alpha,
                    "damping": self._damping,
                    "seed": seed,
                    "weights": start_weights(start, self._weights, self._weights is self._given),
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
