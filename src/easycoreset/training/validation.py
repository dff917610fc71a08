"""Validation on held-out rows during training, and a check for catastrophic overfitting."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.attacks.pgd import PGD
from easycoreset.calibration import fit_temperature
from easycoreset.console import log
from easycoreset.models.card import ModelCard
from easycoreset.models.modes import frozen, full_float32
from easycoreset.tables import Ints
from easycoreset.training.loop import History
from easycoreset.training.setup import TrainingSetup

ATTACKED = 512  # most rows that are attacked after every epoch
COLLAPSE = 0.5  # share of the best PGD accuracy below which a model has overfitted to its one-step attack


def validate_epoch(setup: TrainingSetup, model: nn.Module, history: History) -> bool:
    """Add the accuracies of the last epoch to its line of the history; returns whether it is the best so far.

    `val_clean` is on all held-out rows, `val_robust` under PGD-10 on up to 512 of them; one-step training without
    held-out rows gets `train_robust`, on training rows. The best epoch has the highest accuracy on held-out rows:
    robust for an adversarial objective, else clean.
    """
    line = history[-1]
    if len(setup.validation_indices):
        line["val_clean"] = accuracy(model, setup, setup.validation_indices)
        line["val_robust"] = _robust_accuracy(model, setup, setup.validation_indices)
    elif getattr(setup.objective, "single_step", False):
        line["train_robust"] = _robust_accuracy(model, setup, setup.train_indices)
    if getattr(setup.objective, "single_step", False):
        _warn_of_collapse([past.get("val_robust", past.get("train_robust")) or 0.0 for past in history])
    if not len(setup.validation_indices):
        return False
    return best_epoch(setup, history) == len(history)


def best_epoch(setup: TrainingSetup, history: History) -> int:
    """The number of the epoch with the highest accuracy on held-out rows, the earliest of several."""
    name = "val_robust" if hasattr(setup.objective, "eps") else "val_clean"
    accuracies = [line[name] or 0.0 for line in history]
    return 1 + accuracies.index(max(accuracies))


def _robust_accuracy(model: nn.Module, setup: TrainingSetup, rows: Ints) -> float:
    """Accuracy under PGD-10 at the objective's radius (8/255 if it has none)."""
    eps = getattr(setup.objective, "eps", 8 / 255)
    subset = np.random.default_rng(0).permutation(rows)[:ATTACKED]  # rows may be sorted by class
    return accuracy(model, setup, subset, PGD(eps=eps, steps=10))


def _warn_of_collapse(robust: list[float]) -> None:
    """Warn in the first epoch in which PGD accuracy falls below half of its best value."""
    collapsed = [value < COLLAPSE * max(robust[: epoch + 1]) for epoch, value in enumerate(robust)]
    if collapsed[-1] and not any(collapsed[:-1]):
        log.warning(
            "warning: catastrophic overfitting: in epoch %d PGD accuracy is %.1f%%, down from %.1f%%; more steps "
            "(pgd-at) or a smaller eps avoid it",
            len(robust),
            100 * robust[-1],
            100 * max(robust),
        )


def calibrated_card(setup: TrainingSetup, model: nn.Module, provenance: dict[str, Any]) -> ModelCard:
    """The card of a trained model, with the temperature by the held-out rows, if there are any."""
    card, rows = setup.card(provenance), setup.validation_indices
    if not len(rows):
        return card
    logits: list[Tensor] = []
    for batch in setup.split.batches(rows, setup.options.batch_size, setup.device):
        with frozen(model), full_float32(), torch.no_grad():
            logits.append(model(batch.x).float().cpu())
    return replace(card, temperature=fit_temperature(torch.cat(logits).numpy(), setup.split.labels[rows]))


def accuracy(model: nn.Module, setup: TrainingSetup, rows: Ints, attack: PGD | None = None) -> float:
    """Share of the rows that the model classifies correctly, in eval mode, under an attack if one is given."""
    correct = torch.zeros((), dtype=torch.int64, device=setup.device)
    for batch in setup.split.batches(np.sort(rows), setup.options.batch_size, setup.device):
        with frozen(model), full_float32():
            x = batch.x if attack is None else attack(model, batch.x, batch.y, batch.index)
            with torch.no_grad():
                correct += (model(x).argmax(1) == batch.y).sum()
    return int(correct) / len(rows)
