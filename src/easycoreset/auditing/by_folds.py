"""Judged by folds: each part of the training samples is predicted by models that were trained on the other parts."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from easycoreset.auditing.judgement import FOLDS, Judgement, divide, predict_rows
from easycoreset.auditing.oddness import measure_oddness
from easycoreset.console import format_duration, log
from easycoreset.data import Source, Split
from easycoreset.devices import pass_batch_size
from easycoreset.errors import UsageError
from easycoreset.file_lists import delete_written
from easycoreset.files import write_atomic
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.models.modes import frozen
from easycoreset.options import AuditOptions, TrainOptions
from easycoreset.options.fields import values_of
from easycoreset.options.groups import ComputeOptions, ModelOptions
from easycoreset.training import fit, fresh_model
from easycoreset.training.budget import choose_batch
from easycoreset.training.checkpoint import CHECKPOINT_FILE
from easycoreset.training.setup import TrainingSetup, prepare, with_rows

Ints = npt.NDArray[np.int64]

FOLD_PREDICTIONS = "judging"  # folder of what the folds predict
FLOPS = {"cpu": 8e12, "mps": 8e13, "cuda": 2e15}  # for all folds together: about five minutes of one CPU core
FINE_TUNING = 0.03  # learning rate of models that begin with initial weights


def affordable_epochs(model: nn.Module, source: Source, device: torch.device) -> int:
    """The epochs for which models of all folds can be trained in some minutes, by their floating point operations.

    A backward pass counts as two forward passes. The model, on any device, is run once and is not changed.
    """
    split = source.splits["train"]
    parameter = next(model.parameters(), torch.empty(0))
    x = next(split.batches(np.arange(min(2, len(split))), 2, parameter.device)).x
    with FlopCounterMode(display=False) as counter, frozen(model), torch.no_grad():
        model(x)
    per_epoch = 3 * counter.get_total_flops() / len(x) * len(split) * (FOLDS - 1)
    return int(FLOPS[device.type] / max(per_epoch, 1))


def prepare_folds(options: AuditOptions, source: Source) -> TrainingSetup:
    """Set up training on all samples for one epoch; colour images are cropped and mirrored against memorisation."""
    shared = values_of(options, ComputeOptions) | values_of(options, ModelOptions)
    shared |= {"epochs": 1, "batch_size": choose_batch(len(source.splits["train"]))}
    augment = "crop-flip" if source.shape[0] == 3 else "auto"
    training = TrainOptions(**{**shared, "augment": augment, "lr": None if options.init is None else FINE_TUNING})
    return prepare(training, epochs=1, updates=None)


def judge_by_folds(setup: TrainingSetup, repeats: int, groups: Ints, folder: Path) -> Judgement:
    """Each part of the training samples is predicted by a model that was trained on the other parts."""
    split, test = setup.split, setup.source.splits.get("test")
    parts = {"train": split} | ({} if test is None or not len(test) else {"test": test})
    p = {name: np.zeros((len(part), len(setup.source.class_names)), np.float32) for name, part in parts.items()}
    oddness = {name: np.zeros(len(part), np.float32) for name, part in parts.items()}
    for repeat in range(repeats):
        seed = (setup.options.seed + repeat) % 2**31
        divided = divide(split.labels, groups, FOLDS, seed)
        options = replace(setup.options, seed=seed)
        for number, (rest, fold) in enumerate(divided):
            count, done = repeats * len(divided), repeat * len(divided) + number + 1
            log.info("judge %d of %d: %s, %d epochs on the other parts", done, count, setup.model_name, setup.epochs)
            start = time.monotonic()
            training = with_rows(replace(setup, options=options), rest)
            found = _judge_fold(training, fold, parts.get("test"), folder / FOLD_PREDICTIONS / f"{repeat}-{number}")
            if done == 1 and count > 1:
                taken = time.monotonic() - start
                log.info(
                    "that took %s; the other %d take about %s",
                    format_duration(taken),
                    count - 1,
                    format_duration(taken * (count - 1)),
                )
            p["train"][fold] += found["p"] / repeats
            oddness["train"][fold] += found["oddness"] / repeats
            for name in parts.keys() - {"train"}:
                p[name] += found["p_test"] / count
                oddness[name] += found["oddness_test"] / count
    facts = {"model": setup.model_name, "folds": FOLDS, "repeats": repeats, "epochs": setup.epochs}
    known = {name: values for name, values in oddness.items() if np.isfinite(values).all()}
    return Judgement("folds", p, known, facts)


def _judge_fold(setup: TrainingSetup, fold: Ints, test: Split | None, folder: Path) -> dict[str, np.ndarray]:
    """Train on the setup's samples and predict a fold and the test part; saved predictions are read instead."""
    file = folder / "predictions.npz"
    if file.exists():
        with np.load(file) as saved:
            return dict(saved)
    model = fresh_model(setup)
    for _ in fit(setup, model, folder=folder):
        pass
    size = pass_batch_size(None, setup.device, setup.source.shape)
    layer = _last_layer(model, setup)
    mirrored = "flip" in setup.augment
    _, known = predict_rows(model, setup.split, setup.train_indices, setup.device, size, layer, mirrored)
    p, features = predict_rows(model, setup.split, fold, setup.device, size, layer, mirrored)
    oddness = measure_oddness(known, features)
    found = {"p": p, "oddness": oddness / np.median(oddness)}
    if test is not None:
        p, features = predict_rows(model, test, np.arange(len(test)), setup.device, size, layer, mirrored)
        found |= {"p_test": p, "oddness_test": measure_oddness(known, features) / np.median(oddness)}

    def save(path: Path) -> None:
        with open(path, "wb") as stream:  # savez would add a suffix to the name
            np.savez(stream, **found)

    write_atomic(file, save)
    delete_written(folder / CHECKPOINT_FILE)
    return found


def _last_layer(model: nn.Module, setup: TrainingSetup) -> LastLayer | None:
    """The model's last linear layer; None where its logits do not come out of one."""
    try:
        return find_last_layer(model, setup.two_images)
    except UsageError:
        return None
