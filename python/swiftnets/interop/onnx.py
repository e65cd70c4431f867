"""Nets from ONNX models: graphs of the layers that there are here, for inference.

Outputs are compared with those of ONNX's reference evaluator. The package `onnx` is imported by the
first call.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.interop import nesting
from swiftnets.interop.chains import chain_of
from swiftnets.interop.onnx_layers import Reader, needed_nodes
from swiftnets.mlp import MLP
from swiftnets.nets import losses
from swiftnets.nets.layer import Value
from swiftnets.nets.losses import LossLike
from swiftnets.network import Network

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["from_onnx"]


def __dir__() -> list[str]:
    return __all__


@overload
def from_onnx(
    model: ModelProto | str | os.PathLike[str],
    *,
    chain: Literal[False] = ...,
    input_shape: int | Sequence[int] | None = ...,
    loss: LossLike = ...,
    reduction: Literal["sum", "mean"] = ...,
    l2: float = ...,
    dtype: npt.DTypeLike | None = ...,
) -> tuple[Network, FloatArray]: ...


@overload
def from_onnx(
    model: ModelProto | str | os.PathLike[str],
    *,
    chain: Literal[True],
    input_shape: int | Sequence[int] | None = ...,
    loss: LossLike = ...,
    reduction: Literal["sum", "mean"] = ...,
    l2: float = ...,
    dtype: npt.DTypeLike | None = ...,
) -> tuple[MLP, FloatArray]: ...


def from_onnx(
    model: ModelProto | str | os.PathLike[str],
    *,
    chain: bool = False,
    input_shape: int | Sequence[int] | None = None,
    loss: LossLike = "squared_error",
    reduction: Literal["sum", "mean"] = "sum",
    l2: float = 0.0,
    dtype: npt.DTypeLike | None = None,
) -> tuple[Network, FloatArray]:
    """A net and its parameters from an ONNX model; see `swiftnets.Network.from_onnx`.

    Parameters
    ----------
    model : onnx.ModelProto or path
    chain : bool
        Whether an `MLP` is wanted, of dense layers and activations one after the other: see
        `swiftnets.MLP.from_onnx`.
    input_shape : int or tuple of int, optional
        Of one sample; needed where the model leaves it open.
    loss : str or Loss
    reduction : {"sum", "mean"}
    l2 : float
    dtype : float64 or float32, optional

    Returns
    -------
    net : Network or MLP
    w : (P,) float array

    Raises
    ------
    TypeError
        If an argument is of another kind, or a node has no equivalent; the message names it.
    ValueError
        If a node has settings that ours has not, or the outputs differ.

    Examples
    --------
    >>> import onnx
    >>> graph = onnx.parser.parse_graph('''
    ...     net (float[N, 2] x) => (float[N, 1] y)
    ...     <float[2, 1] w = {3, 4}> { h = MatMul (x, w)
    ...                                y = Relu (h) }''')
    >>> net, w = from_onnx(onnx.helper.make_model(graph))
    >>> net.layers, w
    ((Dense(2, 1, bias=False), ReLU()), array([3., 4.], dtype=float32))
    """
    onnx = _onnx()
    if isinstance(model, (str, os.PathLike)):
        model = _load(onnx, os.fspath(model))
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(
            f"model is of type {type(model).__name__}; expected an onnx.ModelProto, or the path of "
            "one's file"
        )
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    name, batch, given = _input(onnx, model.graph, input_shape)
    try:
        reader = Reader(onnx, model.graph, given, name, batch, opset)
        layers, steps = reader.graph.nested(reader.read())
    except (LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"model breaks ONNX's rules ({error!r}); expected a valid one") from error
    found = {array.dtype for step in steps for array in step.arrays}
    if len(found) != 1 or not found <= {np.dtype(np.float32), np.dtype(np.float64)}:
        shown = ", ".join(sorted(map(str, found))) or "none"
        raise ValueError(f"model has parameters of {shown}; expected float32 or float64 alone")
    wanted = found.pop() if dtype is None else checks.floating(dtype, "dtype")
    if checks.flag(chain, "chain"):
        kind = losses.resolve(loss, "loss")
        mlp, arrays = chain_of(layers, steps).net(lambda outputs: kind, reduction, l2, wanted)
        double = mlp.astype(np.float64)
        _compare(onnx, double, double.flatten(arrays), given, model, name, batch)
        return mlp, mlp.flatten(arrays)
    net = Network(
        layers, input_shape=given.sizes, loss=loss, reduction=reduction, l2=l2, dtype=wanted
    )
    w, names = nesting.flat_parameters(net, steps)
    net.name_for_torch(names)
    # The model's own numbers, of which a net of float32 may have rounded some.
    wide = net.astype(np.float64)
    _compare(onnx, wide, nesting.flat_parameters(wide, steps)[0], given, model, name, batch)
    return net, w


def _load(onnx: Any, path: str) -> Any:
    """The model in a file; what is damaged is a ValueError that names it."""
    try:
        return onnx.load(path)
    except OSError:
        raise
    except Exception as error:  # protobuf's, and onnx's on data beside the file
        raise ValueError(f"{path!r} is damaged or no ONNX model ({error})") from error


def _onnx() -> Any:
    try:
        import onnx.reference
    except ImportError as error:
        raise ImportError("the conversion needs onnx: pip install swiftnets[onnx]") from error
    return onnx


def _input(onnx: Any, graph: Any, shape: Any) -> tuple[str, int, Value]:
    """The input's name, its number of samples (0 if any), and one sample."""
    fixed = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in fixed]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(
            f"model has inputs {[one.name for one in inputs]} and outputs "
            f"{[one.name for one in graph.output]}; expected one of each"
        )
    kind = inputs[0].type.tensor_type
    dims = [one.dim_value for one in kind.shape.dim]
    where = f"input {inputs[0].name}"
    if shape is None:
        if not 2 <= len(dims) <= 4 or 0 in dims[1:]:
            raise ValueError(
                f"{where} has shape {[d or '?' for d in dims]}, where ? is open; expected "
                "input_shape, of one sample: (n,), (C, H, W), (T, d), or (T,) for tokens"
            )
        sizes: tuple[int, ...] = tuple(dims[1:])
    else:
        given = shape if checks.iterable(shape) else [shape]
        sizes = tuple(checks.integer(n, f"input_shape[{i}]") for i, n in enumerate(given))
        known = zip(dims[1:], sizes, strict=False)
        if (dims and len(dims) != len(sizes) + 1) or any(d not in (0, n) for d, n in known):
            raise ValueError(f"input_shape is {sizes}; expected {tuple(dims[1:])}, as {where}")
    types = onnx.TensorProto
    if kind.elem_type in (types.INT64, types.INT32):
        if len(sizes) != 1:
            raise ValueError(f"{where} is of integers {sizes}; expected (T,), tokens")
        return inputs[0].name, dims[0] if dims else 0, Value("tokens", sizes)
    if kind.elem_type not in (types.FLOAT, types.DOUBLE):
        raise ValueError(
            f"{where} has elements {types.DataType.Name(kind.elem_type)}; expected FLOAT, DOUBLE, "
            "or integers as tokens"
        )
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"{where} has shape {sizes} a sample; expected (n,), (C, H, W) or (T, d)")
    kinds: Any = ("vector", "sequence", "image")
    return inputs[0].name, dims[0] if dims else 0, Value(kinds[len(sizes) - 1], sizes)


def _compare(
    onnx: Any, net: Network, w: FloatArray, given: Value, model: Any, name: str, batch: int
) -> None:
    """An error if the reference evaluator's outputs are not the net's, both in float64."""
    ours = nesting.inputs_like(net, batch or 5)
    x = ours.reshape(len(ours), *given.sizes)  # an MLP takes them flat
    try:
        evaluator = onnx.reference.ReferenceEvaluator(_in_double(onnx, model))
        with np.errstate(all="ignore"):  # its Elu takes exp on either side
            (theirs,) = evaluator.run(None, {name: x})
    except Exception as error:
        raise ValueError(
            f"model fails on random inputs of shape {x.shape} ({error}); expected outputs"
        ) from error
    # The evaluator's norm of groups passes through float32 (its stash_type), and its Gelu has
    # constants of float32, as have those that are written out.
    kinds = {node.op_type for node in model.graph.node}
    single = float(np.finfo(np.float32).eps)
    unit = float(np.finfo(np.float64).eps)
    if kinds & {"Gelu", "Erf"}:
        unit = single / 64
    if "GroupNormalization" in kinds:
        unit = single
    nesting.apart(net, net.predict(w, ours), np.asarray(theirs, float), unit, "random inputs")


def _in_double(onnx: Any, model: Any) -> Any:
    """A copy whose constants of float32 are of float64."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    # No others are looked at above, and what they compute may have no end.
    nodes = needed_nodes(model.graph)
    del other.graph.node[:]
    other.graph.node.extend(nodes)

    def doubled(tensor: Any) -> None:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    for tensor in other.graph.initializer:
        doubled(tensor)
    for node in other.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                doubled(attribute.t)
    return other
