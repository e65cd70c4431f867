"""H + λ of a net factored layer by layer, without forming H, in time linear in the depth.

It eliminates the layers from the last to the first, each with its own pivots. What it eliminates,
and what rounding does to it, is in ``docs/inverse.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftnets import _core
from swiftnets._support import checks
from swiftnets._support.locks import lock_of
from swiftnets.curvature.matrix import CurvatureMatrix, require_matrix
from swiftnets.curvature.states import state_count
from swiftnets.linalg.factors import (
    Factors,
    FactorSummary,
    factor,
    right_hand_sides,
    rounded,
    solve_with,
)
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.supports import require_dense

__all__ = ["LayeredFactorization", "LayeredPlan", "plan"]


def __dir__() -> list[str]:
    return __all__


Form: TypeAlias = Literal["auto", "primal", "dual"]

FORMS = ("auto", "primal", "dual")
# What needs dense layers, and what to use with others.
LAYERED = ("layered elimination", 'method "dense", "cg" or "minres" of solve')


@dataclass(frozen=True)
class LayeredPlan:
    """What a layered factorisation takes.

    Attributes
    ----------
    parameter_count : int
        P.
    bytes : int
        Memory that it holds where no pivots are left to other layers.
    operations : float
        Real multiplications and additions of the factorisation.
    solve_operations : float
        Those of a solve, for each right-hand side.
    forms : tuple of {"primal", "dual"}
        Of each layer: whether its weights are eliminated as they are, or their parts in the span of
        the layer's inputs.
    """

    parameter_count: int
    bytes: int
    operations: float
    solve_operations: float
    forms: tuple[str, ...]


def is_layered(matrix: CurvatureMatrix) -> bool:
    """Whether there is a layered factorisation of such a matrix: Hessians of an `MLP`."""
    return matrix.kind.is_layered and "layered_solve" in matrix.point.net.supports


def plan(
    net: BaseNetwork, samples: int, *, complex: bool = False, form: Form = "auto"
) -> LayeredPlan:
    """What the layered factorisation of a net's Hessian for so many samples takes.

    Parameters
    ----------
    net : MLP
    samples : int
    complex : bool
        Whether the shift is complex.
    form : {"auto", "primal", "dual"}
        As in `factorize`.

    Returns
    -------
    LayeredPlan

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above.
    NotImplementedError
        If the net is no `MLP`.
    MemoryError
        If sizes are beyond what LAPACK counts: no machine holds such factors.

    Notes
    -----
    Nothing is allocated.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> plan(MLP((100, 10, 1)), 20).forms
    ('dual', 'primal')
    """
    if not isinstance(net, BaseNetwork):
        raise TypeError(f"net is of type {type(net).__name__}; expected an MLP")
    chain = require_dense(net, *LAYERED)
    samples = checks.integer(samples, "samples")
    is_complex = checks.flag(complex, "complex")
    number = checks.choice(form, "form", FORMS)
    try:
        sizes = _core.layered_plan(net.engine.handle, samples, int(is_complex), number)
    except MemoryError:  # of a plan, in which nothing is allocated
        raise MemoryError(
            f"the layered factorisation for {samples:,} samples has matrices with more numbers "
            "than LAPACK counts; expected fewer samples or narrower layers"
        ) from None
    forms = tuple(
        "dual" if form == "dual" or (form == "auto" and samples < rows) else "primal"
        for rows in chain.layer_rows
    )
    return LayeredPlan(net.parameter_count, *sizes, forms)


class LayeredFactorization(Factors):
    """H + λ of a net on one batch, eliminated layer by layer; made by `swiftnets.solve.factorize`.

    Unknowns whose pivots are too small beside their coupling to the layer below are left to it, so
    that rounding errors stay below about 1e-9 of ‖H + λ‖ whatever its blocks are. Factors F are
    then measured by exact products: where the `certificate`, an estimate of ‖1 − (H + λ) F⁻¹‖, is
    above 0.1 the matrix is refused as singular to working precision; below, the inertia is proved.

    Solutions are not refined: look at the residual with `MLP.hvp`, and solve again for it.

    Several threads may solve at once; `update` waits for them, and they for it.
    """

    def __init__(
        self, matrix: CurvatureMatrix, form: Form = "auto", dtype: npt.DTypeLike | None = None
    ) -> None:
        if not require_matrix(matrix).kind.is_layered:
            raise ValueError(
                f"the matrix is a {matrix.kind.title}; expected a Hessian for layered elimination"
            )
        checks.choice(form, "form", FORMS)
        wide, shift = matrix.point.in_float64(), matrix.shift
        samples = wide.counted_samples
        self._plan = plan(wide.net, samples, complex=isinstance(shift, complex), form=form)
        states = 8 * state_count(wide.net, samples)
        checks.memory(self._plan.bytes + states, "the layered factorisation")
        self._dtype = np.dtype(matrix.point.net.dtype if dtype is None else dtype)
        self._l2 = wide.net.l2
        self._lock = lock_of(self)
        self._shift = shift
        self._engine, found = factor(
            shift, wide.call_on_pass, _core.layered, FORMS.index(form), *self._parts(shift)
        )
        self.summary = FactorSummary.of(found)
        self._bytes: int = found[2]

    def _parts(self, shift: float | complex) -> tuple[float, float | None]:
        """Real and imaginary part of what is added to the Hessian without l2."""
        return shift.real + self._l2, shift.imag if isinstance(shift, complex) else None

    def solve(self, b: npt.ArrayLike) -> npt.NDArray[Any]:
        """x with (H + λ) x = b, not refined.

        Parameters
        ----------
        b : (P,) or (K, P) array_like
            Right-hand sides as rows; real or complex where λ is complex.

        Returns
        -------
        array like b
            Of the net's dtype, or for complex λ the complex one of its precision.

        Raises
        ------
        TypeError, ValueError
            If b is not as above, or not finite.
        numpy.linalg.LinAlgError
            If eigenvalues are 0, the last `update` failed, or the solution overflows.

        Notes
        -----
        Costs `solve_operations` a right-hand side; several at once are faster than one by one.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((2, 1), bias=False)
        >>> point = net.at([0.0, 0.0], [[3.0, 4.0]], [[1.0]])
        >>> LayeredFactorization(point.hessian + 1.0).solve([3.0, 4.0])
        array([0.11538462, 0.15384615])
        """
        if isinstance(self._shift, complex):
            return self._solve_complex(b)
        rows, single = right_hand_sides(b, self.parameter_count)
        x = np.empty_like(rows)
        solve_with(_core.layered_solve, self._engine, rows, None, x, None)
        return rounded(x[0] if single else x, self._dtype)

    def _solve_complex(self, b: npt.ArrayLike) -> npt.NDArray[Any]:
        imaginary = None
        if np.iscomplexobj(b):
            b = np.asarray(b)
            imaginary = right_hand_sides(b.imag, self.parameter_count)[0]
            b = b.real
        rows, single = right_hand_sides(b, self.parameter_count)
        x, y = np.empty_like(rows), np.empty_like(rows)
        solve_with(_core.layered_solve, self._engine, rows, imaginary, x, y)
        result = np.empty(x.shape, np.result_type(self._dtype, np.complex64))
        result.real, result.imag = rounded(x, self._dtype), rounded(y, self._dtype)
        return result[0] if single else result

    def update(self, shift: complex) -> LayeredFactorization:
        """Factors for another λ, in the same memory and without another pass over the samples.

        Parameters
        ----------
        shift : float or complex
            λ; complex only where it was.

        Returns
        -------
        LayeredFactorization
            Itself.

        Raises
        ------
        TypeError, ValueError
            If it is complex where λ was real, or not finite.
        numpy.linalg.LinAlgError
            If H + λ is singular to working precision. There is no factorisation then, until the
            next update.
        """
        new: float | complex
        if isinstance(self._shift, complex):
            new = complex(checks.scalar(shift, "shift"))
        else:
            new = checks.real(shift, "shift")
        with self._lock:
            self._shift, self.summary = new, FactorSummary()
            parts = self._parts(new)
            found = factor(new, _core.layered_update, self._engine, *parts)
            self.summary, self._bytes = FactorSummary.of(found), found[2]
        return self

    @property
    def shift(self) -> float | complex:
        """λ: what is added to the Hessian, the net's l2 being part of that.

        After an update that failed the λ of that, of which there are no factors.
        """
        return self._shift

    @property
    def parameter_count(self) -> int:
        """P, the order of H."""
        return self._plan.parameter_count

    @property
    def bytes(self) -> int:
        """Memory that the factorisation holds, that of pivots left to other layers included."""
        return self._bytes

    @property
    def operations(self) -> float:
        """Real multiplications and additions of the factorisation."""
        return self._plan.operations

    @property
    def solve_operations(self) -> float:
        """Those of a solve, for each right-hand side."""
        return self._plan.solve_operations

    @property
    def forms(self) -> tuple[str, ...]:
        """``"primal"`` or ``"dual"`` for each layer."""
        return self._plan.forms

    def __repr__(self) -> str:
        return (
            f"LayeredFactorization(P={self.parameter_count}, shift={self._shift}, {self.summary})"
        )
