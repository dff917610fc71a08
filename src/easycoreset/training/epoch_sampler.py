"""Dynamic methods in any training loop: a sampler for PyTorch's DataLoader."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Sampler

from easycoreset.data import Batch
from easycoreset.data.keyed_random import make_generator
from easycoreset.dynamic import EpochChoice, has_own_share
from easycoreset.dynamic.chooser import DynamicChooser
from easycoreset.errors import EasycoresetWarning, UsageError, require
from easycoreset.models.modes import device_of
from easycoreset.objectives import load_objective
from easycoreset.process_group import broadcast, rank, world_size
from easycoreset.recorder import HardnessRecorder
from easycoreset.tables import kept_count
from easycoreset.training.array_state import with_arrays, with_tensors
from easycoreset.training.passes import ModelPasses


class EpochSampler(Sampler[int]):
    """A sampler for a DataLoader (`sampler=`): a dynamic method chooses the samples of each epoch, in random order.

    The epoch is that of the recorder: `recorder.end_epoch()` begins the next one. With several processes, each process
    gets an equal part of the samples, and the last samples that do not fill equal parts are left out (tell Lightning
    and Accelerate not to replace the sampler).

    Args:
        method: `NAME[:key=value]...` of `DYNAMIC_METHODS`, or `package.module:name`.
        recorder: the recorder of the training loop; the method reads its present values. If the loss is not plain
            cross-entropy, the loop must record it with `recorder.observe_losses`.
        fraction: share of the samples that an epoch trains on, for methods that take one.
        labels: [N] integers, for methods that choose within classes.
        epochs: number of epochs of the whole training, for methods that follow its progress (InfoBatch trains on
            everything in the last eighth); if it is None, the progress stays 0.
        batch_size: number of samples in a training step, for methods that choose batches, and in a batch of a pass.
        seed: seed of all random draws.
        model: the network, for methods that pass over all samples; given together with `data`.
        data: a map-style data set for these passes, whose items begin with (x, y), x in [0,1] without augmentation.
        objective: the objective that the loop minimises, for these passes.

    Attributes:
        weights: [N] weights of the losses of this epoch's samples, by index, on the CPU; a step minimises the mean of
            `sampler.weight_of(index) * losses`.

    Raises:
        UsageError: unknown method or option, a fraction that does not fit, labels that are missing or of another
            length, or data that are not map-style or of another length.
    """

    def __init__(
        self,
        method: str,
        recorder: HardnessRecorder,
        fraction: float | None = None,
        *,
        labels: Any = None,
        epochs: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
        model: nn.Module | None = None,
        data: Any = None,
        objective: str = "standard",
    ) -> None:
        size = recorder.num_samples
        y = np.zeros(size, np.int64) if labels is None else np.asarray(labels).astype(np.int64)
        require(len(y) == size, "labels", f"of length num_samples={size}", len(y))
        require(epochs is None or epochs >= 1, "epochs", ">= 1", epochs)
        require((model is None) == (data is None), "model and data", "given together", (type(model), type(data)))
        is_map_style = hasattr(data, "__getitem__") and hasattr(data, "__len__")
        if data is not None and (isinstance(data, IterableDataset) or not is_map_style):
            raise UsageError(f"data must be map-style, with a length and items; got {type(data).__name__}")
        require(data is None or len(data) == size, "data", f"of length num_samples={size}", data and len(data))
        self.recorder = recorder
        self.epochs = epochs
        self.model = model
        self.data = data
        self.objective = load_objective(objective)[1]
        self.weights = torch.ones(size)
        self._on_device: Tensor | None = None  # the weights, where batches are
        self.passes = 0
        self._chooser = DynamicChooser(method, y, fraction, seed, batch_size)
        chosen_by_labels = (
            hasattr(self._chooser.method, "selector")
            or getattr(self._chooser.method, "per_class", False)
            or getattr(self._chooser.method, "unit", "") == "row"
        )
        require(labels is not None or not chosen_by_labels, "labels", f"given for {method}", None)
        self._epoch = 0  # for which `_order` was chosen
        self._order = torch.zeros(0, dtype=torch.int64)
        self._last_iterated_epoch = 0  # the last epoch that was iterated over

    def __iter__(self) -> Iterator[int]:
        """Choose the samples of the recorder's epoch, unless they are chosen already, and yield their indices.

        Raises:
            UsageError: the method needs values that the loop does not record, or passes without a model.
        """
        if self._last_iterated_epoch == self.recorder.epoch:
            message = "the sampler gives the same samples again: recorder.end_epoch() begins the next epoch"
            warnings.warn(message, EasycoresetWarning, stacklevel=2)
        self._choose()
        self._last_iterated_epoch = self.recorder.epoch
        local = len(self._order) // world_size()
        return iter(self._order[rank() : local * world_size() : world_size()].tolist())

    def __len__(self) -> int:
        """The number of samples of this epoch for this process.

        Before the samples are chosen, it is the number that the fraction gives, or the number of all samples.
        """
        if self._epoch == self.recorder.epoch:
            return len(self._order) // world_size()
        fraction = self._chooser.fraction
        size = self.recorder.num_samples
        is_all = fraction is None or has_own_share(self._chooser.method)
        return (size if is_all else kept_count(fraction or 1, size)) // world_size()

    def weight_of(self, index: Tensor) -> Tensor:
        """The weights of a batch's losses, [B], on the device of `index` [B]."""
        if index.device.type == "cpu":
            return self.weights[index]
        if self._on_device is None or self._on_device.device != index.device:
            self._on_device = self.weights.to(index.device)
        return self._on_device[index]

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, beside the recorder's."""
        previous = self._chooser.state_dict() or {}
        return {
            "previous": with_tensors(previous),
            "epoch": self._epoch,
            "order": self._order,
            "weights": self.weights.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._chooser.load_state_dict(with_arrays(state["previous"]) or None)
        self._epoch = state["epoch"]
        self._order = state["order"]
        self._on_device = None
        self.weights.copy_(state["weights"])

    def _choose(self) -> None:
        epoch = self.recorder.epoch
        if self._epoch == epoch:
            return
        present = {column: self.recorder.latest(column) for column in self.recorder.present_columns}
        for column in getattr(self._chooser.method, "columns", ()):
            if epoch > self.recorder.every and column in present and not np.isfinite(present[column]).any():
                raise UsageError(
                    f"{self._chooser.name} reads {column}, and the loop has recorded none: call recorder.observe("
                    "logits, y, index), or recorder.observe_losses(losses, index), in every step"
                )
        progress = 0.0 if self.epochs is None else min((epoch - 1) / self.epochs, 1.0)
        passes = self._make_passes(epoch)
        choice: EpochChoice = broadcast(self._chooser.choose(epoch, progress, present, passes))
        self.passes += 0 if passes is None else passes.count
        self._chooser.previous = choice
        rows = torch.from_numpy(choice.rows)
        self._order = rows[torch.randperm(len(rows), generator=make_generator(self._chooser.seed, "order", epoch))]
        self._on_device = None
        self.weights.fill_(1.0)
        if choice.weight is not None:
            self.weights[rows] = torch.from_numpy(choice.weight)
        self._epoch = epoch

    def _make_passes(self, epoch: int) -> ModelPasses | None:
        """Passes over the data; None without a model."""
        model = self.model
        data: Any = self.data
        if model is None:
            return None
        device = device_of(model)

        def batches() -> Iterator[Batch]:
            local = list(range(rank(), len(data), world_size()))
            loader = DataLoader(torch.utils.data.Subset(data, local), batch_size=self._chooser.batch_size)
            start = 0
            for item in loader:
                x, y = item[0].to(device), item[1].to(device)
                index = torch.tensor(local[start : start + len(x)], device=device)
                start += len(x)
                yield Batch(index, x, y)

        return ModelPasses(
            model,
            batches,
            self._chooser.labels,
            self.objective,
            seed=self._chooser.seed,
            epoch=epoch,
            on_refresh=self.recorder.set_latest,
        )
