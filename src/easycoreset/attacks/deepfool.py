"""DeepFool: steps to the nearest linearised boundary; its bounds are loose, for comparison only."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, l2_norms, per_sample_view
from easycoreset.attacks.open_rows import OpenRows, write_rows
from easycoreset.errors import require
from easycoreset.models.modes import frozen


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """Steps to the nearest boundary of the linearised model, and a little beyond (Moosavi-Dezfooli et al. 2016)."""

    version: ClassVar[int] = 1
    norm: Norm = "l2"
    steps: int = 50
    overshoot: float = 0.002
    candidates: int = 10  # number of likeliest classes that are considered

    def __post_init__(self) -> None:
        require(self.norm in ("linf", "l2"), "norm", "linf or l2", self.norm)
        require(self.steps >= 1, "steps", ">= 1", self.steps)
        require(self.overshoot >= 0, "overshoot", ">= 0", self.overshoot)
        require(self.candidates >= 2, "candidates", ">= 2", self.candidates)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        x = x.detach()
        adv = x.clone()
        rows = torch.arange(len(x), device=x.device)
        open_rows = OpenRows()
        with frozen(model), torch.enable_grad():
            for _ in range(self.steps):
                done = model(adv[rows]).argmax(1) != y[rows]
                kept = open_rows.select(done)
                if kept is not None:
                    rows, done = rows[kept], done[kept]
                if not len(rows):
                    break
                step = self._step(model, adv[rows], y[rows])
                moved = (adv[rows] + (1 + self.overshoot) * step).clamp(0, 1).detach()
                write_rows(adv, rows, ~done, moved)
        return adv

    def _step(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The step to the nearest of the linearised boundaries, [B,C,H,W]."""
        x = x.detach().requires_grad_()
        logits = model(x)
        others = logits.scatter(1, y[:, None], float("-inf")).argsort(1, descending=True)
        true_logit = logits.gather(1, y[:, None])
        nearest = torch.full((len(x),), float("inf"), device=x.device, dtype=x.dtype)
        best_step = torch.zeros_like(x)
        for rank in range(min(self.candidates, logits.shape[1]) - 1):
            gap = (true_logit - logits.gather(1, others[:, rank : rank + 1])).squeeze(1)
            (gradient,) = torch.autograd.grad(gap.sum(), x, retain_graph=True)
            if self.norm == "linf":
                distance = gap / gradient.flatten(1).abs().sum(1).clamp_min(1e-12)
                step = -per_sample_view(distance) * gradient.sign()
            else:
                distance = gap / l2_norms(gradient).clamp_min(1e-12)
                step = -per_sample_view(distance / l2_norms(gradient).clamp_min(1e-12)) * gradient
            closer = distance.detach() < nearest
            nearest = torch.where(closer, distance.detach(), nearest)
            best_step = torch.where(per_sample_view(closer), step.detach(), best_step)
        return best_step
