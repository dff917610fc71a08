"""Training at noisy inputs: the base of a smoothed classifier."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.errors import require
from easycoreset.objectives import check_smoothing


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Cross-entropy at the input plus Gaussian noise, which is not clipped (Cohen, Rosenfeld & Kolter, ICML 2019).

    `sigma` is the standard deviation in pixel space; `evaluate --certify sigma=...` certifies the model with the same
    value.
    """

    version: ClassVar[int] = 1
    sigma: float = 0.25
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.sigma > 0 and math.isfinite(self.sigma), "sigma", "> 0", self.sigma)
        check_smoothing(self.label_smoothing)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        noisy = model(self.perturb(model, x, y, generator)).float()
        return self.logit_losses(noisy, noisy, y)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The samples with noise, [B,C,H,W]."""
        return x + self.sigma * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

    def logit_losses(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of each sample with noise, [B]."""
        return F.cross_entropy(adversarial, y, reduction="none", label_smoothing=self.label_smoothing)
