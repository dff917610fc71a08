"""TRADES (Zhang et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.errors import require
from easycoreset.models.modes import frozen
from easycoreset.objectives import check_ascent, check_smoothing, weighted_mean
from easycoreset.objectives.inner_maximisation import gaussian_start, maximise_loss


@dataclass(frozen=True, kw_only=True)
class TRADES:
    """Cross-entropy plus beta * KL(p(x) || p(x')), where x' in the linf ball maximises that KL.

    The inner target softmax(z(x)) is computed once, in eval mode, and detached: the examples are those of the
    authors' code, which computes it anew in every step. The outer KL takes both sides as log-probabilities, which
    stays finite where a probability underflows, and passes gradients through both. `bn=reference` passes x through the
    network a second time, as the authors' code does: without dropout that changes batch norm's running statistics only.
    """

    version: ClassVar[int] = 1
    eps: float = 8 / 255
    beta: float = 6.0
    steps: int = 10
    step_size: float | None = None  # None: eps / 4
    label_smoothing: float = 0.0
    bn: Literal["once", "reference"] = "once"

    def __post_init__(self) -> None:
        check_ascent(self.eps, self.steps, self.step_size)
        check_smoothing(self.label_smoothing)
        require(self.beta >= 0, "beta", ">= 0", self.beta)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        x_adv = self.perturb(model, x.detach(), generator)
        clean = model(x).float()
        adversarial = model(x_adv).float()
        kl_clean = model(x).float() if self.bn == "reference" else clean
        divergence = kl_divergences(adversarial, kl_clean)
        losses = F.cross_entropy(clean, y, reduction="none", label_smoothing=self.label_smoothing)
        return weighted_mean(losses + self.beta * divergence, weight)

    def perturb(self, model: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor:
        """Craft x' [B,C,H,W] in eval mode."""
        with frozen(model), torch.no_grad():
            target = F.softmax(model(x).float(), 1)
        return maximise_loss(
            model,
            x,
            gaussian_start(x, generator),
            lambda logits: F.kl_div(F.log_softmax(logits, 1), target, reduction="sum"),
            eps=self.eps,
            steps=self.steps,
            step_size=self.step_size,
        )


def kl_divergences(adversarial: Tensor, clean: Tensor) -> Tensor:
    """KL(p(x) || p(x')) of each sample, [B], from the logits at x' and x."""
    log_p = F.log_softmax(clean, 1)
    log_q = F.log_softmax(adversarial, 1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
