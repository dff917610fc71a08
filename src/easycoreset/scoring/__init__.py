"""Scoring: train a model, or take existing checkpoints, and measure the hardness of every sample in their epochs."""

from typing import Any

import numpy as np
from torch import nn

from easycoreset.console import log
from easycoreset.errors import OtherRunError, UsageError
from easycoreset.hardness.exact import normalisation_std
from easycoreset.models.saved import save_model
from easycoreset.options import ScoreOptions, accept_options, defaults_json
from easycoreset.process_group import broadcast, is_main_process, preserve_rng
from easycoreset.recorder import HardnessRecorder
from easycoreset.run_folders import RunFolder
from easycoreset.scoring.agreement import ExactComparison, compare_early
from easycoreset.scoring.checkpoints import (
    add_wide_columns,
    delete_temporary,
    score_checkpoints,
    score_other_split,
)
from easycoreset.scoring.files import OUTPUT_NAMES, scores_file, trajectory_folder
from easycoreset.scoring.measures import (
    Measures,
    log_costs,
    requested_measures,
    require_clean_batch,
    spell_measure,
    supported_measures,
    trajectory_measures,
)
from easycoreset.scoring.measuring import measure, save_missing_features
from easycoreset.scoring.passes import (
    due_measures,
    fold_trajectory,
    make_table,
    measure_split,
    warn_zero_gradients,
    write_trajectory,
)
from easycoreset.tables import Scores
from easycoreset.tables.matching import is_same_data
from easycoreset.tables.same_data import describe_changes
from easycoreset.tracking import track_epochs
from easycoreset.training import (
    History,
    TrainingSetup,
    finish_training,
    fit,
    fresh_model,
    log_few_updates,
    prepare,
    training_summary,
)
from easycoreset.training.distributed import open_distributed_run_folder
from easycoreset.training.setup import options_record

__all__ = ["compare_early", "measure", "score", "scores_file", "trajectory_folder"]


@accept_options(ScoreOptions, temporary_out="scores")
@preserve_rng()
def score(options: ScoreOptions) -> Scores:
    """Train a model and score every sample of a split; repeating the call resumes, or returns the finished scores.

    Writes `scores.parquet`, `trajectory/`, `run.json`, the model, and the weights of the scored epochs to `out`;
    with split="test", also `scores_test.parquet` and `trajectory_test/`, from the same run; with save_features,
    `features.npy`, `probabilities.npy` and `features.json`, of the last epoch's model. With checkpoints, nothing is
    trained: each weight file in that folder counts as a scored epoch.

    Returns:
        The scores of the split, one row per sample.

    Raises:
        UsageError: invalid options or data, before work starts.
        RunError: the loss is not finite.
    """
    measures = requested_measures(options)
    if options.checkpoints is not None:
        return score_checkpoints(options, measures)
    setup = prepare(options, epochs=options.epochs, updates=None)
    measures = supported_measures(setup, options, measures)
    if options.mode == "online":
        require_clean_batch(setup)
    identity = setup.identity(options) | {"hardness": [spell_measure(measure) for measure in measures]}
    if options.mode == "online":
        identity["agreement"] = options.agreement
    if options.feature_layer is not None and any(measure.needs_features for measure in measures):
        identity["feature_layer"] = options.feature_layer
    if not options.overwrite:
        _refuse_changed_data(setup, options)
    folder_options: dict[str, Any] = {
        "overwrite": options.overwrite,
        "output_names": OUTPUT_NAMES,
        "defaults": defaults_json(options),
    }
    with open_distributed_run_folder(options.out, "score", identity, **folder_options) as run:
        if not run.done:
            if options.mode == "exact":
                log_costs(setup, measures, len(options.scored_epochs()))
            _train_and_score(setup, options, measures, run)
        else:
            log.info("%s: training is finished already", options.out)
        if options.save_features is not None and is_main_process():
            save_missing_features(setup, options, run.path, run.path / "model.safetensors")
        if options.split == "test":
            score_other_split(setup, options, measures, run)
        broadcast(None)  # a barrier: the files of the main process are complete
        return Scores.read(scores_file(run.path, options.split))


def _refuse_changed_data(setup: TrainingSetup, options: ScoreOptions) -> None:
    """Raise if the data changed since they were scored in this folder, and list the changes.

    Raises:
        OtherRunError: the data changed.
    """
    try:
        previous = Scores.read(scores_file(options.out, "train"))
    except (UsageError, OSError):  # there are no scores, or they cannot be read, which raises later
        return
    if is_same_data(previous.provenance, setup.split) or previous.provenance.get("fingerprint") is None:
        return
    changes = describe_changes((previous.sample_ids, previous.labels), (setup.split.sample_ids, setup.split.labels))
    raise OtherRunError(
        f"out: {options.out} was made with other data{changes}; give another --out, or --overwrite "
        "(the scores there can still be used with --allow-subset)"
    )


def _train_and_score(setup: TrainingSetup, options: ScoreOptions, measures: Measures, run: RunFolder) -> None:
    log_few_updates(setup)
    model = fresh_model(setup)
    scored = options.scored_epochs()
    checkpoints = run.path / "checkpoints"
    has_wide = any(measure.is_wide for measure in measures)
    recorder = _make_recorder(setup, options, measures, model) if options.mode == "online" else None
    comparison = ExactComparison.for_run(setup, options, measures, run) if recorder is not None else None
    history: History = []
    epochs = fit(setup, model, recorder=recorder, feature_layer=options.feature_layer, folder=run.path, history=history)
    for epoch in track_epochs(epochs, options, run.path):
        if epoch.number not in scored:
            continue
        if recorder is not None:
            columns = recorder.last_epoch()
            if comparison is not None:
                comparison.measure_epoch(epoch.number, epoch.model)
        else:
            due = due_measures(epoch.number, scored, trajectory_measures(measures))
            columns = measure_split(setup, options, epoch.model, due, setup.split, epoch.number) if due else {}
        if columns:
            write_trajectory(trajectory_folder(run.path, "train"), epoch.number, columns)
        if recorder is None and (options.keep_checkpoints or has_wide) and is_main_process():
            save_model(checkpoints / f"{epoch.number:04d}", epoch.model, setup.card())
    finish_training(setup, model, options, history)
    _write_scores(setup, options, measures, run, history, recorder, comparison)


def _write_scores(
    setup: TrainingSetup,
    options: ScoreOptions,
    measures: Measures,
    run: RunFolder,
    history: History,
    recorder: HardnessRecorder | None,
    comparison: ExactComparison | None,
) -> None:
    """Fold the measured values into the table, add the measures that need all epochs together, and finish the run."""
    scored = options.scored_epochs()
    summary_extra = dict[str, object]()
    broadcast(None)  # a barrier: the main process has written the last epoch
    if recorder is not None:
        summary_extra["nonfinite"] = recorder.nonfinite
        online = recorder.scores(setup.split.labels, setup.split.sample_ids)
        scores = make_table(setup, options, setup.split, online.columns, online.n_obs, online.provenance)
        if comparison is not None:
            summary_extra["agreement"] = comparison.compare_columns(scores)
    else:
        folder = trajectory_folder(run.path, "train")
        scores, summary_extra["nonfinite"] = fold_trajectory(
            setup, options, trajectory_measures(measures), folder, setup.split, scored
        )
        scores = add_wide_columns(setup, options, measures, run, setup.split, scores)
    if not is_main_process():
        run.finish()
        return
    warn_zero_gradients(scores)
    scores.write(scores_file(run.path, "train"))
    never_observed = int(np.sum(scores.n_obs == 0))
    summary = (
        training_summary(setup, history)
        | {
            "scored_epochs": scored,
            "columns": list(scores.columns),
            "rows": len(scores),
            "never_observed": never_observed,
        }
        | summary_extra
    )
    run.finish(summary=summary, provenance=scores.provenance, given=options_record(options))
    delete_temporary(run, options)


def _make_recorder(
    setup: TrainingSetup, options: ScoreOptions, measures: Measures, model: nn.Module
) -> HardnessRecorder:
    std = normalisation_std(model)
    plain_cross_entropy = setup.objective_name == "standard" and setup.weight is None
    return HardnessRecorder(
        len(setup.split),
        "mean",
        "cross_entropy" if plain_cross_entropy else setup.objective_name,
        hardness=options.hardness or [measure.name for measure in measures],
        every=options.every,
        first=options.first,
        model_std=None if std is None else std.tolist(),
    )
