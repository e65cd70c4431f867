"""A net's loss and its derivatives as functions of PyTorch tensors, without `torch.autograd`.

The engine differentiates; PyTorch records nothing. Tensors share their memory with what the engine
reads and writes, where they are of the net's dtype, contiguous and in the net's order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from swiftnets._support.types import FloatArray, IntegerArray
from swiftnets.interop.last_point import LastPoint
from swiftnets.interop.torch_parts import kind_of_value, require_torch
from swiftnets.network import Network, require_net

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["TorchProblem", "as_torch"]


def __dir__() -> list[str]:
    return __all__


_RECORDED = (
    "{0} requires gradients, and what the engine computes is not recorded for them; expected "
    "{0}.detach()"
)


class TorchProblem:
    """A net's loss on some samples as functions of tensors; made by `as_torch`.

    All vectors are tensors on the CPU that do not require gradients, of float64 or float32. Results
    are of the net's dtype, and nobody else's. ``loss``, ``gradient`` and products at one w share
    its forward and backward pass. Threads share it safely.
    """

    def __init__(
        self, points: LastPoint, net: Network, orders: tuple[IntegerArray, IntegerArray] | None
    ) -> None:
        self._points, self._net = points, net
        # Of the net's numbers those of a module, and the other way round.
        self._orders = orders

    def loss(self, w: Tensor) -> Tensor:
        """The loss, with the net's reduction and l2 term.

        Parameters
        ----------
        w : (P,) tensor

        Returns
        -------
        () tensor

        Raises
        ------
        TypeError
            Here and below, if an argument is no tensor of real numbers.
        ValueError
            If it has another shape, is on another device, or requires gradients.
        """
        import torch

        value = self._points.at(self._taken(w, "w")).loss
        return torch.tensor(value, dtype=getattr(torch, str(self._net.dtype)))

    def gradient(self, w: Tensor) -> Tensor:
        """Its gradient.

        Parameters
        ----------
        w : (P,) tensor

        Returns
        -------
        (P,) tensor
        """
        return self._given(self._points.at(self._taken(w, "w")).gradient.copy())

    def hvp(self, w: Tensor, v: Tensor) -> Tensor:
        """Products of its Hessian, exact to rounding.

        Parameters
        ----------
        w : (P,) tensor
        v : (P,) or (K, P) tensor
            One direction, or K of them as rows, which threads share among them.

        Returns
        -------
        (P,) or (K, P) tensor
            Shaped like v. One costs about a gradient, at a w that was asked about before.
        """
        return self._given(self._taken(v, "v") @ self._points.at(self._taken(w, "w")).hessian)

    def gauss_newton_product(self, w: Tensor, v: Tensor) -> Tensor:
        """Products of its generalised Gauss–Newton matrix.

        Parameters
        ----------
        w : (P,) tensor
        v : (P,) or (K, P) tensor

        Returns
        -------
        (P,) or (K, P) tensor
        """
        return self._given(self._taken(v, "v") @ self._points.at(self._taken(w, "w")).gauss_newton)

    def __repr__(self) -> str:
        return f"TorchProblem({self._net!r})"

    def _taken(self, value: Any, name: str) -> FloatArray:
        """A tensor's numbers as the engine takes them."""
        array = numbers_of(value, name)
        if name == "w":
            array = self._net.engine.vector(array, name)
        else:
            rows, is_single = self._net.engine.rows(array, name)
            array = rows[0] if is_single else rows
        return array if self._orders is None else array[..., self._orders[0]]

    def _given(self, array: FloatArray) -> Tensor:
        import torch

        return torch.from_numpy(array if self._orders is None else array[..., self._orders[1]])


def as_torch(
    net: Network,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    module: nn.Module | None = None,
) -> TorchProblem:
    """The loss with exact Hessian products as functions that take and return tensors.

    Parameters
    ----------
    net : Network or MLP
    x, y, sample_weight
        As `Network.loss` takes them, tensors or not; copied, so that they may change afterwards.
    module : torch.nn.Module, optional
        The one that the net was made from. Vectors then are in its order and layout, which is that
        of ``torch.nn.utils.parameters_to_vector(module.parameters())``; they are copied into the
        net's. Without it they are the net's, as ``net.parameter_table`` has it, and not copied.

    Returns
    -------
    TorchProblem

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If x, y or sample_weight is a tensor that requires gradients; or if the module's parameters
        are not the net's, as where batch norms were folded.

    Examples
    --------
    >>> import torch
    >>> from swiftnets.interop import from_torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    >>> net, _ = from_torch(model, loss=torch.nn.MSELoss())
    >>> problem = as_torch(net, torch.ones(8, 3), torch.zeros(8, 1), module=model)
    >>> w = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    >>> problem.hvp(w, torch.ones_like(w)).shape
    torch.Size([21])
    """
    require_torch()
    require_net(net)
    for name, value in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        if getattr(value, "requires_grad", False):
            raise ValueError(_RECORDED.format(name))
    samples = net.engine.reader.kept(x, y, sample_weight, copy=True)
    orders = None if module is None else _orders(net, module)
    return TorchProblem(LastPoint(net, samples), net, orders)


def numbers_of(value: Any, name: str) -> npt.NDArray[Any]:
    """A tensor's memory as an array.

    Parameters
    ----------
    value : torch.Tensor
    name : str

    Returns
    -------
    array
        A view.

    Raises
    ------
    TypeError
        If it is no tensor, or NumPy has no array for it.
    ValueError
        If it requires gradients, or is on another device.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{name} is {kind_of_value(value)}; expected a torch.Tensor (a net's own methods take "
            "arrays)"
        )
    if value.device.type != "cpu":
        raise ValueError(
            f"{name} is on the device {value.device}; expected a tensor on the CPU, where the "
            f"engine computes: {name}.cpu()"
        )
    if value.requires_grad:
        raise ValueError(_RECORDED.format(name))
    try:
        result: npt.NDArray[Any] = value.numpy()
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{name} is a tensor of {value.dtype} and makes no array ({error}); expected dense "
            "float64 or float32"
        ) from None
    return result


def _orders(net: Network, module: Any) -> tuple[IntegerArray, IntegerArray]:
    """For each number of the net's vector its place in the module's, and the inverse."""
    from torch import nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"module is {kind_of_value(module)}; expected the one that net is made of")
    places: dict[str, IntegerArray] = {}
    count = 0
    for name, parameter in module.named_parameters():
        numbers = np.arange(count, count + parameter.numel(), dtype=np.int64)
        places[name] = numbers.reshape(parameter.shape)
        count += parameter.numel()
    expected = (
        "expected the module that net was made from (batch norms that are folded are no parameters "
        "of an MLP: give from_torch an example to keep them)"
    )
    found = []
    for row in net.parameter_table:
        own = places.pop(row.torch_name, np.empty(0, np.int64))
        if row.layout.startswith("kernel"):
            own = own.transpose(2, 3, 1, 0) if own.ndim == 4 else own[:0]
        elif row.layout.startswith("in, out"):
            own = own.T
        elif own.size == math.prod(row.shape):
            own = own.reshape(row.shape)
        if own.shape != row.shape:
            raise ValueError(
                f"module has no parameter {row.torch_name} that {row.name} {row.shape} of the net "
                f"may be; {expected}"
            )
        found.append(own.ravel())
    if places:
        raise ValueError(
            f"module has a parameter {next(iter(places))}, which the net has not; {expected}"
        )
    order = np.concatenate(found)
    return order, np.argsort(order)
