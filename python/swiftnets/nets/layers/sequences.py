"""Layers of sequences (T, d): embeddings, attention, the mean over positions."""

from __future__ import annotations

from dataclasses import dataclass

from swiftnets._support import checks
from swiftnets.nets.layer import ArraySpec, Code, Layer, Refusal, Value

__all__ = ["Embedding", "MeanOverPositions", "PositionEmbedding", "SelfAttention"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, repr=False)
class Embedding(Layer):
    """A row of a table for each token; the first layer of a net that takes tokens.

    Parameters
    ----------
    num_embeddings : int
        Tokens are from 0 to one less.
    embedding_dim : int

    Examples
    --------
    >>> from swiftnets import Network
    >>> net = Network([Embedding(10, 4), MeanOverPositions()], input_shape=(6,))
    >>> net.parameter_count
    40
    """

    num_embeddings: int
    embedding_dim: int

    def __post_init__(self) -> None:
        for name in ("num_embeddings", "embedding_dim"):
            object.__setattr__(self, name, checks.integer(getattr(self, name), name))

    def after(self, x: Value) -> Value:
        if x.kind != "tokens":
            raise Refusal("tokens (T,), the net's input")
        return Value("sequence", (*x.sizes, self.embedding_dim))

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        shape = (self.num_embeddings, self.embedding_dim)
        return (ArraySpec("weight", shape, "vocabulary, width", "normal"),)

    def code(self, x: Value) -> Code:
        return Code(10, (self.num_embeddings, self.embedding_dim))


@dataclass(frozen=True, repr=False)
class PositionEmbedding(Layer):
    """Adds a row of a table to each position of a sequence.

    Parameters
    ----------
    length, width : int
        The sequence's T and d.

    Examples
    --------
    >>> from swiftnets import Network
    >>> net = Network([PositionEmbedding(6, 4), MeanOverPositions()], input_shape=(6, 4))
    >>> net.parameter_count
    24
    """

    length: int
    width: int

    def __post_init__(self) -> None:
        for name in ("length", "width"):
            object.__setattr__(self, name, checks.integer(getattr(self, name), name))

    def after(self, x: Value) -> Value:
        if x.kind != "sequence" or x.sizes != (self.length, self.width):
            raise Refusal(f"a sequence ({self.length}, {self.width})")
        return x

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        return (ArraySpec("weight", (self.length, self.width), "position, width", "normal"),)

    def code(self, x: Value) -> Code:
        return Code(11)


@dataclass(frozen=True, repr=False)
class SelfAttention(Layer):
    """Softmax attention of each position to all, by several heads (Vaswani et al. 2017).

    PyTorch's ``MultiheadAttention(width, heads, batch_first=True)`` of x, x and x.

    Parameters
    ----------
    width : int
        The sequence's d.
    heads : int
        Divides it.
    bias : bool

    Notes
    -----
    Parameters are the weights [d, 3 d] of queries, keys and values side by side and their bias,
    then those [d, d] of the outputs and theirs.

    Examples
    --------
    >>> from swiftnets import Network
    >>> net = Network([SelfAttention(4, 2), MeanOverPositions()], input_shape=(6, 4))
    >>> net.parameter_count
    80
    """

    width: int
    heads: int
    bias: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "heads"):
            object.__setattr__(self, name, checks.integer(getattr(self, name), name))
        object.__setattr__(self, "bias", checks.flag(self.bias, "bias"))
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads} and width {self.width}; expected a divisor")

    def after(self, x: Value) -> Value:
        if x.kind != "sequence" or x.channels != self.width:
            raise Refusal(f"a sequence (T, {self.width})")
        return x

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        d = self.width
        layout = "in, out (queries, keys, values)"
        all_ = (
            ArraySpec("in_proj_weight", (d, 3 * d), layout, "weights", (d, 3 * d)),
            ArraySpec("in_proj_bias", (3 * d,), "out (queries, keys, values)", "zeros"),
            ArraySpec("out_proj.weight", (d, d), "in, out", "weights", (d, d)),
            ArraySpec("out_proj.bias", (d,), "out", "zeros"),
        )
        return all_ if self.bias else all_[::2]

    def code(self, x: Value) -> Code:
        return Code(12, (self.heads, int(self.bias)))

    def multiplications(self, x: Value) -> int:
        return x.positions * self.width * (4 * self.width + 2 * x.positions)


@dataclass(frozen=True, repr=False)
class MeanOverPositions(Layer):
    """The mean of a sequence over its positions: a vector (d,).

    Examples
    --------
    >>> from swiftnets import Network
    >>> from swiftnets.nets import Dense
    >>> Network([MeanOverPositions(), Dense(4, 2)], input_shape=(6, 4)).outputs
    2
    """

    def after(self, x: Value) -> Value:
        if x.kind != "sequence":
            raise Refusal("a sequence (T, d)")
        return Value("vector", (x.channels,))

    def code(self, x: Value) -> Code:
        return Code(13)
