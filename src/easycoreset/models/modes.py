"""Using a model without changing it: modes, requires_grad, `.grad` and buffers stay as they were."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.errors import UsageError, describe_error, quote


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 in full inside the `with` block: no TF32 or bfloat16, whichever way the user allowed them."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _float32_settings()]
    try:
        for owner, name, full in _float32_settings():
            setattr(owner, name, full)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _float32_settings() -> list[tuple[Any, str, Any]]:
    """(owner, name, value for full float32) of every setting of PyTorch that lets float32 be computed in fewer bits.

    Since PyTorch 2.9 each kind of operation has a separate setting, and the older names must not be used beside it.
    """
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return [(backends.cudnn, "allow_tf32", False), (_MatrixProducts(), "precision", "highest")]
    owners = [backends.cuda.matmul, *(getattr(backends.cudnn, name) for name in ("conv", "rnn"))]
    owners += [getattr(backends.mkldnn, name) for name in ("matmul", "conv", "rnn")]
    return [(owner, "fp32_precision", "ieee") for owner in owners]


class _MatrixProducts:
    """The precision of matrix products, before PyTorch 2.9."""

    @property
    def precision(self) -> str:
        return torch.get_float32_matmul_precision()

    @precision.setter
    def precision(self, value: str) -> None:
        torch.set_float32_matmul_precision(value)


class Bf16Autocast(nn.Module):
    """A model under bf16 autocast, with float32 logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self.model(x)
        return logits.float()


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
