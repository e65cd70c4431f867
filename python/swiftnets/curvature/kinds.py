"""Which matrices of second derivatives there are."""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias, get_args

from swiftnets._support import checks
from swiftnets.nets.losses import Loss

__all__ = ["FisherKind", "Kind"]


def __dir__() -> list[str]:
    return __all__


FisherKind: TypeAlias = Literal["exact", "empirical"]


class Kind(Enum):
    """Which matrix, with the engine's number and what it is called."""

    HESSIAN = (0, "Hessian")
    GAUSS_NEWTON = (1, "Gauss–Newton matrix")
    FISHER = (1, "Fisher matrix")
    EMPIRICAL_FISHER = (2, "empirical Fisher matrix")

    @property
    def code(self) -> int:
        """The engine's number."""
        return self.value[0]

    @property
    def title(self) -> str:
        """What it is called."""
        return self.value[1]

    @property
    def is_layered(self) -> bool:
        """Whether it can be factored layer by layer: the Hessian alone."""
        return self is Kind.HESSIAN

    @classmethod
    def fisher(cls, kind: FisherKind, loss: Loss) -> Kind:
        """That of a point's `fisher`; a ValueError if the loss has none."""
        if checks.choice(kind, "kind", get_args(FisherKind)):
            return cls.EMPIRICAL_FISHER
        if not loss.is_likelihood:
            raise ValueError(
                f'kind is "exact" and the loss is {loss.name!r}, which is no likelihood; use '
                'gauss_newton, or kind="empirical"'
            )
        return cls.FISHER
