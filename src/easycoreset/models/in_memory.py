"""Models in memory in place of a name: a module with its weights, or a class or function that makes one."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from easycoreset.console import log
from easycoreset.errors import UsageError, quote
from easycoreset.object_digests import digest_object
from easycoreset.python_objects import keep_object

CARD = "easycoreset_card"  # attribute of a module that was trained or loaded here


@dataclass(frozen=True)
class CopyOf:
    """Makes copies of a module, with its weights; the module itself is never changed."""

    module: nn.Module

    def __call__(self) -> nn.Module:
        return copy.deepcopy(self.module)


def name_model(value: Any) -> str:
    """Keep a model, and return the spelling that stands for it in options.

    Args:
        value: a module that maps images [B,C,H,W] in [0,1] to logits, whose weights are the initial ones, or a class
            or function that makes one without arguments.

    Raises:
        UsageError: it is neither, or the module cannot be copied.
    """
    if isinstance(value, nn.Module):
        network = unwrap(value)
        name = type(network).__name__
        return keep_object(name, digest_object(_contents(network)), CopyOf(network))
    if not callable(value):
        raise UsageError(f"model must be a name, a module, or a class or function that makes one; got {quote(value)}")
    return keep_object(getattr(value, "__name__", type(value).__name__), digest_object(value), value)


def _contents(network: nn.Module) -> list[Any]:
    """What a module is: the classes, the attributes and the hooks of its modules, its weights and its buffers."""
    modules: list[Any] = []
    for name, module in network.named_modules():
        attributes = {key: value for key, value in vars(module).items() if key not in BOOKKEEPING}
        hooks = [list(vars(module).get(key, {}).values()) for key in HOOKS]
        modules.append([name, type(module), attributes, hooks])
    return [modules, dict(network.named_parameters()), dict(network.named_buffers())]


HOOKS = ("_forward_pre_hooks", "_forward_hooks")
BOOKKEEPING = {*vars(nn.Module()), CARD}  # attributes that every module has


def unwrap(module: nn.Module) -> nn.Module:
    """A copy of the module within torch.compile's, DataParallel's or DDP's: in float32, on the CPU, in eval mode.

    Raises:
        UsageError: it cannot be copied.
    """
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if inner is None:
            break
        module = inner
    try:
        network = copy.deepcopy(module)
    except Exception as error:  # a user's module may hold anything
        raise UsageError(f"model {type(module).__name__} cannot be copied: {type(error).__name__}: {error}") from None
    kinds = {value.dtype for value in network.parameters()} - {torch.float32}
    if kinds:
        log.info("%s has %s weights: a copy in float32 is used", type(module).__name__, kinds.pop())
    return network.float().cpu().eval()
