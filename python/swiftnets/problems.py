"""Smooth functions of a vector as optimisers take them: nets on samples, and known test functions.

An optimiser sees a `Problem`: a loss with its derivatives to third order. `NetProblem` is the loss
of an `MLP` on samples, `Minibatches` one that changes from step to step. `Rosenbrock`,
`LinearRegression` and `Quadratic` have closed forms, to hold methods against. Subclass `Problem`
for functions of your own.
"""

from __future__ import annotations

import copy
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from swiftnets import _checks
from swiftnets._samples import Batch, FloatArray, arguments
from swiftnets.mlp import MLP, TaylorSeries

__all__ = [
    "Counted",
    "LinearRegression",
    "Minibatches",
    "NetProblem",
    "Point",
    "PointLike",
    "Problem",
    "Quadratic",
    "Rosenbrock",
]


def __dir__() -> list[str]:
    return __all__


class PointLike(Protocol):
    """What `Problem.linearize` returns: `Point`, or `swiftnets.mlp.Linearization`."""

    @property
    def loss(self) -> float: ...

    @property
    def gradient(self) -> FloatArray: ...

    def hvp(self, v: npt.ArrayLike) -> FloatArray: ...


@dataclass(frozen=True, eq=False)
class Point:
    """A function at one place.

    Attributes
    ----------
    loss : float
    gradient : (P,) float array
    hvp : callable
        v (P,) or (K, P) to the Hessian's products with it.
    """

    loss: float
    gradient: FloatArray
    hvp: Callable[[Any], FloatArray]


class Problem(ABC):
    """A smooth function of w, its derivatives exact.

    A subclass sets `parameter_count`, and `dtype` if it is not float64, and has at least
    `loss_and_gradient`; methods of second order need `hvp` (or `hessian`), those of third order
    `taylor` and `third`. They return NumPy arrays of `dtype`, losses a real number: optimisers
    check this, and say which method returned what. Where a loss is not finite they return that, or
    raise FloatingPointError.
    """

    parameter_count: int
    dtype: np.dtype[Any] = np.dtype(np.float64)

    @abstractmethod
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        """The value at w, and the gradient (P,)."""

    def loss(self, w: npt.ArrayLike) -> float:
        """The value at w."""
        return _pair(self, self.loss_and_gradient(w))[0]

    def gradient(self, w: npt.ArrayLike) -> FloatArray:
        """The gradient (P,) at w."""
        return _pair(self, self.loss_and_gradient(w))[1]

    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        """The Hessian's products at w with v: (P,), or rows (K, P)."""
        raise NotImplementedError(f"{type(self).__name__} has no Hessian-vector products")

    def linearize(self, w: npt.ArrayLike) -> PointLike:
        """The function at w, for any number of Hessian-vector products there."""
        w = np.array(self._vector(w, "w"))
        # Copies: a method of one's own may write on them, and w is for all products.
        pair = _pair(self, self.loss_and_gradient(w.copy()))
        return Point(*pair, lambda v: self.hvp(w.copy(), v))

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        """The dense Hessian (P, P) at w."""
        eye = np.eye(self.parameter_count, dtype=self.dtype)
        columns = _returned(self, "hvp", "products", self.hvp(w, eye), eye.shape)
        half: FloatArray = (columns + columns.T) / 2
        return half

    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        """Coefficients of t ↦ f(w + t v) and of its gradient there, as `MLP.taylor`."""
        raise NotImplementedError(f"{type(self).__name__} has no Taylor series")

    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        """The third derivative at w applied to u (P,) and v: (P,), or rows (K, P)."""
        raise NotImplementedError(f"{type(self).__name__} has no third derivatives")

    def settings(self) -> Mapping[str, object] | None:
        """What tells this problem from others of its type, for checkpoints.

        Returns
        -------
        mapping of str to object, or None
            Numbers, strings, arrays, nets, problems, and lists and mappings of these: compared to
            the last bit. None, as here, where they are not known, and for types that inherit this
            method from another problem: a checkpoint is then of a problem with the same type, repr
            (where it has one of its own), size, and to 1e-5 the same loss and norm of the gradient
            where the run starts.
        """
        return None

    def _vector(self, value: npt.ArrayLike, name: str) -> FloatArray:
        return _checks.array(value, name, (self.parameter_count,), self.dtype)

    def _vectors(self, value: npt.ArrayLike, name: str) -> FloatArray:
        if _checks.dimensions(value, name) == 1:
            return self._vector(value, name)
        return _checks.array(value, name, ("K", self.parameter_count), self.dtype)


# What problems of one's own return ----------------------------------------------------------------


def _number(problem: Problem, method: str, value: Any) -> float:
    """A loss; whether it is finite is for its user."""
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(
        f"{type(problem).__name__}.{method} returned a loss of {_kind(value)}; expected a float"
    )


def _returned(
    problem: Problem, method: str, what: str, value: Any, shape: tuple[int, ...]
) -> FloatArray:
    """An array as the problem promises it."""
    same = type(value) is np.ndarray and value.dtype == problem.dtype
    if same and value.shape == shape:
        return value  # type: ignore[no-any-return]
    error = ValueError if same else TypeError
    raise error(
        f"{type(problem).__name__}.{method} returned {what} of {_kind(value)}; expected a NumPy "
        f"array of {np.dtype(problem.dtype)} and shape {shape}"
    )


def _kind(value: Any) -> str:
    if type(value) is np.ndarray:
        return f"dtype {value.dtype} and shape {value.shape}"
    shape = getattr(value, "shape", None)
    return f"type {type(value).__name__}" + ("" if shape is None else f" and shape {tuple(shape)}")


def _pair(problem: Problem, value: Any) -> tuple[float, FloatArray]:
    """What `loss_and_gradient` returned."""
    method = "loss_and_gradient"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"{type(problem).__name__}.{method} returned {_kind(value)}; expected a pair of a loss "
            "and a gradient"
        )
    shape = (problem.parameter_count,)
    return (
        _number(problem, method, value[0]),
        _returned(problem, method, "a gradient", value[1], shape),
    )


# Nets ---------------------------------------------------------------------------------------------


class NetProblem(Problem):
    """The loss of a net on samples, as a function of its parameters.

    Parameters
    ----------
    net : MLP
    x, y, sample_weight
        As `MLP.loss` takes them; copied, so that their arrays may change afterwards. Samples of
        weight 0 are not kept.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.

    Examples
    --------
    >>> net = MLP((2, 3, 1))
    >>> problem = NetProblem(net, np.eye(2), np.ones((2, 1)))
    >>> bool(problem.loss(net.initial(seed=0)) > 0)
    True
    """

    def __init__(
        self, net: MLP, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> None:
        # Checked once: what is kept is what the engine takes, and passes through unchanged.
        batches = _net(net)._reader.kept(x, y, sample_weight, copy=True)
        self._keep(net, batches, y is not None)

    @classmethod
    def _of(cls, net: MLP, batch: Batch) -> NetProblem:
        """On a batch that is checked and nobody else's."""
        problem = cls.__new__(cls)
        problem._keep(net, [batch], True)
        return problem

    def _keep(self, net: MLP, batches: list[Batch], single: bool) -> None:
        self.net = net
        self._samples = arguments(batches, single)
        self._single = single
        self._batches = [self._samples] if single else self._samples[0]
        self.parameter_count, self.dtype = net.parameter_count, net.dtype

    @property
    def samples(self) -> tuple[Any, Any, Any]:
        """x, y and sample_weight, as the net's methods take them."""
        return self._samples

    @property
    def sample_count(self) -> int:
        """Samples of all batches."""
        return sum(len(batch[0]) for batch in self._batches)

    def _call(
        self, method: Callable[..., Any], w: npt.ArrayLike, *others: Any, **options: Any
    ) -> Any:
        x, y, weight = self.samples
        return method(w, x, y, *others, sample_weight=weight, **options)

    def loss(self, w: npt.ArrayLike) -> float:
        return float(self._call(self.net.loss, w))

    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        loss, gradient = self._call(self.net.loss_and_gradient, w)
        return loss, gradient

    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        result: FloatArray = self._call(self.net.hvp, w, v)
        return result

    def linearize(self, w: npt.ArrayLike) -> PointLike:
        point: PointLike = self._call(self.net.linearize, w)
        return point

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        result: FloatArray = self._call(self.net.hessian, w)
        return result

    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        result: TaylorSeries = self._call(self.net.taylor, w, v, order=order)
        return result

    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        result: FloatArray = self._call(self.net.third, w, u, v)
        return result

    def settings(self) -> Mapping[str, object] | None:
        return {"net": self.net, "samples": list(self.samples)}

    def not_finite(self) -> str | None:
        """Which number of the samples is the first that is not finite, in words; None if all are.

        Examples
        --------
        >>> NetProblem(MLP((1, 1)), [[1.0], [np.inf]], np.ones((2, 1))).not_finite()
        'x has inf at [1, 0]'
        """
        for index, batch in enumerate(self._batches):
            of = "" if self._single else f" of batch {index}"
            for name, values in (("x", batch[0]), ("y", np.asarray(batch[1]))):
                good = np.isfinite(values)
                if not good.all():
                    where = [int(k) for k in np.argwhere(~good)[0]]
                    return f"{name}{of} has {values[tuple(where)]} at {where}"
        return None

    def __repr__(self) -> str:
        return f"NetProblem({self.net!r}, {self.sample_count} samples)"


def _net(net: object) -> MLP:
    if not isinstance(net, MLP):
        raise TypeError(f"net is of type {type(net).__name__}; expected an MLP")
    return net


class Minibatches:
    """A net's loss on a few samples at a time, drawn anew in each epoch.

    The order depends on the seed and the epoch alone, so that a run that is resumed, and every
    optimiser that is compared, sees the same batches. The last batch of an epoch may be smaller.

    Each batch's loss is an unbiased estimate of that of all samples, with its derivatives: of N
    samples with weights s (1 by default), b of them give N / b Σ s loss, for ``reduction="mean"``
    divided by the sum of all weights, not by the batch's own; l2 counts fully. So the mean over an
    epoch, each batch counted by its size, is exactly the loss of all samples.

    Parameters
    ----------
    net : MLP
    x, y : array_like
        All samples; copied.
    batch_size : int
    seed : int
    sample_weight : array_like, optional
        Samples of weight 0 are not there: no batch holds them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or no weight is above 0.

    Examples
    --------
    >>> net = MLP((2, 1), reduction="mean")
    >>> batches = Minibatches(net, np.ones((10, 2)), np.ones((10, 1)), batch_size=4)
    >>> batches.per_epoch, len(batches.at(2).samples[0])
    (3, 2)
    """

    def __init__(
        self,
        net: MLP,
        x: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        sample_weight: npt.ArrayLike | None = None,
    ) -> None:
        self.net = _net(net)
        if y is None:
            raise TypeError(
                f"y is missing and x is of type {type(x).__name__}; expected arrays of all "
                "samples, of which Minibatches draws its own batches (a loader's go to NetProblem)"
            )
        self.full = NetProblem(net, x, y, sample_weight=sample_weight)
        self.batch_size = _checks.integer(batch_size, "batch_size")
        self.seed = _checks.integer(seed, "seed", 0)
        self.parameter_count, self.dtype = net.parameter_count, net.dtype
        self._count = self.full.sample_count
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        # What a sample counts in an estimate, but for N / b; None where a mean does it.
        self._shares: npt.NDArray[np.float64] | None = None
        self._summing = net
        weights = self.full.samples[2]
        if weights is not None:
            self._shares = weights.astype(np.float64)
            if not self._shares.any():
                raise ValueError("sample_weight is 0 throughout; expected a weight above 0")
            if net.reduction == "mean":
                self._shares /= self._shares.max()  # lest the sum overflow
                self._shares /= self._shares.sum()
                self._summing = copy.copy(net)
                self._summing._reduction = "sum"
            else:
                least = self._count % self.batch_size or self.batch_size
                with np.errstate(over="ignore"):
                    most = (self._shares.max() * (self._count / least)).astype(self.dtype)
                if not np.isfinite(most):
                    raise ValueError(
                        f"sample_weight is up to {self._shares.max():g}; expected weights of which "
                        f"{self.dtype} holds {self._count} / {least}, as a batch's count"
                    )
        elif net.reduction == "sum":
            self._shares = np.ones(self._count)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-self._count // self.batch_size)

    def at(self, iteration: int) -> NetProblem:
        """The problem of one iteration, counted from 0 over all epochs."""
        epoch, place = divmod(_checks.integer(iteration, "iteration", 0), self.per_epoch)
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self._count)
            self._order = epoch, order
        rows = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        x, y, weights = self.full.samples
        if self._shares is not None and not (len(rows) == self._count and weights is None):
            weights = (self._shares[rows] * (self._count / len(rows))).astype(self.dtype)
        labelled = y.ndim == 1
        batch = Batch(
            x[rows], None if labelled else y[rows], y[rows] if labelled else None, weights
        )
        return NetProblem._of(self._summing, batch)

    def settings(self) -> Mapping[str, object] | None:
        """As `Problem.settings`."""
        return {
            "net": self.net,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "samples": list(self.full.samples),
        }

    def __repr__(self) -> str:
        return (
            f"Minibatches({self.net!r}, {self._count} samples, batch_size={self.batch_size}, "
            f"seed={self.seed})"
        )


# Closed forms -------------------------------------------------------------------------------------


# Numbers that overflow are told by their values, as a net's are.
_quietly = np.errstate(over="ignore", invalid="ignore")


class Quadratic(Problem):
    """½ wᵀ A w − bᵀ w.

    Parameters
    ----------
    matrix : (P, P) array_like
        A, symmetric: its symmetric part is taken.
    b : (P,) array_like, optional
        0 by default.

    Examples
    --------
    >>> Quadratic([[2.0, 0.0], [0.0, -1.0]]).gradient([1.0, 1.0])
    array([ 2., -1.])
    """

    def __init__(self, matrix: npt.ArrayLike, b: npt.ArrayLike | None = None) -> None:
        array = _checks.array(matrix, "matrix", ("P", "P"))
        if array.shape[0] != array.shape[1]:
            raise ValueError(f"matrix has shape {array.shape}; expected a square one")
        _checks.finite(array, "matrix")
        self.matrix: FloatArray = (array + array.T) / 2
        self.parameter_count = len(array)
        self.b = np.zeros(len(array)) if b is None else np.array(self._vector(b, "b"))
        _checks.finite(self.b, "b")

    @_quietly
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        w = self._vector(w, "w")
        image = self.matrix @ w
        return float(w @ image / 2 - self.b @ w), image - self.b

    @_quietly
    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        result: FloatArray = self._vectors(v, "v") @ self.matrix
        return result

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        return self.matrix.copy()

    @_quietly
    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        w, v = self._vector(w, "w"), self._vector(v, "v")
        loss, gradient = self.loss_and_gradient(w)
        return _series(loss, v, [gradient, self.matrix @ v], order)

    @_quietly
    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        self._vector(u, "u")
        return np.zeros_like(self._vectors(v, "v"))

    def settings(self) -> Mapping[str, object] | None:
        return {"matrix": self.matrix, "b": self.b}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(P={self.parameter_count})"


class LinearRegression(Quadratic):
    """½ ‖x w − y‖² + ½ l2 ‖w‖².

    Parameters
    ----------
    x : (N, P) array_like
    y : (N,) array_like
    l2 : float

    Examples
    --------
    >>> LinearRegression([[1.0], [1.0]], [0.0, 2.0]).loss([1.0])
    1.0
    """

    def __init__(self, x: npt.ArrayLike, y: npt.ArrayLike, l2: float = 0.0) -> None:
        self.x = np.array(_checks.array(x, "x", ("N", "P")))
        self.y = np.array(_checks.array(y, "y", (len(self.x),)))
        _checks.finite(self.x, "x")
        _checks.finite(self.y, "y")
        self.l2 = _checks.real(l2, "l2")
        if self.l2 < 0:
            raise ValueError(f"l2 is {l2!r}; expected a number that is not negative")
        with np.errstate(over="ignore", invalid="ignore"):
            matrix, image = self.x.T @ self.x, self.x.T @ self.y
            matrix[np.diag_indices_from(matrix)] += self.l2
        if not (np.isfinite(matrix).all() and np.isfinite(image).all()):
            raise ValueError("x has numbers so large that xᵀ x or xᵀ y is not finite")
        super().__init__(matrix, image)

    @_quietly
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        w = self._vector(w, "w")
        rest = self.x @ w - self.y
        decay = self.l2 * (w @ w) if self.l2 else 0.0  # not 0 times what overflows
        return (
            float(rest @ rest + decay) / 2,
            self.x.T @ rest + self.l2 * w,
        )

    def settings(self) -> Mapping[str, object] | None:
        return {"x": self.x, "y": self.y, "l2": self.l2}


class Rosenbrock(Problem):
    """Rosenbrock's valley in n dimensions: Σ 100 (wᵢ₊₁ − wᵢ²)² + (1 − wᵢ)² (Rosenbrock 1960).

    Its minimum is 0 at (1, …, 1). Every derivative is in closed form and costs O(n).

    Parameters
    ----------
    n : int
        At least 2.

    Examples
    --------
    >>> problem = Rosenbrock(2)
    >>> problem.loss([-1.2, 1.0]), problem.gradient([1.0, 1.0])
    (24.199999999999996, array([-0.,  0.]))
    >>> problem.start()
    array([-1.2,  1. ])
    """

    def __init__(self, n: int) -> None:
        self.parameter_count = _checks.integer(n, "n", 2)

    def start(self) -> FloatArray:
        """The usual start: −1.2 and 1 in turns."""
        w = np.ones(self.parameter_count)
        w[::2] = -1.2
        return w

    @_quietly
    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        w = self._vector(w, "w")
        low, valley, slope = w[:-1], w[1:] - w[:-1] ** 2, 1 - w[:-1]
        gradient = np.zeros_like(w)
        gradient[:-1] = -400 * low * valley - 2 * slope
        gradient[1:] += 200 * valley
        return float(100 * valley @ valley + slope @ slope), gradient

    @_quietly
    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        w, v = self._vector(w, "w"), self._vectors(v, "v")
        low, valley = w[:-1], w[1:] - w[:-1] ** 2
        # Of the valley along v: v⁺ − 2 w v.
        along = v[..., 1:] - 2 * low * v[..., :-1]
        result = np.zeros_like(v)
        result[..., :-1] = -400 * (v[..., :-1] * valley + low * along) + 2 * v[..., :-1]
        result[..., 1:] += 200 * along
        return result

    @_quietly
    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        w, u, v = self._vector(w, "w"), self._vector(u, "u"), self._vectors(v, "v")
        low = w[:-1]
        of_u, of_v = u[1:] - 2 * low * u[:-1], v[..., 1:] - 2 * low * v[..., :-1]
        both = -2 * u[:-1] * v[..., :-1]
        result = np.zeros_like(v)
        result[..., :-1] = -400 * (v[..., :-1] * of_u + u[:-1] * of_v + low * both)
        result[..., 1:] += 200 * both
        return result

    @_quietly
    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        w, v = self._vector(w, "w"), self._vector(v, "v")
        loss, gradient = self.loss_and_gradient(w)
        fourth = np.zeros_like(v)  # Q[v, v, v]: only 2400 of each wᵢ with itself
        fourth[:-1] = 2400 * v[:-1] ** 3
        rows = [gradient, self.hvp(w, v), self.third(w, v, v) / 2, fourth / 6]
        return _series(loss, v, rows, order)

    def settings(self) -> Mapping[str, object] | None:
        return {"n": self.parameter_count}

    def __repr__(self) -> str:
        return f"Rosenbrock({self.parameter_count})"


def _series(loss: float, v: FloatArray, rows: list[FloatArray], order: int) -> TaylorSeries:
    order = _checks.integer(order, "order", 0, 3)
    gradient = np.zeros((order + 1, len(v)))
    for k, row in enumerate(rows[: order + 1]):
        gradient[k] = row
    # The loss's derivative along v is ⟨gradient, v⟩, coefficient by coefficient.
    coefficients = np.array([loss, *(gradient @ v / np.arange(1, order + 2))])
    return TaylorSeries(coefficients, gradient)


# Counting -----------------------------------------------------------------------------------------


class Counted(Problem):
    """A problem that counts what is asked of it, in gradients.

    A loss counts ⅓, a gradient 1, a Hessian-vector product 3 (2 at a point that `linearize` made,
    which itself counts 1), a Taylor series of order 0 to 3 counts 1, 3, 5⅓ and 8, a third
    derivative 5⅓ a direction, a dense Hessian 2 P: what it would take in products. That is what the
    products of matrices in them amount to, whatever our engine makes of them.

    Attributes
    ----------
    problem : Problem
    cost : float
        So far.
    """

    def __init__(self, problem: Problem) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem is of type {type(problem).__name__}; expected a Problem")
        self.problem, self.cost = problem, 0.0
        self._own = not isinstance(problem, (NetProblem, Counted))
        self.parameter_count, self.dtype = problem.parameter_count, problem.dtype

    def loss(self, w: npt.ArrayLike) -> float:
        self.cost += 1 / 3
        return _number(self.problem, "loss", self.problem.loss(self._given(w)))

    def gradient(self, w: npt.ArrayLike) -> FloatArray:
        self.cost += 1
        return self._vector_of("gradient", "a gradient", self.problem.gradient(self._given(w)))

    def loss_and_gradient(self, w: npt.ArrayLike) -> tuple[float, FloatArray]:
        self.cost += 1
        loss, gradient = _pair(self.problem, self.problem.loss_and_gradient(self._given(w)))
        return loss, self._kept(gradient)

    def hvp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        self.cost += 3 * _directions(v)
        return self._like(v, "hvp", "products", self.problem.hvp(self._given(w), self._given(v)))

    def linearize(self, w: npt.ArrayLike) -> PointLike:
        self.cost += 1
        point = self.problem.linearize(self._given(w))
        loss = _number(self.problem, "linearize", point.loss)
        gradient = self._vector_of("linearize", "a gradient", point.gradient)

        def hvp(v: Any) -> FloatArray:
            self.cost += 2 * _directions(v)
            return self._like(v, "hvp", "products", point.hvp(self._given(v)))

        return Point(loss, gradient, hvp)

    def hessian(self, w: npt.ArrayLike) -> FloatArray:
        self.cost += 2 * self.parameter_count
        shape = (self.parameter_count, self.parameter_count)
        matrix = self.problem.hessian(self._given(w))
        return _returned(self.problem, "hessian", "a matrix", matrix, shape)

    def taylor(self, w: npt.ArrayLike, v: npt.ArrayLike, order: int = 3) -> TaylorSeries:
        series = self.problem.taylor(self._given(w), self._given(v), order)
        self.cost += (1, 3, 16 / 3, 8)[order]
        if not isinstance(series, TaylorSeries):
            raise TypeError(
                f"{type(self.problem).__name__}.taylor returned {_kind(series)}; expected a "
                "TaylorSeries"
            )
        what, shape = "a series of gradients", (order + 1, self.parameter_count)
        _returned(self.problem, "taylor", what, series.gradient, shape)
        if np.shape(series.loss) != (order + 2,):
            raise ValueError(
                f"{type(self.problem).__name__}.taylor returned a series of losses of "
                f"{_kind(series.loss)}; expected {order + 2} numbers"
            )
        return series

    def third(self, w: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> FloatArray:
        self.cost += 16 / 3 * _directions(v)
        given = (self._given(each) for each in (w, u, v))
        return self._like(v, "third", "third derivatives", self.problem.third(*given))

    def _like(self, v: Any, method: str, what: str, value: Any) -> FloatArray:
        return _returned(self.problem, method, what, value, np.shape(v))

    def _vector_of(self, method: str, what: str, value: Any) -> FloatArray:
        return self._kept(_returned(self.problem, method, what, value, (self.parameter_count,)))

    def _given(self, vector: Any) -> Any:
        """What a problem of one's own may write on: not a method's own vectors."""
        return vector.copy() if self._own and isinstance(vector, np.ndarray) else vector

    def _kept(self, gradient: FloatArray) -> FloatArray:
        """A gradient that stays as it is, whatever a problem of one's own does with its buffer."""
        return gradient.copy() if self._own else gradient

    def __repr__(self) -> str:
        return f"Counted({self.problem!r}, cost={self.cost:.6g})"


def _directions(v: Any) -> int:
    return len(v) if _checks.dimensions(v, "v") == 2 else 1
