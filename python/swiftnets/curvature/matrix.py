"""`CurvatureMatrix`: the Hessian, Gauss–Newton or Fisher matrix of a net's loss at a point.

It is there through its products; entries are made when they are asked for.
"""

from __future__ import annotations

import cmath
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.internals import Fixed, Internals
from swiftnets._support.types import FloatArray
from swiftnets.curvature.kinds import Kind
from swiftnets.linalg import scaling
from swiftnets.linalg.operator import SymmetricOperator
from swiftnets.nets.engine import Engine
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.samples import Batch, Samples

if TYPE_CHECKING:
    from swiftnets.curvature.point import Point
    from swiftnets.linalg.factors import Inertia
    from swiftnets.solve.factors import Factorization, FactorMethod
    from swiftnets.solve.layered import Form
    from swiftnets.solve.options import Preconditioner, SolveMethod
    from swiftnets.solve.solution import Solution

__all__ = ["CurvatureMatrix"]


def __dir__() -> list[str]:
    return __all__


Block: TypeAlias = tuple[int, int] | Literal["diagonal"] | None


class Solver(Protocol):
    """What a point's matrices are factored and solved with: `swiftnets.solve`."""

    def factorize(
        self, matrix: CurvatureMatrix, *, method: FactorMethod, form: Form
    ) -> Factorization: ...

    def solve(
        self,
        matrix: CurvatureMatrix,
        b: npt.ArrayLike,
        *,
        damping: float,
        method: SolveMethod,
        block: Literal["diagonal"] | None,
        preconditioner: Preconditioner,
        tolerance: float | None,
        max_iterations: int | None,
        time_limit: float | None,
        progress: bool,
        inertia: bool,
    ) -> Solution: ...


_INTERNAL = ("bare", "product", "products")


class CurvatureMatrix(Fixed, SymmetricOperator, Internals, internal=_INTERNAL):
    """A symmetric matrix of second derivatives at a point; made by `Point`.

    The net's l2 is in it, and a shift, which ``matrix + shift`` gives it.

    Attributes
    ----------
    point : Point
    shift : float or complex
        What was added to the diagonal, but for the net's l2.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> hessian = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]]).hessian
    >>> hessian @ [1.0, 0.0]
    array([ 9., 12.])
    >>> (hessian + 0.5).dense()
    array([[ 9.5, 12. ],
           [12. , 16.5]])
    """

    def __init__(self, point: Point, kind: Kind, shift: float | complex = 0.0) -> None:
        net = getattr(point, "net", None)
        if not isinstance(net, BaseNetwork) or not isinstance(kind, Kind):
            raise TypeError(
                "a CurvatureMatrix is made by a point, as in net.at(w, x, y).hessian; got "
                f"arguments of types {type(point).__name__} and {type(kind).__name__}"
            )
        self._point, self._kind, self._shift = point, kind, checks.scalar(shift, "shift")
        if not cmath.isfinite(self._total):
            raise ValueError(f"shift is {shift}, and l2 is {net.l2}; expected a finite sum")

    # A matrix is its point, kind and shift: copies and pickles make factors anew.

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._point, self._kind, self._shift)

    @property
    def point(self) -> Point:
        """Where the derivatives are taken."""
        return self._point

    @property
    def kind(self) -> Kind:
        """Which matrix it is."""
        return self._kind

    @property
    def shift(self) -> float | complex:
        """What was added to the diagonal, but for the net's l2."""
        return self._shift

    @property
    def _total(self) -> float | complex:
        """What is added to the diagonal, l2 and the shift: as one sum, which may cancel."""
        return self.point.net.l2 + self._shift

    @property
    def order(self) -> int:  # type: ignore[override]
        """P."""
        return self.point.net.parameter_count

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        """The net's, or of its precision and complex where the shift is complex."""
        dtype = self.point.net.dtype
        if isinstance(self.shift, complex):
            return np.result_type(dtype, np.complex64)
        return dtype

    # Shifts

    def __add__(self, shift: complex) -> CurvatureMatrix:
        """The matrix plus `shift` times the identity."""
        if isinstance(shift, SymmetricOperator):
            return NotImplemented
        value = checks.scalar(shift, "shift")
        total = self.shift + value
        if not cmath.isfinite(total):
            raise ValueError(f"shift is {value} added to {self.shift}; expected a finite sum")
        return type(self)(self.point, self.kind, total)

    __radd__ = __add__

    def __sub__(self, shift: complex) -> CurvatureMatrix:
        return self + -checks.scalar(shift, "shift")

    # Products

    def products(self, rows: FloatArray) -> FloatArray:
        """The matrix times each row, exact to rounding (Pearlmutter 1994).

        Parameters
        ----------
        rows : (K, P) array
            C-contiguous, of the net's dtype.

        Returns
        -------
        (K, P) array
            Each costs about a gradient, the passes being kept.
        """
        return self._shifted(self.point.passed.product(self.kind.code, rows), rows)

    def _shifted(self, out: FloatArray, v: FloatArray | float) -> FloatArray:
        """With l2 and the shift times v added to it."""
        if not self.shift and not isinstance(self.shift, complex):
            self.point.net.engine.add_l2(out, v)
            return out
        total = self._total
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(total, complex):
                result: FloatArray = out + self.dtype.type(total) * v
                return result
            # In float64 where the net's dtype would round it to 0 or inf, as l2 is.
            info = np.finfo(self.dtype)
            usual = float(info.tiny) <= abs(total) <= float(info.max)
            if total:
                out += (self.dtype.type if usual else np.float64)(total) * v
        return out

    # Entries

    def dense(self, block: Block = None, out: FloatArray | None = None) -> Any:
        """The matrix, or blocks of it, entry by entry.

        From its structure for chains of dense layers, for other nets by a product a column.

        Parameters
        ----------
        block : (i, j) or "diagonal", optional
            Only that of layers i and j, of those with parameters, or a list of all layers' own.
        out : (P, P) array, optional
            Where to put the whole matrix: C-contiguous, of the net's dtype. A memory map will do.

        Returns
        -------
        (P, P) array, one block, or a list of blocks
            The whole matrix and blocks (i, i) are symmetric to the last bit.

        Raises
        ------
        MemoryError
            If the result would not fit into memory; the message has the bytes.
        TypeError
            If `block` is not of the kind above.
        ValueError
            If there is no such block, or `out` is not such an array.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> point = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> point.hessian.dense()
        array([[ 9., 12.],
               [12., 16.]])
        """
        if out is not None and block is not None:
            raise ValueError("out is for the whole matrix; expected None with a block")
        if out is not None and isinstance(self.shift, complex):
            raise ValueError("out is for real matrices; expected None with a complex shift")
        if isinstance(block, str):
            checks.choice(block, "block", ("diagonal",))
            layers = range(len(self.point.net.layer_slices))
            return [self._block((index, index), None) for index in layers]
        return self._block(self._pair(block), out)

    def _pair(self, block: Any) -> tuple[int, int] | None:
        if block is None:
            return None
        if not isinstance(block, (tuple, list)) or len(block) != 2:
            raise TypeError(f'block is {block!r}; expected a pair of layers, or "diagonal"')
        last = len(self.point.net.layer_slices) - 1
        try:
            i, j = (checks.integer(layer, "block", 0, last) for layer in block)
        except (TypeError, ValueError) as error:
            expected = f"two layers, integers from 0 to {last}"
            raise type(error)(f"block is {block!r}; expected {expected}") from None
        return i, j

    def _block(self, pair: tuple[int, int] | None, out: FloatArray | None) -> FloatArray:
        net, engine, w = self.point.net, self.point.net.engine, self.point.w
        if pair is None:
            upper, lower = -1, -1
            rows = columns = engine.count
        else:
            upper, lower = max(pair), min(pair)
            rows, columns = (
                net.layer_slices[layer].stop - net.layer_slices[layer].start
                for layer in (upper, lower)
            )
        if out is None:
            place = engine.empty(f"the {self.kind.title}", rows, columns)
        else:
            place = out
            _check_out(out, (rows, columns), engine.dtype)

        def fill(batch: Batch, scale: float, place: FloatArray) -> None:
            _core.mlp_dense(engine.handle, w, *batch, scale, self.kind.code, upper, lower, place)

        engine.reduce(fill, place, self.point.samples)
        if upper == lower:
            place = self._on_diagonal(place)
        elif isinstance(self.shift, complex):
            place = place.astype(self.dtype)
        if pair is not None and pair[0] < pair[1]:
            return np.ascontiguousarray(place.T)
        return place

    def bare(self) -> FloatArray:
        """All entries without the net's l2 and the shift, of a point with one batch.

        Returns
        -------
        (P, P) array
            Finite.

        Raises
        ------
        FloatingPointError, ValueError
            If they are not finite; the latter names the argument that is not.
        """
        engine = self.point.net.engine
        out = engine.empty(f"the {self.kind.title}", engine.count, engine.count)
        self.point.call(_core.mlp_dense, self.kind.code, -1, -1, out)
        if not np.isfinite(out).all():
            self.point.call(_not_finite, self.kind.title)
        return out

    def _on_diagonal(self, matrix: FloatArray) -> FloatArray:
        matrix = matrix.astype(self.dtype, copy=False)
        diagonal = matrix.reshape(-1)[:: len(matrix) + 1]
        diagonal[...] = self._shifted(diagonal, 1.0)
        return matrix

    def diagonal(self) -> FloatArray:
        """The diagonal, exact: of chains of dense layers quickly, of other Hessians by P products.

        Returns
        -------
        (P,) float array

        Examples
        --------
        >>> from swiftnets import MLP
        >>> MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]]).hessian.diagonal()
        array([ 9., 16.])
        """
        engine, w = self.point.net.engine, self.point.w

        def fill(batch: Batch, scale: float, out: FloatArray) -> None:
            _core.mlp_diagonal(engine.handle, w, *batch, scale, self.kind.code, out)

        out = np.empty(engine.count, engine.dtype)
        engine.reduce(fill, out, self.point.samples)
        return self._shifted(out, 1.0)

    # Lanczos

    def lanczos(self, starts: npt.ArrayLike, steps: int) -> tuple[FloatArray, FloatArray]:
        """Tridiagonal matrices of Lanczos runs, from many starts at once.

        The three-term recurrence alone, as quadrature for spectral densities wants it (Ubaru, Chen
        & Saad 2017): vectors are neither kept nor orthogonalised against those before the last
        two, so that copies of converged Ritz values appear. `swiftnets.linalg.lanczos` keeps and
        orthogonalises them.

        Parameters
        ----------
        starts : (P,) or (K, P) array_like
            Not 0; they need not be normalised.
        steps : int

        Returns
        -------
        diagonal : (steps,) or (K, steps) float array
        off_diagonal : (steps - 1,) or (K, steps - 1) float array
            Not negative. From where a run's space is invariant to rounding both are 0, which leaves
            the spectral measure of its start as it is.

        Raises
        ------
        TypeError
            If an argument is not of the kind above.
        ValueError
            If it is not as above, or the shift is complex.
        FloatingPointError
            If a coefficient is not finite.

        Notes
        -----
        Costs `steps` products a run; runs go on side by side, one a thread, each in its thread's
        cache.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> point = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> diagonal, off_diagonal = point.hessian.lanczos([1.0, 0.0], 2)
        >>> (np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)).round(12)
        array([[ 9., 12.],
               [12., 16.]])
        """
        engine, total = self.point.net.engine, self._total
        if isinstance(total, complex):
            raise ValueError(f"the shift is {self.shift}; Lanczos's method is for real matrices")
        starts, single = engine.rows(starts, "starts")
        steps = checks.integer(steps, "steps")
        checks.finite(starts, "starts")
        if not abs(starts).max(axis=1).all():
            raise ValueError("starts has a row that is 0; expected vectors with a direction")
        diagonal, off_diagonal = np.empty((2, len(starts), steps), engine.dtype)
        passed = self.point.passed
        if passed.is_whole:
            _core.linearization_lanczos(
                passed.parts[0], self.kind.code, total, starts, diagonal, off_diagonal
            )
        else:
            for run, start in enumerate(starts):
                self._lanczos_run(start, diagonal[run], off_diagonal[run])
        off_diagonal = off_diagonal[:, :-1].copy()
        return (diagonal[0], off_diagonal[0]) if single else (diagonal, off_diagonal)

    def _lanczos_run(
        self, start: FloatArray, diagonal: FloatArray, off_diagonal: FloatArray
    ) -> None:
        """One run over several batches, as the engine does it over one."""
        q = start / abs(start).max()
        q /= np.linalg.norm(q)
        previous, beta, scale = np.zeros_like(q), 0.0, 0.0
        diagonal[:], off_diagonal[:] = 0, 0
        for step in range(len(diagonal)):
            image = self @ q - beta * previous
            diagonal[step] = alpha = np.vdot(q, image)
            image -= alpha * q
            beta = scaling.norm(image)
            scale = max(scale, abs(alpha), beta)
            if not math.isfinite(scale):
                raise FloatingPointError("a Lanczos coefficient is not finite")
            if beta <= len(q) * np.finfo(q.dtype).eps * scale:
                return
            off_diagonal[step] = beta
            e = scaling.exponent(image)  # β need not be a number in float32
            previous, q = q, np.ldexp(image, -e) / q.dtype.type(math.ldexp(beta, -e))

    # Factors and solves

    def factorize(self, *, method: FactorMethod = "auto", form: Form = "auto") -> Factorization:
        """Factors for any number of solves with this matrix; see `swiftnets.solve.factorize`.

        Parameters
        ----------
        method : {"auto", "layered", "dense"}
        form : {"auto", "primal", "dual"}

        Returns
        -------
        LayeredFactorization or DenseFactorization

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((2, 3, 1))
        >>> hessian = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1))).hessian
        >>> (hessian + 0.1).factorize().inertia
        Inertia(positive=9, negative=4, zero=0)
        """
        return self.point.solver.factorize(self, method=method, form=form)

    def solve(
        self,
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
        """Solve (A + damping) x = b; `swiftnets.solve.solve` says what the options mean.

        Parameters
        ----------
        b : (P,) or (K, P) array_like
            A right-hand side, or K of them as rows.
        damping : float
        method : {"auto", "layered", "dense", "cg", "minres"}
        block : {None, "diagonal"}
        preconditioner : {None, "diagonal", "kronecker"} or callable
        tolerance : float, optional
        max_iterations : int, optional
        time_limit : float, optional
        progress, inertia : bool

        Returns
        -------
        Solution

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((2, 3, 1))
        >>> point = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))
        >>> point.hessian.solve(point.gradient, damping=0.1).success
        True
        """
        return self.point.solver.solve(
            self,
            b,
            damping=damping,
            method=method,
            block=block,
            preconditioner=preconditioner,
            tolerance=tolerance,
            max_iterations=max_iterations,
            time_limit=time_limit,
            progress=progress,
            inertia=inertia,
        )

    @property
    def inertia(self) -> Inertia:
        """Counts of eigenvalues > 0, < 0 and 0 (up to about 1e-13 of the norm), proved by factors.

        Raises
        ------
        numpy.linalg.LinAlgError
            Where nothing is proved, or the shift is complex.
        """
        found = None if isinstance(self.shift, complex) else self._factors.inertia
        if found is None:
            raise np.linalg.LinAlgError(f"the shift is {self.shift}; inertia is of real matrices")
        return found

    @property
    def logdet(self) -> float:
        """log|det|, from factors of the matrix; −inf where eigenvalues are 0, as `inertia` says."""
        factors = None if isinstance(self.shift, complex) else self._factors
        if factors is None or factors.inertia is None:
            raise np.linalg.LinAlgError(f"the shift is {self.shift}; log|det| is of real matrices")
        if factors.log_determinant is None:
            raise np.linalg.LinAlgError(f"log|det| may be off by {factors.log_determinant_error}")
        return factors.log_determinant

    @cached_property
    def _factors(self) -> Factorization:
        return self.factorize()

    def __repr__(self) -> str:
        title = self.kind.title[0].upper() + self.kind.title[1:]
        shift = f" + {self.shift}" if self.shift or isinstance(self.shift, complex) else ""
        return f"{title}{shift} of {self.point!r}"


def require_matrix(matrix: object) -> CurvatureMatrix:
    """A TypeError if it is no curvature matrix."""
    if not isinstance(matrix, CurvatureMatrix):
        raise TypeError(
            f"matrix is of type {type(matrix).__name__}; expected a CurvatureMatrix, such as "
            "net.at(w, x, y).hessian"
        )
    return matrix


class Stream(NamedTuple):
    """In place of a point, for one matrix that is asked for once: samples as they come."""

    net: BaseNetwork
    w: FloatArray
    samples: Samples


def streamed_products(
    engine: Engine, kind: Kind, w: FloatArray, samples: Samples, rows: FloatArray
) -> FloatArray:
    """A curvature matrix times each row, the passes made batch by batch and not kept."""
    out = np.empty_like(rows)

    def fill(batch: Batch, scale: float, out: FloatArray) -> None:
        _core.mlp_product(engine.handle, w, *batch, scale, kind.code, rows, out)

    engine.reduce(fill, out, samples)
    engine.add_l2(out, rows)
    return out


def _not_finite(*arguments: Any) -> None:
    raise FloatingPointError(f"the {arguments[-1]} has numbers that are not finite")


def _check_out(out: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape:
        got = (
            f"a {out.dtype} array of shape {out.shape}"
            if isinstance(out, np.ndarray)
            else f"of type {type(out).__name__}"
        )
        raise ValueError(f"out is {got}; expected a {dtype} array of shape {shape}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out is not C-contiguous or not writable; expected an array that is both")
