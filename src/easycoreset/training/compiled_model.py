"""A compiled model that sees one shape: another would be compiled anew, and be no replay of a CUDA graph."""

import torch
from torch import Tensor, nn


class FixedShape(nn.Module):
    """Runs a compiled model on full batches, and the model itself on others, as an epoch's last batch may be.

    Args:
        model: the model; its parameters stay its own.
        batch_size: samples of a full batch.
        mode: of `torch.compile`.
    """

    def __init__(self, model: nn.Module, batch_size: int, mode: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.batch_size = batch_size
        self.compiled = torch.compile(model, mode=mode, dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.compiled(x) if len(x) == self.batch_size else self.model(x)
