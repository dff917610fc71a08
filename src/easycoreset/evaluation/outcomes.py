"""The outcome of an attack for each sample, and its accuracy with an interval."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.data import Split
from easycoreset.errors import RunError
from easycoreset.models.modes import device_of, frozen
from easycoreset.proportions import wilson_interval


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attack, or of clean prediction, for each sample.

    Attributes:
        attack: spelling of the attack, or clean.
        norm: linf, l2, or empty for clean.
        eps: radius.
        index: [n] indices of the samples.
        pred: [n] class predicted.
        broken: [n] whether it is misclassified; a sample misclassified when clean is broken at every eps.
        stages: of an ensemble, accuracy after each of its attacks.
    """

    attack: str
    norm: str
    eps: float
    index: np.ndarray
    pred: np.ndarray
    broken: np.ndarray
    stages: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def accuracy(self) -> float:
        """Share of samples that are not broken."""
        return float(1 - self.broken.mean())


def summarise_outcome(outcome: Outcome) -> dict[str, Any]:
    """The outcome's accuracy with a 95% Wilson interval, as JSON values."""
    n = len(outcome.index)
    correct = int((~outcome.broken).sum())
    low, high = wilson_interval(correct, n)
    record = {
        "attack": outcome.attack,
        "norm": outcome.norm,
        "eps": outcome.eps,
        "accuracy": correct / n,
        "low": low,
        "high": high,
        "samples": n,
    }
    return record | ({"stages": outcome.stages} if outcome.stages else {})


def predict_logits(model: nn.Module, split: Split, rows: np.ndarray, batch_size: int, finite: bool = True) -> Tensor:
    """The logits [n,K] of the clean samples `rows`; non-finite ones are an error, unless `finite` is False."""
    found: list[Tensor] = []
    with frozen(model), torch.no_grad():
        for batch in split.batches(rows, batch_size, device_of(model)):
            logits = model(batch.x)
            if finite and not torch.isfinite(logits).all():
                raise RunError("finite logits: the model's logits are not finite, so no accuracy means anything")
            found.append(logits.float().cpu())
    return torch.cat(found)


def clean_outcome(logits: Tensor, split: Split, rows: np.ndarray) -> Outcome:
    """The outcome without an attack, by the logits [n,K] of the samples `rows`."""
    pred = logits.argmax(1).numpy()
    return Outcome("clean", "", 0.0, rows, pred, pred != split.labels[rows])
