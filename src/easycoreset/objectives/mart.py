"""MART (Wang et al. 2020)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.errors import require
from easycoreset.objectives import check_ascent
from easycoreset.objectives.inner_maximisation import gaussian_start, maximise_loss
from easycoreset.objectives.trades import kl_divergences


@dataclass(frozen=True, kw_only=True)
class MART:
    """Boosted cross-entropy at x', plus beta * KL(p(x) || p(x')) * (1 - p_y(x)): misclassified samples weigh more.

    x' is a PGD example by cross-entropy, crafted in eval mode from x + 0.001 * N(0, 1), as in the authors' code. The
    boost, -log(1 - max_{k != y} p_k(x')), is computed by log-sum-exp, which stays finite without their constants.
    """

    version: ClassVar[int] = 1
    eps: float = 8 / 255
    beta: float = 5.0
    steps: int = 10
    step_size: float | None = None  # None: eps / 4

    def __post_init__(self) -> None:
        check_ascent(self.eps, self.steps, self.step_size)
        require(self.beta >= 0, "beta", ">= 0", self.beta)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        x = x.detach()
        x_adv = self.perturb(model, x, y, generator)
        return self.logit_losses(model(x).float(), model(x_adv).float(), y)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Craft PGD examples [B,C,H,W] in eval mode."""
        x = x.detach()
        return maximise_loss(
            model,
            x,
            gaussian_start(x, generator),
            lambda logits: F.cross_entropy(logits, y, reduction="sum"),
            eps=self.eps,
            steps=self.steps,
            step_size=self.step_size,
        )

    def logit_losses(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """The loss of each sample, [B]."""
        error_probability = 1 - F.softmax(clean, 1).gather(1, y[:, None]).squeeze(1)
        return (
            boosted_cross_entropy(adversarial, y) + self.beta * kl_divergences(adversarial, clean) * error_probability
        )


def boosted_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Boosted cross-entropy of each sample, [B]: -log p_y - log(1 - max_{k != y} p_k)."""
    others = logits.scatter(1, y[:, None], float("-inf"))
    runner_up = others.argmax(1)
    log_others = logits.scatter(1, runner_up[:, None], float("-inf")).logsumexp(1) - logits.logsumexp(1)
    return F.cross_entropy(logits, y, reduction="none") - log_others
