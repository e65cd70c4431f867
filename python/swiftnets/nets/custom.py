"""`CustomActivation`: a function of one's own with its derivatives, which are checked."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np

from swiftnets._support.types import Array, FloatArray
from swiftnets.nets.activations import Activation, is_name

__all__ = ["CustomActivation"]


def __dir__() -> list[str]:
    return __all__


Function: TypeAlias = Callable[[Any], Any]

_WHAT = ("value", *(f"{nth} derivative" for nth in ("first", "second", "third", "fourth")))

# Central differences of order 8 (Fornberg 1988). Points and steps are such that their sums are
# exact, and integers, where functions in pieces have their joints, are between the stencils.
_WEIGHTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
_STEP = 2.0**-7
_POINTS: Array = np.arange(-63, 64, 2) / 16
_EPS = float(np.finfo(np.float64).eps)
# What values may be off by, of their largest: their formulas may cancel.
_OWN = 64 * _EPS


@dataclass(frozen=True, init=False, repr=False)
class CustomActivation(Activation, internal=("evaluate", "require_samples", "samples")):
    r"""An activation of one's own: NumPy functions for its value and its derivatives.

    Parameters
    ----------
    name : str
        What it is called. By it, and by the functions' values at the points below, `settings` and
        so checkpoints tell it from others.
    value : callable
        Of an array (n,) of float64 or float32, which it cannot write to: an array (n,) of floating
        numbers, each of the entry in its place alone.
    *derivatives : callable
        Likewise the first, and as far as they are wanted the second, third and fourth derivative.
        Gradients and Jacobians take the first, what has to do with curvature two, third derivatives
        three and fourth ones four.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or a function returns something else; if a derivative is not
        the one of the function before it, as differences tell at 64 points from −4 to 4, with the
        place and both numbers.

    Notes
    -----
    A derivative f′ is compared with central differences D of order 8 of f, with steps h = 2⁻⁷ and
    h / 2. It may be off by \|D(h) − D(h / 2)\|, which is about 256 times the truncation error of
    the second, and by what values of f that are right to 64 ε of their largest make of the sums.
    Near a jump nothing is found, as nothing is known there.

    Calls that evaluate the net run on the thread that calls, which takes turns with Python's other
    threads; a product with the matrix of a point evaluates nothing. NumPy's warnings are off
    meanwhile, and some of the numbers that come are no net's: anything may come. What a function
    raises ends the call. A net pickles if its functions do; a file that `save` writes has names
    alone, and `load` is given the activations again. Two are equal if their names are and their
    functions are the same objects: whether others compute the same cannot be told. What needs
    smooth nets takes the function for smooth.

    Examples
    --------
    >>> from swiftnets import MLP
    >>> square = CustomActivation("square", lambda a: a * a, lambda a: 2 * a, lambda a: 0 * a + 2)
    >>> MLP((1, 1), output_activation=square).predict([3.0, 0.0], [[2.0]])
    array([[36.]])
    >>> square == CustomActivation("square", *square.functions)
    True
    >>> square == CustomActivation("square", lambda a: a * a, lambda a: 2 * a, lambda a: 0 * a + 2)
    False
    >>> CustomActivation("cube", lambda a: a**3, lambda a: 2 * a**2)
    Traceback (most recent call last):
    ValueError: the first derivative of 'cube' is 31.0... at -3.9375, where differences ...
    """

    functions: tuple[Function, ...] = ()

    def __init__(self, name: str, value: Function, *derivatives: Function) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name is of type {type(name).__name__}; expected a string")
        if not name or is_name(name):
            raise ValueError(f"name is {name!r}; expected one that no activation has yet")
        functions = (value, *derivatives)
        if not 2 <= len(functions) <= len(_WHAT):
            raise TypeError(
                f"{len(derivatives)} derivatives are given; expected the first, and up to four"
            )
        for what, function in zip(_WHAT, functions, strict=False):
            if not callable(function):
                raise TypeError(
                    f"the {what} is of type {type(function).__name__}; expected a function"
                )
        for field, given in [("name", name), ("parameter", 0.0), ("functions", functions)]:
            object.__setattr__(self, field, given)
        self._check()

    @property
    def _code(self) -> tuple[int, float]:
        return 0, 0.0  # the engine takes the function in place of this

    def __repr__(self) -> str:
        return f"CustomActivation({self.name!r})"

    def settings(self) -> list[object]:
        return ["CustomActivation", dict(zip(("name", "values"), self.key, strict=True))]

    @cached_property
    def key(self) -> list[object]:
        values = [self._values(k, _POINTS).tobytes() for k in range(len(self.functions))]
        return [self.name, sha256(b"".join(values)).hexdigest()]

    @property
    def samples(self) -> FloatArray:
        """The function at the points above, which tell a file's from another of its name."""
        return self._values(0, _POINTS)

    def require_samples(self, there: FloatArray) -> None:
        """A ValueError if the function is not the one that `samples` were taken of.

        Parameters
        ----------
        there : (64,) float64 array
            Maybe of another machine, which rounds otherwise.

        Raises
        ------
        ValueError
            With the place and both numbers.
        """
        here = self.samples
        excess = abs(here - there) - 2 * _OWN * abs(here).max()
        at = int(np.argmax(excess))
        if excess[at] > 0:
            raise ValueError(
                f"{self.name!r} is {here[at]} at {_POINTS[at]}, where the one that was saved is "
                f"{there[at]}; expected the same function"
            )

    def function(self, dtype: np.dtype[Any]) -> Callable[[int, bytes], tuple[FloatArray, ...]]:
        # Not itself: the garbage collector does not see what the engine holds, and the function may
        # be a method of what holds the net.
        return partial(_evaluate, weakref.ref(self), dtype)

    def evaluate(self, dtype: np.dtype[Any], order: int, data: bytes) -> tuple[FloatArray, ...]:
        """Derivatives 0 to `order`, as the engine asks for them.

        Parameters
        ----------
        dtype : numpy.dtype
        order : int
        data : bytes

        Returns
        -------
        tuple of arrays of dtype

        Raises
        ------
        TypeError
            If a function returns something else than was expected.
        ValueError
            If a derivative is missing.
        """
        if order >= len(self.functions):
            raise ValueError(
                f"{self!r} was given no more than its {_WHAT[len(self.functions) - 1]}, and this "
                f"call takes the {_WHAT[order]}; expected all up to that one"
            )
        a = np.frombuffer(data, dtype)
        # No generator: that would make another error of a StopIteration.
        return tuple([self._values(k, a) for k in range(order + 1)])

    def _values(self, k: int, a: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            found = self.functions[k](a)
        is_array = isinstance(found, np.ndarray) and not isinstance(found, np.ma.MaskedArray)
        if not is_array or found.dtype.kind != "f" or found.shape != a.shape:
            given = (
                f"an array {found.shape} of {found.dtype}"
                if is_array
                else f"an object of type {type(found).__name__}"
            )
            raise TypeError(
                f"the {_WHAT[k]} of {self.name!r} returns {given} for an array {a.shape} of "
                f"{a.dtype}; expected an array of that shape, of float64 or float32"
            )
        with np.errstate(all="ignore"):
            # A copy: functions may fill one array again and again.
            return np.array(found, a.dtype, order="C")

    def _check(self) -> None:
        """What is said above of the functions, by samples."""
        points = _POINTS.copy()
        points.setflags(write=False)
        for k, what in enumerate(_WHAT[: len(self.functions)]):
            self._values(k, points.astype(np.float32))
            values = self._values(k, points)
            if not np.isfinite(values).all():
                at = int(np.argmin(np.isfinite(values)))
                raise ValueError(
                    f"the {what} of {self.name!r} is {values[at]} at {points[at]}; expected finite "
                    "numbers from -4 to 4"
                )
            few = slice(5, 14)
            if (abs(self._values(k, points[few]) - values[few]) > _OWN * abs(values).max()).any():
                raise ValueError(
                    f"the {what} of {self.name!r} gives other numbers where an array has other "
                    "entries besides; expected a function of each entry alone"
                )
            if k > 0:
                self._compare(k, values)

    def _compare(self, k: int, values: FloatArray) -> None:
        """A ValueError if `values` are not the derivatives of function k − 1 at the points."""
        coarse, fine = (self._differences(k - 1, step) for step in (_STEP, _STEP / 2))
        size = abs(self._values(k - 1, _POINTS)).max() + abs(_POINTS).max() * abs(fine).max()
        rounding = 2 * sum(map(abs, _WEIGHTS)) / (_STEP / 2) * _OWN * size
        with np.errstate(all="ignore"):  # what is not finite tells nothing
            allowed = abs(coarse - fine) + rounding + _OWN * abs(values).max()
            excess = np.nan_to_num(abs(values - fine) - allowed, nan=0.0)
        at = int(np.argmax(excess))
        if excess[at] <= 0:
            return
        raise ValueError(
            f"the {_WHAT[k]} of {self.name!r} is {values[at]} at {_POINTS[at]}, where differences "
            f"of the {_WHAT[k - 1]} give {fine[at]}; expected its derivative"
        )

    def _differences(self, k: int, step: float) -> FloatArray:
        total: FloatArray = np.zeros_like(_POINTS)
        for j, weight in enumerate(_WEIGHTS, 1):
            ahead, behind = (self._values(k, _POINTS + sign * j * step) for sign in (1, -1))
            with np.errstate(all="ignore"):
                total = total + weight / step * (ahead - behind)
        return total


def _evaluate(
    activation: weakref.ref[CustomActivation], dtype: np.dtype[Any], order: int, data: bytes
) -> tuple[FloatArray, ...]:
    found = activation()
    if found is None:  # the net's `Engine` holds it, and is itself garbage
        raise ReferenceError("the net is being collected; expected a call before that")
    return found.evaluate(dtype, order, data)
