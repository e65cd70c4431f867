"""All leave-one-outs of a minimum from one inverse: `leave_one_out`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from swiftnets._support import checks
from swiftnets._support.progress import Progress
from swiftnets._support.types import Array, IntegerArray
from swiftnets.curvature.point import Point, require_point
from swiftnets.influence.inverse import METHODS, Inverse, Method, chosen, invert, norm_of
from swiftnets.influence.problem import DIVISORS, ROOM, Divisor, Problem, checked_groups
from swiftnets.influence.result import Influence
from swiftnets.linalg import scaling

__all__ = ["leave_one_out"]


def __dir__() -> list[str]:
    return __all__


_CERTIFICATES = ("minimum", "prediction")
# Of the gradient's rounding: Newton's steps go the rest of the way.
_NEAR = 1e4
_NEWTON = 12
# Of D's gradient in the null space of H.
_NULL_PART = 1e-8
# Right-hand sides that are solved for at once.
_ROWS = 256
# Of the energy of a gradient, what each step with the inverse may leave of it, and all together.
_CONTRACTION, _LEFT = 0.5, 1e-6
# Steps that contract worse than this may have ended at a saddle: its inertia tells.
_DOUBTFUL = 0.1
_CHORDS = 24  # enough for 2⁻²⁴ < 1e-6


def leave_one_out(
    point: Point,
    order: int = 2,
    groups: Any = None,
    damping: float = 0.0,
    *,
    divisor: Divisor = "remaining",
    certificate: Literal["minimum", "prediction"] | None = "minimum",
    method: Method = "auto",
    gradient_tolerance: float | None = None,
    tolerance: float = 1e-10,
    progress: bool = False,
) -> Influence:
    """Where a minimum of the loss goes without single samples, or without groups of them.

    Expands the minimum of E − ε D in ε, D being the group's part of the loss E, and takes ε = 1:
    with the Hessian H, and third and fourth derivatives T and Q of E,

        H w₁ = D';  H w₂ = D'' w₁ − T[w₁, w₁] / 2
        H w₃ = D'' w₂ + D'''[w₁, w₁] / 2 − T[w₁, w₂] − Q[w₁, w₁, w₁] / 6

    all exact and from one factorisation of H. The first term is the influence function (Koh & Liang
    2017). Errors of orders 1, 2 and 3 fall as the second, third and fourth power of the weight that
    is left out.

    Parameters
    ----------
    point : Point
        At a strict minimum of the loss, or one with exact symmetries. One of a float32 net is taken
        to the nearest minimum in float64.
    order : {1, 2, 3}
    groups : sequence of int and of sequences of int, optional
        Which samples leave together, counted from 0 over all batches; by default each alone.
    damping : float
        λ. Above 0 another problem is solved, for which any w with H + λ positive definite is a
        minimum: E is replaced by E(v) − ⟨E'(w), v − w⟩ + ½ λ ‖v − w‖² (cf. Bae et al. 2022).
    divisor : {"remaining", "all"}
        Where the net's loss is a mean: whether what is left is the mean of the remaining samples,
        as retraining without them has it, or still divided by the weight of all.
    certificate : {"minimum", "prediction", None}
        Where the curvature in the error estimates is from: from the minimum; or from each
        prediction, which takes two factorisations a group; or no estimates.
    method : {"auto", "factors", "eigen", "krylov"}
        How H is inverted. ``"factors"``: dense or layered ones, or all eigenvectors if H is
        singular. ``"krylov"``: conjugate gradients for every group, with an estimate of the
        curvature in place of a proof. ``"auto"``: the first, but where it would take several times
        the operations.
    gradient_tolerance : float, optional
        Up to this gradient norm a point is taken for near a minimum, to which Newton's method then
        goes; by default 10⁴ times what rounding leaves, and for float32 nets what their rounding of
        w leaves in addition.
    tolerance : float
        Of Krylov solves: relative residuals.
    progress : bool
        Show on standard error how far it is.

    Returns
    -------
    Influence
        Predicted parameters, losses and outputs, and for each group an estimate of the error by
        steps from the prediction to where the gradient of the loss without it is 0.

    Raises
    ------
    TypeError
        If an argument is not of the kind above.
    ValueError
        If it is not as above; if the gradient is not small, with its norm; if a group has all of a
        mean.
    FloatingPointError
        If a term is not finite.
    numpy.linalg.LinAlgError
        If H + λ has negative eigenvalues, with their number and about the least; if H is singular
        and a group's D' has a part in its null space, with that part of its norm; if conjugate
        gradients do not converge.
    MemoryError
        If terms of all groups would not fit in memory; the message has the bytes.

    Notes
    -----
    Where H is singular by an exact symmetry, as of weights that can be rotated into each other, D'
    is orthogonal to its null space, and the pseudo-inverse gives the minimum in the slice
    orthogonal to that: outputs are those of any other on the orbit. That D' is orthogonal is
    checked, and what R's gradient has in the null space counts in the estimates.

    Costs a factorisation, and for each group a solve and a product with its own samples an order,
    beside 0, 4 and 9 gradients over all samples for orders 1, 2 and 3, and for the estimates 2 to
    25, mostly 3 to 6, with a solve each, and two solves and products with its own samples that
    tell whether they hold up a direction in which no step goes; where these steps are slow or they
    may, a factorisation. Piecewise linear activations and the ELU are expanded within their present
    pieces; the gradients that the estimates come from see other ones.

    The error is measured: steps −H⁻¹ ∇R from the prediction go on until of √⟨∇R, H⁻¹ ∇R⟩ a
    millionth is left or what rounding leaves. Each has to leave less than a half of it. Where one
    does not, R is curved unlike H, as where its minimum is about to vanish, and there is no
    estimate. That a minimum is where the steps end is not proven: bounds of third derivatives by
    norms of the weights are too large at moves of usual size. `Influence.refit` retrains, and
    proves that its end is one.

    Examples
    --------
    A line through three points by least squares. Without the second it goes through the origin; the
    terms are those of the geometric series of 1 / (1 − its leverage):

    >>> from swiftnets import MLP
    >>> net = MLP((1, 1))
    >>> x, y = [[0.0], [1.0], [2.0]], [[0.0], [1.0], [4.0]]
    >>> fitted = net.at([2.0, -1 / 3], x, y)
    >>> found = leave_one_out(fitted, order=3, groups=[1])
    >>> found.moved(0).round(2), bool(found.refit(0).error < found.error_estimates[0])
    (array([ 2.  , -0.01]), True)
    """
    require_point(point)
    order = checks.integer(order, "order", 1, 3)
    damping = checks.nonnegative(damping, "damping")
    checks.choice(divisor, "divisor", DIVISORS)
    if certificate is not None:
        checks.choice(certificate, "certificate", _CERTIFICATES)
    checks.choice(method, "method", METHODS)
    tolerance = checks.real(tolerance, "tolerance", positive=True)
    if gradient_tolerance is not None:
        gradient_tolerance = checks.real(gradient_tolerance, "gradient_tolerance", positive=True)
        if damping:
            raise ValueError(
                "gradient_tolerance is for damping=0; any gradient goes with a damping"
            )
    progress = checks.flag(progress, "progress")
    wide = point.in_float64()
    found = checked_groups(groups, wide.sample_count)
    count = wide.net.parameter_count
    what = f"moves of {checks.counted(len(found), 'group')}, {count} parameters, order {order},"
    checks.memory(8 * len(found) * count * (order + 2), what)

    problem = Problem(wide, damping, divisor)
    if method == "auto":
        method = chosen(problem.hessian, len(found) * (order + 2))
    members = [problem.members(group) for group in found]
    _check_remainders(problem, members)
    if not damping:
        gradient_limit = _gradient_limit(problem, point, gradient_tolerance)
        problem, inverse = _settled(problem, gradient_limit, method, tolerance)
    else:
        inverse = invert(problem.hessian, method, tolerance)
        if len(inverse.null):
            raise np.linalg.LinAlgError(f"the Hessian + {damping:g} is singular")
    if certificate == "prediction" and (len(inverse.null) or not inverse.is_proven):
        why = f"the inverse is by {inverse.title}"
        raise ValueError(f"certificate is 'prediction' and {why}; expected 'minimum'")

    with Progress(0, len(found) * order, unit="term", shown=progress) as bar:
        terms, null_parts = _terms(problem, inverse, members, order, bar)
    errors = _Errors(problem, inverse, members, certificate)
    errors.fill(terms, progress)
    terms.flags.writeable = False
    return Influence(
        point=point,
        order=order,
        damping=damping,
        divisor=divisor,
        groups=found,
        minimum=problem.w,
        terms=terms,
        gradient_norms=errors.gradients,
        curvatures=errors.curvatures,
        error_estimates=errors.estimates,
        contractions=errors.contractions,
        is_flagged=errors.is_flagged,
        is_proven=inverse.is_proven,
        nullity=len(inverse.null),
        null_parts=null_parts,
        method=inverse.title,
        _problem=problem,
    )


# A minimum ----------------------------------------------------------------------------------------


def _check_remainders(problem: Problem, members: list[IntegerArray]) -> None:
    for i, group in enumerate(members):
        if problem.averages and len(group) == problem.point.counted_samples:
            raise ValueError(
                f"groups[{i}] has all samples of a weight that is not 0; expected some to remain, "
                "whose mean the loss is"
            )


def _gradient_limit(problem: Problem, point: Point, given: float | None) -> float:
    """Up to which norm of the gradient Newton's method is to be trusted with the rest."""
    rounding = problem.rounding
    limit = given
    if limit is None:
        limit = _NEAR * rounding
        if point.net.dtype == np.float32:
            unit = float(np.finfo(np.float32).eps) / 2
            limit += 4 * unit * norm_of(problem.hessian) * scaling.norm(problem.w)
    norm = scaling.norm(problem.point.gradient)
    if not norm <= limit:
        raise ValueError(
            f"the gradient at the point has norm {norm:.2e}, and rounding leaves {rounding:.1e}; "
            f"expected a minimum, with at most {limit:.1e} (gradient_tolerance says what is near "
            "enough; a damping > 0 is for other points)"
        )
    return limit


def _settled(
    problem: Problem, limit: float, method: Method, tolerance: float
) -> tuple[Problem, Inverse]:
    """At the minimum in float64, by Newton's method, and the inverse there."""
    inverse = invert(problem.hessian, method, tolerance)
    rounding = problem.rounding
    norm = scaling.norm(problem.point.gradient)
    for _ in range(_NEWTON):
        if norm <= rounding:
            return problem, inverse
        step = inverse.solve(problem.point.gradient[None])[0]
        nearer = problem.at(problem.w - step)
        left = scaling.norm(nearer.point.gradient)
        if not left < norm:
            break
        problem, norm = nearer, left
        inverse = invert(problem.hessian, method, tolerance)
    if norm <= min(_NEAR * rounding, limit):
        return problem, inverse
    raise ValueError(
        f"Newton's method from the point ends at a gradient of norm {norm:.2e}, and rounding "
        f"leaves {rounding:.1e}; expected a point nearer to a minimum"
    )


# The expansion ------------------------------------------------------------------------------------


def _terms(
    problem: Problem,
    inverse: Inverse,
    members: list[IntegerArray],
    order: int,
    bar: Progress,
) -> tuple[Array, Array]:
    """All terms (order, G, P), and the parts of D's gradients in the null space (G,)."""
    terms: Array = np.empty((order, len(members), len(problem.w)))
    null_parts = np.zeros(len(members))
    for rows in _chunks(len(members)):
        right = terms[:, rows]
        for i, group in enumerate(members[rows]):
            right[0, i] = problem.removed(group).gradient() if len(group) else 0.0
        null_parts[rows] = _null_parts(right[0], inverse.null)
        _check_null(null_parts)
        for k in range(order):
            if k:
                for i, group in enumerate(members[rows]):
                    if len(group):
                        _add_right_hand_sides(problem, group, right[:, i], k)
                    else:
                        right[k:, i] = 0.0
            some = [i for i in range(right.shape[1]) if right[k, i].any()]
            if some:
                right[k, some] = inverse.solve(np.ascontiguousarray(right[k, some]))
            bar.step(steps=right.shape[1])
    if not np.isfinite(terms).all():
        raise FloatingPointError("a term of the expansion is not finite")
    return terms, null_parts


def _chunks(count: int) -> Iterator[slice]:
    for first in range(0, count, _ROWS):
        yield slice(first, min(first + _ROWS, count))


def _add_right_hand_sides(problem: Problem, group: IntegerArray, terms: Array, k: int) -> None:
    """That of term k in its place; of order 3's the part that is known with the first term, too."""
    point, removed = problem.point, problem.removed(group)
    first = terms[0]
    if k == 1:
        series = point.taylor(first, len(terms)).gradient
        terms[1] = removed.product(first) - series[2]
        if len(terms) == 3:
            terms[2] = removed.third(first) / 2 - series[3]
    else:
        terms[2] += removed.product(terms[1]) - point.third(first, terms[1])


def _null_parts(gradients: Array, null: Array) -> Array:
    if not len(null):
        return np.zeros(len(gradients))
    norms = scaling.row_norms(gradients)
    parts = scaling.row_norms(gradients @ null.T)
    result: Array = np.divide(parts, norms, out=np.zeros(len(norms)), where=norms > 0)
    return result


def _check_null(parts: Array) -> None:
    worst = int(parts.argmax())
    if parts[worst] > _NULL_PART:
        raise np.linalg.LinAlgError(
            f"the Hessian is singular, and of the gradient of groups[{worst}] a part of "
            f"{parts[worst]:.2g} of its norm is in the null space; expected at most "
            f"{_NULL_PART:.0e}, as at an exact symmetry, or a damping > 0 (another problem)"
        )


# The errors ---------------------------------------------------------------------------------------


class _Errors:
    """Estimates, by steps to where the gradients of the reduced losses are 0."""

    def __init__(
        self,
        problem: Problem,
        inverse: Inverse,
        members: list[IntegerArray],
        certificate: str | None,
    ) -> None:
        self._problem, self._inverse = problem, inverse
        self._members, self._certificate = members, certificate
        self._rounding = problem.rounding
        self.gradients, self.curvatures, self.estimates, self.contractions = np.full(
            (4, len(members)), np.nan
        )
        self.is_flagged = np.ones(len(members), bool)

    def fill(self, terms: Array, progress: bool) -> None:
        if self._certificate is None:
            return
        fill = self._at_predictions if self._certificate == "prediction" else self._at_minimum
        with Progress(0, len(self._members), unit="estimate", shown=progress) as bar:
            for rows in _chunks(len(self._members)):
                moves = terms[:, rows].sum(axis=0)
                fill(rows, moves)
                lengths = scaling.row_norms(moves)
                estimates = self.estimates[rows]
                self.is_flagged[rows] = ~(estimates < lengths) & (
                    (lengths > 0) | ~(estimates < np.inf)
                )
                bar.step(steps=len(moves))

    def _at_minimum(self, rows: slice, moves: Array) -> None:
        """With the curvature of E, as a multiple of R's; D's is small beside it."""
        members = self._members[rows]
        remaining = np.array([1 - self._problem.share(group) for group in members])
        solve, smallest = self._inverse.solve, self._inverse.smallest

        def scaled(right: Array, some: IntegerArray) -> Array:
            result: Array = solve(right) * remaining[some, None]
            return result

        self._set(rows, moves, scaled, smallest / remaining)

    def _at_predictions(self, rows: slice, moves: Array) -> None:
        """With the curvature of each R."""
        problem = self._problem
        for i, group in enumerate(self._members[rows]):
            row = slice(rows.start + i, rows.start + i + 1)
            hessian = problem.reduced(group, problem.w + moves[i]).hessian
            solve: Callable[[Array], Array] = np.zeros_like
            try:
                inverse = invert(hessian, "factors", 1.0)
                solve, smallest = inverse.solve, inverse.smallest
            except np.linalg.LinAlgError:  # no minimum to be near to
                smallest = 0.0
            self._set(
                row,
                moves[i : i + 1],
                _every(solve),
                np.array([smallest]),
            )

    def _set(
        self,
        rows: slice,
        moves: Array,
        solve: Callable[[Array, IntegerArray], Array],
        smallest: Array,
    ) -> None:
        """From H⁻¹, for some of these groups, and lower bounds of H's eigenvalues."""
        null, members = self._inverse.null, self._members[rows]
        known = smallest > 0
        roots = np.sqrt(np.where(known, smallest, 1.0))
        rounding = self._rounding / roots
        gradients = self._gradients(members, moves)
        steps = solve(gradients, np.arange(len(moves)))
        energies = _norms(gradients, steps)
        limit = np.maximum(_LEFT * energies, rounding)
        units = np.array([self._problem.unit(group) for group in members])
        self.gradients[rows] = (scaling.row_norms(gradients) + self._rounding) * units
        self.curvatures[rows] = np.where(known, smallest, 0.0) * units

        ways, contractions, left = np.zeros_like(moves), np.zeros(len(moves)), energies.copy()
        some = np.flatnonzero(known & (left > limit))
        for _ in range(_CHORDS):
            if not len(some):
                break
            ways[some] -= steps[some]
            gradients[some] = self._gradients([members[i] for i in some], (moves + ways)[some])
            steps[some] = solve(gradients[some], some)
            after = _norms(gradients[some], steps[some])
            with np.errstate(invalid="ignore"):  # what is not finite is no contraction
                ratios = np.maximum(after - rounding[some], 0) / left[some]
            contractions[some] = np.fmax(contractions[some], np.where(ratios >= 0, ratios, np.inf))
            left[some] = after
            some = some[(contractions[some] < _CONTRACTION) & (after > limit[some])]
        ended = known & (contractions < _CONTRACTION) & (left <= limit)
        doubtful = ended & (contractions > _DOUBTFUL)
        if self._certificate == "minimum":
            doubtful[self._turned(members, np.flatnonzero(ended & ~doubtful))] = True
        for i in np.flatnonzero(doubtful):
            ended[i] = self._is_minimum(members[i], moves[i] + ways[i])
        outside = scaling.row_norms(gradients @ null.T) / roots
        errors = scaling.row_norms(ways) + ROOM * (left + outside + rounding) / roots
        self.estimates[rows] = np.where(ended, errors, np.inf)
        self.contractions[rows] = np.where(known, contractions, np.inf)

    def _turned(self, members: list[IntegerArray], some: IntegerArray) -> IntegerArray:
        """Those of some groups without which curvature may be negative where no step has gone."""
        # Steps see H⁻¹ D'' along gradients alone, which by symmetry may lie in a subspace, as where
        # units are copies. Two power steps from a random vector see its largest eigenvalue: above
        # 1, E − D is curved down at the minimum.
        problem, inverse = self._problem, self._inverse
        removed = {i: problem.removed(members[i]) for i in some if len(members[i])}
        some = np.array(list(removed), np.int64)
        start = np.random.default_rng(0).standard_normal(len(problem.w))
        rows = np.tile(start - (inverse.null @ start) @ inverse.null, (len(some), 1))
        lengths = np.zeros((2, len(some)))
        for k in range(2):
            images = [part.product(row) for part, row in zip(removed.values(), rows, strict=True)]
            right = np.array(images).reshape(rows.shape)
            rows = np.zeros_like(right)
            live = np.flatnonzero(right.any(axis=1))
            if len(live):
                rows[live] = inverse.solve(np.ascontiguousarray(right[live]))
            lengths[k] = _norms(right, rows)
        turned: IntegerArray = some[lengths[1] > _CONTRACTION * lengths[0]]
        return turned

    def _is_minimum(self, group: IntegerArray, move: Array) -> bool:
        """Whether no eigenvalue of R's Hessian is negative there."""
        hessian = self._problem.reduced(group, self._problem.w + move).hessian
        try:
            invert(hessian, "factors" if self._inverse.is_proven else "krylov", 1.0)
        except np.linalg.LinAlgError:
            return False
        return True

    def _gradients(self, members: list[IntegerArray], moves: Array) -> Array:
        problem, out = self._problem, np.empty_like(moves)
        for i, group in enumerate(members):
            out[i] = problem.reduced_gradient(group, problem.w + moves[i])
        return out


def _every(solve: Callable[[Array], Array]) -> Callable[[Array, IntegerArray], Array]:
    """For one group: which of them is no question."""
    return lambda right, some: solve(right)


def _norms(gradients: Array, steps: Array) -> Array:
    """√⟨g, H⁻¹ g⟩ of each, of which the square may be no number."""
    a, b = scaling.exponents(gradients), scaling.exponents(steps)
    with np.errstate(under="ignore"):
        parts = np.ldexp(gradients, -a[:, None]), np.ldexp(steps, -b[:, None])
        products = np.ldexp(np.einsum("ij,ij->i", *parts), (a + b) % 2)
        norms: Array = np.ldexp(np.sqrt(np.maximum(products, 0)), (a + b) // 2)
    return norms
