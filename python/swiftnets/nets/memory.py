"""`MemoryPlan`: what calls on a net will take, told before any work."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MemoryPlan"]


def __dir__() -> list[str]:
    return __all__


class MemoryPlan(NamedTuple):
    """Bytes, about.

    Attributes
    ----------
    point : int
        What a point keeps of its passes, from the first product on. Nets beyond dense keep up to
        1 GiB of them and make the others anew for each product.
    working : int
        What a call works in.
    """

    point: int
    working: int
