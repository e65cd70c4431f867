"""Graphs of layers and sums, as other libraries have them, written as nested residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import FloatArray
from swiftnets.nets import activations
from swiftnets.nets.layer import Layer, Refusal, Value
from swiftnets.nets.layers import (
    AvgPool2d,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    PositionEmbedding,
    Residual,
)
from swiftnets.network import Network

__all__ = [
    "TAKES_LOGITS",
    "Graph",
    "Step",
    "WholeMean",
    "all_layers",
    "apart",
    "flat_parameters",
    "inputs_like",
    "position",
]


def __dir__() -> list[str]:
    return __all__


TAKES_LOGITS = " (the cross-entropy takes logits: leave it out)"
"""What to say of a softmax that ends a model."""


@dataclass
class Step:
    """A layer, or the sum of two values, where it stands in a graph.

    Attributes
    ----------
    where : str
        What messages call it.
    inputs : tuple of int
        Values: 0 is the net's input, i + 1 what step i makes.
    layer : Layer, optional
        None is a sum.
    arrays, names : tuple
        Its parameters in the net's layout, and what the other library calls them.
    """

    where: str
    inputs: tuple[int, ...]
    layer: Layer | None
    arrays: tuple[npt.NDArray[Any], ...] = ()
    names: tuple[str, ...] = ()


class Graph:
    """Steps in the order in which they compute.

    Parameters
    ----------
    given : Value
        The net's input.
    """

    def __init__(self, given: Value) -> None:
        self.steps: list[Step] = []
        self.values = [given]

    def add(self, step: Step) -> int:
        """Appends a step.

        Parameters
        ----------
        step : Step

        Returns
        -------
        int
            The value that it makes.

        Raises
        ------
        ValueError
            If it does not take what comes, or has parameters of another shape.
        """
        given = [self.values[value] for value in step.inputs]
        if step.layer is None:
            if given[0] != given[1] or given[0].kind == "tokens":
                raise ValueError(
                    f"{step.where} adds {given[0]} and {given[1]}; expected the same of both, and "
                    "no tokens"
                )
            made = given[0]
        else:
            try:
                made = _after(step.layer, given[0])
            except Refusal as refusal:
                raise ValueError(
                    f"{step.where} is given {given[0]}; as {step.layer} it takes {refusal}"
                ) from None
            shapes = tuple(array.shape for array in step.layer.arrays(given[0]))
            found = tuple(array.shape for array in step.arrays)
            if found != shapes:
                raise ValueError(f"{step.where} has arrays of shapes {found}; expected {shapes}")
        for array, name in zip(step.arrays, step.names, strict=True):
            if not np.isfinite(array).all():
                raise ValueError(f"{step.where}: {name} is not finite; expected numbers")
        self.steps.append(step)
        self.values.append(made)
        return len(self.values) - 1

    def nested(self, output: int) -> tuple[list[Layer], list[Step]]:
        """The layers of a net that makes a value.

        Parameters
        ----------
        output : int

        Returns
        -------
        layers : list of Layer
        steps : list of Step
            Those of layers with parameters, in the order of the vector.

        Raises
        ------
        ValueError
            If the graph is more general than nested residuals; the message names the sum.
        """
        return _Nesting(self._pools(output)).path(output, 0)

    def _pools(self, output: int) -> list[Step]:
        """The steps, a mean of whole channels joined with the Flatten behind it."""
        users = [0] * len(self.values)
        for step in self.steps:
            for value in step.inputs:
                users[value] += 1
        users[output] += 1
        steps = list(self.steps)
        for index, step in enumerate(steps):
            before = step.inputs[0] - 1
            if not isinstance(step.layer, Flatten) or before < 0 or users[before + 1] != 1:
                continue
            pool = steps[before]
            if isinstance(pool.layer, WholeMean):
                steps[index] = Step(pool.where, pool.inputs, GlobalAvgPool2d())
        for index, step in enumerate(steps):
            if isinstance(step.layer, WholeMean):
                plain = AvgPool2d(step.layer.kernel_size)
                steps[index] = Step(step.where, step.inputs, plain)
        return steps


def _after(layer: Layer, given: Value) -> Value:
    if given.kind == "tokens" and not isinstance(layer, Embedding):
        raise Refusal("numbers, and only an Embedding takes tokens")
    return layer.after(given)


class WholeMean(AvgPool2d):
    """The mean of each channel, kept as an image (C, 1, 1)."""


class _Nesting:
    """A value's paths: each step has one place, or the graph is none of nested residuals."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.placed: set[int] = set()
        # What all paths from the input to a value meet last before it (its immediate dominator).
        self.before = [-1]
        self.depth = [0]
        for step in steps:
            first = step.inputs[0]
            for other in step.inputs[1:]:
                first = self._meet(first, other)
            self.before.append(first)
            self.depth.append(self.depth[first] + 1)

    def _meet(self, a: int, b: int) -> int:
        while a != b:
            if self.depth[a] >= self.depth[b]:
                a = self.before[a]
            else:
                b = self.before[b]
        return a

    def path(self, end: int, start: int, inside: str = "") -> tuple[list[Layer], list[Step]]:
        """Layers from one value to another, which all paths to the end meet."""
        layers: list[Layer] = []
        parts: list[list[Step]] = []
        while end != start:
            step = self.steps[end - 1]
            if end in self.placed:
                raise ValueError(
                    f"{inside} adds what is no residual: {step.where} is used there and elsewhere; "
                    "expected sums of two paths that part from one value and have nothing else in "
                    "common (Residual)"
                )
            self.placed.add(end)
            if step.layer is not None:
                layers.append(step.layer)
                parts.append([step] if step.arrays else [])
            else:
                both = [self.path(value, self.before[end], step.where) for value in step.inputs]
                # The longer path is the body; the sum is the same.
                both.sort(key=lambda found: -len(found[0]))
                (body, first), (shortcut, second) = both
                layers.append(Residual(body or [activations.Identity()], shortcut))
                parts.append(first + second)
            end = self.before[end]
        return layers[::-1], [step for part in parts[::-1] for step in part]


def flat_parameters(net: Network, steps: Sequence[Step]) -> tuple[FloatArray, tuple[str, ...]]:
    """The parameter vector of steps in the order of the net's, and their names.

    Parameters
    ----------
    net : Network
    steps : sequence of Step

    Returns
    -------
    w : (P,) float array
    names : tuple of str
    """
    arrays = [array for step in steps for array in step.arrays]
    w = np.concatenate([array.ravel() for array in arrays]).astype(net.dtype)
    return w, tuple(name for step in steps for name in step.names)


def inputs_like(net: Network, count: int) -> npt.NDArray[Any]:
    """Random inputs of a net.

    Parameters
    ----------
    net : Network
    count : int

    Returns
    -------
    (count, …) array
        Normal numbers of several scales in float64, or tokens.
    """
    random = np.random.default_rng(0)
    if net.given.kind == "tokens":
        return random.integers(net.vocabulary, size=(count, *net.input_shape))
    x = random.standard_normal((count, *net.input_shape))
    scales: npt.NDArray[Any] = np.resize([1, 1, 4, 0.125], (count, *[1] * len(net.input_shape)))
    result: npt.NDArray[Any] = x * scales
    return result


def apart(
    net: Network,
    ours: FloatArray,
    theirs: npt.NDArray[Any],
    unit: float,
    inputs: str,
    size: float = 0.0,
) -> float:
    """An error if two evaluations of a net's outputs differ by more than rounding explains.

    Parameters
    ----------
    net : Network
    ours, theirs : array
    unit : float
        The machine epsilon of the less precise one.
    inputs : str
        What they are of, for the message.
    size : float
        Of outputs on other inputs: those of constant images may be 0 but for rounding.

    Returns
    -------
    float
        The largest of all.

    Raises
    ------
    ValueError
        With the figures.
    """
    if theirs.shape != ours.shape:
        raise ValueError(
            f"the outputs on {inputs} are of shape {theirs.shape}; expected {ours.shape}, a vector "
            "for each sample whatever their number"
        )
    # 1e-12 of the largest in float64: some thousand units, where products of depth n in nets of l
    # layers take about l √n.
    tolerance = 4504 * unit
    if any(getattr(layer, "name", "") == "softplus" for layer in all_layers(net.layers)):
        tolerance += 1e-7  # PyTorch's is the identity beyond its threshold
    size = float(np.max(abs(ours), initial=size))
    distance = float(np.max(abs(ours - theirs), initial=0.0))
    if not distance <= tolerance * size:
        raise ValueError(
            f"the outputs differ on {inputs} by {distance:.2g} where the largest is {size:.2g} and "
            f"rounding explains {tolerance * size:.2g}; expected the same function"
        )
    return size


def all_layers(layers: Any) -> list[Layer]:
    """Layers, and those within residuals.

    Parameters
    ----------
    layers : sequence of Layer

    Returns
    -------
    list of Layer
    """
    found = []
    for layer in layers:
        if isinstance(layer, Residual):
            found += all_layers(layer.body) + all_layers(layer.shortcut)
        else:
            found.append(layer)
    return found


def position(where: str, table: npt.NDArray[Any], name: str, value: int) -> Step:
    """A table that is added to a sequence.

    Parameters
    ----------
    where : str
    table : (T, d) array
    name : str
    value : int

    Returns
    -------
    Step
    """
    return Step(where, (value,), PositionEmbedding(*table.shape), (table,), (name,))
