"""`Influence`: where the minimum goes without samples, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of
from swiftnets._support.types import Array, IntegerArray
from swiftnets.curvature.point import Point
from swiftnets.influence.problem import Divisor, Problem
from swiftnets.influence.refit import Refit, refit
from swiftnets.linalg import scaling

__all__ = ["Influence"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, eq=False, repr=False)
class Influence:
    """Where the minimum goes without samples, one prediction a group; made by `leave_one_out`.

    Attributes
    ----------
    point : Point
        The one given.
    order : int
    damping : float
    divisor : str
    groups : tuple of (n,) int arrays
        Which samples leave together; G groups.
    minimum : (P,) float64 array
        What moves are from: the point's w, but for Newton steps to the minimum of the float64 loss.
    terms : (order, G, P) float64 array
        Of the expansion in the weight that leaves: moves are their sum.
    gradient_norms : (G,) float64 array
        ‖∇R‖ at the prediction, R the loss without the group: computed from the parameters that are
        returned, with what rounding may hide in it added. NaN with ``certificate=None``.
    curvatures : (G,) float64 array
        A lower bound μ of the eigenvalues of the Hessian: of E at the minimum, or with
        ``certificate="prediction"`` of R at the prediction; 0 or below where there is none.
    error_estimates : (G,) float64 array
        How far the prediction is from the minimum of R, measured: the way that steps −H⁻¹ ∇R go
        from it until next to nothing is left of the gradient, and in addition
        4 √(⟨∇R, H⁻¹ ∇R⟩ / μ) for the rest of it. H and μ are those of E at the minimum, or with
        ``certificate="prediction"`` of R at the prediction. Infinite where a step leaves more than
        half of √⟨∇R, H⁻¹ ∇R⟩, where the end is seen to be a saddle, and where there is no μ. No
        bound: that the end is a minimum is not proven.
    contractions : (G,) float64 array
        What one of these steps leaves of √⟨∇R, H⁻¹ ∇R⟩ at most: far below 1 where H says how R is
        curved there.
    is_flagged : (G,) bool array
        Whether the estimate is no smaller than the move, or infinite: the prediction is then not to
        be relied on, and the minimum may be another, or none. True for all with
        ``certificate=None``.
    is_proven : bool
        Whether μ was proven, by the inertia of factors or all eigenvalues; else it is Lanczos's
        estimate.
    nullity : int
        How many eigenvalues of H are 0; moves are orthogonal to their vectors.
    null_parts : (G,) float64 array
        The part of D's gradient in their space, of its norm; 0 where there are none.
    method : str
        How H was inverted.
    """

    point: Point
    order: int
    damping: float
    divisor: Divisor
    groups: tuple[IntegerArray, ...]
    minimum: Array
    terms: Array
    gradient_norms: Array
    curvatures: Array
    error_estimates: Array
    contractions: Array
    is_flagged: npt.NDArray[np.bool_]
    is_proven: bool
    nullity: int
    null_parts: Array
    method: str
    _problem: Problem = field(repr=False)

    # Parameters

    def moves(self, order: int | None = None) -> Array:
        """By how much the parameters move.

        Parameters
        ----------
        order : int, optional
            Terms up to this one; all by default.

        Returns
        -------
        (G, P) float64 array
        """
        result: Array = self.terms[: self._terms(order)].sum(axis=0)
        return result

    def moved(self, group: int, order: int | None = None) -> Array:
        """The parameters without one group.

        Parameters
        ----------
        group : int
            Its index.
        order : int, optional
            Terms up to this one; all by default.

        Returns
        -------
        (P,) float64 array
        """
        i = checks.integer(group, "group", 0, len(self.groups) - 1)
        result: Array = self.minimum + self.terms[: self._terms(order), i].sum(axis=0)
        return result

    @property
    def move_norms(self) -> Array:
        """‖move‖ of each group (G,)."""
        norms: Array = scaling.row_norms(self.moves())
        return norms

    def _terms(self, order: int | None) -> int:
        return self.order if order is None else checks.integer(order, "order", 1, self.order)

    def _predictions(self, order: int | None) -> Iterator[tuple[int, Array]]:
        for i in range(len(self.groups)):
            yield i, self.moved(i, order)

    # What follows: evaluated at the predictions, not expanded

    def left_out_losses(self, order: int | None = None) -> Array:
        """The loss of each group at the parameters predicted without it.

        Their mean is the leave-one-out estimate of the loss on new samples.

        Parameters
        ----------
        order : int, optional
            Terms up to this one; all by default.

        Returns
        -------
        (G,) float64 array
            The mean of the group's losses by their weights, without the l2 term; NaN where all its
            weights are 0.
        """
        members = [self._problem.members(group) for group in self.groups]
        pairs = self._predictions(order)
        return np.array([self._problem.own_loss(members[i], w) for i, w in pairs])

    def left_out_loss_changes(self, order: int | None = None) -> Array:
        """`left_out_losses` less those at the minimum.

        Parameters
        ----------
        order : int, optional
            Terms up to this one; all by default.

        Returns
        -------
        (G,) float64 array
        """
        now = [
            self._problem.own_loss(self._problem.members(group), self.minimum)
            for group in self.groups
        ]
        changes: Array = self.left_out_losses(order) - np.array(now)
        return changes

    def loss_changes(
        self,
        x: Any = None,
        y: Any = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
        order: int | None = None,
    ) -> Array:
        """By how much the loss on samples changes, without the l2 term.

        Parameters
        ----------
        x, y, sample_weight : optional
            Samples as `swiftnets.Network.at` takes them; by default those of the point.
        order : int, optional
            Terms up to this one; all by default.

        Returns
        -------
        (G,) float64 array
            Of the net's reduction. Costs a forward pass a group.

        Raises
        ------
        TypeError
            If x is missing and y or weights are not.
        """
        net = self._problem.net
        if x is None:
            if y is not None or sample_weight is not None:
                raise TypeError("x is missing; expected x and y, or neither")
            samples = self._problem.point.samples
        else:
            samples = net.engine.reader.kept(x, y, sample_weight)

        def loss(w: Array) -> float:
            return net.loss_on(w, samples) - net.engine.penalty(w)

        now = loss(self.minimum)
        return np.array([loss(w) - now for _, w in self._predictions(order)])

    def outputs(self, x: npt.ArrayLike, order: int | None = None) -> Array:
        """The net's outputs at all predictions.

        Parameters
        ----------
        x : (M, …) array_like
        order : int, optional
            Terms up to this one; all by default.

        Returns
        -------
        (G, M, outputs) float64 array

        Raises
        ------
        MemoryError
            If it would not fit into memory; the message has the bytes.
        """
        net = self._problem.net
        inputs = net.engine.reader.shaped(net.engine.reader.inputs(x))
        out: Array = net.engine.empty("the outputs", len(self.groups), len(inputs), net.outputs)
        for i, w in self._predictions(order):
            out[i] = net.predict(w, inputs)
        return out

    def output_changes(self, x: npt.ArrayLike, order: int | None = None) -> Array:
        """`outputs` less those at the minimum.

        Parameters
        ----------
        x : (M, …) array_like
        order : int, optional
            Terms up to this one; all by default.

        Returns
        -------
        (G, M, outputs) float64 array
        """
        out = self.outputs(x, order)
        net = self._problem.net
        out -= net.predict(self.minimum, net.engine.reader.shaped(net.engine.reader.inputs(x)))
        return out

    def refit(self, group: int, *, max_iterations: int = 50) -> Refit:
        """Newton steps from a prediction to the minimum without the group: what there is to check.

        Parameters
        ----------
        group : int
            Its index.
        max_iterations : int

        Returns
        -------
        Refit
            Also where it has not converged: it says so. Costs a factorisation a step; steps are
            damped where they do not descend.
        """
        i = checks.integer(group, "group", 0, len(self.groups) - 1)
        most = checks.integer(max_iterations, "max_iterations")
        return refit(self._problem, self._problem.members(self.groups[i]), self.moved(i), most)

    def plot(self, ax: Any = None) -> Any:
        """Draw the estimated error of each group against its move; on the line they are equal.

        Flagged groups without an estimate are on the line.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            With the groups as ``collections[0]``, the flagged ones as ``collections[1]``.

        Raises
        ------
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.
        ValueError
            If there are no estimates.
        """
        if np.isnan(self.error_estimates).all():
            raise ValueError("there are no error estimates to draw; expected a certificate")
        ax = axes_of(ax)
        moves, good = self.move_norms, ~self.is_flagged
        errors = np.where(np.isfinite(self.error_estimates), self.error_estimates, moves)
        ax.scatter(moves[good], errors[good], s=9, label="predicted")
        ax.scatter(moves[~good], errors[~good], s=9, label="flagged")
        ax.axline((1.0, 1.0), slope=1, color="0.6", linewidth=0.8, zorder=0)
        ax.set(xscale="log", yscale="log", xlabel="move", ylabel="estimated error")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        groups = checks.counted(len(self.groups), "group")
        if all(len(group) == 1 for group in self.groups):
            groups = checks.counted(len(self.groups), "sample")
        parts = [f"{groups} left out, order {self.order}", f"by {self.method}"]
        if self.damping:
            parts.append(f"damping {self.damping:g}")
        if self.nullity:
            parts.append(f"{checks.counted(self.nullity, 'eigenvalue')} of H 0")
        if np.isfinite(self.gradient_norms).any():
            parts.append(f"{int(self.is_flagged.sum())} flagged")
        else:
            parts.append("errors not estimated")
        return f"Influence({', '.join(parts)})"
