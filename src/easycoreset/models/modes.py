"""Looking at a model without leaving a trace: modes, requires_grad, `.grad` and buffers stay as they were."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 inside the `with` block: it keeps 10 bits of a float32's mantissa."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Eval mode and no parameter gradients inside the `with` block; every module's own state comes back."""
    modes = [(module, module.training) for module in model.modules() if module.training]
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for module, _ in modes:
        module.training = False
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in wanting:
            parameter.requires_grad_(True)
