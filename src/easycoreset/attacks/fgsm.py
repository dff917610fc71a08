"""The fast gradient sign method."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, attack_loss, check_ball, gradient_of, project, steepest_step
from easycoreset.models.modes import frozen


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """One step of length eps along the gradient's sign (Goodfellow et al. 2015), or along the gradient for l2."""

    version: ClassVar[int] = 1
    climbs_in_bf16: ClassVar[bool] = True
    strength: ClassVar[tuple[int, ...]] = (1,)
    gradient_steps: ClassVar[int] = 1
    eps: float = 8 / 255
    norm: Norm = "linf"
    loss: Literal["ce", "margin"] = "ce"
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        with frozen(model), torch.enable_grad():
            start = x.detach().requires_grad_()
            gradient = gradient_of(attack_loss(model(start), y, self.loss).sum(), start)
        return project(x.detach() + self.eps * steepest_step(gradient, self.norm), x.detach(), self.eps, self.norm)
