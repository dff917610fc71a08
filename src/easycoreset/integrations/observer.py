"""Shared by all adapters: find the feature layer once, and observe one forward pass of the network in each step."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.errors import UsageError
from easycoreset.models.last_layer import LastLayer, extract_logits, find_last_layer
from easycoreset.recorder import HardnessRecorder

OnOutputs = Callable[[Tensor, Tensor | None], None]  # (logits [B,classes], features [B,d])


class Observer:
    """Observes a network's logits, and its features if a measure needs them and a last linear layer is found.

    Args:
        recorder: the recorder.
        feature_layer: name of the layer whose input is observed as features; None: the last linear layer.
    """

    def __init__(self, recorder: HardnessRecorder, feature_layer: str | None = None) -> None:
        self.recorder = recorder
        self.feature_layer = feature_layer
        self._layer: LastLayer | None = None
        self._searched = False

    @contextlib.contextmanager
    def observe_step(self, network: nn.Module, x: Tensor, on_outputs: OnOutputs) -> Iterator[None]:
        """Call `on_outputs` with the logits and features of the first train-mode forward pass inside the `with` block.

        Raises:
            UsageError: the network did not run, or its output does not contain logits.
        """
        layer = self._find_feature_layer(network, x)
        pending = True
        recording = contextlib.ExitStack()

        def should_observe() -> bool:
            return pending and network.training and torch.is_grad_enabled()

        def before_forward(module: nn.Module, inputs: Any) -> None:
            if layer is not None and should_observe():
                recording.enter_context(layer.capture_inputs())

        def after_forward(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal pending
            if should_observe():
                pending = False
                features = None if layer is None else layer.pop_features(len(x))
                recording.close()
                on_outputs(extract_logits(output), features)

        hooks = network.register_forward_pre_hook(before_forward), network.register_forward_hook(after_forward)
        try:
            yield
        finally:
            recording.close()
            for hook in hooks:
                hook.remove()
        if pending:
            raise UsageError(
                f"the training step did not call {type(network).__name__}: give the name of the module that it calls"
            )

    def _find_feature_layer(self, network: nn.Module, x: Tensor) -> LastLayer | None:
        """The feature layer, searched for once; if there is none, a message is logged and features are not observed."""
        if not self._searched and self.recorder.feature_measures:
            try:
                self._layer = find_last_layer(network, x[:2].detach(), self.feature_layer)
                self.recorder.feature_bias = self._layer.has_bias
            except UsageError as error:
                if self.feature_layer is not None:
                    raise
                log.info("grand left out: %s", error)
        self._searched = True
        return self._layer
