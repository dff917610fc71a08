"""Hugging Face: a mix-in that records hardness in a Trainer's own training steps."""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.errors import UsageError, require
from easycoreset.integrations.observing import Observer
from easycoreset.process_group import is_main_process
from easycoreset.recorder import HardnessRecorder

try:
    from transformers import TrainerCallback
except ImportError:
    raise UsageError("integrations.huggingface needs transformers: pip install easycoreset[hf]") from None

STATE = "hardness.pt"
CLOSE = 1e-3  # how near to 1 a share tells nothing


class HardnessMixin:
    """Records hardness in `class MyTrainer(HardnessMixin, Trainer)`, whose batches hold `pixel_values, labels, index`.

    TrainingArguments need `remove_unused_columns=False`, for models know no `index`. What the Trainer and Accelerate
    do to a batch's mean loss is undone: accumulation, `num_items_in_batch` and a scaler. The recorder is saved in
    the Trainer's checkpoints and comes back with them.

    Args:
        recorder: what records, with reduction="mean".
        feature_layer: name of the layer whose input is observed as features; None: the last linear layer.
        args: the Trainer's.
        kwargs: likewise.
    """

    def __init__(self, *args: Any, recorder: HardnessRecorder, feature_layer: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trainer: Any = self
        gpus = trainer.args.n_gpu
        require(gpus <= 1, "n_gpu", "1 a process (torchrun, accelerate launch)", gpus)
        require(recorder.reduction == "mean", "recorder", "of reduction 'mean', as the Trainer's", recorder.reduction)
        self.recorder = recorder
        self._observer = Observer(recorder, feature_layer)
        self._by_items: bool | None = None
        trainer.add_callback(HardnessCallback(recorder))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The Trainer's loss; in a training step that is recorded, its pixels are watched and its logits observed."""
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
        seen: list[tuple[Tensor, Tensor | None]] = []
        with self._observer.step(network, x, lambda *given: seen.append(given)):
            loss, outputs = base.compute_loss(model, inputs, **options)
        ((logits, features),) = seen
        self.recorder.watch(x, index, self._scale(loss.detach(), logits.detach(), y, num_items_in_batch), in_place=True)
        self.recorder.observe(logits, y, index, features)
        return (loss, outputs) if return_outputs else loss

    def _scale(self, loss: Tensor, logits: Tensor, y: Tensor, items: Any) -> float:
        """By what the batch's mean loss is multiplied before it goes backward."""
        trainer: Any = self
        accelerator = trainer.accelerator
        custom = trainer.compute_loss_func is not None
        counted = items is not None and (trainer.model_accepts_loss_kwargs or custom)
        factor = 1.0
        if counted and trainer.args.average_tokens_across_devices:
            factor *= accelerator.num_processes // trainer.get_tp_size()
        if counted:
            factor *= self._share(loss / factor, logits, y, items)
        divided = getattr(trainer, "loss_is_scaled_for_ga", None)
        if not (counted or custom if divided is None else divided):
            factor /= trainer.current_gradient_accumulation_steps
        scaler = accelerator.scaler
        return factor * (1.0 if scaler is None else scaler.get_scale()) / accelerator.gradient_accumulation_steps

    def _share(self, loss: Tensor, logits: Tensor, y: Tensor, items: Any) -> float:
        """What a loss that may be divided by the items of all accumulated batches is of the batch's mean.

        Not every model that is given their number uses it; a batch of several shows whether this one does.
        """
        share = len(y) / float(items)
        if self._by_items is None and abs(share - 1) > CLOSE and self.recorder.loss == "cross_entropy":
            ratio = float(loss / F.cross_entropy(logits.float(), y))
            self._by_items = abs(ratio - share) <= abs(ratio - 1) if math.isfinite(ratio) else None
        return 1.0 if self._by_items is False else share


class HardnessCallback(TrainerCallback):
    """Ends the recorder's epochs with the Trainer's, and keeps its state beside the Trainer's checkpoints."""

    def __init__(self, recorder: HardnessRecorder) -> None:
        self.recorder = recorder

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recorder.end_epoch()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        held = self.recorder.state_dict()
        if is_main_process():
            torch.save(held, _file(args, state))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.global_step:
            return
        file = _file(args, state)
        if not file.exists():
            raise UsageError(f"{file}: no such file: the checkpoint is of a run that recorded no hardness")
        self.recorder.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        if self.recorder.epoch <= round(state.epoch, 6):  # saved after the epoch's last step, before its end
            self.recorder.end_epoch()


def _file(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE
