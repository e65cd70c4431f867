"""Classes: what a net's outputs say of them, and how often that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.probabilities import sigmoid, softmax
from swiftnets._support.types import FloatArray, IntegerArray
from swiftnets.nets.losses import Loss
from swiftnets.nets.network import BaseNetwork
from swiftnets.nets.samples import Batch, positive_total

__all__ = ["ClassifyingNetwork"]


def __dir__() -> list[str]:
    return __all__


class ClassifyingNetwork(BaseNetwork):
    """A net that is asked for classes; see `swiftnets.Network`."""

    def predict_probabilities(self, w: npt.ArrayLike, x: npt.ArrayLike) -> FloatArray:
        """Probabilities of the classes: the softmax or the sigmoid of the outputs.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, …) array_like

        Returns
        -------
        (N, outputs) float array
            With the binary cross-entropy each output is a class of its own; else rows sum to 1.

        Raises
        ------
        ValueError
            If the loss is no cross-entropy.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((1, 2), bias=False, loss="softmax_cross_entropy")
        >>> net.predict_probabilities([0.0, 1.0], [[0.0], [2.0]]).round(3)
        array([[0.5  , 0.5  ],
               [0.119, 0.881]])
        """
        return _probabilities(self.loss_function, self.predict(w, x))

    def predict_classes(
        self, w: npt.ArrayLike, x: npt.ArrayLike, *, threshold: float = 0.5
    ) -> npt.NDArray[Any]:
        """The classes that the outputs say.

        Parameters
        ----------
        w : (P,) array_like
        x : (N, …) array_like
        threshold : float
            Where there are two classes, the second is where its probability is above this; with
            squared error and Huber's loss of one output, where the output is. Else the class is
            that of the largest output, the first of several.

        Returns
        -------
        (N,) int64 array
            Of names, where the net has `classes`. (N, outputs) of zeros and ones where the loss is
            the binary cross-entropy of several outputs.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above.
        FloatingPointError
            If an output is NaN, which says no class.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((1, 1), bias=False, loss="binary_cross_entropy")
        >>> net.predict_classes([1.0], [[-2.0], [1.0], [2.0]])
        array([0, 1, 1])
        >>> net.predict_classes([1.0], [[-2.0], [1.0], [2.0]], threshold=0.8)
        array([0, 0, 1])
        >>> net = MLP((1, 1), bias=False, loss="binary_cross_entropy", classes=("no", "yes"))
        >>> net.predict_classes([1.0], [[-2.0], [1.0], [2.0]])
        array(['no', 'yes', 'yes'], dtype='<U3')
        """
        loss = self.loss_function
        threshold = _threshold(loss, self.outputs, threshold)
        outputs = self.predict(w, x)
        _require_numbers(outputs, "outputs")
        found = _classes(loss, outputs, threshold)
        return found if self.classes is None else np.array(self.classes)[found]

    def accuracy(
        self,
        w: npt.ArrayLike,
        x: Any,
        y: Any = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
        threshold: float = 0.5,
    ) -> float:
        """The share of samples whose class is right.

        Parameters
        ----------
        w, x, y, sample_weight
            As for `loss`; of rows of targets the largest is the class, and of single ones what is
            above ½.
        threshold : float
            As for `predict_classes`.

        Returns
        -------
        float
            From 0 to 1. With the binary cross-entropy of several outputs a sample is right where
            all of them are, as scikit-learn has it.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above, or the weights sum to 0.
        FloatingPointError
            If an output or a target of a sample that counts is NaN, which says no class.

        Examples
        --------
        >>> from swiftnets import MLP
        >>> net = MLP((1, 1), bias=False, loss="binary_cross_entropy")
        >>> net.accuracy([1.0], [[-2.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        0.75
        """
        vector, loss = self.engine.vector(w, "w"), self.loss_function
        threshold = _threshold(loss, self.outputs, threshold)
        reader = self.engine.reader
        right, total = 0.0, 0.0
        for batch in reader.samples(x, y, sample_weight).batches:
            outputs = self.predict(vector, reader.shaped(batch.x))
            _require_numbers(outputs, "outputs")
            found = _classes(loss, outputs, threshold)
            part, weight = _counts(loss, batch, found)
            right, total = right + part, total + weight
        return right / positive_total(total)


def _probabilities(loss: Loss, outputs: FloatArray) -> FloatArray:
    """Of classes by their logits: a softmax, or a sigmoid each.

    Parameters
    ----------
    loss : Loss
    outputs : (N, outputs) float array

    Returns
    -------
    (N, outputs) float array

    Raises
    ------
    ValueError
        If the loss is no cross-entropy.
    """
    if loss.name not in ("softmax_cross_entropy", "binary_cross_entropy"):
        raise ValueError(
            f"the net's loss is {loss.name!r}, whose outputs are no logits; expected a "
            "cross-entropy: 'softmax_cross_entropy' or 'binary_cross_entropy'"
        )
    with np.errstate(invalid="ignore", under="ignore"):
        return sigmoid(outputs) if _is_binary(loss) else softmax(outputs)


def _threshold(loss: Loss, count: int, threshold: Any) -> float:
    """A threshold, checked, for a net of so many outputs."""
    number = checks.real(threshold, "threshold")
    is_softmax = loss.name == "softmax_cross_entropy"
    if loss.name.endswith("cross_entropy") and not 0 <= number <= 1:
        raise ValueError(f"threshold is {number}; expected a probability")
    if number != 0.5 and not (_is_binary(loss) or count == 1 + is_softmax):
        raise ValueError(
            f"threshold is {number}, and the class is the largest of {count} outputs; expected 0.5"
        )
    return number


def _require_numbers(values: FloatArray, name: str) -> None:
    """A FloatingPointError where there is a NaN: it compares as the first class."""
    if np.isnan(values).any():
        count = int(np.isnan(values).any(axis=1).sum())
        raise FloatingPointError(
            f"{name} of {checks.counted(count, 'sample')} have NaN, which is no class"
        )


def _is_binary(loss: Loss) -> bool:
    return loss.name == "binary_cross_entropy"


def _classes(loss: Loss, outputs: FloatArray, threshold: float) -> IntegerArray:
    """As `swiftnets.Network.predict_classes`, of outputs."""
    count = outputs.shape[1]
    if _is_binary(loss):
        # What a probability rounds to does not count where the logit's sign decides.
        above = outputs > 0 if threshold == 0.5 else _probabilities(loss, outputs) > threshold
        return (above[:, 0] if count == 1 else above).astype(np.int64)
    if loss.name == "softmax_cross_entropy" and threshold != 0.5:
        return (_probabilities(loss, outputs)[:, 1] > threshold).astype(np.int64)
    if count == 1 and loss.name != "softmax_cross_entropy":
        return (outputs[:, 0] > threshold).astype(np.int64)
    largest: IntegerArray = outputs.argmax(axis=1)
    return largest


def _counts(loss: Loss, batch: Batch, found: IntegerArray) -> tuple[float, float]:
    """The weight of the samples of a batch whose classes are right, and of all.

    Parameters
    ----------
    loss : Loss
    batch : Batch
    found : (N,) or (N, outputs) int64 array

    Returns
    -------
    tuple of two float
    """
    true: npt.NDArray[Any]
    if batch.labels is not None:
        true = batch.labels
    else:
        targets = batch.targets
        assert targets is not None
        _require_numbers(targets, "targets")
        if found.ndim == 2:
            true = targets > 0.5
        elif targets.shape[1] == 1:
            true = targets[:, 0] > 0.5
        else:
            true = targets.argmax(axis=1)
    right = true == found
    if right.ndim == 2:
        right = right.all(axis=1)
    if batch.weights is None:
        return float(np.count_nonzero(right)), float(len(right))
    weights = batch.weights.astype(np.float64)
    return float(weights[right].sum()), float(weights.sum())
