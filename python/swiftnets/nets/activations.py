"""Activations: elementwise functions with exact derivatives to fourth order.

Everywhere a name is enough where an activation has no parameter: ``"tanh"`` is ``Tanh()``, in any
case, as are names of other libraries: ``"ReLU"``, ``"swish"``, ``"logistic"``, ``"linear"``. At a
kink the derivatives are those on its left, and second and higher ones of the piecewise linear are 0
everywhere, as in the scripts that this package began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.nets.layer import Code, Layer, Refusal, Value

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "ActivationLike",
    "Identity",
    "LeakyReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Sine",
    "Softplus",
    "Tanh",
]


def __dir__() -> list[str]:
    return __all__


# In the order of the engine's numbers.
_KINDS = (
    "identity",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "softplus",
    "silu",
    "gelu",
    "gelu_tanh",
    "sine",
    "elu",
)
_NAMES = ("relu", *_KINDS)
# What a name alone means, where there is a parameter.
_PARAMETERS = {"leaky_relu": 0.01, "elu": 1.0}
# As Python makes them.
_CALLS = {
    "relu": "ReLU()",
    "identity": "Identity()",
    "tanh": "Tanh()",
    "sigmoid": "Sigmoid()",
    "softplus": "Softplus()",
    "silu": "SiLU()",
    "gelu": "GELU()",
    "gelu_tanh": "GELU('tanh')",
    "sine": "Sine()",
    "leaky_relu": "LeakyReLU({!r})",
    "elu": "ELU({!r})",
}


Function: TypeAlias = Callable[[int, bytes], tuple[FloatArray, ...]]


@dataclass(frozen=True, repr=False)
class Activation(Layer, internal=("function", "key")):
    """An elementwise function, and a layer of a net; made by the functions of this module.

    Parameters
    ----------
    name : str
        ``"identity"``, ``"relu"``, ``"leaky_relu"``, ``"tanh"``, ``"sigmoid"``, ``"softplus"``,
        ``"silu"``, ``"gelu"``, ``"gelu_tanh"``, ``"sine"`` or ``"elu"``.
    parameter : float
        The slope left of 0 of ``"leaky_relu"``, alpha of ``"elu"``; 0 and unused for the others.

    Raises
    ------
    TypeError, ValueError
        If there is no such activation, or the parameter is not a finite number.

    Examples
    --------
    >>> Activation("tanh") == Tanh()
    True
    """

    name: str
    parameter: float = 0.0

    def __post_init__(self) -> None:
        checks.choice(self.name, "activation", _NAMES)
        parameter = checks.real(self.parameter, "parameter")
        if self.name not in _PARAMETERS and parameter != 0:
            raise ValueError(f"parameter is {parameter}; {self.name} takes none")
        object.__setattr__(self, "parameter", parameter)

    @property
    def first_jump(self) -> int | None:
        """The lowest derivative that jumps at 0: 1 at a kink, 2 of ``ELU(1)``; None for none."""
        if self.name not in ("relu", "leaky_relu", "elu"):
            return None
        if self.parameter != 1:
            return 1
        return 2 if self.name == "elu" else None

    @property
    def key(self) -> list[object]:
        """What tells it from others, for JSON."""
        return [self.name, self.parameter]

    @property
    def _code(self) -> tuple[int, float]:
        """The engine's number, and the parameter: ReLU is a leaky ReLU of slope 0."""
        return _KINDS.index("leaky_relu" if self.name == "relu" else self.name), self.parameter

    def __repr__(self) -> str:
        return _CALLS[self.name].format(self.parameter)

    def function(self, dtype: np.dtype[Any]) -> Function | None:
        """What the engine is to call in place of its own, if anything: (order, numbers as bytes).

        Parameters
        ----------
        dtype : numpy.dtype
            Of the numbers.

        Returns
        -------
        callable or None
        """
        return None

    def after(self, x: Value) -> Value:
        if x.kind == "tokens":
            raise Refusal("numbers; tokens take an Embedding first")
        return x

    def code(self, x: Value) -> Code:
        kind, parameter = self._code
        return Code(2, (kind,), parameter)


ActivationLike: TypeAlias = Activation | str


def Identity() -> Activation:
    """a."""
    return Activation("identity")


def ReLU() -> Activation:
    """a for a > 0, else 0."""
    return Activation("relu")


def LeakyReLU(slope: float = 0.01) -> Activation:
    """a for a > 0, else ``slope`` times a.

    Parameters
    ----------
    slope : float

    Returns
    -------
    Activation
    """
    return Activation("leaky_relu", checks.real(slope, "slope"))


def ELU(alpha: float = 1.0) -> Activation:
    """a for a > 0, else ``alpha`` (exp(a) - 1) (Clevert, Unterthiner & Hochreiter 2016).

    The first derivative is continuous for `alpha` = 1, and for no other; the second one jumps from
    `alpha` to 0 at 0, where those from the left hold, as in PyTorch and JAX.

    Parameters
    ----------
    alpha : float

    Returns
    -------
    Activation

    Examples
    --------
    >>> ELU(), ELU(0.5).parameter
    (ELU(1.0), 0.5)
    """
    return Activation("elu", checks.real(alpha, "alpha"))


def Tanh() -> Activation:
    """tanh(a)."""
    return Activation("tanh")


def Sigmoid() -> Activation:
    """1 / (1 + exp(-a))."""
    return Activation("sigmoid")


def Softplus() -> Activation:
    """log(1 + exp(a))."""
    return Activation("softplus")


def SiLU() -> Activation:
    """a times the logistic sigmoid of a (Elfwing et al. 2018)."""
    return Activation("silu")


def GELU(approximate: Literal["none", "tanh"] = "none") -> Activation:
    """a Φ(a), or its tanh form (Hendrycks & Gimpel 2016), as in PyTorch.

    Parameters
    ----------
    approximate : {"none", "tanh"}

    Returns
    -------
    Activation
    """
    return Activation(
        ("gelu", "gelu_tanh")[checks.choice(approximate, "approximate", ("none", "tanh"))]
    )


def Sine() -> Activation:
    """sin(a)."""
    return Activation("sine")


def resolve(value: object, name: str) -> Activation:
    """`value` as an activation; of a name alone a leaky ReLU has slope 0.01, an ELU alpha 1."""
    if isinstance(value, Activation):
        return value
    kind = checks.alias(value, name, _NAMES)
    return Activation(kind, _PARAMETERS.get(kind, 0.0))


def is_name(name: str) -> bool:
    """Whether it is the name of an activation, in any spelling."""
    try:
        checks.alias(name, "name", _NAMES)
    except ValueError:
        return False
    return True


def functions_of(
    layers: Iterable[Layer], dtype: np.dtype[Any]
) -> tuple[Function | None, ...] | None:
    """The functions that the engine is to call for each layer; None where there are none."""
    found = [one.function(dtype) if isinstance(one, Activation) else None for one in layers]
    return tuple(found) if any(found) else None
