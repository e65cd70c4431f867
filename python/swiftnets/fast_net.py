"""fast_net: a perceptron trained by Newton steps through the functional inverse of its gradient.

The names of the script this mirrors (``howonlee/twostrangethings``, 2019) are here as it has them;
`FastNet` is the same net on the engine, and ``python -m swiftnets.fast_net`` prints what the script
prints. By default a step is the exact limit of the script's finite difference; ``r=1e-9``, and
``--original``, take the difference itself, with its rounding noise.
"""

from __future__ import annotations

import argparse
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _checks, _core, _training
from .reference import act, dact, errfn, inv_act, labels_to_onehots, rand_onehots
from .reference import fast_pairs as get_pairs

__all__ = [
    "FastNet",
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

Array = npt.NDArray[np.float64]
_ROUTES = ("cholesky", "orthogonal")


class RankWarning(UserWarning):
    """A batch's inputs do not have full row rank: steps use their pseudo-inverse at a tolerance."""


@dataclass(frozen=True)
class StepReport:
    """What one step did, and what proves it.

    Attributes
    ----------
    loss : float
        Before the step.
    residual : float
        ‖X s − P b‖ / ‖b‖ of the minimum-norm solve, P the projector on the range of X.
    route : {"cholesky", "orthogonal"}
        How X was factored: its Gram matrix, refined in X, or a rank-revealing decomposition.
    rank : int
        Numerical rank of X.
    tolerance : float
        Singular values below this times the largest count as 0.
    condition : float
        Estimate of the largest over the smallest singular value that counts.
    cached : bool
        Whether a factorisation from an earlier step was used.
    """

    loss: float
    residual: float
    route: str
    rank: int
    tolerance: float
    condition: float
    cached: bool


@dataclass(frozen=True)
class _Factor:
    capsule: _core.Factorization
    shape: tuple[int, int]
    route: str
    rank: int
    tolerance: float
    condition: float
    size: int


class FastNet:
    """One dense layer without bias, leaky slope ½, half the sum of squared errors.

    Parameters
    ----------
    insize, outsize : int
        Sizes; the original's by default.
    alpha : float
        Step length α.
    r : float, optional
        None takes the exact limit; a positive number the script's finite difference of that
        relative size (1e-9 there), whose rounding noise is about 2.2e-16/r times the condition
        number of the batch.
    seed : int, optional
        Seed of NumPy's legacy generator, which draws what the script draws after
        ``numpy.random.seed(seed)``.
    w : (insize, outsize) array, optional
        Initial weights in place of the drawn ones, ``randn / (insize + outsize)``.
    tolerance : float, optional
        Singular values of a batch below this times the largest count as 0; by default
        ``max(n, insize) * 2**-52``.
    cache_bytes : int
        Memory for factorisations kept between steps, 2 GiB by default: 50 MB for each batch of
        2500. When it is full, the batch used longest ago goes first.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range; the message names it.
    MemoryError
        If the weights would not fit this machine, before anything is allocated.

    Notes
    -----
    Several threads may use one object; calls on it take turns. A step replaces `w` by a new array
    and never writes into the old one.

    Examples
    --------
    >>> import numpy as np
    >>> from swiftnets import FastNet
    >>> draw = np.random.default_rng(0)
    >>> xs, ys = draw.normal(size=(8, 12)), np.eye(3)[draw.integers(0, 3, 8)]
    >>> net = FastNet(12, 3, alpha=1.0, seed=0)
    >>> for _ in range(6):
    ...     report = net.step(xs, ys, batch=0)
    >>> report.cached, report.rank, net.loss(xs, ys) < 1e-20
    (True, 8, True)
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
        tolerance: float | None = None,
        cache_bytes: int = 2 << 30,
    ) -> None:
        self._insize = _checks.size("insize", insize)
        self._outsize = _checks.size("outsize", outsize)
        self.alpha = alpha
        self._r = None if r is None else _checks.number("r", r, positive=True)
        self._tolerance = -1.0
        if tolerance is not None:
            self._tolerance = _checks.number("tolerance", tolerance)
            if not 0 <= self._tolerance < 1:
                raise ValueError(f"tolerance is {tolerance}, expected at least 0 and less than 1")
        if isinstance(cache_bytes, bool) or not isinstance(cache_bytes, int) or cache_bytes < 0:
            raise ValueError(f"cache_bytes is {cache_bytes!r}, expected an integer of at least 0")
        self._cache_bytes = cache_bytes
        _checks.memory(f"a net of {insize}-{outsize}", 8 * self._insize * self._outsize)
        draw = np.random.RandomState(_checks.seed(seed))
        self._w: Array = draw.randn(self._insize, self._outsize) / (self._insize + self._outsize)
        self._prepare()
        if w is not None:
            self.w = w

    def _prepare(self) -> None:
        self._lock = threading.RLock()
        self._factors: OrderedDict[Hashable, _Factor] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = dict(self.__dict__)
        del state["_lock"], state["_factors"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __repr__(self) -> str:
        return f"FastNet({self.insize}, {self.outsize}, alpha={self.alpha!r}, r={self.r!r})"

    @property
    def insize(self) -> int:
        """Inputs."""
        return self._insize

    @property
    def outsize(self) -> int:
        """Outputs."""
        return self._outsize

    @property
    def r(self) -> float | None:
        """Relative size of the finite difference; None for the exact limit."""
        return self._r

    @property
    def alpha(self) -> float:
        """Step length; assigning checks it."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = _checks.number("alpha", value)

    @property
    def w(self) -> Array:
        """(insize, outsize) weights; assigning checks and copies."""
        return self._w

    @w.setter
    def w(self, value: npt.ArrayLike) -> None:
        w = _checks.array("w", value, (self._insize, self._outsize)).copy()
        with self._lock:
            self._w = w

    def _get_weights(self) -> tuple[Array, ...]:
        return (self._w,)

    def _set_weights(self, weights: tuple[Array, ...]) -> None:
        self._w = weights[0]

    def loss(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> float:
        """Half the sum of squared errors, over samples and outputs.

        Parameters
        ----------
        xs : (n, insize) array
        ys : (n, outsize) array

        Raises
        ------
        TypeError, ValueError
            If a shape or dtype disagrees, the batch is empty or an element is not finite.
        """
        xs = _checks.array("xs", xs, ("n", self._insize))
        ys = _checks.array("ys", ys, (len(xs), self._outsize))
        return _core.fast_loss(xs, ys, self._w)

    def predict(self, xs: npt.ArrayLike) -> Array:
        """(n, outsize) activations for (n, insize) inputs."""
        xs = _checks.array("xs", xs, ("n", self._insize))
        out = np.empty((len(xs), self._outsize))
        _core.fast_predict(xs, self._w, out)
        return out

    def step(
        self, xs: npt.ArrayLike, ys: npt.ArrayLike, batch: Hashable | None = None
    ) -> StepReport:
        """One Newton iteration through the functional inverse of the gradient; replaces `w`.

        ``w -= alpha * H⁻¹g``, with H⁻¹ as the Jacobian of the gradient's inverse: one minimum-norm
        solve with X (four with a finite difference).

        Parameters
        ----------
        xs : (n, insize) array
            Pixels ``k/256 - 0.5`` are recognised and factored in exact integers.
        ys : (n, outsize) array
        batch : hashable, optional
            A name under which the factorisation of `xs` is kept for the next step with these
            inputs. It is checked against `xs` by the residual of every step and made anew where it
            is not theirs.

        Returns
        -------
        StepReport

        Raises
        ------
        TypeError, ValueError
            As for `loss`.
        FloatingPointError
            If the loss overflows. The weights stay as they were.
        swiftnets.ConvergenceError
            If a fresh factorisation does not solve to working accuracy; likewise.

        Warns
        -----
        RankWarning
            When a batch is factored that does not have full row rank: repeated images, or more
            samples than distinct pixels.
        """
        # Whether every pixel is finite is found out by the factorisation, or by the residual.
        xs = _checks.array("xs", xs, ("n", self._insize), finite=False)
        ys = _checks.array("ys", ys, (len(xs), self._outsize))
        with self._lock:
            factor = None if batch is None else self._factors.get(batch)
            if factor is not None and factor.shape == xs.shape:
                self._factors.move_to_end(batch)
                report = self._step(factor, xs, ys, cached=True)
                if report is not None:
                    return report
            try:
                factor = self._factorize(xs)
            except FloatingPointError:
                _checks.array("xs", xs, xs.shape)  # says which element it is
                raise
            if batch is not None:
                self._keep(batch, factor)
            report = self._step(factor, xs, ys, cached=False)
        if report is None:
            raise _core.ConvergenceError(
                f"the minimum-norm solve of a batch of shape {xs.shape}, condition about "
                f"{factor.condition:.1e}, did not reach working accuracy"
            )
        return report

    def _step(self, factor: _Factor, xs: Array, ys: Array, *, cached: bool) -> StepReport | None:
        """The report, or None where the residual shows that the factorisation is not of `xs`."""
        new = np.empty_like(self._w)
        loss, residual, stale = _core.fast_step(
            factor.capsule, xs, ys, self._w, self._alpha, self._r or 0.0, new
        )
        if stale:
            return None
        self._w = new
        return StepReport(
            loss, residual, factor.route, factor.rank, factor.tolerance, factor.condition, cached
        )

    def _factorize(self, xs: Array) -> _Factor:
        capsule, info = _core.factorize(xs, self._tolerance)
        route, _, rank, tolerance, condition, size = info
        if rank < len(xs):
            warnings.warn(
                f"a batch of {len(xs)} samples has rank {rank} (singular values below "
                f"{tolerance:.1e} of the largest count as 0): a step uses its pseudo-inverse",
                RankWarning,
                stacklevel=4,
            )
        return _Factor(capsule, xs.shape, _ROUTES[route], rank, tolerance, condition, size)

    def _keep(self, batch: Hashable, factor: _Factor) -> None:
        self._factors.pop(batch, None)
        if factor.size > self._cache_bytes:
            return
        self._factors[batch] = factor
        while sum(kept.size for kept in self._factors.values()) > self._cache_bytes:
            self._factors.popitem(last=False)

    def fit(
        self,
        train_pairs: _training.Pairs,
        test_pairs: _training.Pairs | None = None,
        *,
        epochs: int = 1,
        iterations: int | None = None,
        callback: _training.Callback | None = None,
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> _training.History:
        """Train on batches in their order; each is factored once, if `cache_bytes` allows.

        Parameters
        ----------
        train_pairs, test_pairs : sequences of (xs, ys)
            Batches as `get_pairs` gives them. The test samples are counted after each epoch.
        epochs : int
        iterations : int, optional
            Stop after so many in all.
        callback : callable, optional
            Called with an event (iteration, epoch, it, loss, corrects, total, report) after each
            iteration; returning True ends the run.
        progress : bool
            Show a bar on standard error.
        checkpoint : path, optional
            Saved there, atomically, about every 10 s, at the end, and on Ctrl-C. If the file exists
            the run goes on from it: the weights are taken from it, and a resumed run gives the bits
            of one that was never stopped (on the same number of threads).

        Returns
        -------
        History
            Of the whole run, from its first start: `errs`, `corrects`, `seconds`.

        Raises
        ------
        ValueError
            If a batch is of the wrong shape, or the checkpoint is damaged or of another run.
        """
        plan = _training.Plan(
            step=lambda it, xs, ys: self.step(xs, ys, batch=("fit", it)),
            loss=self.loss,
            counts_before=lambda it: False,
            counts_after_epoch=True,
            leaks=False,
            settings={
                "net": "fast_net",
                "sizes": [self._insize, self._outsize],
                "alpha": self._alpha,
                "r": self._r,
                "tolerance": self._tolerance,
            },
        )
        return _training.train(
            self,
            plan,
            train_pairs,
            test_pairs,
            epochs=epochs,
            iterations=iterations,
            callback=callback,
            progress=progress,
            checkpoint=checkpoint,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run fast_net as a program; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m swiftnets.fast_net",
        description="Train a perceptron by Newton steps through the functional inverse of its "
        "gradient, printing what the script fast_net.py prints.",
    )
    _training.add_arguments(parser, epochs=10)
    parser.add_argument(
        "--r", type=float, metavar="R", help="finite difference of this relative size"
    )
    parser.add_argument(
        "--original",
        action="store_true",
        help="as the script: --r 1e-9, and its lines about pseudo-inverses",
    )
    args = parser.parse_args(argv)

    def body() -> None:
        r = 1e-9 if args.original and args.r is None else args.r
        net = FastNet(r=r, seed=args.seed)
        train_pairs, test_pairs = get_pairs(args.data)
        if not args.quiet:
            print(train_pairs[0][0].mean())

        def show(event: _training.Event) -> None:
            if not args.quiet:
                print(f"it: {event.it}, err: {event.loss}")
                if args.original:
                    for which in ("first", "second"):
                        print(f"start {which} pinv\nend {which} pinv")
            if event.corrects is not None and event.total is not None:
                print(f"corrects: {float(event.corrects)}\ntotal: {float(event.total)}", flush=True)

        history = net.fit(
            train_pairs,
            test_pairs,
            epochs=args.epochs,
            iterations=args.iterations,
            callback=show,
            checkpoint=args.checkpoint,
        )
        if args.save:
            _training.save_run(args.save, history, w=net.w)

    return _training.run(parser.prog, body)


if __name__ == "__main__":
    raise SystemExit(main())
