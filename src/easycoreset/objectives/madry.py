"""Training on adversarial examples alone: PGD (Madry et al. 2018), and its cheap form (Wong et al. 2020)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.objectives import check_ascent, check_smoothing, weighted_mean
from easycoreset.objectives.inner import anywhere, ascend


@dataclass(frozen=True, kw_only=True)
class PGDTraining:
    """Cross-entropy at a PGD example, from a random start (Madry et al. 2018)."""

    version: ClassVar[int] = 1
    eps: float = 8 / 255
    steps: int = 10
    step_size: float | None = None  # eps / 4 where left out
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_ascent(self.eps, self.steps, self.step_size)
        check_smoothing(self.label_smoothing)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        x = x.detach()
        x_adv = ascend(model, x, anywhere(x, self.eps, generator), lambda logits: _summed(logits, y),
                       eps=self.eps, steps=self.steps, step_size=self.step_size)  # fmt: skip
        losses = F.cross_entropy(model(x_adv).float(), y, reduction="none", label_smoothing=self.label_smoothing)
        return weighted_mean(losses, weight)


@dataclass(frozen=True, kw_only=True)
class FGSMTraining:
    """Cross-entropy at one step of 1.25 eps from a random start, projected (Wong et al. 2020).

    It may collapse suddenly to no robustness under PGD (catastrophic overfitting): training watches for that.
    """

    version: ClassVar[int] = 1
    eps: float = 8 / 255
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_ascent(self.eps, 1, None)
        check_smoothing(self.label_smoothing)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        x = x.detach()
        x_adv = ascend(model, x, anywhere(x, self.eps, generator), lambda logits: _summed(logits, y),
                       eps=self.eps, steps=1, step_size=1.25 * self.eps)  # fmt: skip
        losses = F.cross_entropy(model(x_adv).float(), y, reduction="none", label_smoothing=self.label_smoothing)
        return weighted_mean(losses, weight)


def _summed(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="sum")
