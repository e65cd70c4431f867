"""Solving (A + λ) x = b for a net's curvature matrix A, by the method that fits.

`solve` and `factorize` are reached as methods of `swiftnets.curvature.CurvatureMatrix`; `plan` says
what a layered factorisation would take. How the methods compare is in ``docs/inverse.md``.
"""

from __future__ import annotations

import math
import numbers
import time
from typing import Literal

import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.curvature.matrix import CurvatureMatrix, require_matrix
from swiftnets.linalg.dense import DenseFactorization
from swiftnets.linalg.factors import Inertia
from swiftnets.linalg.krylov import default_tolerance
from swiftnets.nets.supports import require_dense
from swiftnets.solve.choice import choose
from swiftnets.solve.factors import Factorization, factorize
from swiftnets.solve.ladder import climb
from swiftnets.solve.layered import LAYERED, LayeredFactorization, LayeredPlan, plan
from swiftnets.solve.options import SOLVE_METHODS, Options, Preconditioner, SolveMethod
from swiftnets.solve.solution import Solution
from swiftnets.solve.system import System

__all__ = [
    "DenseFactorization",
    "Factorization",
    "Inertia",
    "LayeredFactorization",
    "LayeredPlan",
    "Solution",
    "factorize",
    "plan",
    "solve",
]


def __dir__() -> list[str]:
    return __all__


def solve(
    matrix: CurvatureMatrix,
    b: npt.ArrayLike,
    *,
    damping: float = 0.0,
    method: SolveMethod = "auto",
    block: Literal["diagonal"] | None = None,
    preconditioner: Preconditioner = None,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    time_limit: float | None = None,
    progress: bool = False,
    inertia: bool = False,
) -> Solution:
    """Solve (A + damping) x = b for a curvature matrix A; reached as `CurvatureMatrix.solve`.

    Parameters
    ----------
    matrix : CurvatureMatrix
        With a real shift.
    b : (P,) or (K, P) array_like
        A right-hand side, or K of them as rows.
    damping : float
        λ, of any sign.
    method : {"auto", "layered", "dense", "cg", "minres"}
        ``"layered"``: elimination layer by layer, for Hessians, refined with exact products; where
        the residual does not fall below the tolerance, its primal form, then dense, then MINRES.
        ``"dense"``: Cholesky, or Bunch–Kaufman where A + λ is indefinite; refined, too.
        ``"cg"``: conjugate gradients; for a positive definite A + λ.
        ``"minres"``: for an indefinite or singular one.
        ``"auto"``: what takes the fewest operations, by the shape of the net, the number of
        samples and right-hand sides, and a look at the spectrum.
    block : {None, "diagonal"}
        ``"diagonal"``: of A the blocks of single layers alone. Not with ``"layered"``.
    preconditioner : {None, "diagonal", "kronecker"} or callable
        For ``"cg"`` and ``"minres"``. ``"diagonal"``: that of A + λ, its moduli, which for nets
        beyond dense takes as many products as there are parameters, before any time limit;
        ``"kronecker"``: the Kronecker-factored Gauss–Newton matrix plus abs(λ); a callable takes
        rows (j, P) and returns M⁻¹ times each, M symmetric positive definite.
    tolerance : float, optional
        Of ‖b − (A + λ) x‖ / ‖b‖ as the `Solution` has it, for x in the net's dtype; 1e-10 by
        default, 1e-4 for float32 nets. Rounding x to float32 alone leaves some 1e-7 times the
        condition number of A + λ.
    max_iterations : int, optional
        Most products for each right-hand side of a Krylov method; by default 10 P, or 10,000 where
        that is fewer.
    time_limit : float, optional
        Seconds after which no other method is begun, and a Krylov method ends with what it has. A
        factorisation is not begun where it would take longer, as far as the speed of products
        says; one that has begun goes on.
    progress : bool
        Show on standard error how far a Krylov method is.
    inertia : bool
        Take a method that gives the inertia, whatever it costs: ``"layered"`` or ``"dense"``.

    Returns
    -------
    Solution
        Also where it has not converged: it says so.

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above, or does not go with another.
    NotImplementedError
        If the method or the preconditioner is for an `MLP` alone, and the net is none.
    numpy.linalg.LinAlgError
        If every method that could be tried met a singular matrix, or the inertia was asked for and
        is not found.
    FloatingPointError
        If products of A are not finite.
    MemoryError
        If what the method needs does not fit in memory.

    Notes
    -----
    Works in float64 whatever the net's dtype, at any size of b and A. What "auto" says of the steps
    of a Krylov method is an estimate: for an indefinite matrix a lower bound, by the pace of its
    first 25 steps. The rounding of products is seen from two more products with each x, at weights
    that differ by units of rounding. For many solves with one matrix keep the factors:
    `CurvatureMatrix.factorize`.

    Examples
    --------
    >>> import numpy as np
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> point = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))
    >>> found = solve(point.hessian, point.gradient, damping=0.1, method="layered")
    >>> found.success, found.inertia
    (True, Inertia(positive=9, negative=4, zero=0))
    """
    start = time.perf_counter()
    require_matrix(matrix)
    checks.choice(method, "method", SOLVE_METHODS)
    if block is not None:
        checks.choice(block, "block", ("diagonal",))
        if method == "layered":
            raise ValueError(
                'block is "diagonal" with method="layered"; expected "auto", "dense", "cg" or '
                '"minres", as single layers are not coupled'
            )
    if preconditioner is not None:
        if not callable(preconditioner):
            checks.choice(preconditioner, "preconditioner", ("diagonal", "kronecker"))
        if method not in ("cg", "minres"):
            raise ValueError(f'preconditioner is for "cg" and "minres"; method is {method!r}')
    wants_inertia = checks.flag(inertia, "inertia")
    if wants_inertia and method in ("cg", "minres"):
        raise ValueError(
            f'inertia is for "auto", "layered" and "dense"; method is {method!r}, which does not '
            "factor"
        )
    if isinstance(matrix.shift, complex):
        raise ValueError(
            f"the shift is {matrix.shift}; expected a real one (with a complex one solve by "
            "matrix.factorize())"
        )
    if method == "layered" and not matrix.kind.is_layered:
        raise ValueError(
            f'method is "layered" and the matrix a {matrix.kind.title}; expected a '
            'Hessian, or "auto", "dense", "cg" or "minres"'
        )
    if method == "layered":
        require_dense(matrix.point.net, *LAYERED)
    if preconditioner == "kronecker":
        require_dense(
            matrix.point.net, 'preconditioner="kronecker"', '"diagonal", or a function of yours'
        )
    if isinstance(damping, numbers.Complex) and not isinstance(damping, numbers.Real):
        raise TypeError(
            f"damping is {damping}; expected a real number (with a complex one solve by "
            f"(matrix + {damping}).factorize())"
        )
    system = System(
        matrix + checks.real(damping, "damping"),
        b,
        tolerance=default_tolerance(matrix.point.net.dtype)
        if tolerance is None
        else checks.real(tolerance, "tolerance", positive=True),
        has_blocks=block is not None,
    )
    options = Options(
        limit=None if max_iterations is None else checks.integer(max_iterations, "max_iterations"),
        deadline=math.inf
        if time_limit is None
        else start + checks.real(time_limit, "time_limit", positive=True),
        progress=checks.flag(progress, "progress"),
        wants_inertia=wants_inertia,
        preconditioner=preconditioner,
    )
    if method == "auto":
        order, why = choose(system, options)
    elif method == "layered":
        order, why = ["layered", "primal", "dense", "minres"], "as asked"
    else:
        order, why = [method], "as asked"
    return system.solution(climb(system, options, order, why), start)
