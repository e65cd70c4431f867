"""What nets offer: all that any layers have, and what chains of dense layers alone do."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

from swiftnets.nets.activations import Activation
from swiftnets.nets.layers.dense import Dense

__all__ = ["DENSE_ONLY", "EVERYWHERE", "DenseChain", "Support", "require_dense"]


def __dir__() -> list[str]:
    return __all__


Support: TypeAlias = Literal[
    "loss",
    "gradient",
    "predict",
    "per_sample_gradients",
    "jacobian",
    "hessian",
    "gauss_newton",
    "empirical_fisher",
    "diagonal",
    "eigsh",
    "taylor",
    "third",
    "fourth",
    "tensors",
    "dense_solve",
    "krylov_solve",
    "layered_solve",
    "structural_hessian",
    "layer_states",
    "kronecker",
]

# Of chains of dense layers.
DENSE_ONLY: frozenset[Support] = frozenset(
    ("layered_solve", "structural_hessian", "layer_states", "kronecker")
)
EVERYWHERE: frozenset[Support] = frozenset(get_args(Support)) - DENSE_ONLY


class DenseChain(Protocol):
    """What `swiftnets.MLP` has beyond other nets."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths: the inputs', each hidden layer's, the outputs'."""

    @property
    def layer_rows(self) -> tuple[int, ...]:
        """Rows of each layer's weights, the bias being one."""

    @property
    def bias(self) -> bool:
        """Whether every layer has one."""


def require_dense(net: Any, what: str, instead: str) -> DenseChain:
    """A NotImplementedError where a net is no chain of dense layers.

    Parameters
    ----------
    net : swiftnets.nets.network.BaseNetwork
    what : str
        What needs one.
    instead : str
        What to use with other nets.

    Returns
    -------
    DenseChain
        The net.

    Raises
    ------
    NotImplementedError
        With the first layer that is no dense one.
    """
    if "layered_solve" in net.supports:
        return cast(DenseChain, net)
    for index, layer in enumerate(net.layers):
        if not isinstance(layer, (Dense, Activation)):
            found = f"layer {index} is {type(layer).__name__}"
            break
    else:
        found = "this Network has them, but is no swiftnets.MLP"
    raise NotImplementedError(f"{what} needs dense layers; {found}; use {instead}")
