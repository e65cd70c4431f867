"""`Point`: a net at parameters w on samples, where every exact derivative is asked for.

What is at a point is checked once, when it is made by `swiftnets.Network.at`, and its forward and
backward pass is made once, when first needed, and shared by all that follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.internals import Fixed, Internals
from swiftnets._support.locks import lock_of
from swiftnets._support.types import FloatArray
from swiftnets.curvature import taylor
from swiftnets.curvature.kinds import FisherKind, Kind
from swiftnets.curvature.matrix import CurvatureMatrix, Solver
from swiftnets.curvature.passes import Pass
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.nets.engine import Adder
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.samples import Batch, Samples, joined

__all__ = ["Point"]


def __dir__() -> list[str]:
    return __all__


_Result = TypeVar("_Result")
_INTERNAL = (
    "call",
    "call_on_pass",
    "counted",
    "counted_samples",
    "elsewhere",
    "in_float64",
    "passed",
    "samples",
    "solver",
    "whole",
    "with_all",
)


class Point(Fixed, Internals, internal=_INTERNAL):
    """A net at parameters w on samples; made by `swiftnets.Network.at`.

    Attributes
    ----------
    net : Network or MLP
    w : (P,) float array
        Read-only.

    Notes
    -----
    It keeps copies of w and of the samples, and from the first product, layered factorisation or
    solve on its pass, about 6 numbers for each sample and unit, of chains of dense layers 2 more
    from the first third derivative on. Their memory serves the next point of the net on as many
    samples, if it is up to 64 MiB with what threads worked in. Several threads may use one.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> point = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
    >>> point.loss, point.gradient
    (0.5, array([3., 4.]))
    >>> point.hessian @ [1.0, 0.0]
    array([ 9., 12.])
    """

    def __init__(self, net: BaseNetwork, w: FloatArray, samples: Samples, solver: Solver) -> None:
        if not isinstance(net, BaseNetwork) or not isinstance(samples, Samples):
            raise TypeError(
                "a Point is made by net.at(w, x, y); got a net and samples of types "
                f"{type(net).__name__} and {type(samples).__name__}"
            )
        self._net, self._w, self._solver = net, w, solver
        self._whole = list(samples.batches)
        # What is summed over: without samples of weight 0, whatever is in them.
        self._samples = Samples([batch.counted for batch in self._whole], samples.is_single)
        self._lock = lock_of(self)
        self._passed: Pass | None = None
        self._wide: Point | None = None

    # A point is its net, w and samples: copies, pickles and processes made by "spawn" make the
    # pass anew.

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.net, self.w, self._whole, self._samples)

    @property
    def net(self) -> BaseNetwork:
        """The net."""
        return self._net

    @property
    def w(self) -> FloatArray:
        """The parameters (P,)."""
        return self._w

    @property
    def solver(self) -> Solver:
        """What its matrices are factored and solved with."""
        return self._solver

    # The samples and the pass

    @property
    def samples(self) -> Samples:
        """What the loss is a sum over: the samples but those of weight 0.

        A TypeError where there are no targets.
        """
        self._require_targets()
        return self._samples

    @property
    def whole(self) -> list[Batch]:
        """All samples, as the engine takes them; a TypeError where there are no targets."""
        self._require_targets()
        return self._whole

    def _require_targets(self) -> None:
        if self._whole[0].targets is None and self._whole[0].labels is None:
            raise TypeError("the point has no targets; expected y as well in net.at(w, x, y)")

    @property
    def sample_count(self) -> int:
        """N, of all batches."""
        return sum(len(batch.x) for batch in self._whole)

    @property
    def passed(self) -> Pass:
        """The forward and backward pass, made when first asked for."""
        with self._lock:
            if self._passed is None:
                self._passed = Pass(self.net.engine, self.w, self.samples)
            return self._passed

    # For what works on one batch in float64

    def in_float64(self) -> Point:
        """The point in float64, all samples in one batch; itself if it is so already.

        Returns
        -------
        Point
            Of a float32 net it is that of the rounded numbers.
        """
        if self._samples.is_single and self.net.dtype == np.float64:
            return self
        with self._lock:
            if self._wide is None:
                batch = joined(self._whole, self.net.outputs, self.net.dtype).each(_widened)
                self._wide = Point(
                    self.net.astype(np.float64),
                    _widened(self.w),
                    Samples([batch], True),
                    self.solver,
                )
            return self._wide

    def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call a function of the engine on the net, w, the one batch, and more arguments.

        Parameters
        ----------
        function : callable
            Of the engine's handle, w, the batch's arrays and scale, and the arguments.
        *arguments : object

        Returns
        -------
        object
            What the function returned.

        Raises
        ------
        FloatingPointError, ValueError
            Where it says that numbers are not finite: of this kind if they grew so on the way.
        """
        (batch,) = self.samples.batches
        batch, scale = self.net.engine.scaled(batch)
        return self._explained(
            lambda: function(self.net.engine.handle, self.w, *batch, scale, *arguments)
        )

    def call_on_pass(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call a function of the engine on the pass of the one batch, and more arguments.

        Parameters
        ----------
        function : callable
            Of the pass's handle and the arguments.
        *arguments : object

        Returns
        -------
        object
            What the function returned.

        Raises
        ------
        FloatingPointError, ValueError
            As in `call`.
        """
        (part,) = self.passed.parts
        return self._explained(lambda: function(part, *arguments))

    def _explained(self, call: Callable[[], _Result]) -> _Result:
        try:
            return call()
        except FloatingPointError as error:
            (batch,) = self.samples.batches
            arrays = {"w": self.w, "x": self.net.engine.reader.shaped(batch.x)}
            if batch.targets is not None:
                arrays["y"] = batch.targets
            reason = checks.explain(error, **arrays)
            raise reason from None

    def elsewhere(self, w: FloatArray, y: FloatArray) -> Point:
        """The same net on the same inputs, of one batch, at other w and with other targets.

        Parameters
        ----------
        w : (P,) float array
        y : (N, outputs) float array
            Not used where the targets are labels.

        Returns
        -------
        Point
        """
        (batch,) = self._samples.batches
        if batch.labels is None:
            batch = batch._replace(targets=y)
        return Point(self.net, w, Samples([batch], True), self.solver)

    @property
    def counted(self) -> Point:
        """The point without samples of weight 0."""
        if self._counts_all:
            return self
        point = Point(self.net, self.w, self._samples, self.solver)
        point._passed = self.passed  # the same sum
        return point

    @property
    def with_all(self) -> Point:
        """The point with a pass over all samples, those of weight 0 too, of one batch."""
        if self._counts_all:
            return self
        point = Point(self.net, self.w, Samples(self._whole, True), self.solver)
        point._samples = Samples(self.whole, True)
        return point

    @property
    def _counts_all(self) -> bool:
        return all(batch.counted is batch for batch in self._whole)

    @property
    def counted_samples(self) -> int:
        """How many samples the loss is a sum over: those of a weight that is not 0."""
        return sum(len(batch.x) for batch in self._samples.batches)

    # Values

    @property
    def outputs(self) -> FloatArray:
        """The net's outputs (N, outputs), those of samples of weight 0 too; of the net's dtype.

        Logits, for the cross-entropies. They need no targets, and are computed each time.
        """
        shaped = self.net.engine.reader.shaped
        return np.concatenate([self.net.predict(self.w, shaped(b.x)) for b in self._whole])

    @property
    def loss(self) -> float:
        """The loss, with the net's reduction and l2 term."""
        return self.passed.loss

    @property
    def gradient(self) -> FloatArray:
        """The gradient (P,) of the loss; read-only."""
        return self.passed.gradient

    def per_sample_gradients(self) -> FloatArray:
        """The gradient of each sample's own loss: not weighted, not reduced, without the l2 term.

        The loss's own factor (see `swiftnets.nets.Loss`) is a weight, too, and left out.

        Returns
        -------
        (N, P) float array

        Raises
        ------
        MemoryError
            If the result would not fit into memory; the message has the bytes.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((1, 1), bias=False).at([1.0], [[2.0], [3.0]], [[0.0], [1.0]]).per_sample_gradients()
        array([[4.],
               [6.]])
        """
        engine, batches = self.net.engine, self.whole
        out = engine.empty("the gradients of all samples", self.sample_count, engine.count)
        first = 0
        for batch in batches:
            part = out[first : first + len(batch.x)]
            _core.mlp_sample_gradients(
                engine.handle, self.w, *batch._replace(weights=None), 1.0, part
            )
            first += len(batch.x)
        return out

    # The outputs

    def jacobian(self) -> FloatArray:
        """Derivatives of the outputs in the parameters.

        Returns
        -------
        (N, outputs, P) float array

        Raises
        ------
        MemoryError
            If the result would not fit into memory; the message has the bytes.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((2, 1)).at(np.zeros(3), [[3.0, 4.0]], [[0.0]]).jacobian()
        array([[[3., 4., 1.]]])
        """
        engine, outputs = self.net.engine, self.net.outputs
        out = engine.empty("the Jacobian", self.sample_count, outputs, engine.count)
        first = 0
        for batch in self._whole:
            part = out[first : first + len(batch.x)]
            _core.mlp_jacobian(engine.handle, self.w, batch.x, None, None, None, 1.0, part)
            first += len(batch.x)
        return out

    def jvp(self, v: npt.ArrayLike) -> FloatArray:
        """The Jacobian of the outputs times directions: tangents of the outputs.

        Parameters
        ----------
        v : (P,) or (K, P) array_like

        Returns
        -------
        (N, outputs) or (K, N, outputs) float array

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((2, 1)).at(np.zeros(3), [[3.0, 4.0]], [[0.0]]).jvp([1.0, 0.0, 1.0])
        array([[4.]])
        """
        engine, outputs = self.net.engine, self.net.outputs
        v, single = engine.rows(v, "v")
        out = engine.empty("the tangents", len(v), self.sample_count, outputs)
        first = 0
        for batch in self._whole:
            count = len(batch.x)
            part = out if count == out.shape[1] else np.empty((len(v), count, outputs), out.dtype)
            _core.mlp_jvp(engine.handle, self.w, batch.x, None, None, None, 1.0, v, part)
            if part is not out:
                out[:, first : first + count] = part
            first += count
        return cast(FloatArray, out[0] if single else out)

    def vjp(self, u: npt.ArrayLike) -> FloatArray:
        """The transposed Jacobian of the outputs times cotangents, summed over samples.

        Parameters
        ----------
        u : (N, outputs) or (K, N, outputs) array_like

        Returns
        -------
        (P,) or (K, P) float array

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((2, 1)).at(np.zeros(3), [[3.0, 4.0]], [[0.0]]).vjp([[2.0]])
        array([6., 8., 2.])
        """
        engine = self.net.engine
        single = checks.dimensions(u, "u") == 2
        shape = (self.sample_count, self.net.outputs)
        u = checks.array(u, "u", shape if single else ("K", *shape), engine.dtype)
        rows = u[None] if single else u
        out = engine.empty("the products", len(rows), engine.count)
        adder, first = Adder(out), 0
        for batch in self._whole:
            part = np.ascontiguousarray(rows[:, first : first + len(batch.x)])
            place = adder.place()
            _core.mlp_vjp(engine.handle, self.w, batch.x, None, None, None, 1.0, part, place)
            adder.add()
            first += len(batch.x)
        adder.finish(1.0)
        return cast(FloatArray, out[0] if single else out)

    # Along directions

    def taylor(self, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        """Coefficients of the loss and its gradient along a line, all in one pass.

        Taylor-mode differentiation (Griewank & Walther 2008): exact, no differences.

        Parameters
        ----------
        v : (P,) array_like
            The line is w + t v.
        order : int
            Of the gradient's series, from 0 to 3. The loss's goes one further.

        Returns
        -------
        TaylorSeries
            Its cost in gradients is about 1, 3, 5.3 and 8 for orders 0 to 3.

        Notes
        -----
        Directions of any size are scaled into range, here and in `third` and `fourth`. Products of
        components 1e-80 of the largest one and below may then be lost.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> point = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> point.taylor([1.0, 0.0], order=1).loss
        array([0.5, 3. , 4.5])
        """
        engine = self.net.engine
        given, order = engine.vector(v, "v"), checks.integer(order, "order", 0, 3)
        if taylor.leaves_float32(engine, *[given] * order):
            return self.in_float64().taylor(given, order).astype(engine.dtype)
        return taylor.series(engine, self.w, self.samples, given, order)

    def third(self, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        """The third derivative applied to two directions: T[u, v], the gradient of ⟨u, H v⟩ in w.

        Computed directly: of chains of dense layers by differentiating the kept passes in both
        directions, in the operations of some three products, or two where they are one; of other
        nets by Taylor-mode differentiation.

        Parameters
        ----------
        u : (P,) array_like
        v : (P,) or (K, P) array_like

        Returns
        -------
        (P,) or (K, P) float array

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net, e = MLP((1, 1, 1), bias=False), np.eye(2)
        >>> point = net.at(net.initial(seed=0), [[1.0]], [[0.0]])
        >>> bool(np.allclose(point.third(e[0], e[1]), point.third(e[1], e[0])))
        True
        """
        return self._multilinear([self.net.engine.vector(u, "u")], v, "v")

    def fourth(self, u: npt.ArrayLike, v: npt.ArrayLike, s: npt.ArrayLike) -> FloatArray:
        """The fourth derivative applied to three directions: Q[u, v, s]; see `third`.

        Parameters
        ----------
        u, v : (P,) array_like
        s : (P,) or (K, P) array_like

        Returns
        -------
        (P,) or (K, P) float array
        """
        engine = self.net.engine
        return self._multilinear([engine.vector(u, "u"), engine.vector(v, "v")], s, "s")

    def _multilinear(self, fixed: list[FloatArray], v: npt.ArrayLike, name: str) -> FloatArray:
        engine = self.net.engine
        rows, single = engine.rows(v, name)
        here = self.in_float64() if taylor.leaves_float32(engine, *fixed, rows) else self
        if len(fixed) == 1 and engine.is_chain:
            out = taylor.third(here.net.engine, here.passed, fixed[0], rows)
        else:
            out = taylor.multilinear(here.net.engine, here.w, here.samples, fixed, rows)
        if here is not self:
            with np.errstate(over="ignore", under="ignore"):
                out = out.astype(engine.dtype, copy=False)
        return cast(FloatArray, out[0] if single else out)

    # Its matrices

    @property
    def hessian(self) -> CurvatureMatrix:
        """The matrix of second derivatives of the loss, exact."""
        return CurvatureMatrix(self, Kind.HESSIAN)

    @property
    def gauss_newton(self) -> CurvatureMatrix:
        """The generalised Gauss–Newton matrix Σ Jᵀ C J + l2 (Schraudolph 2002).

        J is a sample's Jacobian of the outputs and C the loss's Hessian in them.
        """
        return CurvatureMatrix(self, Kind.GAUSS_NEWTON)

    def fisher(self, kind: FisherKind = "exact") -> CurvatureMatrix:
        """The Fisher matrix plus l2.

        Parameters
        ----------
        kind : {"exact", "empirical"}
            Exact: the expectation over the model's own targets, which for these losses is the
            Gauss–Newton matrix (Martens 2020). Empirical: Σ sₙ gₙ gₙᵀ of the samples' gradients.

        Returns
        -------
        CurvatureMatrix

        Raises
        ------
        ValueError
            For the exact matrix of a loss that is no likelihood.
        """
        return CurvatureMatrix(self, Kind.fisher(kind, self.net.loss_function))

    def __repr__(self) -> str:
        first = self._whole[0]
        without = (
            "" if first.targets is not None or first.labels is not None else " without targets"
        )
        return f"Point({self.net!r}, {checks.counted(self.sample_count, 'sample')}{without})"


def require_point(point: object) -> Point:
    """A TypeError if it is no point."""
    if not isinstance(point, Point):
        raise TypeError(
            f"point is of type {type(point).__name__}; expected a Point, made by net.at(w, x, y)"
        )
    return point


def _restored(net: Any, w: FloatArray, whole: list[Batch], samples: Samples) -> Point:
    """A point out of a pickle; its net knows the solver."""
    point: Point = net.at_samples(w, Samples(whole, samples.is_single))
    point._samples = samples
    return point


def _widened(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float64) if array.dtype == np.float32 else array
