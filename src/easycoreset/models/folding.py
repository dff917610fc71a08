"""Batch norm folded into the convolution before it: the same function in eval mode, with less to do."""

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

RTOL, ATOL = 1e-3, 1e-4  # of the logits; folding changes roundings only


def fold_batch_norm(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of a model in eval mode without the batch norms that follow a convolution.

    Where the model cannot be traced, has none, or would give other logits, it is returned itself.

    Args:
        model: in eval mode; it stays as it is.
        x: a few of its inputs, on which the copy is tried.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    try:
        folded = fuse(model)
        with torch.no_grad():
            same = torch.allclose(folded(x), model(x), RTOL, ATOL)
    except Exception:  # tracing runs the user's code with what is no tensor: it may raise anything
        return model
    return folded if same else model
