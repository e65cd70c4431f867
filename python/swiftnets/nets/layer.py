"""`Layer`: what every layer of a net knows of itself, and `Value`, what is between two layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

from swiftnets._support import checks
from swiftnets._support.internals import Internals

__all__ = ["ArraySpec", "Code", "Layer", "Refusal", "Two", "Value", "pair", "shown_pair"]


def __dir__() -> list[str]:
    return __all__


_KINDS = ("vector", "image", "sequence", "tokens")


class Value(NamedTuple):
    """One sample between two layers.

    Attributes
    ----------
    kind : {"vector", "image", "sequence", "tokens"}
    sizes : tuple of int
        ``(n,)``, ``(C, H, W)``, ``(T, d)`` or ``(T,)``.
    """

    kind: Literal["vector", "image", "sequence", "tokens"]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers of a sample."""
        return math.prod(self.sizes)

    @property
    def channels(self) -> int:
        """Numbers at each position."""
        return {"image": self.sizes[0], "tokens": 1}.get(self.kind, self.sizes[-1])

    @property
    def positions(self) -> int:
        """Pixels, steps, or one."""
        return self.size // self.channels

    @property
    def code(self) -> tuple[int, int, int, int]:
        """As the engine takes it: the kind's number and three sizes."""
        first, second, third = (*self.sizes, 0, 0)[:3]
        return _KINDS.index(self.kind), first, second, third

    def __str__(self) -> str:
        article = {"vector": "a vector", "image": "an image", "sequence": "a sequence"}
        return f"{article.get(self.kind, 'tokens')} {self.sizes}"


class ArraySpec(NamedTuple):
    """One array of parameters of a layer.

    Attributes
    ----------
    name : str
        PyTorch's, in its module.
    shape : tuple of int
    layout : str
        What the dimensions are, in words.
    start : {"weights", "zeros", "ones", "normal"}
        How it begins.
    fans : tuple of int
        Of weights: how many numbers go into each of their outputs, and come out of each input.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    start: Literal["weights", "zeros", "ones", "normal"]
    fans: tuple[int, int] = (1, 1)


class Code(NamedTuple):
    """A layer as the engine takes it: its kind's number, its integers, its number."""

    kind: int
    integers: tuple[int, ...] = ()
    number: float = 0.0


class Refusal(ValueError):
    """What a layer would have taken, in words, where something else came."""


class Layer(Internals, internal=("after", "arrays", "code", "multiplications", "statistics")):
    """A layer of a `swiftnets.Network`: settings, and no parameters of its own."""

    def after(self, x: Value) -> Value:
        """What it makes of x.

        Parameters
        ----------
        x : Value

        Returns
        -------
        Value

        Raises
        ------
        Refusal
            If it does not take x; the message is what it takes.
        """
        raise NotImplementedError

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        """Its parameters, in the order of the vector.

        Parameters
        ----------
        x : Value
            What it takes.

        Returns
        -------
        tuple of ArraySpec
        """
        return ()

    def code(self, x: Value) -> Code:
        """The layer as the engine takes it.

        Parameters
        ----------
        x : Value

        Returns
        -------
        Code
        """
        raise NotImplementedError

    def multiplications(self, x: Value) -> int:
        """Multiplications of a forward pass over one sample, in products of matrices.

        Parameters
        ----------
        x : Value

        Returns
        -------
        int
        """
        return 0

    @property
    def statistics(self) -> tuple[float, ...]:
        """Fixed numbers: means, then variances."""
        return ()

    def settings(self) -> list[object]:
        """What makes it what it is.

        Returns
        -------
        list
            Its name, and a dict of its arguments, as JSON holds them.
        """
        return [type(self).__name__, _plain(_fields(self))]

    def __repr__(self) -> str:
        parts = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            required = field.default is dataclasses.MISSING
            if required or value != self._usual(field.name, field.default):
                text = shown_pair(value)
                parts.append(text if required else f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _usual(self, name: str, default: Any) -> Any:
        """What a setting is if it is not given."""
        return default


def _fields(layer: Layer) -> dict[str, Any]:
    return {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Layer):
        return value.settings()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


# One integer for both dimensions of an image, or one each.
Two: TypeAlias = int | tuple[int, int]


def pair(value: Any, name: str, least: int = 1) -> tuple[int, int]:
    """A height and a width, given as two integers or as one for both.

    Parameters
    ----------
    value : int or pair of int
    name : str
    least : int

    Returns
    -------
    tuple of two int

    Raises
    ------
    TypeError
        If it is neither; the message names it.
    ValueError
        If a number is too small, or there are others than two.
    """
    if isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; expected an integer or a pair (of height and width)")
    if isinstance(value, Iterable) and getattr(value, "shape", None) != ():
        entries = checks.several(value, name)
        if len(entries) != 2:
            raise ValueError(f"{name} is {value!r}; expected an integer or a pair")
        height, width = (checks.integer(v, f"{name}[{i}]", least) for i, v in enumerate(entries))
        return height, width
    number = checks.integer(value, name, least)
    return number, number


def shown_pair(value: Any) -> str:
    """A setting as Python takes it, both dimensions as one where they are equal."""
    both = isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]
    return repr(value[0] if both and isinstance(value[0], int) else value)
