"""Training on adversarial examples only: by PGD (Madry et al. 2018), or by one cheap step (Wong et al. 2020)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.objectives import check_ascent, check_smoothing
from easycoreset.objectives.inner_maximisation import maximise_loss, uniform_start


@dataclass(frozen=True, kw_only=True)
class PGDTraining:
    """Cross-entropy at PGD examples from random starts (Madry et al. 2018)."""

    version: ClassVar[int] = 1
    eps: float = 8 / 255
    steps: int = 10
    step_size: float | None = None  # None: eps / 4
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_ascent(self.eps, self.steps, self.step_size)
        check_smoothing(self.label_smoothing)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        logits = model(self.perturb(model, x, y, generator)).float()
        return self.logit_losses(logits, logits, y)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Craft PGD examples [B,C,H,W] in eval mode."""
        return perturb_by_pgd(model, x, y, generator, self.eps, self.steps, self.step_size)

    def logit_losses(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of each adversarial example, [B]."""
        return F.cross_entropy(adversarial, y, reduction="none", label_smoothing=self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class FGSMTraining:
    """Cross-entropy after one projected step of 1.25 eps from random starts (Wong et al. 2020).

    It may collapse suddenly to no robustness under PGD (catastrophic overfitting), which training checks for.
    """

    version: ClassVar[int] = 1
    single_step: ClassVar[bool] = True  # it may overfit to its own attack
    eps: float = 8 / 255
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_ascent(self.eps, 1, None)
        check_smoothing(self.label_smoothing)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        logits = model(self.perturb(model, x, y, generator)).float()
        return self.logit_losses(logits, logits, y)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Craft examples [B,C,H,W] by one step in eval mode."""
        return perturb_by_pgd(model, x, y, generator, self.eps, 1, 1.25 * self.eps)

    def logit_losses(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of each adversarial example, [B]."""
        return F.cross_entropy(adversarial, y, reduction="none", label_smoothing=self.label_smoothing)


def perturb_by_pgd(
    model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, eps: float, steps: int, step_size: float | None
) -> Tensor:
    """Craft PGD examples [B,C,H,W] in eval mode, by cross-entropy from random starts."""
    x = x.detach()
    return maximise_loss(
        model,
        x,
        uniform_start(x, eps, generator),
        lambda logits: F.cross_entropy(logits, y, reduction="sum"),
        eps=eps,
        steps=steps,
        step_size=step_size,
    )
