"""Measuring further columns and features of a finished scoring run, with the weights that it kept."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps, log
from easycoreset.devices import halve_until_it_fits
from easycoreset.errors import require
from easycoreset.feature_extraction import save_features, saved_feature_kinds
from easycoreset.hardness import load_hardness
from easycoreset.models import user_factory
from easycoreset.models.saved import load_weights
from easycoreset.options import MeasureOptions, ScoreOptions, accept_options, options_json
from easycoreset.parquet import read_table
from easycoreset.paths import sha256_of_file
from easycoreset.process_group import preserve_rng
from easycoreset.progress import progress
from easycoreset.records import read_record
from easycoreset.run_folders import RunFolder, open_run_folder
from easycoreset.scoring.checkpoints import delete_temporary, kept_models, score_models
from easycoreset.scoring.files import OUTPUT_NAMES, scores_file, trajectory_folder
from easycoreset.scoring.measures import (
    Measures,
    log_costs,
    scoring_batch_size,
    supported_measures,
    trajectory_measures,
)
from easycoreset.scoring.passes import write_trajectory
from easycoreset.tables import Scores
from easycoreset.training import TrainingSetup, fresh_model, prepare


@accept_options(MeasureOptions)
@preserve_rng()
def measure(options: MeasureOptions) -> Scores:
    """Write `scores.parquet` with the columns of `hardness` alone, and the features, into the folder `out`.

    Raises:
        UsageError: the run kept no weights of its scored epochs, or its model cannot give what is asked for.
    """
    record = read_record(options.scores / "run.json")
    given = _scoring_options(record, options)
    epochs: list[int] = record["summary"]["scored_epochs"]
    weights = [options.scores / "checkpoints" / f"{number:04d}" / "model.safetensors" for number in epochs]
    require(all(file.exists() for file in weights), "scores", "a run that kept its checkpoints", str(options.scores))
    setup = prepare(given, epochs=given.epochs, updates=None)
    measures = supported_measures(setup, given, load_hardness(options.hardness) if options.hardness else [])
    identity = options_json(options, neutral=False) | {"data": setup.split.fingerprint}
    identity["scores"] = sha256_of_file(scores_file(options.scores, "train"))
    with open_run_folder(
        options.out, "measure", identity, overwrite=options.overwrite, output_names=OUTPUT_NAMES
    ) as run:
        if not run.done:
            log_costs(setup, measures, len(epochs))
            _copy_trajectory(options, run, measures, epochs)
            models = kept_models(setup, options.scores / "checkpoints", epochs)
            split = setup.source.splits[options.split]
            scores = score_models(setup, given, measures, run, split, epochs, models)
            scores.write(scores_file(run.path, options.split))
            if options.save_features is not None:
                save_missing_features(setup, given, run.path, options.scores / "model.safetensors")
            run.finish(summary={"columns": list(scores.columns), "rows": len(scores)}, provenance=scores.provenance)
            delete_temporary(run, given)
        return Scores.read(scores_file(run.path, options.split))


def _copy_trajectory(options: MeasureOptions, run: RunFolder, measures: Measures, epochs: Sequence[int]) -> None:
    """Copy the values of the run's trajectory, if it has all that the measures fold: no pass is needed then."""
    columns = list(dict.fromkeys(measure.column for measure in trajectory_measures(measures)))
    if not columns or any(measure.expensive for measure in trajectory_measures(measures)):
        return
    for number in epochs:
        file = trajectory_folder(options.scores, options.split) / f"{number:04d}.parquet"
        if not file.exists():
            return
        table = read_table(file, {"index": "integer"})
        if not set(columns) <= set(table.column_names):
            return
        if not (trajectory_folder(run.path, options.split) / file.name).exists():
            values = {column: table[column].to_numpy() for column in columns}
            write_trajectory(trajectory_folder(run.path, options.split), number, values)


def _scoring_options(record: dict[str, Any], options: MeasureOptions) -> ScoreOptions:
    """The options of the scoring run, with what is measured now, where it is written, and the machine."""
    names = {item.name for item in dataclasses.fields(ScoreOptions)} - {"seed"}
    given = {name: value for name, value in record["given"].items() if name in (*names, "seed")}
    now = {name: value for name, value in vars(options).items() if name in names}
    if options.model is None and user_factory(given["model"]) is None:
        now["model"] = given["model"]
    return ScoreOptions(**(given | now))


def save_missing_features(setup: TrainingSetup, options: ScoreOptions, folder: Path, weights: Path) -> None:
    """Save the requested features of the training split that a folder lacks, with the weights of a finished run."""
    kinds = ("clean", "adversarial") if options.save_features == "adversarial" else ("clean",)
    missing = [kind for kind in kinds if kind not in saved_feature_kinds(folder, setup.split, options.feature_layer)]
    if not missing:
        return
    model = fresh_model(setup)
    load_weights(model, weights)
    eps = getattr(setup.objective, "eps", 8 / 255)
    if "adversarial" in missing:
        log.info("adversarial features are computed on PGD examples with eps %s, linf", format_eps(eps))

    def save(kind: str, batch_size: int) -> None:
        with progress(f"{kind} features", -(-len(setup.split) // batch_size)) as bar:
            save_features(
                model,
                setup.split,
                folder,
                kind=kind,
                model_name=setup.model_name,
                device=setup.device,
                feature_layer=options.feature_layer,
                eps=eps,
                seed=options.seed,
                batch_size=batch_size,
                advance=lambda samples: bar.advance(),
            )

    for kind in missing:
        first_size = scoring_batch_size(setup, options)
        halve_until_it_fits(functools.partial(save, kind), first_size, "scoring_batch_size")
