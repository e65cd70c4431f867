"""Normalisation: of each sample by itself, or by statistics that are fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftnets._support import checks
from swiftnets.nets.layer import ArraySpec, Code, Layer, Refusal, Value

__all__ = ["BatchNorm", "BatchNorm2d", "GroupNorm", "LayerNorm"]


def __dir__() -> list[str]:
    return __all__


def _check(layer: Any) -> None:
    object.__setattr__(layer, "eps", checks.real(layer.eps, "eps", positive=True))
    object.__setattr__(layer, "affine", checks.flag(layer.affine, "affine"))


def _arrays(channels: int, affine: bool) -> tuple[ArraySpec, ...]:
    gamma = ArraySpec("weight", (channels,), "channels", "ones")
    beta = ArraySpec("bias", (channels,), "channels", "zeros")
    return (gamma, beta) if affine else ()


@dataclass(frozen=True, repr=False)
class LayerNorm(Layer):
    """Each vector, or each position of a sequence, by its own mean and variance.

    (x - mean) / sqrt(variance + eps), times gamma, plus beta (Ba, Kiros & Hinton 2016).

    Parameters
    ----------
    normalized_shape : int
        The last dimension.
    eps : float
        Above 0.
    affine : bool
        Whether there are gamma and beta; PyTorch's ``elementwise_affine``.

    Examples
    --------
    >>> from swiftnets import Network
    >>> Network([LayerNorm(4)], input_shape=4).parameter_count
    8
    """

    normalized_shape: int
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        given: Any = self.normalized_shape
        if isinstance(given, (tuple, list)):
            if len(given) != 1:
                raise ValueError(
                    f"normalized_shape is {given}; expected one number: the last dimension is "
                    "normalised (for images see GroupNorm)"
                )
            given = given[0]
        object.__setattr__(self, "normalized_shape", checks.integer(given, "normalized_shape"))
        _check(self)

    def after(self, x: Value) -> Value:
        n = self.normalized_shape
        if x.kind not in ("vector", "sequence") or x.channels != n:
            raise Refusal(
                f"a vector ({n},) or a sequence (T, {n})"
                + "; for images see GroupNorm(1, …)" * (x.kind == "image")
            )
        return x

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        return _arrays(self.normalized_shape, self.affine)

    def code(self, x: Value) -> Code:
        return Code(7, (int(self.affine),), self.eps)


@dataclass(frozen=True, repr=False)
class GroupNorm(Layer):
    """Each group of channels of an image or a vector by its own mean and variance.

    As `LayerNorm`, over all positions of a group's channels (Wu & He 2018).

    Parameters
    ----------
    num_groups : int
    num_channels : int
        A multiple of it.
    eps : float
        Above 0.
    affine : bool
        Whether there are gamma and beta, one a channel.

    Examples
    --------
    >>> from swiftnets import Network
    >>> from swiftnets.nets import GlobalAvgPool2d
    >>> Network([GroupNorm(2, 4), GlobalAvgPool2d()], input_shape=(4, 8, 8)).parameter_count
    8
    """

    num_groups: int
    num_channels: int
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        for name in ("num_groups", "num_channels"):
            object.__setattr__(self, name, checks.integer(getattr(self, name), name))
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"num_groups is {self.num_groups} and num_channels {self.num_channels}; expected "
                "a divisor"
            )
        _check(self)

    def after(self, x: Value) -> Value:
        n = self.num_channels
        if x.kind not in ("vector", "image") or x.channels != n:
            raise Refusal(f"an image ({n}, H, W) or a vector ({n},)")
        return x

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        return _arrays(self.num_channels, self.affine)

    def code(self, x: Value) -> Code:
        return Code(8, (self.num_groups, int(self.affine)), self.eps)


@dataclass(frozen=True, repr=False)
class BatchNorm(Layer):
    """Each channel by a mean and a variance that are fixed: a batch norm after ``model.eval()``.

    (x - mean) / sqrt(var + eps), times gamma, plus beta.

    Parameters
    ----------
    mean, var : (C,) array_like
        PyTorch's ``running_mean`` and ``running_var``; variances are not negative.
    eps : float
        Above 0.
    affine : bool
        Whether there are gamma and beta, one a channel.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above. In training a batch norm takes the batch's own statistics,
        so that no sample has a loss of its own: there is no such layer here.

    Examples
    --------
    >>> from swiftnets import Network
    >>> Network([BatchNorm([0.0, 1.0], [1.0, 4.0])], input_shape=2).parameter_count
    4
    """

    mean: Sequence[float]
    var: Sequence[float] | None = None
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        if self.var is None or np.ndim(self.mean) == 0:
            raise TypeError(
                f"{type(self).__name__} takes the statistics mean and var, of running averages "
                "(see model.eval()): in training mode a batch norm couples the samples, and no "
                "sample has a loss of its own; GroupNorm does without statistics"
            )
        for name in ("mean", "var"):
            array = checks.array(getattr(self, name), name, ("C",))
            checks.finite(array, name)
            object.__setattr__(self, name, tuple(map(float, array)))
        if len(self.mean) != len(self.var):
            raise ValueError(
                f"mean has {len(self.mean)} entries and var {len(self.var)}; expected as many"
            )
        if min(self.var) < 0:
            raise ValueError(f"var has {min(self.var)}; expected variances that are not negative")
        _check(self)

    def after(self, x: Value) -> Value:
        n = len(self.mean)
        if x.kind == "tokens" or x.channels != n:
            raise Refusal(f"{n} channels: ({n},), ({n}, H, W) or (T, {n})")
        return x

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        return _arrays(len(self.mean), self.affine)

    def code(self, x: Value) -> Code:
        return Code(9, (int(self.affine), len(self.mean)), self.eps)

    @property
    def statistics(self) -> tuple[float, ...]:
        return (*self.mean, *(self.var or ()))

    def _usual(self, name: str, default: Any) -> Any:
        return None if name == "var" else default


@dataclass(frozen=True, repr=False)
class BatchNorm2d(BatchNorm):
    """`BatchNorm` of images alone.

    Parameters
    ----------
    mean, var : (C,) array_like
    eps : float
    affine : bool

    Examples
    --------
    >>> from swiftnets import Network
    >>> from swiftnets.nets import GlobalAvgPool2d
    >>> norm = BatchNorm2d([0.0, 1.0], [1.0, 4.0], affine=False)
    >>> Network(["tanh", norm, "tanh", GlobalAvgPool2d()], input_shape=(2, 4, 4))
    Traceback (most recent call last):
    ...
    ValueError: layers have no parameters; expected at least one that has
    """

    def after(self, x: Value) -> Value:
        n = len(self.mean)
        if x.kind != "image" or x.channels != n:
            raise Refusal(f"an image ({n}, H, W)")
        return x
