"""`MLP`: a net of dense layers, and every exact derivative of its loss to fourth order.

The parameters are one flat vector: layer by layer, weights ``[in, out]`` row by row, then the bias
``[out]`` if there is one. Samples are rows. What the methods compute is in ``docs/mlp.md``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.nets import activations
from swiftnets.nets.activations import Activation, ActivationLike
from swiftnets.nets.custom import CustomActivation
from swiftnets.nets.engine import Engine
from swiftnets.nets.graph import Chain, Graph
from swiftnets.nets.layer import Layer, Value
from swiftnets.nets.layers import Dense
from swiftnets.nets.losses import LossLike
from swiftnets.nets.supports import DENSE_ONLY, Support
from swiftnets.nets.table import ParameterTable
from swiftnets.network import Network

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

__all__ = ["MLP"]


def __dir__() -> list[str]:
    return __all__


_LARGEST_SIZE = 2**31 - 1


class MLP(Network):
    """A multilayer perceptron with exact derivatives.

    Parameters
    ----------
    sizes : sequence of int
        Widths: the inputs', each hidden layer's, the outputs'.
    activation : str, Activation, or a sequence of them
        Of the hidden layers, one for all or one each; see `swiftnets.nets.activations`.
    output_activation : str or Activation
        Of the outputs. The cross-entropies take logits: leave it ``"identity"``.
    loss : str or Loss
        ``"squared_error"`` (½ the sum of squares), ``"softmax_cross_entropy"``,
        ``"binary_cross_entropy"``, ``"huber"``; see `swiftnets.nets.losses`.
    bias : bool
        Whether every layer has one.
    reduction : {"sum", "mean"}
        The loss is Σ sₙ lossₙ over samples, with ``sample_weight`` s (ones by default), or that
        divided by Σ sₙ.
    l2 : float
        Adds ½ l2 ‖w‖², over all parameters, once and not reduced.
    dtype : float64 or float32
    classes : sequence of str, optional
        The names of a cross-entropy's classes, where labels are text: one for each output, or for
        the binary one of one output what 0 and 1 stand for. `predict_classes` returns them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.

    Notes
    -----
    What is asked of a net at parameters w on samples is asked of the point ``net.at(w, x, y)``; the
    net itself has shorthands for what is typed most. The inputs are x (N, inputs) and the targets
    y: (N, outputs) rows, (N,) where there is one output, or for the softmax cross-entropy (N,)
    labels: integers, truth values where there are two classes, or the text of `classes`, without
    which text is refused: which class is which must not depend on what one y has. In place of x and
    y, sums over samples take one iterable of batches ``(x, y)`` or ``(x, y, sample_weight)`` (a
    list, a PyTorch DataLoader; one that refills one buffer will do). Anything that makes an array
    is taken: PyTorch's tensors, of which gradients are not recorded, and JAX's arrays, too, are
    read where they are, if they are of the net's dtype and contiguous; half precision, bfloat16 as
    well, is widened. Values that are not finite propagate as in NumPy, but for samples of weight 0:
    those are left out, whatever is in them. A label of theirs need not be a class, as in padding;
    it counts as 0 where samples are not weighted, as in `Point.per_sample_gradients`.

    Working memory does not grow with the number of samples: they are taken in chunks of at most
    4 MB of activations (32 samples where a net is wider than that), and a few such for each thread.
    One net may be used by several threads at once. Nets are equal as `Network` says.

    Examples
    --------
    >>> net = MLP((2, 3, 1), activation="tanh")
    >>> net == MLP((2, 3, 1)), net == MLP((2, 3, 1), l2=0.1)
    (True, False)
    >>> w = net.initial(seed=0)
    >>> x, y = np.eye(2), np.ones((2, 1))
    >>> point = net.at(w, x, y)
    >>> bool(np.allclose(point.hessian.dense() @ w, point.hessian @ w))
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
        classes: Sequence[str] | None = None,
    ) -> None:
        self._sizes = _sizes(sizes)
        self._bias = checks.flag(bias, "bias")
        hidden = _hidden(activation, len(self._sizes) - 2)
        last = activations.resolve(output_activation, "output_activation")
        self._activations = (*hidden, last)
        self._set_loss(loss, reduction, l2, dtype, classes)
        self._join()

    def _join(self) -> None:
        widths = zip(self._sizes, self._sizes[1:], strict=False)
        counts = [(fan_in + self._bias) * width for fan_in, width in widths]
        ends = np.cumsum([0, *counts], dtype=object)
        self._slices = tuple(slice(int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False))
        self._count = int(ends[-1])
        self.engine = Engine(self)

    @property
    def _graph(self) -> Graph:
        return Graph(self.layers, self.given)

    def __repr__(self) -> str:
        several = [_shown(one) for one in self._activations[:-1]]
        hidden = several[0] if len(set(several)) == 1 else f"[{', '.join(several)}]"
        parts = [str(self._sizes)] + [f"activation={hidden}"] * (self.depth > 1)
        parts += [f"output_activation={_shown(self._activations[-1])}"]
        parts += ["bias=False"] * (not self._bias)
        return f"MLP({', '.join(parts + self._shown_loss())})"

    @classmethod
    def from_torch(
        cls,
        module: nn.Module,
        example: Any = None,
        *,
        loss: LossLike | nn.Module = "squared_error",
        reduction: Literal["sum", "mean"] | None = None,
        l2: float = 0.0,
        dtype: npt.DTypeLike | None = None,
    ) -> tuple[MLP, FloatArray]:
        """A net and its parameters from a PyTorch module that is a chain of Linear layers.

        Parameters
        ----------
        module : torch.nn.Module
            See `swiftnets.interop.from_torch`.
        example : optional
            Not needed: the layers say what they take.
        loss : str, Loss, or a PyTorch loss
        reduction : {"sum", "mean"}, optional
        l2 : float
        dtype : float64 or float32, optional

        Returns
        -------
        net : MLP
        w : (P,) float array

        Examples
        --------
        >>> from torch import nn
        >>> MLP.from_torch(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))[0].sizes
        (3, 4, 2)
        """
        from swiftnets.interop import from_torch

        return from_torch(module, loss=loss, reduction=reduction, l2=l2, dtype=dtype)

    @classmethod
    def from_onnx(
        cls,
        model: ModelProto | str | os.PathLike[str],
        *,
        input_shape: int | Sequence[int] | None = None,
        loss: LossLike = "squared_error",
        reduction: Literal["sum", "mean"] = "sum",
        l2: float = 0.0,
        dtype: npt.DTypeLike | None = None,
    ) -> tuple[MLP, FloatArray]:
        """A net and its parameters from an ONNX model that is a chain of dense layers.

        Parameters
        ----------
        model : onnx.ModelProto or path
            Of Gemm, or MatMul and Add, with one of the known activations or none after each;
            BatchNormalization is folded into the layer before or behind it, whose bias it may make.
            Flattening before the first is left out: the net takes vectors.
        input_shape : int or tuple of int, optional
            Of one sample as the model takes it; needed where the model leaves it open.
        loss : str or Loss
        reduction : {"sum", "mean"}
        l2 : float
        dtype : float64 or float32, optional
            The model's.

        Returns
        -------
        net : MLP
        w : (P,) float array

        Raises
        ------
        TypeError, ValueError
            As `Network.from_onnx`, which has layers of all kinds; and for what is no such chain.

        Examples
        --------
        >>> import onnx
        >>> graph = onnx.parser.parse_graph('''
        ...     net (float[N, 2] x) => (float[N, 1] y)
        ...     <float[2, 1] w = {3, 4}, float[1] b = {5}> { h = MatMul (x, w)
        ...                                                  a = Add (h, b)
        ...                                                  y = Tanh (a) }''')
        >>> net, w = MLP.from_onnx(onnx.helper.make_model(graph))
        >>> net.sizes, net.activations, w
        ((2, 1), (Tanh(),), array([3., 4., 5.], dtype=float32))
        """
        from swiftnets.interop import from_onnx

        return from_onnx(
            model,
            chain=True,
            input_shape=input_shape,
            loss=loss,
            reduction=reduction,
            l2=l2,
            dtype=dtype,
        )

    # Settings

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths: the inputs', each hidden layer's, the outputs'."""
        return self._sizes

    @property
    def depth(self) -> int:
        """Layers, an activation being part of its layer."""
        return len(self._sizes) - 1

    @property
    def activations(self) -> tuple[Activation, ...]:
        """One a layer, the outputs' last."""
        return self._activations

    @property
    def bias(self) -> bool:
        """Whether every layer has one."""
        return self._bias

    @property
    def layer_rows(self) -> tuple[int, ...]:
        """Rows of each layer's weights, the bias being one."""
        return tuple(fan_in + self._bias for fan_in in self._sizes[:-1])

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Dense layers and their activations, where these are not the identity."""
        layers: list[Layer] = []
        widths = zip(self._sizes, self._sizes[1:], strict=False)
        for (m, n), activation in zip(widths, self._activations, strict=True):
            layers += [Dense(m, n, self._bias), *[activation] * (activation.name != "identity")]
        return tuple(layers)

    @property
    def given(self) -> Value:
        return Value("vector", self._sizes[:1])

    @property
    def outputs(self) -> int:
        return self._sizes[-1]

    @property
    def vocabulary(self) -> int:
        return 0

    @property
    def parameter_count(self) -> int:
        return self._count

    @property
    def layer_slices(self) -> tuple[slice, ...]:
        return self._slices

    @property
    def parameter_table(self) -> ParameterTable:
        names = {"weight": "w", "bias": "b"}
        table = ParameterTable(
            replace(row, name=f"{names[row.name.partition('.')[2]]}{row.layer}")
            for row in self._graph.table
        )
        return table if self._torch_names is None else table.named(self._torch_names)

    @property
    def supports(self) -> frozenset[Support]:
        return super().supports | DENSE_ONLY

    @property
    def multiplications(self) -> int:
        return sum(m * n for m, n in zip(self._sizes, self._sizes[1:], strict=False))

    @property
    def is_chain(self) -> bool:
        return True

    def make_handle(self) -> _core.Mlp:
        chain = Chain(self._sizes, self._activations, int(self._bias))
        return chain.handle(self._dtype, self._loss)

    def settings(self) -> dict[str, object]:
        """What makes a net what it is, to the last bit.

        Returns
        -------
        dict of str to what JSON holds

        Examples
        --------
        >>> from swiftnets.nets.losses import Huber
        >>> MLP((2, 1), loss=Huber(0.7)).settings()["loss"]
        ['huber', 0.7]
        """
        loss = self._loss_settings()
        return {
            "sizes": list(self._sizes),
            "activations": [one.key for one in self._activations],
            "loss": loss.pop("loss"),
            "bias": self._bias,
            **loss,
        }


def _sizes(value: Any) -> tuple[int, ...]:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        sizes = checks.several(value, "sizes")
    except TypeError:
        raise TypeError(
            f"sizes is of type {type(value).__name__}; expected a sequence of widths"
        ) from None
    if len(sizes) < 2:
        raise ValueError(f"sizes is {value!r}; expected at least 2 widths, inputs and outputs")
    return tuple(
        checks.integer(size, f"sizes[{index}]", 1, _LARGEST_SIZE)
        for index, size in enumerate(sizes)
    )


def _hidden(value: Any, count: int) -> tuple[Activation, ...]:
    if isinstance(value, (str, Activation)):
        return (activations.resolve(value, "activation"),) * count
    try:
        given = checks.several(value, "activation")
    except TypeError:  # no sequence either: this says what it should be
        given = [activations.resolve(value, "activation")]
    if len(given) != count:
        raise ValueError(
            f"activation has {len(given)} entries; expected {count}, one for each hidden layer"
        )
    return tuple(
        activations.resolve(item, f"activation[{index}]") for index, item in enumerate(given)
    )


def _shown(value: Activation) -> str:
    """As it can be given: by name where that says all."""
    if isinstance(value, CustomActivation):
        return repr(value)
    is_default = activations.resolve(value.name, "name") == value
    return repr(value.name) if is_default else repr(value)
