"""`DaskMatrix`: a matrix of second derivatives whose samples are on a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.internals import Fixed, Internals
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array, FloatArray
from swiftnets.curvature.kinds import Kind
from swiftnets.dask import worker
from swiftnets.linalg import scaling
from swiftnets.linalg.krylov import cg, default_iterations, default_tolerance, minres
from swiftnets.linalg.krylov_result import KrylovResult
from swiftnets.linalg.operator import SymmetricOperator

if TYPE_CHECKING:
    from swiftnets.dask.point import DaskPoint

__all__ = ["DaskMatrix"]


def __dir__() -> list[str]:
    return __all__


# What the dashboard calls the tasks.
_TITLES = {
    Kind.HESSIAN: "hessian",
    Kind.GAUSS_NEWTON: "gauss-newton",
    Kind.FISHER: "fisher",
    Kind.EMPIRICAL_FISHER: "empirical-fisher",
}
_INTERNAL = ("products",)


class DaskMatrix(Fixed, SymmetricOperator, Internals, internal=_INTERNAL):
    """A symmetric matrix of second derivatives at a point of a cluster; made by `DaskPoint`.

    A product sends the vectors to the workers once and adds up what they make of them in a tree:
    see :doc:`/dask` for bytes and latency. Many vectors at once cost one round trip, as one does:
    take ``rows @ A``. The net's l2 is in it, once, and a shift, which ``matrix + shift`` gives it.

    Attributes
    ----------
    point : DaskPoint
    kind : Kind
    shift : float
        What was added to the diagonal, but for the net's l2.

    Examples
    --------
    >>> import dask.array
    >>> from distributed import Client
    >>> from swiftnets import MLP
    >>> from swiftnets.dask import DaskProblem
    >>> x, y = (dask.array.from_array(np.array(a), chunks=(1, -1))
    ...         for a in ([[3.0, 4.0], [0.0, 1.0]], [[10.0], [2.0]]))
    >>> with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
    ...     hessian = DaskProblem(MLP((2, 1), bias=False), x, y).at([1.0, 2.0]).hessian
    ...     print(hessian @ [1.0, 0.0], (hessian + 0.5).solve([9.5, 12.0]).solution.round(9))
    [ 9. 12.] [1. 0.]
    """

    def __init__(self, point: DaskPoint, kind: Kind, shift: float = 0.0) -> None:
        if not hasattr(point, "summed") or not isinstance(kind, Kind):
            raise TypeError(
                "a DaskMatrix is made by a point, as in DaskProblem(net, x, y).at(w).hessian; got "
                f"arguments of types {type(point).__name__} and {type(kind).__name__}"
            )
        self._point, self._kind = point, kind
        self._shift = checks.real(shift, "shift")
        if not math.isfinite(self._total):
            raise ValueError(f"shift is {shift}, and l2 is {point.net.l2}; expected a finite sum")

    @property
    def point(self) -> DaskPoint:
        """Where the derivatives are taken."""
        return self._point

    @property
    def kind(self) -> Kind:
        """Which matrix it is."""
        return self._kind

    @property
    def shift(self) -> float:
        """What was added to the diagonal, but for the net's l2."""
        return self._shift

    @property
    def _total(self) -> float:
        return self.point.net.l2 + self._shift

    @property
    def order(self) -> int:  # type: ignore[override]
        """P."""
        return self.point.net.parameter_count

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        """The net's."""
        return self.point.net.dtype

    def __add__(self, shift: float) -> DaskMatrix:
        """The matrix plus `shift` times the identity."""
        if isinstance(shift, SymmetricOperator):
            return NotImplemented
        return type(self)(self.point, self.kind, self.shift + checks.real(shift, "shift"))

    __radd__ = __add__

    def __sub__(self, shift: float) -> DaskMatrix:
        return self + -checks.real(shift, "shift")

    # Sums

    def products(self, rows: FloatArray) -> FloatArray:
        """The matrix times each row.

        Parameters
        ----------
        rows : (K, P) array
            C-contiguous, of the net's dtype.

        Returns
        -------
        (K, P) array
        """
        (total,) = self.point.summed(self._title("product"), worker.products, self.kind, rows)
        return self.point.cluster.reduced(total, self._total, rows)

    def diagonal(self) -> FloatArray:
        """The diagonal, exact.

        Returns
        -------
        (P,) float array
        """
        (total,) = self.point.summed(self._title("diag"), worker.diagonal, self.kind)
        return self.point.cluster.reduced(total, self._total, 1.0)

    def dense(self) -> FloatArray:
        """All entries, each partition's by its structure, as `CurvatureMatrix.dense` has them.

        Returns
        -------
        (P, P) array
            As much crosses the network for each partition.

        Raises
        ------
        MemoryError
            If it would not fit into this machine's memory.
        """
        checks.memory(8 * self.order**2, f"the {self.kind.title}, {self.order} by {self.order},")
        (total,) = self.point.summed(self._title("entries"), worker.dense, self.kind)
        return self.point.cluster.reduced(total, self._total, np.eye(self.order))

    def _title(self, what: str) -> str:
        return f"{_TITLES[self.kind]}-{what}"

    # Krylov methods

    def lanczos(self, starts: npt.ArrayLike, steps: int) -> tuple[FloatArray, FloatArray]:
        """Tridiagonal matrices of Lanczos runs, from many starts at once.

        As `swiftnets.CurvatureMatrix.lanczos`: the recurrence alone, without reorthogonalisation,
        for quadrature. `swiftnets.linalg.lanczos` and `swiftnets.spectra.eigsh` take the matrix as
        well.

        Parameters
        ----------
        starts : (P,) or (K, P) array_like
            Not 0; they need not be normalised.
        steps : int
            A round trip each, for all starts together.

        Returns
        -------
        diagonal : (steps,) or (K, steps) float array
        off_diagonal : (steps - 1,) or (K, steps - 1) float array

        Raises
        ------
        TypeError
            If an argument is not of the kind above.
        ValueError
            If it is not as above.
        FloatingPointError
            If a coefficient is not finite.
        """
        rows, single = self.point.net.engine.rows(starts, "starts")
        steps = checks.integer(steps, "steps")
        checks.finite(rows, "starts")
        if not abs(rows).max(axis=1).all():
            raise ValueError("starts has a row that is 0; expected vectors with a direction")
        # In float64 but for the products: these are the net's.
        q = (rows / abs(rows).max(axis=1, keepdims=True)).astype(np.float64)
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        previous, count = np.zeros_like(q), len(q)
        beta, scale = np.zeros(count), np.zeros(count)
        diagonal, off_diagonal = np.zeros((2, count, steps))
        going = np.arange(count)
        eps = float(np.finfo(self.dtype).eps)
        for step in range(steps):
            now = q[going]
            images = np.asarray(now.astype(self.dtype) @ self, np.float64)
            with np.errstate(invalid="ignore", over="ignore"):  # told below
                images -= beta[going, None] * previous[going]
                alpha = np.einsum("kn,kn->k", now, images)
                images -= alpha[:, None] * now
            if not np.isfinite(images).all():
                raise FloatingPointError("a Lanczos coefficient is not finite")
            norms = np.array([scaling.norm(image) for image in images])
            diagonal[going, step], beta[going] = alpha, norms
            scale[going] = np.maximum(scale[going], np.maximum(abs(alpha), norms))
            open_ = norms > self.order * eps * scale[going]
            previous[going] = now
            going, images, norms = going[open_], images[open_], norms[open_]
            if not len(going):
                break
            off_diagonal[going, step] = norms
            q[going] = images / norms[:, None]
        first, second = diagonal.astype(self.dtype), off_diagonal[:, :-1].astype(self.dtype)
        return (first[0], second[0]) if single else (first, second)

    def solve(
        self,
        b: npt.ArrayLike,
        *,
        damping: float = 0.0,
        method: Literal["auto", "cg", "minres"] = "auto",
        preconditioner: Literal["diagonal", "kronecker"] | Callable[[Any], Any] | None = None,
        tolerance: float | None = None,
        max_iterations: int | None = None,
        progress: bool = False,
    ) -> KrylovResult:
        """Solve (A + damping) x = b by a Krylov method, a round trip a step.

        Parameters
        ----------
        b : (P,) or (K, P) array_like
            A right-hand side, or K of them as rows.
        damping : float
        method : {"auto", "cg", "minres"}
            ``"cg"`` is for a positive definite A + damping, ``"minres"`` for an indefinite or
            singular one. ``"auto"``: conjugate gradients for Gauss–Newton and Fisher matrices with
            l2, shift and damping above 0 together, else MINRES.
        preconditioner : {None, "diagonal", "kronecker"} or callable
            The moduli of the diagonal of A + damping; the Kronecker-factored Gauss–Newton matrix of
            an `MLP` plus the modulus of l2, shift and damping; or a function that takes rows
            (j, P) and returns M⁻¹ times each.
        tolerance : float, optional
            Of ‖b − (A + damping) x‖ / ‖b‖; 1e-10 by default, 1e-4 for float32 nets.
        max_iterations : int, optional
        progress : bool
            Show on standard error how far it is.

        Returns
        -------
        swiftnets.linalg.KrylovResult
            Also where it has not converged: it says so.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above.
        NotImplementedError
            If the preconditioner is ``"kronecker"`` and the net is no `MLP`.
        FloatingPointError
            If a product is not finite.
        """
        checks.choice(method, "method", ("auto", "cg", "minres"))
        if preconditioner is not None and not callable(preconditioner):
            checks.choice(preconditioner, "preconditioner", ("diagonal", "kronecker"))
        if tolerance is None:
            tolerance = default_tolerance(self.dtype)
        else:
            tolerance = checks.real(tolerance, "tolerance", positive=True)
        total = default_iterations(self.order)
        if max_iterations is not None:
            total = checks.integer(max_iterations, "max_iterations")
        show = checks.flag(progress, "progress")
        matrix = self + checks.real(damping, "damping")
        if method == "auto":
            is_definite = self.kind is not Kind.HESSIAN and matrix._total > 0
            method = "cg" if is_definite else "minres"
        apply = matrix._preconditioner(preconditioner)

        def step(_: int, relative: float) -> bool:
            bar.step(relative)
            return False

        with Progress(0, total, "relative residual", shown=show) as bar:
            return (cg if method == "cg" else minres)(
                matrix,
                b,
                preconditioner=apply,
                tolerance=tolerance,
                max_iterations=total,
                callback=step if show else None,
            )

    def _preconditioner(self, kind: Any) -> Callable[[Any], Any] | None:
        if kind is None or callable(kind):
            chosen: Callable[[Any], Any] | None = kind
            return chosen
        if kind == "kronecker":
            factors = self.point.kronecker_factors()
            largest = max(
                float(np.trace(a) * np.trace(g))
                for a, g in zip(factors.inputs, factors.outputs, strict=True)
            )
            return factors.inverse(max(abs(self._total), largest * 1e-16, 1e-300))
        moduli: Array = abs(self.diagonal().astype(np.float64))
        # What is nearly 0 is no guide to the scale of its variable.
        inverse = 1 / np.maximum(moduli, max(float(moduli.max()) * 1e-8, 1e-300))
        return lambda rows: rows * inverse

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a DaskMatrix is not pickled, as its samples are on a cluster; see .dense() for its "
            "entries"
        )

    def __repr__(self) -> str:
        title = self.kind.title[0].upper() + self.kind.title[1:]
        shift = f" + {self.shift}" if self.shift else ""
        return f"{title}{shift} of {self.point!r}"
