"""Standard training."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.objectives import check_smoothing


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Cross-entropy, with optional label smoothing (Szegedy et al. 2016)."""

    version: ClassVar[int] = 1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_smoothing(self.label_smoothing)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        logits = model(x).float()
        return self.logit_losses(logits, logits, y)

    def logit_losses(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of each sample, [B]."""
        return F.cross_entropy(clean, y, reduction="none", label_smoothing=self.label_smoothing)
