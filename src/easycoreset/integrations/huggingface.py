"""Hugging Face: a mix-in that records hardness during a Trainer's training steps."""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.errors import UsageError, require
from easycoreset.integrations.observer import Observer
from easycoreset.process_group import is_main_process
from easycoreset.recorder import HardnessRecorder

try:
    from transformers import TrainerCallback
except ImportError:
    raise UsageError("integrations.huggingface needs transformers: pip install easycoreset[hf]") from None

STATE_FILE = "hardness.pt"
SHARE_TOLERANCE = 1e-3  # closer to 1, a share does not show whether the loss was divided by the number of items


class HardnessMixin:
    """Records hardness in `class MyTrainer(HardnessMixin, Trainer)`, whose batches hold `pixel_values, labels, index`.

    TrainingArguments need `remove_unused_columns=False`, since models have no input `index`. The scaling of a batch's
    mean loss by the Trainer and Accelerate is undone: accumulation, `num_items_in_batch` and a scaler. The recorder's
    state is saved in and restored from the Trainer's checkpoints.

    Args:
        recorder: the recorder, with reduction="mean".
        feature_layer: name of the layer whose input is observed as features; None: the last linear layer.
        args: positional arguments of the Trainer.
        kwargs: keyword arguments of the Trainer.
    """

    def __init__(self, *args: Any, recorder: HardnessRecorder, feature_layer: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trainer: Any = self
        gpus = trainer.args.n_gpu
        require(gpus <= 1, "n_gpu", "1 a process (torchrun, accelerate launch)", gpus)
        require(recorder.reduction == "mean", "recorder", "of reduction 'mean', as the Trainer's", recorder.reduction)
        self.recorder = recorder
        self._observer = Observer(recorder, feature_layer)
        self._uses_items: bool | None = None
        trainer.add_callback(HardnessCallback(recorder))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The Trainer's loss; in a recorded training step, input gradients, logits and features are recorded too."""
        inputs = dict(inputs)
        index = inputs.pop("index", None)
        base: Any = super()
        options = {"return_outputs": True, "num_items_in_batch": num_items_in_batch, **kwargs}
        if not (model.training and torch.is_grad_enabled() and self.recorder.recording):
            loss, outputs = base.compute_loss(model, inputs, **options)
            return (loss, outputs) if return_outputs else loss
        if index is None or not {"pixel_values", "labels"} <= set(inputs):
            raise UsageError(
                "a training batch must hold pixel_values, labels and index, with "
                f"remove_unused_columns=False; got {', '.join(inputs)}"
            )
        x = inputs["pixel_values"]
        y = inputs["labels"]
        network = self.accelerator.unwrap_model(model)  # pyright: ignore[reportAttributeAccessIssue]
        if x.is_floating_point():
            x.requires_grad_()
        observations: list[tuple[Tensor, Tensor | None]] = []
        with self._observer.observe_step(network, x, lambda *observed: observations.append(observed)):
            loss, outputs = base.compute_loss(model, inputs, **options)
        ((logits, features),) = observations
        scale = self._loss_scale(loss.detach(), logits.detach(), y, num_items_in_batch)
        self.recorder.watch(x, index, scale, in_place=True)
        self.recorder.observe(logits, y, index, features)
        return (loss, outputs) if return_outputs else loss

    def _loss_scale(self, loss: Tensor, logits: Tensor, y: Tensor, items: Any) -> float:
        """The factor by which the batch's mean loss is multiplied before the backward pass."""
        trainer: Any = self
        accelerator = trainer.accelerator
        has_custom_loss = trainer.compute_loss_func is not None
        receives_items = items is not None and (trainer.model_accepts_loss_kwargs or has_custom_loss)
        factor = 1.0
        if receives_items and trainer.args.average_tokens_across_devices:
            factor *= accelerator.num_processes // trainer.get_tp_size()
        if receives_items:
            factor *= self._item_share(loss / factor, logits, y, items)
        is_scaled = getattr(trainer, "loss_is_scaled_for_ga", None)
        if not (receives_items or has_custom_loss if is_scaled is None else is_scaled):
            factor /= trainer.current_gradient_accumulation_steps
        scaler = accelerator.scaler
        return factor * (1.0 if scaler is None else scaler.get_scale()) / accelerator.gradient_accumulation_steps

    def _item_share(self, loss: Tensor, logits: Tensor, y: Tensor, items: Any) -> float:
        """The ratio of the loss, maybe divided by the number of items of all accumulated batches, to the batch's mean.

        Not every model that receives the number of items uses it; accumulated batches show whether this one does.
        """
        share = len(y) / float(items)
        if self._uses_items is None and abs(share - 1) > SHARE_TOLERANCE and self.recorder.loss == "cross_entropy":
            ratio = float(loss / F.cross_entropy(logits.float(), y))
            self._uses_items = abs(ratio - share) <= abs(ratio - 1) if math.isfinite(ratio) else None
        return 1.0 if self._uses_items is False else share


class HardnessCallback(TrainerCallback):
    """Ends the recorder's epochs with the Trainer's, and saves its state in the Trainer's checkpoints."""

    def __init__(self, recorder: HardnessRecorder) -> None:
        self.recorder = recorder

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recorder.end_epoch()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        recorder_state = self.recorder.state_dict()
        if is_main_process():
            torch.save(recorder_state, _state_file(args, state))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.global_step:
            return
        file = _state_file(args, state)
        if not file.exists():
            raise UsageError(f"{file}: no such file: the checkpoint is from a run that did not record hardness")
        self.recorder.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        if self.recorder.epoch <= round(state.epoch, 6):  # saved after the epoch's last step, before its end
            self.recorder.end_epoch()


def _state_file(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE
