"""Activations: elementwise functions with exact derivatives to fourth order.

Everywhere a name is enough where an activation has no parameter: ``"tanh"`` is ``Tanh()``, in any
case, as are names of other libraries: ``"ReLU"``, ``"swish"``, ``"logistic"``, ``"linear"``. At a
kink the slope is the one on its left, and second and higher derivatives of the piecewise linear
ones are 0 everywhere, as in the scripts that this package began with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from swiftnets._support import checks
from swiftnets.nets.layer import Code, Layer, Refusal, Value

__all__ = [
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
)
_NAMES = ("relu", *_KINDS)
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
}


@dataclass(frozen=True, repr=False)
class Activation(Layer):
    """An elementwise function, and a layer of a net; made by the functions of this module.

    Parameters
    ----------
    name : str
        ``"identity"``, ``"relu"``, ``"leaky_relu"``, ``"tanh"``, ``"sigmoid"``, ``"softplus"``,
        ``"silu"``, ``"gelu"``, ``"gelu_tanh"`` or ``"sine"``.
    parameter : float
        The slope left of 0 of ``"leaky_relu"``; 0 and unused for the others.

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
        if self.name != "leaky_relu" and parameter != 0:
            raise ValueError(f"parameter is {parameter}; {self.name} takes none")
        object.__setattr__(self, "parameter", parameter)

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether the second derivative is 0 everywhere."""
        return self.name in ("identity", "relu", "leaky_relu")

    @property
    def _code(self) -> tuple[int, float]:
        """The engine's number, and the parameter: ReLU is a leaky ReLU of slope 0."""
        return _KINDS.index("leaky_relu" if self.name == "relu" else self.name), self.parameter

    def __repr__(self) -> str:
        return _CALLS.get(self.name, f"LeakyReLU({self.parameter!r})")

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
    """`value` as an activation; a string is one without parameter (a leaky ReLU has slope 0.01)."""
    if isinstance(value, Activation):
        return value
    kind = checks.alias(value, name, _NAMES)
    return LeakyReLU() if kind == "leaky_relu" else Activation(kind)
