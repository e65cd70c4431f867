"""H + λ of a net factored once for many solves: layer by layer, or dense.

`factorize` makes one; `plan` says what it would take. The layered one never forms H: it eliminates
the layers from the last to the first, each with its own pivots, in time linear in the depth. What
it eliminates, and what rounding does to it, is in ``docs/inverse.md``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from swiftnets import _checks, _core
from swiftnets._locks import lock_of
from swiftnets._samples import Batch, FloatArray

if TYPE_CHECKING:
    from swiftnets.mlp import MLP

__all__ = [
    "DenseFactorization",
    "Factorization",
    "Inertia",
    "LayerState",
    "LayeredFactorization",
    "LayeredPlan",
    "factorize",
    "layer_states",
    "plan",
]


def __dir__() -> list[str]:
    return __all__


Array: TypeAlias = npt.NDArray[np.float64]
Form: TypeAlias = Literal["automatic", "primal", "dual"]
_Result = TypeVar("_Result")

_FORMS = ("automatic", "primal", "dual")
_FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True)
class Inertia:
    """How many eigenvalues of a symmetric matrix are positive, negative and zero.

    Counted in the factors (Sylvester's law of inertia), which are proved by exact products with the
    matrix. Zero are those that rounding errors cannot tell from it: mostly below 1e-14 of the norm,
    and by products with vectors of the kernel at most about 1e-13.
    """

    positive: int
    negative: int
    zero: int


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


@dataclass(frozen=True, eq=False)
class LayerState:
    """What second derivatives of the loss are made of at one layer, z ↦ s(z W).

    Attributes
    ----------
    inputs : (N, in) float64 array
        z, with a last column of ones if there is a bias.
    weights : (in, out) float64 array
        W, the bias as its last row.
    slopes, curvatures, deltas : (N, out) float64 arrays
        s′(z W), s″(z W) G and s′(z W) G, with G the derivative of the loss in the layer's outputs,
        sample weights and reduction included.
    """

    inputs: Array
    weights: Array
    slopes: Array
    curvatures: Array
    deltas: Array


# One batch, in float64 ----------------------------------------------------------------------------


class _Problem:
    """A net in float64 with w and one batch, as the engine takes them."""

    def __init__(
        self, net: MLP, w: Any, x: Any, y: Any, sample_weight: Any, whole: bool = False
    ) -> None:
        # A float32 net rounds what it is given: its Hessian is that of the rounded numbers.
        _checks.net(net)
        self.w = np.asarray(net._vector(w, "w"), _FLOAT64)
        batch = _joined(net._reader.kept(x, y, sample_weight, whole=whole), net.sizes[-1])
        self.batch = Batch(
            np.asarray(batch.x, _FLOAT64),
            None if batch.targets is None else np.asarray(batch.targets, _FLOAT64),
            batch.labels,
            None if batch.weights is None else np.asarray(batch.weights, _FLOAT64),
        )
        self.scale = 1.0
        if net.reduction == "mean":
            self.batch, self.scale = self.batch.averaged()
        self.net = net if net.dtype == _FLOAT64 else _double(net)

    @property
    def samples(self) -> int:
        return len(self.batch.x)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the engine's functions on samples start with."""
        return (self.net._net, self.w, *self.batch, self.scale)

    def check_memory(self, needed: int, what: str) -> None:
        _checks.memory(needed + 8 * _state_count(self.net, self.samples), what)

    def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        try:
            return function(*self.arguments, *arguments)
        except FloatingPointError as error:
            arrays = {"w": self.w, "x": self.batch.x}
            if self.batch.targets is not None:
                arrays["y"] = self.batch.targets
            raise _checks.explain(error, **arrays) from None


def _double(net: MLP) -> MLP:
    """The same net in float64."""
    return type(net)(
        net.sizes,
        activation=net.activations[:-1] or "identity",
        output_activation=net.activations[-1],
        loss=net.loss_function,
        bias=net.bias,
        reduction="mean" if net.reduction == "mean" else "sum",
        l2=net.l2,
    )


def _joined(batches: list[Batch], outputs: int) -> Batch:
    if len(batches) == 1:
        return batches[0]
    x = np.concatenate([batch.x for batch in batches])
    labels, targets, weights = None, None, None
    if all(batch.labels is not None for batch in batches):
        labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    else:
        targets = np.concatenate([_targets(batch, outputs) for batch in batches])
    if any(batch.weights is not None for batch in batches):
        weights = np.concatenate(
            [
                np.ones(len(batch.x), batch.x.dtype) if batch.weights is None else batch.weights
                for batch in batches
            ]
        )
    return Batch(x, targets, labels, weights)


def _targets(batch: Batch, outputs: int) -> FloatArray:
    """Targets as rows, labels as rows of the identity."""
    if batch.labels is None:
        assert batch.targets is not None
        return batch.targets
    rows = np.zeros((len(batch.x), outputs), batch.x.dtype)
    rows[np.arange(len(rows)), batch.labels] = 1
    return rows


def _is_elementwise(net: MLP) -> bool:
    return net.loss_function.name != "softmax_cross_entropy"


def _rows(net: MLP) -> list[int]:
    return [fan_in + net.bias for fan_in in net.sizes[:-1]]


def _state_count(net: MLP, samples: int) -> int:
    outputs = net.sizes[-1]
    layers = sum(_rows(net)) + 3 * sum(net.sizes[1:])
    return samples * (layers + (outputs if _is_elementwise(net) else outputs**2))


def layer_states(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any = None,
    *,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[tuple[LayerState, ...], Array]:
    """What the Hessian of the loss is made of: each layer's arrays and the loss's Hessian.

    Parameters
    ----------
    net : MLP
    w, x, y, sample_weight
        As `MLP.loss` takes them; several batches become one.

    Returns
    -------
    tuple of LayerState
        One a layer, the first layer's first; float64 whatever the net's dtype.
    output_hessian : (N, outputs) or (N, outputs, outputs) float64 array
        The loss's Hessian in the net's outputs: its diagonal, or for the softmax cross-entropy all
        of it. Sample weights and reduction are included, l2 is not.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.
    MemoryError
        If the arrays are larger than the memory of this machine.

    Notes
    -----
    Costs one gradient, and memory for all samples at once.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 1), loss="binary_cross_entropy", bias=False)
    >>> (layer,), hessian = layer_states(net, [0.0, 0.0], [[3.0, 4.0]], [[1.0]])
    >>> layer.inputs, hessian
    (array([[3., 4.]]), array([[0.25]]))
    """
    return _states(_Problem(net, w, x, y, sample_weight, whole=True))


def _states(problem: _Problem) -> tuple[tuple[LayerState, ...], Array]:
    n, net = problem.samples, problem.net
    problem.check_memory(8 * _state_count(net, n), "the states of all layers")
    out = np.empty(_state_count(net, n))
    problem.call(_core.mlp_states, out)
    rest = out

    def take(*shape: int) -> Array:
        nonlocal rest
        count = math.prod(shape)
        taken, rest = rest[:count], rest[count:]
        return taken.reshape(shape)

    layers = []
    for part, rows, width in zip(net.layer_slices, _rows(net), net.sizes[1:], strict=True):
        inputs = take(n, rows)
        weights = np.array(problem.w[part]).reshape(rows, width)
        layers.append(LayerState(inputs, weights, *(take(n, width) for _ in range(3))))
    outputs = net.sizes[-1]
    shape = (n, outputs) if _is_elementwise(net) else (n, outputs, outputs)
    return tuple(layers), take(*shape)


def plan(net: MLP, samples: int, *, complex: bool = False, form: Form = "automatic") -> LayeredPlan:
    """What the layered factorisation of a net's Hessian for so many samples takes.

    Parameters
    ----------
    net : MLP
    samples : int
    complex : bool
        Whether the shift is complex.
    form : {"automatic", "primal", "dual"}
        As in `factorize`.

    Returns
    -------
    LayeredPlan

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.
    MemoryError
        If sizes are beyond what LAPACK counts.

    Notes
    -----
    Nothing is allocated.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> plan(MLP((100, 10, 1)), 20).forms
    ('dual', 'primal')
    """
    _checks.net(net)
    samples = _checks.integer(samples, "samples")
    is_complex = _checks.flag(complex, "complex")
    number = _checks.choice(form, "form", _FORMS)
    sizes = _core.layered_plan(net._net, samples, int(is_complex), number)
    forms = tuple(
        "dual" if form == "dual" or (form == "automatic" and samples < rows) else "primal"
        for rows in _rows(net)
    )
    return LayeredPlan(net.parameter_count, *sizes, forms)


# Factorisations -----------------------------------------------------------------------------------


# log|det| is withheld where it may be off by more: the determinant itself by a thousandth.
_TOLERANCE = 1e-3


def _factor(shift: object, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """The engine's factorisation, its refusals as NumPy names them."""
    try:
        return function(*arguments)
    except FloatingPointError:
        raise
    except ArithmeticError as error:
        raise np.linalg.LinAlgError(f"with {shift} on its diagonal {error}") from None


@dataclass(frozen=True)
class _Summary:
    """What the factors tell, with the logarithm of the determinant even where it is withheld."""

    inertia: Inertia | None = None
    logarithm: float | None = None
    error: float | None = None
    certificate: float | None = None

    @classmethod
    def of(cls, found: _core._Summary) -> _Summary:
        real, certificate, _ = found
        if real is None:
            return cls(certificate=certificate)
        return cls(Inertia(*real[:3]), real[3], real[4], certificate)

    @property
    def log_determinant(self) -> float | None:
        return None if self.error is None or self.error > _TOLERANCE else self.logarithm

    def __str__(self) -> str:
        parts = []
        if self.inertia is not None:
            i = self.inertia
            parts.append(f"inertia=({i.positive}, {i.negative}, {i.zero})")
            if self.log_determinant is not None:
                parts.append(f"log_determinant={self.log_determinant:.12g}")
            parts.append(f"log_determinant_error={self.error:.1e}")
        if self.certificate is not None:
            parts.append(f"certificate={self.certificate:.1e}")
        return ", ".join(parts) or "no factors"


class LayeredFactorization:
    """H + λ of a net on one batch, eliminated layer by layer; made by `factorize`.

    Unknowns whose pivots are too small beside their coupling to the layer below are left to it, so
    that rounding errors stay below about 1e-9 of ‖H + λ‖ whatever its blocks are. Factors F are
    then measured by exact products: where the `certificate`, an estimate of ‖1 − (H + λ) F⁻¹‖, is
    above 0.1 the matrix is refused as singular to working precision; below, the inertia is proved.

    Solutions are not refined: look at the residual with `MLP.hvp`, and solve again for it.

    Several threads may solve at once; `update` waits for them, and they for it.
    """

    def __init__(
        self, problem: _Problem, dtype: np.dtype[Any], shift: float | complex, form: Form
    ) -> None:
        self._plan = plan(
            problem.net, problem.samples, complex=isinstance(shift, complex), form=form
        )
        problem.check_memory(self._plan.bytes, "the layered factorisation")
        self._dtype, self._l2 = dtype, problem.net.l2
        self._lock = lock_of(self)
        self._shift = shift
        self._engine, found = _factor(
            shift, problem.call, _core.layered, _FORMS.index(form), *self._parts(shift)
        )
        self._summary = _Summary.of(found)
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
        >>> factorize(net, [0.0, 0.0], [[3.0, 4.0]], [[1.0]], damping=1.0).solve([3.0, 4.0])
        array([0.11538462, 0.15384615])
        """
        if isinstance(self._shift, complex):
            return self._solve_complex(b)
        rows, single = _right_hand_sides(b, self.parameter_count)
        x = np.empty_like(rows)
        _solve(_core.layered_solve, self._engine, rows, None, x, None)
        return _rounded(x[0] if single else x, self._dtype)

    def _solve_complex(self, b: npt.ArrayLike) -> npt.NDArray[Any]:
        imaginary = None
        if np.iscomplexobj(b):
            b = np.asarray(b)
            imaginary = _right_hand_sides(b.imag, self.parameter_count)[0]
            b = b.real
        rows, single = _right_hand_sides(b, self.parameter_count)
        x, y = np.empty_like(rows), np.empty_like(rows)
        _solve(_core.layered_solve, self._engine, rows, imaginary, x, y)
        result = np.empty(x.shape, np.result_type(self._dtype, np.complex64))
        result.real, result.imag = _rounded(x, self._dtype), _rounded(y, self._dtype)
        return result[0] if single else result

    def update(
        self, damping: float | None = None, *, shift: complex | None = None
    ) -> LayeredFactorization:
        """Factors for another λ, in the same memory and without another pass over the samples.

        Parameters
        ----------
        damping : float
            Where λ is real.
        shift : complex
            Where λ is complex.

        Returns
        -------
        LayeredFactorization
            Itself.

        Raises
        ------
        TypeError, ValueError
            If there is not the one argument that fits, or it is not finite.
        numpy.linalg.LinAlgError
            If H + λ is singular to working precision, as in `factorize`. There is no factorisation
            then, until the next update.
        """
        new: float | complex
        if isinstance(self._shift, complex):
            if shift is None or damping is not None:
                raise TypeError("the factorisation is one for complex shifts; expected shift alone")
            new = _complex(shift, "shift")
        else:
            if damping is None or shift is not None:
                raise TypeError("the factorisation is one for real shifts; expected damping alone")
            new = _checks.real(damping, "damping")
        with self._lock:
            self._summary = _Summary()
            parts = self._parts(new)
            found = _factor(new, _core.layered_update, self._engine, *parts)
            self._shift, self._summary, self._bytes = new, _Summary.of(found), found[2]
        return self

    @property
    def shift(self) -> float | complex:
        """λ: what is added to the Hessian, the net's l2 being part of that."""
        return self._shift

    @property
    def inertia(self) -> Inertia | None:
        """Of H + λ; None where λ is complex or the last update failed."""
        return self._summary.inertia

    @property
    def log_determinant(self) -> float | None:
        """log|det(H + λ)|; −inf where eigenvalues are 0.

        None where it may be off by more than 1e-3, λ is complex or the last update failed.
        """
        return self._summary.log_determinant

    @property
    def log_determinant_error(self) -> float | None:
        """What log|det(H + λ)| may be off by: 2 √P times the certificate."""
        return self._summary.error

    @property
    def certificate(self) -> float | None:
        """An estimate of ‖1 − (H + λ) F⁻¹‖ in Frobenius' norm for the factors F, at most 0.1.

        Below 1 the inertia of F is that of H + λ. None where eigenvalues are 0, and after an update
        that failed.
        """
        return self._summary.certificate

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
            f"LayeredFactorization(P={self.parameter_count}, shift={self._shift}, {self._summary})"
        )


class DenseFactorization:
    """A symmetric matrix plus a shift, A + λ, factored: Cholesky, or Bunch and Kaufman (1977).

    Cholesky where A + λ is positive definite, Bunch and Kaufman's pivoted L D Lᵀ where it is not.

    Parameters
    ----------
    matrix : (P, P) array_like
        Symmetric to rounding; copied.
    damping : float
        λ.

    Raises
    ------
    TypeError, ValueError
        If the matrix is not square, symmetric and finite.
    numpy.linalg.LinAlgError
        If A + λ is singular to working precision: its factors do not prove its inertia.
    MemoryError
        If another P² numbers do not fit in memory.

    Notes
    -----
    Costs P³ / 3 operations, twice that at most where a positive diagonal hides that A + λ is
    indefinite. Several threads may solve at once; `update` waits for them, and they for it.

    Examples
    --------
    >>> factors = DenseFactorization([[0.0, 2.0], [2.0, 0.0]])
    >>> factors.solve([2.0, 4.0]), factors.inertia
    (array([2., 1.]), Inertia(positive=1, negative=1, zero=0))
    >>> factors.update(damping=3.0).is_positive_definite
    True
    """

    def __init__(self, matrix: npt.ArrayLike, damping: float = 0.0) -> None:
        array = _checks.array(matrix, "matrix", ("P", "P"))
        shift = _checks.real(damping, "damping")
        if array.shape[0] != array.shape[1]:
            raise ValueError(f"matrix has shape {array.shape}; expected a square one")
        _checks.finite(array, "matrix")
        _check_symmetric(array)
        self._set_up(array, shift, _FLOAT64, 0.0)

    @classmethod
    def _of(
        cls, matrix: Array, shift: float, dtype: np.dtype[Any], diagonal: float
    ) -> DenseFactorization:
        """Of a matrix that is known to be symmetric, plus `diagonal`; solutions in `dtype`."""
        self = cls.__new__(cls)
        self._set_up(matrix, shift, dtype, diagonal)
        return self

    def _set_up(self, matrix: Array, shift: float, dtype: np.dtype[Any], diagonal: float) -> None:
        self._count = len(matrix)
        _checks.memory(8 * self._count**2, "the dense factorisation")
        self._dtype, self._diagonal, self._shift = dtype, diagonal, shift
        self._lock = lock_of(self)
        found = _factor(shift, _core.dense, matrix, shift + diagonal)
        self._engine, self._is_positive_definite, summary = found
        self._summary, self._bytes = _Summary.of(summary), summary[2]

    def solve(self, b: npt.ArrayLike) -> npt.NDArray[Any]:
        """x with (A + λ) x = b, not refined.

        Parameters
        ----------
        b : (P,) or (K, P) array_like
            Right-hand sides as rows.

        Returns
        -------
        float array like b

        Raises
        ------
        TypeError, ValueError
            If b is not as above, or not finite.
        numpy.linalg.LinAlgError
            If the last `update` failed, or the solution overflows.
        """
        rows, single = _right_hand_sides(b, self._count)
        x = np.empty_like(rows)
        _solve(_core.dense_solve, self._engine, rows, x)
        return _rounded(x[0] if single else x, self._dtype)

    def update(self, damping: float) -> DenseFactorization:
        """Factors for another λ, in the same memory.

        Returns
        -------
        DenseFactorization
            Itself.

        Raises
        ------
        TypeError, ValueError
            If the damping is not a finite number.
        numpy.linalg.LinAlgError
            If A + λ is singular. There is no factorisation then, until the next update.
        """
        new = _checks.real(damping, "damping")
        with self._lock:
            self._summary, self._is_positive_definite = _Summary(), False
            found = _factor(new, _core.dense_update, self._engine, new + self._diagonal)
            self._shift = new
            self._is_positive_definite, self._summary = found[0], _Summary.of(found[1])
        return self

    @property
    def is_positive_definite(self) -> bool:
        """Whether Cholesky's factorisation went through."""
        return self._is_positive_definite

    @property
    def shift(self) -> float:
        """λ."""
        return self._shift

    @property
    def inertia(self) -> Inertia | None:
        """Of A + λ; None after an update that failed."""
        return self._summary.inertia

    @property
    def log_determinant(self) -> float | None:
        """log|det(A + λ)|; None where it may be off by over 1e-3, or the last update failed."""
        return self._summary.log_determinant

    @property
    def log_determinant_error(self) -> float | None:
        """What log|det(A + λ)| may be off by: 2 √P times the certificate."""
        return self._summary.error

    @property
    def certificate(self) -> float | None:
        """An estimate of ‖1 − (A + λ) F⁻¹‖ in Frobenius' norm for the factors F, at most 0.1.

        Below 1 the inertia of F is that of A + λ. None after an update that failed.
        """
        return self._summary.certificate

    @property
    def parameter_count(self) -> int:
        """P, the order of A."""
        return self._count

    @property
    def bytes(self) -> int:
        """Memory that the factorisation holds."""
        return self._bytes

    @property
    def operations(self) -> float:
        """Real multiplications and additions of the factorisation."""
        return self._count**3 / 3

    @property
    def solve_operations(self) -> float:
        """Those of a solve, for each right-hand side."""
        return 2.0 * self._count**2

    @property
    def forms(self) -> tuple[str, ...]:
        """``("dense",)``."""
        return ("dense",)

    def __repr__(self) -> str:
        return f"DenseFactorization(P={self._count}, shift={self._shift}, {self._summary})"


Factorization: TypeAlias = LayeredFactorization | DenseFactorization


def factorize(
    net: MLP,
    w: npt.ArrayLike,
    x: Any,
    y: Any = None,
    damping: float = 0.0,
    *,
    shift: complex | None = None,
    method: Literal["layered", "dense"] = "layered",
    form: Form = "automatic",
    sample_weight: npt.ArrayLike | None = None,
) -> Factorization:
    """H + damping factored, or H + shift, for the exact Hessian H of the net's loss.

    Parameters
    ----------
    net : MLP
        Its l2 is part of H. A float32 net is factored in float64.
    w, x, y, sample_weight
        As `MLP.loss` takes them; several batches become one.
    damping : float
        Of any sign.
    shift : complex, optional
        In place of the damping: solutions are complex. Layered only.
    method : {"layered", "dense"}
    form : {"automatic", "primal", "dual"}
        Of the layered method: which unknowns stand for a layer's weights. ``"primal"``: themselves.
        ``"dual"``: their parts in the span of the layer's inputs, the others being divided by the
        shift where it is large enough. ``"automatic"``: dual where samples are fewer than inputs.

    Returns
    -------
    LayeredFactorization or DenseFactorization

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.
    numpy.linalg.LinAlgError
        If H + damping is singular to working precision and its inertia cannot be proved. Where the
        layered method can tell how many eigenvalues are 0 it does not raise: they are in `inertia`,
        `log_determinant` is −inf, and `solve` raises.
    MemoryError
        If the factorisation would not fit in memory; `plan` tells beforehand what it takes without
        delayed pivots.

    Notes
    -----
    The layered method costs about q³ / 3 + q² N m + q (N m)² operations for a layer of N samples, m
    inputs and n outputs, with q = n min(N, m); see `plan`. Where pivots are nearly 0, mostly for
    dampings far below 1e-3 of ‖H‖, eigenvectors of each layer's block are needed in addition, some
    10 q³ with q = n m; for memory likewise. The dense one forms H and costs P³ / 3 operations after
    that. Ctrl-C stops both.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> net = MLP((2, 3, 1))
    >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
    >>> factors = factorize(net, w, x, y, damping=0.1)
    >>> step = factors.solve(net.gradient(w, x, y))
    >>> residual = net.hvp(w, x, y, step) + 0.1 * step - net.gradient(w, x, y)
    >>> bool(abs(residual).max() < 1e-13)
    True
    """
    layered = _checks.choice(method, "method", ("layered", "dense")) == 0
    _checks.choice(form, "form", _FORMS)
    value: float | complex = _checks.real(damping, "damping")
    if shift is not None:
        if value != 0:
            raise ValueError(f"damping is {damping} and shift is {shift}; expected one of them")
        if not layered:
            raise ValueError('shift is for method="layered"; expected None with method="dense"')
        value = _complex(shift, "shift")
    if layered:
        return LayeredFactorization(_Problem(net, w, x, y, sample_weight), net.dtype, value, form)
    if form != "automatic":
        raise ValueError(f'form is {form!r}; expected "automatic" with method="dense"')
    problem = _Problem(net, w, x, y, sample_weight)
    matrix = _hessian(problem)
    return DenseFactorization._of(matrix, float(value.real), net.dtype, problem.net.l2)


def _hessian(problem: _Problem) -> Array:
    """H in float64, without l2."""
    count = problem.net.parameter_count
    _checks.memory(16 * count**2, "the Hessian and its factors")
    out = np.empty((count, count))
    problem.call(_core.mlp_dense, 0, -1, -1, out)
    if not np.isfinite(out).all():
        problem.call(_not_finite)
    return out


def _not_finite(*_: object) -> None:
    raise FloatingPointError("the Hessian has numbers that are not finite")


def _complex(value: object, name: str) -> complex:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Complex):
        raise TypeError(f"{name} is {_checks._shown(value)}; expected a finite complex number")
    number = complex(value)
    if not (math.isfinite(number.real) and math.isfinite(number.imag)):
        raise ValueError(f"{name} is {number}; expected a finite complex number")
    return number


def _right_hand_sides(b: npt.ArrayLike, count: int) -> tuple[Array, bool]:
    """b as finite rows, and whether it is just one."""
    single = _checks.dimensions(b, "b") == 1
    rows = _checks.array(b, "b", (count,) if single else ("K", count))
    _checks.finite(rows, "b")
    return (rows[None] if single else rows), single


def _solve(function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    except ArithmeticError as error:
        raise np.linalg.LinAlgError(str(error)) from None


def _rounded(x: Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        result = x.astype(dtype, copy=False)
    if not np.isfinite(result).all():
        raise np.linalg.LinAlgError(f"the solution overflows {dtype}")
    return result


def _check_symmetric(matrix: Array) -> None:
    """Entries may differ from their mirror images by roundings of sums as long as a row."""
    slack = len(matrix) * np.finfo(float).eps * abs(matrix).max()
    step = max(1, 2**20 // len(matrix))
    for first in range(0, len(matrix), step):
        rows = slice(first, first + step)
        difference = abs(matrix[rows] - matrix[:, rows].T)
        if difference.max() > slack:
            row, j = divmod(int(difference.argmax()), len(matrix))
            i = first + row
            raise ValueError(
                f"matrix has {matrix[i, j]} at [{i}, {j}] and {matrix[j, i]} at [{j}, {i}]; "
                "expected a symmetric matrix"
            )
