"""Nets to and from PyTorch: a `torch.nn.Sequential` of Linear layers and known activations.

Needs PyTorch, which has its own ways to be installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from swiftnets import activations, losses
from swiftnets._samples import FloatArray
from swiftnets.activations import Activation
from swiftnets.losses import LossLike
from swiftnets.mlp import MLP

try:
    import torch
    from torch import nn
except ImportError as error:  # pragma: no cover - depends on the environment
    raise ImportError("the conversion needs PyTorch: see pytorch.org for your system") from error

__all__ = ["from_torch", "to_torch"]


def from_torch(
    module: nn.Module, *, loss: LossLike | nn.Module = "squared_error", l2: float = 0.0
) -> tuple[MLP, FloatArray]:
    """A net and its parameters from a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Linear or torch.nn.Sequential
        Of Linear layers with one of the known activations or none after each; nested Sequentials,
        Identity and Flatten before the first layer are seen through, Dropout in evaluation too.
    loss : str, Loss, or a PyTorch loss
        Of PyTorch's: ``CrossEntropyLoss`` with reduction "sum" or "mean", without class weights,
        ``ignore_index`` in use or label smoothing; and with reduction "sum" ``BCEWithLogitsLoss``
        and ``HuberLoss``. Other reductions divide by the number of outputs too, and ``MSELoss`` has
        no ½: they are refused, for the derivatives would be other ones.
    l2 : float
        As for `MLP`.

    Returns
    -------
    net : MLP
    w : (P,) float array
        A copy of the module's parameters. PyTorch's weights are [out, in], the net's [in, out].

    Raises
    ------
    TypeError, ValueError
        Naming the module that has no equivalent, and why.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    >>> net, w = from_torch(model, loss=nn.CrossEntropyLoss())
    >>> x = torch.ones(5, 3, dtype=torch.float64)
    >>> bool(np.allclose(net.predict(w, x), model(x).detach().numpy()))
    True
    """
    layers: list[nn.Linear] = []
    functions: list[Activation | None] = []
    for name, part in _flat(module, ""):
        if isinstance(part, nn.Linear):
            layers.append(part)
            functions.append(None)
        elif isinstance(part, nn.Identity) or _is_idle(part, name, bool(layers)):
            continue
        else:
            function = _activation(part, name)
            if not layers or functions[-1] is not None:
                where = "before the first Linear" if not layers else "after another activation"
                raise ValueError(
                    f"module {name} ({part}) is {where}; expected Linear layers between"
                )
            functions[-1] = function
    if not layers:
        raise ValueError("module has no Linear layer; expected at least one")
    _check(layers)
    chosen = [function or activations.Identity() for function in functions]
    kind, reduction = _loss(loss)
    net = MLP(
        (layers[0].in_features, *(layer.out_features for layer in layers)),
        activation=chosen[:-1],
        output_activation=chosen[-1],
        loss=kind,
        bias=layers[0].bias is not None,
        reduction=reduction,  # type: ignore[arg-type]
        l2=l2,
        dtype=np.float32 if layers[0].weight.dtype == torch.float32 else np.float64,
    )
    arrays = {}
    for index, layer in enumerate(layers):
        arrays[f"w{index}"] = layer.weight.detach().cpu().numpy().T
        if net.bias:
            arrays[f"b{index}"] = layer.bias.detach().cpu().numpy()
    return net, net.flatten(arrays)


def to_torch(net: MLP, w: Any) -> nn.Sequential:
    """A PyTorch module with the net's parameters; it owns copies of them.

    Parameters
    ----------
    net : MLP
        Without sine activations, which PyTorch has no module for.
    w : (P,) array_like

    Returns
    -------
    torch.nn.Sequential
        Of `torch.nn.Linear` and activations, in the net's dtype. The identity is left out.

    Examples
    --------
    >>> net = MLP((3, 4, 2))
    >>> to_torch(net, net.initial(seed=0))
    Sequential(
      (0): Linear(in_features=3, out_features=4, bias=True)
      (1): Tanh()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    """
    dtype = torch.float32 if net.dtype == np.float32 else torch.float64
    views = net.unflatten(w)
    modules: list[nn.Module] = []
    for index, (m, n) in enumerate(zip(net.sizes, net.sizes[1:], strict=False)):
        layer = nn.Linear(m, n, bias=net.bias, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(views[f"w{index}"].T, order="C")))
            if net.bias:
                layer.bias.copy_(torch.from_numpy(np.array(views[f"b{index}"])))
        modules.append(layer)
        modules += _module(net.activations[index])
    return nn.Sequential(*modules)


def _flat(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        for key, child in module.named_children():
            yield from _flat(child, f"{name}.{key}" if name else key)
    else:
        yield name or type(module).__name__, module


def _is_idle(part: nn.Module, name: str, has_layers: bool) -> bool:
    """Whether it changes nothing here; an error where it would."""
    if isinstance(part, nn.Flatten):
        if has_layers:
            raise ValueError(f"module {name} ({part}) is after a layer; expected it first")
        return True
    if isinstance(part, nn.Dropout):
        if part.training and part.p > 0:
            raise ValueError(f"module {name} ({part}) is in training; expected module.eval()")
        return True
    return False


def _activation(part: nn.Module, name: str) -> Activation:
    simple = {
        nn.ReLU: activations.ReLU,
        nn.Tanh: activations.Tanh,
        nn.Sigmoid: activations.Sigmoid,
        nn.SiLU: activations.SiLU,
    }
    for kind, make in simple.items():
        if type(part) is kind:
            return make()
    if type(part) is nn.LeakyReLU:
        return activations.LeakyReLU(part.negative_slope)
    if type(part) is nn.GELU:
        return activations.GELU("tanh" if part.approximate == "tanh" else "none")
    if type(part) is nn.Softplus:
        if part.beta != 1:
            raise ValueError(f"module {name} ({part}) has beta {part.beta}; expected 1")
        # Beyond its threshold, 20, PyTorch takes the identity: off by 2e-9 at most.
        return activations.Softplus()
    raise TypeError(
        f"module {name} is of type {type(part).__name__}; expected Linear, ReLU, LeakyReLU, Tanh, "
        "Sigmoid, Softplus, SiLU or GELU"
    )


def _check(layers: list[nn.Linear]) -> None:
    first = layers[0]
    for index, layer in enumerate(layers):
        if (layer.bias is None) != (first.bias is None):
            raise ValueError(
                f"Linear layer {index} has {'no ' * (layer.bias is None)}bias, unlike layer 0; "
                "expected all layers with one, or none"
            )
        if layer.weight.dtype != first.weight.dtype or layer.weight.dtype not in (
            torch.float32,
            torch.float64,
        ):
            raise ValueError(
                f"Linear layer {index} has dtype {layer.weight.dtype}; expected float32 or "
                "float64, the same for all layers"
            )
        if index and layer.in_features != layers[index - 1].out_features:
            raise ValueError(
                f"Linear layer {index} has {layer.in_features} inputs; expected "
                f"{layers[index - 1].out_features}, the outputs of the one before"
            )


def _loss(loss: Any) -> tuple[LossLike, str]:
    """The net's loss and reduction."""
    if not isinstance(loss, nn.Module):
        return loss, "sum"
    if isinstance(loss, nn.CrossEntropyLoss):
        if loss.weight is not None or loss.label_smoothing:
            raise ValueError(
                f"loss ({loss}) has class weights or label smoothing; expected neither"
            )
        if loss.reduction in ("sum", "mean"):
            return losses.SoftmaxCrossEntropy(), loss.reduction
    elif isinstance(loss, nn.BCEWithLogitsLoss) and loss.reduction == "sum":
        if loss.weight is not None or loss.pos_weight is not None:
            raise ValueError(f"loss ({loss}) has weights; expected none")
        return losses.BinaryCrossEntropy(), "sum"
    elif isinstance(loss, nn.HuberLoss) and loss.reduction == "sum":
        return losses.Huber(loss.delta), "sum"
    raise ValueError(
        f'loss is {type(loss).__name__}(reduction="{getattr(loss, "reduction", None)}"); expected '
        'CrossEntropyLoss, or with reduction="sum" BCEWithLogitsLoss or HuberLoss, or a loss of '
        "swiftnets.losses: PyTorch's MSELoss has no ½, and its means divide by the outputs too"
    )


def _module(activation: Activation) -> list[nn.Module]:
    simple = {
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "softplus": nn.Softplus,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
    }
    if activation.name == "identity":
        return []
    if activation.name in simple:
        return [simple[activation.name]()]
    if activation.name == "leaky_relu":
        return [nn.LeakyReLU(activation.parameter)]
    if activation.name == "gelu_tanh":
        return [nn.GELU(approximate="tanh")]
    raise ValueError(f"activation is {activation.name!r}, which PyTorch has no module for")
