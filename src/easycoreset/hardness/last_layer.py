"""Hardness from the gradient of the last linear layer."""

from functools import partial

import torch
from torch import Tensor

from easycoreset.hardness import ForwardHardness, Outputs
from easycoreset.hardness.folds import Mean
from easycoreset.hardness.logits import error_norm


def gradient_norm(outputs: Outputs) -> Tensor:
    """L2 norm of the loss's gradient with respect to the last linear layer, (p - 1_y) x (h, 1)."""
    assert outputs.features is not None
    dtype = torch.float64 if outputs.features.dtype == torch.float64 else torch.float32
    squared_norm = outputs.features.to(dtype).square().sum(1) + outputs.has_bias
    return error_norm(outputs) * squared_norm.sqrt()


GRAND = ForwardHardness(
    "grand",
    "grand",
    gradient_norm,
    partial(Mean, limit=10),
    needs_features=True,
    description="Mean gradient norm of the last layer, first 10 epochs (Paul et al. 2021).",
)
