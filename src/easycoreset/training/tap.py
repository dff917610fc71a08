"""Where online scoring sees the logits and features of our own steps, whatever the objective does with the network."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.data import Batch
from easycoreset.errors import UsageError
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.recorder import HardnessRecorder
from easycoreset.training.setup import Job


class Tap(nn.Module):
    """Passes images on to a network; a recorder watches each clean batch and observes its first train-mode logits.

    Args:
        network: what is run; the model itself, or compiled.
        recorder: what records.
        layer: whose input is observed as features; None for none.
    """

    def __init__(self, network: Any, recorder: HardnessRecorder, layer: LastLayer | None) -> None:
        super().__init__()
        self.network = network
        self.recorder = recorder
        self.layer = layer
        self._due: tuple[Tensor, Batch] | None = None

    def watch(self, batch: Batch, scale: float) -> Tensor:
        """The images of a batch, watched; `scale` is the share of the loss that is this process's."""
        x = self.recorder.watch(batch.x, batch.index, scale)
        self._due = (x, batch) if self.recorder.recording else None
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self._due is None or x is not self._due[0] or not self.training:
            return self.network(x)
        batch = self._due[1]
        self._due = None
        features = None
        if self.layer is None:
            logits = self.network(x)
        else:
            with self.layer.watched():
                logits = self.network(x)
                features = self.layer.features(len(x))
        self.recorder.observe(logits, batch.y, batch.index, features)
        return logits


def tapped(network: Any, model: nn.Module, recorder: HardnessRecorder, job: Job, feature_layer: str | None) -> Tap:
    """A tap on what the loop runs; without a last linear layer, or compiled, no features are seen."""
    layer = None
    if recorder.wants_features and network is model:
        batch = next(job.split.batches(np.arange(min(2, len(job.split))), 2, job.device))
        try:
            layer = find_last_layer(model, batch.x, feature_layer)
            recorder.feature_bias = layer.bias
        except UsageError as error:
            log.info("grand left out: %s", error)
    elif recorder.wants_features:
        log.info("grand left out: a compiled model shows no features while it trains")
    return Tap(network, recorder, layer).train(model.training)


def is_tappable(job: Job) -> bool:
    """Whether the objective passes the clean batch through the network in train mode."""
    seen: list[bool] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x is batch.x and self.training)
            return x.flatten(1)[:, :1] * torch.ones(2, device=x.device)

    batch = next(job.split.batches(job.index[:2], 2, job.device))
    job.objective(
        Spy(), batch.x.requires_grad_(), torch.zeros_like(batch.y), None, torch.Generator(job.device).manual_seed(0)
    )
    return any(seen)
