"""TRADES (Zhang et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.attacks.ball import project
from easycoreset.errors import require
from easycoreset.models.modes import frozen
from easycoreset.objectives import weighted_mean


@dataclass(frozen=True, kw_only=True)
class TRADES:
    """Cross-entropy plus beta * KL(p(x) || p(x')), where x' in the linf ball maximises that KL.

    The inner target softmax(z(x)) is computed once, in eval mode, and detached: the examples are those of the
    authors' code, which computes it anew in every step. The outer KL takes both sides as log-probabilities, which
    stays finite where a probability underflows, and lets gradients through both.
    """

    version: ClassVar[int] = 1
    eps: float = 8 / 255
    beta: float = 6.0
    steps: int = 10
    step_size: float | None = None  # eps / 4 where left out

    def __post_init__(self) -> None:
        require(0 <= self.eps <= 1, "eps", "in [0, 1]", self.eps)
        require(self.beta >= 0, "beta", ">= 0", self.beta)
        require(self.steps >= 1, "steps", ">= 1", self.steps)
        require(self.step_size is None or self.step_size > 0, "step_size", "> 0", self.step_size)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        x_adv = self.perturb(model, x.detach(), generator)
        clean, adversarial = model(x).float(), model(x_adv).float()
        divergence = F.kl_div(F.log_softmax(adversarial, 1), F.log_softmax(clean, 1), reduction="none", log_target=True)
        losses = F.cross_entropy(clean, y, reduction="none") + self.beta * divergence.sum(1)
        return weighted_mean(losses, weight)

    def perturb(self, model: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor:
        """Craft x' [B,C,H,W] in eval mode."""
        step_size = self.eps / 4 if self.step_size is None else self.step_size
        x_adv = x + 0.001 * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        with frozen(model):
            with torch.no_grad():
                target = F.softmax(model(x).float(), 1)
            for _ in range(self.steps):
                x_adv.requires_grad_()
                divergence = F.kl_div(F.log_softmax(model(x_adv).float(), 1), target, reduction="sum")
                (gradient,) = torch.autograd.grad(divergence, x_adv)
                x_adv = project(x_adv.detach() + step_size * gradient.sign(), x, self.eps, "linf")
        return x_adv
