"""`Network`: a net of any layers, and every exact derivative of its loss to fourth order.

Conventions: the parameter vector is flat; `Network.parameter_table` says where each array is.
Samples are rows: images (N, C, H, W), sequences (N, T, d), tokens (N, T) integers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy.typing as npt

from swiftnets import solve
from swiftnets._support.types import FloatArray
from swiftnets.curvature.kinds import Kind
from swiftnets.curvature.matrix import Block, CurvatureMatrix, Stream, streamed_products
from swiftnets.curvature.point import Point
from swiftnets.nets.losses import LossLike
from swiftnets.nets.samples import Samples
from swiftnets.nets.saved import StoredNetwork

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

__all__ = ["Network"]


def __dir__() -> list[str]:
    return __all__


class Network(StoredNetwork):
    """A net of layers one after the other, with exact derivatives.

    Parameters
    ----------
    layers : sequence of layers
        Of `swiftnets.nets`, activations among them, or names of activations: ``"tanh"``. The last
        one makes a vector.
    input_shape : int or tuple of int
        Of one sample: n or ``(n,)``, an image ``(C, H, W)``, a sequence ``(T, d)``, or where the
        first layer is an `Embedding` the number of tokens ``(T,)``.
    loss : str or Loss
        ``"squared_error"`` (½ the sum of squares), ``"softmax_cross_entropy"``,
        ``"binary_cross_entropy"``, ``"huber"``; see `swiftnets.nets.losses`.
    reduction : {"sum", "mean"}
        The loss is Σ sₙ lossₙ over samples, with ``sample_weight`` s (ones by default), or that
        divided by Σ sₙ.
    l2 : float
        Adds ½ l2 ‖w‖², over all parameters, once and not reduced.
    dtype : float64 or float32
    classes : sequence of str, optional
        The names of a cross-entropy's classes, where labels are text; see `MLP`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or a layer does not take what comes; the message says which
        layer, what came and what it takes.

    Notes
    -----
    What is asked of a net at parameters w on samples is asked of the point ``net.at(w, x, y)``; the
    net itself has shorthands for what is typed most. `MLP` is the chain of dense layers, which
    offers more: ``net.supports`` says what. Samples are taken as `MLP` has it, each of the
    ``input_shape``; tokens are integers below the embedding's number of rows.

    A net is its settings and does not change. Nets of one class with the same settings are equal
    and have the same hash; names that arrays have in PyTorch do not count. Functions of a
    `CustomActivation` cannot be compared: they count as the same if they are the same objects.

    ``print(net)`` shows layers, what they make and how many parameters they have.

    Examples
    --------
    >>> from swiftnets.nets import AvgPool2d, Conv2d, Dense, Flatten
    >>> layers = [Conv2d(1, 4, 3), "tanh", AvgPool2d(2), Flatten(), Dense(36, 3)]
    >>> net = Network(layers, input_shape=(1, 8, 8), loss="softmax_cross_entropy")
    >>> print(net)
       layer            makes      parameters
       input            (1, 8, 8)
    0  Conv2d(1, 4, 3)  (4, 6, 6)          40
    1  Tanh()           (4, 6, 6)           0
    2  AvgPool2d(2)     (4, 3, 3)           0
    3  Flatten()        (36,)               0
    4  Dense(36, 3)     (3,)              111
       total                              151
    """

    def at(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> Point:
        """The net at parameters w on samples: what every derivative is asked of.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, …) array_like, or an iterable of batches
            Each sample of the shape ``input_shape``.
        y : (N, outputs) array_like or (N,) labels, optional
            Not with batches, which have their own. Without targets the point has outputs and their
            Jacobian alone, and x is one array.
        sample_weight : (N,) array_like, optional
            Not negative.

        Returns
        -------
        Point
            With copies of all arrays: they may change afterwards.

        Raises
        ------
        TypeError, ValueError
            If a shape or dtype disagrees; the message names the argument.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> point = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> point.loss, point.hessian @ [1.0, 0.0]
        (0.5, array([ 9., 12.]))
        """
        return self._point(w, x, y, sample_weight, copy=True)

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

        Nothing is kept: for many products at one point take ``net.at(w, x, y).hessian @ v``.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `at`; with batches in place of x, give ``y=None``.
        v : (P,) or (K, P) array_like
            One direction, or K of them as rows: many at once share the forward pass, and threads
            take whole directions.

        Returns
        -------
        (P,) or (K, P) float array
            Shaped like v. One costs about two gradients.

        Raises
        ------
        TypeError
            If an argument is missing or of another kind; the message names it.
        ValueError
            If a shape disagrees.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((2, 1), bias=False)
        >>> net.hvp([1.0, 2.0], [[3.0, 4.0]], [[10.0]], [1.0, 0.0])
        array([ 9., 12.])
        """
        engine = self.engine
        w = engine.vector(w, "w")
        if v is None:
            raise TypeError(
                f"v is missing; expected a vector ({engine.count},) after x and y (with batches in "
                "place of x, give y=None, or vectors by their names)"
            )
        rows, single = engine.rows(v, "v")
        samples = engine.reader.samples(x, y, sample_weight)
        out = streamed_products(engine, Kind.HESSIAN, w, samples, rows)
        return cast(FloatArray, out[0] if single else out)

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
        """The dense Hessian of the loss: `CurvatureMatrix.dense` of the point's Hessian.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `at`.
        block : (i, j) or "diagonal", optional
        out : (P, P) array, optional

        Returns
        -------
        (P, P) array, one block, or a list of blocks

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((2, 1), bias=False).hessian([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        array([[ 9., 12.],
               [12., 16.]])
        """
        if y is not None or isinstance(block, str):
            return self._point(w, x, y, sample_weight).hessian.dense(block, out)
        # One sum, over batches that come one by one and are not kept.
        vector = self.engine.vector(w, "w")
        stream = Stream(self, vector, self.engine.reader.samples(x, None, sample_weight))
        return CurvatureMatrix(cast(Any, stream), Kind.HESSIAN).dense(block, out)

    def solve(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        b: npt.ArrayLike | None = None,
        *,
        damping: float,
        sample_weight: npt.ArrayLike | None = None,
        **options: Any,
    ) -> solve.Solution:
        """Solve (H + damping) x = b: `CurvatureMatrix.solve` of the point's Hessian.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `at`.
        b : (P,) or (K, P) array_like
        damping : float
        **options
            As `CurvatureMatrix.solve` takes them.

        Returns
        -------
        Solution

        Examples
        --------
        >>> import numpy as np
        >>> from swiftnets import MLP
        >>> net = MLP((2, 3, 1))
        >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
        >>> net.solve(w, x, y, net.gradient(w, x, y), damping=0.1).success
        True
        """
        point = self._point(w, x, y, sample_weight)
        return point.hessian.solve(cast(Any, b), damping=damping, **options)

    # Other libraries, imported by the first call -------------------------------------------------

    @classmethod
    def from_torch(
        cls,
        module: nn.Module,
        example: Any,
        *,
        loss: LossLike | nn.Module = "squared_error",
        reduction: Literal["sum", "mean"] | None = None,
        l2: float = 0.0,
        dtype: npt.DTypeLike | None = None,
    ) -> tuple[Network, FloatArray]:
        """A net and its parameters from a PyTorch module.

        Parameters
        ----------
        module : torch.nn.Module
            A Sequential, or a class of your own whose forward `torch.fx` can follow, of Linear,
            Conv2d, AvgPool2d, MaxPool2d, AdaptiveAvgPool2d(1), Flatten, LayerNorm, GroupNorm,
            BatchNorm1d and BatchNorm2d in evaluation, Embedding, MultiheadAttention,
            TransformerEncoderLayer, the activations that there are here, and the same as functions;
            sums that are residuals, means over H and W or positions, and learned position
            embeddings. Dropout in evaluation and Identity are left out.
        example : (N, …) array_like or tensor
            Inputs that the module takes, samples first; integers (N, T) are tokens. Only their
            shape stays.
        loss : str, Loss, or a PyTorch loss
            Of PyTorch's: ``CrossEntropyLoss``, ``BCEWithLogitsLoss``, ``MSELoss``, ``HuberLoss``,
            ``SmoothL1Loss``, with reduction "sum" or "mean"; see `swiftnets.interop.from_torch`.
        reduction : {"sum", "mean"}, optional
            A PyTorch loss's own, or else "sum".
        l2 : float
        dtype : float64 or float32, optional
            The module's.

        Returns
        -------
        net : Network
            ``net.parameter_table`` has the module's names of the parameters.
        w : (P,) float array
            A copy of its parameters, in the net's order and layouts.

        Raises
        ------
        TypeError
            If an argument or a part of the module is of a kind that a net has not.
        ValueError
            Naming the node, the module and what is supported; or if the outputs on the example or
            on random inputs differ by more than 1e-12 of the largest, with the figures.

        Notes
        -----
        Refused are parameters that are shared or unused, hooks, dilation, ``ceil_mode``, other
        adaptive pools, masks, layers that feed back, batch norms in training, and sums of paths
        that have more in common than where they part. Outputs are compared in float64, in a copy.

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3))
        >>> net, w = Network.from_torch(model, torch.zeros(1, 1, 8, 8))
        >>> net.layers, net.parameter_table[2].torch_name
        ((Conv2d(1, 4, 3), Tanh(), Flatten(), Dense(144, 3)), '3.weight')
        """
        from swiftnets.interop import from_torch

        if example is None:
            raise TypeError("example is None; expected inputs that the module takes")
        return from_torch(module, example, loss=loss, reduction=reduction, l2=l2, dtype=dtype)

    def to_torch(self, w: npt.ArrayLike) -> nn.Sequential:
        """A PyTorch module with the net's parameters; it owns copies of them.

        Parameters
        ----------
        w : (P,) array_like
            Finite.

        Returns
        -------
        torch.nn.Sequential
            In evaluation, in the net's dtype; see `swiftnets.interop.to_torch`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above, or the outputs differ.

        Examples
        --------
        >>> from swiftnets.nets import Conv2d, Flatten
        >>> net = Network([Conv2d(1, 2, 3), "relu", Flatten()], input_shape=(1, 4, 4))
        >>> net.to_torch(net.initial(seed=0))
        Sequential(
          (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))
          (1): ReLU()
          (2): Flatten(start_dim=1, end_dim=-1)
        )
        """
        from swiftnets.interop import to_torch

        return to_torch(self, w)

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
    ) -> tuple[Network, FloatArray]:
        """A net and its parameters from an ONNX model.

        Parameters
        ----------
        model : onnx.ModelProto or path
            Of one input and one output, for inference, of the operators Conv, Gemm, MatMul, Add,
            AveragePool, MaxPool, GlobalAveragePool, ReduceMean, Flatten, Reshape that flattens,
            BatchNormalization, InstanceNormalization, GroupNormalization, LayerNormalization,
            Gather of rows for tokens, and activations.
        input_shape : int or tuple of int, optional
            Of one sample; needed where the model leaves it open.
        loss : str or Loss
        reduction : {"sum", "mean"}
        l2 : float
        dtype : float64 or float32, optional
            The model's.

        Returns
        -------
        net : Network
            ``net.parameter_table`` has the names of the initializers.
        w : (P,) float array
            In the net's order and layouts.

        Raises
        ------
        TypeError, ValueError
            Naming the node and what is supported; or if the outputs differ from those of ONNX's
            reference evaluator on random inputs, with the figures.

        Examples
        --------
        >>> import onnx
        >>> graph = onnx.parser.parse_graph('''
        ...     net (float[N, 1, 3, 3] x) => (float[N, 1] y)
        ...     <float[1, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}> { h = Conv (x, w)
        ...                                                           y = Flatten (h) }''')
        >>> net, w = Network.from_onnx(onnx.helper.make_model(graph))
        >>> net.layers
        (Conv2d(1, 1, 3, bias=False), Flatten())
        """
        from swiftnets.interop import from_onnx

        return from_onnx(
            model, input_shape=input_shape, loss=loss, reduction=reduction, l2=l2, dtype=dtype
        )

    @classmethod
    def kind(cls, is_chain: bool) -> type[Network]:
        """The class of a net that is read from a file.

        Parameters
        ----------
        is_chain : bool
            Whether it was an `MLP`.

        Returns
        -------
        type
        """
        from swiftnets.mlp import MLP

        return MLP if is_chain else Network

    # For the rooms above -------------------------------------------------------------------------

    def at_samples(self, w: npt.ArrayLike, samples: Samples) -> Point:
        """As `at`, on samples that are checked and nobody else's: for the rooms above.

        Parameters
        ----------
        w : (P,) array_like
        samples : Samples

        Returns
        -------
        Point
        """
        vector = self.engine.vector(w, "w").copy()
        vector.flags.writeable = False
        return Point(self, vector, samples, solve)

    def _point(self, w: Any, x: Any, y: Any, sample_weight: Any, copy: bool = False) -> Point:
        vector = self.engine.vector(w, "w")
        if copy:
            vector = vector.copy()
            vector.flags.writeable = False
        reader = self.engine.reader
        if y is None and reader.is_inputs(x):
            samples = reader.inputs_alone(x, sample_weight, copy=copy)
        else:
            samples = reader.kept(x, y, sample_weight, copy=copy, whole=True)
        return Point(self, vector, samples, solve)


def require_net(net: object) -> Network:
    """A TypeError if it is no net."""
    if not isinstance(net, Network):
        raise TypeError(f"net is of type {type(net).__name__}; expected an MLP or a Network")
    return net
