"""Classes as a net's targets, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from swiftnets._support.probabilities import sigmoid, softmax
from swiftnets._support.types import FloatArray

__all__ = ["Classes"]


def __dir__() -> list[str]:
    return __all__


class Classes:
    """Which classes there are, and how they are a net's targets.

    Two classes are one output with a binary cross-entropy, more one each with a softmax, and labels
    of several that a sample may have one each with a binary cross-entropy.

    Parameters
    ----------
    y : array
    classes : array, optional
        All there are, where y may lack some.

    Raises
    ------
    ValueError
        If y has no classes, or one alone.
    """

    def __init__(self, y: npt.NDArray[Any], classes: npt.NDArray[Any] | None = None) -> None:
        kind = str(type_of_target(y, input_name="y"))
        if kind not in ("binary", "multiclass"):
            check_classification_targets(y)
        if kind == "multiclass-multioutput":
            raise ValueError(
                "y has columns of several classes each; expected one column, or a multilabel "
                "indicator matrix of 0 and 1 (see sklearn.multioutput.MultiOutputClassifier)"
            )
        self.is_multilabel = kind == "multilabel-indicator"
        if self.is_multilabel:
            self.names: npt.NDArray[Any] = np.arange(np.shape(y)[1])
        else:
            self.names = np.unique(y if classes is None else classes)
        if len(self.names) < 2 and not self.is_multilabel:
            [name] = self.names.tolist()
            raise ValueError(
                f"y has one class, {name!r}; expected at least 2 classes to tell apart"
            )
        self.outputs = len(self.names) if self.is_multilabel or len(self.names) > 2 else 1
        self.loss = "binary_cross_entropy"
        if self.outputs > 1 and not self.is_multilabel:
            self.loss = "softmax_cross_entropy"

    def require(self, y: npt.NDArray[Any], *, all_of_them: bool) -> None:
        """A ValueError where y has other classes; with `all_of_them` also where it lacks some."""
        check_classification_targets(y)
        kind = str(type_of_target(y, input_name="y"))
        if (kind == "multilabel-indicator") != self.is_multilabel:
            raise ValueError(f"y is {kind}, unlike that of the fit before")
        found = np.arange(np.shape(y)[1]) if self.is_multilabel else unique_labels(y)
        new = [one for one in found.tolist() if one not in set(self.names.tolist())]
        lacks = all_of_them and len(found) < len(self.names)
        if new or lacks or (self.is_multilabel and len(found) != len(self.names)):
            raise ValueError(
                f"y has the classes {found.tolist()}; expected those of the fit before, "
                f"classes_ = {self.names.tolist()}"
            )

    def encode(self, y: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """As targets: int64 labels for a softmax, else rows of 0 and 1."""
        if self.is_multilabel:
            return np.ascontiguousarray(y, dtype)
        labels = np.searchsorted(self.names, y)
        if self.outputs > 1:
            return labels.astype(np.int64)
        return labels.astype(dtype)[:, None]

    def probabilities(self, outputs: FloatArray) -> FloatArray:
        """Of the net's outputs: a column a class, or a label."""
        if self.loss == "softmax_cross_entropy":
            return softmax(outputs)
        if self.is_multilabel:
            return sigmoid(outputs)
        return np.hstack([sigmoid(-outputs), sigmoid(outputs)])

    def columns(self, probabilities: FloatArray) -> FloatArray:
        """A column a class, of what one output says as well."""
        if self.outputs == 1 and not self.is_multilabel:
            return np.hstack([1 - probabilities, probabilities])
        return probabilities

    def decide(self, scores: FloatArray, threshold: float = 0.0) -> npt.NDArray[Any]:
        """The class of each row of outputs or, with 0.5, of the net's probabilities."""
        if self.is_multilabel:
            return np.asarray(scores > threshold, int)
        if self.outputs == 1:
            chosen = (scores[:, 0] > threshold).astype(int)
        else:
            chosen = scores.argmax(axis=1)
        found: npt.NDArray[Any] = self.names[chosen]
        return found
