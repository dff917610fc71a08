"""The paper's analyses on one data set: hardness against vulnerability, margins, agreement and transfer."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from easycoreset.analysis import agreement_matrix, correlate_with_margin, outcomes_by_quantile
from easycoreset.console import log
from easycoreset.data import cached_sources, data_name
from easycoreset.evaluation import evaluate
from easycoreset.files import write_json
from easycoreset.models import choose_model
from easycoreset.objectives import load_objective
from easycoreset.options import READING_FIELDS, AnalyzeOptions, accept_options, options_json
from easycoreset.parquet import read_table
from easycoreset.pipeline.option_checks import check_attacks, check_models
from easycoreset.process_group import preserve_rng
from easycoreset.run_folders import open_run_folder
from easycoreset.scoring import compare_early, score, scores_file
from easycoreset.selection import select
from easycoreset.tables import Scores
from easycoreset.training import train
from easycoreset.training.setup import open_data, options_record
from easycoreset.user_modules import is_user_spec

SPLITS = ("train", "test")
OUTPUT_NAMES = ("scores", "attacked", "transfer", "analysis.json")


@accept_options(AnalyzeOptions)
@preserve_rng()
@cached_sources()
def analyze(options: AnalyzeOptions) -> dict[str, Any]:
    """Score by several models, attack models other than the analysed one, and write `analysis.json`; can be resumed.

    The analysed scores are those of `model` with `seed`. The attacked models are the same architecture with another
    seed and the first of the `others`: to first order, a model's input gradient determines its own vulnerability.
    Test samples are also scored and attacked.

    Returns:
        The content of `analysis.json`: `vulnerability` (by quantile of each hardness), `margins` (rank correlation with
        its bootstrap interval, binned means), `agreement` (of seeds, architectures, objectives), `early`, `transfer`.

    Raises:
        UsageError: wrong use, before work starts.
    """
    if options.adversarial is not None:
        load_objective(options.adversarial)
    device, source = open_data(options)
    options = dataclasses.replace(options, model=options.model or choose_model(source.shape, device))
    check_attacks(options.attack, options.eps)
    check_models([options.model, *options.others, options.transfer], source)
    identity = options_json(options, neutral=False) | {
        "data": data_name(options.data),
        "fingerprint": [source.splits[split].fingerprint for split in SPLITS],
    }
    with open_run_folder(
        options.out, "analyze", identity, overwrite=options.overwrite, output_names=OUTPUT_NAMES
    ) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            return run.record["summary"]
        scored = _score_all(options)
        main = scored["main"]
        analysis = {
            "data": data_name(options.data),
            "model": options.model,
            "samples": {split: len(source.splits[split]) for split in SPLITS},
            "scored_by": f"{options.model}, seed {options.seed}, {options.epochs} epochs",
            **_attack_all(options, scored),
            "agreement": _agreement(scored),
            "early": compare_early(main),
            "transfer": _transfer(options, main),
        }
        write_json(run.path / "analysis.json", analysis)
        run.finish(summary=analysis, given=options_record(options))
        return analysis


def _machine_options(options: AnalyzeOptions) -> dict[str, Any]:
    names = ("data", *READING_FIELDS, "num_workers", "device", "threads")
    return {name: getattr(options, name) for name in names}


def _score_all(options: AnalyzeOptions) -> dict[str, Path]:
    """The scoring runs: the main one on both splits, another seed, other architectures, another objective."""
    common = _machine_options(options) | {"epochs": options.epochs, "batch_size": options.batch_size}
    runs: dict[str, dict[str, Any]] = {
        "main": {"model": options.model, "seed": options.seed},
        "another seed": {"model": options.model, "seed": options.seed + 1},
        **{other: {"model": other, "seed": options.seed + 2 + k} for k, other in enumerate(options.others)},
    }
    if options.adversarial is not None:
        runs[options.adversarial] = {"model": options.model, "seed": options.seed, "objective": options.adversarial}
    folders: dict[str, Path] = {}
    for number, (name, settings) in enumerate(runs.items()):
        log.info("scoring run %d of %d: %s", number + 1, len(runs), name)
        folders[name] = (
            options.out / "scores" / f"{number}-{name.replace(':', '-').replace('/', '-').replace(' ', '-')}"
        )
        score(**common, **settings, keep_checkpoints=name == "main", out=folders[name])
        if name == "main":
            score(**common, **settings, split="test", out=folders[name])
    return folders


def _attack_all(options: AnalyzeOptions, scored: Mapping[str, Path]) -> dict[str, Any]:
    """Attack models other than the scoring one on both splits, and relate their outcomes to every hardness."""
    vulnerability: list[dict[str, Any]] = []
    margins: list[dict[str, Any]] = []
    for name in ("another seed", *options.others[:1]):
        model = name if name in options.others else options.model
        for split in SPLITS:
            hardness = Scores.read(scores_file(scored["main"], split)).columns
            folder = options.out / "attacked" / f"{scored[name].name}-{split}"
            log.info("attacking the model of %s on split %s", name, split)
            inputs = _machine_options(options) | {"weights": scored[name], "split": split, "model": _factory(model)}
            evaluate(**inputs, attack=options.attack, eps=options.eps, limit=options.limit, out=folder / "outcomes")
            outcomes = read_table(folder / "outcomes" / "predictions.parquet", {"index": "integer", "broken": "bool"})
            evaluate(
                **inputs,
                attack="fgsm",  # a cheap one: only the margins are read
                norm="l2",
                eps=(0.5,),
                limit=options.margins,
                margins="fmn",
                out=folder / "margins",
            )
            distances = read_table(folder / "margins" / "margins.parquet", {"index": "integer"})
            distances = distances.filter(pc.field("attack") == distances["attack"][0])
            context = {"attacked": name, "model": model, "split": split}
            for column, values in hardness.items():
                if not np.isfinite(values[distances["index"].to_numpy()]).any():
                    continue  # e.g. uncertainty after a single epoch
                keys = context | {"hardness": column}
                vulnerability += [keys | row for row in outcomes_by_quantile(values, outcomes, options.bins)]
                margins.append(keys | correlate_with_margin(values, distances, options.bins))
    return {"vulnerability": vulnerability, "margins": margins}


def _factory(model: str | None) -> str | None:
    """The model if it is a user's factory, which `evaluate` must be given to load its weights; else None."""
    return model if model and is_user_spec(model) else None


def _agreement(scored: Mapping[str, Path]) -> dict[str, Any]:
    tables = {name: Scores.read(scores_file(folder, "train")) for name, folder in scored.items()}
    first = next(iter(tables.values()))
    shared = [column for column in first.columns if all(column in table.columns for table in tables.values())]
    return {
        column: agreement_matrix({name: table[column] for name, table in tables.items()}, first.labels)
        for column in shared
    }


def _transfer(options: AnalyzeOptions, main: Path) -> list[dict[str, Any]]:
    """Train and evaluate a larger model on coresets chosen by the scores of `model`, and on as many random samples."""
    if options.transfer is None:
        return []
    rows: list[dict[str, Any]] = []
    size = len(Scores.read(scores_file(main, "train")))
    updates = options.updates or options.epochs * -(-size // options.batch_size)
    for method in ("easycore", "easycore:per_class=true", "random"):
        folder = options.out / "transfer" / method.replace(":", "-").replace("=", "-")
        select(
            scores=scores_file(main, "train"),
            method=method,
            fraction=options.fraction,
            seed=options.seed,
            out=folder / "coreset.parquet",
        )
        log.info("transfer: training %s on the samples that %s keeps", options.transfer, method)
        train(
            **_machine_options(options),
            model=options.transfer,
            coreset=folder / "coreset.parquet",
            updates=updates,
            batch_size=options.batch_size,
            seed=options.seed,
            out=folder / "model",
        )
        result = evaluate(
            **_machine_options(options),
            weights=folder / "model",
            model=_factory(options.transfer),
            attack=options.attack,
            eps=options.eps,
            limit=options.limit,
            out=folder / "evaluation",
        )
        summary = result.summary()
        rows.append(
            {
                "model": options.transfer,
                "method": method,
                "fraction": options.fraction,
                "updates": updates,
                **{key: summary[key] for key in ("clean", "worst", "warnings")},
            }
        )
    return rows
