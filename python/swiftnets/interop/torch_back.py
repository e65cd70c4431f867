"""PyTorch modules of `Network`s."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from swiftnets._support import checks
from swiftnets.interop.torch_graph import compare
from swiftnets.interop.torch_modules import modules
from swiftnets.interop.torch_parts import modules_of, require_torch
from swiftnets.nets import layers as nets
from swiftnets.nets.activations import Activation
from swiftnets.nets.layer import Layer, Value
from swiftnets.network import Network

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["network_to_torch"]


def __dir__() -> list[str]:
    return __all__


def network_to_torch(net: Network, w: Any) -> nn.Sequential:
    """A PyTorch module with a net's parameters; see `swiftnets.interop.to_torch`.

    Parameters
    ----------
    net : Network
    w : (P,) array_like

    Returns
    -------
    torch.nn.Sequential
    """
    torch = require_torch()
    views = net.unflatten(w)
    checks.finite(np.asarray(w), "w")
    with torch.random.fork_rng([]):  # what the modules begin with is drawn, and then replaced
        result = _sequential(net.layers, net.given)[0].eval()
    # In float64 until the outputs are compared, so that little is put down to rounding.
    result = result.double()
    with torch.no_grad():
        for row in net.parameter_table:
            values = torch.from_numpy(np.array(views[row.name], np.float64))
            result.get_parameter(row.name).copy_(_permuted(values, row.layout))
    compare(net, net.flatten(views), copy.deepcopy(result))
    return result.to(getattr(torch, str(net.dtype)))


def _permuted(values: torch.Tensor, layout: str) -> torch.Tensor:
    if layout.startswith("kernel"):
        return values.permute(3, 2, 0, 1)
    return values.T if layout.startswith("in, out") else values


def _sequential(layers: Sequence[Any], given: Value) -> tuple[nn.Sequential, Value]:
    """Modules one after the other, and what they make of a value."""
    from torch import nn

    found = []
    for layer in layers:
        if isinstance(layer, nets.Residual):
            body, made = _sequential(layer.body, given)
            found.append(modules()["Residual"](body, _sequential(layer.shortcut, given)[0]))
            given = made
        else:
            found.append(_module(layer, given))
            given = layer.after(given)
    return nn.Sequential(*found), given


def _module(layer: Layer, given: Value) -> nn.Module:
    from torch import nn

    own: Any = modules()
    one: Any = layer  # pairs of sizes are so typed that users may give one number
    match layer:
        case Activation(name="sine"):
            return own["Sine"]()  # type: ignore[no-any-return]
        case Activation():
            return (modules_of(layer) or [nn.Identity()])[0]
        case nets.Dense():
            return nn.Linear(layer.in_features, layer.out_features, layer.bias)
        case nets.Flatten():
            return nn.Flatten()
        case nets.Conv2d():
            return nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                one.kernel_size,
                one.stride,
                one.padding,
                groups=layer.groups,
                bias=layer.bias,
            )
        case nets.AvgPool2d():
            sizes = one.kernel_size, one.stride, one.padding
            return nn.AvgPool2d(*sizes, count_include_pad=layer.count_include_pad)
        case nets.MaxPool2d():
            return nn.MaxPool2d(one.kernel_size, one.stride, one.padding)
        case nets.GlobalAvgPool2d():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case nets.LayerNorm():
            return nn.LayerNorm(layer.normalized_shape, layer.eps, layer.affine)
        case nets.GroupNorm():
            return nn.GroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
        case nets.BatchNorm():
            return _batch_norm(layer, given)
        case nets.Embedding():
            return nn.Embedding(layer.num_embeddings, layer.embedding_dim)
        case nets.PositionEmbedding():
            return own["PositionEmbedding"](layer.length, layer.width)  # type: ignore[no-any-return]
        case nets.SelfAttention():
            return own["SelfAttention"](layer.width, layer.heads, layer.bias)  # type: ignore[no-any-return]
        case nets.MeanOverPositions():
            return own["MeanOverPositions"]()  # type: ignore[no-any-return]
    raise TypeError(f"layer {layer} has no module in PyTorch")


def _batch_norm(layer: nets.BatchNorm, given: Value) -> nn.Module:
    import torch
    from torch import nn

    kinds: dict[str, Any] = {"image": nn.BatchNorm2d, "vector": nn.BatchNorm1d}
    kind = kinds.get(given.kind, modules()["BatchNormOfPositions"])
    part = kind(len(layer.mean), layer.eps, affine=layer.affine).double()
    for name, values in (("running_mean", layer.mean), ("running_var", layer.var)):
        part.get_buffer(name).copy_(torch.tensor(values, dtype=torch.float64))
    result: nn.Module = part
    return result
