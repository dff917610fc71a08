"""An exponential moving average of a model's weights."""

import copy
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """A moving average of a model's weights and buffers; the host never waits for the device.

    `torch.optim.swa_utils.AveragedModel` counts its updates in a tensor: reading it for a warm-up would synchronise.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay = decay
        self.seen = 0

    def update(self, model: nn.Module) -> None:
        """Average in the model's weights; the decay is smaller in the first updates (warm-up)."""
        decay = min(self.decay, (1 + self.seen) / (10 + self.seen)) if self.seen else 0.0
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        get_ema_multi_avg_fn(decay)([target for target, _ in averaged], [source for _, source in averaged], self.seen)
        for target, source in pairs:
            if not target.is_floating_point():  # counters
                target.copy_(source)
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"seen": self.seen, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.seen = state["seen"]
        self.module.load_state_dict(state["module"])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
