"""`Residual`: the sum of two paths; and layers as they come from users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from swiftnets._support import checks
from swiftnets.nets import activations
from swiftnets.nets.layer import Layer, Value

__all__ = ["LayerLike", "Residual", "resolve"]


def __dir__() -> list[str]:
    return __all__


# A string is an activation without parameter.
LayerLike: TypeAlias = Layer | str

_DEEPEST = 100


@dataclass(frozen=True, repr=False)
class Residual(Layer):
    """body(x) + shortcut(x): layers one after the other, beside x or a projection of it.

    Parameters
    ----------
    body : sequence of layers
        At least one.
    shortcut : sequence of layers
        None for x itself.

    Notes
    -----
    Parameters are the body's, then the shortcut's.

    Examples
    --------
    >>> from swiftnets import Network
    >>> from swiftnets.nets import Conv2d, GlobalAvgPool2d
    >>> body = [Conv2d(2, 4, 3, padding=1), "relu", Conv2d(4, 4, 3, padding=1)]
    >>> block = Residual(body, shortcut=[Conv2d(2, 4, 1, bias=False)])
    >>> Network([block, "relu", GlobalAvgPool2d()], input_shape=(2, 8, 8)).parameter_count
    232
    """

    body: Sequence[LayerLike]
    shortcut: Sequence[LayerLike] = ()
    _depth: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("body", "shortcut"):
            object.__setattr__(self, name, resolve(getattr(self, name), name))
        if not self.body:
            raise ValueError("body is empty; expected at least one layer")
        # Sums within sums are followed by recursion.
        inner = (one for one in (*self.body, *self.shortcut) if isinstance(one, Residual))
        object.__setattr__(self, "_depth", 1 + max((one._depth for one in inner), default=0))
        if self._depth > _DEEPEST:
            raise ValueError(
                f"body has Residuals within Residuals {self._depth - 1} deep; expected less than "
                f"{_DEEPEST}"
            )

    def after(self, x: Value) -> Value:
        raise NotImplementedError("its layers are asked")

    def __repr__(self) -> str:
        shown = [f"[{', '.join(map(repr, path))}]" for path in (self.body, self.shortcut)]
        return f"Residual({shown[0]}{f', shortcut={shown[1]}' * bool(self.shortcut)})"


def resolve(value: Any, name: str) -> tuple[Layer, ...]:
    """Layers given as objects or names of activations.

    Parameters
    ----------
    value : sequence of layers
    name : str

    Returns
    -------
    tuple of Layer

    Raises
    ------
    TypeError
        If it is no sequence, or an entry no layer; the message says which.
    ValueError
        If there is no activation of a name.
    """
    if isinstance(value, (str, bytes, dict, Layer)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected a list of layers")
    return tuple(
        _layer(entry, f"{name}[{index}]") for index, entry in enumerate(checks.several(value, name))
    )


def _layer(value: Any, name: str) -> Layer:
    if isinstance(value, Layer):
        return value
    if isinstance(value, str):
        return activations.resolve(value, name)
    expected = "a layer of swiftnets.nets, or the name of an activation"
    called = getattr(value, "__name__", None)
    if callable(value) and called:
        raise TypeError(f"{name} is {called} itself; expected {expected}: {called}(…)")
    raise TypeError(f"{name} is of type {type(value).__name__}; expected {expected}")
