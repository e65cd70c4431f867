"""`Network`s from PyTorch modules of any layers, residuals among them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.interop import nesting
from swiftnets.interop.nesting import Graph, Step, WholeMean
from swiftnets.interop.torch_layers import SUPPORTED, Read, is_idle, layer_of
from swiftnets.interop.torch_parts import (
    check_differentiated,
    check_plain,
    copied,
    kind_of_value,
    loss_of,
    require_torch,
)
from swiftnets.interop.torch_trace import Trace, known_kind, place, trace
from swiftnets.nets import activations
from swiftnets.nets.layer import Value
from swiftnets.nets.layers import Flatten, GlobalAvgPool2d, MeanOverPositions
from swiftnets.nets.losses import LossLike
from swiftnets.network import Network

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

__all__ = ["compare", "network_from_torch"]


def __dir__() -> list[str]:
    return __all__


_SAMPLES = 7  # in a trace; another number is tried afterwards


def network_from_torch(
    module: nn.Module,
    example: Any,
    *,
    loss: LossLike | nn.Module,
    reduction: str | None,
    l2: float,
    dtype: npt.DTypeLike | None,
) -> tuple[Network, FloatArray]:
    """A net and its parameters; see `swiftnets.Network.from_torch`.

    Parameters
    ----------
    module : torch.nn.Module
    example : (N, …) array_like or tensor
    loss : str, Loss, or a PyTorch loss
    reduction : {"sum", "mean"}, optional
    l2 : float
    dtype : float64 or float32, optional

    Returns
    -------
    net : Network
    w : (P,) float array

    Raises
    ------
    TypeError
        If an argument is of another kind, or a part has no equivalent; the message names it.
    ValueError
        If a part has settings that ours has not, or the outputs differ.
    """
    torch = require_torch()
    from torch import nn

    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module is {kind_of_value(module)}; expected a torch.nn.Module, a net with its "
            "parameters"
        )
    given = loss_of(loss, reduction)
    check_plain(module)
    _check_own(module)
    clone = copied(module)
    found = {parameter.dtype for parameter in clone.parameters()}
    if len(found) != 1 or not found <= {torch.float32, torch.float64}:
        shown = ", ".join(sorted(map(str, found))) or "no parameters"
        raise ValueError(f"module has {shown}; expected parameters of float32 or of float64")
    own = str(found.pop()).removeprefix("torch.")
    wanted = checks.floating(own if dtype is None else dtype, "dtype")
    clone = clone.to(getattr(torch, str(wanted)))
    x = _example(example, wanted)
    # Random numbers, too: a forward may draw some.
    with torch.random.fork_rng([]), torch.autocast("cpu", enabled=False):
        followed = trace(clone, x[torch.arange(_SAMPLES) % len(x)])
        reader = _Reader(followed, _given(x))
        output = reader.read()
        layers, steps = reader.graph.nested(output)
        _check_used(module, reader)
        net = Network(
            layers,
            input_shape=reader.graph.values[0].sizes,
            loss=given.of(reader.graph.values[output].size),
            reduction=given.reduction,  # type: ignore[arg-type]
            l2=l2,
            dtype=wanted,
        )
        w, names = nesting.flat_parameters(net, steps)
        net.name_for_torch(names)
        compare(net, w, clone, x)
    return net, w


def compare(net: Network, w: FloatArray, module: nn.Module, example: Any = None) -> None:
    """An error if a module's outputs are not the net's.

    In float64 whatever the dtype, so that little is put down to rounding.

    Parameters
    ----------
    net : Network
    w : (P,) float array
    module : torch.nn.Module
        A copy, which becomes one of float64.
    example : torch.Tensor, optional

    Raises
    ------
    ValueError
        With the figures.
    """
    import torch

    module, double = module.double(), net.astype(np.float64)
    tried = {"random inputs": torch.from_numpy(nesting.inputs_like(net, 5))}
    if example is not None:
        # Twice if it is one sample, of which PyTorch's norms refuse a single number.
        x = example if len(example) > 1 else torch.cat([example, example])
        tried["example"] = x.double() if x.is_floating_point() else x
    size = 0.0
    for what, x in tried.items():
        with torch.enable_grad():
            try:
                output = module(x.clone())  # which may write to what it is given
                theirs = output.detach().numpy()
            except Exception as error:
                raise ValueError(
                    f"module fails on {what} of shape {tuple(x.shape)} ({error}); expected outputs "
                    "for any number of samples"
                ) from error
            check_differentiated(module, output)
        ours = double.predict(w.astype(np.float64), x.numpy())
        if not np.isfinite(ours).all():
            if what == "example":
                raise ValueError("the outputs on example are not finite; expected numbers")
            continue
        size = nesting.apart(net, ours, theirs, float(np.finfo(np.float64).eps), what, size)


def _example(example: Any, dtype: np.dtype[Any]) -> torch.Tensor:
    import torch

    if isinstance(example, torch.Tensor):
        x = example.detach().cpu()
    else:
        try:
            x = torch.from_numpy(np.array(example))
        except TypeError as error:
            raise TypeError(f"example is of type {type(example).__name__}; {error}") from None
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"example has dtype {x.dtype}; expected numbers, or integers as tokens")
    if not 2 <= x.ndim <= 4 or 0 in x.shape:
        raise ValueError(
            f"example has shape {tuple(x.shape)}; expected samples first: (N, n), (N, C, H, W), "
            "(N, T, d), or (N, T) integers as tokens"
        )
    return x.to(getattr(torch, str(dtype)) if x.is_floating_point() else torch.int64)


def _given(x: torch.Tensor) -> Value:
    sizes = tuple(x.shape[1:])
    if not x.is_floating_point():
        if len(sizes) != 1:
            raise ValueError(
                f"example is of integers {tuple(x.shape)}; expected floats, or (N, T) tokens"
            )
        return Value("tokens", sizes)
    return Value(("vector", "sequence", "image")[len(sizes) - 1], sizes)


def _check_own(module: nn.Module) -> None:
    """An error where two parameters share their numbers."""
    seen: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        key = parameter.data_ptr() if parameter.numel() else id(parameter)
        if key in seen:
            raise ValueError(
                f"parameter {name} shares its numbers with {seen[key]}; expected parameters of "
                "their own: a net has no tied ones"
            )
        seen[key] = name


def _check_used(module: nn.Module, reader: _Reader) -> None:
    for name, _ in module.named_parameters():
        if name not in reader.used:
            raise ValueError(
                f"parameter {name} is not used by the forward; expected only parameters that are"
            )


def _modules(node: fx.Node) -> tuple[type[nn.Module], tuple[str, ...]] | None:
    """The module that a function, or a tensor's method, is, and the names of its arguments."""
    import torch
    from torch import nn
    from torch.nn import functional as f

    pool = ("kernel_size", "stride", "padding")
    known: dict[Any, tuple[type[nn.Module], tuple[str, ...]]] = {
        f.max_pool2d: (nn.MaxPool2d, (*pool, "dilation", "ceil_mode", "return_indices")),
        torch.max_pool2d: (nn.MaxPool2d, (*pool, "dilation", "ceil_mode")),
        f.avg_pool2d: (
            nn.AvgPool2d,
            (*pool, "ceil_mode", "count_include_pad", "divisor_override"),
        ),
        f.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
        f.relu: (nn.ReLU, ("inplace",)),
        f.leaky_relu: (nn.LeakyReLU, ("negative_slope", "inplace")),
        f.elu: (nn.ELU, ("alpha", "inplace")),
        f.softplus: (nn.Softplus, ("beta", "threshold")),
        f.silu: (nn.SiLU, ("inplace",)),
        f.gelu: (nn.GELU, ("approximate",)),
        f.dropout: (nn.Dropout, ("p", "training", "inplace")),
    }
    plain = {
        nn.ReLU: (torch.relu, f.relu_, "relu", "relu_"),
        nn.Tanh: (torch.tanh, f.tanh, "tanh", "tanh_"),
        nn.Sigmoid: (torch.sigmoid, f.sigmoid, "sigmoid", "sigmoid_"),
    }
    for kind, targets in plain.items():
        known |= dict.fromkeys(targets, (kind, ()))
    return known.get(node.target)


def _plain(name: str) -> str:
    """A parameter's name in the user's module."""
    return name.removeprefix("module").lstrip(".")


class _Reader:
    """Nodes of a trace to steps of a graph."""

    def __init__(self, followed: Trace, given: Value) -> None:
        import torch

        self.trace = followed
        self.graph = Graph(given)
        self.used: dict[str, str] = {}
        self._numbers: dict[fx.Node, int] = {}
        # Outputs and weights of an attention.
        self._pairs: dict[fx.Node, int] = {}
        self._sums = (operator.add, operator.iadd, torch.add, "add", "add_")
        self._shapes = (torch.flatten, torch.reshape, torch.squeeze)
        self._shapes += ("flatten", "view", "reshape", "squeeze")  # type: ignore[assignment]
        self._means = (torch.mean, "mean")
        self._same = ("contiguous", "clone")

    def read(self) -> int:
        """The value of the output."""
        for node in self.trace.nodes:
            if node.op == "placeholder":
                self._numbers[node] = 0
            elif node.op == "output":
                returned: Any = node.args[0]
                if returned not in self._numbers:
                    kind = type(self.trace.values.get(returned, returned)).__name__
                    raise ValueError(f"the forward returns a {kind}; expected one tensor of x")
                return self._numbers[returned]
            elif node.users and any(
                other in self._numbers or other in self._pairs for other in node.all_input_nodes
            ):
                self._call(node)
        raise AssertionError("a trace ends with its output")

    def _shape(self, node: Any) -> tuple[int, ...]:
        return tuple(self.trace.values[node].shape)

    def _call(self, node: fx.Node) -> None:
        where = place(node)
        if node.op == "call_module":
            self._numbers_of_module(node, self.trace.part(node), where)
        elif node.target in self._sums:
            self._numbers[node] = self._sum(node, where)
        elif node.target in self._shapes:
            self._numbers[node] = self._flat(node, where)
        elif node.target in self._means:
            self._numbers[node] = self._mean(node, where)
        elif node.target in self._same:
            self._numbers[node] = self._only(node, where)
        elif node.target is operator.getitem and node.args[0] in self._pairs:
            if node.args[1] != 0:
                raise ValueError(f"{where} takes the weights of an attention; supported is [0]")
            self._numbers[node] = self._pairs[node.args[0]]  # type: ignore[index]
        else:
            self._numbers[node] = self._function(node, where)

    def _only(self, node: fx.Node, where: str) -> int:
        """The value that a call is of, and nothing else."""
        if node.all_input_nodes != [node.args[0] if node.args else node.kwargs.get("input")]:
            raise ValueError(f"{where} is of more than one tensor; supported are {SUPPORTED}")
        given = node.all_input_nodes[0]
        if given not in self._numbers:
            raise ValueError(f"{where} is of all that an attention returns; supported is its [0]")
        return self._numbers[given]

    def _put(self, read: Read, value: int, where: str, path: str = "") -> int:
        names = tuple(_plain(f"{path}.{name}") for name in read.names)
        for name in names:
            self._use(name, where)
        return self.graph.add(Step(where, (value,), read.layer, read.arrays, names))

    def _use(self, name: str, where: str) -> None:
        if name in self.used:
            raise ValueError(
                f"{where} uses parameter {name}, as {self.used[name]} does: it is called twice; "
                "expected parameters of its own in each call: a net has no tied ones"
            )
        self.used[name] = where

    # Modules --------------------------------------------------------------------------------------

    def _numbers_of_module(self, node: fx.Node, part: Any, where: str) -> None:
        from torch import nn

        path = str(node.target)
        if isinstance(part, nn.MultiheadAttention):
            value = self._put(*self._attended(node, part, where), where, path)
            if isinstance(self.trace.values[node], tuple):
                self._pairs[node] = value
            else:  # a subclass that returns the outputs alone
                self._numbers[node] = value
            return
        value = self._only(node, where)
        if isinstance(part, nn.TransformerEncoder):
            self._no_more(node, where)
            for index, layer in enumerate(part.layers):
                inner = f"{path}.layers.{index}"
                value = self._encoder(layer, value, f"{where}, layers.{index}", inner)
            if part.norm is not None:
                value = self._part(part.norm, value, f"{where}, norm", f"{path}.norm")
        elif isinstance(part, nn.TransformerEncoderLayer):
            self._no_more(node, where)
            value = self._encoder(part, value, where, path)
        elif isinstance(part, nn.Flatten):
            value = self._flat(node, where)
        else:
            value = self._part(part, value, where, path)
        self._numbers[node] = value

    def _part(self, part: Any, value: int, where: str, path: str) -> int:
        if is_idle(part, where):
            return value
        given = (_SAMPLES, *self.graph.values[value].sizes)
        return self._put(layer_of(part, where, given), value, where, path)

    def _no_more(self, node: fx.Node, where: str) -> None:
        """An error where an encoder has a mask."""
        more: dict[Any, Any] = {**dict(enumerate(node.args[1:])), **node.kwargs}
        given = [name for name, value in more.items() if value not in (None, False, *node.args[:1])]
        if given:
            raise ValueError(f"{where} is given a mask or more ({given}); supported is x alone")

    def _attended(self, node: fx.Node, part: Any, where: str) -> tuple[Read, int]:
        args = list(node.args)
        options = dict(node.kwargs)
        names = ["query", "key", "value", "key_padding_mask", "need_weights", "attn_mask"]
        names += ["average_attn_weights", "is_causal"]
        bound = dict(zip(names, args, strict=False)) | options
        inputs: list[Any] = [bound.pop(name) for name in names[:3] if name in bound]
        for name in ("key_padding_mask", "attn_mask"):
            if bound.get(name) is not None:
                raise ValueError(f"{where}: {name} is given; supported is attention without masks")
        if bound.get("is_causal"):
            raise ValueError(f"{where}: is_causal is True; supported is attention without masks")
        if any(one is not inputs[0] for one in inputs):
            raise ValueError(
                f"{where} has other keys or values than queries; supported is self-attention: "
                "x, x and x"
            )
        value = self._numbers[inputs[0]]
        if self.graph.values[value].kind != "sequence":
            shape = self._shape(inputs[0])
            raise ValueError(f"{where} is given {shape}; supported are sequences (N, T, d)")
        return layer_of(part, where, self._shape(inputs[0])), value

    def _encoder(self, part: Any, value: int, where: str, path: str) -> int:
        """Attention and two Linears, each with a norm and a residual."""
        from torch import nn
        from torch.nn import functional

        if known_kind(part) is not nn.TransformerEncoderLayer:
            raise TypeError(f"{where} is of type {type(part).__name__}; supported are {SUPPORTED}")
        for index in ("", "1", "2"):
            is_idle(getattr(part, f"dropout{index}"), f"{where}, dropout{index}")
        function = part.activation
        functions = {functional.relu: nn.ReLU(), functional.gelu: nn.GELU()}
        if not isinstance(function, nn.Module):
            if function not in functions:
                raise ValueError(f"{where}: activation is {function}; supported are relu and gelu")
            function = functions[function]
        attention = ((part.self_attn, "self_attn"),)
        feed = ((part.linear1, "linear1"), (function, "activation"), (part.linear2, "linear2"))
        for norm, name, body in (
            (part.norm1, "norm1", attention),
            (part.norm2, "norm2", feed),
        ):
            result, normed = value, ((norm, name),)
            parts: Any = (*normed, *body) if part.norm_first else body
            for layer, called in parts:
                result = self._part(layer, result, f"{where}, {called}", f"{path}.{called}")
            value = self.graph.add(Step(f"{where}, the sum at {name}", (result, value), None))
            if not part.norm_first:
                value = self._part(norm, value, f"{where}, {name}", f"{path}.{name}")
        return value

    # Functions ------------------------------------------------------------------------------------

    def _function(self, node: fx.Node, where: str) -> int:
        import torch

        if node.target in (torch.sin, "sin"):
            return self._put(Read(activations.Sine()), self._only(node, where), where)
        found = _modules(node)
        if found is None:
            raise TypeError(f"{where} has no equivalent; supported are {SUPPORTED}")
        kind, names = found
        value = self._only(node, where)
        options = dict(zip(names, node.args[1:], strict=False))
        options |= {k: v for k, v in node.kwargs.items() if k != "input"}
        from torch import nn

        training = bool(options.pop("training", True)) if kind is nn.Dropout else False
        try:
            part = kind(**options).train(training)
        except TypeError as error:
            raise TypeError(f"{where} has unknown arguments ({error})") from None
        return self._part(part, value, where, "")

    def _sum(self, node: fx.Node, where: str) -> int:
        terms: list[Any] = [
            *node.args,
            *(node.kwargs[k] for k in ("input", "other") if k in node.kwargs),
        ]
        if len(terms) != 2 or node.kwargs.get("alpha", 1) != 1:
            raise ValueError(f"{where} is no plain sum of two; supported are x + y")
        known = [term for term in terms if term in self._numbers]
        if len(known) == 2:
            return self.graph.add(Step(where, tuple(self._numbers[t] for t in known), None))
        if not known:
            raise ValueError(f"{where} is of all that an attention returns; supported is its [0]")
        value = self._numbers[known[0]]
        other = terms[0] if terms[1] is known[0] else terms[1]
        name = self._source(other)
        if name is None or self.graph.values[value].kind != "sequence":
            what = "a number or a fixed tensor" if name is None else f"parameter {_plain(name)}"
            raise ValueError(
                f"{where} adds {what} to {self.graph.values[value]}; supported are sums of two "
                "results, and learned position embeddings (T, d) of sequences"
            )
        return self._position(self.trace.values[other], name, value, where)

    def _position(self, added: torch.Tensor, name: str, value: int, where: str) -> int:
        import torch

        length, width = self.graph.values[value].sizes
        parameter = self.trace.root.get_parameter(name)
        table = added.reshape(-1, length, width) if added.shape[-2:] == (length, width) else None
        if table is None or not bool((table == table[:1]).all()):
            raise ValueError(
                f"{where} adds parameter {_plain(name)} as {tuple(added.shape)}; supported are "
                f"{(length, width)}, a row for each position"
            )
        whole = parameter.numel() == length * width
        if not whole or not torch.equal(table[0], parameter.detach().reshape(length, width)):
            raise ValueError(
                f"{where} adds a part of parameter {_plain(name)} {tuple(parameter.shape)}, or its "
                "rows in another order; supported is all of it: as many positions as the "
                f"example, {length}"
            )
        plain = _plain(name)
        self._use(plain, where)
        return self.graph.add(
            nesting.position(where, table[0].detach().numpy().copy(), plain, value)
        )

    def _source(self, node: Any) -> str | None:
        """The one parameter whose numbers a tensor has that does not depend on x."""
        import torch
        from torch import nn

        known = {nn.Embedding}
        seen: set[Any] = set()
        names = set()
        views = (operator.getitem, "unsqueeze", "expand", "expand_as", "view", "reshape")
        views += (torch.unsqueeze, "contiguous")  # type: ignore[assignment]
        while node in self.trace.values and node not in seen:
            seen.add(node)
            value = self.trace.values[node]
            if node.op == "get_attr" and isinstance(value, nn.Parameter):
                names.add(str(node.target))
                break
            if node.op == "call_module" and type(self.trace.part(node)) in known:
                layer_of(self.trace.part(node), place(node), ())  # refuses what it does not know
                names.add(f"{node.target}.weight")
                break
            if node.target not in views:
                return None
            node = node.args[0]
        return names.pop() if names else None

    def _flat(self, node: fx.Node, where: str) -> int:
        value = self._only(node, where)
        before, after = self._shape(node.all_input_nodes[0]), self._shape(node)
        held = self.graph.values[value]
        if after == before or after[1:] == held.sizes:
            return value
        if after != (_SAMPLES, held.size) or held.kind == "tokens":
            shown = tuple("N" if n == _SAMPLES else n for n in before[:1]), before[1:], after[1:]
            raise ValueError(
                f"{where} makes (…, {shown[2]}) of samples {shown[1]}; supported is flattening "
                f"all of a sample: torch.flatten(x, 1), here to (N, {held.size})"
            )
        return self.graph.add(Step(where, (value,), Flatten()))

    def _mean(self, node: fx.Node, where: str) -> int:
        value = self._only(node, where)
        bound = dict(zip(("dim", "keepdim", "dtype"), node.args[1:], strict=False)) | {
            k: v for k, v in node.kwargs.items() if k != "input"
        }
        shape = self._shape(node.all_input_nodes[0])
        given: Any = bound.get("dim")
        given = () if given is None else (given if isinstance(given, (tuple, list)) else (given,))
        dims = sorted(int(d) % len(shape) for d in given)
        layer: Any = None
        if len(shape) == 4 and dims == [2, 3]:
            layer = WholeMean(shape[2:]) if bound.get("keepdim") else GlobalAvgPool2d()
        elif len(shape) == 3 and dims == [1] and not bound.get("keepdim"):
            layer = MeanOverPositions()
        if layer is None or bound.get("dtype") is not None:
            raise ValueError(
                f"{where} of {shape} over {given} is none of the means supported: x.mean((2, 3)) "
                "of images, and x.mean(1) of sequences"
            )
        return self._put(Read(layer), value, where)
