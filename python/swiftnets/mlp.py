"""`MLP`: a net of dense layers, and every exact derivative of its loss to fourth order.

The parameters are one flat vector: layer by layer, weights ``[in, out]`` row by row, then the bias
``[out]`` if there is one. Samples are rows. What the methods compute is in ``docs/mlp.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from swiftnets import _buffers, _checks, _core, _scaling, activations, losses
from swiftnets._lapack import aside
from swiftnets._samples import Batch, FloatArray, Reader, positive_total
from swiftnets.activations import Activation, ActivationLike
from swiftnets.losses import Loss, LossLike

if TYPE_CHECKING:
    from swiftnets.factorizations import Factorization, Form
    from swiftnets.operators import ScipyProblem
    from swiftnets.solvers import Method, Preconditioner, Solution

__all__ = ["MLP", "Linearization", "TaylorSeries"]


def __dir__() -> list[str]:
    return __all__


Block: TypeAlias = tuple[int, int] | Literal["diagonal"] | None
FisherKind: TypeAlias = Literal["exact", "empirical"]
Scheme: TypeAlias = Literal["glorot", "he", "orthogonal", "original"]

_Fill: TypeAlias = Callable[[Batch, float, Any], Any]

_HESSIAN, _GAUSS_NEWTON, _EMPIRICAL_FISHER = range(3)
_LARGEST_SIZE = 2**31 - 1


@dataclass(frozen=True)
class TaylorSeries:
    """Coefficients of t ↦ L(w + t v) and of its gradient.

    Attributes
    ----------
    loss : (order + 2,) float64 array
        ``loss[k]`` is the coefficient of tᵏ of the loss, for k > 0 summed in float64 from that of
        the gradient.
    gradient : (order + 1, P) float array
        ``gradient[k]`` is that of the gradient: g, H v, T[v, v] / 2, Q[v, v, v] / 6.
    """

    loss: npt.NDArray[np.float64]
    gradient: FloatArray

    @property
    def derivatives(self) -> FloatArray:
        """g, H v, T[v, v] and Q[v, v, v] as rows: ``gradient[k]`` times k!."""
        factorials = [math.factorial(k) for k in range(len(self.gradient))]
        return cast(FloatArray, self.gradient * np.array(factorials, self.gradient.dtype)[:, None])

    def __call__(self, t: float) -> float:
        """The polynomial of the loss at t."""
        return float(np.polynomial.polynomial.polyval(t, self.loss))


class MLP:
    """A multilayer perceptron with exact derivatives.

    Parameters
    ----------
    sizes : sequence of int
        Widths: the inputs', each hidden layer's, the outputs'.
    activation : str, Activation, or a sequence of them
        Of the hidden layers, one for all or one each; see `swiftnets.activations`.
    output_activation : str or Activation
        Of the outputs. The cross-entropies take logits: leave it ``"identity"``.
    loss : str or Loss
        ``"squared_error"`` (½ the sum of squares), ``"softmax_cross_entropy"``,
        ``"binary_cross_entropy"``, ``"huber"``; see `swiftnets.losses`.
    bias : bool
        Whether every layer has one.
    reduction : {"sum", "mean"}
        The loss is Σ sₙ lossₙ over samples, with ``sample_weight`` s (ones by default), or that
        divided by Σ sₙ.
    l2 : float
        Adds ½ l2 ‖w‖², over all parameters, once and not reduced.
    dtype : float64 or float32

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.

    Notes
    -----
    Every method takes the parameters w, the inputs x (N, inputs) and the targets y: (N, outputs)
    rows, or for the softmax cross-entropy also (N,) integer labels. In place of x and y, sums over
    samples take one iterable of batches ``(x, y)`` or ``(x, y, sample_weight)`` (a list, a PyTorch
    DataLoader; one that refills one buffer will do). Anything that makes an array is taken,
    PyTorch's tensors too. Values that are not finite propagate as in NumPy, but for samples of
    weight 0: those are left out, whatever is in them.

    Working memory does not grow with the number of samples: they are taken in chunks of at most
    4 MB of activations (32 samples where a net is wider than that), and a few such for each thread.
    One net may be used by several threads at once.

    Examples
    --------
    >>> net = MLP((2, 3, 1), activation="tanh")
    >>> w = net.initial(seed=0)
    >>> x, y = np.eye(2), np.ones((2, 1))
    >>> hessian = net.hessian(w, x, y)
    >>> bool(np.allclose(hessian @ w, net.hvp(w, x, y, w)))
    True
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: ActivationLike | Sequence[ActivationLike] = "tanh",
        output_activation: ActivationLike = "identity",
        loss: LossLike = "squared_error",
        bias: bool = True,
        reduction: Literal["sum", "mean"] = "sum",
        l2: float = 0.0,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self._sizes = _sizes(sizes)
        self._activations = (
            *_hidden(activation, self.depth - 1),
            activations.resolve(output_activation, "output_activation"),
        )
        self._loss = losses.resolve(loss, "loss")
        self._bias = _checks.flag(bias, "bias")
        if str(reduction) == "none":
            raise ValueError(
                "reduction is 'none'; expected 'sum' or 'mean': a net's loss is one number (for "
                "the gradients of single samples see per_sample_gradients)"
            )
        _checks.choice(reduction, "reduction", ("sum", "mean"))
        self._reduction = reduction
        self._l2 = _checks.real(l2, "l2")
        if self._l2 < 0:
            raise ValueError(f"l2 is {l2!r}; expected a number that is not negative")
        self._dtype = _dtype(dtype)
        widths = zip(self._sizes, self._sizes[1:], strict=False)
        counts = [(fan_in + self._bias) * width for fan_in, width in widths]
        ends = np.cumsum([0, *counts], dtype=object)
        self._slices = tuple(slice(int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False))
        self._count = int(ends[-1])
        self._build()

    def _build(self) -> None:
        self._reader = Reader(self._sizes[0], self._sizes[-1], self._loss, self._dtype)
        self._net = _core.mlp(
            self._sizes,
            tuple(activation._code for activation in self._activations),
            int(self._dtype == np.float32),
            int(self._bias),
            *self._loss._code,
        )
        # l2 as a number that its products with arrays of the net's dtype do not round to 0 or inf.
        info = np.finfo(self._dtype)
        usual = float(info.tiny) <= self._l2 <= float(info.max)
        self._ridge = (self._dtype.type if usual else np.float64)(self._l2)
        self._usual_exponent = info.maxexp * 5 // 8

    # A net is its settings: copies, pickles and processes made by "spawn" build an engine again.

    def __getstate__(self) -> dict[str, Any]:
        return {
            key: value for key, value in self.__dict__.items() if key not in ("_net", "_reader")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._build()

    def __repr__(self) -> str:
        hidden = ", ".join(_shown(a) for a in dict.fromkeys(self._activations[:-1]))
        if len(set(self._activations[:-1])) > 1:
            hidden = f"[{', '.join(_shown(a) for a in self._activations[:-1])}]"
        parts = [str(self._sizes)] + [f"activation={hidden}"] * (self.depth > 1)
        parts += [
            f"output_activation={_shown(self._activations[-1])}",
            f"loss={_shown(self._loss)}",
        ]
        parts += ["bias=False"] * (not self._bias)
        parts += [f"reduction={self._reduction!r}"] + [f"l2={self._l2}"] * (self._l2 != 0)
        parts += ["dtype=float32"] * (self._dtype == np.float32)
        return f"MLP({', '.join(parts)})"

    # Settings -------------------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths: the inputs', each hidden layer's, the outputs'."""
        return self._sizes

    @property
    def depth(self) -> int:
        """Layers."""
        return len(self._sizes) - 1

    @property
    def activations(self) -> tuple[Activation, ...]:
        """One a layer, the outputs' last."""
        return self._activations

    @property
    def loss_function(self) -> Loss:
        """The loss of one sample."""
        return self._loss

    @property
    def bias(self) -> bool:
        """Whether every layer has one."""
        return self._bias

    @property
    def reduction(self) -> str:
        """``"sum"`` or ``"mean"``."""
        return self._reduction

    @property
    def l2(self) -> float:
        """The loss has ½ l2 ‖w‖² in it."""
        return self._l2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all arrays."""
        return self._dtype

    @property
    def parameter_count(self) -> int:
        """P, the length of the parameter vector."""
        return self._count

    @property
    def layer_slices(self) -> tuple[slice, ...]:
        """Where each layer's parameters are in the vector."""
        return self._slices

    def settings(self) -> dict[str, object]:
        """All of the above that makes a net what it is, as JSON holds it, to the last bit.

        Examples
        --------
        >>> from swiftnets.losses import Huber
        >>> MLP((2, 1), loss=Huber(0.7)).settings()["loss"]
        ['huber', 0.7]
        """
        return {
            "sizes": list(self._sizes),
            "activations": [[one.name, one.parameter] for one in self._activations],
            "loss": [self._loss.name, self._loss.parameter],
            "bias": self._bias,
            "reduction": self._reduction,
            "l2": self._l2,
            "dtype": self._dtype.name,
        }

    # Parameters -----------------------------------------------------------------------------------

    def initial(self, seed: int | None = None, scheme: Scheme = "glorot") -> FloatArray:
        """Parameters to start from; biases are 0.

        Parameters
        ----------
        seed : int, optional
            The same seed gives the same parameters.
        scheme : {"glorot", "he", "orthogonal", "original"}
            Weights [m, n] uniform within ±√(6 / (m + n)) (Glorot & Bengio 2010), normal of variance
            2 / m (He et al. 2015), or with orthonormal rows or columns (Saxe et al. 2014); or as in
            the original scripts, normal divided by m + n, from NumPy's legacy generator.

        Returns
        -------
        (P,) float array

        Examples
        --------
        >>> MLP((3, 2), bias=False).initial(seed=0, scheme="orthogonal").shape
        (6,)
        """
        choice = _checks.choice(scheme, "scheme", ("glorot", "he", "orthogonal", "original"))
        seed = _checks.seed(seed)
        w = np.zeros(self._count, self._dtype)
        generator = np.random.default_rng(seed)
        legacy = np.random.RandomState(seed) if choice == 3 else None
        for part, m, n in zip(self._slices, self._sizes, self._sizes[1:], strict=False):
            if legacy is not None:
                weights = legacy.randn(m, n) / (m + n)
            elif choice == 0:
                limit = math.sqrt(6 / (m + n))
                weights = generator.uniform(-limit, limit, (m, n))
            else:
                weights = generator.standard_normal((m, n))
                weights = weights * math.sqrt(2 / m) if choice == 1 else _orthonormal(weights)
            w[part.start : part.start + m * n] = weights.ravel()
        return w

    def unflatten(self, w: npt.ArrayLike) -> dict[str, FloatArray]:
        """Named views of a parameter vector: ``"w0"`` [in, out], ``"b0"`` [out], ``"w1"``, …

        Parameters
        ----------
        w : (P,) array
            An array of the net's dtype is not copied: writing to a view changes it.

        Returns
        -------
        dict of str to array

        Examples
        --------
        >>> {name: view.shape for name, view in MLP((3, 2)).unflatten(np.zeros(8)).items()}
        {'w0': (3, 2), 'b0': (2,)}
        """
        flat = self._vector(w, "w")
        views = {}
        for index, (part, m, n) in enumerate(
            zip(self._slices, self._sizes, self._sizes[1:], strict=False)
        ):
            views[f"w{index}"] = flat[part.start : part.start + m * n].reshape(m, n)
            if self._bias:
                views[f"b{index}"] = flat[part.start + m * n : part.stop]
        return views

    def flatten(self, arrays: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """The parameter vector of named arrays, as `unflatten` names them.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a name is missing or unknown, or an array has another shape.
        """
        w = np.zeros(self._count, self._dtype)
        views = self.unflatten(w)
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays is of type {type(arrays).__name__}; expected names and arrays")
        if set(arrays) != set(views):
            raise KeyError(f"arrays has the names {sorted(arrays)}; expected {sorted(views)}")
        for name, view in views.items():
            view[...] = _checks.array(arrays[name], name, view.shape, self._dtype)
        return w

    def _missing(self, name: str) -> TypeError:
        after = (
            " after x and y (with batches in place of x, give y=None, or vectors by their names)"
        )
        return TypeError(
            f"{name} is missing; expected a vector ({self._count},){after * (name != 'w')}"
        )

    def _vector(self, value: npt.ArrayLike, name: str) -> FloatArray:
        if value is None:
            raise self._missing(name)
        return _checks.array(value, name, (self._count,), self._dtype)

    def _rows(self, value: npt.ArrayLike, name: str) -> tuple[FloatArray, bool]:
        """Directions as rows, and whether there is just one."""
        if value is None:
            raise self._missing(name)
        single = _checks.dimensions(value, name) == 1
        shape = (self._count,) if single else ("K", self._count)
        rows = _checks.array(value, name, shape, self._dtype)
        return (rows[None] if single else rows), single

    def _scaled(
        self, directions: list[FloatArray]
    ) -> tuple[list[FloatArray], npt.NDArray[np.int64] | None]:
        """Rows that are multiplied with each other, and e: the products times 2ᵉ are theirs.

        Where some products of some would leave the range, though the product of all may not, the
        large ones are divided and the small ones multiplied by as little as it takes. Otherwise e
        is None.
        """
        exponents = [_scaling.exponents(rows) for rows in directions]
        up = sum(max(int(e.max()), 0) for e in exponents)
        down = sum(max(int(-e.min()), 0) for e in exponents)
        most = self._usual_exponent
        if max(up, down) <= most:
            return directions, None
        kept = (most / max(up, most), most / max(down, most))
        shifts = [e - np.trunc(e * np.where(e > 0, *kept)).astype(np.int64) for e in exponents]
        scaled = list(zip(directions, shifts, strict=True))
        # Small numbers beside large ones, and products of such with derivatives, stay.
        places = [max(_scaling.places(rows), 0) for rows in directions]
        rest = sum(places) + most // 10
        for (rows, e), own in zip(scaled, places, strict=True):
            np.minimum(e, _scaling.halvings(rows, rest - own), out=e)
        return [np.ldexp(rows, -e[:, None]) for rows, e in scaled], np.sum(
            np.broadcast_arrays(*shifts), axis=0
        )

    # Sums over samples ----------------------------------------------------------------------------

    def _reduce(
        self, fill: _Fill, out: FloatArray | None, x: Any, y: Any, sample_weight: Any
    ) -> _Reduced:
        """`out` filled for each batch, added up and reduced, and what `fill` returned for each."""
        mean = self._reduction == "mean"
        if y is not None:
            batch, scale = self._reader.batch(x, y, sample_weight), 1.0
            if mean:
                batch, scale = batch.averaged()
            return _Reduced([fill(batch, scale, out)], [1.0], 1.0)
        adder = None if out is None else _Adder(out)
        parts: list[Any] = []
        exponents: list[int] = []
        total, shrink = 0.0, 1.0
        for batch in self._reader.batches(x, y, sample_weight):
            if mean:
                # All weights so far over the same power of two.
                exponent = batch.exponent
                last = exponents[-1] if exponents else exponent
                exponents.append(max(last, exponent))
                shrink = math.ldexp(1.0, last - exponents[-1])
                batch = batch.divided(exponents[-1])
                total = total * shrink + batch.total_weight
            parts.append(fill(batch, 1.0, None if adder is None else adder.place()))
            if adder is not None:
                adder.add(shrink)
        divisor = positive_total(total) if mean else 1.0
        if adder is not None:
            adder.finish(divisor)
        factors = [math.ldexp(1.0, e - exponents[-1]) for e in exponents] or [1.0] * len(parts)
        return _Reduced(parts, factors, divisor)

    def _sum(self, out: FloatArray, x: Any, y: Any, sample_weight: Any, fill: _Fill) -> FloatArray:
        """`out` filled for each batch, added up and reduced."""
        self._reduce(fill, out, x, y, sample_weight)
        return out

    # Values and gradients -------------------------------------------------------------------------

    def predict(self, w: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
        """Outputs: logits, for the cross-entropies.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, inputs) array_like

        Returns
        -------
        (N, outputs) float array

        Examples
        --------
        >>> MLP((2, 1), bias=False).predict([1.0, 2.0], [[3.0, 4.0]])
        array([[11.]])
        """
        w, x = self._vector(w, "w"), self._reader.inputs(x)
        out = np.empty((len(x), self._sizes[-1]), self._dtype)
        _core.mlp_predict(self._net, w, x, None, None, None, 1.0, out)
        return out

    def loss(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> float:
        """The loss.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, inputs) array_like, or an iterable of batches
        y : (N, outputs) array_like or (N,) labels
        sample_weight : (N,) array_like, optional
            Not negative.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If a shape or dtype disagrees; the message names the argument.

        Examples
        --------
        >>> MLP((2, 1), bias=False).loss([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        0.5
        """
        w = self._vector(w, "w")

        def fill(batch: Batch, scale: float, _: Any) -> float:
            return _core.mlp_loss(self._net, w, *batch, scale)

        return self._reduce(fill, None, x, y, sample_weight).loss + self._penalty(w)

    def gradient(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> FloatArray:
        """The gradient of `loss`, by backpropagation.

        Parameters are those of `loss`.

        Returns
        -------
        (P,) float array

        Examples
        --------
        >>> MLP((2, 1), bias=False).gradient([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        array([3., 4.])
        """
        return self.loss_and_gradient(w, x, y, sample_weight=sample_weight)[1]

    def loss_and_gradient(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[float, FloatArray]:
        """`loss` and `gradient` in one pass."""
        w = self._vector(w, "w")

        def fill(batch: Batch, scale: float, out: FloatArray) -> float:
            return _core.mlp_gradient(self._net, w, *batch, scale, out)

        out = _buffers.take(self._count, self._dtype)
        loss = self._reduce(fill, out, x, y, sample_weight).loss
        self._add_ridge(out, w)
        return loss + self._penalty(w), out

    def _add_ridge(self, out: FloatArray, v: FloatArray | float) -> None:
        """Adds l2 v: inf where that leaves the range, without a warning, as in the engine."""
        if self._l2:
            with np.errstate(over="ignore", invalid="ignore"):
                out += self._ridge * v

    def _penalty(self, w: FloatArray) -> float:
        if not self._l2:
            return 0.0
        wide = w.astype(np.float64, copy=False)
        square = float(np.vdot(wide, wide))
        if 1e-250 < square < 1e300:
            return 0.5 * self._l2 * square
        norm = _scaling.norm(wide)
        return 0.5 * (self._l2 * norm) * norm

    def per_sample_gradients(
        self, w: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike
    ) -> FloatArray:
        """The gradient of each sample's own loss: not weighted, not reduced, without the l2 term.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, inputs) array_like
        y : (N, outputs) array_like or (N,) labels

        Returns
        -------
        (N, P) float array

        Raises
        ------
        MemoryError
            If the result would not fit into memory; the message has the bytes.

        Examples
        --------
        >>> MLP((1, 1), bias=False).per_sample_gradients([1.0], [[2.0], [3.0]], [[0.0], [1.0]])
        array([[4.],
               [6.]])
        """
        w, batch = self._vector(w, "w"), self._reader.batch(x, y, None)
        out = self._empty("the gradients of all samples", len(batch.x), self._count)
        _core.mlp_sample_gradients(self._net, w, *batch, 1.0, out)
        return out

    # Jacobians of the outputs ---------------------------------------------------------------------

    def jacobian(self, w: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
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
        >>> MLP((2, 1)).jacobian(np.zeros(3), [[3.0, 4.0]])
        array([[[3., 4., 1.]]])
        """
        w, x = self._vector(w, "w"), self._reader.inputs(x)
        out = self._empty("the Jacobian", len(x), self._sizes[-1], self._count)
        _core.mlp_jacobian(self._net, w, x, None, None, None, 1.0, out)
        return out

    def jvp(self, w: npt.ArrayLike, x: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        """The Jacobian of the outputs times directions: tangents of the outputs.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, inputs) array_like
        v : (P,) or (K, P) array_like

        Returns
        -------
        (N, outputs) or (K, N, outputs) float array

        Examples
        --------
        >>> MLP((2, 1)).jvp(np.zeros(3), [[3.0, 4.0]], [1.0, 0.0, 1.0])
        array([[4.]])
        """
        w, x = self._vector(w, "w"), self._reader.inputs(x)
        v, single = self._rows(v, "v")
        out = self._empty("the tangents", len(v), len(x), self._sizes[-1])
        _core.mlp_jvp(self._net, w, x, None, None, None, 1.0, v, out)
        return out[0] if single else out

    def vjp(self, w: npt.ArrayLike, x: npt.ArrayLike, u: npt.ArrayLike) -> FloatArray:
        """The transposed Jacobian of the outputs times cotangents, summed over samples.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, inputs) array_like
        u : (N, outputs) or (K, N, outputs) array_like

        Returns
        -------
        (P,) or (K, P) float array

        Examples
        --------
        >>> MLP((2, 1)).vjp(np.zeros(3), [[3.0, 4.0]], [[2.0]])
        array([6., 8., 2.])
        """
        w, x = self._vector(w, "w"), self._reader.inputs(x)
        single = _checks.dimensions(u, "u") == 2
        shape = (len(x), self._sizes[-1])
        u = _checks.array(u, "u", shape if single else ("K", *shape), self._dtype)
        u = u[None] if single else u
        out = self._empty("the products", len(u), self._count)
        _core.mlp_vjp(self._net, w, x, None, None, None, 1.0, u, out)
        return out[0] if single else out

    # Products of curvature matrices ---------------------------------------------------------------

    def hvp(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        v: npt.ArrayLike | None = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Hessian-vector products of the loss, exact to rounding (Pearlmutter 1994).

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`; with batches in place of x, give ``y=None``.
        v : (P,) or (K, P) array_like
            One direction, or K of them as rows: many at once share the forward pass, and threads
            take whole directions.

        Returns
        -------
        (P,) or (K, P) float array
            Shaped like v. One costs about two gradients; see `linearize` for many at one point.

        Raises
        ------
        TypeError, ValueError
            If a shape or dtype disagrees; the message names the argument.

        Examples
        --------
        >>> net = MLP((2, 1), bias=False)
        >>> net.hvp([1.0, 2.0], [[3.0, 4.0]], [[10.0]], [1.0, 0.0])
        array([ 9., 12.])
        """
        return self._product(_HESSIAN, w, x, y, v, sample_weight)

    def gauss_newton_product(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        v: npt.ArrayLike | None = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Products of the generalised Gauss–Newton matrix Σ Jᵀ C J + l2 I (Schraudolph 2002).

        J is a sample's Jacobian of the outputs and C the loss's Hessian in them. Parameters and
        result are those of `hvp`.
        """
        return self._product(_GAUSS_NEWTON, w, x, y, v, sample_weight)

    def fisher_product(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        v: npt.ArrayLike | None = None,
        *,
        kind: FisherKind = "exact",
        sample_weight: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Products of the Fisher matrix plus l2 I.

        Parameters
        ----------
        kind : {"exact", "empirical"}
            Exact: the expectation over the model's own targets, which for these losses is the
            Gauss–Newton matrix (Martens 2020). Empirical: Σ sₙ gₙ gₙᵀ of the samples' gradients.

        Raises
        ------
        ValueError
            For the exact matrix of a loss that is no likelihood.

        Other parameters and the result are those of `hvp`.
        """
        return self._product(self._fisher_kind(kind), w, x, y, v, sample_weight)

    def _fisher_kind(self, kind: FisherKind) -> int:
        if _checks.choice(kind, "kind", ("exact", "empirical")):
            return _EMPIRICAL_FISHER
        if not self._loss.is_likelihood:
            raise ValueError(
                f'kind is "exact" and the loss is {self._loss.name!r}, which is no '
                'likelihood; use gauss_newton, or kind="empirical"'
            )
        return _GAUSS_NEWTON

    def _product(self, kind: int, w: Any, x: Any, y: Any, v: Any, sample_weight: Any) -> FloatArray:
        w = self._vector(w, "w")
        v, single = self._rows(v, "v")
        out = self._sum(
            np.empty_like(v),
            x,
            y,
            sample_weight,
            lambda batch, scale, out: _core.mlp_product(self._net, w, *batch, scale, kind, v, out),
        )
        self._add_ridge(out, v)
        return out[0] if single else out

    def linearize(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> Linearization:
        """The net at one point, its passes kept, for many products there.

        Parameters are those of `loss`. The arrays are copied: they may change afterwards.

        Returns
        -------
        Linearization
            It holds about 5 numbers for each sample and unit.

        Examples
        --------
        >>> net = MLP((2, 1), bias=False)
        >>> point = net.linearize([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> point.loss, point.hvp([1.0, 0.0])
        (0.5, array([ 9., 12.]))
        """
        return Linearization(self, w, x, y, sample_weight)

    # Dense matrices -------------------------------------------------------------------------------

    def hessian(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        *,
        block: Block = None,
        out: FloatArray | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Any:
        """The Hessian of the loss, dense.

        Made from its structure, sums over samples of Kronecker products, not column by column.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`.
        block : (i, j) or "diagonal", optional
            Only the block of layers i and j, counted from 0, or a list of all layers' own.
        out : (P, P) array, optional
            Where to put the whole matrix: C-contiguous, of the net's dtype. A memory map will do.

        Returns
        -------
        (P, P) array, one block, or a list of blocks
            The whole matrix and blocks (i, i) are symmetric to the last bit.

        Raises
        ------
        MemoryError
            If the result would not fit into memory; the message has the bytes.
        TypeError, ValueError
            If a shape or dtype disagrees, or there is no such block.

        Examples
        --------
        >>> MLP((2, 1), bias=False).hessian([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        array([[ 9., 12.],
               [12., 16.]])
        """
        return self._dense(_HESSIAN, "the Hessian", w, x, y, block, out, sample_weight)

    def gauss_newton(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        *,
        block: Block = None,
        out: FloatArray | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Any:
        """The matrix of `gauss_newton_product`, dense; parameters and result as of `hessian`."""
        return self._dense(
            _GAUSS_NEWTON, "the Gauss–Newton matrix", w, x, y, block, out, sample_weight
        )

    def fisher(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        *,
        kind: FisherKind = "exact",
        block: Block = None,
        out: FloatArray | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Any:
        """The matrix of `fisher_product`, dense; parameters and result as of `hessian`."""
        number = self._fisher_kind(kind)
        return self._dense(number, "the Fisher matrix", w, x, y, block, out, sample_weight)

    def _dense(
        self, kind: int, what: str, w: Any, x: Any, y: Any, block: Block, out: Any, weights: Any
    ) -> Any:
        w = self._vector(w, "w")
        if out is not None and block is not None:
            raise ValueError("out is for the whole matrix; expected None with a block")
        if isinstance(block, str):
            _checks.choice(block, "block", ("diagonal",))
            x, y, weights = self._reader.again(x, y, weights)
            return [
                self._block(kind, what, w, x, y, (index, index), None, weights)
                for index in range(self.depth)
            ]
        return self._block(kind, what, w, x, y, self._pair(block), out, weights)

    def _pair(self, block: Any) -> tuple[int, int] | None:
        if block is None:
            return None
        if not isinstance(block, (tuple, list)) or len(block) != 2:
            raise TypeError(f'block is {block!r}; expected a pair of layers, or "diagonal"')
        i, j = (_checks.integer(layer, "block", 0, self.depth - 1) for layer in block)
        return i, j

    def _block(
        self, kind: int, what: str, w: Any, x: Any, y: Any, pair: Any, out: Any, weights: Any
    ) -> FloatArray:
        if pair is None:
            upper, lower = -1, -1
            rows = columns = self._count
        else:
            upper, lower = max(pair), min(pair)
            rows, columns = (_length(self._slices[layer]) for layer in (upper, lower))
        if out is None:
            out = self._empty(what, rows, columns)
        else:
            _check_out(out, (rows, columns), self._dtype)
        self._sum(
            out,
            x,
            y,
            weights,
            lambda batch, scale, out: _core.mlp_dense(
                self._net, w, *batch, scale, kind, upper, lower, out
            ),
        )
        if upper == lower:
            self._add_ridge(out.reshape(-1)[:: columns + 1], 1.0)
        if pair is not None and pair[0] < pair[1]:
            return np.ascontiguousarray(out.T)
        return cast(FloatArray, out)

    def hessian_diagonal(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> FloatArray:
        """The diagonal of `hessian`, exact, in time and memory far below the matrix's.

        Parameters are those of `loss`.

        Returns
        -------
        (P,) float array

        Examples
        --------
        >>> MLP((2, 1), bias=False).hessian_diagonal([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        array([ 9., 16.])
        """
        return self._diagonal(_HESSIAN, w, x, y, sample_weight)

    def gauss_newton_diagonal(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> FloatArray:
        """The diagonal of `gauss_newton`; see `hessian_diagonal`."""
        return self._diagonal(_GAUSS_NEWTON, w, x, y, sample_weight)

    def fisher_diagonal(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        *,
        kind: FisherKind = "exact",
        sample_weight: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """The diagonal of `fisher`; see `hessian_diagonal`."""
        return self._diagonal(self._fisher_kind(kind), w, x, y, sample_weight)

    def _diagonal(self, kind: int, w: Any, x: Any, y: Any, weights: Any) -> FloatArray:
        w = self._vector(w, "w")
        out = self._sum(
            np.empty(self._count, self._dtype),
            x,
            y,
            weights,
            lambda batch, scale, out: _core.mlp_diagonal(self._net, w, *batch, scale, kind, out),
        )
        self._add_ridge(out, 1.0)
        return out

    def _empty(self, what: str, *shape: int) -> FloatArray:
        _checks.memory(
            math.prod(shape) * self._dtype.itemsize, f"{what}, {' by '.join(map(str, shape))},"
        )
        return np.empty(shape, self._dtype)

    # Taylor series --------------------------------------------------------------------------------

    def taylor(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        v: npt.ArrayLike | None = None,
        *,
        order: int = 3,
        sample_weight: npt.ArrayLike | None = None,
    ) -> TaylorSeries:
        """Coefficients of the loss and its gradient along a line, all in one pass.

        Taylor-mode differentiation (Griewank & Walther 2008): exact, no differences.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`.
        v : (P,) array_like
            The line is w + t v.
        order : int
            Of the gradient's series, from 0 to 3. The loss's goes one further.

        Returns
        -------
        TaylorSeries
            Its cost in gradients is about 1, 3, 5.3 and 8 for orders 0 to 3.

        Examples
        --------
        >>> net = MLP((2, 1), bias=False)
        >>> net.taylor([1.0, 2.0], [[3.0, 4.0]], [[10.0]], [1.0, 0.0], order=1).loss
        array([0.5, 3. , 4.5])
        """
        order = _checks.integer(order, "order", 0, 3)
        w, given = self._vector(w, "w"), self._vector(cast(Any, v), "v")
        # A series in 2ᵉ t, the powers of its direction being in range.
        exponent = _scaling.exponent(given)
        if abs(exponent) * order <= self._usual_exponent:
            exponent = 0
        exponent = min(exponent, int(_scaling.halvings(given[None])[0])) if exponent else 0
        line = np.ldexp(given, -exponent) if exponent else given

        def fill(batch: Batch, scale: float, out: FloatArray) -> float:
            return _core.mlp_taylor(self._net, w, *batch, scale, order, line, out)

        gradient = np.empty((order + 1, self._count), self._dtype)
        reduced = self._reduce(fill, gradient, x, y, sample_weight)
        if exponent:
            gradient = gradient.astype(np.float64, copy=False)
        self._add_ridge(gradient[0], w)
        if order > 0:
            self._add_ridge(gradient[1], line)
        loss = np.empty(order + 2)
        loss[0] = reduced.loss + self._penalty(w)
        # ∂ₜ L(w + t v) = ⟨∇L(w + t v), v⟩, coefficient by coefficient.
        loss[1:] = _scaling.dots(gradient, line) / np.arange(1, order + 2)
        if exponent:
            powers = exponent * np.arange(order + 2)
            with np.errstate(over="ignore", under="ignore"):
                loss = np.ldexp(loss, powers)
                gradient = np.ldexp(gradient, powers[:-1, None]).astype(self._dtype, copy=False)
        return TaylorSeries(loss, gradient)

    def third(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        u: npt.ArrayLike | None = None,
        v: npt.ArrayLike | None = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """The third derivative applied to two directions: T[u, v], the gradient of ⟨u, H v⟩ in w.

        Computed directly, by Taylor-mode differentiation in both directions at once.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`.
        u : (P,) array_like
        v : (P,) or (K, P) array_like

        Returns
        -------
        (P,) or (K, P) float array

        Examples
        --------
        >>> net = MLP((1, 1, 1), bias=False)
        >>> w, e = net.initial(seed=0), np.eye(2)
        >>> x, y = [[1.0]], [[0.0]]
        >>> bool(np.allclose(net.third(w, x, y, e[0], e[1]), net.third(w, x, y, e[1], e[0])))
        True
        """
        return self._multilinear(w, x, y, u, None, v, "v", sample_weight)

    def fourth(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        u: npt.ArrayLike | None = None,
        v: npt.ArrayLike | None = None,
        s: npt.ArrayLike | None = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """The fourth derivative applied to three directions: Q[u, v, s]; see `third`.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`.
        u, v : (P,) array_like
        s : (P,) or (K, P) array_like

        Returns
        -------
        (P,) or (K, P) float array
        """
        u, second = self._vector(cast(Any, u), "u"), self._vector(cast(Any, v), "v")
        return self._multilinear(w, x, y, u, second, s, "s", sample_weight)

    def _multilinear(
        self, w: Any, x: Any, y: Any, u: Any, second: Any, v: Any, name: str, weights: Any
    ) -> FloatArray:
        w, u = self._vector(w, "w"), self._vector(u, "u")
        v, single = self._rows(v, name)
        given = [u[None], v] if second is None else [u[None], v, second[None]]
        (first, v, *others), exponents = self._scaled(given)
        u, second = first[0], others[0][0] if others else None
        out = self._sum(
            np.empty_like(v),
            x,
            y,
            weights,
            lambda batch, scale, out: _core.mlp_multilinear(
                self._net, w, *batch, scale, u, second, v, out
            ),
        )
        if exponents is not None:
            with np.errstate(over="ignore", under="ignore"):
                out = np.ldexp(out, exponents[:, None])
        return out[0] if single else out

    # Solves ---------------------------------------------------------------------------------------

    def factorize(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        damping: float = 0.0,
        *,
        shift: complex | None = None,
        method: Literal["layered", "dense"] = "layered",
        form: Form = "automatic",
        sample_weight: npt.ArrayLike | None = None,
    ) -> Factorization:
        """H + damping factored for any number of solves; see `swiftnets.factorizations.factorize`.

        Examples
        --------
        >>> net = MLP((2, 3, 1))
        >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
        >>> net.factorize(w, x, y, damping=0.1).inertia
        Inertia(positive=9, negative=4, zero=0)
        """
        from swiftnets.factorizations import factorize

        return factorize(
            self,
            w,
            x,
            y,
            damping,
            shift=shift,
            method=method,
            form=form,
            sample_weight=sample_weight,
        )

    def solve(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        b: npt.ArrayLike | None = None,
        *,
        damping: float,
        method: Method = "auto",
        blocks: Literal["diagonal"] | None = None,
        preconditioner: Preconditioner = None,
        tolerance: float | None = None,
        iterations: int | None = None,
        time_limit: float | None = None,
        progress: bool = False,
        inertia: bool = False,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Solution:
        """Solve (H + damping) x = b; see `swiftnets.solvers.solve`.

        Examples
        --------
        >>> net = MLP((2, 3, 1))
        >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
        >>> net.solve(w, x, y, net.gradient(w, x, y), damping=0.1).success
        True
        """
        from swiftnets.solvers import solve

        return solve(
            self,
            w,
            x,
            y,
            b,
            damping=damping,
            method=method,
            blocks=blocks,
            preconditioner=preconditioner,
            tolerance=tolerance,
            iterations=iterations,
            time_limit=time_limit,
            progress=progress,
            inertia=inertia,
            sample_weight=sample_weight,
        )

    # SciPy ----------------------------------------------------------------------------------------

    def hessian_operator(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> Any:
        """The Hessian at w as a `scipy.sparse.linalg.LinearOperator`.

        Its products are those of `linearize`. Needs SciPy.
        """
        from swiftnets.operators import hessian_operator

        return hessian_operator(self, w, x, y, sample_weight=sample_weight)

    def gauss_newton_operator(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> Any:
        """The Gauss–Newton matrix at w as a `scipy.sparse.linalg.LinearOperator`."""
        from swiftnets.operators import gauss_newton_operator

        return gauss_newton_operator(self, w, x, y, sample_weight=sample_weight)

    def fisher_operator(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        *,
        kind: FisherKind = "exact",
        sample_weight: npt.ArrayLike | None = None,
    ) -> Any:
        """The Fisher matrix at w as a `scipy.sparse.linalg.LinearOperator`."""
        from swiftnets.operators import fisher_operator

        return fisher_operator(self, w, x, y, kind=kind, sample_weight=sample_weight)

    def as_scipy(
        self, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> ScipyProblem:
        """``fun``, ``jac``, ``hess`` and ``hessp`` as `scipy.optimize.minimize` takes them."""
        from swiftnets.operators import as_scipy

        return as_scipy(self, x, y, sample_weight=sample_weight)


class Linearization:
    """A net at one point on a set of samples; made by `MLP.linearize`.

    Attributes
    ----------
    loss : float
    gradient : (P,) float array
    """

    loss: float
    gradient: FloatArray

    def __init__(self, net: MLP, w: Any, x: Any, y: Any, sample_weight: Any) -> None:
        self._net = net
        w = net._vector(w, "w")
        self._kept: list[_core.Linearization] = []

        def fill(batch: Batch, scale: float, out: FloatArray) -> float:
            kept, loss = _core.linearize(net._net, w, *batch, scale, out)
            self._kept.append(kept)
            return loss

        self.gradient = np.empty(net.parameter_count, net.dtype)
        reduced = net._reduce(fill, self.gradient, x, y, sample_weight)
        self._factors, self._divisor = reduced.factors, reduced.divisor
        net._add_ridge(self.gradient, w)
        self.loss = reduced.loss + net._penalty(w)

    def hvp(self, v: npt.ArrayLike) -> FloatArray:
        """Hessian-vector products at this point, as `MLP.hvp`."""
        return self._product(_HESSIAN, v)

    def gauss_newton_product(self, v: npt.ArrayLike) -> FloatArray:
        """Gauss–Newton products at this point, as `MLP.gauss_newton_product`."""
        return self._product(_GAUSS_NEWTON, v)

    def fisher_product(self, v: npt.ArrayLike, *, kind: FisherKind = "exact") -> FloatArray:
        """Fisher products at this point, as `MLP.fisher_product`."""
        return self._product(self._net._fisher_kind(kind), v)

    def lanczos(
        self,
        starts: npt.ArrayLike,
        steps: int,
        *,
        matrix: Literal["hessian", "gauss_newton"] = "hessian",
    ) -> tuple[FloatArray, FloatArray]:
        """Tridiagonal matrices of Lanczos runs on the Hessian or the Gauss–Newton matrix here.

        The three-term recurrence alone, as quadrature for spectral densities wants it (Ubaru, Chen
        & Saad 2017): vectors are neither kept nor orthogonalised against those before the last
        two, so that copies of converged Ritz values appear. `swiftnets.lanczos.lanczos` keeps and
        orthogonalises them.

        Parameters
        ----------
        starts : (P,) or (K, P) array_like
            Not 0; they need not be normalised.
        steps : int
        matrix : {"hessian", "gauss_newton"}

        Returns
        -------
        diagonal : (steps,) or (K, steps) float array
        off_diagonal : (steps - 1,) or (K, steps - 1) float array
            Not negative. From where a run's space is invariant to rounding both are 0, which leaves
            the spectral measure of its start as it is.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above.
        FloatingPointError
            If a coefficient is not finite.

        Notes
        -----
        Costs `steps` products a run; runs go on side by side, one a thread, each in its thread's
        cache.

        Examples
        --------
        >>> net = MLP((2, 1), bias=False)
        >>> point = net.linearize([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> diagonal, off_diagonal = point.lanczos([1.0, 0.0], 2)
        >>> (np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)).round(12)
        array([[ 9., 12.],
               [12., 16.]])
        """
        net = self._net
        starts, single = net._rows(starts, "starts")
        steps = _checks.integer(steps, "steps")
        kind = _checks.choice(matrix, "matrix", ("hessian", "gauss_newton"))
        _checks.finite(starts, "starts")
        if not abs(starts).max(axis=1).all():
            raise ValueError("starts has a row that is 0; expected vectors with a direction")
        diagonal, off_diagonal = np.empty((2, len(starts), steps), net.dtype)
        if len(self._kept) == 1 and self._divisor == 1:
            _core.linearization_lanczos(self._kept[0], kind, net.l2, starts, diagonal, off_diagonal)
        else:
            for run, start in enumerate(starts):
                self._lanczos_run(kind, start, diagonal[run], off_diagonal[run])
        off_diagonal = off_diagonal[:, :-1].copy()
        return (diagonal[0], off_diagonal[0]) if single else (diagonal, off_diagonal)

    def _lanczos_run(
        self, kind: int, start: FloatArray, diagonal: FloatArray, off_diagonal: FloatArray
    ) -> None:
        """One run over several batches, as the engine does it over one."""
        q = start / abs(start).max()
        q /= np.linalg.norm(q)
        previous, beta, scale = np.zeros_like(q), 0.0, 0.0
        diagonal[:], off_diagonal[:] = 0, 0
        for step in range(len(diagonal)):
            image = self._product(kind, q) - beta * previous
            diagonal[step] = alpha = np.vdot(q, image)
            image -= alpha * q
            beta = _scaling.norm(image)
            scale = max(scale, abs(alpha), beta)
            if not math.isfinite(scale):
                raise FloatingPointError("a Lanczos coefficient is not finite")
            if beta <= len(q) * np.finfo(q.dtype).eps * scale:
                return
            off_diagonal[step] = beta
            e = _scaling.exponent(image)  # β need not be a number in float32
            previous, q = q, np.ldexp(image, -e) / q.dtype.type(math.ldexp(beta, -e))

    def _product(self, kind: int, v: Any) -> FloatArray:
        net = self._net
        v, single = net._rows(v, "v")
        out = np.empty_like(v)
        adder = _Adder(out)
        for kept, last, factor in zip(
            self._kept, [1.0, *self._factors], self._factors, strict=False
        ):
            _core.linearization_product(kept, kind, v, adder.place())
            adder.add(last / factor if factor else 1.0)
        adder.finish(self._divisor)
        net._add_ridge(out, v)
        return cast(FloatArray, out[0] if single else out)


class _Adder:
    """The sum of arrays that come one after the other; float32's are added up in float64."""

    def __init__(self, out: FloatArray) -> None:
        self._out = self._sum = out
        self._spare: FloatArray | None = None
        self._count = 0

    def place(self) -> FloatArray:
        """Where to put the next array."""
        if self._count == 0:
            return self._out
        if self._spare is None:
            self._spare = np.empty_like(self._out)
        return self._spare

    def add(self, shrink: float = 1.0) -> None:
        """Adds it to `shrink` times the sum so far."""
        self._count += 1
        if self._spare is None:
            return
        if self._count == 2:
            self._sum = self._out.astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            if shrink != 1:
                self._sum *= shrink
            self._sum += self._spare

    def finish(self, divisor: float) -> None:
        if divisor != 1:
            with np.errstate(over="ignore"):
                self._sum /= divisor
        if self._sum is not self._out:
            with np.errstate(over="ignore"):
                self._out[...] = self._sum


class _Reduced(NamedTuple):
    """What came for each batch; the sum of all, each times its factor, is to be divided."""

    parts: list[Any]
    factors: list[float]
    divisor: float

    @property
    def loss(self) -> float:
        """Where the parts are losses."""
        terms = [part * factor for part, factor in zip(self.parts, self.factors, strict=True)]
        try:
            return math.fsum(terms) / self.divisor
        except (OverflowError, ValueError):  # a sum, or inf - inf
            with np.errstate(over="ignore", invalid="ignore"):
                return float(np.sum(terms)) / self.divisor


def _sizes(value: Any) -> tuple[int, ...]:
    try:
        sizes = _checks.several(value, "sizes")
    except TypeError:
        raise TypeError(
            f"sizes is of type {type(value).__name__}; expected a sequence of widths"
        ) from None
    if isinstance(value, (str, bytes)) or len(sizes) < 2:
        raise ValueError(f"sizes is {value!r}; expected at least 2 widths, inputs and outputs")
    return tuple(
        _checks.integer(size, f"sizes[{index}]", 1, _LARGEST_SIZE)
        for index, size in enumerate(sizes)
    )


def _hidden(value: Any, count: int) -> tuple[Activation, ...]:
    if isinstance(value, (str, Activation)):
        return (activations.resolve(value, "activation"),) * count
    try:
        given = _checks.several(value, "activation")
    except TypeError:  # no sequence either: this says what it should be
        given = [activations.resolve(value, "activation")]
    if len(given) != count:
        raise ValueError(
            f"activation has {len(given)} entries; expected {count}, one for each hidden layer"
        )
    return tuple(
        activations.resolve(item, f"activation[{index}]") for index, item in enumerate(given)
    )


def _dtype(value: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):  # a name that is no text, too
        raise TypeError(f"dtype is {value!r}; expected float64 or float32") from None
    if dtype not in (np.float64, np.float32) or not dtype.isnative:
        raise ValueError(f"dtype is {dtype}; expected float64 or float32")
    return dtype


def _shown(value: Activation | Loss) -> str:
    return f"{value.name}({value.parameter!r})" if value.parameter else repr(value.name)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _orthonormal(normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Orthonormal rows or columns, whichever are fewer, uniformly distributed."""
    m, n = normal.shape
    q, r = aside(4.0 * m * n * min(m, n), np.linalg.qr, normal if m >= n else normal.T)
    q = q * np.sign(np.diag(r))
    return q if m >= n else np.ascontiguousarray(q.T)


def _check_out(out: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape:
        got = (
            f"a {out.dtype} array of shape {out.shape}"
            if isinstance(out, np.ndarray)
            else f"of type {type(out).__name__}"
        )
        raise ValueError(f"out is {got}; expected a {dtype} array of shape {shape}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out is not C-contiguous or not writable; expected an array that is both")
