"""An exponential moving average of a model's weights."""

import copy
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """A copy of a model that follows its weights and buffers; the host never waits for the device.

    `torch.optim.swa_utils.AveragedModel` counts its updates in a tensor, which a warm-up would have to look at.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay = decay
        self.seen = 0

    def update(self, model: nn.Module) -> None:
        """Move towards the model's weights; a short run is averaged over less."""
        decay = min(self.decay, (1 + self.seen) / (10 + self.seen)) if self.seen else 0.0
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        get_ema_multi_avg_fn(decay)([own for own, _ in moving], [theirs for _, theirs in moving], self.seen)
        for own, theirs in pairs:
            if not own.is_floating_point():  # counters
                own.copy_(theirs)
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"seen": self.seen, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.seen = state["seen"]
        self.module.load_state_dict(state["module"])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
