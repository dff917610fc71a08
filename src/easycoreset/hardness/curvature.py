"""Hardness from the curvature of the loss: the change of the input gradient around a sample."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from easycoreset.attacks.ball import gradient_of
from easycoreset.data.keyed_random import keyed_uniform
from easycoreset.errors import require
from easycoreset.hardness import Dtype, Hardness, Outputs, Workload
from easycoreset.hardness.folds import Fold, Mean


@dataclass(frozen=True, kw_only=True)
class Curvature(Hardness):
    """Mean change of the loss's input gradient over a short random step (Garg & Roy 2023).

    The mean over epochs of the mean over `draws` Rademacher vectors v of ||g(x + s v) - g(x)||_2, with s = `step` in
    pixel space (normalised space in the paper), x + s v not clipped; v is a function of (seed, index, epoch, draw).
    """

    name = "curvature"
    column = "curvature"
    gradient = "loss"
    expensive = True
    draws: int = 10
    step: float = 1e-3
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        require(self.draws >= 1, "draws", ">= 1", self.draws)
        require(self.step > 0, "step", "> 0", self.step)
        require(self.dtype != "bfloat16", "dtype", "float32 or float64", self.dtype)

    def describe_cost(self, workload: Workload) -> str:
        """Its cost, as text for users."""
        return f"{self.draws} more passes forward and back over {workload.samples} samples after every scored epoch"

    def count_passes(self, epochs: int) -> int:
        """One for each random vector in every epoch."""
        return self.draws * epochs

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        assert outputs.gradient is not None
        assert outputs.model is not None
        assert outputs.x is not None
        assert outputs.index is not None
        x = outputs.x
        total = torch.zeros(len(outputs.y), device=outputs.y.device, dtype=outputs.gradient.dtype)
        for draw in range(self.draws):
            keys = ("curvature", outputs.seed, outputs.epoch, draw)
            v = torch.where(keyed_uniform(outputs.index, x.shape[1:], *keys) < 0.5, -1.0, 1.0).to(x.dtype)
            with torch.enable_grad():
                x_shifted = (x + self.step * v).requires_grad_()
                logits = outputs.model(x_shifted)
                logits = logits if logits.dtype == torch.float64 else logits.float()
                gradient = gradient_of(F.cross_entropy(logits, outputs.y, reduction="sum"), x_shifted)
            total += (gradient - outputs.gradient).flatten(1).norm(dim=1)
        return total / self.draws

    def fold(self) -> Fold:
        """The mean over epochs."""
        return Mean()
