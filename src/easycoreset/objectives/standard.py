"""Standard training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.objectives import weighted_mean


def standard(model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None, generator: torch.Generator) -> Tensor:
    """Cross-entropy."""
    return weighted_mean(F.cross_entropy(model(x).float(), y, reduction="none"), weight)
