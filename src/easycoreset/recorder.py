"""Hardness for nothing in anybody's training loop: norms of the input gradients that a step computes anyway."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from easycoreset.errors import UsageError, require
from easycoreset.hardness import load_hardness
from easycoreset.hardness.gradient import AIGN
from easycoreset.tables import Scores


class HardnessRecorder:
    """Records each sample's input gradient norm in a training loop's own backward pass.

    The column is `aign_online`; for a loss other than plain cross-entropy it is `grad_norm_online`. Either is
    approximate: augmented input, moving weights, batch statistics shared by the batch.

    Args:
        num_samples: N; indices are 0..N-1.
        reduction: how the loop's loss is reduced over the batch; "none" means that it backpropagates the sum.
        loss: what the loop minimises; anything but "cross_entropy" names the column `grad_norm_online`.
        hardness: variants of `aign` to record.
        every: record epochs k, 2k, ... only.
        first: record the first k epochs only.
        input_std: [C] of the model's own normalisation, for `aign:space=model`.

    Raises:
        UsageError: an option out of range.

    >>> recorder = HardnessRecorder(4, reduction="sum")
    >>> x = recorder.watch(torch.ones(2, 1, 1, 2), torch.tensor([3, 0]))
    >>> (3 * x).sum().backward()
    >>> recorder.end_epoch()
    >>> [round(float(value), 3) for value in recorder.scores()["aign_online"]]
    [4.243, nan, nan, 4.243]
    """

    def __init__(self, num_samples: int, reduction: Literal["mean", "sum", "none"] = "mean",
                 loss: str = "cross_entropy", *, hardness: Sequence[str] = ("aign",), every: int = 1,
                 first: int | None = None, input_std: Sequence[float] | None = None) -> None:  # fmt: skip
        require(num_samples >= 1, "num_samples", ">= 1", num_samples)
        require(reduction in ("mean", "sum", "none"), "reduction", "mean, sum or none", reduction)
        require(every >= 1, "every", ">= 1", every)
        require(first is None or first >= 1, "first", ">= 1", first)
        self.num_samples, self.reduction, self.loss = num_samples, reduction, loss
        self.every, self.first = every, first
        self.input_std = None if input_std is None else torch.tensor(input_std)
        self.measures: list[AIGN] = []
        for measure in load_hardness(hardness):
            if not isinstance(measure, AIGN) or measure.dtype != "float32":
                raise UsageError(f"hardness online must be aign in float32; got {measure.name!r}")
            self.measures.append(measure)
        kind = "aign" if loss == "cross_entropy" else "grad_norm"
        self.columns = [measure.name.replace("aign", kind, 1) + "_online" for measure in self.measures]
        self.epoch = 1
        self._watched = False
        self._last: Tensor | None = None
        shape = (len(self.columns), num_samples)
        self._held = {
            name: torch.zeros(shape, dtype=torch.float64) for name in ("sum", "count", "epoch_sum", "epoch_count")
        }
        self._held["nonfinite"] = torch.zeros((), dtype=torch.int64)

    def watch(self, x: Tensor, index: Any, scale: float = 1.0) -> Tensor:
        """Have the gradient of `x` recorded when the loop goes backward; use what is returned in place of `x`.

        Args:
            x: [B,C,H,W], floating, in pixel space ([0,1]).
            index: [B] integers, the samples' indices.
            scale: the factor by which the loop multiplied the loss (GradScaler's scale, 1/k for k accumulation steps).

        Returns:
            `x` as it wants its gradient, or unchanged in an epoch that is not recorded.

        Raises:
            UsageError: integer input, lengths that differ, or an index (on the CPU) out of range. A second backward
                pass through the same `x` raises it too.
        """
        if not self.recording:
            return x
        require(scale > 0 and math.isfinite(scale), "scale", "finite and > 0", scale)
        index = self._check(x, index)
        if self._held["sum"].device != x.device:
            self._move(x.device)
        self._watched = True
        x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        factor = (len(x) if self.reduction == "mean" else 1) / scale
        index, used = index.to(x.device, non_blocking=True), False

        def record(gradient: Tensor) -> None:
            nonlocal used
            if used:
                raise UsageError("watch counts once; this is a second backward pass through the same x")
            used = True
            self._add(gradient.detach(), index, factor)

        x.register_hook(record)
        return x

    @property
    def recording(self) -> bool:
        """Whether this epoch is recorded."""
        return self.epoch % self.every == 0 and (self.first is None or self.epoch <= self.first)

    def end_epoch(self) -> None:
        """Fold the epoch: a sample seen twice in it counts once, with its mean."""
        if self.recording:
            held = self._held
            seen = held["epoch_count"] > 0
            self._last = torch.where(seen, held["epoch_sum"] / held["epoch_count"].clamp_min(1), float("nan"))
            held["sum"] += torch.where(seen, self._last, 0)
            held["count"] += seen
            held["epoch_sum"].zero_()
            held["epoch_count"].zero_()
        self.epoch += 1

    def last_epoch(self) -> dict[str, np.ndarray]:
        """The values of the recorded epoch that ended last, column -> [N] float32, NaN where a sample was not seen."""
        if self._last is None:
            raise UsageError("no recorded epoch has ended yet")
        return dict(zip(self.columns, self._last.float().cpu().numpy(), strict=True))

    @property
    def nonfinite(self) -> int:
        """Gradients that were not finite, counted and left out."""
        return int(self._held["nonfinite"])

    def scores(self, labels: Any = None, sample_ids: Sequence[str] | None = None) -> Scores:
        """The mean over recorded epochs, as a table that `select` takes.

        Args:
            labels: [N] integers; without them nothing can be selected per class.
            sample_ids: [N] names; left out: the indices.

        Raises:
            UsageError: no epoch was recorded, or lengths differ.
        """
        if self.epoch == 1 or not (self._watched or self._held["count"].any()):
            raise UsageError("nothing was recorded: call watch for every batch and end_epoch after every epoch")
        own = np.zeros(self.num_samples, np.int64) if labels is None else np.asarray(labels)
        require(own.ndim == 1 and np.issubdtype(own.dtype, np.integer), "labels", "integers [N]", str(own.dtype))
        own = own.astype(np.int64)
        ids = [str(i) for i in range(self.num_samples)] if sample_ids is None else list(sample_ids)
        for name, given in (("labels", own), ("sample_ids", ids)):
            require(len(given) == self.num_samples, name, f"of length num_samples={self.num_samples}", len(given))
        total, count = self._held["sum"], self._held["count"]
        means = torch.where(count > 0, total / count.clamp_min(1), float("nan")).float().cpu().numpy()
        return Scores(sample_ids=ids, labels=own, class_names=[str(k) for k in range(int(own.max()) + 1)],
                      n_obs=count[0].to(torch.int32).cpu().numpy(),
                      columns=dict(zip(self.columns, means, strict=True)),
                      provenance={"mode": "online", "loss": self.loss, "split": "train",
                                  **({"labels": "not given"} if labels is None else {})})  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"epoch": self.epoch, **{name: value.cpu() for name, value in self._held.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            UsageError: it is of another recorder.
        """
        for name, value in self._held.items():
            if name not in state or state[name].shape != value.shape:
                raise UsageError(f"the recorder's state does not fit: {name} must be of shape {tuple(value.shape)}")
            value.copy_(state[name])
        self.epoch = state["epoch"]

    def _move(self, device: torch.device) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._held = {k: v.to(device, wide if v.is_floating_point() else v.dtype) for k, v in self._held.items()}
        self.input_std = None if self.input_std is None else self.input_std.to(device)

    def _add(self, gradient: Tensor, index: Tensor, factor: float) -> None:
        for row, measure in enumerate(self.measures):
            values = measure.measure_gradient(gradient, self.input_std) * (factor**2 if measure.squared else factor)
            finite = torch.isfinite(values)
            for name, added in (("epoch_sum", torch.where(finite, values, 0)), ("epoch_count", finite)):
                self._held[name][row].index_add_(0, index, added.to(self._held[name].dtype))
            self._held["nonfinite"] += (~finite).sum()

    def _check(self, x: Tensor, index: Any) -> Tensor:
        index = torch.as_tensor(index)
        if x.ndim < 2 or not len(x):
            raise UsageError(f"watch: x must be [B, ...] with B >= 1; got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise UsageError(f"watch: x must be floating, since integers have no gradient; got {x.dtype}")
        if index.dtype not in (torch.int64, torch.int32) or index.shape != (len(x),):
            raise UsageError(f"watch: index must be [{len(x)}] integers; got {index.dtype} {tuple(index.shape)}")
        if (
            index.device.type == "cpu"
            and len(index)
            and not 0 <= int(index.min()) <= int(index.max()) < self.num_samples
        ):
            raise UsageError(
                f"watch: index must be in 0..{self.num_samples - 1}; got {int(index.min())}..{int(index.max())}"
            )
        return index.long()


def with_index(dataset: Any) -> "Indexed":
    """Add each sample's index to what a map-style data set yields: (x, y) becomes (x, y, index).

    >>> with_index([("a", 0), ("b", 1)])[1]
    ('b', 1, 1)
    """
    return Indexed(dataset)


class Indexed:
    """A map-style data set that yields indices too."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        sample = self.dataset[index]
        return (*sample, index) if isinstance(sample, tuple | list) else (sample, index)
