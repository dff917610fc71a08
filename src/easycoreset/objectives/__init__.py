"""Objectives: what a training step minimises. One objective a file, one line of `OBJECTIVES` an objective."""

from typing import Protocol

import torch
from torch import Tensor, nn

from easycoreset.members import load_member, spell_member, split_spec

OBJECTIVES = {
    "standard": "easycoreset.objectives.standard:standard",
    "trades": "easycoreset.objectives.trades:TRADES",
}


class Objective(Protocol):
    """The loss of one training batch."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Compute the loss, a scalar that is the mean over the batch.

        Args:
            model: in train mode, maps [B,C,H,W] in [0,1] to logits.
            x: [B,C,H,W].
            y: [B] int64.
            weight: [B] of the samples, or None.
            generator: of random draws, on the device of `x`.
        """
        ...


def load_objective(spec: str, eps: float | None = None) -> tuple[str, Objective]:
    """Load the objective that `spec` spells; returns its one spelling too."""
    objective = load_member("objective", spec, OBJECTIVES, eps=eps)
    return spell_member(split_spec(spec)[0], objective), objective


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of [B] losses, each times its sample's weight (whose mean is 1 over the coreset)."""
    return losses.mean() if weight is None else (losses * weight).mean()
