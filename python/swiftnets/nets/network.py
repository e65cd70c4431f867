"""`Network`: what a net is, its parameters as one flat vector, its loss and its gradient.

It knows no curvature: that is asked of a point, see `swiftnets.MLP.at`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import buffers, checks
from swiftnets._support.internals import Internals
from swiftnets._support.types import FloatArray
from swiftnets.nets import initializers
from swiftnets.nets.activations import Activation
from swiftnets.nets.engine import Engine
from swiftnets.nets.initializers import Scheme
from swiftnets.nets.losses import Loss
from swiftnets.nets.samples import Batch, Samples

__all__ = ["Network"]


def __dir__() -> list[str]:
    return __all__


class Network(Internals, internal=("at_samples", "engine", "loss_and_gradient_on", "loss_on")):
    """A chain of dense layers with a loss; see `swiftnets.MLP`, which makes one.

    Parameters
    ----------
    sizes : tuple of int
        Widths: the inputs', each hidden layer's, the outputs'.
    activations : tuple of Activation
        One a layer.
    loss : Loss
    bias : bool
        Whether every layer has one.
    reduction : {"sum", "mean"}
    l2 : float
    dtype : float64 or float32

    Attributes
    ----------
    engine : swiftnets.nets.engine.Engine
        What computes; for the rooms above this one.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        activations: tuple[Activation, ...],
        loss: Loss,
        bias: bool,
        reduction: Literal["sum", "mean"],
        l2: float,
        dtype: np.dtype[Any],
    ) -> None:
        self._sizes, self._activations, self._loss = sizes, activations, loss
        self._bias, self._reduction, self._l2, self._dtype = bias, reduction, l2, dtype
        widths = zip(sizes, sizes[1:], strict=False)
        counts = [(fan_in + bias) * width for fan_in, width in widths]
        ends = np.cumsum([0, *counts], dtype=object)
        self._slices = tuple(slice(int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False))
        self._count = int(ends[-1])
        self.engine = Engine(self)

    # A net is its settings: copies, pickles and processes made by "spawn" build an engine again.

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "engine"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.engine = Engine(self)

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

    @property
    def layer_rows(self) -> tuple[int, ...]:
        """Rows of each layer's weights, the bias being one."""
        return tuple(fan_in + self._bias for fan_in in self._sizes[:-1])

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """The same net for arrays of another dtype.

        Parameters
        ----------
        dtype : float64 or float32

        Returns
        -------
        Network
            Of the same class; itself if that is its dtype.
        """
        found = checks.floating(dtype, "dtype")
        if found == self._dtype:
            return self
        other = copy.copy(self)
        other._dtype = found
        other.engine = Engine(other)
        return other

    def summing(self) -> Self:
        """The same net with ``reduction="sum"``."""
        other = copy.copy(self)
        other._reduction = "sum"
        other.engine = Engine(other)
        return other

    def settings(self) -> dict[str, object]:
        """What makes a net what it is, to the last bit.

        Returns
        -------
        dict of str to what JSON holds

        Examples
        --------
        >>> from swiftnets import MLP
        >>> from swiftnets.nets.losses import Huber
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
        >>> from swiftnets import MLP
        >>> MLP((3, 2), bias=False).initial(seed=0, scheme="orthogonal").shape
        (6,)
        """
        w = np.zeros(self._count, self._dtype)
        made = initializers.weights(self._sizes, seed, scheme)
        for part, weights in zip(self._slices, made, strict=True):
            w[part.start : part.start + weights.size] = weights.ravel()
        return w

    def unflatten(self, w: npt.ArrayLike) -> dict[str, FloatArray]:
        """Named views of a parameter vector.

        Parameters
        ----------
        w : (P,) array
            An array of the net's dtype is not copied: writing to a view changes it.

        Returns
        -------
        dict of str to array
            ``"w0"`` [in, out], ``"b0"`` [out], ``"w1"``, …

        Examples
        --------
        >>> from swiftnets import MLP
        >>> {name: view.shape for name, view in MLP((3, 2)).unflatten(np.zeros(8)).items()}
        {'w0': (3, 2), 'b0': (2,)}
        """
        flat = self.engine.vector(w, "w")
        views = {}
        for index, (part, m, n) in enumerate(
            zip(self._slices, self._sizes, self._sizes[1:], strict=False)
        ):
            views[f"w{index}"] = flat[part.start : part.start + m * n].reshape(m, n)
            if self._bias:
                views[f"b{index}"] = flat[part.start + m * n : part.stop]
        return views

    def flatten(self, arrays: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """The parameter vector of named arrays.

        Parameters
        ----------
        arrays : mapping of str to array_like
            As `unflatten` names them.

        Returns
        -------
        (P,) float array

        Raises
        ------
        TypeError
            If it is no mapping, or an array has numbers of another kind.
        ValueError
            If a name is missing or unknown, or an array has another shape.
        """
        w = np.zeros(self._count, self._dtype)
        views = self.unflatten(w)
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays is of type {type(arrays).__name__}; expected names and arrays")
        if set(arrays) != set(views):
            raise ValueError(
                f"arrays has the names {sorted(map(str, arrays))}; expected {sorted(views)}"
            )
        for name, view in views.items():
            view[...] = checks.array(arrays[name], name, view.shape, self._dtype)
        return w

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
        >>> from swiftnets import MLP
        >>> MLP((2, 1), bias=False).predict([1.0, 2.0], [[3.0, 4.0]])
        array([[11.]])
        """
        w, x = self.engine.vector(w, "w"), self.engine.reader.inputs(x)
        out = np.empty((len(x), self._sizes[-1]), self._dtype)
        _core.mlp_predict(self.engine.handle, w, x, None, None, None, 1.0, out)
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
        >>> from swiftnets import MLP
        >>> MLP((2, 1), bias=False).loss([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        0.5
        """
        w = self.engine.vector(w, "w")
        return self.loss_on(w, self.engine.reader.samples(x, y, sample_weight))

    def gradient(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> FloatArray:
        """The gradient of `loss`, by backpropagation.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`.

        Returns
        -------
        (P,) float array

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((2, 1), bias=False).gradient([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        array([3., 4.])
        """
        return self.loss_and_gradient(w, x, y, sample_weight=sample_weight)[1]

    def loss_and_gradient(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[float, FloatArray]:
        """`loss` and `gradient` in one pass.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`.

        Returns
        -------
        tuple of a float, and a (P,) float array
        """
        w = self.engine.vector(w, "w")
        return self.loss_and_gradient_on(w, self.engine.reader.samples(x, y, sample_weight))

    # The same on samples that are checked, for the rooms above

    def loss_on(self, w: FloatArray, samples: Samples) -> float:
        """The loss on samples that are checked.

        Parameters
        ----------
        w : (P,) float array
        samples : Samples

        Returns
        -------
        float
        """

        def fill(batch: Batch, scale: float, _: Any) -> float:
            return _core.mlp_loss(self.engine.handle, w, *batch, scale)

        return self.engine.reduce(fill, None, samples).loss + self.engine.penalty(w)

    def loss_and_gradient_on(self, w: FloatArray, samples: Samples) -> tuple[float, FloatArray]:
        """The loss and its gradient on samples that are checked.

        Parameters
        ----------
        w : (P,) float array
        samples : Samples

        Returns
        -------
        tuple of a float, and a (P,) float array
        """

        def fill(batch: Batch, scale: float, out: FloatArray) -> float:
            return _core.mlp_gradient(self.engine.handle, w, *batch, scale, out)

        out = buffers.take(self._count, self._dtype)
        loss = self.engine.reduce(fill, out, samples).loss
        self.engine.add_l2(out, w)
        return loss + self.engine.penalty(w), out


def _shown(value: Activation | Loss) -> str:
    return f"{value.name}({value.parameter!r})" if value.parameter else repr(value.name)
