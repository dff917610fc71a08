"""The paper's questions on one data set: scoring runs, attacked models and a transfer, and what they say together."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from easycoreset.analysis import agreement_matrix, correlate_with_margin, outcomes_by_quantile
from easycoreset.console import log
from easycoreset.data import cached_sources, name_data
from easycoreset.evaluation import evaluate
from easycoreset.files import write_json
from easycoreset.folders import claim
from easycoreset.models import choose_model
from easycoreset.objectives import load_objective
from easycoreset.options import READING, AnalyzeOptions, options_json, takes
from easycoreset.own_modules import is_own
from easycoreset.parquet import read_table
from easycoreset.pipeline.checking import check_attacks, check_models
from easycoreset.process_group import preserve_rng
from easycoreset.scoring import compare_early, score, scores_file
from easycoreset.selection import select
from easycoreset.tables import Scores
from easycoreset.training import train
from easycoreset.training.setup import open_data, options_record

SPLITS = ("train", "test")
PLACES = ("scores", "attacked", "transfer", "analysis.json")


@takes(AnalyzeOptions)
@preserve_rng()
@cached_sources()
def analyze(options: AnalyzeOptions) -> dict[str, Any]:
    """Score by several models, attack those that were not scored, and write `analysis.json`; resumes run by run.

    The scores that are analysed are those of `model` with `seed`. Attacked are the same architecture with another seed
    and the first of the `others`: a model's own gradient and its own vulnerability are linked by calculus. Held-out
    samples are scored and attacked too.

    Returns:
        What `analysis.json` holds: `vulnerability` (by quantile of every hardness), `margins` (rank correlation with a
        bootstrap interval, binned means), `agreement` (between seeds, architectures, objectives), `early`, `transfer`.

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
        "data": name_data(options.data),
        "fingerprint": [source.splits[split].fingerprint for split in SPLITS],
    }
    with claim(options.out, "analyze", identity, overwrite=options.overwrite, places=PLACES) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            return run.record["summary"]
        scored = _score_all(options)
        main = scored["main"]
        found = {
            "data": name_data(options.data),
            "model": options.model,
            "samples": {split: len(source.splits[split]) for split in SPLITS},
            "scored_by": f"{options.model}, seed {options.seed}, {options.epochs} epochs",
            **_attack_all(options, scored),
            "agreement": _agreement(scored),
            "early": compare_early(main),
            "transfer": _transfer(options, main),
        }
        write_json(run.path / "analysis.json", found)
        run.finish(summary=found, given=options_record(options))
        return found


def _machine(options: AnalyzeOptions) -> dict[str, Any]:
    names = ("data", *READING, "num_workers", "device", "threads")
    return {name: getattr(options, name) for name in names}


def _score_all(options: AnalyzeOptions) -> dict[str, Path]:
    """The scoring runs: the main one on both splits, another seed, other architectures, another objective."""
    common = _machine(options) | {"epochs": options.epochs, "batch_size": options.batch_size}
    wanted: dict[str, dict[str, Any]] = {
        "main": {"model": options.model, "seed": options.seed},
        "another seed": {"model": options.model, "seed": options.seed + 1},
        **{other: {"model": other, "seed": options.seed + 2 + k} for k, other in enumerate(options.others)},
    }
    if options.adversarial is not None:
        wanted[options.adversarial] = {"model": options.model, "seed": options.seed, "objective": options.adversarial}
    places: dict[str, Path] = {}
    for place, (name, own) in enumerate(wanted.items()):
        log.info("scoring run %d of %d: %s", place + 1, len(wanted), name)
        places[name] = options.out / "scores" / f"{place}-{name.replace(':', '-').replace('/', '-').replace(' ', '-')}"
        score(**common, **own, keep_checkpoints=name == "main", out=places[name])
        if name == "main":
            score(**common, **own, split="test", out=places[name])
    return places


def _attack_all(options: AnalyzeOptions, scored: Mapping[str, Path]) -> dict[str, Any]:
    """Attack the models that were not scored by on both splits, and set their outcomes beside every hardness."""
    vulnerability: list[dict[str, Any]] = []
    margins: list[dict[str, Any]] = []
    for name in ("another seed", *options.others[:1]):
        model = name if name in options.others else options.model
        for split in SPLITS:
            hardness = Scores.read(scores_file(scored["main"], split)).columns
            place = options.out / "attacked" / f"{scored[name].name}-{split}"
            log.info("attacking the model of %s on split %s", name, split)
            given = _machine(options) | {"weights": scored[name], "split": split, "model": _factory(model)}
            evaluate(**given, attack=options.attack, eps=options.eps, limit=options.limit, out=place / "outcomes")
            outcomes = read_table(place / "outcomes" / "predictions.parquet", {"index": "integer", "broken": "bool"})
            evaluate(
                **given,
                attack="fgsm",
                norm="l2",
                eps=(0.5,),
                limit=options.margins,
                margins="fmn",
                out=place / "margins",
            )
            distances = read_table(place / "margins" / "margins.parquet", {"index": "integer"})
            distances = distances.filter(pc.field("attack") == distances["attack"][0])
            about = {"attacked": name, "model": model, "split": split}
            for column, values in hardness.items():
                if not np.isfinite(values[distances["index"].to_numpy()]).any():
                    continue  # as uncertainty after a single epoch
                head = about | {"hardness": column}
                vulnerability += [head | row for row in outcomes_by_quantile(values, outcomes, options.bins)]
                margins.append(head | correlate_with_margin(values, distances, options.bins))
    return {"vulnerability": vulnerability, "margins": margins}


def _factory(model: str | None) -> str | None:
    """A user's own factory is repeated, so that its weights are loaded."""
    return model if model and is_own(model) else None


def _agreement(scored: Mapping[str, Path]) -> dict[str, Any]:
    tables = {name: Scores.read(scores_file(place, "train")) for name, place in scored.items()}
    first = next(iter(tables.values()))
    shared = [column for column in first.columns if all(column in table.columns for table in tables.values())]
    return {
        column: agreement_matrix({name: table[column] for name, table in tables.items()}, first.labels)
        for column in shared
    }


def _transfer(options: AnalyzeOptions, main: Path) -> list[dict[str, Any]]:
    """A larger model on the coreset that the small one's scores choose, and on as many random samples."""
    if options.transfer is None:
        return []
    rows: list[dict[str, Any]] = []
    size = len(Scores.read(scores_file(main, "train")))
    updates = options.updates or options.epochs * -(-size // options.batch_size)
    for method in ("easycore", "easycore:per_class=true", "random"):
        place = options.out / "transfer" / method.replace(":", "-").replace("=", "-")
        select(
            scores=scores_file(main, "train"),
            method=method,
            fraction=options.fraction,
            seed=options.seed,
            out=place / "coreset.parquet",
        )
        log.info("transfer: %s on what %s keeps", options.transfer, method)
        train(
            **_machine(options),
            model=options.transfer,
            coreset=place / "coreset.parquet",
            updates=updates,
            batch_size=options.batch_size,
            seed=options.seed,
            out=place / "model",
        )
        result = evaluate(
            **_machine(options),
            weights=place / "model",
            model=_factory(options.transfer),
            attack=options.attack,
            eps=options.eps,
            limit=options.limit,
            out=place / "evaluation",
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
