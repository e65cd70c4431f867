"""Critical points of a net's loss: found from many starts, counted by inertia, certified.

`find` minimises ‖∇L‖² and says of every start where it ended: at a critical point, with its index
and nullity, or where the gradient lies in the Hessian's null space and such methods end without
one. `certify` proves by Newton and Kantorovich's theorem that a critical point is near.
"""

from swiftnets.critical.certificates import Certificate, certify
from swiftnets.critical.results import CriticalPoint, CriticalPoints
from swiftnets.critical.search import find

__all__ = ["Certificate", "CriticalPoint", "CriticalPoints", "certify", "find"]


def __dir__() -> list[str]:
    return __all__
