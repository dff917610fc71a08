"""What every adapter does in a step: find the features' layer once, and observe one forward pass of the network."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.errors import UsageError
from easycoreset.models.last_layer import LastLayer, extract_logits, find_last_layer
from easycoreset.recorder import HardnessRecorder

Seen = Callable[[Tensor, Tensor | None], None]  # (logits [B,classes], features [B,d])


class Observer:
    """Observes a network's logits, and its features where a measure wants them and a last linear layer shows them.

    Args:
        recorder: what records.
        feature_layer: name of the layer whose input is observed as features; None: the last linear layer.
    """

    def __init__(self, recorder: HardnessRecorder, feature_layer: str | None = None) -> None:
        self.recorder = recorder
        self.feature_layer = feature_layer
        self._layer: LastLayer | None = None
        self._looked = False

    @contextlib.contextmanager
    def step(self, network: nn.Module, x: Tensor, seen: Seen) -> Iterator[None]:
        """Call `seen` with the logits and features of the first forward pass in train mode inside the `with` block.

        Raises:
            UsageError: the network did not run, or its output holds no logits.
        """
        layer = self._find(network, x)
        due = True
        held = contextlib.ExitStack()

        def wanted() -> bool:
            return due and network.training and torch.is_grad_enabled()

        def before(module: nn.Module, inputs: Any) -> None:
            if layer is not None and wanted():
                held.enter_context(layer.recording())

        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal due
            if wanted():
                due = False
                features = None if layer is None else layer.pop_features(len(x))
                held.close()
                seen(extract_logits(output), features)

        hooks = network.register_forward_pre_hook(before), network.register_forward_hook(after)
        try:
            yield
        finally:
            held.close()
            for hook in hooks:
                hook.remove()
        if due:
            raise UsageError(f"the training step did not call {type(network).__name__}: name the module that it calls")

    def _find(self, network: nn.Module, x: Tensor) -> LastLayer | None:
        """The features' layer, looked for once; without one no features are seen, and that is said."""
        if not self._looked and self.recorder.needs_features:
            try:
                self._layer = find_last_layer(network, x[:2].detach(), self.feature_layer)
                self.recorder.feature_bias = self._layer.bias
            except UsageError as error:
                if self.feature_layer is not None:
                    raise
                log.info("grand left out: %s", error)
        self._looked = True
        return self._layer
