"""Layers joined to a net: what each makes, where its parameters are, and the engine's codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets.nets.activations import Activation, Identity, functions_of
from swiftnets.nets.layer import ArraySpec, Code, Layer, Refusal, Value
from swiftnets.nets.layers.dense import Dense
from swiftnets.nets.layers.residual import Residual
from swiftnets.nets.layers.sequences import Embedding
from swiftnets.nets.losses import Loss
from swiftnets.nets.table import ParameterRow, ParameterTable

__all__ = ["Chain", "Graph", "Node", "checked_input_shape", "given_value", "shortened"]


def __dir__() -> list[str]:
    return __all__


_ADD = 14
_CODE_LENGTH = 13
_MOST = 2**31 - 1


class Node(NamedTuple):
    """A layer where it stands.

    Attributes
    ----------
    path : str
        As PyTorch's Sequential names it: ``"2"``, ``"3.body.0"``.
    layer : Layer
        A Residual stands for the sum at its end.
    input, output : Value
    arrays : tuple of ArraySpec
    start : int
        Where its parameters begin.
    """

    path: str
    layer: Layer
    input: Value
    output: Value
    arrays: tuple[ArraySpec, ...]
    start: int

    @property
    def size(self) -> int:
        """Its parameters."""
        return sum(math.prod(array.shape) for array in self.arrays)


class Chain(NamedTuple):
    """Dense layers, one after the other, as the engine takes them."""

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    bias: int

    def handle(self, dtype: np.dtype[Any], loss: Loss) -> _core.Mlp:
        """The engine's net.

        Parameters
        ----------
        dtype : numpy.dtype
        loss : Loss

        Returns
        -------
        swiftnets._core.Mlp
        """
        return _core.mlp(
            self.sizes,
            tuple(one._code for one in self.activations),
            int(dtype == np.float32),
            self.bias,
            *loss._code,
            functions_of(self.activations, dtype),
        )


class Graph:
    """The layers of a net, joined and checked.

    Attributes
    ----------
    input, output : Value
    nodes : tuple of Node
        In the order in which they compute.
    codes : (layers, 13) int64 array
    numbers : (layers,) float64 array
    statistics : float64 array
        See ``swn_network_shape`` in swiftnets.h.
    slices : tuple of slice
        Of layers that have parameters.
    count : int
        P.
    multiplications : int
        Of a forward pass over one sample.

    Raises
    ------
    ValueError
        If a layer does not take what comes; the message says which, what came, what it takes.
    """

    def __init__(self, layers: Sequence[Layer], given: Value) -> None:
        self.input = given
        self._nodes: list[Node] = []
        self._codes: list[tuple[int, ...]] = []
        self._values = [given]
        self._count = 0
        last = self._join(layers, 0, "", "layers")
        self.output = self._values[last]
        self.nodes = tuple(self._nodes)
        self.codes = np.array(self._codes, np.int64).reshape(-1, _CODE_LENGTH)
        self.numbers = np.array([self._number(node) for node in self.nodes])
        found = [number for node in self.nodes for number in node.layer.statistics]
        self.statistics: npt.NDArray[np.float64] = np.array(found, np.float64)
        self.count = self._count
        self.multiplications = sum(map(_multiplications, self.nodes))
        holders = [node for node in self.nodes if node.arrays]
        self.slices = tuple(slice(node.start, node.start + node.size) for node in holders)
        if not holders:
            raise ValueError("layers have no parameters; expected at least one that has")
        if self.output.kind != "vector":
            raise ValueError(
                f"layers end with {shortened(layers[-1])}, which makes {self.output}; expected a "
                "vector (n,) at the end: see Flatten, GlobalAvgPool2d and MeanOverPositions"
            )

    @staticmethod
    def _number(node: Node) -> float:
        return 0.0 if isinstance(node.layer, Residual) else node.layer.code(node.input).number

    def _join(self, layers: Sequence[Layer], value: int, path: str, name: str) -> int:
        """Puts layers after a value; the number of the last one's value."""
        for index, layer in enumerate(layers):
            here, where = f"{path}{index}", f"{name}[{index}]"
            if isinstance(layer, Residual):
                value = self._join_both(layer, value, here, where)
            else:
                value = self._add(layer, value, here, where)
        return value

    def _join_both(self, layer: Residual, value: int, path: str, where: str) -> int:
        body = self._join(_layers(layer.body), value, f"{path}.body.", f"{where}.body")
        other = self._join(_layers(layer.shortcut), value, f"{path}.shortcut.", f"{where}.shortcut")
        made, beside = self._values[body], self._values[other]
        if made != beside:
            what = "shortcut makes" if layer.shortcut else "input, without a shortcut, is"
            raise ValueError(
                f"{where} is {shortened(layer)}: its body makes {made} and its {what} {beside}; "
                "expected the same of both"
            )
        if made.kind == "tokens":
            raise ValueError(
                f"{where} is {shortened(layer)} and is given {made}; it takes {_TOKENS}"
            )
        return self._put(Node(path, layer, made, made, (), self._count), Code(_ADD), body, other)

    def _add(self, layer: Layer, value: int, path: str, where: str) -> int:
        given = self._values[value]
        try:
            if given.kind == "tokens" and not isinstance(layer, Embedding):
                raise Refusal(_TOKENS)
            made = layer.after(given)
        except Refusal as refusal:
            raise ValueError(
                f"{where} is {shortened(layer)} and is given {given}; it takes {refusal}"
            ) from None
        if made.size > _MOST:
            raise ValueError(
                f"{where} is {shortened(layer)} and makes {made} of each sample; expected at most "
                f"{_MOST} numbers"
            )
        node = Node(path, layer, given, made, layer.arrays(given), self._count)
        return self._put(node, layer.code(given), value, 0)

    def _put(self, node: Node, code: Code, first: int, second: int) -> int:
        start = node.start if node.arrays else 0
        integers = (*code.integers, *[0] * (_CODE_LENGTH - 4 - len(code.integers)))
        self._codes.append((code.kind, first, second, start, *integers))
        self._nodes.append(node)
        self._values.append(node.output)
        self._count += node.size
        if self._count > 2**44:
            raise ValueError(f"layers have over {2**44} parameters; expected fewer")
        return len(self._values) - 1

    @cached_property
    def table(self) -> ParameterTable:
        """Where each array of parameters is."""
        rows = []
        for index, node in enumerate(node for node in self.nodes if node.arrays):
            start = node.start
            for array in node.arrays:
                stop = start + math.prod(array.shape)
                name = f"{node.path}.{array.name}"
                place = slice(start, stop)
                rows.append(ParameterRow(name, index, array.shape, place, array.layout, name))
                start = stop
        return ParameterTable(rows)

    @property
    def dense_chain(self) -> Chain | None:
        """The net as dense layers, each with an activation or none, if it is no more than that."""
        sizes, found, biases = [self.input.size], [], set()
        for node in self.nodes:
            layer = node.layer
            if isinstance(layer, Dense):
                sizes.append(layer.out_features)
                found.append(Identity())
                biases.add(layer.bias)
            elif isinstance(layer, Activation) and found and found[-1] == Identity():
                found[-1] = layer
            else:
                return None
        if self.input.kind != "vector" or len(biases) != 1:
            return None
        return Chain(tuple(sizes), tuple(found), int(biases.pop()))

    def handle(self, dtype: np.dtype[Any], loss: Loss) -> _core.Mlp:
        """The engine's net; see `Chain.handle`."""
        return _core.network(
            self.codes,
            self.numbers,
            self.statistics,
            np.array(self.input.code, np.int64),
            int(dtype == np.float32),
            *loss._code,
            functions_of([node.layer for node in self.nodes], dtype),
        )

    def require_range(self, dtype: np.dtype[Any]) -> None:
        """A ValueError where a layer has a number that is none of a net's dtype."""
        info = np.finfo(dtype)
        for node in self.nodes:
            eps = getattr(node.layer, "eps", None)
            if eps is not None and not float(info.tiny) <= eps <= float(info.max):
                raise ValueError(
                    f"eps is {eps} in {shortened(node.layer)}, layer {node.path} of a {dtype} net; "
                    f"expected from {info.tiny} to {info.max}"
                )
            for number in node.layer.statistics:
                if not abs(number) <= float(info.max):
                    raise ValueError(
                        f"{shortened(node.layer)}, layer {node.path}, has the statistic {number}, "
                        f"which {dtype} does not hold"
                    )


def _multiplications(node: Node) -> int:
    """Layers without products take about as much as there are numbers."""
    found = 0 if isinstance(node.layer, Residual) else node.layer.multiplications(node.input)
    return found or node.output.size


_TOKENS = "numbers, and only an Embedding takes tokens"


def _layers(path: Any) -> Sequence[Layer]:
    """A path of a Residual, which has made layers of its names."""
    result: Sequence[Layer] = path
    return result


def given_value(layers: Sequence[Layer], sizes: tuple[int, ...]) -> Value:
    """The net's input: tokens where the first layer is an Embedding.

    Parameters
    ----------
    layers : sequence of Layer
    sizes : tuple of int
        One to three.

    Returns
    -------
    Value
    """
    first = layers[0] if layers else None
    while isinstance(first, Residual):
        first = _layers(first.body)[0]
    if len(sizes) == 1:
        return Value("tokens" if isinstance(first, Embedding) else "vector", sizes)
    return Value("sequence" if len(sizes) == 2 else "image", sizes)


def shortened(layer: Layer, most: int = 100) -> str:
    """A layer for a message."""
    text = repr(layer)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def checked_input_shape(value: Any) -> tuple[int, ...]:
    """What a user gives as the shape of one sample.

    Parameters
    ----------
    value : object

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError
        If it is no integer and not several of them.
    ValueError
        If it is not 1 to 3 of them, or they are not positive.
    """
    expected = "an integer, or 1 to 3 of them: (n,), (C, H, W), (T, d), or (T,) for tokens"
    if isinstance(value, (str, bytes, dict)):
        raise TypeError(f"input_shape is {value!r}; expected {expected}")
    if not checks.iterable(value):
        return (checks.integer(value, "input_shape"),)
    given = checks.several(value, "input_shape")
    if not 1 <= len(given) <= 3:
        raise ValueError(f"input_shape is {value!r}; expected {expected}")
    return tuple(checks.integer(n, f"input_shape[{i}]") for i, n in enumerate(given))
