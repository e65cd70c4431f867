"""A PyTorch module's forward, followed call by call on an example."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from swiftnets.interop import torch_modules

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

__all__ = ["Trace", "known_kind", "place", "trace"]


def __dir__() -> list[str]:
    return __all__


class Trace(NamedTuple):
    """What a forward calls, and what each call makes of the example.

    Attributes
    ----------
    nodes : list of torch.fx.Node
    values : dict
        Of nodes to what they are on the example.
    root : torch.nn.Module
        That the nodes' names are of: it has the module as ``module``.
    """

    nodes: list[fx.Node]
    values: dict[fx.Node, Any]
    root: nn.Module

    def part(self, node: fx.Node) -> nn.Module:
        """The module that a node calls."""
        return self.root.get_submodule(str(node.target))


def known_kind(module: nn.Module) -> type[nn.Module] | None:
    """PyTorch's class whose forward a module has, of those that are read as a whole.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    type, or None
    """
    from torch import nn

    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.nn") and issubclass(kind, nn.Module):
            same = type(module).forward is kind.forward
            return kind if same and kind not in (nn.Module, nn.Sequential) else None
    return None


def place(node: fx.Node) -> str:
    """A node's own name and what it calls, for messages.

    Parameters
    ----------
    node : torch.fx.Node

    Returns
    -------
    str
    """
    if node.op == "call_module":
        path = str(node.target).removeprefix("module").lstrip(".")
        return f"node {node.name}, module {path or 'itself'}"
    called = getattr(node.target, "__name__", str(node.target))
    within = ""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in stack.values()]
    if paths:
        within = f" in module {paths[-1].removeprefix('module').lstrip('.') or 'itself'}"
    return f"node {node.name}, {'.' * (node.op == 'call_method')}{called}(){within}"


def trace(module: nn.Module, example: torch.Tensor) -> Trace:
    """Follows a module's forward.

    Shapes are the example's, so that a forward may compute with them, and branch by them.

    Parameters
    ----------
    module : torch.nn.Module
        A copy of the user's.
    example : torch.Tensor

    Returns
    -------
    Trace

    Raises
    ------
    ValueError
        If torch.fx cannot follow it, with its reason, or it fails on the example.
    """
    import torch
    from torch import fx, nn

    own = threading.get_ident()
    values: dict[fx.Node, Any] = {}

    class Proxy(fx.Proxy):
        """Stands for a tensor, whose sizes are known."""

        @property
        def shape(self) -> Any:
            return self._known("shape")

        @property
        def ndim(self) -> Any:
            return self._known("ndim")

        @property
        def dtype(self) -> Any:
            return self._known("dtype")

        @property
        def device(self) -> Any:
            return self._known("device")

        def size(self, *args: Any) -> Any:
            return values[self.node].size(*args)

        def dim(self) -> Any:
            return values[self.node].dim()

        def numel(self) -> Any:
            return values[self.node].numel()

        def __len__(self) -> int:
            return len(values[self.node])

        def _known(self, name: str) -> Any:
            return getattr(values[self.node], name)

    class Tracer(fx.Tracer):
        evaluating = False

        def is_leaf_module(self, m: nn.Module, name: str) -> bool:
            own = type(m).__module__ == torch_modules.__name__
            whole = own and type(m).__name__ in torch_modules.WHOLE
            return whole or known_kind(m) is not None or super().is_leaf_module(m, name)

        def proxy(self, node: fx.Node) -> Proxy:
            return Proxy(node, self)

        def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
            made = super().create_node(*args, **kwargs)
            with self._aside():
                values[made] = self._value(made)
            return made

        def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
            # Another thread meets the tracer as well, meanwhile.
            if self.evaluating or threading.get_ident() != own:
                return forward(*args, **kwargs)
            return super().call_module(m, forward, args, kwargs)

        def getattr(self, attr: str, attr_val: Any, cache: dict[str, Any]) -> Any:
            if self.evaluating or threading.get_ident() != own:
                return attr_val
            return super().getattr(attr, attr_val, cache)

        @contextmanager
        def _aside(self) -> Iterator[None]:
            self.evaluating, before = True, self.evaluating
            try:
                with torch.no_grad():
                    yield
            finally:
                self.evaluating = before

        def _value(self, node: fx.Node) -> Any:
            def known(part: Any) -> Any:
                return fx.node.map_arg(part, lambda other: values[other])

            args, kwargs = known(node.args), known(node.kwargs)
            try:
                match node.op:
                    case "placeholder":
                        return example
                    case "get_attr":
                        found: Any = root
                        for name in str(node.target).split("."):
                            found = getattr(found, name)
                        return found
                    case "call_module":
                        return root.get_submodule(str(node.target))(*args, **kwargs)
                    case "call_method":
                        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
                    case "call_function":
                        return node.target(*args, **kwargs)  # type: ignore[operator]
            except Exception as error:
                reason = str(error).split("\n")[0]
                raise _Fails(f"{place(node)} fails on the example: {reason}") from error
            return None

    root = nn.Sequential()
    root.add_module("module", module)
    root.training = module.training
    try:
        graph = Tracer().trace(root)
    except _Fails as error:
        raise ValueError(f"{error}; expected an example (N, …) that the module takes") from error
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"the forward of {type(module).__name__} cannot be followed by torch.fx ({reason}); "
            "expected layers and sums, without branches that depend on numbers"
        ) from error
    return Trace(list(graph.nodes), values, root)


class _Fails(Exception):
    """A call that PyTorch refuses."""
