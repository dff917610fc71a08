"""Batch norm folded into the convolution before it: the same function in eval mode, with less work."""

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from easycoreset.console import log
from easycoreset.errors import describe_error
from easycoreset.models.last_layer import find_last_layer

RTOL = 1e-3  # relative to each value; folding changes only rounding
ATOL = 1e-4  # relative to the largest value


class LinearLeafTracer(fx.Tracer):
    """Traces a model down to PyTorch's layers and all subclasses of `nn.Linear`, whose inputs are features."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the trace calls a module without tracing into it."""
        return isinstance(m, nn.Linear) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norm(model: nn.Module, x: Tensor, layer: str | None = None) -> nn.Module:
    """Copy a model in eval mode, with each batch norm that follows a convolution folded into it.

    The model itself is returned where it cannot be traced or has no batch norm, or where the copy gives other logits,
    input gradients (a trace drops `no_grad` and custom backward passes) or features. They are compared in float64: in
    float32 another rounding puts a value on the other side of a ReLU's kink now and then.

    Args:
        model: in eval mode, with frozen parameters; it is not changed.
        x: a few inputs, on which model and copy are compared.
        layer: name of the layer whose input is the features, which the copy must have too; None: not compared.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    try:
        tracer = LinearLeafTracer()
        graph = tracer.trace(model)
        traced: Any = fx.GraphModule(tracer.root, graph)
        folded = fuse(traced, no_trace=True)
        exact = x if x.device.type == "mps" else x.double()  # mps has no float64
        models = [copy.deepcopy(network).to(exact.dtype) for network in (traced, model)]
        outputs = [_outputs(network, exact, layer) for network in (fuse(models[0], no_trace=True), models[1])]
        same = all(
            torch.allclose(copied, original, RTOL, ATOL * float(original.abs().max()))
            for copied, original in zip(*outputs, strict=True)
        )
    except Exception as error:  # tracing calls the user's code with proxies: it may raise anything
        _say_unfolded(type(model).__name__, describe_error(error))
        return model
    if not same:
        _say_unfolded(type(model).__name__, "the folded copy computes something else")
        return model
    return folded


@cache
def _say_unfolded(name: str, reason: str) -> None:
    """Say, once a process, that scoring passes take longer."""
    log.info("batch norm of %s is not folded (%s): scoring passes take longer", name, reason)


def _outputs(model: nn.Module, x: Tensor, layer: str | None) -> tuple[Tensor, ...]:
    """Logits, input gradient and, where a layer is named, features."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        weights = torch.linspace(-1, 1, logits.shape[1], device=x.device, dtype=logits.dtype)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    if layer is None:
        return logits.detach(), gradient
    with find_last_layer(model, x, layer).capture_inputs() as watched, torch.no_grad():
        model(x)
        return logits.detach(), gradient, watched.pop_features(len(x))
