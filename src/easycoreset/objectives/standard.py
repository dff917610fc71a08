"""Standard training."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.objectives import check_smoothing, weighted_mean


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Cross-entropy, with optional label smoothing (Szegedy et al. 2016)."""

    version: ClassVar[int] = 1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_smoothing(self.label_smoothing)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        logits = model(x).float()
        return weighted_mean(F.cross_entropy(logits, y, reduction="none", label_smoothing=self.label_smoothing), weight)
