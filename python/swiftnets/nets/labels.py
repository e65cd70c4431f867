"""What a net calls its classes, and labels that are text. Users need none of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets.nets.losses import Loss

__all__ = ["codes", "names", "require_names"]


def __dir__() -> list[str]:
    return __all__


_MOST_SHOWN = 10


def names(value: Any) -> tuple[str, ...] | None:
    """The names of a net's classes, checked by themselves.

    Parameters
    ----------
    value : sequence of str, or None

    Returns
    -------
    tuple of str, or None

    Raises
    ------
    TypeError
        If it is no sequence of text.
    ValueError
        If a name is there twice, or ends with a NUL, which NumPy's text loses.
    """
    if value is None:
        return None
    if isinstance(value, (str, bytes, set, frozenset)) or not checks.iterable(value):
        raise TypeError(f"classes is {value!r}; expected a sequence of names, in order")
    found = checks.several(value, "classes")
    seen: set[str] = set()
    for index, one in enumerate(found):
        if not isinstance(one, str):
            raise TypeError(
                f"classes[{index}] is {one!r}; expected text: classes that are numbers are labels "
                "as they are, from 0"
            )
        if one.endswith("\0"):
            raise ValueError(f"classes[{index}] is {one!r}; expected text that NumPy keeps whole")
        if one in seen:
            raise ValueError(f"classes has {one!r} twice; expected each name once")
        seen.add(one)
    return tuple(map(str, found))


def require_names(classes: tuple[str, ...] | None, loss: Loss, outputs: int) -> None:
    """A ValueError where a net of this loss has not as many classes, one each."""
    if classes is None:
        return
    if loss.name == "softmax_cross_entropy":
        count, what = outputs, "one for each output"
    elif loss.name == "binary_cross_entropy" and outputs == 1:
        count, what = 2, "what 0 and 1 stand for"
    else:
        of = checks.counted(outputs, "output")
        raise ValueError(
            f"classes is given, and the loss is {loss.name!r} of {of}; expected "
            "the softmax cross-entropy, or the binary one of one output"
        )
    if len(classes) != count:
        given = checks.counted(len(classes), "name")
        raise ValueError(f"classes has {given}; expected {count}, {what}")


def codes(
    labels: npt.NDArray[Any],
    name: str,
    classes: tuple[str, ...] | None,
    counted: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int64]:
    """Labels that are text by their places among the names of the classes.

    Parameters
    ----------
    labels : (N,) array
    name : str
        For messages.
    classes : tuple of str, or None
    counted : (N,) bool array, optional
        Whether a sample counts; what does not may have any label.

    Returns
    -------
    (N,) int64 array

    Raises
    ------
    TypeError
        If the net's classes have no names.
    ValueError
        If a label is none of them.
    """
    if classes is None:
        raise TypeError(
            f"{name} has labels that are text, and the net's classes have no names; expected "
            "integers, or a net that is told which class is which: classes=("
            f"{_shown(_found(labels))}), all of them in the order of the outputs"
        )
    places = {one: place for place, one in enumerate(classes)}
    found = np.array([places.get(one, -1) for one in map(str, labels.tolist())], np.int64)
    is_unknown = found < 0
    if counted is not None and counted.shape == found.shape:
        is_unknown &= counted
    if is_unknown.any():
        raise ValueError(
            f"{name} has {_shown(_found(labels[is_unknown]))}, no class of the net; expected its "
            f"classes: {_shown(classes)}"
        )
    return np.maximum(found, 0)


def _found(labels: npt.NDArray[Any]) -> list[str]:
    return sorted(set(map(str, labels.tolist())))


def _shown(found: Sequence[str]) -> str:
    words = [repr(one) for one in found[:_MOST_SHOWN]]
    return ", ".join(words + ["…"] * (len(found) > _MOST_SHOWN))
