"""Lightning: a callback that records hardness during a Trainer's training steps."""

import contextlib
from typing import Any

from torch import Tensor

from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.integrations.observer import Observer
from easycoreset.recorder import HardnessRecorder

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    raise UsageError("integrations.lightning needs lightning: pip install easycoreset[lightning]") from None


class HardnessCallback(Callback):
    """Records the hardness of each training batch (x, y, ..., index), which `easycoreset.with_index` provides.

    Steps use automatic optimisation: the loss scaling by `accumulate_grad_batches` and by a precision plugin's scaler
    is undone. The recorder's state is saved in and restored from Lightning's checkpoints.

    Args:
        recorder: the recorder; its `reduction` and `loss` must be those of `training_step`.
        network: name of the submodule whose output is the logits; "" for the module itself, called as `self(x)`.
            Its first forward pass in train mode is observed in each step.
        feature_layer: name, within the network, of the layer whose input is observed as features; None: the last
            linear layer.
    """

    def __init__(self, recorder: HardnessRecorder, network: str = "", feature_layer: str | None = None) -> None:
        self.recorder = recorder
        self.network = network
        self._observer = Observer(recorder, feature_layer)
        self._step = contextlib.ExitStack()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self.recorder.recording:
            return
        modules = dict(pl_module.named_modules())
        if self.network not in modules:
            names = [name for name in modules if name]
            raise UsageError(
                f"network {quote(self.network)} is not a module of {type(pl_module).__name__} (the default is "
                f"{type(pl_module).__name__} itself): {suggest_name(self.network, names)}"
            )
        if not isinstance(batch, tuple | list) or len(batch) < 3:
            raise UsageError("a training batch must be (x, y, ..., index): use easycoreset.with_index on the data set")
        x = batch[0]
        y = batch[1]
        index = batch[-1]

        def observe(logits: Tensor, features: Tensor | None) -> None:
            self.recorder.observe(logits, y, index, features)

        self._step.enter_context(self._observer.observe_step(modules[self.network], x, observe))
        self.recorder.watch(x, index, _loss_scale(trainer, pl_module), in_place=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._step.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._step.__exit__(type(exception), exception, None)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.recorder.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        return self.recorder.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.recorder.load_state_dict(state_dict)


def _loss_scale(trainer: Trainer, module: LightningModule) -> float:
    """The factor by which Lightning multiplies the loss that a training step returns."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    accumulation_factor = 1 / trainer.accumulate_grad_batches if module.automatic_optimization else 1.0
    return accumulation_factor * (1.0 if scaler is None else scaler.get_scale())
