"""`BaseNetwork`: what a net is, its parameters as one flat vector, its loss and its gradient.

It knows no curvature: that is asked of a point, see `swiftnets.Network.at`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import buffers, checks
from swiftnets._support.internals import Internals
from swiftnets._support.types import FloatArray
from swiftnets.nets import initializers, labels, losses
from swiftnets.nets.engine import Engine
from swiftnets.nets.graph import Graph, checked_input_shape, given_value, shortened
from swiftnets.nets.initializers import Scheme
from swiftnets.nets.layer import ArraySpec, Layer, Value
from swiftnets.nets.layers.residual import LayerLike, Residual, resolve
from swiftnets.nets.layers.sequences import Embedding
from swiftnets.nets.losses import Loss, LossLike
from swiftnets.nets.memory import MemoryPlan
from swiftnets.nets.samples import Batch, Samples
from swiftnets.nets.supports import EVERYWHERE, Support
from swiftnets.nets.table import ParameterTable, columns

__all__ = ["BaseNetwork"]


def __dir__() -> list[str]:
    return __all__


_INTERNAL = (
    "at_samples",
    "engine",
    "given",
    "is_chain",
    "loss_and_gradient_on",
    "loss_on",
    "make_handle",
    "multiplications",
    "name_for_torch",
    "unpenalized",
    "vocabulary",
)


class BaseNetwork(Internals, internal=_INTERNAL):
    """Layers with a loss, without shorthands for curvature; see `swiftnets.Network`.

    Parameters
    ----------
    layers : sequence of layers
    input_shape : int or tuple of int
    loss : str or Loss
    reduction : {"sum", "mean"}
    l2 : float
    dtype : float64 or float32
    classes : sequence of str, optional

    Attributes
    ----------
    engine : swiftnets.nets.engine.Engine
        What computes; for the rooms above this one.
    """

    _layers: tuple[Layer, ...]
    _input_shape: tuple[int, ...]
    # Of parameters, in the module that the net was made from.
    _torch_names: tuple[str, ...] | None = None

    def __init__(
        self,
        layers: Sequence[LayerLike],
        input_shape: int | Sequence[int],
        *,
        loss: LossLike = "squared_error",
        reduction: Literal["sum", "mean"] = "sum",
        l2: float = 0.0,
        dtype: npt.DTypeLike = np.float64,
        classes: Sequence[str] | None = None,
    ) -> None:
        self._layers = resolve(layers, "layers")
        if not self._layers:
            raise ValueError("layers is empty; expected at least one layer")
        self._input_shape = checked_input_shape(input_shape)
        self._set_loss(loss, reduction, l2, dtype, classes)
        self._join()

    def _set_loss(self, loss: Any, reduction: Any, l2: Any, dtype: Any, classes: Any) -> None:
        penalty = checks.nonnegative(l2, "l2")
        if str(reduction) == "none":
            raise ValueError(
                "reduction is 'none'; expected 'sum' or 'mean': a net's loss is one number (for "
                "the gradients of single samples see Point.per_sample_gradients)"
            )
        checks.choice(reduction, "reduction", ("sum", "mean"))
        self._loss = losses.resolve(loss, "loss")
        self._reduction, self._l2 = reduction, penalty
        self._dtype = checks.floating(dtype, "dtype")
        self._classes = labels.names(classes)

    def _join(self) -> None:
        """What follows from the layers."""
        self._joined = Graph(self._layers, given_value(self._layers, self._input_shape))
        self.engine = Engine(self)

    @property
    def _graph(self) -> Graph:
        return self._joined

    # A net is its settings: copies, pickles and processes made by "spawn" build an engine again.

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("engine", "_joined")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._join()

    def __repr__(self) -> str:
        shape = self._input_shape
        parts = [f"[{', '.join(map(repr, self._layers))}]"]
        parts += [f"input_shape={shape[0] if len(shape) == 1 else shape}"]
        return f"{type(self).__name__}({', '.join(parts + self._shown_loss())})"

    def _shown_loss(self) -> list[str]:
        loss = self._loss
        shown = f"Huber({loss.parameter!r})" if loss.parameter else repr(loss.name)
        shown = shown if loss.factor == 1 else repr(loss)
        parts = [f"loss={shown}", f"reduction={self._reduction!r}"]
        parts += [f"l2={self._l2}"] * (self._l2 != 0)
        parts += ["dtype='float32'"] * (self._dtype == np.float32)
        return parts + [f"classes={self._classes}"] * (self._classes is not None)

    def __str__(self) -> str:
        rows = [("", "layer", "makes", "parameters"), ("", "input", str(self.given.sizes), "")]
        counts = [slice_.stop - slice_.start for slice_ in self.layer_slices]
        for path, layer, sizes, has_parameters in self._lines():
            count = f"{counts.pop(0):,}" if has_parameters else "0"
            name = "Residual: the sum" if isinstance(layer, Residual) else shortened(layer, 50)
            rows.append((path, name, str(sizes), count))
        rows.append(("", "total", "", f"{self.parameter_count:,}"))
        return columns(rows, right=3)

    def _lines(self) -> list[tuple[str, Layer, tuple[int, ...], bool]]:
        """Path, layer, what it makes and whether it has parameters, one a line of the table."""
        return [(n.path, n.layer, n.output.sizes, bool(n.arrays)) for n in self._graph.nodes]

    # Settings -------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, one after the other."""
        return self._layers

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample: ``(n,)``, ``(C, H, W)``, ``(T, d)``, or ``(T,)`` tokens."""
        return self.given.sizes

    @property
    def given(self) -> Value:
        """The input."""
        return self._graph.input

    @property
    def outputs(self) -> int:
        """How many outputs."""
        return self._graph.output.size

    @property
    def loss_function(self) -> Loss:
        """The loss of one sample."""
        return self._loss

    @property
    def reduction(self) -> str:
        """``"sum"`` or ``"mean"``."""
        result: str = self._reduction
        return result

    @property
    def l2(self) -> float:
        """The loss has ½ l2 ‖w‖² in it."""
        return self._l2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all arrays."""
        return self._dtype

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Their names, if they have any."""
        return self._classes

    @property
    def parameter_count(self) -> int:
        """P, the length of the parameter vector."""
        return self._graph.count

    @property
    def layer_slices(self) -> tuple[slice, ...]:
        """Where the parameters of each layer that has any are in the vector."""
        return self._graph.slices

    @property
    def parameter_table(self) -> ParameterTable:
        """Where each array of parameters is in the vector, and its name in PyTorch.

        Examples
        --------
        >>> from swiftnets import Network
        >>> from swiftnets.nets import Conv2d, Flatten
        >>> print(Network([Conv2d(1, 2, 3), Flatten()], input_shape=(1, 4, 4)).parameter_table)
        name      layer  shape         slice  layout ...
        0.weight  0      (3, 3, 1, 2)  0:18   kernel height, kernel width, in / groups, out ...
        0.bias    0      (2,)          18:20  out ...
        """
        table, names = self._graph.table, self._torch_names
        return table if names is None else table.named(names)

    def name_for_torch(self, names: Sequence[str]) -> None:
        """Keeps the names of the module that the net was made from.

        Parameters
        ----------
        names : sequence of str
            One for each row of the table.
        """
        self._torch_names = tuple(names)

    @property
    def supports(self) -> frozenset[Support]:
        """What the net offers; what is missing needs an `MLP`.

        Examples
        --------
        >>> from swiftnets import MLP, Network
        >>> from swiftnets.nets import Dense
        >>> net = Network([Dense(2, 1)], input_shape=2)
        >>> sorted(MLP((2, 1)).supports - net.supports)
        ['kronecker', 'layer_states', 'layered_solve', 'structural_hessian']
        """
        return EVERYWHERE

    @property
    def vocabulary(self) -> int:
        """Tokens are below it; 0 where the input is another."""
        layers = (node.layer for node in self._graph.nodes)
        return min((one.num_embeddings for one in layers if isinstance(one, Embedding)), default=0)

    @property
    def multiplications(self) -> int:
        """Multiplications of a forward pass over one sample, in products of matrices."""
        return self._graph.multiplications

    @property
    def is_chain(self) -> bool:
        """Whether the engine has it as a chain of dense layers."""
        return self._graph.dense_chain is not None

    def make_handle(self) -> _core.Mlp:
        """The engine's net.

        Returns
        -------
        swiftnets._core.Mlp
        """
        self._graph.require_range(self._dtype)
        # Passes of a chain of dense layers are quicker.
        return (self._graph.dense_chain or self._graph).handle(self._dtype, self._loss)

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

    def summing(self, l2: float | None = None) -> Self:
        """The same net with ``reduction="sum"``, and with another l2 where one is given."""
        return self._reduced("sum", self._l2 if l2 is None else l2)

    def unpenalized(self) -> Self:
        """The same net with ``l2=0``; itself if that is its own."""
        return self._reduced(self._reduction, 0.0) if self._l2 else self

    def _reduced(self, reduction: Literal["sum", "mean"], l2: float) -> Self:
        other = copy.copy(self)
        other._reduction, other._l2 = reduction, l2
        other.engine = Engine(other)
        return other

    def settings(self) -> dict[str, object]:
        """What makes a net what it is, to the last bit.

        Returns
        -------
        dict of str to what JSON holds

        Examples
        --------
        >>> from swiftnets import Network
        >>> from swiftnets.nets import Dense
        >>> Network([Dense(2, 1)], input_shape=2, loss="huber").settings()["loss"]
        ['huber', 1.0]
        """
        return {
            "layers": [layer.settings() for layer in self._layers],
            "input_shape": list(self._input_shape),
            **self._loss_settings(),
        }

    def _loss_settings(self) -> dict[str, object]:
        loss = self._loss
        return {
            "loss": [loss.name, loss.parameter, *[loss.factor] * (loss.factor != 1)],
            "reduction": self._reduction,
            "l2": self._l2,
            "dtype": self._dtype.name,
            **({} if self._classes is None else {"classes": list(self._classes)}),
        }

    def memory_plan(self, samples: int) -> MemoryPlan:
        """What calls on so many samples will take, told before any work.

        Parameters
        ----------
        samples : int

        Returns
        -------
        MemoryPlan
            Bytes beside those of the arguments and results: what a point keeps of its passes for
            products, and what a call works in on the threads in force. The samples go through in
            chunks, so that the second does not grow with their number.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> plan = MLP((784, 256, 10)).memory_plan(60_000)
        >>> plan.working < 100e6 < plan.point
        True
        """
        count = checks.integer(samples, "samples", 1, 2**31 - 1)
        return MemoryPlan(*_core.mlp_memory(self.engine.handle, count))

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
            the original scripts, normal divided by m + n, from NumPy's legacy generator. Of a
            convolution m and n are numbers of channels (m of one group) times the kernel's size, as
            PyTorch counts them. Norms begin with factors of 1, embeddings with normal numbers.

        Returns
        -------
        (P,) float array

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((3, 2), bias=False).initial(seed=0, scheme="orthogonal").shape
        (6,)
        """
        w, start = np.zeros(self.parameter_count, self._dtype), 0
        for values in initializers.arrays(self._arrays(), seed, scheme):
            w[start : start + values.size] = values.ravel()
            start += values.size
        return w

    def _arrays(self) -> list[ArraySpec]:
        return [array for node in self._graph.nodes for array in node.arrays]

    def unflatten(self, w: npt.ArrayLike) -> dict[str, FloatArray]:
        """Named views of a parameter vector.

        Parameters
        ----------
        w : (P,) array
            An array of the net's dtype is not copied: writing to a view changes it.

        Returns
        -------
        dict of str to array
            By the names of `parameter_table`; an MLP's are ``"w0"`` [in, out], ``"b0"`` [out],
            ``"w1"``, …

        Examples
        --------
        >>> from swiftnets import MLP
        >>> {name: view.shape for name, view in MLP((3, 2)).unflatten(np.zeros(8)).items()}
        {'w0': (3, 2), 'b0': (2,)}
        """
        flat = self.engine.vector(w, "w")
        return {row.name: flat[row.slice].reshape(row.shape) for row in self.parameter_table}

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
        w = np.zeros(self.parameter_count, self._dtype)
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
        x : (N, …) array_like
            Each sample of the shape ``input_shape``.

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
        out = np.empty((len(x), self.outputs), self._dtype)
        _core.mlp_predict(self.engine.handle, w, x, None, None, None, 1.0, out)
        return out

    def loss(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> float:
        """The loss.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, …) array_like, or an iterable of batches
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

        out = buffers.take(self.parameter_count, self._dtype)
        loss = self.engine.reduce(fill, out, samples).loss
        self.engine.add_l2(out, w)
        return loss + self.engine.penalty(w), out
