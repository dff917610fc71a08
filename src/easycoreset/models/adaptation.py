"""Adapts foreign networks so that they can be run, saved and loaded here."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from easycoreset.errors import UsageError, describe_error, quote
from easycoreset.models.last_layer import extract_logits


def adapt(network: nn.Module, shape: tuple[int, int, int], name: str) -> nn.Module:
    """Adapt a network in place: initialise lazy layers, give buffers separate memory, return only logits.

    Its input is copied before each pass, since the network may write to it; outputs other than the logits (auxiliary
    heads) are dropped.

    Raises:
        UsageError: parameters without values (on the meta device), or lazy layers that images do not initialise.
    """
    tensors = [*network.parameters(), *network.buffers()]
    if any(not is_lazy(tensor) and tensor.is_meta for tensor in tensors):
        raise UsageError(f"model {quote(name)} must have values for its parameters; some are on the meta device")
    if not isinstance(network, torch.jit.ScriptModule):  # script modules take no hooks
        network.register_forward_pre_hook(_copy_input)
        network.register_forward_hook(_take_logits)
    if any(is_lazy(tensor) for tensor in tensors):
        try:
            with torch.no_grad():
                network.eval()(torch.zeros(2, *shape))
        except Exception as error:  # a user's own model may raise anything
            problem = f"lazy layers that images of shape {shape} do not initialise: {describe_error(error)}"
            raise UsageError(f"model {quote(name)} has {problem}") from None
        network.train()
    for module in network.modules():
        for key, buffer in module.named_buffers(recurse=False):
            if any(size > 1 and stride == 0 for size, stride in zip(buffer.shape, buffer.stride(), strict=True)):
                setattr(module, key, buffer.clone(memory_format=torch.contiguous_format))
    return network


def _copy_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)


def _take_logits(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    return output if isinstance(output, Tensor | fx.Proxy) else extract_logits(output)  # a trace passes a proxy
