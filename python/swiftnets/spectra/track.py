"""The leading eigenpairs along a training run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of, styled
from swiftnets._support.types import Array, FloatArray
from swiftnets.linalg.operator import SymmetricOperator
from swiftnets.spectra.eigsh import CertificateMethod, eigsh
from swiftnets.spectra.selection import Which

__all__ = ["SpectrumTracker", "track"]


def __dir__() -> list[str]:
    return __all__


_KINDS = ("hessian", "gauss_newton")


class _Ended(Protocol):
    """What is taken of `swiftnets.optimizers.Event`."""

    @property
    def iteration(self) -> int: ...

    @property
    def w(self) -> FloatArray: ...


class SpectrumTracker:
    """A callback that measures, and what it has measured; made by `track`.

    Attributes
    ----------
    iterations : (n,) int64 array
        Steps that were made before each measurement.
    loss : (n,) float64 array
        There, of all samples.
    values : (n, k) float64 array
        Eigenvalues, ascending. NaN where they were not found; see `messages`.
    residual_norms : (n, k) float64 array
        ‖A x − λ x‖ of each.
    overlaps : (n,) float64 array
        ‖Xᵀ Y‖² / k with the eigenvectors of the measurement before: 1 where they span the same
        space, about k / P for spaces that have nothing to do with each other. NaN for the first.
    products : (n,) int64 array
        What each measurement took.
    certified : (n,) bool array
        Whether it was proved that no pair is missing.
    messages : list of str
        What was found each time, in words.
    vectors : (P, k) float64 array or None
        The last eigenvectors, as columns; the next measurement starts from them.
    """

    def __init__(
        self,
        at: Callable[[FloatArray], Any],
        k: int,
        *,
        matrix: str,
        which: Which,
        every: int,
        tolerance: float,
        certificate: CertificateMethod | None,
        callback: Callable[[Any], object] | None,
        seed: int,
    ) -> None:
        self._at, self._k, self._matrix, self._which = at, k, matrix, which
        self._every, self._tolerance, self._certificate = every, tolerance, certificate
        self._callback, self._seed = callback, seed
        self._rows: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.vectors: Array | None = None

    def __call__(self, event: _Ended) -> object:
        """Measure after a step, if it is time; what the other callback returned, if there is one.

        Parameters
        ----------
        event : swiftnets.optimizers.Event

        Returns
        -------
        object
        """
        if (event.iteration + 1) % self._every == 0:
            self.measure(event.w, event.iteration + 1)
        return None if self._callback is None else self._callback(event)

    def measure(self, w: npt.ArrayLike, iteration: int) -> Array:
        """Measure at w: by hand, such as at the start of a run.

        Parameters
        ----------
        w : (P,) array_like
        iteration : int
            How many steps led there; not below that of the measurement before.

        Returns
        -------
        (k,) float64 array
            The eigenvalues; NaN where numbers were not finite, which does not end the run.

        Raises
        ------
        TypeError
            If the problem has no such matrix, or the iteration is no integer.
        ValueError
            If the iteration is below the last, or there are fewer parameters than k.
        """
        iteration = checks.integer(iteration, "iteration", 0)
        if self._rows and iteration < self._rows[-1]["iterations"]:
            raise ValueError(
                f"iteration is {iteration}; expected at least {self._rows[-1]['iterations']}, of "
                "the measurement before"
            )
        point = self._at(np.asarray(w))
        row = {
            "iterations": iteration,
            "loss": float(point.loss),
            "values": np.full(self._k, np.nan),
            "residual_norms": np.full(self._k, np.nan),
            "overlaps": np.nan,
            "products": 0,
            "certified": False,
        }
        try:
            found = eigsh(
                self._operator(point),
                self._k,
                which=self._which,
                tolerance=self._tolerance,
                certificate=self._certificate,
                start=self.vectors,
                seed=self._seed,
            )
        except FloatingPointError as error:
            self._rows.append(row)
            self.messages.append(str(error))
            return np.array(row["values"])
        vectors = np.asarray(found.vectors, np.float64)
        if self.vectors is not None:
            row["overlaps"] = float(np.sum((self.vectors.T @ vectors) ** 2)) / self._k
        row |= {
            "values": np.array(found.values, np.float64),
            "residual_norms": np.array(found.residual_norms, np.float64),
            "products": int(found.products),
            "certified": found.certificate is not None,
        }
        self._rows.append(row)
        self.messages.append(found.message)
        self.vectors = vectors
        return np.array(row["values"])

    def _operator(self, point: Any) -> SymmetricOperator:
        operator = getattr(point, self._matrix, None)
        if not isinstance(operator, SymmetricOperator):
            raise TypeError(
                f"problem.at(w) is of type {type(point).__name__}, which has no {self._matrix}; "
                'expected matrix="hessian", or a problem of a net'
            )
        if self._k > operator.order:
            raise ValueError(
                f"k is {self._k}; expected at most as many as there are parameters, "
                f"{operator.order}"
            )
        return operator

    def _column(self, name: str, *shape: int, dtype: npt.DTypeLike = np.float64) -> Any:
        values = [row[name] for row in self._rows]
        return np.array(values, dtype).reshape(len(values), *shape)

    @property
    def iterations(self) -> npt.NDArray[np.int64]:
        """Steps that were made before each measurement."""
        column: npt.NDArray[np.int64] = self._column("iterations", dtype=np.int64)
        return column

    @property
    def loss(self) -> Array:
        """The loss of all samples at each measurement."""
        column: Array = self._column("loss")
        return column

    @property
    def values(self) -> Array:
        """The eigenvalues (n, k), ascending."""
        column: Array = self._column("values", self._k)
        return column

    @property
    def residual_norms(self) -> Array:
        """‖A x − λ x‖ (n, k)."""
        column: Array = self._column("residual_norms", self._k)
        return column

    @property
    def overlaps(self) -> Array:
        """How much of the space before is in each."""
        column: Array = self._column("overlaps")
        return column

    @property
    def products(self) -> npt.NDArray[np.int64]:
        """Products with the matrix that each measurement took."""
        column: npt.NDArray[np.int64] = self._column("products", dtype=np.int64)
        return column

    @property
    def certified(self) -> npt.NDArray[np.bool_]:
        """Whether it was proved each time that no pair is missing."""
        column: npt.NDArray[np.bool_] = self._column("certified", dtype=np.bool_)
        return column

    @property
    def sharpness(self) -> Array:
        """The largest eigenvalue each time, (n,).

        Raises
        ------
        ValueError
            If the smallest are tracked, or the largest in modulus.
        """
        if self._which not in ("LA", "BE"):
            raise ValueError(
                f'which is {self._which!r}; the sharpness is known with which="LA" or "BE"'
            )
        return self.values[:, -1]

    def plot(self, ax: Any = None, *, learning_rate: float | None = None, **lines: Any) -> Any:
        """Draw the eigenvalues against iterations, the sharpness above the others.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        learning_rate : float, optional
            Of gradient descent: 2 / η is drawn as well, above which it is not stable.
        **lines : object
            For all lines of eigenvalues, as `matplotlib.axes.Axes.plot` takes it.

        Returns
        -------
        matplotlib.axes.Axes
            ``.figure.savefig(path)`` writes it.

        Raises
        ------
        ValueError
            If nothing was measured.
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.
        """
        if not self._rows:
            raise ValueError("nothing was measured; expected a run with this as its callback")
        if learning_rate is not None:
            learning_rate = checks.real(learning_rate, "learning_rate", positive=True)
        ax = axes_of(ax)
        style = styled(lines, color="tab:blue", linewidth=1.0, alpha=0.5)
        has_top = self._which in ("LA", "BE")
        rest = self.values[:, :-1] if has_top else self.values
        drawn = ax.plot(self.iterations, rest, **style) if rest.size else []
        if drawn and "label" not in lines:
            drawn[0].set_label("eigenvalues")
        if has_top:
            top = styled(lines, color="tab:red", linewidth=2.0, alpha=1.0)
            ax.plot(self.iterations, self.sharpness, **{**top, "label": "sharpness"})
        if learning_rate is not None:
            ax.axhline(2 / learning_rate, color="0.3", ls="--", lw=1.0, label="2 / η")
        ax.set_xlabel("iterations")
        ax.set_ylabel("eigenvalues")
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        done = checks.counted(len(self._rows), "measurement")
        if not self._rows:
            return f"SpectrumTracker({done} of {self._k} eigenvalues)"
        low, high = self.values[-1][[0, -1]]
        return f"SpectrumTracker({done} of {self._k} eigenvalues, now {low:.6g} to {high:.6g})"


def track(
    problem: Any,
    k: int = 5,
    *,
    matrix: Literal["hessian", "gauss_newton"] = "hessian",
    which: Which = "LA",
    every: int = 1,
    tolerance: float = 1e-6,
    certificate: CertificateMethod | None = "probabilistic",
    callback: Callable[[Any], object] | None = None,
    seed: int = 0,
) -> SpectrumTracker:
    """Follow the leading eigenpairs along a training run: a callback for `Optimizer.minimize`.

    Each measurement starts from the eigenvectors of the one before.

    Parameters
    ----------
    problem : NetProblem, Minibatches or Problem
        What is minimised. Of minibatches the matrix of all samples is followed.
    k : int
        How many pairs.
    matrix : {"hessian", "gauss_newton"}
        The latter of nets.
    which : {"LA", "SA", "LM", "BE"}
        As of `eigsh`: the largest, the smallest, the largest in modulus, or both ends.
    every : int
        Steps from one measurement to the next.
    tolerance : float
        Of the residual norms, relative to the matrix's norm.
    certificate : {"probabilistic", "inertia", "auto"} or None
        As of `eigsh`. None proves nothing and saves up to half of the products: a warm start may
        follow a pair that others have overtaken, or see one of several equal ones.
    callback : callable, optional
        Another one, called after each step as well; the run ends when it returns something true.
    seed : int

    Returns
    -------
    SpectrumTracker

    Raises
    ------
    TypeError
        If an argument is not of the kind above; the message names it.
    ValueError
        If it is not as above.

    Notes
    -----
    Costs a pass and tens of products a measurement, and keeps k vectors. A run that resumes from a
    checkpoint calls it from there on alone.

    Examples
    --------
    >>> from swiftnets import MLP, spectra
    >>> from swiftnets.optimizers import SGD
    >>> from swiftnets.problems import NetProblem
    >>> net = MLP((2, 3, 1))
    >>> problem = NetProblem(net, np.eye(2), np.ones((2, 1)))
    >>> w = net.initial(seed=0)
    >>> tracker = spectra.track(problem, k=2, every=10)
    >>> result = SGD(learning_rate=0.1).minimize(problem, w, max_iterations=30, callback=tracker)
    >>> tracker.iterations, tracker.values.shape
    (array([10, 20, 30]), (3, 2))
    >>> exact = np.linalg.eigvalsh(problem.hessian(result.w))
    >>> bool(np.isclose(tracker.sharpness[-1], exact[-1]))
    True
    """
    problem = getattr(problem, "full", problem)  # of minibatches
    at = getattr(problem, "at", None)
    if not callable(at):
        raise TypeError(
            f"problem is of type {type(problem).__name__}; expected a Problem or Minibatches"
        )
    checks.choice(matrix, "matrix", _KINDS)
    checks.choice(which, "which", get_args(Which))
    if certificate is not None:
        checks.choice(certificate, "certificate", get_args(CertificateMethod))
    if callback is not None:
        checks.function(callback, "callback", "one event")
    return SpectrumTracker(
        at,
        checks.integer(k, "k"),
        matrix=matrix,
        which=which,
        every=checks.integer(every, "every"),
        tolerance=checks.real(tolerance, "tolerance", positive=True),
        certificate=certificate,
        callback=callback,
        seed=checks.integer(seed, "seed", 0),
    )
