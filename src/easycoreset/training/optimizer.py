"""The optimizer: SGD or AdamW."""

import torch
from torch import nn

from easycoreset.options import TrainingOptions, resolve_optimizer

SECOND_BETA = 0.999  # of AdamW


def build_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """The optimizer of a model's parameters, at its peak learning rate.

    SGD with momentum; AdamW (Loshchilov & Hutter 2019), whose first beta is the momentum.
    """
    parameters = list(model.parameters())
    resolved = resolve_optimizer(options)
    lr = resolved["lr"]
    decay = resolved["weight_decay"]
    fused = parameters[0].device.type == "cuda"
    if options.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr, (options.momentum, SECOND_BETA), weight_decay=decay, fused=fused)
    return torch.optim.SGD(parameters, lr, options.momentum, weight_decay=decay, fused=fused)
