"""Hardness from the gradient of all parameters."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from easycoreset.errors import UsageError, require
from easycoreset.hardness import Hardness, Outputs, Workload
from easycoreset.hardness.folds import Fold, Mean

EPOCHS = 10  # the first scored epochs, which alone are measured


@dataclass(frozen=True, kw_only=True)
class GrandFull(Hardness):
    """Mean gradient norm of all trainable parameters, first 10 scored epochs (Paul et al. 2021), eval mode.

    By `torch.func`, `chunk` samples at a time. The paper averages one early epoch over about 10 seeds: merge them.
    """

    name = "grand_full"
    column = "grand_full"
    expensive = True
    scored_epochs = slice(EPOCHS)
    chunk: int = 16

    def __post_init__(self) -> None:
        require(self.chunk >= 1, "chunk", ">= 1", self.chunk)

    def describe_cost(self, workload: Workload) -> str:
        """Its cost, as text for users."""
        memory = self.chunk * workload.parameters * 4 / 2**20
        return (
            f"the gradient of {workload.parameters} parameters for each of {workload.samples} samples after each "
            f"of the first {EPOCHS} scored epochs, and {memory:.0f} MB of memory"
        )

    def count_passes(self, epochs: int) -> int:
        """Gradients of single samples take about four times as long as those of a batch."""
        return 4 * epochs

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        model = outputs.model
        assert model is not None
        assert outputs.x is not None
        fixed: dict[str, Any] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        trainable = {name: fixed.pop(name).detach() for name in outputs.trainable}

        def loss(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            logits = torch.func.functional_call(model, {**fixed, **values}, (x[None],))
            return F.cross_entropy(logits.float(), y[None])

        def norm(x: Tensor, y: Tensor) -> Tensor:
            gradients = torch.func.grad(loss)(trainable, x, y)
            return torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()

        try:
            return torch.vmap(norm, chunk_size=self.chunk)(outputs.x, outputs.y)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"hardness grand_full: torch.func cannot differentiate this model: {reason}") from None

    def fold(self) -> Fold:
        """The mean over the first epochs."""
        return Mean(limit=EPOCHS)
