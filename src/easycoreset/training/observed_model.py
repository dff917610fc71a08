"""A wrapper of the model in training, from which online scoring gets logits and features under any objective."""

from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.data import Batch
from easycoreset.errors import UsageError
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.recorder import HardnessRecorder
from easycoreset.training.setup import TrainingSetup


class ObservedModel(nn.Module):
    """Runs the model; a recorder gets logits and features of the first train-mode forward pass on each clean batch.

    Args:
        train_model: the model, compiled or not.
        recorder: records hardness.
        layer: the layer whose input is observed as features; None for no features.
    """

    def __init__(self, train_model: Any, recorder: HardnessRecorder, layer: LastLayer | None) -> None:
        super().__init__()
        self.train_model = train_model
        self.recorder = recorder
        self.layer = layer
        self._watched: tuple[Tensor, Batch] | None = None

    def watch(self, batch: Batch, loss_weight: float) -> Tensor:
        """Return the images of a batch; the recorder gets the gradient of the loss without its factor `loss_weight`."""
        x = self.recorder.watch(batch.x, batch.index, loss_weight)
        self._watched = (x, batch) if self.recorder.recording else None
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self._watched is None or x is not self._watched[0] or not self.training:
            return self.train_model(x)
        batch = self._watched[1]
        self._watched = None
        features = None
        if self.layer is None:
            logits = self.train_model(x)
        else:
            with self.layer.capture_inputs():
                logits = self.train_model(x)
                features = self.layer.pop_features(len(x))
        self.recorder.observe(logits, batch.y, batch.index, features)
        return logits


def wrap_model(
    train_model: Any, model: nn.Module, recorder: HardnessRecorder, setup: TrainingSetup, feature_layer: str | None
) -> ObservedModel:
    """Wrap `train_model`, which is `model` or compiled from it; a compiled one gives no features."""
    layer = None
    if recorder.feature_measures and train_model is model:
        try:
            layer = find_last_layer(model, setup.two_images, feature_layer)
            recorder.feature_bias = layer.has_bias
        except UsageError as error:
            log.info("hardness %s left out: %s", ", ".join(recorder.feature_measures), error)
    elif recorder.feature_measures:
        log.info(
            "hardness %s left out: features of a compiled model cannot be read in training",
            ", ".join(recorder.feature_measures),
        )
    return ObservedModel(train_model, recorder, layer).train(model.training)


def uses_clean_batch(setup: TrainingSetup) -> bool:
    """Whether the objective runs the network on the clean batch in train mode."""
    seen_clean: list[bool] = []

    class Probe(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen_clean.append(x is batch.x and self.training)
            return x.flatten(1)[:, :1] * torch.ones(2, device=x.device)  # two logits with a gradient to x

    batch = next(setup.split.batches(setup.train_indices[:2], 2, setup.device))
    setup.objective(
        Probe(), batch.x.requires_grad_(), torch.zeros_like(batch.y), torch.Generator(setup.device).manual_seed(0)
    )
    return any(seen_clean)
