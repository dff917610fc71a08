"""Batch norm folded into the convolution before it: the same function in eval mode, with less to do."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from easycoreset.models.last_layer import find_last_layer

RTOL = 1e-3  # of each value, of the largest; folding changes roundings only
ATOL = 1e-4


class LinearLeaves(fx.Tracer):
    """Traces a model down to PyTorch's layers, and to linear ones of anybody's: their inputs are features."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is called as it is."""
        return isinstance(m, nn.Linear) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norm(model: nn.Module, x: Tensor, layer: str | None = None) -> nn.Module:
    """A copy of a model in eval mode without the batch norms that follow a convolution.

    Where the model cannot be traced or has none, or where the copy gives other logits, other input gradients (a trace
    knows neither `no_grad` nor a backward pass of one's own) or other features, it is returned itself.

    Args:
        model: in eval mode, its parameters frozen; it stays as it is.
        x: a few of its inputs, on which the copy is tried.
        layer: whose input is looked at, and must be there in the copy; None where none is.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    try:
        tracer = LinearLeaves()
        graph = tracer.trace(model)
        traced: Any = fx.GraphModule(tracer.root, graph)
        folded = fuse(traced, no_trace=True)
        pairs = zip(_answer(folded, x, layer), _answer(model, x, layer), strict=True)
        same = all(torch.allclose(own, other, RTOL, ATOL * float(other.abs().max())) for own, other in pairs)
    except Exception:  # tracing runs the user's code with what is no tensor: it may raise anything
        return model
    return folded if same else model


def _answer(model: nn.Module, x: Tensor, layer: str | None) -> tuple[Tensor, ...]:
    """Logits, input gradient and, of a layer, features."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        weights = torch.linspace(-1, 1, logits.shape[1], device=x.device, dtype=logits.dtype)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    if layer is None:
        return logits.detach(), gradient
    with find_last_layer(model, x, layer).watched() as watched, torch.no_grad():
        model(x)
        return logits.detach(), gradient, watched.features(len(x))
