"""`eigsh`: eigenpairs of a symmetric matrix, and the proof that none is missing."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.types import Array
from swiftnets.linalg.lapack import aside, eigh
from swiftnets.linalg.operator import SymmetricOperator
from swiftnets.spectra.certificates import Certificate
from swiftnets.spectra.choice import certificates, is_dense, step_operations
from swiftnets.spectra.eigenpairs import Eigenpairs, residual_bounds
from swiftnets.spectra.given import EPS
from swiftnets.spectra.proofs import Missing, Refused, by_inertia, by_probe
from swiftnets.spectra.restarts import orthonormal, thick_restart
from swiftnets.spectra.selection import Selection, Which
from swiftnets.spectra.shift_invert import Inverse
from swiftnets.spectra.targets import Target

__all__ = ["eigsh"]


def __dir__() -> list[str]:
    return __all__


CertificateMethod: TypeAlias = Literal["auto", "inertia", "probabilistic"]
EigenMethod: TypeAlias = Literal["auto", "lanczos", "dense"]

_STEPS, _MOST_STEPS = 128, 400
_BASIS_BYTES = 2**28
_ROUNDS = 24
_BLOCK, _PROBED_BLOCK = 8, 4
_PRODUCTS = 4000
_LEAST_PROBE = 16  # products of a random certificate before another method takes over


def eigsh(
    A: SymmetricOperator | npt.ArrayLike,
    k: int = 6,
    *,
    which: Which | None = None,
    sigma: float | None = None,
    tolerance: float = 1e-10,
    method: EigenMethod = "auto",
    certificate: CertificateMethod | None = "auto",
    failure_probability: float = 1e-6,
    max_products: int | None = None,
    start: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Eigenpairs:
    """k eigenvalues of a symmetric matrix with their vectors, and a proof that none was left out.

    Small residuals prove that there are eigenvalues near those returned, not that they are the
    ones asked for: Krylov methods may leave out copies of multiple and clustered eigenvalues. Here
    eigenvalues are counted as well, what is missing is searched for, and the certificate says what
    was proved.

    Parameters
    ----------
    A : SymmetricOperator or (P, P) array_like
        A `CurvatureMatrix`, a `swiftnets.curvature.LayerBlock`, any other operator, or a symmetric
        array. Matrices of float32 nets are taken at the same point in float64.
    k : int
        At most P.
    which : {"LA", "SA", "LM", "BE"}, optional
        The largest (by default), the smallest, those of the largest modulus, or half from each end,
        one more from the high one where k is odd. With `sigma`: the nearest above it, below it, on
        either side ("LM", the default there), or half from each side.
    sigma : float, optional
        Eigenvalues next to it, by Lanczos's method for (A − σ)⁻¹ with factors of A − σ. Those that
        equal it to rounding may be taken for ones above or below it. Where A − σ is singular,
        "LM" factors beside it: at 1e-6 ‖A‖ from it, or where that is singular, too, up to 1e-4.
    tolerance : float
        Of residual norms, relative to ‖A‖. Errors of values are far smaller where they are
        separated: about its square over the relative gap.
    method : {"auto", "lanczos", "dense"}
        ``"dense"``: all eigenpairs, and of them the k asked for. ``"auto"``: the one that takes
        fewer operations; see the notes.
    certificate : {"auto", "inertia", "probabilistic"} or None
        ``"inertia"``: counts by factors of A − s, for s beside the last of the values.
        ``"probabilistic"``: another Lanczos run, from a random vector orthogonal to the vectors
        found, bounds all other eigenvalues. ``"auto"``: by inertia where that takes at most 1.5
        times the operations that the values did; else the other, and inertia only where that has
        taken as many in vain. With `sigma` by inertia. None: no proof. Dense eigenpairs are their
        own proof.
    failure_probability : float
        Of ``"probabilistic"``, in all.
    max_products : int, optional
        About, with A, or for `sigma` solves in each run; by default max(4000, 40 k). Entries of an
        operator, where they are needed, are P more.
    start : (P,) or (P, m) array_like
        Vectors near those wanted, such as the eigenvectors of a matrix nearby.
    seed : int
        Of random vectors. The certificate's should not be what A depends on.

    Returns
    -------
    Eigenpairs
        Also where not all have converged or nothing is proved: it says so.

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above, A is complex or is seen not to be symmetric, or there are fewer than
        k eigenvalues on that side of `sigma`.
    numpy.linalg.LinAlgError
        If A − σ is singular to working precision and one side of it is asked for, or those beside
        it are as well.
    FloatingPointError
        If A has numbers that are not finite.
    MemoryError
        If the basis, entries or factors would not fit into memory.

    Notes
    -----
    Thick-restart Lanczos [1]_, each vector orthogonalised against all others: some 8 P j operations
    in step j, and up to max(400, 4 k) vectors in memory, or 128 where these are large. Dense, the
    certificate is Weyl's inequality.

    ``method="auto"`` compares operations, never times, so that the same question is always answered
    the same way. Dense: those of all entries, and 9 P³. Lanczos: 40 + 6 k products, each with 3e6
    for what a step does beside it and four times those of orthogonalising, which wait for memory;
    and half as many again for a certificate, or if that is less a factorisation, P³ / 3 with the
    entries or layer by layer. With `sigma`: a factorisation, 20 + 4 k solves and two counts. Up to
    P = 200, and where k is over P / 4, dense. Of operators that say nothing of the costs of a
    product, dense up to P = 128.

    The count by inertia is exact, and refused where rounding decides, as in `count`. In the random
    certificate an eigenvector y of an eigenvalue t has (y·v)² Σ p_j(t)² ≤ 1 for the run's
    orthonormal polynomials p_j, while (y·v)² of a vector uniform on the sphere of n dimensions has
    the distribution Beta(1/2, (n − 1)/2) [2]_; each further run gets half of the failure
    probability that is left. Where values are cut off within a cluster any of its members may be
    returned.

    References
    ----------
    .. [1] K. Wu and H. Simon, "Thick-restart Lanczos method for large symmetric eigenvalue
       problems", SIAM J. Matrix Anal. Appl. 22, 2000.
    .. [2] M. E. Hochstenbach, "Probabilistic upper bounds for the matrix two-norm", J. Sci. Comput.
       57, 2013.

    Examples
    --------
    >>> from swiftnets import MLP, spectra
    >>> net = MLP((2, 3, 1))
    >>> hessian = net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1))).hessian
    >>> found = spectra.eigsh(hessian, 2)
    >>> bool(np.allclose(found.values, np.linalg.eigvalsh(hessian.dense())[-2:]))
    True
    >>> found.message
    'all eigenvalues were computed (dense)'
    """
    options = _checked(which, sigma, tolerance, certificate, failure_probability)
    checks.choice(method, "method", get_args(EigenMethod))
    if max_products is not None:
        max_products = checks.integer(max_products, "max_products")
    seed = checks.integer(seed, "seed", 0, 2**63 - 1)
    target = Target(A)
    k = checks.integer(k, "k", 1, target.order)
    given = None if start is None else _start(start, target.order)
    interior = sigma is not None
    if sigma is not None:
        target.take_scale(sigma)
    if method == "dense" or (
        method == "auto"
        and is_dense(
            target, k, interior=interior, certificate=certificate, max_products=max_products
        )
    ):
        with np.errstate(over="ignore"):
            return _dense(target, k, *options, certified=certificate is not None)
    with np.errstate(over="ignore"):  # next to a sigma far from A a norm may be beyond all numbers
        search = _Search(target, k, options, tolerance, max_products, np.random.default_rng(seed))
        return search.run(certificate, failure_probability, given)


def _checked(
    which: Any, sigma: Any, tolerance: Any, certificate: Any, failure_probability: Any
) -> tuple[Which, float | None]:
    if sigma is not None:
        sigma = checks.real(sigma, "sigma")
    if which is None:
        which = "LA" if sigma is None else "LM"
    checks.choice(which, "which", get_args(Which))
    if certificate is not None:
        checks.choice(certificate, "certificate", get_args(CertificateMethod))
    if certificate == "probabilistic" and sigma is not None:
        raise ValueError(
            'certificate is "probabilistic", with sigma; expected "auto", "inertia" or None, as '
            "the random certificate is of the ends of the spectrum"
        )
    if not checks.nonnegative(tolerance, "tolerance") < 1:
        raise ValueError(f"tolerance is {tolerance}; expected a number from 0 to below 1")
    if not 0 < checks.real(failure_probability, "failure_probability") < 1:
        raise ValueError(
            f"failure_probability is {failure_probability}; expected a number between 0 and 1"
        )
    return which, sigma


def _start(start: npt.ArrayLike, order: int) -> Array:
    """As rows."""
    single = checks.dimensions(start, "start") == 1
    if single and len(np.atleast_1d(np.asarray(start))) != order:
        raise ValueError(f"start has shape {np.shape(start)}; expected ({order},) or ({order}, m)")
    columns = checks.array(start, "start", (order,) if single else (order, "m"))
    checks.finite(columns, "start")
    rows = np.array(columns.reshape(order, -1).T)
    lengths = np.abs(rows).max(axis=1)
    if not lengths.all():
        raise ValueError("start has a column of zeros; expected vectors with a direction")
    rows /= lengths[:, None]
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    return rows


# All eigenpairs -----------------------------------------------------------------------------------


def _dense(
    target: Target, k: int, which: Which, sigma: float | None, *, certified: bool
) -> Eigenpairs:
    entries, e = target.entries(), target.exponent
    values, vectors = eigh(entries)
    shift = None if sigma is None else math.ldexp(sigma, -e)
    selection = Selection(which, k, shift)
    if sigma is not None and shift is not None:
        selection.require(int((values < shift).sum()), target.order, sigma)
    chosen = selection.choose(values)
    operations = 2.0 * target.order**3
    remainder = aside(operations, np.matmul, entries, vectors) - vectors * values
    gram = aside(operations, np.matmul, vectors.T, vectors) - np.eye(target.order)
    norm = float(np.abs(values).max())
    # Weyl: of the orthogonal matrix next to the vectors.
    rounding = 4 * math.sqrt(target.order) * target.unit * norm + target.asymmetry
    bound = float(np.linalg.norm(remainder)) + 2 * norm * float(np.linalg.norm(gram)) + rounding
    residuals = np.linalg.norm(remainder[:, chosen], axis=0)
    proof = None
    message = "all eigenvalues were computed (dense); no certificate was asked for"
    if certified:
        proof = Certificate("dense", -math.inf, math.inf, True, target.order, math.ldexp(bound, e))
        message = str(proof)
    return Eigenpairs(
        np.ldexp(values[chosen], e),
        np.ascontiguousarray(vectors[:, chosen]),
        np.ldexp(residuals, e),
        np.ldexp(np.full(k, bound), e),
        target.made,
        target.factorizations,
        proof,
        message,
    )


# By products --------------------------------------------------------------------------------------


class _Search:
    """Lanczos runs, counts, and runs for what is missing."""

    def __init__(
        self,
        target: Target,
        k: int,
        options: tuple[Which, float | None],
        tolerance: float,
        max_products: int | None,
        rng: np.random.Generator,
    ) -> None:
        self.target, self.k, self.rng = target, k, rng
        self.tolerance = max(tolerance, 8 * math.sqrt(target.order) * target.unit)
        self.budget = max_products or max(_PRODUCTS, 40 * k)
        large = _BASIS_BYTES // (8 * target.order)
        self.steps = min(target.order, max(_STEPS, 4 * k, min(_MOST_STEPS, large)))
        checks.memory(8 * target.order * (self.steps + 2 * k + 16), "the Lanczos vectors")
        which, sigma = options
        self.inverse: Inverse | None = None
        if sigma is not None:
            scaled = math.ldexp(sigma, -target.exponent)
            self.inverse = Inverse(target, scaled, which == "LM")
            self.selection = Selection(which, k, scaled)
            self.selection.require(self.inverse.below, target.order, sigma)
        else:
            self.selection = Selection(which, k, None)
        self.rows: Array = np.empty((0, target.order))
        self.images: Array = np.empty((0, target.order))
        self.values: Array = np.empty(0)
        self.methods: list[str] = []
        self.gives_up, self.probed = math.inf, 0
        self.norm = 0.0 if self.inverse is None else self.inverse.norm

    def run(
        self, certificate: CertificateMethod | None, failure_probability: float, given: Array | None
    ) -> Eigenpairs:
        if not self._warm(given, certificate is not None):
            start = self._first(given)
            found = self._lanczos(start, self.selection.ends)
            if self.inverse is None:
                self.norm = max(self.norm, found.norm)
            self._take(found.vectors)
        self._plan(certificate)
        proof: Certificate | None = None
        notes: list[str] = []
        left = failure_probability
        for _ in range(_ROUNDS):
            if not self._converged():
                break
            left /= 2
            try:
                self._require_all()
                if self.methods:
                    proof = self._prove(self.methods[0], left, failure_probability)
                break
            except Missing as missing:
                if self._spent():
                    notes.append(
                        f"at least {missing.total} are missing, and max_products are spent"
                    )
                    break
                self._search(missing)
            except Refused as refused:
                if str(refused):
                    notes.append(str(refused))
                self.methods = self.methods[1:]
        return self._result(proof, notes)

    def _plan(self, certificate: CertificateMethod | None) -> None:
        """Which proofs to try, after what the values have cost."""
        if certificate is None:
            return
        if certificate != "auto":
            self.methods = [certificate]
        elif self.inverse is not None:
            self.methods = ["inertia"]
        else:
            made = self.target.made
            each = step_operations(self.target, min(made, self.steps))
            self.methods, self.gives_up = certificates(
                self.target, made * each, self.selection.sides
            )

    # Runs

    def _spent(self) -> bool:
        return self.target.made >= self.budget

    def _left(self) -> int:
        return max(1, self.budget - (self.target.made if self.inverse is None else 0))

    def _first(self, given: Array | None) -> Array:
        """One vector, with a part in all that are given."""
        if given is None:
            return self.rng.standard_normal((1, self.target.order))
        return self.rng.standard_normal((1, len(given))) @ given

    def _warm(self, given: Array | None, certified: bool) -> bool:
        """Whether what was given are eigenvectors already: then the count decides."""
        if given is None or not certified or len(given) < self.k:
            return False
        rows, triangle = orthonormal(given, [], self.rng, 1e-8)
        if np.linalg.matrix_rank(triangle) < self.k:
            return False
        self._take(rows)
        self.norm = max(self.norm, float(np.abs(self.values).max()))
        if self._converged():
            return True
        self.rows, self.images = self.rows[:0], self.images[:0]
        return False

    def _lanczos(self, start: Array, ends: Any, enough: Any = None) -> Any:
        product = self.target.products if self.inverse is None else self.inverse.products
        return thick_restart(
            product,
            start,
            ends,
            tolerance=self.tolerance / 2,
            unit=self.target.unit,
            steps=self.steps,
            budget=self._left(),
            locked=self.rows,
            rng=self.rng,
            enough=enough,
            relative=self.inverse is not None,
            least_norm=self.norm if self.inverse is None else 0.0,
        )

    def _search(self, missing: Missing) -> None:
        """Blocks from random vectors in the complement, for what the count says is missing."""
        # No more than were asked for at each end, which the steps are enough for.
        own = self.selection.ends
        most = (own, own) if isinstance(own, int) else own
        ends: Any = tuple(min(pair) for pair in zip(missing.ends, most, strict=True))
        width = min(sum(ends), _BLOCK) if missing.exact else _PROBED_BLOCK
        enough = None
        if self.inverse is not None:
            ends = own
            width = min(missing.total, self.k, _BLOCK)
        elif not missing.exact:
            ends = tuple(width if n else 0 for n in missing.ends)
            limit = self.tolerance / 2

            def enough(values: Array, residuals: Array, norm: float) -> bool:
                outside = missing.outside(values)
                return bool(outside.any()) and bool((residuals[outside] <= limit * norm).all())

        start = self.rng.standard_normal((width, self.target.order))
        found = self._lanczos(start, ends, enough)
        converged = found.residuals <= 2 * self.tolerance * found.norm
        if not converged.any():
            converged[:] = True
        self._take(found.vectors[converged])

    def _take(self, rows: Array) -> None:
        """Rayleigh and Ritz on all that was found."""
        if len(self.rows) or self.inverse is not None:
            rows, _ = orthonormal(rows, [self.rows], self.rng, 0.0)
        images = np.concatenate([self.images, self.target.products(rows)])
        rows = np.concatenate([self.rows, rows])
        inner = rows @ images.T
        self.values, vectors = eigh((inner + inner.T) / 2)
        self.rows, self.images = vectors.T @ rows, vectors.T @ images

    # Proofs

    def _chosen(self) -> Any:
        return self.selection.choose(self.values)

    def _residuals(self, chosen: Any) -> Array:
        remainder: Array = self.images[chosen] - self.values[chosen, None] * self.rows[chosen]
        return remainder

    def _converged(self) -> bool:
        chosen = self._chosen()
        norms = np.linalg.norm(self._residuals(chosen), axis=1)
        return bool((norms <= 2 * self.tolerance * self.norm).all())

    def _require_all(self) -> None:
        """A side of sigma where copies of one value are may have given fewer than k."""
        lacking = self.k - len(self._chosen())
        if lacking:
            raise Missing(0, lacking, True, -math.inf, math.inf)

    def _prove(self, method: str, delta: float, whole: float) -> Certificate:
        chosen = self._chosen()
        residual = float(np.linalg.norm(self._residuals(chosen), 2))
        tiny = float(np.finfo(np.float64).tiny)
        margin = max(0.5 * self.tolerance, 30 * self.target.order * EPS) * self.norm
        if self.inverse is not None:  # counts round as A − σ does
            margin = max(margin, 30 * self.target.order * EPS * abs(self.inverse.sigma))
        margin = max(margin + 2 * residual, 1e10 * tiny)
        values = self.values[chosen]
        if method == "inertia":
            return by_inertia(self.target, self.selection, values, margin, self.norm)
        remainder = self.images - self.values[:, None] * self.rows
        before, budget, other = self.target.made, self.budget, math.inf
        if len(self.methods) > 1:
            each = step_operations(self.target, min(before, self.steps))
            other = before + max(_LEAST_PROBE, self.gives_up / each - self.probed)
        try:
            return by_probe(
                self.target,
                self.selection,
                values,
                (self.values, self.rows),
                margin + float(np.linalg.norm(remainder, 2)),
                float(np.linalg.norm(remainder, 2)),
                (delta, whole),
                (max(_MOST_STEPS, self.steps), min(budget, other)),
                self.rng,
            )
        except Refused:
            if budget > other:  # the other method is cheaper from here on
                raise Refused("") from None
            raise
        finally:
            self.probed += self.target.made - before

    # What is returned

    def _is_counted(self, values: Array, proof: Certificate) -> bool:
        counted = self.selection.is_counted(values, proof.lower, proof.upper)
        return int(counted.sum()) == proof.count

    def _result(self, proof: Certificate | None, notes: list[str]) -> Eigenpairs:
        chosen, e = self._chosen(), self.target.exponent
        rows = np.ascontiguousarray(self.rows[chosen])
        images = self.target.products(rows)
        values = np.einsum("kp,kp->k", rows, images) / np.einsum("kp,kp->k", rows, rows)
        order = np.argsort(values, kind="stable")
        values, rows, images = values[order], rows[order], images[order]
        remainder = images - values[:, None] * rows
        residuals = np.linalg.norm(remainder, axis=1)
        bounds = residual_bounds(values, rows, remainder, self.norm, self.target.unit)
        converged = len(values) == self.k and bool(
            (residuals <= 4 * self.tolerance * self.norm).all()
        )
        if proof is not None and not self._is_counted(values, proof):
            proof = None
            notes.append("the values that are returned are not those that were counted")
        if proof is not None:
            far = self.selection.distances(values, proof.lower, proof.upper)
            bounds = np.maximum(bounds, far)
            proof = proof.scaled(e)
        if not converged:
            notes.insert(
                0,
                f"residuals are up to {residuals.max() / self.norm:.1e} of the norm after "
                f"{self.target.made} products",
            )
        if proof is not None:
            message = "; ".join([str(proof), *notes])
        elif not self.methods and not notes:
            message = "no certificate was asked for: eigenvalues may be missing"
        else:
            message = "; ".join(["nothing is certified, eigenvalues may be missing", *notes])
        return Eigenpairs(
            np.ldexp(values, e),
            np.ascontiguousarray(rows.T),
            np.ldexp(residuals, e),
            np.ldexp(bounds, e),
            self.target.made,
            self.target.factorizations,
            proof,
            message,
            converged,
        )
