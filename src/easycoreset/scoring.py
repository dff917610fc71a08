"""Scoring: train once, and measure how hard every sample is on the way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import nn

from easycoreset.console import log, progress, say_eps
from easycoreset.data import Split
from easycoreset.errors import UsageError, require
from easycoreset.features import look_at, save_features, saved_kinds
from easycoreset.files import RunFolder, claim, read_json
from easycoreset.hardness import Hardness, load_hardness
from easycoreset.hardness.exact import first_std, measure_all
from easycoreset.hardness.online import load_online
from easycoreset.models.last_layer import find_last_layer
from easycoreset.models.saved import load_weights, save_model
from easycoreset.options import ScoreOptions, options_json, takes
from easycoreset.parquet import read_table, write_table
from easycoreset.recorder import HardnessRecorder
from easycoreset.tables import Scores
from easycoreset.training import (
    History,
    Job,
    finish_training,
    fit,
    fresh_model,
    prepare,
    say_few_updates,
    training_summary,
)
from easycoreset.training.checkpoint import CHECKPOINT


@takes(ScoreOptions)
def score(options: ScoreOptions) -> Scores:
    """Train a model and score every sample of a split; the same call again resumes or returns what is there.

    Writes `scores.parquet`, `trajectory/`, `run.json`, the model, and the weights of the scored epochs to `out`;
    with split="test", `scores_test.parquet` and `trajectory_test/` beside them, from the same run; with
    save_features, `features.npy`, `probabilities.npy` and `features.json`, of the last epoch's model.

    Returns:
        The scores of the split, a row a sample.

    Raises:
        UsageError: wrong use, before work starts.
        RunError: a loss that is not finite.
    """
    load = load_online if options.mode == "online" else load_hardness
    measures = _as_begun(options, load(options.hardness))
    job = prepare(options, epochs=options.epochs, updates=None)
    if any(getattr(m, "space", "") == "model" for m in measures) and first_std(fresh_model(job)) is None:
        raise UsageError("hardness aign:space=model needs a model whose first layer is our normalisation")
    measures = _possible(job, options, measures)
    identity = job.identity(options) | {"hardness": [measure.name for measure in measures]}
    if options.feature_layer is not None and any(measure.needs_features for measure in measures):
        identity["feature_layer"] = options.feature_layer
    with claim(options.out, "score", identity, overwrite=options.overwrite) as run:
        if not run.done:
            _train_and_score(job, options, measures, run)
        else:
            log.info("%s: training is finished already", options.out)
        if options.save_features is not None:
            _save_features(job, options, run)
        if options.split == "test":
            _score_checkpoints(job, options, measures, run)
        return Scores.read(scores_file(run.path, options.split))


def scores_file(folder: Path, split: str) -> Path:
    """Where a split's scores are."""
    return folder / ("scores.parquet" if split == "train" else f"scores_{split}.parquet")


def trajectory_folder(folder: Path, split: str) -> Path:
    """Where a split's per-epoch values are."""
    return folder / ("trajectory" if split == "train" else f"trajectory_{split}")


def _as_begun(options: ScoreOptions, measures: Sequence[Hardness]) -> Sequence[Hardness]:
    """Where no measures were asked for: those that the folder's run began with, for later versions have more."""
    file = options.out / "run.json"
    if options.hardness or options.overwrite or not file.exists():
        return measures
    try:
        begun = read_json(file).get("options", {}).get("hardness")
    except UsageError:
        return measures
    kept = [measure for measure in measures if measure.name in (begun or ())]
    return kept if kept and [measure.name for measure in kept] == begun else measures


def _possible(job: Job, options: ScoreOptions, measures: Sequence[Hardness]) -> Sequence[Hardness]:
    """The measures that this model allows: without a last linear layer there are no features."""
    wanted = [measure.name for measure in measures if measure.needs_features]
    if not wanted and options.save_features is None:
        require(options.feature_layer is None, "feature_layer", "left out where nothing needs features",
                options.feature_layer)  # fmt: skip
        return measures
    model = fresh_model(job)
    rows = np.arange(min(options.scoring_batch_size, len(job.split)))
    batch = next(job.split.batches(rows, len(rows), job.device))
    try:
        look_at(model, batch, find_last_layer(model, batch.x[:2], options.feature_layer))
    except UsageError as error:
        if options.hardness or options.save_features is not None or options.feature_layer is not None:
            raise
        log.info("%s left out: %s", ", ".join(wanted), error)
        return [measure for measure in measures if not measure.needs_features]
    return measures


def _save_features(job: Job, options: ScoreOptions, run: RunFolder) -> None:
    """Save the features of the training split that are wanted and not there yet, by the weights of the finished run."""
    wanted = ("clean", "adversarial") if options.save_features == "adversarial" else ("clean",)
    missing = [kind for kind in wanted if kind not in saved_kinds(run.path, job.split, options.feature_layer)]
    if not missing:
        return
    model = fresh_model(job)
    load_weights(model, run.path / "model.safetensors")
    size, eps = options.scoring_batch_size, getattr(job.objective, "eps", 8 / 255)
    if "adversarial" in missing:
        log.info("adversarial features are those of PGD examples at eps %s, linf", say_eps(eps))
    for kind in missing:
        with progress(f"{kind} features", -(-len(job.split) // size)) as bar:
            save_features(model, job.split, run.path, kind=kind, model_name=job.model_name, device=job.device,
                          feature_layer=options.feature_layer, eps=eps,
                          seed=options.seed, batch_size=size, advance=lambda samples: bar.advance())  # fmt: skip


def _train_and_score(job: Job, options: ScoreOptions, measures: Sequence[Hardness], run: RunFolder) -> None:
    say_few_updates(job)
    model = fresh_model(job)
    scored, weights = set(options.scored_epochs()), run.path / "checkpoints"
    recorder = _recorder(job, options, measures, model) if options.mode == "online" else None
    history: History = []
    for epoch in fit(
        job, model, recorder=recorder, feature_layer=options.feature_layer, folder=run.path, history=history
    ):
        if epoch.number not in scored:
            continue
        if recorder is not None:
            columns = recorder.last_epoch()
        else:
            now = _measured_in(epoch.number, options, measures)
            if not now:
                continue
            columns = _measure(job, options, epoch.model, now, job.split, f"scoring epoch {epoch.number}")
        write_trajectory(trajectory_folder(run.path, "train"), epoch.number, columns)
        if options.keep_checkpoints and recorder is None:
            save_model(weights / f"{epoch.number:04d}", epoch.model, job.card())
    finish_training(job, model, options, history)
    facts: dict[str, object] = {}
    if recorder is not None:
        facts["nonfinite"] = recorder.nonfinite
        online = recorder.scores(job.split.labels, job.split.sample_ids)
        scores = _table(job, options, job.split, online.columns, online.n_obs)
    else:
        scores = fold_trajectory(job, options, measures, trajectory_folder(run.path, "train"), job.split)
        facts["nonfinite_gradients"] = int(len(scored) * len(scores) - scores.n_obs.sum())
    scores.write(scores_file(run.path, "train"))
    unseen = int(np.sum(scores.n_obs == 0))
    summary = training_summary(job, history) | {"scored_epochs": sorted(scored), "columns": list(scores.columns),
                                                "rows": len(scores), "never_observed": unseen} | facts  # fmt: skip
    run.finish(summary=summary, provenance=scores.provenance, given=options_json(options))
    (run.path / CHECKPOINT).unlink(missing_ok=True)


def _measured_in(number: int, options: ScoreOptions, measures: Sequence[Hardness]) -> Sequence[Hardness]:
    """The measures of one epoch: those that must be asked for cost too much to be taken before the last."""
    last = number == options.scored_epochs()[-1]
    return [measure for measure in measures if last or not measure.opt_in]


def _recorder(job: Job, options: ScoreOptions, measures: Sequence[Hardness], model: nn.Module) -> HardnessRecorder:
    std = first_std(model)
    plain = job.objective_name == "standard" and job.weight is None
    return HardnessRecorder(len(job.split), "mean", "cross_entropy" if plain else job.objective_name,
                            hardness=options.hardness or [measure.name for measure in measures],
                            every=options.every, first=options.first,
                            model_std=None if std is None else std.tolist())  # fmt: skip


def _measure(job: Job, options: ScoreOptions, model: nn.Module, measures: Sequence[Hardness], split: Split,
             label: str) -> dict[str, np.ndarray]:  # fmt: skip
    order, size = np.arange(len(split), dtype=np.int64), options.scoring_batch_size
    passes = len({measure.dtype for measure in measures})
    with progress(label, passes * -(-len(split) // size)) as bar:
        return measure_all(model, lambda: split.batches(order, size, job.device), len(split), measures,
                           lambda samples: bar.advance(), options.feature_layer)  # fmt: skip


def _score_checkpoints(job: Job, options: ScoreOptions, measures: Sequence[Hardness], run: RunFolder) -> None:
    """Score another split by the weights that the run kept of its scored epochs."""
    split = job.source.splits[options.split]
    file, folder = scores_file(run.path, options.split), trajectory_folder(run.path, options.split)
    if file.exists() and Scores.read(file).provenance.get("fingerprint") == split.fingerprint:
        return
    missing = [n for n in options.scored_epochs() if not (run.path / "checkpoints" / f"{n:04d}").is_dir()]
    if missing:
        raise UsageError(
            f"split: {options.split!r} needs the weights of every scored epoch; {run.path} lacks {missing}"
        )
    model = fresh_model(job)
    for number in options.scored_epochs():
        load_weights(model, run.path / "checkpoints" / f"{number:04d}" / "model.safetensors")
        label = f"scoring {options.split}, epoch {number}"
        now = _measured_in(number, options, measures)
        write_trajectory(folder, number, _measure(job, options, model, now, split, label))
    fold_trajectory(job, options, measures, folder, split).write(file)


def write_trajectory(folder: Path, epoch: int, columns: dict[str, np.ndarray]) -> None:
    """Write one scored epoch: `index, epoch` and a float32 column a measure."""
    size = len(next(iter(columns.values())))
    table = {"index": np.arange(size, dtype=np.int64), "epoch": np.full(size, epoch, np.int32), **columns}
    write_table(pa.table(table), folder / f"{epoch:04d}.parquet")


def fold_trajectory(
    job: Job, options: ScoreOptions, measures: Sequence[Hardness], folder: Path, split: Split
) -> Scores:
    """Fold the scored epochs, one file at a time, to one number a sample and hardness."""
    folds = {measure.name: measure.fold() for measure in measures}
    observed = np.zeros(len(split), np.int32)
    usual = [m for m in measures if not m.opt_in] or measures
    counted = next((m.column for m in usual if m.needs_gradient), usual[0].column)
    for number in options.scored_epochs():
        if not (folder / f"{number:04d}.parquet").exists():
            continue  # nothing was asked for but what is taken in the last epoch
        table = read_table(folder / f"{number:04d}.parquet", {"index": "integer"})
        for measure in _measured_in(number, options, measures):
            folds[measure.name].add(table[measure.column].to_numpy())
        observed += np.isfinite(table[counted].to_numpy())
    return _table(job, options, split, {name: fold.result() for name, fold in folds.items()}, observed)


def _table(
    job: Job, options: ScoreOptions, split: Split, columns: dict[str, np.ndarray], observed: np.ndarray
) -> Scores:
    provenance = {"fingerprint": split.fingerprint, "split": split.name, "data": job.source.name, "mode": options.mode,
                  "model": job.model_name, "objective": job.objective_name,
                  "options": options_json(options, neutral=False)}  # fmt: skip
    return Scores(sample_ids=split.sample_ids, labels=split.labels, class_names=list(job.source.class_names),
                  n_obs=observed.astype(np.int32), columns=columns, provenance=provenance)  # fmt: skip
