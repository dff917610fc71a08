"""Scoring with saved weights: the weights of a run's scored epochs, or checkpoints of another training."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from torch import nn

from easycoreset.console import log
from easycoreset.data import Split
from easycoreset.data_specs import split_weights_path
from easycoreset.errors import UsageError, quote, require
from easycoreset.file_lists import delete_written
from easycoreset.models.foreign import load_foreign
from easycoreset.models.saved import load_weights
from easycoreset.options import RecipeOptions, ScoreOptions, options_json
from easycoreset.options.training import ComputeOptions
from easycoreset.paths import sha256_of_file
from easycoreset.process_group import broadcast, is_main_process
from easycoreset.run_folders import RunFolder
from easycoreset.scoring.files import OUTPUT_NAMES, scores_file, trajectory_folder
from easycoreset.scoring.measures import Measures, log_costs, spell_measure, supported_measures, trajectory_measures
from easycoreset.scoring.passes import (
    due_measures,
    fold_models,
    fold_trajectory,
    measure_split,
    warn_zero_gradients,
    write_trajectory,
)
from easycoreset.tables import Scores
from easycoreset.training import TrainingSetup, fresh_model, prepare
from easycoreset.training.checkpoint import CHECKPOINT_FILE
from easycoreset.training.distributed import open_distributed_run_folder
from easycoreset.training.model_checks import check_model, require_gradient
from easycoreset.training.setup import options_record, to_device

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
UNFINISHED = ".unfinished_"  # names of files with values of wide measures that are not complete start with it
Models = Callable[[], Iterator[nn.Module]]  # iterates over the models of the scored epochs
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # names of weight files in folders that hold one epoch each


def find_checkpoints(folder: Path) -> list[Path]:
    """The weight files in a folder, one per scored epoch, in natural order (epoch_2 before epoch_10).

    Without such files, `model.safetensors` or `pytorch_model.bin` in each of its subfolders are taken.

    Raises:
        UsageError: there is no folder, or no checkpoint in it.
    """
    require(folder.is_dir(), "checkpoints", "a folder of weights", str(folder))
    files = [file for file in folder.iterdir() if file.is_file() and file.suffix in SUFFIXES]
    if not files:
        candidates = (
            next((subfolder / name for name in WEIGHT_FILES if (subfolder / name).is_file()), None)
            for subfolder in folder.iterdir()
        )
        files = [file for file in candidates if file is not None]
    if not files:
        raise UsageError(f"checkpoints: {folder} holds no weights ({', '.join(SUFFIXES)})")
    return sorted(files, key=lambda file: natural_key(str(file.relative_to(folder))))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key for names that orders numbers by value.

    >>> sorted(["epoch_10", "epoch_2", "epoch_1"], key=natural_key)
    ['epoch_1', 'epoch_2', 'epoch_10']
    """
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name) if part]


def score_checkpoints(options: ScoreOptions, measures: Measures) -> Scores:
    """Score a split exactly with the checkpoints of another training; each file counts as a scored epoch.

    Raises:
        UsageError: there are no checkpoints, training options are given, or the architecture differs.
    """
    assert options.checkpoints is not None
    _refuse_training_options(options)
    folder, weights_key = split_weights_path(options.checkpoints)
    files = find_checkpoints(folder)
    names = [str(file.relative_to(folder)) for file in files]
    log.info("%d checkpoints, in this order: %s", len(files), ", ".join(names))
    setup = prepare(replace(options, epochs=1, checkpoints=None, input_mean=(), input_std=()), epochs=1, updates=None)
    measures = supported_measures(setup, options, measures)
    digests = [sha256_of_file(file)[:16] + (f":{weights_key}" if weights_key else "") for file in files]
    files = [Path(f"{file}:{weights_key}") for file in files] if weights_key else files
    first_model = load_foreign(files[0], setup.card(), options.input_mean, options.input_std)
    check_model(first_model.to(setup.device), setup.source, setup.device)
    require_gradient(first_model, setup.source, setup.device, setup.model_name)
    identity = options_json(options, neutral=False) | {
        "checkpoints": digests,
        "hardness": [spell_measure(measure) for measure in measures],
        "model": setup.model_name,
        "feature_layer": options.feature_layer,
        "fingerprint": setup.source.splits[options.split].fingerprint,
        "split": options.split,
    }
    epoch_numbers = list(range(1, len(files) + 1))
    split = setup.source.splits[options.split]

    def models() -> Iterator[nn.Module]:
        for file in files:
            yield to_device(load_foreign(file, setup.card(), options.input_mean, options.input_std), setup.device)

    with open_distributed_run_folder(
        options.out, "score", identity, overwrite=options.overwrite, output_names=OUTPUT_NAMES
    ) as run:
        file = scores_file(run.path, options.split)
        if not run.done:
            log_costs(setup, measures, len(files))
            scores = score_models(setup, options, measures, run, split, epoch_numbers, models)
            if is_main_process():
                warn_zero_gradients(scores)
                scores.write(file)
            summary = {
                "model": setup.model_name,
                "data": setup.source.name,
                "samples": len(split),
                "rows": len(split),
                "checkpoints": names,
                "scored_epochs": epoch_numbers,
                "columns": list(scores.columns),
            }
            run.finish(summary=summary, provenance=scores.provenance, given=options_record(options))
            if is_main_process():
                delete_temporary(run, options)
        broadcast(None)  # a barrier: the files of the main process are complete
        return Scores.read(file)


def _refuse_training_options(options: ScoreOptions) -> None:
    """Raise for training options, which do not apply to existing weights."""
    refused = {option.name: option for option in fields(RecipeOptions)}
    for name in ("model", *(option.name for option in fields(ComputeOptions))):
        refused.pop(name, None)
    names = ("mode", "every", "first", "save_features", "keep_checkpoints")
    refused |= {option.name: option for option in fields(ScoreOptions) if option.name in names}
    for name, option in refused.items():
        require(getattr(options, name) == option.default, name, "left out with checkpoints", getattr(options, name))


def score_models(
    setup: TrainingSetup,
    options: ScoreOptions,
    measures: Measures,
    run: RunFolder,
    split: Split,
    epoch_numbers: Sequence[int],
    models: Models,
) -> Scores:
    """Measure a split with the models of its scored epochs; epochs already written are not measured again."""
    folder = trajectory_folder(run.path, split.name)
    per_epoch = trajectory_measures(measures)
    for number, model in zip(epoch_numbers, models(), strict=True):
        due = due_measures(number, epoch_numbers, per_epoch)
        if due and not broadcast((folder / f"{number:04d}.parquet").exists()):
            write_trajectory(folder, number, measure_split(setup, options, model, due, split, number))
    broadcast(None)  # a barrier: the main process has written the last epoch
    scores, _ = fold_trajectory(setup, options, per_epoch, folder, split, epoch_numbers)
    return _add_wide(setup, options, measures, run, split, scores, models, epoch_numbers)


def _add_wide(
    setup: TrainingSetup,
    options: ScoreOptions,
    measures: Measures,
    run: RunFolder,
    split: Split,
    scores: Scores,
    models: Models,
    epoch_numbers: Sequence[int],
) -> Scores:
    """Add the columns of the wide measures, which are folded over the models of the scored epochs."""
    for measure in (measure for measure in measures if measure.is_wide):
        file = run.path / f"{UNFINISHED}{measure.name}_{split.name}.npy"
        columns = fold_models(setup, options, measure, models, epoch_numbers, split, file)
        observed = np.isfinite(next(iter(columns.values())))
        n_obs = scores.n_obs if scores.columns else (len(epoch_numbers) * observed).astype(np.int32)
        scores = replace(scores, columns=scores.columns | columns, n_obs=n_obs)
    return scores


def kept_models(setup: TrainingSetup, folder: Path, epoch_numbers: Sequence[int]) -> Models:
    """A function that iterates over the scored epochs of a run and loads the kept weights into one model."""
    model = fresh_model(setup)

    def models() -> Iterator[nn.Module]:
        for number in epoch_numbers:
            load_weights(model, folder / f"{number:04d}" / "model.safetensors")
            yield model

    return models


def add_wide_columns(
    setup: TrainingSetup, options: ScoreOptions, measures: Measures, run: RunFolder, split: Split, scores: Scores
) -> Scores:
    """Add the columns of the wide measures, from the weights that the run kept."""
    folder = run.path / "checkpoints"
    epoch_numbers = options.scored_epochs()
    models = kept_models(setup, folder, epoch_numbers)
    return _add_wide(setup, options, measures, run, split, scores, models, epoch_numbers)


def delete_temporary(run: RunFolder, options: ScoreOptions) -> None:
    """Delete the temporary files of a finished run."""
    for path in (run.path / CHECKPOINT_FILE, *run.path.glob(f"{UNFINISHED}*")):
        delete_written(path)
    if not options.keep_checkpoints:
        delete_written(run.path / "checkpoints")


def score_other_split(setup: TrainingSetup, options: ScoreOptions, measures: Measures, run: RunFolder) -> None:
    """Score another split with the weights that the run kept of its scored epochs.

    Raises:
        UsageError: the weights of a scored epoch are missing.
    """
    split = setup.source.splits[options.split]
    epoch_numbers = options.scored_epochs()
    file = scores_file(run.path, options.split)
    if broadcast(file.exists() and Scores.read(file).provenance.get("fingerprint") == split.fingerprint):
        return
    missing = [number for number in epoch_numbers if not (run.path / "checkpoints" / f"{number:04d}").is_dir()]
    if missing:
        raise UsageError(
            f"split: {quote(options.split)} needs the weights of every scored epoch; {run.path} lacks {missing}"
        )
    if is_main_process():  # files of an earlier scoring may be of another version of the split
        delete_written(trajectory_folder(run.path, split.name))
        for unfinished in run.path.glob(f"{UNFINISHED}*_{split.name}.npy"):
            delete_written(unfinished)
    broadcast(None)  # a barrier: the main process has deleted them
    models = kept_models(setup, run.path / "checkpoints", epoch_numbers)
    scores = score_models(setup, options, measures, run, split, epoch_numbers, models)
    if is_main_process():
        scores.write(file)
