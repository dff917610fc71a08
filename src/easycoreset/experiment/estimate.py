"""What an experiment will cost, from a few timed steps."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from easycoreset.data import Split
from easycoreset.experiment.cells import FULL, Cell, Experiment, split_strong
from easycoreset.experiment.results import is_done
from easycoreset.hardness.exact import forward_with_gradient
from easycoreset.memory import peak_gigabytes
from easycoreset.models.modes import frozen
from easycoreset.options import (
    Device,
    ModelOptions,
    ReadingOptions,
    TrainingOptions,
    TrainOptions,
    scored_epochs,
    values_of,
)
from easycoreset.training import TrainingSetup, fit, fresh_model, prepare

MORE_LOOKS = {"curvature": 10, "vog": 1, "grand_full": 5}  # of every sample in every scored epoch, about
STEPS = 4  # timed, after two that are not


def estimate(experiment: Experiment, out: Path, device: Device = "auto", workers: int = 2) -> dict[str, Any]:
    """Time a few steps of each objective, and say what is left to do and how long it will take, at most.

    The evaluation is counted as if no sample were dropped early.
    """
    cells = experiment.cells()
    missing = [cell for cell in cells if not is_done(out, cell)]
    seconds = 0.0
    updates = 0
    timed: dict[tuple[str, str | None, str], tuple[TrainingSetup, float, float]] = {}
    for cell in missing:
        key = (cell.data, cell.model, cell.objective)
        if key not in timed:
            timed[key] = _time_steps(cell, out, device)
        job, step, look_seconds = timed[key]
        count = cell.updates if cell.updates is not None else (cell.epochs or 0) * _steps(cell, len(job.split))
        updates += count
        seconds += count * step + _images_attacked(cell, len(job.source.splits["test"])) * look_seconds
    for cell in {cell.scoring_name: cell for cell in missing if cell.needs_scores}.values():
        job, step, look_seconds = timed[(cell.data, cell.model, cell.objective)]
        size = len(job.split)
        kinds = {c.needs_features for c in missing if c.scoring_name == cell.scoring_name}
        seconds += size * look_seconds * (12 if "adversarial" in kinds else 1 if "clean" in kinds else 0)
        asked = {name for c in missing if c.scoring_name == cell.scoring_name for name in c.needs_expensive}
        more = sum(MORE_LOOKS.get(name, 1) for name in asked - {"boundary"})
        seconds += size * look_seconds * (100 if "boundary" in asked else 0)
        passes = len(scored_epochs(cell, cell.scoring_epochs))
        seconds += cell.scoring_epochs * size / cell.batch_size * step + passes * size * look_seconds * (1 + more)
    memory = peak_gigabytes()
    found = {
        "cells": len(cells),
        "missing": len(missing),
        "updates": updates,
        "workers": workers,
        "seconds": round(seconds / workers, 1),
        "memory_gb": round(memory * workers, 2),
    }
    if torch.cuda.is_available():
        found["gpu_memory_gb"] = round(torch.cuda.max_memory_allocated() / 2**30 * workers, 2)
    return found


def _steps(cell: Cell, size: int) -> int:
    share = 1.0 if cell.method == FULL else cell.fraction
    return -(-round(size * share * (1 - (cell.val_fraction or 0))) // cell.batch_size)


def _images_attacked(cell: Cell, size: int) -> int:
    """Forward and backward passes of single images in the cell's evaluation, at most."""
    from easycoreset.attacks import load_attack
    from easycoreset.evaluation.checks import LONGER_ATTACK_SAMPLES, longer_attack_steps

    def rounds_of(spec: str) -> int:
        attack = load_attack(spec, norm=cell.norm)[1]
        own = getattr(attack, "steps", 1) * getattr(attack, "restarts", 1) + 2
        return getattr(attack, "passes", own)

    passes = sum(rounds_of(attack) * min(images or size, size) for attack, images in map(split_strong, cell.strong))
    parts = 2 if cell.main_eps is not None and len(cell.eps) > 1 else 1
    passes += parts * longer_attack_steps(cell.attack) * min(LONGER_ATTACK_SAMPLES, size)
    for spec in cell.attack:
        rounds = rounds_of(spec)
        for eps in cell.eps:
            everything = cell.main_eps is None or eps == cell.main_eps
            images = size if (everything and cell.main_eps is not None) or cell.limit is None else min(cell.limit, size)
            passes += rounds * images
    return passes


def _time_steps(cell: Cell, out: Path, device: Device) -> tuple[TrainingSetup, float, float]:
    """(job, seconds of a training step, seconds of one image's forward and backward pass)."""
    options = TrainOptions(
        data=cell.data,
        **values_of(cell, ReadingOptions),
        **values_of(cell, ModelOptions),
        **(values_of(cell, TrainingOptions) | dict[str, Any](warmup=None)),
        objective=cell.objective,
        updates=2 + STEPS,
        device=device,
        threads=1,
        out=out,
    )
    job = prepare(options, epochs=None, updates=2 + STEPS)
    model = fresh_model(job)
    for _ in fit(job, model):
        pass
    start = time.perf_counter()
    for _ in fit(job, model):
        pass
    step = (time.perf_counter() - start) / (2 + STEPS)
    return job, step, _time_looks(model, job.split, job.device)


def _time_looks(model: torch.nn.Module, split: Split, device: torch.device) -> float:
    batch = next(split.batches(np.arange(min(250, len(split))), 250, device))
    with frozen(model):
        forward_with_gradient(model, batch.x, batch.y, gradient=True)
        start = time.perf_counter()
        for _ in range(2):
            forward_with_gradient(model, batch.x, batch.y, gradient=True).logits.sum().item()
    return (time.perf_counter() - start) / 2 / len(batch.x)
