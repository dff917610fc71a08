"""Hardness from the distance to the decision boundary."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.attacks.ball import lengths
from easycoreset.attacks.fmn import FMN
from easycoreset.hardness import Extent, Outputs
from easycoreset.hardness.folds import Fold, Last


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Minus the l2 distance to the boundary of the last scored epoch's model, plus the loss where it is wrong already.

    The distance is an upper bound, found by FMN (Pintor et al. 2021); where it finds no adversarial point, the largest
    distance that a point of the box can have. Opt-in: it costs about `steps` passes of the last scored epoch.
    """

    version: ClassVar[int] = 2
    name: ClassVar[str] = "boundary"
    column: ClassVar[str] = "boundary"
    dtype: ClassVar[str] = "float32"
    needs_gradient: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False
    opt_in: ClassVar[bool] = True
    scored_epochs: ClassVar[slice] = slice(-1, None)
    steps: int = 100

    def price(self, extent: Extent) -> str:
        """What it takes, for people."""
        return f"about {self.steps} passes forward and back over {extent.samples} samples after the last scored epoch"

    def measure(self, outputs: Outputs) -> Tensor:
        """Values of one epoch, [B]."""
        assert outputs.model is not None
        assert outputs.x is not None
        return measure_boundary(outputs.model, outputs.x, outputs.y, self.steps)

    def fold(self) -> Fold:
        """The last scored epoch's."""
        return Last()


def measure_boundary(model: nn.Module, x: Tensor, y: Tensor, steps: int = 100) -> Tensor:
    """Minus the distance of right samples, the loss of wrong ones, [B]."""
    x_adv = FMN(norm="l2", steps=steps)(model, x, y)
    with torch.no_grad():
        logits = model(x).float()
        found = model(x_adv).argmax(1) != y
    farthest = torch.maximum(x, 1 - x).flatten(1).norm(dim=1)
    distance = torch.where(found, lengths(x_adv - x), farthest)
    return torch.where(logits.argmax(1) == y, -distance, F.cross_entropy(logits, y, reduction="none"))
