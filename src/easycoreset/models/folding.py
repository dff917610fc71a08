"""Batch norm folded into the convolution before it: the same function in eval mode, with less to do."""

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

RTOL, ATOL = 1e-3, 1e-4  # of each value, of the largest; folding changes roundings only


def fold_batch_norm(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of a model in eval mode without the batch norms that follow a convolution.

    Where the model cannot be traced or has none, or where the copy gives other logits or other input gradients (a trace
    knows neither `no_grad` nor a backward pass of one's own), it is returned itself.

    Args:
        model: in eval mode, its parameters frozen; it stays as it is.
        x: a few of its inputs, on which the copy is tried.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    try:
        folded = fuse(model)
        pairs = zip(_answer(folded, x), _answer(model, x), strict=True)
        same = all(torch.allclose(own, other, RTOL, ATOL * float(other.abs().max())) for own, other in pairs)
    except Exception:  # tracing runs the user's code with what is no tensor: it may raise anything
        return model
    return folded if same else model


def _answer(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and input gradient."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        weights = torch.linspace(-1, 1, logits.shape[1], device=x.device, dtype=logits.dtype)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    return logits.detach(), gradient
