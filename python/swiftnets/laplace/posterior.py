"""`fit`: a normal distribution around a minimum, the posterior of a net's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.internals import Fixed
from swiftnets._support.types import Array
from swiftnets.curvature.kronecker import kronecker_factors
from swiftnets.curvature.point import Point
from swiftnets.laplace import evidence
from swiftnets.laplace.evidence import Correction
from swiftnets.laplace.predictive import Predictive
from swiftnets.laplace.structures import (
    DensePrecision,
    Diagonal,
    FactoredMatrix,
    Kronecker,
    Precision,
)
from swiftnets.laplace.target import Target
from swiftnets.nets.samples import Batch, Samples

__all__ = ["Laplace", "Structure", "fit"]


def __dir__() -> list[str]:
    return __all__


Structure: TypeAlias = Literal["hessian", "ggn", "kronecker", "diagonal", "last_layer"]

_STRUCTURES: tuple[Structure, ...] = get_args(Structure)
_CHUNK = 2**22  # numbers of Jacobians that are there at once


def fit(
    point: Point,
    structure: Structure = "hessian",
    prior_precision: float | None = None,
    *,
    noise_variance: float = 1.0,
    tolerance: float | None = 0.1,
) -> Laplace:
    """The Laplace approximation of the posterior of a net's parameters at a minimum.

    The negative log posterior is E(w) = Σ sₙ lossₙ(w) / σ² + ½ l ‖w‖², and the posterior the normal
    distribution with the mode as its mean and a precision matrix Λ of E's curvature there.

    Parameters
    ----------
    point : Point
        At a strict minimum of E: `mode` finds one. The loss is a squared error, which is that of
        normal noise, or a cross-entropy. E needs the sum over samples: a loss with
        ``reduction="mean"`` is multiplied by the sum of the sample weights, N where there are none,
        and its l2 likewise. A sample's weight is how often it was seen.
    structure : {"hessian", "ggn", "kronecker", "diagonal", "last_layer"}
        Of Λ. ``"hessian"``: exact. ``"ggn"``: the Gauss–Newton matrix in its place, for the data.
        ``"kronecker"``: its blocks of layers in Kronecker-factored form, the bias being an input of
        1, for an `MLP`. ``"diagonal"``: its diagonal alone. ``"last_layer"``: its block of the last
        layer that has parameters, all others being fixed at the mode.
    prior_precision : float, optional
        l, above 0. By default the net's l2, times what a mean is multiplied by, over σ².
    noise_variance : float
        σ² of the targets of a squared error.
    tolerance : float, optional
        How far the point may be from the minimum that the quadratic model at it has, in standard
        deviations of the posterior: √(gᵀ Λ⁻¹ g). The log evidence is off by half its square. None:
        no minimum is asked for, but a positive definite Λ.

    Returns
    -------
    Laplace

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above, or the point is farther from a minimum than the tolerance says.
    numpy.linalg.LinAlgError
        If the Hessian of E has an eigenvalue that is not positive, or is singular to working
        precision. It is looked at for ``"hessian"`` and ``"ggn"``; the other structures do without.
    NotImplementedError
        If it needs an `MLP`, and the net is none.
    MemoryError
        If the matrix does not fit into memory.

    Notes
    -----
    ``"hessian"`` costs a factorisation, layered or dense, whichever takes fewer operations, and
    ``"ggn"`` a dense one beside it; ``"diagonal"`` and ``"kronecker"`` about a gradient an output.
    Work is done in float64 whatever the net's dtype. MacKay (1992) is the source of the method,
    Daxberger et al. (2021) compare the structures.

    Examples
    --------
    >>> from swiftnets import MLP, laplace
    >>> net = MLP((1, 1), l2=1.0)
    >>> x, y = [[-1.0], [0.0], [1.0]], [[-1.5], [0.5], [2.5]]
    >>> point = laplace.mode(net.at(np.zeros(2), x, y))
    >>> posterior = fit(point)
    >>> posterior.predictive([[0.0], [2.0]]).variance.round(4)
    array([[0.25  ],
           [1.5833]])
    >>> round(posterior.log_marginal_likelihood(), 4)
    -5.4264
    """
    require_structure(structure)
    target = Target(point, prior_precision, noise_variance)
    if tolerance is not None:
        tolerance = checks.real(tolerance, "tolerance", positive=True)
    return Laplace(target, structure, tolerance)


def require_structure(structure: object) -> None:
    """An error where it is none."""
    checks.choice(structure, "structure", _STRUCTURES)


class Laplace(Fixed):
    """A normal posterior of a net's parameters; made by `fit`.

    Attributes
    ----------
    point : Point
        The mode, in float64 and of one batch.
    structure : str
        Of the precision matrix.
    decrement : float
        How far the quadratic model's minimum is, in the posterior's standard deviations.
    """

    def __init__(self, target: Target, structure: Structure, tolerance: float | None) -> None:
        if not isinstance(target, Target):
            raise TypeError(
                f"a Laplace is made by swiftnets.laplace.fit(point); got a {type(target).__name__}"
            )
        self._target, self._structure = target, structure
        slices = target.point.net.layer_slices
        whole = slice(0, target.point.net.parameter_count)
        self._part = slices[-1] if structure == "last_layer" else whole
        if tolerance is not None and structure == "ggn":
            FactoredMatrix(target.matrix("hessian"), target.scale)  # refuses what is no minimum
        self._precision = self._made()
        gradient = target.gradient[self._part]
        square = float(gradient @ self._precision.solve(gradient[None])[0])
        self._decrement = math.sqrt(max(square, 0.0))
        if tolerance is not None and not self._decrement <= tolerance:
            norm = float(np.linalg.norm(gradient))
            raise ValueError(
                f"point is no minimum of the negative log posterior with prior_precision="
                f"{self.prior_precision:.6g}: its gradient has norm {norm:.3g}, and the minimum of "
                f"the quadratic model is {self._decrement:.3g} standard deviations of the "
                f"posterior away; expected at most {tolerance:.3g}: see swiftnets.laplace.mode"
            )

    def _made(self) -> Precision:
        target, structure = self._target, self._structure
        if structure == "hessian":
            return FactoredMatrix(target.matrix("hessian"), target.scale)
        if structure == "kronecker":
            factors = kronecker_factors(target.point)
            return Kronecker(factors, target.scale, self.prior_precision)
        matrix = target.matrix("gauss_newton")
        if structure == "ggn":
            return FactoredMatrix(matrix, target.scale)
        if structure == "diagonal":
            return Diagonal(target.scale * matrix.diagonal())
        last = len(target.point.net.layer_slices) - 1
        return DensePrecision(target.scale * matrix.dense((last, last)))

    # It is the mode and settings: copies and pickles make factors anew.

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._target, self.structure, None)

    @property
    def point(self) -> Point:
        """The mode, in float64 and of one batch."""
        return self._target.point

    @property
    def structure(self) -> Structure:
        """Of the precision matrix."""
        return self._structure

    @property
    def mean(self) -> Array:
        """The mode's parameters (P,); read-only."""
        return self._target.w

    @property
    def prior_precision(self) -> float:
        """l: of the normal prior of each parameter, around 0."""
        return self._target.prior_precision

    @property
    def noise_variance(self) -> float:
        """σ² of the targets of a squared error."""
        return self._target.noise_variance

    @property
    def decrement(self) -> float:
        """How far the quadratic model's minimum is, in the posterior's standard deviations."""
        return self._decrement

    @property
    def parameter_count(self) -> int:
        """P, of parameters that have a posterior."""
        return self._precision.order

    @property
    def part(self) -> slice:
        """Which parameters have a posterior: all, or the last layer's."""
        return self._part

    # The parameters

    @property
    def log_determinant(self) -> float:
        """log|Λ| of the precision matrix."""
        return self._precision.log_determinant

    @property
    def variances(self) -> Array:
        """Of the parameters (P,), the diagonal of Λ⁻¹; 0 where they are fixed.

        Of ``"hessian"`` and ``"ggn"`` from a dense root, which costs about P³ operations once.
        """
        found = np.zeros(len(self.mean))
        found[self.part] = self._precision.variances
        return found

    def solve(self, rows: npt.ArrayLike) -> Array:
        """Λ⁻¹ times vectors: their covariances with the parameters.

        Parameters
        ----------
        rows : (P,) or (K, P) array_like

        Returns
        -------
        (P,) or (K, P) float64 array
            0 for parameters that are fixed.
        """
        single = checks.dimensions(rows, "rows") == 1
        count = len(self.mean)
        vectors = checks.array(rows, "rows", (count,) if single else ("K", count))
        checks.finite(vectors, "rows")
        found = self._solve(vectors[None] if single else vectors)
        return found[0] if single else found

    def _solve(self, rows: Array) -> Array:
        return self._put(self._precision.solve(np.ascontiguousarray(rows[:, self.part])))

    def _put(self, rows: Array) -> Array:
        """With 0 for parameters that are fixed."""
        if rows.shape[1] == len(self.mean):
            return rows
        found = np.zeros((len(rows), len(self.mean)))
        found[:, self.part] = rows
        return found

    def samples(self, n: int, *, seed: int | None = 0) -> Array:
        """Parameters drawn from the posterior.

        Parameters
        ----------
        n : int
        seed : int, optional
            The same seed gives the same samples.

        Returns
        -------
        (n, P) float64 array

        Notes
        -----
        A half-solve each, L⁻ᵀ z with Λ = L Lᵀ and z white noise. Of ``"hessian"`` and ``"ggn"`` L
        is a dense Cholesky factor, which costs P³ / 3 operations and 24 P² bytes once.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((1, 1), bias=False, l2=1.0)
        >>> posterior = fit(net.at([0.0], [[3.0 ** 0.5]], [[0.0]]))  # of precision 4
        >>> bool(abs(posterior.samples(10_000).std() - 0.5) < 0.02)
        True
        """
        return self._deviations(n, seed, self.mean)

    def _deviations(self, n: int, seed: int | None, mean: Array | float = 0.0) -> Array:
        n = checks.integer(n, "n")
        checks.memory(16 * n * len(self.mean), "the drawn parameters")
        generator = np.random.default_rng(checks.seed(seed))
        order = self._precision.order
        found, step = np.empty((n, len(self.mean))), max(1, _CHUNK // order)
        for first in range(0, n, step):  # Ctrl-C comes between two parts
            rows = generator.standard_normal((min(step, n - first), order))
            found[first : first + step] = mean + self._put(self._precision.half(rows))
        return found

    # The outputs

    def predictive(self, x: Any) -> Predictive:
        """The outputs' distribution, the net being linear in its parameters around the mode.

        That model's is exact where the posterior is; of GGN structures it is the natural one
        (Immer, Korzepa & Bauer 2021).

        Parameters
        ----------
        x : (N, …) array_like
            As `Network.at` takes it.

        Returns
        -------
        Predictive
            ``mean``, ``covariance``, ``variance`` and ``probabilities()``.

        Raises
        ------
        TypeError, ValueError
            If x is not as above.
        FloatingPointError
            If a covariance is not finite.

        Notes
        -----
        Costs a Jacobian, which is there a part at a time, and a solve for each output of each
        sample.
        """
        means, covariances = [], []
        outputs = self.point.net.outputs
        for point in self._points(x, max(1, _CHUNK // (outputs * len(self.mean)))):
            jacobian = point.jacobian()
            rows = jacobian.reshape(-1, len(self.mean))
            solved = self._solve(rows).reshape(jacobian.shape)
            found = jacobian @ solved.transpose(0, 2, 1)
            if not np.isfinite(found).all():
                raise FloatingPointError("the covariance of the outputs is not finite")
            covariances.append((found + found.transpose(0, 2, 1)) / 2)
            means.append(point.outputs)
        return Predictive(
            np.concatenate(means),
            np.concatenate(covariances),
            self.point.net.loss_function.name,
            self.noise_variance,
        )

    def predictive_samples(
        self, x: Any, n: int, *, seed: int | None = 0, linearised: bool = True
    ) -> Array:
        """Outputs of nets drawn from the posterior: functions, each the same net at all x.

        Parameters
        ----------
        x : (N, …) array_like
            As `Network.at` takes it.
        n : int
        seed : int, optional
        linearised : bool
            Whether the drawn nets are the linear models around the mode, whose outputs are
            distributed as `predictive` says. If not, they are the nets at the drawn parameters,
            which with a small prior precision are far from the mode's in all outputs.

        Returns
        -------
        (n, N, outputs) float64 array
            Logits, for the cross-entropies.
        """
        deviations = self._deviations(n, seed)
        if not checks.flag(linearised, "linearised"):
            reader, net = self.point.net.engine.reader, self.point.net
            shaped = reader.shaped(reader.inputs(x))
            return np.stack([net.predict(self.mean + u, shaped) for u in deviations])
        step = max(1, _CHUNK // (self.point.net.outputs * len(deviations)))
        parts = [point.outputs + point.jvp(deviations) for point in self._points(x, step)]
        return np.concatenate(parts, axis=1)

    def _points(self, x: Any, step: int) -> Iterator[Point]:
        """The net at the mode on some inputs after the other."""
        here = self.point
        inputs = here.net.engine.reader.inputs(x)
        for first in range(0, len(inputs), step):
            some = Samples([Batch(inputs[first : first + step], None, None, None)], True)
            yield Point(here.net, here.w, some, here.solver)

    # The evidence

    @property
    def log_likelihood(self) -> float:
        """log p(y | x, w) at the mode, normalised."""
        return self._target.log_likelihood

    def log_marginal_likelihood(self) -> float:
        """The log evidence: log p(y | x), the likelihood averaged over the prior.

        Of ``"last_layer"`` over that of the last layer's parameters alone, the others given.

        Returns
        -------
        float
            log p(y | w) − ½ l ‖w‖² + ½ P log l − ½ log|Λ|: of one mode of the posterior. Modes that
            symmetries of the net make of it add the logarithm of their number.

        Notes
        -----
        Off by O(1 / N), which `correction` makes O(1 / N²) for ``"hessian"``.
        """
        square = float(self.mean[self.part] @ self.mean[self.part])
        prior = 0.5 * (self._precision.order * math.log(self.prior_precision))
        prior -= 0.5 * self.prior_precision * square
        return self.log_likelihood + prior - 0.5 * self.log_determinant

    def correction(self, *, limit: int = 100_000, progress: bool = False) -> Correction:
        """What third and fourth derivatives add to the log evidence and to the mean.

        Parameters
        ----------
        limit : int
            Of jets, derivatives along three or four directions: P (P + 1) are needed, each some 5
            to 8 gradients. With more of them a ValueError says how many.
        progress : bool
            Show on standard error how far it is.

        Returns
        -------
        Correction

        Raises
        ------
        ValueError
            If the structure is not ``"hessian"``, or the limit too low.

        Notes
        -----
        Terms of order 1 / N; what is left is O(1 / N²). Where samples are few it can make things
        worse: terms that are not small beside 1 say so. Memory of 8 P² bytes, and 2 P⁴ operations
        beside the jets.
        """
        self._require_hessian("correction")
        return evidence.correction(self._target, self._precision, limit, progress)

    def evidence_gradient(self, *, moving_mode: bool = True) -> float:
        """The derivative of the log evidence in the prior precision.

        Parameters
        ----------
        moving_mode : bool
            Whether the mode moves with the prior, and the curvature with it: what differences of
            refitted posteriors show. If not the mode stays, as in MacKay (1992).

        Returns
        -------
        float
            P / 2l − ½ ‖w‖² − ½ tr S, and for a mode that moves −½ tr(S Λ′), with Λ′ the derivative
            of Λ along w′ = −H⁻¹ w. Of ``"hessian"`` that is T[w′], exact; of other structures a
            difference of log|Λ|, to about 1e-7 of it.

        Notes
        -----
        tr S of ``"hessian"`` and ``"ggn"`` costs P³ operations once. A mode that moves takes P jets
        of some 5 gradients for ``"hessian"``, and for others a solve with the exact Hessian and the
        structure anew at four points.
        """
        moves = checks.flag(moving_mode, "moving_mode")
        precision, w = self._precision, self.mean[self.part]
        found = 0.5 * precision.order / self.prior_precision - 0.5 * float(w @ w)
        found -= 0.5 * precision.trace_of_inverse
        if moves:
            found -= 0.5 * self._trace_of_change()
        return found

    def _trace_of_change(self) -> float:
        """tr(S Λ′) along w′ = dw / dl."""
        target = self._target
        if self.structure == "hessian":
            return evidence.third_order_trace(target, self._precision)
        if self.structure == "last_layer":
            moved = -self._solve(target.w[None])[0]
        else:
            found = target.matrix("hessian").solve(target.w)
            if not found.success:
                raise np.linalg.LinAlgError(f"how the mode moves is not found: {found.message}")
            moved = -found.solution / target.scale
        # Four points: errors of fourth order, beside rounding over the step.
        norm = float(np.linalg.norm(moved))
        if norm == 0:
            return 0.0
        step = 1e-3 * max(1.0, float(np.linalg.norm(target.w))) / norm
        logs = [
            Laplace(target.at(target.w + k * step * moved), self.structure, None).log_determinant
            for k in (-2, -1, 1, 2)
        ]
        return (8 * (logs[2] - logs[1]) - (logs[3] - logs[0])) / (12 * step)

    @cached_property
    def effective_parameters(self) -> float:
        """γ = tr G (G + l)⁻¹: how many parameters the data determine, from 0 to P.

        G is the Gauss–Newton matrix of the data, or its part that the structure has: of the exact
        Hessian, which may be indefinite without l, γ can be negative, so that ``"hessian"``, too,
        takes G, in another dense factorisation.
        """
        precision = self._precision
        if self.structure == "hessian":
            precision = FactoredMatrix(self._target.matrix("gauss_newton"), self._target.scale)
        return precision.order - self.prior_precision * precision.trace_of_inverse

    def _require_hessian(self, what: str) -> None:
        if self.structure != "hessian":
            raise ValueError(
                f"the structure is {self.structure!r}; expected 'hessian' for the {what}, as it is "
                "about the exact posterior"
            )

    def __repr__(self) -> str:
        return (
            f"Laplace({self.structure!r}, P={self._precision.order}, "
            f"prior_precision={self.prior_precision:.6g}, {self.point!r})"
        )
