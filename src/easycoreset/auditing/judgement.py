"""The predictions of a judge of the labels, and how samples are divided into folds and predicted for it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from easycoreset.data import Split
from easycoreset.feature_extraction import compute_features
from easycoreset.models.last_layer import LastLayer
from easycoreset.models.modes import frozen
from easycoreset.progress import progress

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

FOLDS = 3


@dataclass(frozen=True)
class Judgement:
    """A judge's predictions for every sample.

    Attributes:
        kind: folds, epochs or features.
        p: part -> [N, classes] probabilities.
        oddness: part -> [N] how far a sample lies from others, 1 for the median; empty where it is not known.
        facts: how the judge was made.
    """

    kind: str
    p: Mapping[str, Floats]
    oddness: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def out_of_sample(self) -> bool:
        """Whether the judge was not trained on the training samples that it predicts."""
        return self.kind != "epochs"


def divide(labels: Ints, groups: Ints, folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    """The rows (rest, fold) of each fold; folds are stratified by label where possible, and no group is divided."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    folds = min(folds, len(np.unique(groups)))
    stratified = np.bincount(labels).max() >= folds
    division = StratifiedGroupKFold(folds, shuffle=True, random_state=seed) if stratified else GroupKFold(folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer samples than folds
        divided = list(division.split(labels, labels, groups))
    return [(rest, fold) for rest, fold in divided if len(rest) and len(fold)]


def predict_rows(
    model: nn.Module,
    split: Split,
    rows: Ints,
    device: torch.device,
    batch_size: int,
    layer: LastLayer | None,
    mirrored: bool = False,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Probabilities [n, classes] and features [n, d] of the samples `rows`.

    With `mirrored` the probabilities are the mean with those of the mirrored images.
    """
    p: list[np.ndarray] = []
    features: list[np.ndarray] = []
    with progress(f"predicting {split.name}", len(rows)) as bar, torch.no_grad():
        for batch in split.batches(np.asarray(rows, np.int64), batch_size, device):
            if layer is None:
                batch_p = _probabilities(model, batch.x)
            else:
                batch_features, batch_p = compute_features(model, batch, layer)
                features.append(batch_features.cpu().numpy())
            if mirrored:
                batch_p = (batch_p + _probabilities(model, batch.x.flip(3))) / 2
            p.append(batch_p.cpu().numpy())
            bar.advance(len(batch.index))
    return np.concatenate(p), np.concatenate(features) if features else None


def _probabilities(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with frozen(model):
        return model(x).float().softmax(1)
