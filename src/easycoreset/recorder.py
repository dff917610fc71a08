"""Hardness for nothing in anybody's training loop: from the gradients and the logits that a step computes anyway."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from easycoreset.console import log
from easycoreset.errors import EasycoresetWarning, RunError, UsageError, quote, require
from easycoreset.hardness import ForwardHardness, Outputs
from easycoreset.hardness.folds import fold_state, load_fold_state
from easycoreset.hardness.gathered import Gathered
from easycoreset.hardness.gradient import AIGN
from easycoreset.hardness.online import (
    check_index,
    check_input,
    check_output,
    divide_by,
    label_rows,
    load_online,
    online_norm,
    read_class_weight,
    reduction_check,
    weights_of,
)
from easycoreset.tables import Scores


class HardnessRecorder:
    """Records hardness in a training loop's own steps: `watch` the input, `observe` the logits.

    `watch` gives `aign_online` from the step's own backward pass (`grad_norm_online` for a loss other than plain
    cross-entropy), `observe` the measures of logits and features. All are approximate: augmented input, moving weights,
    batch statistics shared by the batch. Where several processes train together (torch.distributed), each records its
    own batches, and all of them call `end_epoch` and `state_dict`; samples that two of them saw have their mean.

    Args:
        num_samples: N; indices are 0..N-1.
        reduction: how the loop's loss is reduced over the batch of this process; "none" means that it
            backpropagates the sum.
        loss: what the loop minimises; anything but "cross_entropy" names the column `grad_norm_online`.
        hardness: measures to record, variants of `aign` too; left out: all that cost nothing.
        every: record epochs k, 2k, ... only.
        first: record the first k epochs only.
        input_std: [C] by which the loop's loader divided the images, where it normalises them: gradients are brought
            to pixel space.
        model_std: [C] of a normalisation inside the model, for `aign:space=model`.
        feature_bias: whether the layer whose input `observe` gets as features has a bias.
        class_weight: [classes], where the loop's cross-entropy weighs classes; it needs `observe`, for the labels.

    Raises:
        UsageError: an option out of range, or a measure that no training step gives.

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
        require(num_samples >= 1, "num_samples", ">= 1", num_samples)
        require(reduction in ("mean", "sum", "none"), "reduction", "mean, sum or none", reduction)
        require(every >= 1, "every", ">= 1", every)
        require(first is None or first >= 1, "first", ">= 1", first)
        require(input_std is None or min(input_std) > 0, "input_std", "> 0", input_std)
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
        self.input_std = _channels(input_std)
        self.model_std = _channels(model_std)
        measures = load_online(hardness)
        kind = "aign" if loss == "cross_entropy" else "grad_norm"
        self._gradients = {m.name.replace("aign", kind, 1): m for m in measures if isinstance(m, AIGN)}
        looks = {m.column: m for m in measures if isinstance(m, ForwardHardness)}
        self._looks = {name: m for name, m in looks.items() if not m.needs_features}
        self._featured = {name: m for name, m in looks.items() if m.needs_features}
        self._gathered = {
            "gradients": Gathered(list(self._gradients), num_samples),
            "logits": Gathered(list(self._looks), num_samples, first=("correct", "p_y")),
            "features": Gathered(list(self._featured), num_samples),
        }
        self._folds = {name: (name, m.fold()) for name, m in self._gradients.items()}
        self._folds |= {m.name: (m.column, m.fold()) for m in measures if isinstance(m, ForwardHardness)}
        self.epoch = 1
        self.nonfinite = dict[str, int]()
        self._observed = np.zeros(num_samples, np.int32)
        self._last: dict[str, np.ndarray] | None = None
        self._recorded: set[str] = set()  # trajectory columns that any epoch gave
        self._check_due = False
        self._checked = False
        self._scale = 1.0
        self._watched = 0
        self._weights: list[Tensor] = []  # of the samples that are observed for the watch before
        self._lost = torch.zeros(0, dtype=torch.bool)  # whose logits are not finite, of the step that is watched

    @property
    def columns(self) -> list[str]:
        """Columns of the scores, where the loop gives all that they need."""
        return [f"{name}_online" for name in self._folds]

    @property
    def recording(self) -> bool:
        """Whether this epoch is recorded."""
        return self.epoch % self.every == 0 and (self.first is None or self.epoch <= self.first)

    @property
    def wants_features(self) -> bool:
        """Whether a measure looks at features."""
        return bool(self._featured)

    def watch(self, x: Tensor, index: Any, scale: float = 1.0, in_place: bool = False) -> Tensor:
        """Have the gradient of `x` recorded when the loop goes backward; use what is returned in place of `x`.

        Args:
            x: [B,C,H,W], floating, in pixel space ([0,1]) unless `input_std` was given.
            index: [B] integers, the samples' indices.
            scale: the factor by which the loop multiplied the loss (GradScaler's scale, 1/k for k accumulation steps).
            in_place: watch `x` itself, for a loop in which nothing can take its place.

        Returns:
            `x` as it wants its gradient, or unchanged in an epoch that is not recorded.

        Raises:
            UsageError: integer input, lengths that differ, or an index (on the CPU) out of range. A second backward
                pass through the same `x` raises it too.
        """
        if not self.recording or not self._gradients:
            return x
        check_input(x, scale, {"input_std": self.input_std, "model_std": self.model_std})
        index = check_index("watch", index, x, self.num_samples)
        plain = self.loss == "cross_entropy" or self.weighted
        self._weights = list[Tensor]()
        self._watched += 1
        self._check_due = not self._recorded and plain
        self._scale = scale
        lost = self._lost = torch.zeros(0, dtype=torch.bool, device=x.device)  # `observe` fills it in
        seen = x if in_place else x.view_as(x) if x.requires_grad else x.detach()
        x = seen.requires_grad_()
        size = len(x)
        used = False
        weights = self._weights

        def record(gradient: Tensor) -> None:
            nonlocal used
            if used:
                raise UsageError(
                    "watch counts once; this is a second backward pass through the same x (call it after "
                    "an attack inside the step)"
                )
            used = True
            factor = divide_by(size, self.reduction, weights, self.weighted) / scale
            own = gradient.detach(), factor, self.input_std, self.model_std
            values = [online_norm(measure, *own) for measure in self._gradients.values()]
            if len(lost) == len(gradient):  # their gradient may be 0 all the same
                values = [value.masked_fill(lost, float("nan")) for value in values]
            self._gathered["gradients"].add(values, index)

        x.register_hook(record)
        return x

    def observe(self, logits: Tensor, y: Tensor, index: Any, features: Tensor | None = None) -> None:
        """Record what the logits of a step say of its samples; call it after the forward pass, before the backward one.

        In the first recorded epoch of a loss that is declared to be plain cross-entropy, the gradient at the logits is
        compared with the reduction and scale that were declared.

        Args:
            logits: [B, classes].
            y: [B] integers.
            index: [B] integers, the samples' indices.
            features: [B, d], the input of the last linear layer; without it there is no `grand_online`.

        Raises:
            UsageError: logits of another shape, soft or mixed labels, an index (on the CPU) out of range; when going
                backward, a loss that is not reduced as declared.
        """
        if not self.recording or not torch.is_grad_enabled():  # a look at validation data is no training step
            return
        check_output(logits, y)
        index = check_index("observe", index, logits, self.num_samples)
        self._weights[:] = weights_of(self.class_weight, y, logits.shape[1])
        given = logits.detach()
        outputs = Outputs(
            given if given.dtype == torch.float64 else given.float(),
            y,
            features=None if features is None else features.detach().flatten(1),
            bias=self.feature_bias,
        )
        if self._check_due and logits.requires_grad:
            logits.register_hook(reduction_check(outputs, list(self._weights), self.reduction, self._scale))
        self._checked = self._checked or self._check_due
        self._check_due = False
        if not len(self._lost):
            self._lost.resize_(len(given)).copy_(~torch.isfinite(given).all(1))
        with torch.no_grad():
            self._gathered["logits"].add([measure.measure(outputs) for measure in self._looks.values()], index)
            if features is not None:
                self._gathered["features"].add([m.measure(outputs) for m in self._featured.values()], index)

    def end_epoch(self) -> None:
        """Fold the epoch: a sample seen twice in it counts once, with its mean (right or wrong as it was first)."""
        gradients = self._gathered["gradients"]
        if self._watched and not gradients.seen:
            if gradients.nonfinite():
                raise RunError(f"the loss of epoch {self.epoch} is not finite: nor is a single gradient of it")
            said = (
                f"watch was called {self._watched} times and no gradient came: use what it returns in place of x, "
                "and let loss.backward() reach it (no no_grad below the input, no inputs=)"
            )
            warnings.warn(said, EasycoresetWarning, stacklevel=2)
        elif self._watched and not self._recorded and self.loss == "cross_entropy" and not self._checked:
            log.warning(
                "warning: nothing checks that the loss is plain cross-entropy, reduced by %s, as declared: "
                "recorder.observe(logits, y, index) would",
                self.reduction,
            )
        self._watched = 0
        if self.recording:
            self._last = {}
            for gathered in self._gathered.values():
                gathered.unite()
                for name, bad in gathered.nonfinite().items():
                    self.nonfinite[f"{name}_online"] = self.nonfinite.get(f"{name}_online", 0) + bad
                if gathered.seen:
                    values = gathered.values().float().cpu().numpy()
                    self._last |= dict(zip(gathered.columns, values, strict=True))
                gathered.clear()
            for column, fold in self._folds.values():
                if column in self._last:
                    fold.add(self._last[column])
            self._recorded |= set(self._last)
            if self._last:
                self._observed += np.isfinite(next(iter(self._last.values())))
        self.epoch += 1

    def last_epoch(self) -> dict[str, np.ndarray]:
        """The values of the recorded epoch that ended last, column -> [N] float32, NaN where a sample was not seen."""
        if self._last is None:
            raise UsageError("no recorded epoch has ended yet")
        return {f"{name}_online": values for name, values in self._last.items()}

    def scores(self, labels: Any = None, sample_ids: Sequence[str] | None = None) -> Scores:
        """The recorded epochs, folded, as a table that `select` takes.

        Args:
            labels: [N] integers; without them nothing can be selected per class.
            sample_ids: [N] names; left out: the indices.

        Raises:
            UsageError: no epoch was recorded or none has ended, or lengths differ.
        """
        if not self._recorded:
            raise UsageError(
                "nothing was recorded: call watch or observe for every batch, and end_epoch after every epoch"
            )
        own, ids = label_rows(labels, sample_ids, self.num_samples)
        columns = {
            f"{n}_online": fold.result() for n, (column, fold) in self._folds.items() if column in self._recorded
        }
        return Scores(
            sample_ids=ids,
            labels=own,
            class_names=[str(k) for k in range(int(own.max()) + 1)],
            n_obs=self._observed.copy(),
            columns=columns,
            provenance={
                "mode": "online",
                "loss": self.loss,
                "split": "train",
                **({"labels": "not given"} if labels is None else {}),
            },
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; of several processes all call this, and one saves it."""
        for gathered in self._gathered.values():
            gathered.unite(keep_all=False)
        return {
            "options": self._options(),
            "epoch": self.epoch,
            "nonfinite": dict(self.nonfinite),
            "observed": torch.tensor(self._observed),
            "recorded": sorted(self._recorded),
            "gathered": {name: gathered.state_dict() for name, gathered in self._gathered.items()},
            "folds": {name: fold_state(fold) for name, (_, fold) in self._folds.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, also with another number of processes.

        Raises:
            UsageError: it is of another recorder.
        """
        theirs = state.get("options", {})
        own = self._options()
        other = [name for name in own if theirs.get(name, own[name]) != own[name]]
        if other:
            raise UsageError(
                f"the recorder's state does not fit: its {other[0]} is {quote(theirs[other[0]])}, now "
                f"{quote(own[other[0]])}"
            )
        try:
            for name, gathered in self._gathered.items():
                gathered.load_state_dict(state["gathered"][name])
            for name, (_, fold) in self._folds.items():
                load_fold_state(fold, state["folds"][name])
            self.epoch = state["epoch"]
            self.nonfinite = dict(state["nonfinite"])
            self._recorded = set(state["recorded"])
            self._observed[:] = state["observed"].numpy()
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise UsageError(f"the recorder's state does not fit: {error}") from None

    def _options(self) -> dict[str, Any]:
        """What must be the same where a state is loaded."""
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
        """What it records, and how far it is."""
        return f"HardnessRecorder of {self.num_samples} samples, epoch {self.epoch}: {', '.join(self.columns)}"


def _channels(values: Sequence[float] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float32)
