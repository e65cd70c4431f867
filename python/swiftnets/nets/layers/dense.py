"""Dense layers, and `Flatten` that makes vectors for them."""

from __future__ import annotations

from dataclasses import dataclass

from swiftnets._support import checks
from swiftnets.nets.layer import ArraySpec, Code, Layer, Refusal, Value

__all__ = ["Dense", "Flatten"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, repr=False)
class Dense(Layer):
    """x @ W + b, of a vector, or at each position of a sequence; PyTorch's ``Linear``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool

    Notes
    -----
    Parameters are W [in, out] row by row, then b.

    Examples
    --------
    >>> from swiftnets import Network
    >>> Network([Dense(3, 2)], input_shape=3).parameter_count
    8
    """

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            object.__setattr__(self, name, checks.integer(getattr(self, name), name))
        object.__setattr__(self, "bias", checks.flag(self.bias, "bias"))

    def after(self, x: Value) -> Value:
        n = self.in_features
        if x.kind == "image":
            raise Refusal(f"a vector ({n},) or a sequence (T, {n}); images take a Flatten() first")
        if x.kind not in ("vector", "sequence") or x.channels != n:
            raise Refusal(f"a vector ({n},) or a sequence (T, {n})")
        return Value(x.kind, (*x.sizes[:-1], self.out_features))

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        m, n = self.in_features, self.out_features
        weight = ArraySpec("weight", (m, n), "in, out", "weights", (m, n))
        return (weight, ArraySpec("bias", (n,), "out", "zeros"))[: 1 + self.bias]

    def code(self, x: Value) -> Code:
        return Code(0, (self.out_features, int(self.bias)))

    def multiplications(self, x: Value) -> int:
        return x.positions * self.in_features * self.out_features


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """A vector of all numbers of a sample, in the order of its dimensions: (C, H, W) or (T, d).

    Examples
    --------
    >>> from swiftnets import Network
    >>> Network([Flatten(), Dense(12, 1)], input_shape=(3, 2, 2)).parameter_count
    13
    """

    def after(self, x: Value) -> Value:
        if x.kind == "tokens":
            raise Refusal("numbers; tokens take an Embedding first")
        return Value("vector", (x.size,))

    def code(self, x: Value) -> Code:
        return Code(6)
