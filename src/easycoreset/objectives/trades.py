"""TRADES (Zhang et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.errors import require
from easycoreset.models.modes import frozen
from easycoreset.objectives import check_ascent, check_smoothing
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

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        x_adv = self.perturb(model, x.detach(), y, generator)
        clean = model(x).float()
        adversarial = model(x_adv).float()
        kl_clean = model(x).float() if self.bn == "reference" else clean
        return self._cross_entropy(clean, y) + self.beta * kl_divergences(adversarial, kl_clean)

    def logit_losses(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """The loss of each sample, [B]."""
        return self._cross_entropy(clean, y) + self.beta * kl_divergences(adversarial, clean)

    def _cross_entropy(self, clean: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(clean, y, reduction="none", label_smoothing=self.label_smoothing)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Craft x' [B,C,H,W] in eval mode; labels play no part."""
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
