"""Nets to and from PyTorch, and chains of Linear layers and known activations in particular.

A chain's forward is followed call by call (`torch.fx`), so that a module used twice counts
twice, and what cannot be followed is refused. The outputs of both sides are compared after every
conversion, in either direction. PyTorch, which has its own ways to be installed, is imported by the
first call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.interop.chains import Chain
from swiftnets.interop.torch_back import network_to_torch
from swiftnets.interop.torch_graph import compare, network_from_torch
from swiftnets.interop.torch_layers import layer_of
from swiftnets.interop.torch_parts import (
    activation_of,
    check_differentiated,
    check_plain,
    copied,
    kind_of_value,
    loss_of,
    modules_of,
    require_torch,
)
from swiftnets.mlp import MLP
from swiftnets.nets.layers import BatchNorm
from swiftnets.nets.losses import LossLike
from swiftnets.network import Network, require_net

if TYPE_CHECKING:
    from torch import nn

__all__ = ["from_torch", "to_torch"]


def __dir__() -> list[str]:
    return __all__


@overload
def from_torch(
    module: nn.Module,
    example: None = None,
    *,
    loss: LossLike | nn.Module = ...,
    reduction: Literal["sum", "mean"] | None = ...,
    l2: float = ...,
    dtype: npt.DTypeLike | None = ...,
) -> tuple[MLP, FloatArray]: ...


@overload
def from_torch(
    module: nn.Module,
    example: Any,
    *,
    loss: LossLike | nn.Module = ...,
    reduction: Literal["sum", "mean"] | None = ...,
    l2: float = ...,
    dtype: npt.DTypeLike | None = ...,
) -> tuple[Network, FloatArray]: ...


def from_torch(
    module: nn.Module,
    example: Any = None,
    *,
    loss: LossLike | nn.Module = "squared_error",
    reduction: Literal["sum", "mean"] | None = None,
    l2: float = 0.0,
    dtype: npt.DTypeLike | None = None,
) -> tuple[Network, FloatArray]:
    """A net and its parameters from a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Module
        With an example of its inputs, any layers: see `swiftnets.Network.from_torch`. Without one,
        Linear layers with one of the known activations or none after each: a Linear, a Sequential,
        nested ones, or a class of your own whose forward is such a chain, of modules or functions.
        BatchNorm1d in evaluation is folded into the Linear before or behind it, whose bias it may
        make. Identity, Dropout in evaluation, and flattening of all but the samples before the
        first layer are seen through. Refused are parameters shared between layers or unused, hooks,
        parametrizations, and biases in some layers only.
    example : (N, …) array_like or tensor, optional
    loss : str, Loss, or a PyTorch loss
        Of PyTorch's: ``CrossEntropyLoss``, without class weights, ``ignore_index`` or label
        smoothing, ``BCEWithLogitsLoss`` without weights, ``MSELoss``, ``HuberLoss`` and
        ``SmoothL1Loss``, with reduction "sum" or "mean". The net's loss is the same number: the
        loss's factor makes up for ``MSELoss`` having no ½ and for means over all outputs, but of
        ``CrossEntropyLoss`` (see `swiftnets.nets.Loss`).
    reduction : {"sum", "mean"}, optional
        A PyTorch loss's own, or else "sum".
    l2 : float
        As for `MLP`.
    dtype : float64 or float32, optional
        The module's.

    Returns
    -------
    net : MLP, or with an example a Network
    w : (P,) float array
        A copy of the module's parameters, whether they require gradients or not. PyTorch's weights
        are [out, in], the net's [in, out]. Where a BatchNorm1d is folded in, weights and biases are
        other ones than the module's, and derivatives are in them.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        Naming the part that has no equivalent, and why; or if the outputs differ on random inputs
        by more than rounding explains, with the figures.

    Notes
    -----
    PyTorch's Softplus is the identity beyond its threshold, 20 by default, the net's is not: they
    differ by 2e-9 at most. Nothing of the module is changed, nor PyTorch's random numbers.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    >>> net, w = from_torch(model, loss=nn.CrossEntropyLoss())
    >>> x = torch.ones(5, 3, dtype=torch.float64)
    >>> bool(np.allclose(net.predict(w, x), model(x).detach().numpy()))
    True
    """
    require_torch()
    from torch import nn

    if example is not None:
        return network_from_torch(
            module, example, loss=loss, reduction=reduction, l2=l2, dtype=dtype
        )
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module is {kind_of_value(module)}; expected a torch.nn.Module, a net with its "
            "parameters"
        )
    given = loss_of(loss, reduction)
    check_plain(module)
    clone = copied(module)
    parts: list[tuple[str, nn.Module]] = []
    for name, part in _calls(clone):
        if not _is_idle(part, name, bool(parts)):
            if not isinstance(part, (nn.Linear, nn.BatchNorm1d)):
                activation_of(part, name)  # or an error, before those of all layers
            parts.append((name, part))
    if not any(isinstance(part, nn.Linear) for _, part in parts):
        raise ValueError("module has no Linear layer; expected at least one")
    own = _check_layers(module, parts)
    chain = Chain("Linear")
    for name, part in parts:
        where = f"module {name} ({part})"
        if isinstance(part, nn.Linear):
            bias = None if part.bias is None else part.bias.detach().numpy()
            chain.dense(f"module {name} (Linear)", part.weight.detach().numpy().T, bias)
        elif isinstance(part, nn.BatchNorm1d):
            layer, numbers, _ = layer_of(part, f"module {name}", (1, part.num_features))
            chain.norm(where, cast(BatchNorm, layer), numbers)
        else:
            chain.activation(where, activation_of(part, name))
    net, arrays = chain.net(given.of, given.reduction, l2, own)
    if chain.is_folded:
        double = net.astype(np.float64)
        compare(double, double.flatten(arrays), clone)
        w = net.flatten(arrays)
    else:
        w = net.flatten(arrays)
        net.name_for_torch(_names(clone, parts))
        _compare(net, w, clone)
    if dtype is not None:
        net = net.astype(dtype)
    return net, w.astype(net.dtype, copy=False)


def to_torch(net: Network, w: Any) -> nn.Sequential:
    """A PyTorch module with the net's parameters; it owns copies of them.

    Parameters
    ----------
    net : Network or MLP
        An MLP without sine activations, which PyTorch has no module for.
    w : (P,) array_like
        Finite.

    Returns
    -------
    torch.nn.Sequential
        In the net's dtype, on the CPU. An MLP's is of `torch.nn.Linear` and activations; the
        identity is left out. Another net's has its layers one by one, in evaluation: parameters
        have the names of ``net.unflatten(w)``, and what PyTorch has no module for (residuals,
        position embeddings) is one of ours.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; or as `from_torch`, if the outputs differ.

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
    torch = require_torch()
    require_net(net)
    return _chain_to_torch(net, w, torch) if isinstance(net, MLP) else network_to_torch(net, w)


def _chain_to_torch(net: MLP, w: Any, torch: Any) -> nn.Sequential:
    from torch import nn

    views = net.unflatten(w)
    checks.finite(np.asarray(w), "w")
    modules: list[nn.Module] = []
    for index, (m, n) in enumerate(zip(net.sizes, net.sizes[1:], strict=False)):
        # Without PyTorch's own initial values, which would move its random numbers.
        layer = nn.Linear(m, n, bias=net.bias, device="meta", dtype=getattr(torch, str(net.dtype)))
        layer = layer.to_empty(device="cpu")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(views[f"w{index}"].T, order="C")))
            if net.bias:
                layer.bias.copy_(torch.from_numpy(np.array(views[f"b{index}"])))
        modules.append(layer)
        modules += modules_of(net.activations[index])
    result = nn.Sequential(*modules)
    _compare(net, net.flatten(views), result)
    return result


# What a module does -------------------------------------------------------------------------------


def _calls(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a forward calls, in order; functions as the modules that they are."""
    from torch import fx, nn

    own = threading.get_ident()
    functions = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU, nn.GELU)
    known = (nn.Linear, *functions)

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, name: str) -> bool:
            inherits = any(isinstance(m, k) and type(m).forward is k.forward for k in known)
            return inherits or super().is_leaf_module(m, name)

        def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
            if threading.get_ident() != own:  # which meets the tracer as well, meanwhile
                return forward(*args, **kwargs)
            return super().call_module(m, forward, args, kwargs)

    root = nn.Sequential()
    root.add_module("module", module)  # a Linear alone is a call, too
    try:
        graph = Tracer().trace(root)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"the forward of {type(module).__name__} cannot be followed by torch.fx ({reason}); "
            "expected Linear layers and activations one after the other"
        ) from error
    nodes = list(graph.nodes)
    for previous, node in zip(nodes, nodes[1:], strict=False):
        name = _place(node, module)
        if len(previous.users) != 1 or node.all_input_nodes != [previous]:
            hint = "; flatten by torch.flatten(x, 1)" * (name in (".size()", "getattr()"))
            raise ValueError(
                f"the forward of {type(module).__name__} branches at {name}; expected Linear "
                f"layers and activations one after the other, of one input{hint}"
            )
        if node.op == "call_module":
            yield name, root.get_submodule(node.target)
        elif node.op == "output":
            if node.args[0] is not previous:
                raise ValueError(
                    f"the forward of {type(module).__name__} returns a "
                    f"{type(node.args[0]).__name__}; expected one tensor"
                )
        else:
            yield name, _of_function(node, previous, name)


def _place(node: Any, module: nn.Module) -> str:
    if node.op == "call_module":
        return str(node.target).removeprefix("module").lstrip(".") or type(module).__name__
    if node.op == "get_attr":
        return f"parameter {str(node.target).removeprefix('module.')}"
    target = getattr(node.target, "__name__", node.target)
    return f"{'.' * (node.op == 'call_method')}{target}()" if "call" in node.op else node.op


def _of_function(node: Any, previous: Any, name: str) -> nn.Module:
    """The module that a function, or a tensor's method, is."""
    import torch
    from torch import nn
    from torch.nn import functional

    modules: dict[Any, type[nn.Module]] = {
        functional.relu: nn.ReLU,
        functional.leaky_relu: nn.LeakyReLU,
        functional.elu: nn.ELU,
        functional.softplus: nn.Softplus,
        functional.silu: nn.SiLU,
        functional.gelu: nn.GELU,
        functional.dropout: nn.Dropout,
        functional.relu_: nn.ReLU,
        torch.relu: nn.ReLU,
        torch.tanh: nn.Tanh,
        torch.sigmoid: nn.Sigmoid,
        torch.flatten: nn.Flatten,
        "relu": nn.ReLU,
        "relu_": nn.ReLU,
        "tanh": nn.Tanh,
        "tanh_": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "sigmoid_": nn.Sigmoid,
        "flatten": nn.Flatten,
    }
    kind = modules.get(node.target)
    if kind is None:
        raise TypeError(
            f"{name} in the forward has no equivalent; expected Linear layers, and relu, "
            "leaky_relu, elu, tanh, sigmoid, softplus, silu, gelu, or flatten(x, 1) before the "
            "first"
        )
    args = [value for value in node.args if value is not previous]
    options = {key: value for key, value in node.kwargs.items() if value is not previous}
    if kind is nn.Flatten and not args:
        options.setdefault("start_dim", 0)  # the function's default, not the module's
    training = True
    if kind is nn.Dropout:
        args[1:2], training = [], options.pop("training", args[1] if len(args) > 1 else True)
    try:
        return kind(*args, **options).train(training)
    except TypeError as error:
        raise TypeError(f"{name} in the forward has unknown arguments ({error})") from None


def _is_idle(part: nn.Module, name: str, has_layers: bool) -> bool:
    """Whether it changes nothing here; an error where it would."""
    from torch import nn

    if type(part) is nn.Flatten:
        if has_layers:
            raise ValueError(f"module {name} ({part}) is after a layer; expected it first")
        if (part.start_dim, part.end_dim) != (1, -1):
            raise ValueError(f"module {name} ({part}) is not of all dimensions from 1; expected so")
        return True
    if type(part) in (nn.Dropout, nn.AlphaDropout):
        if part.training and part.p > 0:  # type: ignore[operator]
            raise ValueError(f"module {name} ({part}) is in training; expected module.eval()")
        return True
    return type(part) is nn.Identity


def _names(module: nn.Module, layers: list[tuple[str, nn.Module]]) -> list[str]:
    """Of the parameters of Linear layers, in the order of the net's."""
    from torch import nn

    paths = {id(part): f"{path}." for path, part in module.named_modules() if path}
    return [
        f"{paths.get(id(layer), '')}{name}"
        for _, layer in layers
        if isinstance(layer, nn.Linear)
        for name, _ in layer.named_parameters()
    ]


def _check_layers(module: nn.Module, layers: list[tuple[str, nn.Module]]) -> str:
    """Layers of one dtype, which is returned, with parameters that are the module's, each once."""
    import torch
    from torch import nn

    # The module's own parameters, not the copy's, which share no memory.
    parts = dict(module.named_modules(remove_duplicate=False))
    seen: dict[int, str] = {}
    places: dict[int, str] = {}
    width: int | None = None
    dtype: torch.dtype | None = None
    for name, layer in layers:
        if isinstance(layer, nn.Linear):
            width = _check_linear(layer, f"module {name} (Linear)", width)
        elif isinstance(layer, nn.BatchNorm1d):
            if layer.num_features != (width := width or layer.num_features):
                raise ValueError(
                    f"module {name} (BatchNorm1d) has {layer.num_features} inputs; expected "
                    f"{width}, the outputs of the one before"
                )
        else:
            continue
        where = f"module {name} ({type(layer).__name__})"
        own = dict(parts.get(name, module).named_parameters(recurse=False))
        used = {key for key in ("weight", "bias") if getattr(layer, key) is not None}
        if set(own) != used:
            raise ValueError(f"{where} has {sorted(own)} as parameters; expected all that it uses")
        for kind, parameter in own.items():
            dtype = dtype or parameter.dtype
            if parameter.dtype != dtype or dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"{where} has a {kind} of dtype {parameter.dtype}; expected float32 or "
                    "float64, the same for all layers"
                )
            if not bool(torch.isfinite(parameter).all()):
                raise ValueError(f"{where} has a {kind} that is not finite; expected numbers")
            for key, known in ((id(parameter), seen), (parameter.data_ptr(), places)):
                if key in known:
                    other = known[key]
                    how = f"shares its {kind} with module {other}"
                    raise ValueError(
                        f"{where} {'is called twice' if other == name else how}; expected "
                        "parameters of its own in each call: a net has no tied ones"
                    )
                known[key] = name
    for name, parameter in module.named_parameters():
        if id(parameter) not in seen:
            raise ValueError(
                f"parameter {name} is not used by the forward; expected only parameters of the "
                "layers that it calls"
            )
    return str(dtype).removeprefix("torch.")


def _check_linear(layer: nn.Linear, where: str, width: int | None) -> int:
    """How many outputs it has."""
    if layer.in_features < 1 or layer.out_features < 1:
        raise ValueError(f"{where} has {layer}; expected at least one input and one output")
    if layer.weight.shape != (layer.out_features, layer.in_features):
        raise ValueError(
            f"{where} has weights of shape {tuple(layer.weight.shape)}; expected "
            f"{(layer.out_features, layer.in_features)}"
        )
    if width not in (None, layer.in_features):
        raise ValueError(
            f"{where} has {layer.in_features} inputs; expected {width}, the outputs of the one "
            "before"
        )
    return layer.out_features


# The same outputs ---------------------------------------------------------------------------------


def _compare(net: MLP, w: FloatArray, module: nn.Module) -> None:
    """An error if the two sides' outputs on random inputs differ by more than rounding explains."""
    import torch

    x = np.random.default_rng(0).standard_normal((6, net.sizes[0]))
    x = (x * np.array([1, 1, 1, 8, 8, 1 / 64])[:, None]).astype(net.dtype)
    # Random numbers, too: an own forward may draw some.
    with torch.enable_grad(), torch.random.fork_rng([]), torch.autocast("cpu", enabled=False):
        try:
            output = module(torch.from_numpy(x))
            theirs = output.detach().numpy().astype(np.float64)
        except Exception as error:
            raise ValueError(
                f"module fails on inputs of shape {x.shape} ({error}); expected outputs"
            ) from error
        check_differentiated(module, output)
    with np.errstate(all="ignore"):
        ours = net.predict(w, x).astype(np.float64)
        tolerance = _rounding(net, w, x)
        known = np.isfinite(tolerance).all(1)
        if theirs.shape != ours.shape:
            raise ValueError(
                f"module returns {theirs.shape} for inputs of shape {x.shape}; expected "
                f"{ours.shape}"
            )
        if not known.any():
            raise ValueError("the outputs overflow on random inputs; expected some to compare")
        bad = ~(abs(ours - theirs) <= tolerance)[known]
    if bad.any():
        row, output_index = np.argwhere(bad)[0]
        where = np.flatnonzero(known)[row], output_index
        raise ValueError(
            f"the outputs differ on random inputs: {theirs[where]} by the module and "
            f"{ours[where]} by the net, {abs(theirs[where] - ours[where]):.2g} apart where "
            f"rounding explains {tolerance[where]:.2g}; expected the same function"
        )


def _rounding(net: MLP, w: FloatArray, x: FloatArray) -> FloatArray:
    """A bound of first order on the difference of two evaluations of outputs; inf, NaN: none."""
    # Each sum a = hᵀW + b of m products is off by (m + 2) u (|h|ᵀ|W| + |b|) on either side (Higham
    # 2002, §3.1), and by what the activation before it is: 8 u (|a| + |f(a)|), that is 8 units in
    # the last place, or of the argument where the function is a product with it; for Softplus also
    # the exp(-a) that PyTorch leaves out. Such an error reaches an output by its derivative in a.
    limits = np.finfo(net.dtype)
    unit, tiny, largest = float(limits.eps) / 2, float(limits.tiny), float(limits.max)
    views = net.unflatten(w)
    h = x.astype(np.float64)
    entering = np.zeros_like(h)  # errors of h
    slopes, errors, weights = [], [], []
    for index, function in enumerate(net.activations):
        matrix = views[f"w{index}"].astype(np.float64)
        bias = views[f"b{index}"].astype(np.float64) if net.bias else np.zeros(matrix.shape[1])
        a = h @ matrix + bias
        size = abs(h) @ abs(matrix) + abs(bias)
        error = (len(matrix) + 2) * (unit * size + tiny)
        errors.append(2 * error + entering @ abs(matrix))
        errors[-1][~(size < largest / 4)] = np.inf  # sums may overflow: nothing is known
        # The function and its slope are a net of one unit's, whose bias shifts the argument.
        single = MLP((1, 1), output_activation=function)
        h = single.predict([1.0, 0.0], a.reshape(-1, 1)).reshape(a.shape)
        point = single.at([1.0, 0.0], a.reshape(-1, 1), np.zeros((a.size, 1)))
        slopes.append(point.jacobian()[:, 0, 1].reshape(a.shape))
        entering = 16 * unit * (abs(a) + abs(h)) + tiny
        if function.name == "softplus":
            entering += np.where(a > 20, np.exp(-a), 0)
        weights.append(matrix)
    total = entering
    for row in range(len(x)):
        reach = np.diag(slopes[-1][row])  # derivatives of the outputs in a, [a, outputs]
        for index in reversed(range(net.depth)):
            total[row] += errors[index][row] @ abs(reach)
            if index:
                reach = slopes[index - 1][row][:, None] * (weights[index] @ reach)
    return 2 * total  # for what is of second order
