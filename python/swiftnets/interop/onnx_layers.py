"""Nodes of ONNX graphs as layers of a net."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets.interop import nesting
from swiftnets.interop.nesting import TAKES_LOGITS, Graph, Step, WholeMean
from swiftnets.interop.onnx_gelu import with_gelus
from swiftnets.nets import activations
from swiftnets.nets.layer import Layer, Value
from swiftnets.nets.layers import (
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    LayerNorm,
    MaxPool2d,
    MeanOverPositions,
)

__all__ = ["Reader", "needed_nodes"]


def __dir__() -> list[str]:
    return __all__


# ONNX's defaults, which are numbers of float32 like all its attributes.
_EPSILON, _SLOPE = float(np.float32(1e-5)), float(np.float32(0.01))


class Constant(NamedTuple):
    """A tensor, and the initializer that it is of."""

    array: npt.NDArray[Any]
    name: str


class Groups(NamedTuple):
    """An image as (N, groups, rest): the first part of a group norm in other words."""

    value: int
    parts: int
    eps: float | None = None


class Reader:
    """Reads a graph node by node.

    Parameters
    ----------
    onnx : module
    source : onnx.GraphProto
    given : Value
        One sample.
    name : str
        The input's.
    batch : int
        Its samples; 0 is any number.
    opset : int
    """

    def __init__(
        self, onnx: Any, source: Any, given: Value, name: str, batch: int, opset: int
    ) -> None:
        self._onnx, self._source, self._batch, self._opset = onnx, source, batch, opset
        self.graph = Graph(given)
        self._values = {name: 0}
        self._constants = {
            one.name: Constant(onnx.numpy_helper.to_array(one), one.name)
            for one in source.initializer
        }
        self._groups: dict[str, Groups] = {}
        self._scaled: dict[str, tuple[int, Constant]] = {}
        self._shapes: dict[str, int] = {}
        self._used: dict[str, str] = {}
        self._users = Counter(name for node in source.node for name in node.input)
        self._users.update(one.name for one in source.output)

    def read(self) -> int:
        """The value of the output.

        Returns
        -------
        int

        Raises
        ------
        TypeError
            If a node has no equivalent.
        ValueError
            If one has settings that no layer has.
        """
        output = self._source.output[0].name
        arrays = {name: constant.array for name, constant in self._constants.items()}
        for node in with_gelus(self._onnx, needed_nodes(self._source), arrays):
            self._node(node)
        if output not in self._values:
            raise ValueError(f"output {output} does not come from layers; expected that it does")
        return self._values[output]

    def _node(self, node: Any) -> None:
        name = node.name or node.output[0]
        where = f"node {name} ({node.op_type})"
        read = getattr(self, f"_on_{node.op_type}", None)
        known = read is not None or node.op_type in (*_FUNCTIONS, "Constant", "Transpose")
        if node.domain not in ("", "ai.onnx") or not known:
            hint = TAKES_LOGITS * (node.op_type in ("Softmax", "LogSoftmax"))
            raise TypeError(
                f"{where} has no equivalent{hint}; supported are {', '.join(_supported())}"
            )
        options = {one.name: self._onnx.helper.get_attribute_value(one) for one in node.attribute}
        options = {k: v.decode() if isinstance(v, bytes) else v for k, v in options.items()}
        inputs = [*node.input]
        if node.op_type == "Constant":
            self._constants[node.output[0]] = self._on_constant(options, node.output[0], where)
            return
        if all(one in self._constants for one in inputs if one) and inputs:
            self._constants[node.output[0]] = self._folded(node, options, where)
            return
        if len([one for one in node.output if one and self._users[one]]) > 1:
            raise ValueError(f"{where} has outputs {[*node.output]}; supported is the first alone")
        if read is None:
            if node.op_type not in _FUNCTIONS:
                raise ValueError(f"{where} is of no constant; supported is so")
            value = self._put(where, self._value(inputs[0], where), _FUNCTIONS[node.op_type]())
        else:
            try:
                value = read(inputs, options, where, node.output[0])
            except (ValueError, NotImplementedError) as error:
                text = str(error)
                raise ValueError(text if text.startswith("node ") else f"{where}: {text}") from None
        if value is not None:
            self._values[node.output[0]] = value

    # What a node is given -------------------------------------------------------------------------

    def _value(self, name: str, where: str) -> int:
        if name not in self._values:
            raise ValueError(f"{where} is given {name!r}, which is no result of a layer")
        return self._values[name]

    def _constant(self, name: str, where: str) -> Constant:
        if name not in self._constants:
            raise ValueError(f"{where} is given {name!r}; expected a constant")
        return self._constants[name]

    def _integers(self, name: str, where: str) -> list[int]:
        return [int(n) for n in self._constant(name, where).array.ravel()]

    def _given(self, value: int, where: str, *kinds: str) -> Value:
        found = self.graph.values[value]
        if found.kind not in kinds:
            raise ValueError(f"{where} is given {found}; supported are: {', '.join(kinds)}")
        return found

    def _put(self, where: str, value: int, layer: Layer, *parameters: tuple[Any, Constant]) -> int:
        """A layer with arrays in our layout, each with the constant that it is of."""
        for _, constant in parameters:
            self._use(constant, where)
        arrays = tuple(np.ascontiguousarray(array) for array, _ in parameters)
        names = tuple(constant.name for _, constant in parameters)
        return self.graph.add(Step(where, (value,), layer, arrays, names))

    def _on_constant(self, options: dict[str, Any], name: str, where: str) -> Constant:
        for kind in ("value", "value_float", "value_floats", "value_int", "value_ints"):
            if kind in options:
                found = options[kind]
                if kind == "value":
                    return Constant(self._onnx.numpy_helper.to_array(found), name)
                return Constant(np.array(found, np.float32 if "float" in kind else np.int64), name)
        raise ValueError(f"{where} has {sorted(options)}; supported are numbers")

    def _folded(self, node: Any, options: dict[str, Any], where: str) -> Constant:
        """What a node makes of constants alone."""
        first = self._constants[node.input[0]]
        match node.op_type:
            case "Identity":  # exporters share initializers that are equal, tied or not
                return Constant(first.array, node.output[0])
            case "Transpose":
                return Constant(first.array.transpose(options.get("perm")), first.name)
            case "Reshape":
                shape = self._integers(node.input[1], where)
                return Constant(first.array.reshape(shape), first.name)
        raise ValueError(f"{where} computes with constants alone; expected them to be folded")

    # Layers ---------------------------------------------------------------------------------------

    def _on_Identity(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        return self._value(inputs[0], where)

    def _on_Dropout(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        if len(inputs) > 2 and inputs[2] and bool(self._constant(inputs[2], where).array):
            raise ValueError(f"{where} is in training; expected a model for inference")
        return self._value(inputs[0], where)

    def _on_Gemm(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        for name, plain in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if options.get(name, plain) != plain:
                raise ValueError(f"{where}: {name} is {options[name]}; supported is {plain}")
        value = self._value(inputs[0], where)
        self._given(value, where, "vector")
        weight = self._constant(inputs[1], where)
        matrix = weight.array.T if options.get("transB", 0) else weight.array
        parameters = [(matrix, weight)]
        if len(inputs) > 2 and inputs[2]:
            bias = self._constant(inputs[2], where)
            if bias.array.size != matrix.shape[1]:
                raise ValueError(
                    f"{where} has a C of shape {bias.array.shape}; supported is one number an "
                    f"output: ({matrix.shape[1]},)"
                )
            parameters.append((bias.array.ravel(), bias))
        fan_in, fan_out = matrix.shape
        layer = Dense(fan_in, fan_out, len(parameters) == 2)
        return self._put(where, value, layer, *parameters)

    def _on_MatMul(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value, weight = self._value(inputs[0], where), self._constant(inputs[1], where)
        if weight.array.ndim != 2:
            raise ValueError(f"{where} has a matrix {weight.array.shape}; supported is (in, out)")
        self._given(value, where, "vector", "sequence")
        fan_in, fan_out = weight.array.shape
        layer = Dense(fan_in, fan_out, bias=False)
        return self._put(where, value, layer, (weight.array, weight))

    def _on_Add(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        scaled = [one for one in inputs if one in self._scaled]
        if scaled:
            return self._affine(scaled[0], inputs, where)
        known = [one for one in inputs if one in self._values]
        if len(known) == 2:
            pair = (self._values[known[0]], self._values[known[1]])
            return self.graph.add(Step(where, pair, None))
        value = self._value(known[0] if known else inputs[0], where)
        constant = self._constant(inputs[1 - inputs.index(known[0])], where)
        held, array = self.graph.values[value], constant.array
        layer = self.graph.steps[value - 1].layer if value else None
        plain = isinstance(layer, Dense) and not layer.bias and self._users[known[0]] == 1
        if plain and array.shape[-1:] == (array.size,) == (held.channels,):
            self._merge_bias(self.graph.steps[value - 1], constant, where)
            return value
        if held.kind == "sequence" and array.shape in (held.sizes, (1, *held.sizes)):
            table = array.reshape(held.sizes)
            self._use(constant, where)
            return self.graph.add(nesting.position(where, table, constant.name, value))
        raise ValueError(
            f"{where} adds a constant {array.shape} to {held}; supported are sums of two results, "
            "the bias of a MatMul before it, and tables (T, d) of positions"
        )

    def _use(self, constant: Constant, where: str) -> None:
        if constant.name in self._used:
            raise ValueError(
                f"{where} has the initializer {constant.name}, as {self._used[constant.name]} has: "
                "a net has no tied parameters"
            )
        self._used[constant.name] = where

    def _merge_bias(self, step: Step, bias: Constant, where: str) -> None:
        self._use(bias, where)
        step.layer = Dense(*step.arrays[0].shape)
        step.arrays, step.names = (*step.arrays, bias.array.ravel()), (*step.names, bias.name)

    def _on_Mul(self, inputs: list[str], options: Any, where: str, out: str) -> int | None:
        values = [self._values.get(one) for one in inputs]
        for value, other in (values, values[::-1]):
            step = self.graph.steps[value - 1] if value else None
            if other is None or step is None:
                continue
            if step.layer == activations.Sigmoid() and step.inputs == (other,):
                return self._put(where, other, activations.SiLU())
        known = [one for one in inputs if one in self._values]
        if len(known) == 1:
            value = self._values[known[0]]
            layer = self.graph.steps[value - 1].layer if value else None
            if isinstance(layer, GroupNorm) and not layer.affine and self._users[known[0]] == 1:
                weight = inputs[1 - inputs.index(known[0])]
                self._scaled[out] = value, self._constant(weight, where)
                return None
        raise TypeError(
            f"{where} has no equivalent; supported are x times Sigmoid(x), and the weight of a "
            f"norm of groups, besides {', '.join(_supported())}"
        )

    def _affine(self, scaled: str, inputs: list[str], where: str) -> int:
        """Makes a norm of groups one with a weight and a bias."""
        value, weight = self._scaled[scaled]
        bias = self._constant(inputs[1 - inputs.index(scaled)], where)
        step = self.graph.steps[value - 1]
        assert isinstance(step.layer, GroupNorm)
        count = step.layer.num_channels
        for constant in (weight, bias):
            if constant.array.shape[-3:] != (count, 1, 1) or constant.array.size != count:
                raise ValueError(
                    f"{where} has a constant {constant.array.shape}; supported is ({count}, 1, 1)"
                )
            self._use(constant, where)
        step.layer = GroupNorm(step.layer.num_groups, count, step.layer.eps)
        step.arrays = weight.array.ravel(), bias.array.ravel()
        step.names = weight.name, bias.name
        return value

    def _on_Conv(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value, weight = self._value(inputs[0], where), self._constant(inputs[1], where)
        given = self._given(value, where, "image")
        kernel, stride, padding = _windows(options, where, weight.array.shape[2:])
        parameters = [(weight.array.transpose(2, 3, 1, 0), weight)]
        if len(inputs) > 2 and inputs[2]:
            bias = self._constant(inputs[2], where)
            parameters.append((bias.array, bias))
        layer = Conv2d(
            given.channels,
            weight.array.shape[0],
            kernel,
            stride,
            padding,
            groups=options.get("group", 1),
            bias=len(parameters) == 2,
        )
        return self._put(where, value, layer, *parameters)

    def _on_AveragePool(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value = self._value(inputs[0], where)
        self._given(value, where, "image")
        kernel, stride, padding = _windows(options, where)
        counted = bool(options.get("count_include_pad", 0)) or padding == (0, 0)
        return self._put(where, value, AvgPool2d(kernel, stride, padding, counted))

    def _on_MaxPool(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value = self._value(inputs[0], where)
        self._given(value, where, "image")
        return self._put(where, value, MaxPool2d(*_windows(options, where)))

    def _on_GlobalAveragePool(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value = self._value(inputs[0], where)
        sizes = self._given(value, where, "image").sizes
        return self._put(where, value, WholeMean((sizes[1], sizes[2])))

    def _on_ReduceMean(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value = self._value(inputs[0], where)
        given = self._given(value, where, "image", "sequence")
        axes = options.get("axes", [])
        if len(inputs) > 1 and inputs[1]:
            axes = self._integers(inputs[1], where)
        rank, kept = len(given.sizes) + 1, bool(options.get("keepdims", 1))
        wanted = sorted(axis % rank for axis in axes)
        if given.kind == "image" and wanted == [2, 3]:
            mean = WholeMean(given.sizes[1:]) if kept else GlobalAvgPool2d()  # type: ignore[arg-type]
            return self._put(where, value, mean)
        if given.kind == "sequence" and wanted == [1] and not kept:
            return self._put(where, value, MeanOverPositions())
        raise ValueError(
            f"{where} is over {wanted} of {given}; supported are (2, 3) of images, and 1 of "
            "sequences without keepdims"
        )

    def _on_Flatten(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        if options.get("axis", 1) != 1:
            raise ValueError(f"{where}: axis is {options['axis']}; supported is 1")
        value = self._value(inputs[0], where)
        if self.graph.values[value].kind == "vector":
            return value
        return self._put(where, value, Flatten())

    def _on_Shape(self, inputs: list[str], options: Any, where: str, out: str) -> None:
        if options.get("start", 0) or "end" in options:
            raise ValueError(f"{where} has a start or an end; supported is the whole shape")
        self._shapes[out] = self._value(inputs[0], where)

    def _on_Reshape(self, inputs: list[str], options: Any, where: str, out: str) -> int | None:
        source, wanted = inputs
        groups = self._groups.get(source)
        value = groups.value if groups else self._value(source, where)
        given = self.graph.values[value]
        if wanted in self._shapes:
            shape = [self._batch or -1, *self.graph.values[self._shapes[wanted]].sizes]
        else:
            shape = self._integers(wanted, where)
        first = shape[0] in (0, -1, self._batch or -1)
        if groups:
            sizes = [0, *given.sizes] if first else []
            whole = len(shape) == len(sizes) and all(
                a in (0, -1, b) for a, b in zip(shape[1:], sizes[1:], strict=True)
            )
            if not whole or groups.eps is None:
                raise ValueError(f"{where} makes {shape} of groups; supported is {given}")
            layer = GroupNorm(groups.parts, given.channels, groups.eps, affine=False)
            return self._put(where, value, layer)
        if first and shape[1:] == [*given.sizes]:
            return value
        if first and len(shape) == 2 and shape[1] in (-1, given.size) and given.kind != "tokens":
            return self._put(where, value, Flatten()) if given.kind != "vector" else value
        grouped = first and len(shape) == 3 and given.kind == "image" and shape[1] > 0
        if grouped and given.channels % shape[1] == 0 and shape[2] in (-1, given.size // shape[1]):
            self._groups[out] = Groups(value, shape[1])
            return None
        raise ValueError(
            f"{where} makes {shape} of {given}; supported is flattening to (N, {given.size})"
        )

    # Norms ----------------------------------------------------------------------------------------

    def _on_InstanceNormalization(
        self, inputs: list[str], options: Any, where: str, out: str
    ) -> int | None:
        eps = options.get("epsilon", _EPSILON)
        scale, bias = (self._constant(one, where) for one in inputs[1:3])
        groups = self._groups.get(inputs[0])
        if groups:
            if (scale.array != 1).any() or bias.array.any():
                raise ValueError(f"{where} scales groups; supported are scales of 1 and biases 0")
            self._groups[out] = groups._replace(eps=float(eps))
            return None
        value = self._value(inputs[0], where)
        channels = self._given(value, where, "image").channels
        layer = GroupNorm(channels, channels, float(eps))
        return self._put(where, value, layer, (scale.array, scale), (bias.array, bias))

    def _on_GroupNormalization(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value = self._value(inputs[0], where)
        channels = self._given(value, where, "image", "vector").channels
        scale, bias = (self._constant(one, where) for one in inputs[1:3])
        if self._opset < 21 and options["num_groups"] != channels:
            raise ValueError(
                f"{where} is of opset {self._opset}, with one scale a group; supported is opset "
                "21, with one a channel"
            )
        layer = GroupNorm(options["num_groups"], channels, float(options.get("epsilon", _EPSILON)))
        return self._put(where, value, layer, (scale.array, scale), (bias.array, bias))

    def _on_LayerNormalization(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        value = self._value(inputs[0], where)
        given = self._given(value, where, "vector", "sequence")
        if options.get("axis", -1) not in (-1, len(given.sizes)):
            raise ValueError(f"{where}: axis is {options['axis']}; supported is the last")
        scale = self._constant(inputs[1], where)
        eps = float(options.get("epsilon", _EPSILON))
        if len(inputs) < 3 or not inputs[2]:
            if (scale.array != 1).any():
                raise ValueError(f"{where} has a scale alone; supported are scale and bias")
            return self._put(where, value, LayerNorm(given.channels, eps, affine=False))
        bias = self._constant(inputs[2], where)
        layer = LayerNorm(given.channels, eps)
        return self._put(where, value, layer, (scale.array, scale), (bias.array, bias))

    def _on_BatchNormalization(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        if options.get("training_mode", 0):
            raise ValueError(
                f"{where} is in training, where no sample has a loss of its own; expected a model "
                "for inference"
            )
        value = self._value(inputs[0], where)
        given = self._given(value, where, "image", "vector")
        scale, bias, mean, var = (self._constant(one, where) for one in inputs[1:5])
        kind: Any = BatchNorm2d if given.kind == "image" else BatchNorm
        layer = kind(
            mean.array.tolist(), var.array.tolist(), float(options.get("epsilon", _EPSILON))
        )
        return self._put(where, value, layer, (scale.array, scale), (bias.array, bias))

    # Activations and tables -----------------------------------------------------------------------

    def _on_LeakyRelu(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        slope = float(options.get("alpha", _SLOPE))
        return self._put(where, self._value(inputs[0], where), activations.LeakyReLU(slope))

    def _on_Elu(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        layer = activations.ELU(float(options.get("alpha", 1.0)))
        return self._put(where, self._value(inputs[0], where), layer)

    def _on_Gelu(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        layer = activations.GELU(options.get("approximate", "none"))
        return self._put(where, self._value(inputs[0], where), layer)

    def _on_Swish(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        if options.get("alpha", 1.0) != 1:
            raise ValueError(f"{where}: alpha is {options['alpha']}; supported is 1")
        return self._put(where, self._value(inputs[0], where), activations.SiLU())

    def _on_Gather(self, inputs: list[str], options: Any, where: str, out: str) -> int:
        table, value = self._constant(inputs[0], where), self._value(inputs[1], where)
        self._given(value, where, "tokens")
        if options.get("axis", 0) != 0 or table.array.ndim != 2:
            raise ValueError(f"{where} is no row of a table (n, d) for each token; supported is so")
        layer = Embedding(*map(int, table.array.shape))
        return self._put(where, value, layer, (table.array, table))


_FUNCTIONS: dict[str, Callable[[], Layer]] = {
    "Relu": activations.ReLU,
    "Tanh": activations.Tanh,
    "Sigmoid": activations.Sigmoid,
    "Softplus": activations.Softplus,
    "Sin": activations.Sine,
}


def needed_nodes(graph: Any) -> list[Any]:
    """The nodes that the first output comes from, in their order.

    Parameters
    ----------
    graph : onnx.GraphProto

    Returns
    -------
    list of onnx.NodeProto
    """
    needed, found = {graph.output[0].name}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            found.append(node)
    return found[::-1]


def _supported() -> list[str]:
    own = [name.removeprefix("_on_") for name in vars(Reader) if name.startswith("_on_")]
    return sorted({*own, *_FUNCTIONS, "Constant"} - {"constant"})


def _windows(
    options: dict[str, Any], where: str, shape: Sequence[int] = ()
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride and padding."""
    kernel = tuple(options.get("kernel_shape", shape))
    stride = tuple(options.get("strides", (1, 1)))
    pads = tuple(options.get("pads", (0, 0, 0, 0)))
    if len(kernel) != 2 or len(stride) != 2 or len(pads) != 4:
        raise ValueError(f"{where} has a kernel {kernel}; supported are two dimensions")
    if any(step != 1 for step in options.get("dilations", ())):
        raise ValueError(f"{where}: dilations is {options['dilations']}; supported is 1")
    for name in ("ceil_mode", "storage_order"):
        if options.get(name, 0):
            raise ValueError(f"{where}: {name} is {options[name]}; supported is 0")
    how = options.get("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        if stride != (1, 1) or any(size % 2 == 0 for size in kernel):
            raise ValueError(
                f"{where}: auto_pad is {how} with kernel {kernel} and strides {stride}; supported "
                "are odd kernels with strides of 1"
            )
        pads = tuple(size // 2 for size in kernel) * 2
    elif how not in ("NOTSET", "VALID", ""):
        raise ValueError(f"{where}: auto_pad is {how}; supported are NOTSET, VALID and SAME")
    if pads[:2] != pads[2:]:
        raise ValueError(f"{where}: pads is {pads}; supported are equal ones on both sides")
    return (kernel[0], kernel[1]), (stride[0], stride[1]), (pads[0], pads[1])
