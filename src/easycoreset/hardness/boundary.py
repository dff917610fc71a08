"""Hardness from the distance to the decision boundary."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.attacks.ball import l2_norms
from easycoreset.attacks.fmn import FMN
from easycoreset.hardness import Hardness, Outputs, Workload
from easycoreset.hardness.folds import Fold, Last


@dataclass(frozen=True, kw_only=True)
class Boundary(Hardness):
    """Minus the l2 distance to the boundary of the last scored epoch's model; the loss for misclassified samples.

    The distance is an upper bound, found by FMN (Pintor et al. 2021); if FMN finds no adversarial point, it is the
    largest distance within the box. Measured on request: it costs about `steps` passes of the last scored epoch.
    """

    version = 2
    name = "boundary"
    column = "boundary"
    expensive = True
    scored_epochs = slice(-1, None)
    steps: int = 100

    def describe_cost(self, workload: Workload) -> str:
        """Its cost, as text for users."""
        return f"about {self.steps} passes forward and back over {workload.samples} samples after the last scored epoch"

    def count_passes(self, epochs: int) -> int:
        """The steps of the attack."""
        return self.steps

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        assert outputs.model is not None
        assert outputs.x is not None
        return measure_boundary(outputs.model, outputs.x, outputs.y, self.steps)

    def fold(self) -> Fold:
        """The value of the last scored epoch."""
        return Last()


def measure_boundary(model: nn.Module, x: Tensor, y: Tensor, steps: int = 100) -> Tensor:
    """Minus the distance for correctly classified samples, the loss for misclassified ones, [B]."""
    x_adv = FMN(norm="l2", steps=steps)(model, x, y)
    with torch.no_grad():
        logits = model(x).float()
        adversarial = model(x_adv).argmax(1) != y
    max_distance = torch.maximum(x, 1 - x).flatten(1).norm(dim=1)
    distance = torch.where(adversarial, l2_norms(x_adv - x), max_distance)
    return torch.where(logits.argmax(1) == y, -distance, F.cross_entropy(logits, y, reduction="none"))
