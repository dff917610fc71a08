"""A compiled model that sees only one shape: another would be compiled again, and would not replay a CUDA graph."""

import torch
from torch import Tensor, nn


class FixedShape(nn.Module):
    """Runs a compiled model on full batches, and the model itself on smaller ones, as an epoch's last batch may be.

    A full batch is the largest one so far; with several processes, this is the part that this process has of a batch.

    Args:
        model: the model, whose parameters the compiled model shares.
        mode: mode of `torch.compile`.
    """

    def __init__(self, model: nn.Module, mode: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.largest = 0
        self.compiled = torch.compile(model, mode=mode, dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, len(x))
        return self.compiled(x) if len(x) == self.largest else self.model(x)
