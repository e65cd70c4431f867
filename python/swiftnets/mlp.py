"""`MLP`: a net of dense layers, and every exact derivative of its loss to fourth order.

The parameters are one flat vector: layer by layer, weights ``[in, out]`` row by row, then the bias
``[out]`` if there is one. Samples are rows. What the methods compute is in ``docs/mlp.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from swiftnets import solve
from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.curvature.matrix import Block, CurvatureMatrix, Kind, Stream, streamed_products
from swiftnets.curvature.point import Point
from swiftnets.nets import activations, losses
from swiftnets.nets.activations import Activation, ActivationLike
from swiftnets.nets.losses import LossLike
from swiftnets.nets.network import Network
from swiftnets.nets.samples import Samples

__all__ = ["MLP"]


def __dir__() -> list[str]:
    return __all__


_LARGEST_SIZE = 2**31 - 1


class MLP(Network):
    """A multilayer perceptron with exact derivatives.

    Parameters
    ----------
    sizes : sequence of int
        Widths: the inputs', each hidden layer's, the outputs'.
    activation : str, Activation, or a sequence of them
        Of the hidden layers, one for all or one each; see `swiftnets.nets.activations`.
    output_activation : str or Activation
        Of the outputs. The cross-entropies take logits: leave it ``"identity"``.
    loss : str or Loss
        ``"squared_error"`` (½ the sum of squares), ``"softmax_cross_entropy"``,
        ``"binary_cross_entropy"``, ``"huber"``; see `swiftnets.nets.losses`.
    bias : bool
        Whether every layer has one.
    reduction : {"sum", "mean"}
        The loss is Σ sₙ lossₙ over samples, with ``sample_weight`` s (ones by default), or that
        divided by Σ sₙ.
    l2 : float
        Adds ½ l2 ‖w‖², over all parameters, once and not reduced.
    dtype : float64 or float32

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.

    Notes
    -----
    What is asked of a net at parameters w on samples is asked of the point ``net.at(w, x, y)``; the
    net itself has shorthands for what is typed most. The inputs are x (N, inputs) and the targets
    y: (N, outputs) rows, or for the softmax cross-entropy also (N,) integer labels. In place of x
    and y, sums over samples take one iterable of batches ``(x, y)`` or ``(x, y, sample_weight)``
    (a list, a PyTorch DataLoader; one that refills one buffer will do). Anything that makes an
    array is taken, PyTorch's tensors too. Values that are not finite propagate as in NumPy, but for
    samples of weight 0: those are left out, whatever is in them. A label of theirs need not be a
    class, as in padding; it counts as 0 where samples are not weighted, as in
    `Point.per_sample_gradients`.

    Working memory does not grow with the number of samples: they are taken in chunks of at most
    4 MB of activations (32 samples where a net is wider than that), and a few such for each thread.
    One net may be used by several threads at once.

    Examples
    --------
    >>> net = MLP((2, 3, 1), activation="tanh")
    >>> w = net.initial(seed=0)
    >>> x, y = np.eye(2), np.ones((2, 1))
    >>> point = net.at(w, x, y)
    >>> bool(np.allclose(point.hessian.dense() @ w, point.hessian @ w))
    True
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: ActivationLike | Sequence[ActivationLike] = "tanh",
        output_activation: ActivationLike = "identity",
        loss: LossLike = "squared_error",
        bias: bool = True,
        reduction: Literal["sum", "mean"] = "sum",
        l2: float = 0.0,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        sizes = _sizes(sizes)
        penalty = checks.nonnegative(l2, "l2")
        if str(reduction) == "none":
            raise ValueError(
                "reduction is 'none'; expected 'sum' or 'mean': a net's loss is one number (for "
                "the gradients of single samples see Point.per_sample_gradients)"
            )
        checks.choice(reduction, "reduction", ("sum", "mean"))
        super().__init__(
            sizes,
            (
                *_hidden(activation, len(sizes) - 2),
                activations.resolve(output_activation, "output_activation"),
            ),
            losses.resolve(loss, "loss"),
            checks.flag(bias, "bias"),
            reduction,
            penalty,
            checks.floating(dtype, "dtype"),
        )

    def at(
        self, w: npt.ArrayLike, x: Any, y: Any = None, *, sample_weight: npt.ArrayLike | None = None
    ) -> Point:
        """The net at parameters w on samples: what every derivative is asked of.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, inputs) array_like, or an iterable of batches
        y : (N, outputs) array_like or (N,) labels, optional
            Not with batches, which have their own. Without targets the point has outputs and their
            Jacobian alone, and x is one array.
        sample_weight : (N,) array_like, optional
            Not negative.

        Returns
        -------
        Point
            With copies of all arrays: they may change afterwards.

        Raises
        ------
        TypeError, ValueError
            If a shape or dtype disagrees; the message names the argument.

        Examples
        --------
        >>> point = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        >>> point.loss, point.hessian @ [1.0, 0.0]
        (0.5, array([ 9., 12.]))
        """
        return self._point(w, x, y, sample_weight, copy=True)

    def hvp(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        v: npt.ArrayLike | None = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Hessian-vector products of the loss, exact to rounding (Pearlmutter 1994).

        Nothing is kept: for many products at one point take ``net.at(w, x, y).hessian @ v``.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `at`; with batches in place of x, give ``y=None``.
        v : (P,) or (K, P) array_like
            One direction, or K of them as rows: many at once share the forward pass, and threads
            take whole directions.

        Returns
        -------
        (P,) or (K, P) float array
            Shaped like v. One costs about two gradients.

        Raises
        ------
        TypeError
            If an argument is missing or of another kind; the message names it.
        ValueError
            If a shape disagrees.

        Examples
        --------
        >>> net = MLP((2, 1), bias=False)
        >>> net.hvp([1.0, 2.0], [[3.0, 4.0]], [[10.0]], [1.0, 0.0])
        array([ 9., 12.])
        """
        engine = self.engine
        w = engine.vector(w, "w")
        if v is None:
            raise TypeError(
                f"v is missing; expected a vector ({engine.count},) after x and y (with batches in "
                "place of x, give y=None, or vectors by their names)"
            )
        rows, single = engine.rows(v, "v")
        samples = engine.reader.samples(x, y, sample_weight)
        out = streamed_products(engine, Kind.HESSIAN, w, samples, rows)
        return cast(FloatArray, out[0] if single else out)

    def hessian(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        *,
        block: Block = None,
        out: FloatArray | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Any:
        """The dense Hessian of the loss: `CurvatureMatrix.dense` of the point's Hessian.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `at`.
        block : (i, j) or "diagonal", optional
        out : (P, P) array, optional

        Returns
        -------
        (P, P) array, one block, or a list of blocks

        Examples
        --------
        >>> MLP((2, 1), bias=False).hessian([1.0, 2.0], [[3.0, 4.0]], [[10.0]])
        array([[ 9., 12.],
               [12., 16.]])
        """
        if y is not None or isinstance(block, str):
            return self._point(w, x, y, sample_weight).hessian.dense(block, out)
        # One sum, over batches that come one by one and are not kept.
        vector = self.engine.vector(w, "w")
        stream = Stream(self, vector, self.engine.reader.samples(x, None, sample_weight))
        return CurvatureMatrix(cast(Any, stream), Kind.HESSIAN).dense(block, out)

    def solve(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        b: npt.ArrayLike | None = None,
        *,
        damping: float,
        sample_weight: npt.ArrayLike | None = None,
        **options: Any,
    ) -> solve.Solution:
        """Solve (H + damping) x = b: `CurvatureMatrix.solve` of the point's Hessian.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `at`.
        b : (P,) or (K, P) array_like
        damping : float
        **options
            As `CurvatureMatrix.solve` takes them.

        Returns
        -------
        Solution

        Examples
        --------
        >>> net = MLP((2, 3, 1))
        >>> w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 1))
        >>> net.solve(w, x, y, net.gradient(w, x, y), damping=0.1).success
        True
        """
        point = self._point(w, x, y, sample_weight)
        return point.hessian.solve(cast(Any, b), damping=damping, **options)

    def at_samples(self, w: npt.ArrayLike, samples: Samples) -> Point:
        """As `at`, on samples that are checked and nobody else's: for the rooms above.

        Parameters
        ----------
        w : (P,) array_like
        samples : Samples

        Returns
        -------
        Point
        """
        vector = self.engine.vector(w, "w").copy()
        vector.flags.writeable = False
        return Point(self, vector, samples, solve)

    def _point(self, w: Any, x: Any, y: Any, sample_weight: Any, copy: bool = False) -> Point:
        vector = self.engine.vector(w, "w")
        if copy:
            vector = vector.copy()
            vector.flags.writeable = False
        reader = self.engine.reader
        if y is None and reader.is_inputs(x):
            samples = reader.inputs_alone(x, sample_weight, copy=copy)
        else:
            samples = reader.kept(x, y, sample_weight, copy=copy, whole=True)
        return Point(self, vector, samples, solve)


def require_net(net: object) -> MLP:
    """A TypeError if it is no net."""
    if not isinstance(net, MLP):
        raise TypeError(f"net is of type {type(net).__name__}; expected an MLP")
    return net


def _sizes(value: Any) -> tuple[int, ...]:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        sizes = checks.several(value, "sizes")
    except TypeError:
        raise TypeError(
            f"sizes is of type {type(value).__name__}; expected a sequence of widths"
        ) from None
    if len(sizes) < 2:
        raise ValueError(f"sizes is {value!r}; expected at least 2 widths, inputs and outputs")
    return tuple(
        checks.integer(size, f"sizes[{index}]", 1, _LARGEST_SIZE)
        for index, size in enumerate(sizes)
    )


def _hidden(value: Any, count: int) -> tuple[Activation, ...]:
    if isinstance(value, (str, Activation)):
        return (activations.resolve(value, "activation"),) * count
    try:
        given = checks.several(value, "activation")
    except TypeError:  # no sequence either: this says what it should be
        given = [activations.resolve(value, "activation")]
    if len(given) != count:
        raise ValueError(
            f"activation has {len(given)} entries; expected {count}, one for each hidden layer"
        )
    return tuple(
        activations.resolve(item, f"activation[{index}]") for index, item in enumerate(given)
    )
