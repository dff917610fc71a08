"""The samples of each epoch in the order of their batches; without a dynamic method they are the same in all."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from easycoreset.data.keyed_random import make_generator
from easycoreset.data.source import take_shard
from easycoreset.process_group import rank, world_size
from easycoreset.tables import Ints
from easycoreset.training.setup import TrainingSetup

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class EpochOrder:
    """The samples of an epoch in the order of their batches.

    Attributes:
        index: [m] indices of the training split.
        weight: [m] weights of their losses, on the device; None for 1.
        steps: number of updates, each of a batch.
    """

    index: Ints
    weight: Tensor | None
    steps: int

    def batch_weight(self, step: int, batch_size: int) -> Tensor | None:
        """The weights of this process's part of a batch."""
        if self.weight is None:
            return None
        return take_shard(self.weight[step * batch_size : (step + 1) * batch_size], (rank(), world_size()))


class Sampling(Protocol):
    """Gives the order of each epoch; what it needs for a resume is in its state."""

    def begin_epoch(self, epoch: int, progress: float, steps_left: int, model: nn.Module) -> EpochOrder:
        """The order of an epoch that begins, of at most `steps_left` updates."""
        ...

    def end_epoch(self) -> Metrics:
        """Note that the epoch is over; what is told of it, for the history."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> EpochOrder | None:
        """Restore it; returns the order of the epoch that was interrupted, if the state holds one."""
        ...


class StaticSampling:
    """The same samples in every epoch, in a new order; a last batch that is too small is left out."""

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup = setup

    def begin_epoch(self, epoch: int, progress: float, steps_left: int, model: nn.Module) -> EpochOrder:
        """All training samples in the order of (seed, epoch)."""
        setup = self.setup
        steps = min(setup.steps_per_epoch, steps_left)
        index = shuffle(setup.train_indices, setup, epoch)[: steps * setup.options.batch_size]
        return EpochOrder(index, None if setup.weight is None else setup.weight[torch.from_numpy(index)], steps)

    def end_epoch(self) -> Metrics:
        """Nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the order follows from seed and epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> EpochOrder | None:
        """Nothing."""
        return None


def shuffle(values: Ints, setup: TrainingSetup, epoch: int) -> Ints:
    """The values in the order of (seed, epoch)."""
    generator = make_generator(setup.options.seed, "order", epoch)
    return values[torch.randperm(len(values), generator=generator).numpy()]
