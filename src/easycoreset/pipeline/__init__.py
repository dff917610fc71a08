"""The whole way in one command: score, audit, select, train, evaluate; a folder of images becomes a report.

Beside `experiment`, the only part that knows this order.
"""

from pathlib import Path
from typing import Any

from easycoreset.auditing import audit
from easycoreset.console import log
from easycoreset.data import cached_sources, name_data
from easycoreset.errors import OtherRunError
from easycoreset.evaluation import Evaluation, evaluate
from easycoreset.files import write_json
from easycoreset.folders import RunFolder, claim
from easycoreset.models import user_factory
from easycoreset.objectives import load_objective
from easycoreset.options import READING, PipelineOptions, options_json, takes
from easycoreset.pipeline.checking import check_attacks, check_list, check_models, needs_of_method
from easycoreset.pipeline.defaults import Choices, choose
from easycoreset.process_group import preserve_rng
from easycoreset.scoring import score, scores_file
from easycoreset.selection import load_selector, select
from easycoreset.statistics.intervals import paired_difference
from easycoreset.tables import Coreset
from easycoreset.training import train
from easycoreset.training.setup import options_record

__all__ = ["run"]

ROWS = "comparison.json"
PLACES = (
    "scores",
    "audit",
    "coreset.parquet",
    "coreset.json",
    "random.parquet",
    "random.json",
    "model",
    "random",
    "evaluation",
    ROWS,
)
MACHINE = ("data", *READING, "num_workers", "device", "threads", "seed")  # what every step takes


@takes(PipelineOptions)
@preserve_rng()
@cached_sources()
def run(options: PipelineOptions) -> dict[str, Any]:
    """Score, audit, select, train and evaluate; the same call again goes on where it stopped.

    Into `out`: `scores/`, `audit/`, `coreset.parquet`, `model/` (trained on it), `random/` (trained on as many random
    samples, for the same number of updates), `evaluation/` of these and of the scoring run's model (all samples), and
    `comparison.json`, which sets them side by side.

    Returns:
        What `comparison.json` holds.

    Raises:
        UsageError: wrong use, before work starts.
        RunError: a loss that is not finite.
    """
    load_objective(options.objective)
    load_selector(options.method, per_class=options.per_class or None)
    check_attacks(options.attack, options.eps)
    choices = choose(options)
    splits = choices.source.splits
    for name in ("exclude", "wrong"):
        check_list(name, getattr(options, name), choices.source)
    check_models([choices.options.model], choices.source)
    needs_of_method(choices.options, choices.source)
    identity = options_json(choices.options, neutral=False) | {
        "data": name_data(options.data),
        "fingerprint": [splits[name].fingerprint for name in ("train", "test")],
    }
    with claim(options.out, "run", identity, overwrite=options.overwrite, places=PLACES) as folder:
        if not folder.done:
            found = _do(choices, folder)
            write_json(folder.path / ROWS, found)
            folder.finish(summary=found, given=options_record(choices.options))
        else:
            log.info("%s is finished already", options.out)
            if options.wrong is not None:  # it may have become known since
                _audit(choices.options, folder.path)
        return folder.record["summary"]


def _do(choices: Choices, folder: RunFolder) -> dict[str, Any]:
    """Every step, each in its own folder, which goes on by itself."""
    options = choices.options
    place = folder.path
    machine = {name: getattr(options, name) for name in MACHINE}
    recipe = machine | {"model": options.model, "batch_size": options.batch_size, "init": options.init}
    log.info("1 of 5: scoring, by a model that is trained on all samples")
    hardness, features = needs_of_method(options, choices.source)
    score(
        **recipe,
        epochs=options.epochs,
        every=choices.every,
        hardness=hardness,
        save_features=features,
        out=place / "scores",
    )
    log.info("2 of 5: auditing")
    _audit(options, place)
    log.info("3 of 5: selecting")
    scores = scores_file(place / "scores", "train")
    chosen = {"coreset": (options.method, options.per_class), "random": ("random", options.per_class)}
    for name, (method, per_class) in chosen.items():
        select(
            scores=scores,
            method=method,
            fraction=options.fraction,
            per_class=per_class or None,
            seed=options.seed,
            exclude=options.exclude,
            keep_leaked=options.keep_leaked,
            out=place / f"{name}.parquet",
        )
    trained: dict[str, Path] = {}
    for name, folder_name in (("coreset", "model"), ("random", "random")):
        log.info("4 of 5: training on %s", {"coreset": "the coreset", "random": "as many random samples"}[name])
        trained[name] = place / folder_name
        train(
            **recipe,
            coreset=place / f"{name}.parquet",
            objective=options.objective,
            updates=choices.updates,
            out=trained[name],
        )
    trained["all"] = place / "scores"
    rows: list[dict[str, Any]] = []
    results: dict[str, Evaluation] = {}
    tested = len(choices.source.splits["test"])
    limit = min(options.limit or tested, tested)
    for name, weights in trained.items():
        log.info("5 of 5: evaluating the model that was trained on %s", name)
        result = evaluate(
            **machine,
            weights=weights,
            model=user_factory(options.model),
            attack=options.attack,
            eps=options.eps,
            limit=limit,
            out=place / "evaluation" / name,
        )
        results[name] = result
        objective = "standard" if name == "all" else options.objective
        rows.append({"trained_on": name, "objective": objective, **describe(result)})
    against = {name: compare_outcomes(results["coreset"], results[name]) for name in ("random", "all")}
    return {
        "rows": rows,
        "against": against,
        "classes": count_classes(Coreset.read(place / "coreset.parquet")),
        "method": options.method,
        "fraction": options.fraction,
        "per_class": options.per_class,
        "updates": choices.updates,
        "epochs": options.epochs,
        "model": options.model,
    }


def compare_outcomes(own: Evaluation, other: Evaluation) -> list[dict[str, float]]:
    """What the first model gains over the second on the same images: clean (eps 0), and at each eps."""
    pairs = [(own.clean, other.clean), *zip(own.worst, other.worst, strict=True)]
    return [{"eps": mine.eps, **paired_difference(~mine.broken, ~theirs.broken)} for mine, theirs in pairs]


def count_classes(coreset: Coreset) -> list[dict[str, Any]]:
    """Samples of each class before and after."""
    before, after = coreset.class_counts()
    names = coreset.provenance["class_names"]
    return [{"class": name, "before": int(b), "after": int(a)} for name, b, a in zip(names, before, after, strict=True)]


def _audit(options: PipelineOptions, place: Path) -> None:
    """Audit the scores; anew where other samples are known to be wrong than in an earlier start."""

    def work(overwrite: bool) -> None:
        audit(
            **{name: getattr(options, name) for name in MACHINE},
            scores=place / "scores",
            model=user_factory(options.model),
            wrong=options.wrong,
            out=place / "audit",
            overwrite=overwrite,
        )

    try:
        work(overwrite=False)
    except OtherRunError:
        work(overwrite=True)


def describe(result: Evaluation) -> dict[str, Any]:
    """Clean and worst-case accuracy with intervals, and warnings."""
    summary = result.summary()
    return {"clean": summary["clean"], "worst": summary["worst"], "warnings": summary["warnings"]}
