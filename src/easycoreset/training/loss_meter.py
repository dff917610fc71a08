"""The mean training loss of an epoch, and what happens if a loss is not finite."""

import math
from typing import Any

import torch
from torch import Tensor

from easycoreset.console import log
from easycoreset.errors import RunError
from easycoreset.process_group import all_reduce_sum, is_main_process, world_size


class LossMeter:
    """Sums the finite losses of an epoch's steps on the device, over all processes when it is read.

    Args:
        device: device of the losses.
        stops: whether a loss that is not finite is an error; else it is reported.
    """

    def __init__(self, device: torch.device, stops: bool) -> None:
        self.stops = stops
        self.sum = torch.zeros((), dtype=torch.float32, device=device)
        self.nonfinite_steps = torch.zeros((), dtype=torch.int64, device=device)
        self._reported = 0  # nonfinite steps in the last warning of this epoch

    def add(self, loss: Tensor) -> None:
        """Add the loss of a step; nothing waits for the device."""
        finite = torch.isfinite(loss)
        self.sum += torch.where(finite, loss, 0)
        self.nonfinite_steps += ~finite

    def mean(self, epoch: int, steps: int, updates: int) -> float:
        """Mean of the epoch's finite losses in its `steps` so far, NaN if there are none; `updates` counts all epochs.

        Raises:
            RunError: a loss is not finite, and `stops` is set.
        """
        total_nonfinite = self.nonfinite_steps.clone()
        total = self.sum.clone()
        all_reduce_sum(total_nonfinite, total)
        nonfinite_steps = math.ceil(int(total_nonfinite) / world_size())  # each process counts the step
        if nonfinite_steps and self.stops:
            position = f"by update {updates} (epoch {epoch})"
            raise RunError(f"loss must be finite; it was not {position}: try a lower --lr, or --on-nan continue")
        if nonfinite_steps and nonfinite_steps != self._reported:
            message = "loss is not finite in %d of %d steps of epoch %d; continuing"
            log.warning(message, nonfinite_steps, steps, epoch)
            self._reported = nonfinite_steps
        return float(total) / (steps - nonfinite_steps) if steps > nonfinite_steps else math.nan

    def clear(self) -> None:
        """Begin the next epoch."""
        self.sum.zero_()
        self.nonfinite_steps.zero_()
        self._reported = 0

    def state_dict(self) -> dict[str, Tensor]:
        """The sums over all processes; all of them must call this."""
        total = self.sum.clone()
        nonfinite_steps = self.nonfinite_steps.clone()
        all_reduce_sum(total, nonfinite_steps)
        nonfinite_steps = (nonfinite_steps + world_size() - 1) // world_size()  # each process counts the step
        return {"loss_sum": total, "bad_steps": nonfinite_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; the main process holds the sum."""
        self.nonfinite_steps.copy_(state["bad_steps"])
        if is_main_process():
            self.sum.copy_(state["loss_sum"])
