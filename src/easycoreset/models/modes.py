"""Using a model without changing it: modes, requires_grad, `.grad` and buffers stay as they were."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from easycoreset.errors import UsageError, describe_error, quote


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Disable TF32, which keeps only 10 bits of a float32's mantissa, inside the `with` block."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Eval mode and no parameter gradients inside the `with` block; afterwards each module's state is restored."""
    modes = [(module, module.training) for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for module, _ in modes:
        module.training = False
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's parameters or buffers; the CPU if it has none."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def has_input_gradient(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether any gradient of a model's logits reaches its input [B,C,H,W], however large the logits are."""
    with frozen(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        if not logits.requires_grad:
            return False
        weights = torch.linspace(-1, 1, logits.shape[1], device=x.device, dtype=logits.dtype)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x, allow_unused=True)
    return gradient is not None and bool((gradient != 0).any())


def check_input_gradient(model: nn.Module, x: torch.Tensor, name: str) -> None:
    """Refuse a model whose input [B,C,H,W] gets no gradient from its logits.

    Raises:
        UsageError: no gradient arrives, or the model fails when its input requires one; names the model.
    """
    rule = f"model {quote(name)} must let gradients through to its input"
    try:
        passes = has_input_gradient(model, x)
    except Exception as error:  # a user's model may raise anything
        raise UsageError(f"{rule}: {describe_error(error)}") from None
    if not passes:
        raise UsageError(f"{rule}; none arrives (detach, no_grad or a threshold inside it?)")
