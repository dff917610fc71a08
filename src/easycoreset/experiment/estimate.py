"""An estimate of an experiment's cost, from a few timed training steps."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from easycoreset.data import Split
from easycoreset.experiment.cells import Cell, Experiment, parse_strong_attack
from easycoreset.experiment.results import is_done
from easycoreset.hardness.exact import forward_with_gradient
from easycoreset.memory import peak_memory_gib
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
from easycoreset.options.comparing import FULL
from easycoreset.training import TrainingSetup, fit, fresh_model, prepare

EXTRA_PASSES = {"curvature": 10, "vog": 1, "grand_full": 5}  # passes per sample and scored epoch, approximately
TIMED_STEPS = 6  # updates of a timed run, after an untimed run of as many


def estimate(experiment: Experiment, out: Path, device: Device = "auto", workers: int = 2) -> dict[str, Any]:
    """Time a few training steps of each objective, and estimate the cost of the cells that are not done.

    The duration is an upper bound: every attack is counted as if it ran all its steps on every image.

    Returns:
        The number of cells, of missing cells and of their updates; seconds with all workers busy; and the memory (and
        GPU memory) of all workers, in GiB.
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
        setup, step_seconds, pass_seconds = timed[key]
        cell_updates = (
            cell.updates if cell.updates is not None else (cell.epochs or 0) * _steps_per_epoch(cell, len(setup.split))
        )
        updates += cell_updates
        seconds += cell_updates * step_seconds + _attack_passes(cell, len(setup.source.splits["test"])) * pass_seconds
    for cell in {cell.scoring_name: cell for cell in missing if cell.needs_scores}.values():
        setup, step_seconds, pass_seconds = timed[(cell.data, cell.model, cell.objective)]
        size = len(setup.split)
        # forward and backward passes per sample: about 12 for features of PGD examples, 100 for the boundary distance
        kinds = {c.needs_features for c in missing if c.scoring_name == cell.scoring_name}
        seconds += size * pass_seconds * (12 if "adversarial" in kinds else 1 if "clean" in kinds else 0)
        requested = {name for c in missing if c.scoring_name == cell.scoring_name for name in c.needs_expensive}
        extra_passes = sum(EXTRA_PASSES.get(name, 1) for name in requested - {"boundary"})
        seconds += size * pass_seconds * (100 if "boundary" in requested else 0)
        scored = len(scored_epochs(cell, cell.scoring_epochs))
        seconds += cell.scoring_epochs * size / cell.batch_size * step_seconds + scored * size * pass_seconds * (
            1 + extra_passes
        )
    memory = peak_memory_gib()
    result = {
        "cells": len(cells),
        "missing": len(missing),
        "updates": updates,
        "workers": workers,
        "seconds": round(seconds / workers, 1),
        "memory_gb": round(memory * workers, 2),
    }
    if torch.cuda.is_available():
        result["gpu_memory_gb"] = round(torch.cuda.max_memory_allocated() / 2**30 * workers, 2)
    return result


def _steps_per_epoch(cell: Cell, size: int) -> int:
    share = 1.0 if cell.method == FULL else cell.fraction
    return -(-round(size * share * (1 - (cell.val_fraction or 0))) // cell.batch_size)


def _attack_passes(cell: Cell, size: int) -> int:
    """Upper bound of the number of forward and backward passes of single images in the cell's evaluation."""
    from easycoreset.attacks import load_attack
    from easycoreset.evaluation.checks import LONGER_ATTACK_SAMPLES, longer_attack_steps

    def passes_per_image(spec: str) -> int:
        attack = load_attack(spec, norm=cell.norm)[1]
        default_passes = getattr(attack, "steps", 1) * getattr(attack, "restarts", 1) + 2
        return getattr(attack, "passes", default_passes)

    passes = sum(
        passes_per_image(attack) * min(images or size, size) for attack, images in map(parse_strong_attack, cell.strong)
    )
    evaluations = 2 if cell.main_eps is not None and len(cell.eps) > 1 else 1
    passes += evaluations * longer_attack_steps(cell.attack) * min(LONGER_ATTACK_SAMPLES, size)
    for spec in cell.attack:
        per_image = passes_per_image(spec)
        for eps in cell.eps:
            is_main = cell.main_eps is None or eps == cell.main_eps
            images = size if (is_main and cell.main_eps is not None) or cell.limit is None else min(cell.limit, size)
            passes += per_image * images
    return passes


def _time_steps(cell: Cell, out: Path, device: Device) -> tuple[TrainingSetup, float, float]:
    """Train for a few steps, and time a second such run.

    Returns:
        The prepared run, the seconds of a training step, and the seconds of one image's forward and backward pass.
    """
    options = TrainOptions(
        data=cell.data,
        **values_of(cell, ReadingOptions),
        **values_of(cell, ModelOptions),
        **(values_of(cell, TrainingOptions) | dict[str, Any](warmup=None)),
        objective=cell.objective,
        updates=TIMED_STEPS,
        device=device,
        threads=1,
        out=out,
    )
    setup = prepare(options, epochs=None, updates=TIMED_STEPS)
    model = fresh_model(setup)
    for _ in fit(setup, model):
        pass
    start = time.perf_counter()
    for _ in fit(setup, model):
        pass
    step_seconds = (time.perf_counter() - start) / TIMED_STEPS
    return setup, step_seconds, _time_pass(model, setup.split, setup.device)


def _time_pass(model: torch.nn.Module, split: Split, device: torch.device) -> float:
    """Seconds of a forward and backward pass of one image, in a batch of at most 250."""
    batch = next(split.batches(np.arange(min(250, len(split))), 250, device))
    with frozen(model):
        forward_with_gradient(model, batch.x, batch.y, gradient=True)
        start = time.perf_counter()
        for _ in range(2):
            forward_with_gradient(model, batch.x, batch.y, gradient=True).logits.sum().item()
    return (time.perf_counter() - start) / 2 / len(batch.x)
