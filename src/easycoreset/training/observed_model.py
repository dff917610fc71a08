"""A wrapper of the network that gives online scoring the logits and features of training steps, for any objective."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.data import Batch
from easycoreset.errors import UsageError
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.recorder import HardnessRecorder
from easycoreset.training.setup import TrainingSetup


class ObservedModel(nn.Module):
    """Runs a network; a recorder watches each clean batch and observes its first logits in train mode.

    Args:
        network: the model, compiled or not.
        recorder: records hardness.
        layer: the layer whose input is observed as features; None for no features.
    """

    def __init__(self, network: Any, recorder: HardnessRecorder, layer: LastLayer | None) -> None:
        super().__init__()
        self.network = network
        self.recorder = recorder
        self.layer = layer
        self._watched: tuple[Tensor, Batch] | None = None

    def watch(self, batch: Batch, scale: float) -> Tensor:
        """Watch a batch and return its images; `scale` is the share of this process in the loss."""
        x = self.recorder.watch(batch.x, batch.index, scale)
        self._watched = (x, batch) if self.recorder.recording else None
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self._watched is None or x is not self._watched[0] or not self.training:
            return self.network(x)
        batch = self._watched[1]
        self._watched = None
        features = None
        if self.layer is None:
            logits = self.network(x)
        else:
            with self.layer.recording():
                logits = self.network(x)
                features = self.layer.pop_features(len(x))
        self.recorder.observe(logits, batch.y, batch.index, features)
        return logits


def wrap_model(
    network: Any, model: nn.Module, recorder: HardnessRecorder, job: TrainingSetup, feature_layer: str | None
) -> ObservedModel:
    """Wrap the network of the loop; a compiled model, or one without a last linear layer, gives no features."""
    layer = None
    if recorder.needs_features and network is model:
        batch = next(job.split.batches(np.arange(min(2, len(job.split))), 2, job.device))
        try:
            layer = find_last_layer(model, batch.x, feature_layer)
            recorder.feature_bias = layer.bias
        except UsageError as error:
            log.info("grand left out: %s", error)
    elif recorder.needs_features:
        log.info("grand left out: features of a compiled model cannot be read in training")
    return ObservedModel(network, recorder, layer).train(model.training)


def uses_clean_batch(job: TrainingSetup) -> bool:
    """Whether the objective runs the network on the clean batch in train mode."""
    seen_clean: list[bool] = []

    class Probe(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen_clean.append(x is batch.x and self.training)
            return x.flatten(1)[:, :1] * torch.ones(2, device=x.device)

    batch = next(job.split.batches(job.train_indices[:2], 2, job.device))
    job.objective(
        Probe(), batch.x.requires_grad_(), torch.zeros_like(batch.y), None, torch.Generator(job.device).manual_seed(0)
    )
    return any(seen_clean)
