"""What PyTorch's modules and losses are here, and what makes a module one that can be followed."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from swiftnets._support import checks
from swiftnets.interop.nesting import TAKES_LOGITS
from swiftnets.nets import activations, losses
from swiftnets.nets.activations import Activation
from swiftnets.nets.losses import Loss

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "GivenLoss",
    "activation_of",
    "check_differentiated",
    "check_plain",
    "copied",
    "kind_of_value",
    "loss_of",
    "modules_of",
    "require_torch",
]


def __dir__() -> list[str]:
    return __all__


def require_torch() -> Any:
    """PyTorch, or how to get it.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not there.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "the conversion needs PyTorch: pip install torch, or see pytorch.org for your system"
        ) from error
    return torch


def kind_of_value(value: object) -> str:
    """What a value is, for messages.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
    """
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance of it"
    return f"of type {type(value).__name__}"


def check_plain(module: nn.Module) -> None:
    """An error where calls, or derivatives, are not those of the modules' own forward.

    Parameters
    ----------
    module : torch.nn.Module

    Raises
    ------
    ValueError
        Naming the part.
    """
    from torch import nn
    from torch.nn.utils import parametrize

    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(f"parameter {name} is not initialised; expected numbers")
        if parameter.device.type == "meta":
            raise ValueError(f"parameter {name} is on the meta device; expected numbers")
        if parameter._backward_hooks:
            raise ValueError(f"parameter {name} has a backward hook; expected none")
    kinds = ("forward_pre", "forward", "backward_pre", "backward")
    for name, part in module.named_modules():
        where = f"module {name or type(part).__name__} ({type(part).__name__})"
        if parametrize.is_parametrized(part):
            names = " and ".join(part.parametrizations)
            raise ValueError(
                f"{where} has a parametrization of its {names}; expected plain parameters: see "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
        for kind in kinds:
            if getattr(part, f"_{kind}_hooks", None):
                raise ValueError(
                    f"{where} has a {kind.replace('_', '-')} hook; expected none (weight_norm and "
                    "spectral_norm of old, and pruning, are such hooks, and have their own removal)"
                )
        if "forward" in vars(part):
            raise ValueError(f"{where} has a forward of its own instance; expected its class's")


def check_differentiated(module: nn.Module, output: torch.Tensor) -> None:
    """An error where PyTorch does not differentiate outputs in a parameter that is not frozen.

    Parameters
    ----------
    module : torch.nn.Module
    output : torch.Tensor
        What it returned, recorded for gradients.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    import torch

    if torch.is_inference_mode_enabled():  # in which nothing is recorded
        return
    free = {name: p for name, p in module.named_parameters() if p.requires_grad and p.numel()}
    if output.requires_grad:
        found = torch.autograd.grad(output.sum(), list(free.values()), allow_unused=True)
        lost = [name for name, gradient in zip(free, found, strict=True) if gradient is None]
    else:
        lost = list(free)
    if lost:
        raise ValueError(
            f"parameter {lost[0]} has no gradient in PyTorch, as under torch.no_grad in the "
            "forward; expected one that is differentiated in all its parameters"
        )


def copied(module: nn.Module) -> nn.Module:
    """A copy on the CPU, so that following and calling it leaves no trace in the module.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If it cannot be copied.
    """
    import torch

    # Results that a forward keeps in the module have a history, which copies do not.
    kept = [value for part in module.modules() for value in vars(part).values()]
    known = {id(v): v.detach() for v in kept if isinstance(v, torch.Tensor) and not v.is_leaf}
    try:
        return copy.deepcopy(module, known).cpu()
    except Exception as error:
        raise ValueError(
            f"module cannot be copied ({error}); expected one that copy.deepcopy takes"
        ) from error


def activation_of(part: nn.Module, name: str) -> Activation:
    """The activation that a module is.

    Parameters
    ----------
    part : torch.nn.Module
    name : str

    Returns
    -------
    Activation

    Raises
    ------
    TypeError
        If there is no such activation.
    ValueError
        If it has settings that ours has not.
    """
    from torch import nn

    simple = {
        nn.ReLU: activations.ReLU,
        nn.Tanh: activations.Tanh,
        nn.Sigmoid: activations.Sigmoid,
        nn.SiLU: activations.SiLU,
    }
    for kind, make in simple.items():
        if isinstance(part, kind):
            return make()
    where = f"module {name} ({part})"
    if isinstance(part, nn.LeakyReLU):
        return activations.LeakyReLU(checks.real(part.negative_slope, f"the slope of {where}"))
    if isinstance(part, nn.ELU):
        return activations.ELU(checks.real(part.alpha, f"the alpha of {where}"))
    if isinstance(part, nn.GELU):
        return activations.GELU("tanh" if part.approximate == "tanh" else "none")
    if isinstance(part, nn.Softplus):
        if part.beta != 1:
            raise ValueError(f"{where} has beta {part.beta}; expected 1")
        # Below 20 its linear branch is felt; beyond 88, exp overflows in float32.
        if not 20 <= part.threshold <= 80:
            raise ValueError(f"{where} has threshold {part.threshold}; expected 20 (or up to 80)")
        return activations.Softplus()
    hint = ""
    if isinstance(part, (nn.Softmax, nn.LogSoftmax)):
        hint = TAKES_LOGITS
    raise TypeError(
        f"module {name} is of type {type(part).__name__}; expected Linear, ReLU, LeakyReLU, ELU, "
        f"Tanh, Sigmoid, Softplus, SiLU, GELU, or BatchNorm1d in evaluation{hint}"
    )


class GivenLoss(NamedTuple):
    """A loss and a reduction, where those of PyTorch's may be means over all outputs, too.

    Attributes
    ----------
    loss : Loss
    reduction : str
    divides_by_outputs : bool
    """

    loss: Loss
    reduction: str
    divides_by_outputs: bool = False

    def of(self, outputs: int) -> Loss:
        """The loss of a net.

        Parameters
        ----------
        outputs : int

        Returns
        -------
        Loss
        """
        if not self.divides_by_outputs:
            return self.loss
        return replace(self.loss, factor=self.loss.factor / outputs)


def loss_of(loss: Any, reduction: str | None = None) -> GivenLoss:
    """The net's loss and reduction.

    Parameters
    ----------
    loss : str, Loss, or a PyTorch loss
    reduction : str, optional

    Returns
    -------
    GivenLoss

    Raises
    ------
    TypeError
        If the loss is a class.
    ValueError
        If a net has no such loss, or both say another reduction.
    """
    from torch import nn

    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise TypeError(f"loss is {kind_of_value(loss)}; expected {loss.__name__}()")
    if not isinstance(loss, nn.Module):
        return GivenLoss(losses.resolve(loss, "loss"), "sum" if reduction is None else reduction)
    found = _loss(loss)
    own = str(loss.reduction)
    if own not in ("sum", "mean"):
        raise ValueError(
            f'loss is {type(loss).__name__}(reduction="{own}"); expected "sum" or "mean": a net\'s '
            "loss is one number (for single samples see Point.per_sample_gradients)"
        )
    if reduction not in (None, own):
        raise ValueError(
            f"reduction is {reduction!r} and the loss's {own!r}; expected the same, or one of them"
        )
    return GivenLoss(found, own, own == "mean" and found.is_elementwise)


def _loss(loss: nn.Module) -> Loss:
    """What a sum over samples is of."""
    from torch import nn

    if loss._forward_hooks or loss._forward_pre_hooks:
        raise ValueError(f"loss ({loss}) has a hook; expected none")
    kind: Any = loss
    if type(loss) is nn.CrossEntropyLoss:
        if kind.weight is not None or kind.label_smoothing or kind.ignore_index >= 0:
            raise ValueError(
                f"loss ({loss}) has class weights, an ignore_index from 0 or label smoothing; "
                "expected none of them (see sample_weight)"
            )
        return losses.SoftmaxCrossEntropy()
    if type(loss) is nn.BCEWithLogitsLoss:
        if kind.weight is not None or kind.pos_weight is not None:
            raise ValueError(f"loss ({loss}) has weights; expected none (see sample_weight)")
        return losses.BinaryCrossEntropy()
    if type(loss) is nn.MSELoss:
        return losses.SquaredError(factor=2)  # ours has a ½
    if type(loss) is nn.HuberLoss:
        return losses.Huber(kind.delta)
    if type(loss) is nn.SmoothL1Loss and kind.beta > 0:
        return losses.Huber(kind.beta, factor=1 / kind.beta)
    hint = ""
    if isinstance(loss, nn.NLLLoss):
        hint = "; CrossEntropyLoss is NLLLoss of LogSoftmax, which is left out of the module"
    elif isinstance(loss, nn.BCELoss):
        hint = "; BCEWithLogitsLoss is BCELoss of Sigmoid, which is left out of the module"
    raise ValueError(
        f"loss is {loss}; expected CrossEntropyLoss, BCEWithLogitsLoss, MSELoss, HuberLoss, "
        f"SmoothL1Loss with beta > 0, or a loss of swiftnets.nets.losses{hint}"
    )


def modules_of(activation: Activation) -> list[nn.Module]:
    """The modules that an activation is: one, or none for the identity.

    Parameters
    ----------
    activation : Activation

    Returns
    -------
    list of torch.nn.Module

    Raises
    ------
    ValueError
        If PyTorch has no module for it.
    """
    from torch import nn

    simple = {
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
    }
    if activation.name == "identity":
        return []
    if activation.name in simple:
        return [simple[activation.name]()]
    if activation.name == "leaky_relu":
        return [nn.LeakyReLU(activation.parameter)]
    if activation.name == "elu":
        return [nn.ELU(activation.parameter)]
    if activation.name == "gelu_tanh":
        return [nn.GELU(approximate="tanh")]
    if activation.name == "softplus":
        return [nn.Softplus(threshold=40)]  # where log(1 + exp(a)) is a in float64, too
    raise ValueError(f"activation is {activation.name!r}, which PyTorch has no module for")
