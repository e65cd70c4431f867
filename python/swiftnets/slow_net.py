"""slow_net: a two-layer net trained by saddle-free Newton steps on its exact Hessian blocks.

The names of the script this mirrors (``howonlee/twostrangethings``, 2019) are here as it has them;
`SlowNet` is the same net on the engine, and ``python -m swiftnets.slow_net`` prints what the script
prints. ``--original``, and ``fit(..., original=True)``, turn on the script's quirk: every 50
iterations it takes its step on the last *test* batch. Nothing else here ever trains on test data.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _checks, _core, _training
from .reference import act, dact, errfn, inv_act, labels_to_onehots, rand_onehots
from .reference import slow_pairs as get_pairs

__all__ = [
    "SlowNet",
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
Method = Literal["structured", "dense"]
_METHODS = {"structured": 0, "dense": 1}


@dataclass(frozen=True)
class StepReport:
    """What one step did, and what proves it.

    Attributes
    ----------
    loss : float
        Before the step.
    residuals : (float, float)
        ‖(H + damping) s − g‖ / ‖g‖ of each layer's solve, recomputed from the step s.
    iterations : int
        Products with the first layer's Hessian block; 0 for the dense method.
    refinements : int
        Corrections of the float32 solve by a float64 residual; 0 for the dense method.
    method : str
    """

    loss: float
    residuals: tuple[float, float]
    iterations: int
    refinements: int
    method: str

    @property
    def residual(self) -> float:
        """The larger of the two."""
        return max(self.residuals)

    @property
    def converged(self) -> bool:
        """Always true: a step that does not converge raises `swiftnets.ConvergenceError`."""
        return True


class SlowNet:
    """Two dense layers without bias, leaky slope ½ on both, half the sum of squared errors.

    Parameters
    ----------
    insize, hidsize, outsize : int
        Sizes of the layers; the originals' by default.
    alpha : float
        Step length α.
    damping : float
        λ > 0, added to every eigenvalue of the Hessian blocks.
    seed : int, optional
        Seed of NumPy's legacy generator, which draws what the script draws after
        ``numpy.random.seed(seed)``: ``w1``, ``w2``, then the projection of `project`.
    w1 : (insize, hidsize) array, optional
        Initial weights in place of the drawn ones, ``randn / (insize + hidsize)``.
    w2 : (hidsize, outsize) array, optional
        Likewise, ``randn / (hidsize + outsize)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range; the message names it.
    MemoryError
        If the weights would not fit this machine, before anything is allocated.

    Notes
    -----
    Several threads may use one object; calls on it take turns. A step replaces `w1` and `w2` by new
    arrays and never writes into old ones. Steps are functions of the weights and the batch alone,
    so that a run can be resumed bit for bit.

    Examples
    --------
    >>> import numpy as np
    >>> from swiftnets import SlowNet
    >>> draw = np.random.default_rng(0)
    >>> xs, ys = draw.normal(size=(20, 5)), np.eye(3)[draw.integers(0, 3, 20)]
    >>> net = SlowNet(5, 4, 3, seed=0)
    >>> before = net.loss(xs, ys)
    >>> report = net.step(xs, ys)
    >>> report.loss == before, net.loss(xs, ys) < before, report.residual < 1e-12
    (True, True, True)
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
        self._insize = _checks.size("insize", insize)
        self._hidsize = _checks.size("hidsize", hidsize)
        self._outsize = _checks.size("outsize", outsize)
        self.alpha = alpha
        self.damping = damping
        count = self._hidsize * (self._insize + self._outsize)
        _checks.memory(f"a net of {insize}-{hidsize}-{outsize}", 8 * count)
        self._draw = np.random.RandomState(_checks.seed(seed))
        drawn1 = self._draw.randn(self._insize, self._hidsize) / (self._insize + self._hidsize)
        drawn2 = self._draw.randn(self._hidsize, self._outsize) / (self._hidsize + self._outsize)
        self._weights = (drawn1, drawn2)
        self._shaper: Array | None = None
        self._prepare()
        if w1 is not None:
            self.w1 = w1
        if w2 is not None:
            self.w2 = w2

    def _prepare(self) -> None:
        self._lock = threading.RLock()
        self._workspace = _core.slow_workspace()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = dict(self.__dict__)
        del state["_lock"], state["_workspace"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __repr__(self) -> str:
        return (
            f"SlowNet({self.insize}, {self.hidsize}, {self.outsize}, "
            f"alpha={self.alpha!r}, damping={self.damping!r})"
        )

    @property
    def insize(self) -> int:
        """Inputs of the first layer."""
        return self._insize

    @property
    def hidsize(self) -> int:
        """Hidden units."""
        return self._hidsize

    @property
    def outsize(self) -> int:
        """Outputs."""
        return self._outsize

    @property
    def alpha(self) -> float:
        """Step length; assigning checks it."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = _checks.number("alpha", value)

    @property
    def damping(self) -> float:
        """λ > 0; assigning checks it."""
        return self._damping

    @damping.setter
    def damping(self, value: float) -> None:
        self._damping = _checks.number("damping", value, positive=True)

    @property
    def w1(self) -> Array:
        """(insize, hidsize) weights; assigning checks and copies."""
        return self._weights[0]

    @w1.setter
    def w1(self, value: npt.ArrayLike) -> None:
        w1 = _checks.array("w1", value, (self._insize, self._hidsize)).copy()
        with self._lock:
            self._weights = (w1, self._weights[1])

    @property
    def w2(self) -> Array:
        """(hidsize, outsize) weights; assigning checks and copies."""
        return self._weights[1]

    @w2.setter
    def w2(self, value: npt.ArrayLike) -> None:
        w2 = _checks.array("w2", value, (self._hidsize, self._outsize)).copy()
        with self._lock:
            self._weights = (self._weights[0], w2)

    def _get_weights(self) -> tuple[Array, ...]:
        return self._weights

    def _set_weights(self, weights: tuple[Array, ...]) -> None:
        self._weights = (weights[0], weights[1])

    def _inputs(self, xs: npt.ArrayLike) -> Array:
        return _checks.array("xs", xs, ("n", self._insize))

    def _batch(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> tuple[Array, Array]:
        xs = self._inputs(xs)
        return xs, _checks.array("ys", ys, (len(xs), self._outsize))

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
        xs, ys = self._batch(xs, ys)
        return _core.slow_loss(xs, ys, *self._weights)

    def predict(self, xs: npt.ArrayLike) -> Array:
        """(n, outsize) activations of the output layer for (n, insize) inputs."""
        xs = self._inputs(xs)
        out = np.empty((len(xs), self._outsize))
        _core.slow_predict(xs, *self._weights, out)
        return out

    def gradient(self, xs: npt.ArrayLike, ys: npt.ArrayLike) -> tuple[Array, Array]:
        """Gradients of the loss, shaped like `w1` and `w2`. Arguments as for `loss`."""
        xs, ys = self._batch(xs, ys)
        w1, w2 = self._weights
        dw1, dw2 = np.empty_like(w1), np.empty_like(w2)
        _core.slow_gradient(xs, ys, w1, w2, dw1, dw2)
        return dw1, dw2

    def hessian_block(self, xs: npt.ArrayLike, layer: Literal[1, 2]) -> Array:
        """Dense Hessian block of one layer, by one Pearlmutter R-pass a column.

        As the activation has no curvature, the block does not depend on the targets: it is its
        Gauss–Newton block, symmetric and positive semidefinite.

        Parameters
        ----------
        xs : (n, insize) array
        layer : {1, 2}

        Returns
        -------
        (p, p) array
            p = insize·hidsize for layer 1, hidsize·outsize for layer 2; weights row by row.
            8 p² bytes: 50 MB and 200 MB at the originals' sizes.

        Raises
        ------
        MemoryError
            If the machine cannot hold it, before anything is allocated.
        """
        xs = self._inputs(xs)
        if layer not in (1, 2):
            raise ValueError(f"layer is {layer!r}, expected 1 or 2")
        order = self._hidsize * (self._insize if layer == 1 else self._outsize)
        _checks.memory(f"the Hessian block of layer {layer}, {order} x {order},", 8 * order**2)
        block = np.empty((order, order))
        _core.slow_hessian_block(xs, *self._weights, int(layer), block)
        return block

    def step(
        self, xs: npt.ArrayLike, ys: npt.ArrayLike, method: Method = "structured"
    ) -> StepReport:
        """One saddle-free Newton iteration; replaces `w1` and `w2`.

        ``w -= alpha * Q |1/(Λ + damping)| Qᵀ g`` for each layer's Hessian block ``Q Λ Qᵀ``, both
        gradients taken before either update (Dauphin et al., 2014).

        Parameters
        ----------
        xs : (n, insize) array
        ys : (n, outsize) array
        method : {"structured", "dense"}
            `structured` solves from the blocks' structure, to a relative residual of 1e-13: about
            a millisecond at the originals' size. `dense` forms and diagonalises both blocks as the
            script does: the same step in minutes and gigabytes.

        Returns
        -------
        StepReport

        Raises
        ------
        TypeError, ValueError
            As for `loss`.
        FloatingPointError
            If the loss or the step overflows. The weights stay as they were.
        swiftnets.ConvergenceError
            If a solve stops short of its tolerance; likewise.
        MemoryError
            If the dense method's blocks would not fit this machine.
        """
        xs, ys = self._batch(xs, ys)
        if method not in _METHODS:
            raise ValueError(f"method is {method!r}, expected 'structured' or 'dense'")
        if method == "dense":
            order = self._hidsize * max(self._insize, self._outsize)
            _checks.memory(f"diagonalising a Hessian block of order {order}", 32 * order**2)
        with self._lock:
            w1, w2 = self._weights
            new = (np.empty_like(w1), np.empty_like(w2))
            loss, first, second, iterations, refinements = _core.slow_step(
                self._workspace, xs, ys, w1, w2, self._alpha, self._damping, _METHODS[method], *new
            )
            self._weights = new
        return StepReport(loss, (first, second), iterations, refinements, method)

    def project(self, images: npt.ArrayLike) -> Array:
        """The script's fixed random projection of images to inputs.

        The matrix ``randn(pixels, insize) / sqrt(pixels)`` is drawn on first use, after the weights
        and from the same seed, as the script draws it; it never changes.

        Parameters
        ----------
        images : (n, pixels) array

        Returns
        -------
        (n, insize) array
        """
        pixels = self._shaper.shape[0] if self._shaper is not None else "pixels"
        images = _checks.array("images", images, ("n", pixels))
        with self._lock:
            if self._shaper is None:
                pixels = images.shape[1]
                self._shaper = self._draw.randn(pixels, self._insize) / np.sqrt(pixels)
        return images @ self._shaper

    def fit(
        self,
        train_pairs: _training.Pairs,
        test_pairs: _training.Pairs | None = None,
        *,
        epochs: int = 1,
        iterations: int | None = None,
        method: Method = "structured",
        original: bool = False,
        callback: _training.Callback | None = None,
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> _training.History:
        """Train on batches in their order, epoch after epoch.

        Parameters
        ----------
        train_pairs, test_pairs : sequences of (xs, ys)
            Batches as `get_pairs` gives them. Inputs with other than `insize` columns are images:
            they are sent through `project` once. The test samples are counted in every 50th
            iteration of an epoch, from its first.
        epochs : int
        iterations : int, optional
            Stop after so many in all.
        method : {"structured", "dense"}
            As for `step`.
        original : bool
            Reproduce the script's leak: where it counts the test samples, it then takes its step on
            the last test batch. Needs `test_pairs`.
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
        if method not in _METHODS:
            raise ValueError(f"method is {method!r}, expected 'structured' or 'dense'")
        plan = _training.Plan(
            step=lambda it, xs, ys: self.step(xs, ys, method),
            loss=self.loss,
            counts_before=lambda it: it % 50 == 0,
            counts_after_epoch=False,
            leaks=bool(original),
            settings={
                "net": "slow_net",
                "sizes": [self._insize, self._hidsize, self._outsize],
                "alpha": self._alpha,
                "damping": self._damping,
                "method": method,
                "original": bool(original),
            },
        )
        return _training.train(
            self,
            plan,
            self._projected("train_pairs", train_pairs),
            None if test_pairs is None else self._projected("test_pairs", test_pairs),
            epochs=epochs,
            iterations=iterations,
            callback=callback,
            progress=progress,
            checkpoint=checkpoint,
        )

    def _projected(self, name: str, pairs: _training.Pairs) -> list[tuple[Array, Array]]:
        result = []
        for index, (xs, ys) in enumerate(_training.checked_pairs(name, pairs)):
            xs = _checks.array(f"{name}[{index}][0]", xs, ("n", "inputs"))
            ys = _checks.array(f"{name}[{index}][1]", ys, (len(xs), self._outsize))
            result.append((xs if xs.shape[1] == self._insize else self.project(xs), ys))
        return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run slow_net as a program; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m swiftnets.slow_net",
        description="Train a 50-50-100 net by saddle-free Newton on its exact Hessian blocks, "
        "printing what the script slow_net.py prints.",
    )
    _training.add_arguments(parser, epochs=200)
    parser.add_argument(
        "--method",
        choices=list(_METHODS),
        default="structured",
        help="how a step is solved (default: %(default)s)",
    )
    parser.add_argument(
        "--original",
        action="store_true",
        help="reproduce the script's quirk: every 50 iterations a step on test data",
    )
    args = parser.parse_args(argv)

    def body() -> None:
        train_pairs, test_pairs = get_pairs(args.data)
        net = SlowNet(seed=args.seed)

        def show(event: _training.Event) -> None:
            if not args.quiet:
                if event.it == 0:
                    print(f"epoch:  {event.epoch}\n{time.time()}")
                print(f"it: {event.it}, err: {event.loss}\n{time.time()}")
            if event.corrects is not None and event.total is not None:
                print(f"corrects: {float(event.corrects)}\ntotal: {float(event.total)}", flush=True)

        history = net.fit(
            train_pairs,
            test_pairs,
            epochs=args.epochs,
            iterations=args.iterations,
            method=args.method,
            original=args.original,
            callback=show,
            checkpoint=args.checkpoint,
        )
        if args.save:
            _training.save_run(args.save, history, w1=net.w1, w2=net.w2)

    return _training.run(parser.prog, body)


if __name__ == "__main__":
    raise SystemExit(main())
