"""Layers of images (C, H, W): convolution and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swiftnets._support import checks
from swiftnets.nets.layer import ArraySpec, Code, Layer, Refusal, Two, Value, pair

__all__ = ["AvgPool2d", "Conv2d", "GlobalAvgPool2d", "MaxPool2d"]


def __dir__() -> list[str]:
    return __all__


def _two(value: Two) -> tuple[int, int]:
    """A setting that `pair` made."""
    assert isinstance(value, tuple)
    return value


def _windows(x: Value, kernel: Two, stride: Two, padding: Two) -> tuple[int, int]:
    """How many windows an image has, down and across; a Refusal if none fits."""
    found = []
    for size, k, s, p in zip(x.sizes[1:], _two(kernel), _two(stride), _two(padding), strict=True):
        if size + 2 * p < k:
            height, width = (k - 2 * p for k, p in zip(_two(kernel), _two(padding), strict=True))
            raise Refusal(f"images of at least {max(height, 1)} by {max(width, 1)}")
        found.append((size + 2 * p - k) // s + 1)
    return found[0], found[1]


@dataclass(frozen=True, repr=False)
class Conv2d(Layer):
    """Convolution of an image with kernels, one for each channel that comes out.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
        Height and width, or one number for both, as below.
    stride : int or (int, int)
    padding : int or (int, int)
        Zeros on each side.
    dilation : int
        1 alone.
    groups : int
        Divides both numbers of channels: channels of one group see no others.
    bias : bool

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; the message names it.
    NotImplementedError
        If the dilation is not 1.

    Notes
    -----
    Parameters are W [kernel height, kernel width, in / groups, out], then b: PyTorch's weight
    is ``W.transpose(3, 2, 0, 1)``.

    Examples
    --------
    >>> from swiftnets import Network
    >>> from swiftnets.nets import Flatten
    >>> net = Network([Conv2d(3, 6, 5, padding=2), Flatten()], input_shape=(3, 8, 8))
    >>> net.outputs, net.parameter_count
    (384, 456)
    """

    in_channels: int
    out_channels: int
    kernel_size: Two
    stride: Two = 1
    padding: Two = 0
    dilation: Two = 1
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            object.__setattr__(self, name, checks.integer(getattr(self, name), name))
        if isinstance(self.padding, str):
            raise ValueError(
                f"padding is {self.padding!r}; expected integers (kernel_size // 2 keeps the size "
                "where the stride is 1 and the kernel odd)"
            )
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            object.__setattr__(self, name, pair(getattr(self, name), name, least))
        object.__setattr__(self, "bias", checks.flag(self.bias, "bias"))
        if self.dilation != (1, 1):
            raise NotImplementedError(f"dilation is {self.dilation}; a Conv2d has 1 alone")
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"groups is {self.groups} and {name} {getattr(self, name)}; expected a divisor"
                )

    def _usual(self, name: str, default: Any) -> Any:
        return (default, default) if name in ("stride", "padding", "dilation") else default

    def after(self, x: Value) -> Value:
        if x.kind != "image" or x.channels != self.in_channels:
            raise Refusal(f"an image ({self.in_channels}, H, W)")
        windows = _windows(x, self.kernel_size, self.stride, self.padding)
        return Value("image", (self.out_channels, *windows))

    @property
    def _taps(self) -> int:
        """Numbers that go into one that comes out."""
        height, width = _two(self.kernel_size)
        return height * width * (self.in_channels // self.groups)

    def arrays(self, x: Value) -> tuple[ArraySpec, ...]:
        height, width = _two(self.kernel_size)
        shape = (height, width, self.in_channels // self.groups, self.out_channels)
        fans = (self._taps, height * width * self.out_channels)
        layout = "kernel height, kernel width, in / groups, out"
        weight = ArraySpec("weight", shape, layout, "weights", fans)
        bias = ArraySpec("bias", (self.out_channels,), "out", "zeros")
        return (weight, bias)[: 1 + self.bias]

    def code(self, x: Value) -> Code:
        sizes = (*_two(self.kernel_size), *_two(self.stride), *_two(self.padding))
        return Code(1, (self.out_channels, *sizes, self.groups, int(self.bias)))

    def multiplications(self, x: Value) -> int:
        return self.after(x).size * self._taps


@dataclass(frozen=True, repr=False)
class _Pool(Layer):
    """What both pools of windows have."""

    kernel_size: Two
    stride: Two | None = None
    padding: Two = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel_size", pair(self.kernel_size, "kernel_size"))
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        object.__setattr__(self, "stride", pair(self.stride, "stride"))
        object.__setattr__(self, "padding", pair(self.padding, "padding", 0))
        sides = zip(_two(self.kernel_size), _two(self.padding), strict=True)
        if any(2 * padding > kernel for kernel, padding in sides):
            raise ValueError(
                f"padding is {self.padding} and kernel_size {self.kernel_size}; expected a padding "
                "of at most half the kernel"
            )

    def _usual(self, name: str, default: Any) -> Any:
        return {"stride": self.kernel_size, "padding": (0, 0)}.get(name, default)

    def after(self, x: Value) -> Value:
        if x.kind != "image":
            raise Refusal("an image (C, H, W)")
        windows = _windows(x, self.kernel_size, self.stride or 1, self.padding)
        return Value("image", (x.channels, *windows))

    @property
    def _sizes(self) -> tuple[int, ...]:
        return (*_two(self.kernel_size), *_two(self.stride or 1), *_two(self.padding))


@dataclass(frozen=True, repr=False)
class AvgPool2d(_Pool):
    """The mean of each window of an image.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int or (int, int)
        At most half the kernel.
    count_include_pad : bool
        Whether means count the zeros of the padding.

    Examples
    --------
    >>> from swiftnets import Network
    >>> from swiftnets.nets import Dense, Flatten
    >>> net = Network([AvgPool2d(2), Flatten(), Dense(4, 1)], input_shape=(1, 4, 4))
    >>> net.parameter_count
    5
    """

    count_include_pad: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        flag = checks.flag(self.count_include_pad, "count_include_pad")
        object.__setattr__(self, "count_include_pad", flag)

    def code(self, x: Value) -> Code:
        return Code(3, (*self._sizes, int(self.count_include_pad)))


@dataclass(frozen=True, repr=False)
class MaxPool2d(_Pool):
    """The maximum of each window of an image; of equal ones the first in rows counts.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int or (int, int)
        At most half the kernel; never the maximum.

    Examples
    --------
    >>> from swiftnets import Network
    >>> from swiftnets.nets import Dense, Flatten
    >>> net = Network([MaxPool2d(2), Flatten(), Dense(4, 1)], input_shape=(1, 4, 4))
    >>> net.parameter_count
    5
    """

    def code(self, x: Value) -> Code:
        return Code(4, self._sizes)


@dataclass(frozen=True, repr=False)
class GlobalAvgPool2d(Layer):
    """The mean of each channel of an image: a vector (C,); ``AdaptiveAvgPool2d(1)`` flattened.

    Examples
    --------
    >>> from swiftnets import Network
    >>> net = Network([Conv2d(1, 4, 3), "relu", GlobalAvgPool2d()], input_shape=(1, 8, 8))
    >>> net.outputs
    4
    """

    def after(self, x: Value) -> Value:
        if x.kind != "image":
            raise Refusal("an image (C, H, W)")
        return Value("vector", (x.channels,))

    def code(self, x: Value) -> Code:
        return Code(5)
