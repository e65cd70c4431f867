"""PyTorch's modules as layers of a net, with their parameters in the net's layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftnets.interop.nesting import TAKES_LOGITS, WholeMean
from swiftnets.interop.torch_parts import activation_of
from swiftnets.nets.layer import Layer
from swiftnets.nets.layers import (
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dense,
    Embedding,
    GroupNorm,
    LayerNorm,
    MaxPool2d,
    SelfAttention,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["SUPPORTED", "Read", "is_idle", "layer_of"]


def __dir__() -> list[str]:
    return __all__


SUPPORTED = (
    "Linear, Conv2d, AvgPool2d, MaxPool2d, AdaptiveAvgPool2d(1), Flatten, LayerNorm, GroupNorm, "
    "InstanceNorm2d, BatchNorm1d and BatchNorm2d in evaluation, Embedding, MultiheadAttention, "
    "TransformerEncoderLayer, Dropout in evaluation, Identity, the activations ReLU, LeakyReLU, "
    "ELU, Tanh, Sigmoid, Softplus, SiLU and GELU, sums, flattening to (N, n), means over H and W "
    "or over positions, and learned position embeddings"
)


class Read(NamedTuple):
    """A layer, its arrays, and what the module calls them."""

    layer: Layer
    arrays: tuple[npt.NDArray[Any], ...] = ()
    names: tuple[str, ...] = ()


def is_idle(part: nn.Module, where: str) -> bool:
    """Whether a module changes nothing here.

    Parameters
    ----------
    part : torch.nn.Module
    where : str

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If it is a Dropout in training.
    """
    from torch import nn

    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
    if isinstance(part, (*kinds, nn.FeatureAlphaDropout)):
        if part.training and part.p > 0:
            raise ValueError(f"{where} ({part}) is in training; expected module.eval(), or p = 0")
        return True
    return isinstance(part, nn.Identity)


def layer_of(part: nn.Module, where: str, given: tuple[int, ...]) -> Read:
    """The layer that a module is.

    Parameters
    ----------
    part : torch.nn.Module
    where : str
        For messages.
    given : tuple of int
        The shape of what it takes, samples first.

    Returns
    -------
    Read

    Raises
    ------
    TypeError
        If there is no such layer.
    ValueError
        If it has settings that the layer has not.
    """
    from torch import nn

    readers: dict[type[nn.Module], Callable[[Any, str, tuple[int, ...]], Read]] = {
        nn.Linear: _linear,
        nn.Conv2d: _convolution,
        nn.AvgPool2d: _average,
        nn.MaxPool2d: _maximum,
        nn.AdaptiveAvgPool2d: _adaptive,
        nn.LayerNorm: _layer_norm,
        nn.GroupNorm: _group_norm,
        nn.InstanceNorm2d: _instance_norm,
        nn.BatchNorm1d: _batch_norm,
        nn.BatchNorm2d: _batch_norm,
        nn.Embedding: _embedding,
        nn.MultiheadAttention: _attention,
    }
    for kind, read in readers.items():
        if isinstance(part, kind):
            return read(part, f"{where} ({_shown(part)})", given)
    known = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU, nn.GELU)
    if isinstance(part, known):
        return Read(activation_of(part, where.partition("module ")[2] or where))
    hint = ""
    if isinstance(part, (nn.Softmax, nn.LogSoftmax)):
        hint = TAKES_LOGITS
    elif isinstance(part, nn.SyncBatchNorm):
        hint = " (see torch.nn.BatchNorm2d, in evaluation)"
    elif isinstance(part, nn.RNNBase):
        hint = " (layers that feed back into themselves are not in a Network)"
    raise TypeError(
        f"{where} is of type {type(part).__name__}, which has no equivalent{hint}; supported are "
        f"{SUPPORTED}"
    )


def _shown(part: nn.Module) -> str:
    text = " ".join(str(part).split())
    return text if len(text) <= 90 else f"{text[:89]}…"


def _numbers(tensor: torch.Tensor) -> npt.NDArray[Any]:
    result: npt.NDArray[Any] = np.ascontiguousarray(tensor.detach().numpy())
    return result


def _kept(part: nn.Module, where: str, *names: str) -> tuple[tuple[str, ...], list[torch.Tensor]]:
    """Parameters by their names, those that the module has none of left out."""
    from torch import nn

    found = {}
    for name in names:
        owner, _, last = name.rpartition(".")
        tensor = getattr(part.get_submodule(owner), last)
        if tensor is None:
            continue
        if not isinstance(tensor, nn.Parameter):
            raise ValueError(f"{where}: {name} is no parameter; expected all that it uses to be")
        found[name] = tensor
    return tuple(found), list(found.values())


def _linear(part: nn.Linear, where: str, given: tuple[int, ...]) -> Read:
    names, tensors = _kept(part, where, "weight", "bias")
    layer = Dense(part.in_features, part.out_features, bias=len(names) == 2)
    arrays = (_numbers(tensors[0].T), *map(_numbers, tensors[1:]))
    return Read(layer, arrays, names)


def _convolution(part: nn.Conv2d, where: str, given: tuple[int, ...]) -> Read:
    if set(part.dilation) != {1}:
        raise ValueError(f"{where}: dilation is {part.dilation}; supported is 1")
    if part.padding_mode != "zeros":
        raise ValueError(f"{where}: padding_mode is {part.padding_mode!r}; supported is 'zeros'")
    padding: Any = part.padding
    if padding == "valid":
        padding = 0
    elif padding == "same":
        if any(size % 2 == 0 for size in part.kernel_size):
            raise ValueError(
                f"{where}: padding 'same' of an even kernel {part.kernel_size} pads one side more; "
                "supported are odd kernels"
            )
        padding = tuple(size // 2 for size in part.kernel_size)
    names, tensors = _kept(part, where, "weight", "bias")
    kernel: Any = part.kernel_size
    stride: Any = part.stride
    layer = Conv2d(
        part.in_channels,
        part.out_channels,
        kernel,
        stride,
        padding,
        groups=part.groups,
        bias=len(names) == 2,
    )
    arrays = (_numbers(tensors[0].permute(2, 3, 1, 0)), *map(_numbers, tensors[1:]))
    return Read(layer, arrays, names)


def _check_pool(part: Any, where: str) -> None:
    if part.ceil_mode:
        raise ValueError(f"{where}: ceil_mode is True; supported is False")


def _average(part: nn.AvgPool2d, where: str, given: tuple[int, ...]) -> Read:
    _check_pool(part, where)
    if part.divisor_override is not None:
        raise ValueError(f"{where}: divisor_override is {part.divisor_override}; supported is None")
    kernel, stride, padding = part.kernel_size, part.stride, part.padding
    return Read(AvgPool2d(kernel, stride, padding, part.count_include_pad))


def _maximum(part: nn.MaxPool2d, where: str, given: tuple[int, ...]) -> Read:
    _check_pool(part, where)
    if part.dilation not in (1, (1, 1), [1, 1]):
        raise ValueError(f"{where}: dilation is {part.dilation}; supported is 1")
    if part.return_indices:
        raise ValueError(f"{where}: return_indices is True; supported is False")
    sizes: Any = part.kernel_size, part.stride, part.padding
    return Read(MaxPool2d(*sizes))


def _adaptive(part: nn.AdaptiveAvgPool2d, where: str, given: tuple[int, ...]) -> Read:
    if part.output_size not in (1, (1, 1), [1, 1]):
        raise ValueError(f"{where}: output_size is {part.output_size}; supported is 1")
    if len(given) != 4:
        raise ValueError(f"{where} is given {given}; supported are images (N, C, H, W)")
    return Read(WholeMean((given[2], given[3])))


def _affine(part: Any, where: str) -> tuple[tuple[str, ...], tuple[npt.NDArray[Any], ...]]:
    names, tensors = _kept(part, where, "weight", "bias")
    if len(names) == 1:
        raise ValueError(f"{where} has a {names[0]} alone; supported are both weight and bias")
    return names, tuple(map(_numbers, tensors))


def _layer_norm(part: nn.LayerNorm, where: str, given: tuple[int, ...]) -> Read:
    names, arrays = _affine(part, where)
    if len(part.normalized_shape) != 1:
        raise ValueError(
            f"{where}: normalized_shape is {part.normalized_shape}; supported is the last "
            "dimension alone (see GroupNorm for images)"
        )
    return Read(LayerNorm(part.normalized_shape[0], part.eps, bool(names)), arrays, names)


def _group_norm(part: nn.GroupNorm, where: str, given: tuple[int, ...]) -> Read:
    names, arrays = _affine(part, where)
    layer = GroupNorm(part.num_groups, part.num_channels, part.eps, bool(names))
    return Read(layer, arrays, names)


def _instance_norm(part: nn.InstanceNorm2d, where: str, given: tuple[int, ...]) -> Read:
    if part.track_running_stats:
        raise ValueError(f"{where} has running statistics; supported are each sample's own")
    names, arrays = _affine(part, where)
    channels = given[1]
    return Read(GroupNorm(channels, channels, part.eps, bool(names)), arrays, names)


def _batch_norm(part: Any, where: str, given: tuple[int, ...]) -> Read:
    if part.training or part.running_mean is None or part.running_var is None:
        how = "is in training" if part.training else "has no running statistics"
        raise ValueError(
            f"{where} {how}: it takes each batch's own statistics, so that no sample has a loss of "
            "its own; expected module.eval(), where running statistics are fixed, or a GroupNorm"
        )
    if len(given) == 3 and type(part).__name__ != "BatchNormOfPositions":
        raise ValueError(f"{where} is given {given}; supported are (N, C) and (N, C, H, W)")
    names, arrays = _affine(part, where)
    kind: Any = BatchNorm2d if len(given) == 4 else BatchNorm
    mean, var = (_numbers(part.get_buffer(f"running_{name}")) for name in ("mean", "var"))
    statistics: Any = mean.tolist(), var.tolist()
    return Read(kind(*statistics, part.eps, bool(names)), arrays, names)


def _embedding(part: nn.Embedding, where: str, given: tuple[int, ...]) -> Read:
    for name, plain in (("padding_idx", None), ("max_norm", None), ("scale_grad_by_freq", False)):
        if getattr(part, name) != plain:
            raise ValueError(f"{where}: {name} is {getattr(part, name)}; supported is {plain}")
    names, tensors = _kept(part, where, "weight")
    layer = Embedding(part.num_embeddings, part.embedding_dim)
    return Read(layer, tuple(map(_numbers, tensors)), names)


def _attention(part: nn.MultiheadAttention, where: str, given: tuple[int, ...]) -> Read:
    if not part.batch_first:
        raise ValueError(f"{where}: batch_first is False; supported is True, samples first")
    if part.training and part.dropout > 0:
        raise ValueError(f"{where}: dropout {part.dropout} is in training; expected module.eval()")
    if not part._qkv_same_embed_dim:
        raise ValueError(f"{where}: kdim or vdim is not embed_dim; supported is the same width")
    if part.bias_k is not None or part.bias_v is not None or part.add_zero_attn:
        raise ValueError(f"{where}: add_bias_kv or add_zero_attn is True; supported is False")
    wanted = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    names, tensors = _kept(part, where, *wanted)
    if len(names) not in (2, 4) or (len(names) == 2) != (part.in_proj_bias is None):
        raise ValueError(f"{where} has {names}; supported are both biases or none")
    arrays = tuple(_numbers(one.T if one.ndim == 2 else one) for one in tensors)
    return Read(SelfAttention(part.embed_dim, part.num_heads, len(names) == 4), arrays, names)
