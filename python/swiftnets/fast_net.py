"""fast_net: a perceptron trained by Newton steps through the functional inverse of its gradient.

The second of the two strange things of ``howonlee/twostrangethings`` (2019), on the engine. As a
program, ``python -m swiftnets.fast_net`` does and prints what the original script does; `FastNet`
is the net as an object; the functions are the script's own, by their names.

The net is ``h = act(xs @ w)`` without a bias, its error half the sum of squared differences from
the targets. Samples are rows. The script nudges the gradient both ways by ``r / 2``, sends both
through the gradient's inverse function, and takes the difference quotient of the weights that come
out: the inverse Hessian times the gradient, by the inverse function theorem. Here a step is the
limit ``r -> 0`` of that, which is one minimum-norm solve and has no rounding noise; `r` asks for
the quotient itself. ``original=True`` (``--original``) takes the script's ``r = 1e-9``.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

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
from swiftnets.slow_net import act, dact, errfn, inv_act, labels_to_onehots, rand_onehots

__all__ = [
    "CheckpointError",
    "Corrects",
    "Event",
    "FastNet",
    "History",
    "RankWarning",
    "StepReport",
    "act",
    "dact",
    "errfn",
    "get_pairs",
    "inv_act",
    "labels_to_onehots",
    "main",
    "rand_onehots",
]


def __dir__() -> list[str]:
    return __all__


TRAIN_BATCHES, TEST_BATCHES, EPOCHS = 20, 500, 10
ORIGINAL_R = 1e-9
CACHE_BYTES = 2 * 2**30
_ROUTES = ("cholesky", "orthogonal")  # by the engine's number


def get_pairs(data: Any = None) -> tuple[list[Pair], list[Pair]]:
    """The script's batches: 20 to train on and 500 equal ones to test on, in file order.

    Parameters
    ----------
    data : folder or file, None, or Dataset
        What `swiftnets.datasets.load` reads (None: the sample inside the package), or its result.

    Returns
    -------
    train_pairs, test_pairs : lists of ((n, 3072), (n, 100)) float64 arrays
        Pixels ``image / 256 - 0.5`` and one-hot rows. The sizes of training batches differ by one
        at most. CIFAR-100 gives 2500 and 20 images a batch, and takes 1.5 GB.

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
    (20, 500, (250, 3072), (250, 100))
    """
    data = training.images(data)
    return (
        list(training.image_batches(data, "train", TRAIN_BATCHES, labels_to_onehots, equal=False)),
        list(training.image_batches(data, "test", TEST_BATCHES, labels_to_onehots, equal=True)),
    )


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

    factorization: _core.Factorization
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


class FastNet:
    """A perceptron with a leaky activation, trained by Newton steps.

    Parameters
    ----------
    insize, outsize : int
    alpha : float
        Length of a step.
    r : float, optional
        Width of the finite difference, at least 2.2e-16. Its quotient carries noise of about
        ``2.2e-16 / r`` times the batch's condition number, relative to the largest weight. None
        takes the limit, which has none.
    seed : int, optional
        From 0 to 2**32 - 1. Draws ``w = randn(insize, outsize) / (insize + outsize)``, as
        ``numpy.random.seed(seed)`` before the script makes it draw. Without it a seed is taken from
        the system; the attribute `seed` tells it.
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
    ValueError, TypeError
        If an argument is out of its range or of the wrong type or shape.
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
    >>> xs, ys = np.random.RandomState(2).randn(3, 6), labels_to_onehots([0, 1, 3], 4)
    >>> first, second = net.step(xs, ys, batch="all"), net.step(xs, ys, batch="all")
    >>> second.loss < first.loss, first.rank, second.cached
    (True, 3, True)
    """

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
        given = checks.seed(seed)
        self._seed = secrets.randbits(32) if given is None else given
        self._seed_given = given is not None
        self._cache_bytes = checks.integer(cache_bytes, "cache_bytes", 0, sys.maxsize)
        checks.memory(8 * self._insize * self._outsize, f"FastNet({self._insize}, {self._outsize})")
        self._w = np.random.RandomState(self._seed).randn(self._insize, self._outsize)
        self._w /= self._insize + self._outsize
        self._given: Array | None = None  # weights assigned, until a step
        self._begin()
        if w is not None:
            self.w = w

    def _begin(self) -> None:
        self._lock = lock_of(self)  # one step, or one fit, at a time
        self._cache: OrderedDict[Hashable, _Kept] = OrderedDict()  # the longest unused first
        self._warned: set[Hashable] = set()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"], state["_cache"], state["_warned"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __repr__(self) -> str:
        return (
            f"FastNet({self._insize}, {self._outsize}, alpha={self._alpha}, r={self._r}, "
            f"seed={self._seed})"
        )

    @property
    def insize(self) -> int:
        return self._insize

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
    def r(self) -> float | None:
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
        return self._w

    @w.setter
    def w(self, value: npt.ArrayLike) -> None:
        w = checks.weights(value, "w", (self._insize, self._outsize))
        with self._lock:
            self._w = self._given = w

    @property
    def cache_bytes(self) -> int:
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
        """Half the sum of squared errors.

        Parameters
        ----------
        xs : (n, insize) array_like
        ys : (n, outsize) array_like

        Raises
        ------
        ValueError, TypeError
            If a shape or dtype is wrong, or an entry is not finite.
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

    def predict(self, xs: npt.ArrayLike) -> Array:
        """The output activations ``h``.

        Parameters
        ----------
        xs : (n, insize) array_like

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
        >>> FastNet(2, 3, seed=0).predict(np.zeros((1, 2)))
        array([[0., 0., 0.]])
        """
        x = checks.array(xs, "xs", ("n", self._insize))
        checks.finite(x, "xs")
        return self._predict(x)

    def _predict(self, xs: Array) -> Array:
        checks.memory(8 * len(xs) * self._outsize, "predict")
        out = np.empty((len(xs), self._outsize))
        _core.fast_predict(xs, self._w, out)
        return out

    def corrects(self, pairs: Iterable[Pair]) -> tuple[int, int]:
        """How many samples have their largest output where their target has its.

        Parameters
        ----------
        pairs : iterable of ((n, insize), (n, outsize)) arrays

        Returns
        -------
        count, total : int

        Examples
        --------
        >>> FastNet(2, 3, seed=0).corrects([(np.eye(2), labels_to_onehots([0, 1], 3))])[1]
        2
        """
        checked, _, _ = training.taken(pairs, "pairs", self._insize, self._outsize)
        return training.counter(self._predict, checked)()

    def step(
        self, xs: npt.ArrayLike, ys: npt.ArrayLike, batch: Hashable | None = None
    ) -> StepReport:
        """One iteration: put a new array in the place of `w`.

        The step is ``alpha * pinv(xs) @ (inv_act'(h) ∘ (h - ys))`` for inputs of full row rank.
        Others are handled by their rank: see `RankWarning` and ``docs/fast_net.md``.

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
        ValueError, TypeError
            If a shape or dtype is wrong, an entry not finite, or `batch` not hashable.
        FloatingPointError
            If the loss or the step overflows.
        ConvergenceError
            If a solve misses the accuracy that its factorisation promises.

        After any of these the weights are as before.

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
        """A step with a factorisation; None, and no step, if it is not one of `xs`."""
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
        factorization, (route, pixels, rank, tolerance, condition, size) = _core.factorize(xs, -1.0)
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
        callback: Callable[[Event[StepReport]], object] | None = None,
        progress: bool = False,
        checkpoint: File | None = None,
        checkpoint_every: int | None = None,
    ) -> History:
        """Go through the training batches in order, one step on each, `epochs` times.

        Parameters
        ----------
        train_pairs : list of ((n, insize), (n, outsize)) arrays, or another iterable of them
            As `get_pairs` gives them. Their factorisations are kept within `cache_bytes`.
        test_pairs : list of (xs, ys), optional
            Counted right or wrong after every epoch.
        epochs : int
        iterations : int, optional
            End after so many steps in all, even within an epoch.
        original : bool
            Take the script's finite difference, of width 1e-9 if the net has no `r`.
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
        >>> pairs = [(draw.randn(4, 8), np.eye(5)[draw.randint(5, size=4)]) for _ in range(3)]
        >>> history = FastNet(8, 5, seed=1).fit(pairs, pairs, epochs=2)
        >>> history.errs.shape, [counts.iteration for counts in history.corrects]
        ((6,), [3, 6])
        """
        sizes, hashing = (self._insize, self._outsize), checkpoint is not None
        train, _, train_hash = training.taken(train_pairs, "train_pairs", *sizes, hashing)
        test, test_hash = list[Pair](), ""
        if test_pairs is not None:
            test, _, test_hash = training.taken(test_pairs, "test_pairs", *sizes, hashing)
        length = training.Length.of(len(train), epochs, iterations, checkpoint, checkpoint_every)
        with self._lock:
            start = training.start_of(checkpoint)
            seed = self._seed if self._seed_given or start is None else start.seed
            original = checks.flag(original, "original")
            r = ORIGINAL_R if original and self._r is None else self._r

            def step(it: int) -> tuple[float, StepReport]:
                report = self._step(*train[it], _FitKey(it), r)
                return report.loss, report

            def restore(weights: tuple[Array, ...]) -> None:
                (self._w,) = weights
                self._seed = seed

            run = training.Run(
                length=length,
                step=step,
                count=training.counter(self._predict, test),
                counts_after=lambda it: bool(test) and it == len(train) - 1,
                weights=lambda: (self._w,),
                restore=restore,
                settings={
                    "net": "fast_net",
                    "sizes": [self._insize, self._outsize],
                    "alpha": self._alpha,
                    "r": r,
                    "seed": seed,
                    "weights": training.start_weights(start, (self._w,), self._w is self._given),
                    "train batches": len(train),
                    "test batches": len(test),
                    "train_pairs": train_hash,
                    "test_pairs": test_hash,
                },
            )
            return run.go(start, callback, progress)


# The program -------------------------------------------------------------------------------------


def _print_event(event: Event[StepReport]) -> None:
    print(f"it: {event.batch}, err: {event.err}")
    if event.corrects is not None:
        print(f"corrects: {float(event.corrects.correct)}\ntotal: {float(event.corrects.total)}")


def _print_original_event(event: Event[StepReport]) -> None:
    print(f"it: {event.batch}, err: {event.err}")
    for which in ("first", "second"):
        print(f"start {which} pinv\nend {which} pinv")
    if event.corrects is not None:
        print(f"corrects: {float(event.corrects.correct)}\ntotal: {float(event.corrects.total)}")


def _work(options: argparse.Namespace) -> None:
    net = FastNet(r=options.r, seed=training.seed_of(options))
    train, test = get_pairs(options.data)
    if not options.quiet:
        print(train[0][0].mean())
    printing = _print_original_event if options.original else _print_event
    history = net.fit(
        train,
        test,
        epochs=options.epochs,
        iterations=options.iterations,
        original=options.original,
        callback=None if options.quiet else printing,
        progress=training.wants_bar(options),
        checkpoint=options.checkpoint,
    )
    if options.save is not None:
        training.save(options.save, history, net.seed, w=net.w)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status.

    Parameters
    ----------
    argv : list of str, optional
        Arguments instead of those of the command line.
    """
    parser = training.Parser(
        "fast_net",
        "Train a perceptron on images by Newton steps through the functional inverse of its "
        "gradient, and print what the original script prints.",
        EPOCHS,
        original=f"do as the original: a finite difference of width {ORIGINAL_R:g}, whose rounding "
        "noise shows, and its lines about pseudo-inverses",
    )
    parser.add_argument(
        "--r",
        type=float,
        metavar="R",
        help="width of the finite difference (default: its exact limit)",
    )
    return training.program(parser, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
