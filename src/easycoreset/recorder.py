"""Hardness from any training loop at no extra cost: from the gradients and logits that its steps compute anyway."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from easycoreset.console import log
from easycoreset.errors import EasycoresetWarning, RunError, UsageError, quote, require, suggest_name
from easycoreset.hardness import Outputs, provenance_of
from easycoreset.hardness.accumulator import EpochAccumulator
from easycoreset.hardness.folds import fold_state, load_fold_state
from easycoreset.hardness.gradient import AIGN
from easycoreset.hardness.logits import LOSS
from easycoreset.hardness.online import (
    check_index,
    check_input,
    check_output,
    check_recorded_labels,
    check_recording,
    load_online,
    loss_divisor,
    make_reduction_hook,
    online_norm,
    read_class_weight,
    sample_weights,
    std_tensor,
)
from easycoreset.hardness.present_values import PresentValues
from easycoreset.hardness.tdds import DifferenceWindows, RecordedChanges
from easycoreset.tables import Floats, Ints, Scores

CHECK_EVERY = 20  # steps between two checks of the declared loss, each of which waits for the device


class HardnessRecorder:
    """Records hardness in the steps of a training loop: `watch` the input, `observe` the logits.

    `watch` records `aign_online` from the backward pass of the step (`grad_norm_online` for a loss other than plain
    cross-entropy); `observe` records the measures of logits and features. All are approximate: the input is augmented,
    the weights change within the epoch, and batch norm uses the statistics of the batch. If several processes train
    together (torch.distributed), each records its batches, and all of them must call `end_epoch` and `state_dict`; a
    sample that two processes saw gets the mean of both values.

    Args:
        num_samples: N; indices are 0..N-1.
        reduction: how the loop's loss is reduced over the batch of this process; "none" means that the
            loop backpropagates the sum.
        loss: name of the loss that the loop minimises; for any name but "cross_entropy" the column is called
            `grad_norm_online`.
        hardness: measures to record, including variants of `aign`; by default all that are not expensive.
        every: record only the epochs that are a multiple of this number.
        first: record only this number of first epochs; None for all.
        input_std: [C] standard deviations by which the data loader divides the images, if it normalises them;
            gradients are converted to pixel space.
        model_std: [C] standard deviations of a normalisation inside the model, for `aign:space=model`.
        feature_bias: whether the layer whose input `observe` gets as features has a bias.
        class_weight: [classes] class weights of the loop's cross-entropy; the loop must then call `observe`, which
            provides the labels.

    Raises:
        UsageError: an option is out of range, or a measure cannot be computed in a training step.

    >>> recorder = HardnessRecorder(4, reduction="sum")
    >>> x = recorder.watch(torch.ones(2, 1, 1, 2), torch.tensor([3, 0]))
    >>> (3 * x).sum().backward()
    >>> recorder.end_epoch()
    >>> [round(float(value), 3) for value in recorder.scores()["aign_online"]]
    [4.243, nan, nan, 4.243]
    """

    def __init__(
        self,
        num_samples: int,
        reduction: Literal["mean", "sum", "none"] = "mean",
        loss: str = "cross_entropy",
        *,
        hardness: Sequence[str] = (),
        every: int = 1,
        first: int | None = None,
        input_std: Sequence[float] | None = None,
        model_std: Sequence[float] | None = None,
        feature_bias: bool = True,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        check_recording(num_samples, reduction, every, first, input_std)
        require(loss != "weighted" or class_weight is not None, "class_weight", "given for the loss 'weighted'", None)
        loss = loss if class_weight is None else "weighted"
        self.num_samples = num_samples
        self.reduction = reduction
        self.loss = loss
        self.class_weight = read_class_weight(class_weight)
        self.weighted = class_weight is not None
        self.every = every
        self.first = first
        self.feature_bias = feature_bias
        self.input_std = std_tensor(input_std)
        self.model_std = std_tensor(model_std)
        self._measures = measures = load_online(hardness)
        prefix = "aign" if loss == "cross_entropy" else "grad_norm"
        self._gradient_measures = {m.name.replace("aign", prefix, 1): m for m in measures if isinstance(m, AIGN)}
        forward = {m.column: m for m in measures if not isinstance(m, AIGN) and not (m.recorded_only or m.is_wide)}
        if loss == "cross_entropy" and any(m.recorded_only for m in measures):
            forward.setdefault("loss", LOSS)  # plain cross-entropy is the objective's loss
        self._changes = RecordedChanges(num_samples) if any(m.is_wide for m in measures) else None
        self._logit_measures = {name: m for name, m in forward.items() if not m.needs_features}
        self._feature_measures = {name: m for name, m in forward.items() if m.needs_features}
        self._accumulators = {
            "gradients": EpochAccumulator(list(self._gradient_measures), num_samples),
            "logits": EpochAccumulator(list(self._logit_measures), num_samples, first=("correct", "p_y")),
            "features": EpochAccumulator(list(self._feature_measures), num_samples),
            "losses": EpochAccumulator([m.column for m in measures if m.recorded_only], num_samples),
        }
        # column of the scores, without "_online" -> (column of the trajectory, its fold)
        self._folds = {name: (name, m.fold()) for name, m in self._gradient_measures.items()}
        others = [m for m in measures if not isinstance(m, AIGN)]
        self._folds |= {m.name: (m.column, DifferenceWindows() if m.is_wide else m.fold()) for m in others}
        self.epoch = 1
        self.nonfinite = dict[str, int]()
        self._observed = np.zeros(num_samples, np.int32)
        self._last_values: dict[str, np.ndarray] | None = None
        self._present = PresentValues(num_samples)
        self._recorded_columns: set[str] = set()  # trajectory columns with values from any epoch
        self._must_check_loss = False
        self._loss_checked = False
        self._scale = 1.0
        self._watch_calls = 0
        # Of the watched batch; empty until `observe` fills them in:
        self._sample_weights: list[Tensor] = []  # one tensor, [B]
        self._nonfinite_rows: list[Tensor] = []  # one tensor, [B]: whether the logits are not finite

    @property
    def columns(self) -> list[str]:
        """Columns of the scores, if the loop calls `watch` and `observe` with all that the measures need."""
        return [f"{name}_online" for name in self._folds]

    @property
    def present_columns(self) -> list[str]:
        """Columns that have a value in each epoch, for `latest`."""
        return list(dict.fromkeys(f"{column}_online" for column, _ in self._folds.values()))

    @property
    def recording(self) -> bool:
        """Whether this epoch is recorded."""
        return self.epoch % self.every == 0 and (self.first is None or self.epoch <= self.first)

    @property
    def feature_measures(self) -> list[str]:
        """Names of the measures that need features."""
        return [measure.name for measure in self._feature_measures.values()]

    def watch(self, x: Tensor, index: Any, scale: float = 1.0, in_place: bool = False) -> Tensor:
        """Record the gradient of `x` in the backward pass; use the returned tensor in place of `x`.

        Args:
            x: [B,C,H,W], floating, in pixel space ([0,1]) unless `input_std` was given.
            index: [B] integers, the samples' indices.
            scale: the factor by which the loop multiplies the loss (GradScaler's scale, 1/k for k accumulation steps).
            in_place: watch `x` itself, for a loop that cannot use another tensor.

        Returns:
            `x` with `requires_grad`, or `x` unchanged in an epoch that is not recorded.

        Raises:
            UsageError: `x` is empty or not floating, `x` and `index` have different lengths, `scale` is invalid, or
                (on the CPU) an index is out of range. In the backward pass: it is the second one through the same
                `x`, or class weights were given and `observe` was not called.
        """
        if not self.recording or not self._gradient_measures:
            return x
        check_input(x, scale, {"input_std": self.input_std, "model_std": self.model_std})
        index = check_index("watch", index, x, self.num_samples)
        cross_entropy = self.loss == "cross_entropy" or self.weighted
        self._sample_weights = list[Tensor]()
        due = self._watch_calls % CHECK_EVERY == 0
        self._must_check_loss = due and cross_entropy and not self._recorded_columns
        self._watch_calls += 1
        self._scale = scale
        self._nonfinite_rows = nonfinite_rows = list[Tensor]()
        watched = x if in_place else x.view_as(x) if x.requires_grad else x.detach()
        x = watched.requires_grad_()
        size = len(x)
        used = False
        weights = self._sample_weights

        def record(gradient: Tensor) -> None:
            nonlocal used
            if used:
                raise UsageError(
                    "watch records one pass; this is a second backward pass through the same x (call watch after "
                    "an attack inside the step)"
                )
            used = True
            factor = loss_divisor(size, self.reduction, weights, self.weighted) / scale
            arguments = gradient.detach(), factor, self.input_std, self.model_std
            values = [online_norm(measure, *arguments) for measure in self._gradient_measures.values()]
            for rows in (rows for rows in nonfinite_rows if len(rows) == size):  # their gradient may be 0
                values = [value.masked_fill(rows, float("nan")) for value in values]
            self._accumulators["gradients"].add(values, index)

        x.register_hook(record)
        return x

    def observe(self, logits: Tensor, y: Tensor, index: Any, features: Tensor | None = None) -> None:
        """Record the measures of the logits of a step; call it between the forward and the backward pass.

        If the declared loss is cross-entropy (class weights are allowed), the first recorded epoch checks at its first
        step and every 20th step after it that the gradient at the logits fits the declared reduction and scale.

        Args:
            logits: [B, classes].
            y: [B] integers.
            index: [B] integers, the samples' indices.
            features: [B, d], the input of the last linear layer; without it there is no `grand_online`.

        Raises:
            UsageError: logits of another shape, soft or mixed labels, or (on the CPU) an index or a label out of
                range; in the backward pass, a loss that is not reduced as declared.
        """
        if not self.recording or not torch.is_grad_enabled():  # a pass over validation data is not a training step
            return
        if not (self._logit_measures or self._feature_measures or self._gradient_measures or self._changes):
            return  # the loss of the objective alone is recorded
        check_output(logits, y)
        index = check_index("observe", index, logits, self.num_samples)
        self._sample_weights[:] = sample_weights(self.class_weight, y, logits.shape[1])
        detached = logits.detach()
        outputs = Outputs(
            detached if detached.dtype == torch.float64 else detached.float(),
            y,
            features=None if features is None else features.detach().flatten(1),
            has_bias=self.feature_bias,
        )
        if self._must_check_loss and logits.requires_grad:
            logits.register_hook(make_reduction_hook(outputs, list(self._sample_weights), self.reduction, self._scale))
        self._loss_checked = self._loss_checked or self._must_check_loss
        self._must_check_loss = False
        if not self._nonfinite_rows:
            self._nonfinite_rows.append(~torch.isfinite(detached).all(1))
        with torch.no_grad():
            self._accumulators["logits"].add(
                [measure.measure(outputs) for measure in self._logit_measures.values()], index
            )
            if self._changes is not None:
                self._changes.add(outputs.p, index)
            if features is not None:
                self._accumulators["features"].add([m.measure(outputs) for m in self._feature_measures.values()], index)

    def observe_losses(self, losses: Tensor, index: Any) -> None:
        """Record the loss of each sample as the step minimises it, before the multiplication by the sample's weight.

        A loop whose loss is plain cross-entropy need not call this: `observe` records the same values.

        Args:
            losses: [B], one loss per sample.
            index: [B] integers, the samples' indices.

        Raises:
            UsageError: losses that are not [B], or (on the CPU) an index out of range.
        """
        if not self.recording or not self._accumulators["losses"].columns:
            return
        require(losses.ndim == 1, "observe_losses: losses", "[B], one of each sample", tuple(losses.shape))
        index = check_index("observe_losses", index, losses, self.num_samples)
        self._accumulators["losses"].add([losses.detach().float()], index)

    def end_epoch(self) -> None:
        """End the epoch and fold its values into the scores; all processes must call this.

        A sample seen twice gets the mean of its values, or its first value for `correct` and `p_y`.

        Raises:
            RunError: none of the gradients of the epoch is finite.
        """
        gradients = self._accumulators["gradients"]
        if self._watch_calls and not gradients.has_values:
            if gradients.nonfinite():
                raise RunError(f"the loss of epoch {self.epoch} is not finite: none of its gradients is finite")
            message = (
                f"watch was called {self._watch_calls} times but got no gradient: use the tensor that it "
                "returns in place of x, and let loss.backward() reach it (without no_grad between x and the loss, and "
                "without inputs=)"
            )
            warnings.warn(message, EasycoresetWarning, stacklevel=2)
        elif (
            self._watch_calls and not self._recorded_columns and self.loss == "cross_entropy" and not self._loss_checked
        ):
            log.warning(
                "warning: the declared loss (plain cross-entropy, reduced by %s) is not checked; "
                "recorder.observe(logits, y, index) checks it",
                self.reduction,
            )
        self._watch_calls = 0
        if self.recording:
            self._last_values = {}
            for accumulator in self._accumulators.values():
                accumulator.all_reduce()
                for name, count in accumulator.nonfinite().items():
                    self.nonfinite[f"{name}_online"] = self.nonfinite.get(f"{name}_online", 0) + count
                if accumulator.has_values:
                    values = accumulator.values().float().cpu().numpy()
                    self._last_values |= dict(zip(accumulator.columns, values, strict=True))
                accumulator.clear()
            changes = None if self._changes is None else self._changes.end_epoch()
            if changes is not None:
                self._last_values["tdds"] = changes
            if self.loss == "cross_entropy" and "loss" in self._last_values:
                for column in self._accumulators["losses"].columns:
                    self._last_values.setdefault(column, self._last_values["loss"])
            self._present.update(self._last_values, self.epoch)
            for column, fold in self._folds.values():
                if column in self._last_values:
                    fold.add(self._last_values[column])
            self._recorded_columns |= set(self._last_values)
            if self._last_values:
                self._observed += np.isfinite(next(iter(self._last_values.values())))
        self.epoch += 1

    def last_epoch(self) -> dict[str, np.ndarray]:
        """The values of the last recorded epoch, column -> [N] float32, NaN for samples that were not seen.

        Raises:
            UsageError: no recorded epoch has ended yet.
        """
        if self._last_values is None:
            raise UsageError("no recorded epoch has ended yet")
        return {f"{name}_online": values for name, values in self._last_values.items()}

    def latest(self, column: str) -> Floats:
        """The present values of a column, such as `objective_loss_online`, [N] float32.

        A sample's value is that of the last recorded epoch that trained on it; NaN if none did.

        Raises:
            UsageError: the column is not recorded.
        """
        return self._present.latest(self._column_name(column))

    def age(self, column: str) -> Ints:
        """Epochs since each present value of a column, [N], 0 for the last epoch's; -1 for samples never trained on.

        Raises:
            UsageError: the column is not recorded.
        """
        return self._present.ages(self._column_name(column), self.epoch - 1)

    def set_latest(self, column: str, values: Floats) -> None:
        """Replace the present values of a column by `values` [N], measured by a separate pass; NaN keeps the old value.

        Raises:
            UsageError: the column is not recorded.
        """
        self._present.update({self._column_name(column): values}, self.epoch - 1)

    def _column_name(self, column: str) -> str:
        """The name of a recorded column without its ending."""
        known = self.present_columns
        if column not in known:
            raise UsageError(f"{quote(column)} is not recorded here: {suggest_name(column, known)}")
        return column.removesuffix("_online")

    def scores(self, labels: Any = None, sample_ids: Sequence[str] | None = None) -> Scores:
        """The folded values of the recorded epochs, as a table for `select`.

        Args:
            labels: [N] integers; needed to select per class.
            sample_ids: [N] names; by default the indices.

        Raises:
            UsageError: no recorded epoch has ended, `labels` or `sample_ids` do not have length N, or the labels are
                not integers.
        """
        if not self._recorded_columns:
            raise UsageError(
                "nothing was recorded: call watch or observe for every batch, and end_epoch after every epoch"
            )
        y, ids = check_recorded_labels(labels, sample_ids, self.num_samples)
        columns = {
            f"{name}_online": fold.result()
            for name, (column, fold) in self._folds.items()
            if column in self._recorded_columns
        }
        return Scores(
            sample_ids=ids,
            labels=y,
            class_names=[str(label) for label in range(int(y.max()) + 1)],
            n_obs=self._observed.copy(),
            columns=columns,
            provenance={
                "mode": "online",
                "loss": self.loss,
                "split": "train",
                **({"labels": "not given"} if labels is None else {}),
                **provenance_of(self._measures, "_online"),
            },
        )

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint; all processes must call this, and the main process saves it."""
        for accumulator in self._accumulators.values():
            accumulator.all_reduce(keep_all=False)
        return {
            "options": self._options(),
            "epoch": self.epoch,
            "nonfinite": dict(self.nonfinite),
            "observed": torch.tensor(self._observed),
            "recorded": sorted(self._recorded_columns),
            "gathered": {name: accumulator.state_dict() for name, accumulator in self._accumulators.items()},
            "folds": {name: fold_state(fold) for name, (_, fold) in self._folds.items()},
            "present": self._present.state_dict(),
            "changes": None if self._changes is None else self._changes.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint, also with another number of processes.

        Raises:
            UsageError: the state is of a recorder with other options, or is incomplete.
        """
        saved = state.get("options", {})
        current = self._options()
        different = [name for name in current if saved.get(name, current[name]) != current[name]]
        if different:
            raise UsageError(
                f"the recorder's state does not fit: its {different[0]} is {quote(saved[different[0]])}, now "
                f"{quote(current[different[0]])}"
            )
        try:
            for name, accumulator in self._accumulators.items():
                if name != "losses" or name in state["gathered"]:  # which came later
                    accumulator.load_state_dict(state["gathered"][name])
            for name, (_, fold) in self._folds.items():
                if name != "objective_loss" or name in state["folds"]:
                    load_fold_state(fold, state["folds"][name])
            self._present.load_state_dict(state.get("present", {}))
            if self._changes is not None:
                self._changes.load_state_dict(state["changes"])
            self.epoch = state["epoch"]
            self.nonfinite = dict(state["nonfinite"])
            self._recorded_columns = set(state["recorded"])
            self._observed[:] = state["observed"].numpy()
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise UsageError(f"the recorder's state does not fit: {error}") from None

    def _options(self) -> dict[str, Any]:
        """The options that must be equal to load a state."""
        stds = [None if std is None else std.tolist() for std in (self.input_std, self.model_std)]
        return {
            "num_samples": self.num_samples,
            "reduction": self.reduction,
            "loss": self.loss,
            "every": self.every,
            "first": self.first,
            "columns": self.columns,
            "input_std": stds[0],
            "model_std": stds[1],
        }

    def __repr__(self) -> str:
        """The number of samples, the epoch and the columns."""
        return f"HardnessRecorder of {self.num_samples} samples, epoch {self.epoch}: {', '.join(self.columns)}"
