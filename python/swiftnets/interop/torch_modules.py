"""Modules that PyTorch has none of: `to_torch` makes nets of them.

They are made when first asked for, as PyTorch is imported by the first conversion, and found by
name, so that they can be pickled.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["modules"]


def __dir__() -> list[str]:
    return __all__


# Read as a whole on the way back.
WHOLE = ("BatchNormOfPositions", "SelfAttention")


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        found = modules()
        if name in found:
            return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def modules() -> dict[str, type[nn.Module]]:
    """The classes by their names.

    Returns
    -------
    dict of str to type
    """
    import torch
    from torch import Tensor, nn

    class Residual(nn.Module):
        """body(x) + shortcut(x)."""

        def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.body(x) + self.shortcut(x)
            return result

    class PositionEmbedding(nn.Module):
        """x + weight, a row for each position."""

        def __init__(self, length: int, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(length, width))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.weight

    class SelfAttention(nn.MultiheadAttention):
        """MultiheadAttention of x, x and x, samples first; its outputs alone."""

        def __init__(self, width: int, heads: int, bias: bool) -> None:
            super().__init__(width, heads, bias=bias, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, x, x, need_weights=False)[0]

    class BatchNormOfPositions(nn.BatchNorm1d):
        """BatchNorm1d of sequences (N, T, C), whose channels are last."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.transpose(1, 2)).transpose(1, 2)

    class MeanOverPositions(nn.Module):
        """The mean of sequences (N, T, d) over T."""

        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1)

    class Sine(nn.Module):
        """sin(x)."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(x)

    found: dict[str, type[nn.Module]] = {}
    for kind in (
        Residual,
        PositionEmbedding,
        SelfAttention,
        BatchNormOfPositions,
        MeanOverPositions,
        Sine,
    ):
        kind.__module__, kind.__qualname__ = __name__, kind.__name__
        found[kind.__name__] = kind
    return found
