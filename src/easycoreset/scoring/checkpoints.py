"""Scoring with saved weights: those of a run's scored epochs, or checkpoints of any other training."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from torch import nn

from easycoreset.console import log
from easycoreset.data import Split
from easycoreset.errors import UsageError, quote, require
from easycoreset.folders import RunFolder
from easycoreset.ledgers import delete_written
from easycoreset.models.foreign import load_foreign
from easycoreset.models.saved import load_weights
from easycoreset.options import RecipeOptions, ScoreOptions, options_json
from easycoreset.options.training import ComputeOptions
from easycoreset.paths import digest_of
from easycoreset.processes import leads, tell
from easycoreset.scoring.files import PLACES, scores_file, trajectory_folder
from easycoreset.scoring.measures import Measures, per_epoch, possible, say_prices, spell
from easycoreset.scoring.passes import (
    fold_trajectory,
    measure_split,
    measured_in,
    sweep_vog,
    warn_of_ties,
    write_trajectory,
)
from easycoreset.spelling import split_place
from easycoreset.tables import Scores
from easycoreset.training import Job, fresh_model, prepare
from easycoreset.training.checkpoint import CHECKPOINT
from easycoreset.training.setup import check_model, recorded, require_gradient, to_device
from easycoreset.training.together import claim_together

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
VOG_PREFIX = ".vog_"  # of the names of files with unfinished VoG values
Models = Callable[[], Iterator[nn.Module]]  # iterates over the models of the scored epochs
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in folders with one epoch each


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
    return sorted(files, key=lambda file: natural(str(file.relative_to(folder))))


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key for names that orders numbers by value.

    >>> sorted(["epoch_10", "epoch_2", "epoch_1"], key=natural)
    ['epoch_1', 'epoch_2', 'epoch_10']
    """
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name) if part]


def score_checkpoints(options: ScoreOptions, measures: Measures) -> Scores:
    """Score a split exactly with the checkpoints of another training; each file counts as a scored epoch.

    Raises:
        UsageError: there are no checkpoints, training options are given, or the architecture differs.
    """
    assert options.checkpoints is not None
    _refuse_training(options)
    folder, key = split_place(options.checkpoints)
    files = find_checkpoints(folder)
    names = [str(file.relative_to(folder)) for file in files]
    log.info("%d checkpoints, in this order: %s", len(files), ", ".join(names))
    job = prepare(replace(options, epochs=1, checkpoints=None, input_mean=(), input_std=()), epochs=1, updates=None)
    measures = possible(job, options, measures)
    digests = [digest_of(file)[:16] + (f":{key}" if key else "") for file in files]
    files = [Path(f"{file}:{key}") for file in files] if key else files
    network = load_foreign(files[0], job.card(), options.input_mean, options.input_std)
    check_model(network.to(job.device), job.source, job.device)
    require_gradient(network, job.source, job.device, job.model_name)
    identity = options_json(options, neutral=False) | {
        "checkpoints": digests,
        "hardness": [spell(measure) for measure in measures],
        "model": job.model_name,
        "feature_layer": options.feature_layer,
        "fingerprint": job.source.splits[options.split].fingerprint,
        "split": options.split,
    }
    numbers = list(range(1, len(files) + 1))
    split = job.source.splits[options.split]

    def models() -> Iterator[nn.Module]:
        for file in files:
            yield to_device(load_foreign(file, job.card(), options.input_mean, options.input_std), job.device)

    with claim_together(options.out, "score", identity, overwrite=options.overwrite, places=PLACES) as run:
        file = scores_file(run.path, options.split)
        if not run.done:
            say_prices(job, measures, len(files))
            scores = _score_models(job, options, measures, run, split, numbers, models)
            if leads():
                warn_of_ties(scores)
                scores.write(file)
            summary = {
                "model": job.model_name,
                "data": job.source.name,
                "samples": len(split),
                "rows": len(split),
                "checkpoints": names,
                "scored_epochs": numbers,
                "columns": list(scores.columns),
            }
            run.finish(summary=summary, provenance=scores.provenance, given=recorded(options))
            if leads():
                tidy(run, options)
        tell(None)
        return Scores.read(file)


def _refuse_training(options: ScoreOptions) -> None:
    """Raise for training options, which do not apply to existing weights."""
    refused = {option.name: option for option in fields(RecipeOptions)}
    for name in ("model", *(option.name for option in fields(ComputeOptions))):
        refused.pop(name, None)
    names = ("mode", "every", "first", "save_features", "keep_checkpoints")
    refused |= {option.name: option for option in fields(ScoreOptions) if option.name in names}
    for name, option in refused.items():
        require(getattr(options, name) == option.default, name, "left out with checkpoints", getattr(options, name))


def _score_models(
    job: Job,
    options: ScoreOptions,
    measures: Measures,
    run: RunFolder,
    split: Split,
    numbers: Sequence[int],
    models: Models,
) -> Scores:
    """Measure a split with the models of its scored epochs; epochs already written are not measured again."""
    folder = trajectory_folder(run.path, split.name)
    folded = per_epoch(measures)
    for number, model in zip(numbers, models(), strict=True):
        due = measured_in(number, numbers, folded)
        if due and not tell((folder / f"{number:04d}.parquet").exists()):
            write_trajectory(folder, number, measure_split(job, options, model, due, split, number))
    tell(None)
    scores, _ = fold_trajectory(job, options, folded, folder, split, numbers)
    return _add_multi_epoch(job, options, measures, run, split, scores, models, len(numbers))


def _add_multi_epoch(
    job: Job,
    options: ScoreOptions,
    measures: Measures,
    run: RunFolder,
    split: Split,
    scores: Scores,
    models: Models,
    epochs: int,
) -> Scores:
    """Add the columns of the measures that need all scored epochs together."""
    if len(measures) == len(per_epoch(measures)):
        return scores
    columns = sweep_vog(job, options, models, epochs, split, run.path / f"{VOG_PREFIX}{split.name}.npy")
    seen = np.isfinite(columns["vog_raw"])
    observed = scores.n_obs if per_epoch(measures) else (epochs * seen).astype(np.int32)
    return replace(scores, columns=scores.columns | columns, n_obs=observed)


def kept_models(job: Job, folder: Path, numbers: Sequence[int]) -> Models:
    """The models of the scored epochs of a run, in order, from the weights that it kept."""
    model = fresh_model(job)

    def models() -> Iterator[nn.Module]:
        for number in numbers:
            load_weights(model, folder / f"{number:04d}" / "model.safetensors")
            yield model

    return models


def sweep_kept(
    job: Job, options: ScoreOptions, measures: Measures, run: RunFolder, split: Split, scores: Scores
) -> Scores:
    """Add the columns of the measures that need all scored epochs, from the weights that the run kept."""
    folder = run.path / "checkpoints"
    numbers = options.scored_epochs()
    return _add_multi_epoch(job, options, measures, run, split, scores, kept_models(job, folder, numbers), len(numbers))


def tidy(run: RunFolder, options: ScoreOptions) -> None:
    """Delete the temporary files of a finished run."""
    for path in (run.path / CHECKPOINT, *run.path.glob(f"{VOG_PREFIX}*")):
        delete_written(path)
    if not options.keep_checkpoints:
        delete_written(run.path / "checkpoints")


def score_other_split(job: Job, options: ScoreOptions, measures: Measures, run: RunFolder) -> None:
    """Score another split with the weights that the run kept of its scored epochs.

    Raises:
        UsageError: some of them are missing.
    """
    split = job.source.splits[options.split]
    numbers = options.scored_epochs()
    file = scores_file(run.path, options.split)
    if tell(file.exists() and Scores.read(file).provenance.get("fingerprint") == split.fingerprint):
        return
    missing = [n for n in numbers if not (run.path / "checkpoints" / f"{n:04d}").is_dir()]
    if missing:
        raise UsageError(
            f"split: {quote(options.split)} needs the weights of every scored epoch; {run.path} lacks {missing}"
        )
    if leads():  # they may be of another version of the split
        delete_written(trajectory_folder(run.path, split.name))
        delete_written(run.path / f"{VOG_PREFIX}{split.name}.npy")
    tell(None)
    models = kept_models(job, run.path / "checkpoints", numbers)
    scores = _score_models(job, options, measures, run, split, numbers, models)
    if leads():
        scores.write(file)
