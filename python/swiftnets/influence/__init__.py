"""Influence of samples: where a minimum goes without them, to third order, errors estimated.

`leave_one_out` takes a point at a minimum and predicts every retraining without a sample, or
without a group, from one factorisation of the Hessian.
"""

from __future__ import annotations

from swiftnets.influence.expansion import leave_one_out
from swiftnets.influence.refit import Refit
from swiftnets.influence.result import Influence

__all__ = ["Influence", "Refit", "leave_one_out"]


def __dir__() -> list[str]:
    return __all__
