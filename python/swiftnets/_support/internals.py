"""Classes with names that only the package's other folders use: completion leaves them out."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterable
from typing import Any, ClassVar

__all__ = ["Fixed", "Internals"]


def __dir__() -> list[str]:
    return __all__


class _Listed(ABCMeta):
    """What `dir` and `help` show of a class."""

    _internal: frozenset[str]

    def __dir__(cls) -> Iterable[str]:
        return [name for name in super().__dir__() if name not in cls._internal]


class Internals(metaclass=_Listed):
    """Names given as ``class A(Internals, internal=(…))`` are not in `dir` and `help`.

    They are of no use to users: their arguments are not checked.
    """

    _internal: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, internal: Iterable[str] = (), **others: Any) -> None:
        super().__init_subclass__(**others)
        cls._internal = cls._internal | frozenset(internal)

    def __dir__(self) -> Iterable[str]:
        return [name for name in super().__dir__() if name not in self._internal]


class Fixed:
    """What is computed once is kept: no public name of such an object can be set or deleted."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be set")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")
