"""Judged by the models of scored epochs, which were trained on the samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from easycoreset.auditing.judgement import Judgement, predict_rows
from easycoreset.data import Source
from easycoreset.devices import pass_batch_size
from easycoreset.models.saved import load_model
from easycoreset.options import AuditOptions
from easycoreset.training.setup import to_device

Floats = npt.NDArray[np.floating]

MAX_MODELS = 8  # models of scored epochs over which predictions are averaged, at most


def find_models(folder: Path) -> list[Path]:
    """Find up to `MAX_MODELS` checkpoints, evenly spread over the scored epochs, or else the finished model."""
    checkpoints = sorted(card.parent for card in (folder / "checkpoints").glob("*/model.json"))
    if checkpoints:
        return [
            checkpoints[position]
            for position in np.unique(np.linspace(0, len(checkpoints) - 1, MAX_MODELS).round().astype(int))
        ]
    return [folder] if (folder / "model.json").exists() else []


def judge_by_epochs(models: Sequence[Path], options: AuditOptions, source: Source, device: torch.device) -> Judgement:
    """Judge labels by the mean predictions of the models of scored epochs.

    These models were trained on the samples, including those with wrong labels: the finished model has memorised the
    wrong labels, earlier models less.
    """
    parts = [split for name, split in source.splits.items() if name in ("train", "test") and len(split)]
    p: dict[str, Floats] = {}
    for folder in models:
        model = to_device(load_model(folder, options.model), device)
        for split in parts:
            size = pass_batch_size(options.batch_size, device, source.shape)
            values, _ = predict_rows(model, split, np.arange(len(split)), device, size, None)
            p[split.name] = p.get(split.name, np.zeros_like(values)) + values / len(models)
    return Judgement("epochs", p, facts={"models": len(models)})
