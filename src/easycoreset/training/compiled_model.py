"""A compiled model that sees one shape: another would be compiled anew, and be no replay of a CUDA graph."""

import torch
from torch import Tensor, nn


class FixedShape(nn.Module):
    """Runs a compiled model on full batches, and the model itself on smaller ones, as an epoch's last batch may be.

    Full is the largest batch so far: of several processes each has a part of a batch.

    Args:
        model: the model; its parameters stay its own.
        mode: of `torch.compile`.
    """

    def __init__(self, model: nn.Module, mode: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.largest = 0
        self.compiled = torch.compile(model, mode=mode, dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, len(x))
        return self.compiled(x) if len(x) == self.largest else self.model(x)
