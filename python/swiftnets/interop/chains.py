"""Dense layers and activations one after the other as an `MLP`, frozen batch norms folded in.

A batch norm with fixed statistics is z ↦ s z + t. After a dense layer, before its activation, that
makes its weights W diag(s) and its bias s b + t; before a dense layer it makes them diag(s) W and
b + t W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import FloatArray
from swiftnets.interop.nesting import Step
from swiftnets.mlp import MLP
from swiftnets.nets import activations
from swiftnets.nets.activations import Activation
from swiftnets.nets.layer import Layer
from swiftnets.nets.layers import BatchNorm, Dense, Flatten
from swiftnets.nets.losses import Loss

__all__ = ["Chain", "chain_of"]


def __dir__() -> list[str]:
    return __all__


class Chain:
    """Layers as they come, each with its name for messages.

    Parameters
    ----------
    word : str
        What dense layers are called where they come from.

    Attributes
    ----------
    is_folded : bool
        Whether there was a batch norm: weights are then of float64, and other ones than given.
    names : list of str
        Of the dense layers.
    """

    def __init__(self, word: str) -> None:
        self.is_folded, self._word = False, word
        self.names: list[str] = []
        self._weights: list[npt.NDArray[Any]] = []
        self._biases: list[npt.NDArray[Any] | None] = []
        self._functions: list[Activation | None] = []
        # Of batch norms behind an activation or the input: for the next dense layer.
        self._pending: tuple[FloatArray, FloatArray] | None = None
        self._last = ""

    def __len__(self) -> int:
        return len(self.names)

    def dense(
        self, name: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None
    ) -> None:
        """Appends a dense layer.

        Parameters
        ----------
        name : str
        weight : (in, out) array
        bias : (out,) array, optional
        """
        if self._pending is not None:
            scale, shift = self._pending
            moved = shift @ weight.astype(np.float64)
            bias = moved if bias is None else bias + moved
            weight = scale[:, None] * weight
            self._pending = None
        self.names.append(name)
        self._weights.append(weight)
        self._biases.append(bias)
        self._functions.append(None)

    def activation(self, name: str, function: Activation) -> None:
        """Appends an activation.

        Parameters
        ----------
        name : str
        function : Activation

        Raises
        ------
        ValueError
            If no dense layer is before it.
        """
        if not self.names or self._functions[-1] is not None or self._pending is not None:
            where = "after another activation"
            if self._pending is not None:
                where = f"after {self._last}"
            elif not self.names:
                where = f"before the first {self._word}"
            raise ValueError(f"{name} is {where}; expected {self._word} layers between")
        self._functions[-1] = function

    def norm(self, name: str, layer: BatchNorm, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Appends a batch norm.

        Parameters
        ----------
        name : str
        layer : BatchNorm
            With its fixed statistics.
        arrays : (gamma, beta), or none
        """
        mean, var = np.array(layer.mean), np.array(layer.var)
        gamma, beta = (
            array.astype(np.float64) for array in arrays or (np.ones_like(mean), 0 * mean)
        )
        scale = gamma / np.sqrt(var + layer.eps)
        shift = beta - mean * scale
        self.is_folded, self._last = True, name
        if self.names and self._functions[-1] is None and self._pending is None:
            bias = self._biases[-1]
            self._weights[-1] = self._weights[-1] * scale
            self._biases[-1] = shift if bias is None else bias * scale + shift
        elif self._pending is not None:
            first, second = self._pending
            self._pending = first * scale, second * scale + shift
        else:
            self._pending = scale, shift

    def net(
        self, loss: Callable[[int], Loss], reduction: Any, l2: float, dtype: npt.DTypeLike
    ) -> tuple[MLP, dict[str, npt.NDArray[Any]]]:
        """The net, and its arrays by the names that `MLP.flatten` takes.

        Parameters
        ----------
        loss : callable
            Of the number of outputs.
        reduction : str
        l2 : float
        dtype : float64 or float32

        Returns
        -------
        tuple of an MLP, and a dict of str to array

        Raises
        ------
        ValueError
            If some layers have a bias and others none, or the end is a batch norm that no dense
            layer takes in.
        """
        if not self.names:
            raise ValueError(f"there is no {self._word}; expected at least one")
        if self._pending is not None:
            raise ValueError(
                f"{self._last} is a batch norm after an activation with no {self._word} behind it; "
                "an MLP has nothing to fold it into, and a Network keeps it"
            )
        first = self._biases[0] is None
        for name, bias in zip(self.names, self._biases, strict=True):
            if (bias is None) != first:
                raise ValueError(
                    f"{name} has {'no bias' if bias is None else 'a bias'}, unlike "
                    f"{self.names[0]}; expected all layers with one, or none"
                    f"{' (a batch norm that is folded in makes one)' * self.is_folded}"
                )
        chosen = [function or activations.Identity() for function in self._functions]
        net = MLP(
            (len(self._weights[0]), *(weight.shape[1] for weight in self._weights)),
            activation=chosen[:-1],
            output_activation=chosen[-1],
            loss=loss(self._weights[-1].shape[1]),
            bias=not first,
            reduction=reduction,
            l2=l2,
            dtype=dtype,
        )
        arrays = {f"w{index}": weight for index, weight in enumerate(self._weights)}
        arrays |= {f"b{i}": bias for i, bias in enumerate(self._biases) if bias is not None}
        return net, arrays


def chain_of(layers: Sequence[Layer], steps: Sequence[Step]) -> Chain:
    """A net's layers as a chain.

    Parameters
    ----------
    layers : sequence of Layer
    steps : sequence of Step
        Of those with parameters, in their order.

    Returns
    -------
    Chain
        Flattening before the first dense layer is left out: its inputs are vectors.

    Raises
    ------
    ValueError
        If a layer is of another kind, or where an MLP has no place for it.
    """
    chain, rest = Chain("Gemm or MatMul"), list(steps)
    for place, layer in enumerate(layers):
        step = rest.pop(0) if rest and rest[0].layer is layer else None
        name = step.where if step else f"layer {place}, {layer},"
        arrays = step.arrays if step else ()
        if isinstance(layer, Dense):
            chain.dense(name, *arrays)
        elif isinstance(layer, Activation):
            if layer.name != "identity":
                chain.activation(name, layer)
        elif isinstance(layer, BatchNorm):
            chain.norm(name, layer, arrays)
        elif not isinstance(layer, Flatten) or len(chain):
            raise ValueError(
                f"{name} is none of an MLP's layers: dense ones with activations, and batch norms "
                "to fold in; a Network takes it"
            )
    return chain
