"""Projected gradient descent that drops a sample as soon as it is broken."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, attack_loss, check_ball, gradient_of, project, random_point, steepest_step
from easycoreset.errors import require
from easycoreset.models.modes import frozen


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Steps along the gradient from random starts (Madry et al. 2018); every iterate counts, also the last.

    A broken sample's result is the first iterate that broke it. Random starts are keyed by (seed, restart, index),
    so a sample's result does not depend on its batch. `loss=targeted` ascends z_t - z_y, where t is
    the likeliest other class at x in the first restart, the second likeliest in the second, and so on.
    """

    version: ClassVar[int] = 1
    eps: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 20
    step_size: float | None = None  # None: eps / 4
    restarts: int = 1
    loss: Literal["ce", "margin", "targeted"] = "ce"
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)
        require(self.steps >= 1, "steps", ">= 1", self.steps)
        require(self.restarts >= 1, "restarts", ">= 1", self.restarts)
        require(self.step_size is None or self.step_size > 0, "step_size", "> 0", self.step_size)

    @property
    def strength(self) -> tuple[int, ...]:
        """How strong it is expected to be."""
        return 2, self.steps, self.restarts

    @property
    def gradient_steps(self) -> int:
        """Steps along the gradient from all starts."""
        return self.steps * self.restarts

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        x = x.detach()
        index = torch.arange(len(x), device=x.device) if index is None else index
        result = x.clone()
        robust = torch.arange(len(x), device=x.device)
        with frozen(model), torch.enable_grad():
            other_classes = rank_other_classes(model, x, y) if self.loss == "targeted" else None
            for restart in range(self.restarts):
                target = None if other_classes is None else other_classes[:, restart % other_classes.shape[1]]
                if len(robust):
                    robust = self._restart(model, x, y, target, index, restart, result, robust)
        return result

    def _restart(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        target: Tensor | None,
        index: Tensor,
        restart: int,
        result: Tensor,
        rows: Tensor,
    ) -> Tensor:
        """Attack `rows` from one random start, fill in `result`, and return the rows that stay robust."""
        step_size = self.eps / 4 if self.step_size is None else self.step_size
        x = x[rows]
        y = y[rows]
        adv = random_point(x, index[rows], self.eps, self.norm, self.seed, restart)
        for step in range(self.steps + 1):
            adv = adv.detach().requires_grad_(step < self.steps)
            logits = model(adv)
            broken = logits.argmax(1) != y
            if step == self.steps:
                result[rows] = adv.detach()
                return rows[~broken]
            target_rows = None if target is None else target[rows]
            gradient = gradient_of(attack_loss(logits, y, self.loss, target_rows).sum(), adv)
            adv = adv.detach()
            if broken.any():
                result[rows[broken]] = adv[broken]
                robust = ~broken
                rows = rows[robust]
                x = x[robust]
                y = y[robust]
                adv = adv[robust]
                gradient = gradient[robust]
                if not len(rows):
                    return rows
            adv = project(adv + step_size * steepest_step(gradient, self.norm), x, self.eps, self.norm)
        raise AssertionError("the last step returns")


def rank_other_classes(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Rank the classes other than y, likeliest first, [B, classes - 1]."""
    with torch.no_grad():
        logits = model(x)
    return logits.scatter(1, y[:, None], float("-inf")).sort(dim=1, descending=True, stable=True).indices[:, :-1]
