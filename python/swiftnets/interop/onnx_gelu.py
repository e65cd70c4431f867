"""GELU as exporters spell it for operator sets below 20: ½ x (1 + erf(x / √2)), five nodes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["with_gelus"]


def __dir__() -> list[str]:
    return __all__


class _Nodes:
    """Who makes and who takes what, and numbers that do not depend on the input."""

    def __init__(self, onnx: Any, nodes: Sequence[Any], arrays: Mapping[str, Any]) -> None:
        self.maker = {name: node for node in nodes for name in node.output}
        self.users: dict[str, list[Any]] = defaultdict(list)
        for node in nodes:
            for name in node.input:
                self.users[name].append(node)
        self._arrays = dict(arrays)
        for node in nodes:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name in ("value", "value_float"):
                    value: Any = onnx.helper.get_attribute_value(attribute)
                    if attribute.name == "value":
                        value = onnx.numpy_helper.to_array(value)
                    self._arrays[node.output[0]] = np.asarray(value)

    def _is(self, name: str, number: float) -> bool:
        array = self._arrays.get(name)
        if array is None or array.size != 1 or array.dtype.kind != "f":
            return False
        return abs(float(array.reshape(())) / number - 1) < 1e-6  # of float32, or of float64

    def other(self, node: Any, kind: str, number: float) -> str | None:
        """What a node of this kind has beside the number."""
        if node is None or node.op_type != kind or len(node.input) != 2:
            return None
        first, second = node.input
        if self._is(second, number):
            return str(first)
        return str(second) if kind != "Div" and self._is(first, number) else None

    def user(self, node: Any) -> Any:
        """The one node that takes a node's result, or None."""
        found = self.users[node.output[0]]
        return found[0] if len(found) == 1 else None


def with_gelus(onnx: Any, nodes: Sequence[Any], arrays: Mapping[str, Any]) -> list[Any]:
    """The nodes, with a Gelu in place of those that together are one.

    Parameters
    ----------
    onnx : module
    nodes : sequence of onnx.NodeProto
    arrays : mapping of str to array
        The initializers.

    Returns
    -------
    list of onnx.NodeProto
    """
    graph = _Nodes(onnx, nodes, arrays)
    made: dict[str, Any] = {}
    gone: set[str] = set()
    for node in nodes:
        if node.op_type != "Erf":
            continue
        for x, parts in _readings(graph, node):
            last = parts[-1]
            made[last.output[0]] = onnx.helper.make_node(
                "Gelu", [x], [last.output[0]], name=last.name
            )
            gone |= {part.output[0] for part in parts}
            break
    return [
        made.get(node.output[0], node)
        for node in nodes
        if node.output[0] in made or node.output[0] not in gone
    ]


def _readings(graph: _Nodes, erf: Any) -> Iterator[tuple[str, list[Any]]]:
    """x, and the nodes that are a GELU of it, the last one last."""
    inner = graph.maker.get(erf.input[0])
    x = graph.other(inner, "Div", math.sqrt(2)) or graph.other(inner, "Mul", math.sqrt(0.5))
    plus = graph.user(erf)
    if x is None or graph.user(inner) is None or graph.other(plus, "Add", 1.0) is None:
        return
    product = graph.user(plus)
    if product is None or product.op_type != "Mul":
        return
    begun = [inner, erf, plus, product]
    (factor,) = [name for name in product.input if name != plus.output[0]] or [""]
    last = graph.user(product)
    if factor == x and graph.other(last, "Mul", 0.5) is not None:
        yield x, [*begun, last]
    half = graph.maker.get(factor)
    if half is not None and graph.other(half, "Mul", 0.5) == x and graph.user(half) is not None:
        yield x, [half, *begun]
    is_last = last is not None and sorted(last.input) == sorted((product.output[0], x))
    if graph.other(product, "Mul", 0.5) is not None and is_last and last.op_type == "Mul":
        yield x, [*begun, last]
