"""What a trace, a diagonal or a norm would take, and by which method it is found."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from swiftnets._support import checks
from swiftnets.spectra import exact
from swiftnets.spectra.estimates import Cost, Method
from swiftnets.spectra.given import Matrix
from swiftnets.spectra.quadrature import Counted, counted, leading_products

__all__ = ["Options", "cost", "start"]


def __dir__() -> list[str]:
    return __all__


What: TypeAlias = Literal[
    "trace", "trace of square", "trace of inverse", "trace of function", "logdet", "diagonal",
    "diagonal of square", "diagonal of inverse", "effective_dimension", "norm fro", "norm nuc",
    "norm 2", "density",
]  # fmt: skip

# Operations from which on "auto" prefers an estimate: about a minute on one core.
_LONG = 1e12
_EXACT: dict[str, exact.Quantity] = {
    "trace": "entries",
    "trace of square": "squares",
    "trace of inverse": "inverse",
    "trace of function": "eigenvalues",
    "logdet": "logdet",
    "diagonal": "entries",
    "diagonal of square": "squares",
    "diagonal of inverse": "solves",
    "effective_dimension": "inverse",
    "norm fro": "squares",
    "norm nuc": "eigenvalues",
    "norm 2": "eigenvalues",
    "density": "eigenvalues",
}
# The estimates that there are, the first one being that of "auto".
_SAMPLED: dict[str, tuple[Method, ...]] = {
    "trace": ("xtrace", "hutchinson"),
    "trace of square": ("xtrace", "hutchinson"),
    "trace of inverse": ("lanczos",),
    "trace of function": ("lanczos",),
    "logdet": ("lanczos",),
    "diagonal": ("xdiag", "hutchinson"),
    "diagonal of square": ("xdiag", "hutchinson"),
    "diagonal of inverse": ("hutchinson",),
    "effective_dimension": ("lanczos",),
    "norm fro": ("xtrace", "hutchinson"),
    "norm nuc": ("lanczos",),
    "norm 2": ("lanczos",),
    "density": ("lanczos",),
}
_WHAT = tuple(_SAMPLED)
_NORM_STEPS = 128  # for the largest eigenvalue, its certificate included


class Options:
    """How estimates are made, checked."""

    def __init__(
        self, products: Any, probes: Any, steps: Any, deflate: Any, seed: Any, progress: Any
    ) -> None:
        self.products = checks.integer(products, "products", 4)
        self.probes = checks.integer(probes, "probes")
        self.steps = checks.integer(steps, "steps", 4)
        self.deflate = checks.integer(deflate, "deflate", 0)
        self.seed = checks.integer(seed, "seed", 0)
        self.progress = checks.flag(progress, "progress")

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def cost(
    A: Matrix,
    what: What,
    *,
    method: Method = "auto",
    products: int = 120,
    probes: int = 30,
    steps: int = 64,
    deflate: int = 30,
) -> Cost:
    """What a call would take, and which method it would use; nothing is computed.

    Parameters
    ----------
    A : CurvatureMatrix, SymmetricOperator or (P, P) array_like
    what : str
        ``"trace"``, ``"trace of square"``, ``"trace of inverse"``, ``"trace of function"``,
        ``"logdet"``, ``"diagonal"``, ``"diagonal of square"``, ``"diagonal of inverse"``,
        ``"effective_dimension"``, ``"norm fro"``, ``"norm nuc"``, ``"norm 2"``
        or ``"density"``, which by default takes 4 probes and deflates 20.
    method : {"auto", "exact", "xtrace", "xdiag", "hutchinson", "lanczos"}
    products, probes, steps, deflate : int
        As of that call.

    Returns
    -------
    Cost

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((784, 32, 10), loss="softmax_cross_entropy")
    >>> point = net.at(np.zeros(net.parameter_count), np.ones((5, 784)), np.zeros(5, int))
    >>> cost(point.hessian, "trace").method
    'exact'
    >>> cost(point.hessian, "norm nuc").method
    'lanczos'
    """
    what = _WHAT[checks.choice(what, "what", _WHAT)]  # type: ignore[assignment]
    options = Options(products, probes, steps, deflate, 0, False)
    return planned(counted(A), what, method, options)


def planned(matrix: Counted, what: str, method: Method, options: Options) -> Cost:
    allowed = ("auto", "exact", *_SAMPLED[what])
    name = allowed[checks.choice(method, "method", allowed)]
    certain = exact.cost_of(matrix, _EXACT[what])
    if name == "exact":
        return certain
    sampled = _sampled(matrix, what, _SAMPLED[what][0] if name == "auto" else name, options)
    if name != "auto":
        return sampled
    each = exact.product_operations(matrix)
    operations = certain.operations + certain.products * each
    if what == "density":
        is_cheap = matrix.order <= sampled.products
    elif what == "norm 2":
        is_cheap = operations <= sampled.operations + sampled.products * each
    else:
        is_cheap = operations <= max(_LONG, sampled.operations + sampled.products * each)
    return certain if certain.fits and is_cheap else sampled


def _sampled(matrix: Counted, what: str, name: Any, options: Options) -> Cost:
    order, count = matrix.order, min(options.products, 2 * matrix.order)
    if what == "norm 2":
        steps = min(order, _NORM_STEPS)
        return Cost("lanczos", steps, 0, 4.0 * order * steps**2, 8 * order * (steps + 4))
    if name == "lanczos":
        found = min(order, leading_products(options.deflate))
        products = found + options.probes * options.steps
        work = 4.0 * order * (found**2 + options.probes * options.steps * (options.deflate + 4))
        held = 8 * order * (2 * found + options.deflate + 5 * options.probes)
        return Cost("lanczos", products, 0, work, held)
    if what == "diagonal of inverse":
        base = exact.cost_of(matrix, "logdet")
        work = base.operations + 2.0 * order**2 * count
        return Cost(name, base.products, 1, work, base.bytes + 24 * order * count)
    rows = count if name == "hutchinson" else count // 2
    return Cost(name, count, 0, 8.0 * order * rows**2, 40 * order * rows)


def start(matrix: Counted, what: str, method: Method, options: Options) -> Method:
    """The method to use; a MemoryError where there is no room for it."""
    found = planned(matrix, what, method, options)
    checks.memory(found.bytes, f"the {what} by method {found.method!r}")
    return found.method
