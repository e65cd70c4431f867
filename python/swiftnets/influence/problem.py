"""The loss without some samples, R = E − D, and the derivatives that its expansion needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from swiftnets._support import checks
from swiftnets._support.types import Array, IntegerArray
from swiftnets.curvature.matrix import CurvatureMatrix
from swiftnets.curvature.point import Point
from swiftnets.linalg import scaling
from swiftnets.nets.samples import Samples

__all__ = ["DIVISORS", "ROOM", "Divisor", "Problem", "checked_groups", "digits"]


def __dir__() -> list[str]:
    return __all__


Divisor: TypeAlias = Literal["remaining", "all"]
DIVISORS: tuple[str, ...] = get_args(Divisor)

# 1 over the part of a minimum's curvature that is taken to be there where steps end beside it.
ROOM = 4.0
# Of samples whose gradients say how large the terms of a sum are.
_LOOKS = 256


class Problem:
    """E at a minimum, and what of it leaves with a group of samples.

    D is the group's part of E: its weighted losses over the sum of all weights, or as they are
    where the loss is a sum; and where a mean is to be that of the remaining samples, the same share
    of the l2 term, which makes E − D that loss times 1 less the share. With damping E has
    − ⟨g, w − w₀⟩ + ½ λ ‖w − w₀‖² added to it.

    Parameters
    ----------
    point : Point
        Of float64 and one batch.
    damping : float
    divisor : {"remaining", "all"}
    """

    def __init__(self, point: Point, damping: float, divisor: Divisor) -> None:
        self.point, self.damping, self.divisor = point, damping, divisor
        self.net, self.w = point.net, point.w
        (self._batch,) = point.samples.batches
        (whole,) = point.whole
        counts = np.ones(len(whole.x), bool) if whole.weights is None else whole.weights != 0
        # Of each sample its place among those that count, or −1.
        self._places = np.where(counts, np.cumsum(counts) - 1, -1)
        ones = np.ones(len(self._batch.x))
        self._weights: Array = ones if self._batch.weights is None else self._batch.weights
        self.averages = self.net.reduction == "mean"
        self._total = self._batch.total_weight if self.averages else 1.0
        self._summed = self.net.summing()
        # What E has taken off it so that w is its minimum.
        self._slope = point.gradient if damping else np.zeros_like(self.w)

    def at(self, w: Array) -> Problem:
        """The same at other parameters."""
        w.flags.writeable = False
        point = Point(self.net, w, Samples(self.point.whole, True), self.point.solver)
        return Problem(point, self.damping, self.divisor)

    @property
    def hessian(self) -> CurvatureMatrix:
        """Of E."""
        return self.point.hessian + self.damping

    @cached_property
    def rounding(self) -> float:
        """What rounding may leave of the norm of a gradient that is 0: u √P times its terms'.

        A model: errors of sums of many terms mostly cancel. Where the net goes through its samples
        the terms are nearly 0 themselves, and the digits of w leave more.
        """
        count = len(self._batch.x)
        rows = np.unique(np.linspace(0, count - 1, min(count, _LOOKS)).astype(int))
        point = self._part(rows, self.w)
        norms = scaling.row_norms(point.per_sample_gradients())
        mean = float(norms @ self._weights[rows]) / len(rows) * count / self._total
        mean *= self.net.loss_function.factor
        size = mean + self.net.l2 * scaling.norm(self.w)
        unit = float(np.finfo(np.float64).eps) / 2
        return max(unit * float(np.sqrt(len(self.w))) * size, digits(self.point.hessian, self.w))

    # A group

    def members(self, group: IntegerArray) -> IntegerArray:
        """Those of a group that count, by their places among such."""
        places = self._places[group]
        found: IntegerArray = places[places >= 0]
        return found

    def weight(self, members: IntegerArray) -> float:
        """The sum of their weights."""
        return float(self._weights[members].sum())

    def share(self, members: IntegerArray) -> float:
        """1 − this is what E − D is a multiple of the net's loss by: 0 for sums."""
        return self.weight(members) / self._total if self.averages else 0.0

    def unit(self, members: IntegerArray) -> float:
        """Times this what `reduced` has is R, as it is divided: 1 where by the remaining weight."""
        return 1.0 if self.divisor == "remaining" else 1 - self.share(members)

    def _part(self, members: IntegerArray, w: Array) -> Point:
        """The sum of the members' weighted losses, with the l2 term."""
        batch = self._batch.each(lambda array: array[members])
        return Point(self._summed, w, Samples([batch], True), self.point.solver)

    def _penalty(self, members: IntegerArray) -> float:
        """The l2 term of D times the divisor, in units of E's, less the one that `_part` has."""
        takes = self.averages and self.divisor == "remaining"
        return (self.weight(members) if takes else 0.0) - 1.0

    def removed(self, members: IntegerArray) -> Removed:
        """D, at the minimum."""
        ridge = self._penalty(members) * self.net.l2
        return Removed(self._part(members, self.w), ridge, self._total)

    def own_loss(self, members: IntegerArray, w: Array) -> float:
        """The mean of the members' losses by their weights, without l2; NaN if none counts."""
        if not len(members):
            return float("nan")
        whole = self._part(members, w).loss - self.net.engine.penalty(w)
        return whole / self.weight(members)

    # The loss without it, (E − D) / (1 − share): of a mean that of the remaining samples

    def _samples(self, members: IntegerArray) -> Samples:
        weights = self._weights.copy()
        weights[members] = 0
        return Samples([self._batch._replace(weights=weights)], True)

    def extra(self, members: IntegerArray) -> float:
        """A multiple of ½ ‖w‖² that the reduced loss has beside the net's own, of l2."""
        if self.divisor == "remaining" or not self.averages:
            return 0.0
        return self.net.l2 / (1 - self.share(members)) - self.net.l2

    def reduced_gradient(self, members: IntegerArray, w: Array) -> Array:
        """The gradient at w of the loss without these."""
        gradient = self.net.loss_and_gradient_on(w, self._samples(members))[1]
        return self._completed(gradient, members, w)

    def _completed(self, gradient: Array, members: IntegerArray, w: Array) -> Array:
        """With what the reduced loss has beside the net's on the remaining samples."""
        extra = self.extra(members)
        if extra:
            gradient = gradient + extra * w
        if self.damping:
            pull = self.damping * (w - self.w) - self._slope
            gradient = gradient + pull / (1 - self.share(members))
        return gradient

    def reduced(self, members: IntegerArray, w: Array) -> Reduced:
        """The loss without these, its gradient and its Hessian at w."""
        point = Point(self.net, w, self._samples(members), self.point.solver).counted
        extra, remaining = self.extra(members), 1 - self.share(members)
        loss = point.loss
        if extra:
            loss += 0.5 * extra * scaling.dot(w, w)
        if self.damping:
            move = w - self.w
            pull = 0.5 * self.damping * scaling.dot(move, move) - scaling.dot(self._slope, move)
            loss += pull / remaining
        gradient = self._completed(point.gradient, members, w)
        return Reduced(loss, gradient, point.hessian + (extra + self.damping / remaining))


class Reduced(NamedTuple):
    """The loss without some samples, at one w."""

    loss: float
    gradient: Array
    hessian: CurvatureMatrix


class Removed:
    """D's derivatives at the minimum."""

    def __init__(self, part: Point, ridge: float, divisor: float) -> None:
        self._part, self._ridge, self._divisor = part, ridge, divisor

    def gradient(self) -> Array:
        result: Array = (self._part.gradient + self._ridge * self._part.w) / self._divisor
        return result

    def product(self, v: Array) -> Array:
        """Its Hessian times v."""
        image = self._part.hessian.products(v[None])[0]
        result: Array = (image + self._ridge * v) / self._divisor
        return result

    def third(self, v: Array) -> Array:
        """Its third derivative applied to v twice."""
        result: Array = self._part.third(v, v) / self._divisor
        return result


def digits(hessian: CurvatureMatrix, w: Array) -> float:
    """By how much about a gradient changes as each weight does by its rounding.

    Parameters
    ----------
    hessian : CurvatureMatrix
    w : (P,) array

    Returns
    -------
    float
        The larger of two draws.
    """
    signs = np.random.default_rng(0).integers(0, 2, (2, len(w))) * 2 - 1
    images = hessian.products(w * signs)
    return float(np.finfo(np.float64).eps) / 2 * float(scaling.row_norms(images).max())


def checked_groups(groups: Any, count: int) -> tuple[IntegerArray, ...]:
    """Lists of indices; None is each sample alone."""
    if groups is None:
        return tuple(np.arange(count, dtype=np.int64)[:, None])
    if isinstance(groups, (str, bytes, dict)) or not checks.iterable(groups):
        raise TypeError(
            f"groups is of type {type(groups).__name__}; expected a list of indices of samples, "
            "and of lists of them"
        )
    found = tuple(_group(group, i, count) for i, group in enumerate(groups))
    if not found:
        raise ValueError("groups is empty; expected at least one group")
    return found


def _group(group: Any, i: int, count: int) -> IntegerArray:
    name = f"groups[{i}]"
    entries: Sequence[Any] = list(group) if checks.iterable(group) else [group]
    if isinstance(group, (str, bytes, dict)):
        raise TypeError(f"{name} is {group!r}; expected an index or a list of indices")
    if not entries:
        raise ValueError(f"{name} is empty; expected indices of samples")
    indices = np.array([checks.integer(n, name, 0, count - 1) for n in entries], np.int64)
    values, counts = np.unique(indices, return_counts=True)
    if (counts > 1).any():
        twice = int(values[counts.argmax()])
        raise ValueError(f"{name} has {twice} more than once; expected each sample once")
    return indices
