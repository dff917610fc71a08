"""Projected gradient descent that drops a sample as soon as it is broken."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import (
    Norm,
    attack_loss,
    check_ball,
    gradient_of,
    project,
    random_point,
    steepest_step,
)
from easycoreset.attacks.climbing import Judge
from easycoreset.attacks.open_rows import OpenRows, write_rows
from easycoreset.errors import require
from easycoreset.models.modes import frozen


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Steps along the gradient from random starts (Madry et al. 2018); every iterate counts, also the last.

    A broken sample's result is the first iterate that broke it. With gradients in bf16, only every fifth iterate and
    the last one are judged, in float32. Random starts are keyed by (seed, restart, index), so a sample's result does
    not depend on its batch. `loss=targeted` ascends z_t - z_y, where t is the likeliest other class at x in the first
    restart, the second likeliest in the second, and so on.
    """

    version: ClassVar[int] = 1
    climbs_in_bf16: ClassVar[bool] = True
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
        rows = torch.arange(len(x), device=x.device)
        done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        with frozen(model), torch.enable_grad():
            other_classes = rank_other_classes(model, x, y) if self.loss == "targeted" else None
            for restart in range(self.restarts):
                target = None if other_classes is None else other_classes[:, restart % other_classes.shape[1]]
                rows, done = self._restart(model, (x, y, index), target, restart, result, rows, done)
                if not len(rows):
                    break
        return result

    def _restart(
        self,
        model: nn.Module,
        samples: tuple[Tensor, Tensor, Tensor],
        target: Tensor | None,
        restart: int,
        result: Tensor,
        rows: Tensor,
        done: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Attack `rows` from one random start and fill in `result`.

        Args:
            model: in eval mode.
            samples: inputs [B,C,H,W], labels [B] and indices [B] of the whole batch.
            target: [B] target classes of the batch; None without targets.
            restart: number of the restart, from 0.
            result: [B,C,H,W], the iterates that broke their samples.
            rows: [n] positions in the batch; rows that are broken already may be left out.
            done: [n] whether each of these rows is broken.

        Returns:
            The remaining rows, and whether each is broken.
        """
        step_size = self.eps / 4 if self.step_size is None else self.step_size
        x, y, index = (part[rows] for part in samples)
        target = None if target is None else target[rows]
        adv = random_point(x, index, self.eps, self.norm, self.seed, restart)
        open_rows = OpenRows()
        judge = Judge(model)
        for step in range(self.steps + 1):
            last = step == self.steps
            adv = adv.detach().requires_grad_(not last)
            logits = model(adv)
            judged = judge.look(adv.detach(), logits.detach(), y, last)
            if judged is not None:
                broken = judged[1] & ~done
                write_rows(result, rows, broken, judged[0])
                done = done | broken
            if last:
                write_rows(result, rows, ~done, adv.detach())
            kept = open_rows.select(done)
            if last or (kept is not None and not len(kept)):
                return (rows, done) if kept is None else (rows[kept], done[kept])
            gradient = gradient_of(attack_loss(logits, y, self.loss, target).sum(), adv)
            adv = adv.detach()
            if kept is not None:
                rows, x, y, adv, gradient, done = (part[kept] for part in (rows, x, y, adv, gradient, done))
                target = None if target is None else target[kept]
                judge.keep(kept)
            adv = project(adv + step_size * steepest_step(gradient, self.norm), x, self.eps, self.norm)
        raise AssertionError("the last step returns")


def rank_other_classes(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Rank the classes other than y, likeliest first, [B, classes - 1]."""
    with torch.no_grad():
        logits = model(x)
    return logits.scatter(1, y[:, None], float("-inf")).sort(dim=1, descending=True, stable=True).indices[:, :-1]
