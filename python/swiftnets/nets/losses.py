"""Losses of `swiftnets.MLP`, each a function of one sample's outputs z and its target y.

Where a loss is asked for its name is enough, in any case, or what other libraries call it:
``"mse"`` and ``"MSELoss"``, ``"cross_entropy"``, ``"bce"``, ``"smooth_l1"``. The loss is the one of
this page: ``"mse"`` is ½ the sum of squares as well, and ``"bce"`` takes logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from swiftnets._support import checks

__all__ = [
    "BinaryCrossEntropy",
    "Huber",
    "Loss",
    "LossLike",
    "SoftmaxCrossEntropy",
    "SquaredError",
]


def __dir__() -> list[str]:
    return __all__


# In the order of the engine's numbers.
_KINDS = ("squared_error", "binary_cross_entropy", "huber", "softmax_cross_entropy")


@dataclass(frozen=True)
class Loss:
    """The loss of one sample, summed over outputs; made by the functions of this module.

    Parameters
    ----------
    name : str
        ``"squared_error"``, ``"softmax_cross_entropy"``, ``"binary_cross_entropy"`` or
        ``"huber"``.
    parameter : float
        Delta of ``"huber"``; 0 and unused for the others.
    factor : float
        Above 0: the sum or mean over samples is multiplied by it, the l2 term is not. It counts as
        a weight that all samples have in common, beside ``sample_weight``, so that the exact Fisher
        and Gauss–Newton matrices stay the same.

    Raises
    ------
    TypeError, ValueError
        If there is no such loss, or the parameter does not fit it.

    Examples
    --------
    >>> Huber(2.0).parameter
    2.0
    >>> SquaredError(factor=2)  # Σ (z - y)², without the ½
    Loss('squared_error', factor=2.0)
    """

    name: str
    parameter: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        checks.choice(self.name, "loss", _KINDS)
        if self.name == "huber":
            parameter = checks.real(self.parameter, "delta", positive=True)
        elif (parameter := checks.real(self.parameter, "parameter")) != 0:
            raise ValueError(f"parameter is {parameter}; {self.name} takes none")
        object.__setattr__(self, "parameter", parameter)
        object.__setattr__(self, "factor", checks.real(self.factor, "factor", positive=True))

    def __repr__(self) -> str:
        parts = [repr(self.name)] + [repr(self.parameter)] * (self.name == "huber")
        return f"Loss({', '.join(parts + [f'factor={self.factor}'] * (self.factor != 1))})"

    @property
    def is_elementwise(self) -> bool:
        """Whether it is a sum over outputs, each with a term of its own."""
        return self.name != "softmax_cross_entropy"

    @property
    def is_likelihood(self) -> bool:
        """Whether it is a negative log-likelihood up to a constant, so that it has a Fisher matrix.

        Squared error is that of a normal distribution of variance 1, the cross-entropies those of
        a categorical and a Bernoulli distribution.
        """
        return self.name != "huber"

    @property
    def _code(self) -> tuple[int, float]:
        return _KINDS.index(self.name), self.parameter


LossLike: TypeAlias = Loss | str


def SquaredError(*, factor: float = 1.0) -> Loss:
    """½ Σ (z - y)².

    Parameters
    ----------
    factor : float
        See `Loss`, here and below. With 2 it is Σ (z - y)².

    Returns
    -------
    Loss
    """
    return Loss("squared_error", factor=factor)


def SoftmaxCrossEntropy(*, factor: float = 1.0) -> Loss:
    """-Σ y log softmax(z), for a class label or a row of target probabilities.

    Parameters
    ----------
    factor : float

    Returns
    -------
    Loss
    """
    return Loss("softmax_cross_entropy", factor=factor)


def BinaryCrossEntropy(*, factor: float = 1.0) -> Loss:
    """Σ log(1 + exp(z)) - y z, for logits z and targets from 0 to 1.

    Parameters
    ----------
    factor : float

    Returns
    -------
    Loss
    """
    return Loss("binary_cross_entropy", factor=factor)


def Huber(delta: float = 1.0, *, factor: float = 1.0) -> Loss:
    """Σ ½ r² where abs(r) < delta, else delta (abs(r) - ½ delta), with r = z - y (Huber 1964).

    Parameters
    ----------
    delta : float
        Above 0. At r = ±delta the second derivative is the outer side's, 0.
    factor : float

    Returns
    -------
    Loss
    """
    return Loss("huber", checks.real(delta, "delta", positive=True), factor)


def resolve(value: object, name: str) -> Loss:
    """`value` as a loss; a string is one with its default parameter."""
    if isinstance(value, Loss):
        return value
    kind = checks.alias(value, name, _KINDS, "loss")
    return Huber() if kind == "huber" else Loss(kind)
