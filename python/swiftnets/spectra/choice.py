"""What eigenpairs take by all of them, by Lanczos's method and by factors, in operations.

A plain model, and no clock: the same question is always answered the same way. Operations of
matrix products and factorisations count as they are; those of orthogonalising, which wait for
memory, several times; and a step costs as many as fit in the time that it spends outside both.
"""

from __future__ import annotations

import math

from swiftnets._support import checks
from swiftnets.spectra.targets import Target

__all__ = ["certificates", "is_dense", "step_operations"]


def __dir__() -> list[str]:
    return __all__


# All eigenvectors of a symmetric matrix and the two products that prove them, over P³.
_EIGEN = 9.0
# Up to here the dense way is never slower than a few milliseconds.
_SMALL = 200
# The same where entries cost a product a column, and products cost what nobody knows.
_FEW = 128
_STEP = 3e6  # operations that fit in the time of a step outside its product
_MEMORY = 4.0  # how much longer an operation on vectors takes than one of a matrix product
# Products that k pairs take, about, and what a random certificate adds to them.
_PRODUCTS, _PRODUCTS_EACH, _PROBE = 40, 6, 0.5
_SOLVES, _SOLVES_EACH = 20, 4  # of A − σ
_CHECK = 8  # solves and products with which a count is checked
_EXACT = 1.5  # times what finding the values took, which a proof without a doubt is worth
_CHEAP = 1e11  # operations of factors that are worth a try where the random certificate fails


def is_dense(
    target: Target, k: int, *, interior: bool, certificate: str | None, max_products: int | None
) -> bool:
    """Whether all eigenpairs cost less than k of them and their certificate.

    Parameters
    ----------
    target : Target
    k : int
    interior : bool
        Whether they are next to a sigma.
    certificate : {"auto", "inertia", "probabilistic"} or None
    max_products : int or None

    Returns
    -------
    bool
    """
    order = target.order
    product = target.product_operations
    if math.isinf(product):
        # Entries are products, and these decide.
        if max_products is not None and max_products < order:
            return False
        return order <= _FEW or 4 * k > order
    if order <= _SMALL or 4 * k > order:
        return True
    if not checks.fits(40 * order**2):
        return False
    dense = target.forming_operations + _EIGEN * order**3
    factor, again = target.factor_operations, target.eliminating_operations
    count = 0.0
    if interior:
        solves = _SOLVES + _SOLVES_EACH * k
        solve = _MEMORY * 2.0 * order**2 + product / _CHECK + _STEP
        if certificate is not None:
            count = 2 * (again + _CHECK * solve)
        return dense <= factor + solves * solve + count
    steps = _PRODUCTS + _PRODUCTS_EACH * k
    each = step_operations(target, steps)
    if certificate == "inertia":
        count = factor
    elif certificate is not None:
        count = min(_PROBE * steps * each, factor)
    return dense <= steps * each + count


def step_operations(target: Target, steps: int) -> float:
    """Of one step among so many, on average: the product, and orthogonalising twice.

    Parameters
    ----------
    target : Target
    steps : int

    Returns
    -------
    float
        inf where nothing is known of products.
    """
    return target.product_operations + _STEP + _MEMORY * 8.0 * target.order * steps / 2


def certificates(target: Target, solving: float, sides: int) -> tuple[list[str], float]:
    """The proofs to try, in their order, when pairs have been found.

    Parameters
    ----------
    target : Target
    solving : float
        Operations that finding them took.
    sides : int
        Ends of the spectrum that were asked for.

    Returns
    -------
    methods : list of {"inertia", "probabilistic"}
        Inertia first where it costs no more than 1.5 times what finding them did.
    limit : float
        Operations after which the random certificate is given up for the other: as many as that
        takes, so that both together are at most twice the cheaper one.
    """
    check = _CHECK * (_MEMORY * 2.0 * target.order**2 + target.product_operations)
    inertia = target.factor_operations + (sides - 1) * target.eliminating_operations
    inertia += sides * check
    if not (math.isfinite(inertia) and checks.fits(16 * target.order**2)):
        return ["probabilistic"], math.inf
    if inertia <= _EXACT * solving:
        return ["inertia", "probabilistic"], math.inf
    if inertia <= _CHEAP:
        return ["probabilistic", "inertia"], inertia
    return ["probabilistic"], math.inf
