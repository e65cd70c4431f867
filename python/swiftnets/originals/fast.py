"""FastNet: a perceptron trained by Newton steps through the functional inverse of its gradient."""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.checks import Array, Pair
from swiftnets._support.files import File
from swiftnets.originals.checkpoint import Length, start_of, start_weights
from swiftnets.originals.history import FitEvent, FitHistory
from swiftnets.originals.net import ScriptNet
from swiftnets.originals.pairs import counter, prepare
from swiftnets.originals.training import Run

__all__ = ["ORIGINAL_R", "FastNet", "RankWarning", "StepReport"]


def __dir__() -> list[str]:
    return __all__


ORIGINAL_R = 1e-9
CACHE_BYTES = 2 * 2**30
_ROUTES = ("cholesky", "orthogonal")  # by the engine's number


class RankWarning(UserWarning):
    """A batch's inputs have not full row rank.

    Some rows are combinations of others: images repeated, or more of them than distinct pixels. The
    step is then the minimum-norm one on what the rows span.
    """


class StepReport(NamedTuple):
    """What one step of `FastNet` was, and what proves its solve."""

    loss: float
    """Error of the batch before the step."""
    residual: float
    """``‖xs s - P b‖ / ‖b‖`` of the minimum-norm solve, recomputed from the step s in float64; P is
    the projector on the range of xs."""
    route: str
    """``"cholesky"``: of ``xs @ xs.T``, refined in xs itself; ``"orthogonal"``: a pivoted QR
    decomposition that reveals the rank."""
    pixels: bool
    """Whether all inputs were ``k / 256 - 0.5`` and ``xs @ xs.T`` was formed in exact integers."""
    rank: int
    """Of xs: singular values above `tolerance` times the largest."""
    full_rank: bool
    """Whether `rank` is the number of samples."""
    condition: float
    """Estimate of the largest singular value over the smallest that counts."""
    tolerance: float
    """``max(n, insize) * 2**-52``, unless the engine found cause for another."""
    cached: bool
    """Whether the factorisation was one kept from an earlier step."""


class _Kept(NamedTuple):
    """A factorisation, and what the engine says of it."""

    factorization: _core.FastFactorization
    shape: tuple[int, ...]
    route: int
    pixels: int
    rank: int
    tolerance: float
    condition: float
    bytes: int


class _FitKey(NamedTuple):
    """The name that `fit` gives a batch; equal to none of a user's."""

    batch: int


class FastNet(ScriptNet):
    """A perceptron with a leaky activation, trained by Newton steps.

    Parameters
    ----------
    insize, outsize : int
        Widths of inputs and outputs.
    alpha : float
        Length of a step.
    r : float, optional
        Width of the finite difference, at least 2.2e-16. Its quotient carries noise of about
        ``2.2e-16 / r`` times the batch's condition number, relative to the largest weight. None
        takes the limit, which has none.
    seed : int, optional
        From 0 to 2**32 - 1. Draws ``w = randn(insize, outsize) / (insize + outsize)``, as
        ``numpy.random.seed(seed)`` before the script makes it draw. Without it a seed is taken from
        the system, and is the attribute `seed`.
    w : (insize, outsize) array, optional
        Initial weights instead of those drawn; copied.
    cache_bytes : int
        Memory for factorisations kept between steps; 2 GiB by default. A batch of 2500 takes some
        50 MB.

    Attributes
    ----------
    w : float64 array
        A step puts a new array in its place and never changes one: a reference to the old one is a
        snapshot. Assigning copies and checks.
    alpha, r, cache_bytes
        May be assigned.
    insize, outsize, seed : int

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
    pickled; kept factorisations are not.

    Ctrl-C ends any call at once and leaves the net as it was before the step under way.

    Examples
    --------
    >>> net = FastNet(6, 4, alpha=1.0, seed=1)
    >>> xs, ys = np.random.RandomState(2).randn(3, 6), np.eye(4)[[0, 1, 3]]
    >>> first, second = net.step(xs, ys, batch="all"), net.step(xs, ys, batch="all")
    >>> second.loss < first.loss, first.rank, second.cached
    (True, 3, True)
    """

    _transient: ClassVar[tuple[str, ...]] = ("_lock", "_cache", "_warned")

    def __init__(
        self,
        insize: int = 3072,
        outsize: int = 100,
        *,
        alpha: float = 0.1,
        r: float | None = None,
        seed: int | None = None,
        w: npt.ArrayLike | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._insize = checks.integer(insize, "insize")
        self._outsize = checks.integer(outsize, "outsize")
        self.alpha = alpha
        self.r = r
        self._take_seed(seed)
        self._cache_bytes = checks.integer(cache_bytes, "cache_bytes", 0, sys.maxsize)
        checks.memory(8 * self._insize * self._outsize, f"FastNet({self._insize}, {self._outsize})")
        self._w = np.random.RandomState(self._seed).randn(self._insize, self._outsize)
        self._w /= self._insize + self._outsize
        self._given: Array | None = None  # weights assigned, until a step
        self._begin()
        if w is not None:
            self.w = w

    def _begin(self) -> None:
        super()._begin()
        self._cache: OrderedDict[Hashable, _Kept] = OrderedDict()  # the longest unused first
        self._warned: set[Hashable] = set()

    def __repr__(self) -> str:
        """Show sizes, settings and seed, not the weights."""
        return (
            f"FastNet({self._insize}, {self._outsize}, alpha={self._alpha}, r={self._r}, "
            f"seed={self._seed})"
        )

    @property
    def r(self) -> float | None:
        """Width of the finite difference, or None for the limit; may be assigned."""
        return self._r

    @r.setter
    def r(self, value: float | None) -> None:
        r = None if value is None else checks.real(value, "r", positive=True)
        if r is not None and r < sys.float_info.epsilon:
            raise ValueError(
                f"r is {r}; expected {sys.float_info.epsilon:.3g} or more, as 1 + r / 2 is 1 in "
                "float64 below, or None for the limit"
            )
        self._r = r

    @property
    def w(self) -> Array:
        """Weights, (insize, outsize); assigning copies and checks."""
        return self._w

    @w.setter
    def w(self, value: npt.ArrayLike) -> None:
        w = checks.weights(value, "w", (self._insize, self._outsize))
        with self._lock:
            self._w = self._given = w

    @property
    def cache_bytes(self) -> int:
        """Memory for kept factorisations; a smaller one assigned drops the longest unused."""
        return self._cache_bytes

    @cache_bytes.setter
    def cache_bytes(self, value: int) -> None:
        with self._lock:
            self._cache_bytes = checks.integer(value, "cache_bytes", 0, sys.maxsize)
            while self.cached_bytes > self._cache_bytes:
                self._cache.popitem(last=False)

    @property
    def cached_bytes(self) -> int:
        """Bytes that the kept factorisations hold; at most `cache_bytes`."""
        return sum(kept.bytes for kept in list(self._cache.values()))

    def loss(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> float:
        """Compute half the sum of squared errors.

        Parameters
        ----------
        xs : (n, insize) array_like
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
        >>> FastNet(2, 2, seed=0).loss(np.zeros((3, 2)), np.ones((3, 2)))
        3.0
        """
        x, y = checks.batch(xs, ys, self._insize, self._outsize)
        w = self._w
        return checks.loss(_core.fast_loss(x, y, w), xs=x, ys=y, w=w)

    def _predict(self, xs: Array) -> Array:
        checks.memory(8 * len(xs) * self._outsize, "predict")
        out = np.empty((len(xs), self._outsize))
        _core.fast_predict(xs, self._w, out)
        return out

    def step(
        self, xs: npt.ArrayLike, ys: npt.ArrayLike, batch: Hashable | None = None
    ) -> StepReport:
        """Make one iteration: put a new array in the place of `w`.

        The step is ``alpha * pinv(xs) @ (inv_act'(h) ∘ (h - ys))`` for inputs of full row rank.
        Others are handled by their rank: see `RankWarning` and ``docs/fast_net.md``. If a step
        fails, the weights stay as they were.

        Parameters
        ----------
        xs : (n, insize) array_like
        ys : (n, outsize) array_like
        batch : hashable, optional
            A name of these inputs. Their factorisation, by far the longest part of a step, is kept
            under it within `cache_bytes`; those unused for longest give way. At every step `xs` is
            compared with what was factorised, pixels byte by byte and others by a hash: if a bit
            has changed it is made anew.

        Returns
        -------
        StepReport

        Raises
        ------
        ValueError
            If a shape is wrong, or an entry not finite.
        TypeError
            If a dtype is wrong, or `batch` is not hashable.
        FloatingPointError
            If the loss or the step overflows.
        ConvergenceError
            If a solve misses the accuracy that its factorisation promises.

        Warns
        -----
        RankWarning
            Once a batch, if it has not full row rank.

        Examples
        --------
        >>> net = FastNet(4, 2, seed=0)
        >>> net.step(np.eye(4)[:2], np.eye(2)).route
        'cholesky'
        """
        x, y = checks.batch(xs, ys, self._insize, self._outsize)
        try:
            hash(batch)
        except TypeError as error:
            raise TypeError(f"batch is not hashable ({error}); expected a name") from None
        with self._lock:
            return self._step(x, y, batch, self._r)

    def _step(self, xs: Array, ys: Array, batch: Hashable | None, r: float | None) -> StepReport:
        kept = None if batch is None else self._cache.get(batch)
        if kept is not None:
            self._cache.move_to_end(batch)
            report = self._try(kept, xs, ys, r, True) if kept.shape == xs.shape else None
            if report is not None:
                return report
            del self._cache[batch]
            self._warned.discard(batch)
        kept = self._factorize(xs, batch)
        report = self._try(kept, xs, ys, r, False)
        if report is None:
            raise _core.ConvergenceError(
                f"the solve with these xs, of shape {xs.shape} and condition number "
                f"{kept.condition:.1e}, misses the accuracy that its factorisation promises"
            )
        return report

    def _try(
        self, kept: _Kept, xs: Array, ys: Array, r: float | None, cached: bool
    ) -> StepReport | None:
        """Step with a factorisation; None, and no step, if it is not one of `xs`."""
        w = self._w
        new = np.empty_like(w)
        try:
            loss, residual, stale = _core.fast_step(
                kept.factorization, xs, ys, w, self._alpha, r or 0.0, new
            )
        except FloatingPointError as error:
            raise checks.explain(error, xs=xs, ys=ys, w=w) from None
        if stale:
            return None
        self._w = new
        return StepReport(
            loss,
            residual,
            _ROUTES[kept.route],
            bool(kept.pixels),
            kept.rank,
            kept.rank == len(xs),
            kept.condition,
            kept.tolerance,
            cached,
        )

    def _factorize(self, xs: Array, batch: Hashable | None) -> _Kept:
        checks.finite(xs, "xs")
        factorization, (route, pixels, rank, tolerance, condition, size) = _core.fast_factorize(
            xs, -1.0
        )
        kept = _Kept(factorization, xs.shape, route, pixels, rank, tolerance, condition, size)
        if batch is not None:
            self._keep(batch, kept)
        if rank < len(xs) and (batch is None or batch not in self._warned):
            if batch is not None:
                self._warned.add(batch)
            name = batch.batch if isinstance(batch, _FitKey) else batch
            warnings.warn(
                f"{'xs' if batch is None else f'batch {name!r}'} has {len(xs)} rows and rank "
                f"{rank} (at {tolerance:.1e} of the largest singular value): the step is the "
                "minimum-norm one on what the rows span",
                RankWarning,
                stacklevel=4,
            )
        return kept

    def _keep(self, batch: Hashable, kept: _Kept) -> None:
        if kept.bytes > self._cache_bytes:
            return
        room = self._cache_bytes - self.cached_bytes
        for name in list(self._cache):
            if room >= kept.bytes:
                break
            # Going round more batches than there is room for, the one unused for longest is the
            # one needed next: a fit keeps what it has rather than drop each just before its turn.
            if isinstance(batch, _FitKey) and isinstance(name, _FitKey):
                continue
            room += self._cache.pop(name).bytes
        if room >= kept.bytes:
            self._cache[batch] = kept

    def fit(
        self,
        train_pairs: Iterable[Pair],
        test_pairs: Iterable[Pair] | None = None,
        *,
        epochs: int = 1,
        iterations: int | None = None,
        original: bool = False,
        callback: Callable[[FitEvent[StepReport]], object] | None = None,
        progress: bool = False,
        checkpoint: File | None = None,
        checkpoint_every: int | None = None,
    ) -> FitHistory:
        """Go through the training batches in order, one step on each, `epochs` times.

        Parameters
        ----------
        train_pairs : list of ((n, insize), (n, outsize)) arrays, or another iterable of them
            As `get_pairs` gives them. Their factorisations are kept within `cache_bytes`.
        test_pairs : list of (xs, ys), optional
            Classified and counted after every epoch.
        epochs : int
            Passes through the training batches.
        iterations : int, optional
            End after so many steps in all, even within an epoch.
        original : bool
            Take the script's finite difference, of width 1e-9 if the net has no `r`.
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
        >>> pairs = [(draw.randn(4, 8), np.eye(5)[draw.randint(5, size=4)]) for _ in range(3)]
        >>> history = FastNet(8, 5, seed=1).fit(pairs, pairs, epochs=2)
        >>> history.errs.shape, [count.iteration for count in history.correct_counts]
        ((6,), [3, 6])
        """
        sizes, hashing = (self._insize, self._outsize), checkpoint is not None
        train, _, train_hash = prepare(train_pairs, "train_pairs", *sizes, hashing)
        test, test_hash = list[Pair](), ""
        if test_pairs is not None:
            test, _, test_hash = prepare(test_pairs, "test_pairs", *sizes, hashing)
        length = Length.of(len(train), epochs, iterations, checkpoint, checkpoint_every)
        with self._lock:
            start = start_of(checkpoint)
            seed = self._seed if self._seed_given or start is None else start.seed
            original = checks.flag(original, "original")
            r = ORIGINAL_R if original and self._r is None else self._r

            def step(it: int) -> tuple[float, StepReport]:
                report = self._step(*train[it], _FitKey(it), r)
                return report.loss, report

            def restore(weights: tuple[Array, ...]) -> None:
                (self._w,) = weights
                self._seed = seed

            run = Run(
                length=length,
                step=step,
                count=counter(self._predict, test),
                counts_after=lambda it: bool(test) and it == len(train) - 1,
                weights=lambda: (self._w,),
                restore=restore,
                settings={
                    "net": "fast_net",
                    "sizes": [self._insize, self._outsize],
                    "alpha": self._alpha,
                    "r": r,
                    "seed": seed,
                    "weights": start_weights(start, (self._w,), self._w is self._given),
                    "train batches": len(train),
                    "test batches": len(test),
                    "train_pairs": train_hash,
                    "test_pairs": test_hash,
                },
            )
            return run.go(start, callback, progress)
