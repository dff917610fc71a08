"""The whole pipeline in one command: score, audit, select, train, evaluate; from a folder of images to a report.

Only this package and `experiment` run the steps in this order.
"""

from pathlib import Path
from typing import Any

from easycoreset.auditing import audit
from easycoreset.console import log
from easycoreset.data import cached_sources, data_name
from easycoreset.errors import OtherRunError
from easycoreset.evaluation import Evaluation, evaluate
from easycoreset.files import write_json
from easycoreset.models import user_factory
from easycoreset.objectives import load_objective
from easycoreset.options import READING_FIELDS, PipelineOptions, accept_options, options_json
from easycoreset.pipeline.defaults import RunDefaults, choose_defaults
from easycoreset.pipeline.option_checks import check_attacks, check_models, check_sample_list, check_scoring_needs
from easycoreset.process_group import preserve_rng
from easycoreset.run_folders import RunFolder, open_run_folder
from easycoreset.scoring import score, scores_file
from easycoreset.selection import load_selector, select
from easycoreset.statistics.intervals import paired_difference
from easycoreset.tables import Coreset
from easycoreset.training import train
from easycoreset.training.setup import options_record

__all__ = ["run"]

COMPARISON = "comparison.json"
OUTPUT_NAMES = (
    "scores",
    "audit",
    "coreset.parquet",
    "coreset.json",
    "random.parquet",
    "random.json",
    "model",
    "random",
    "evaluation",
    COMPARISON,
)
MACHINE = ("data", *READING_FIELDS, "num_workers", "device", "threads", "seed")  # options that every step takes


@accept_options(PipelineOptions)
@preserve_rng()
@cached_sources()
def run(options: PipelineOptions) -> dict[str, Any]:
    """Score, audit, select, train and evaluate; the same call again resumes where it stopped.

    Writes into `out`: `scores/`, `audit/`, `coreset.parquet`, `model/` (trained on it), `random/` (trained on as many
    random samples, for the same number of updates), `evaluation/` of both and of the scoring model (trained on all
    samples), and `comparison.json`, which compares them.

    Returns:
        The content of `comparison.json`.

    Raises:
        UsageError: wrong use, before work starts.
        RunError: a loss that is not finite.
    """
    load_objective(options.objective)
    load_selector(options.method, per_class=options.per_class or None)
    check_attacks(options.attack, options.eps)
    choices = choose_defaults(options)
    splits = choices.source.splits
    for name in ("exclude", "wrong"):
        check_sample_list(name, getattr(options, name), choices.source)
    check_models([choices.options.model], choices.source)
    check_scoring_needs(choices.options, choices.source)
    identity = options_json(choices.options, neutral=False) | {
        "data": data_name(options.data),
        "fingerprint": [splits[name].fingerprint for name in ("train", "test")],
    }
    with open_run_folder(
        options.out, "run", identity, overwrite=options.overwrite, output_names=OUTPUT_NAMES
    ) as folder:
        if not folder.done:
            comparison = _run_steps(choices, folder)
            write_json(folder.path / COMPARISON, comparison)
            folder.finish(summary=comparison, given=options_record(choices.options))
        else:
            log.info("%s is finished already", options.out)
            if options.wrong is not None:  # the list may be new
                _audit(choices.options, folder.path)
        return folder.record["summary"]


def _run_steps(choices: RunDefaults, folder: RunFolder) -> dict[str, Any]:
    """Run all steps, each in a separate folder, where it can resume."""
    options = choices.options
    out = folder.path
    machine = {name: getattr(options, name) for name in MACHINE}
    training_options = machine | {"model": options.model, "batch_size": options.batch_size, "init": options.init}
    log.info("1 of 5: scoring with a model that is trained on all samples")
    hardness, features = check_scoring_needs(options, choices.source)
    score(
        **training_options,
        epochs=options.epochs,
        every=choices.every,
        hardness=hardness,
        save_features=features,
        out=out / "scores",
    )
    log.info("2 of 5: auditing")
    _audit(options, out)
    log.info("3 of 5: selecting")
    scores = scores_file(out / "scores", "train")
    methods = {"coreset": (options.method, options.per_class), "random": ("random", options.per_class)}
    for name, (method, per_class) in methods.items():
        select(
            scores=scores,
            method=method,
            fraction=options.fraction,
            per_class=per_class or None,
            seed=options.seed,
            exclude=options.exclude,
            keep_leaked=options.keep_leaked,
            out=out / f"{name}.parquet",
        )
    trained: dict[str, Path] = {}
    for name, folder_name in (("coreset", "model"), ("random", "random")):
        log.info("4 of 5: training on %s", {"coreset": "the coreset", "random": "as many random samples"}[name])
        trained[name] = out / folder_name
        train(
            **training_options,
            coreset=out / f"{name}.parquet",
            objective=options.objective,
            updates=choices.updates,
            out=trained[name],
        )
    trained["all"] = out / "scores"  # the scoring model
    rows: list[dict[str, Any]] = []
    results: dict[str, Evaluation] = {}
    test_size = len(choices.source.splits["test"])
    limit = min(options.limit or test_size, test_size)
    for name, weights in trained.items():
        log.info("5 of 5: evaluating the model that was trained on %s", name)
        result = evaluate(
            **machine,
            weights=weights,
            model=user_factory(options.model),
            attack=options.attack,
            eps=options.eps,
            limit=limit,
            out=out / "evaluation" / name,
        )
        results[name] = result
        objective = "standard" if name == "all" else options.objective
        rows.append({"trained_on": name, "objective": objective, **describe(result)})
    against = {name: compare_outcomes(results["coreset"], results[name]) for name in ("random", "all")}
    return {
        "rows": rows,
        "against": against,
        "classes": count_classes(Coreset.read(out / "coreset.parquet")),
        "method": options.method,
        "fraction": options.fraction,
        "per_class": options.per_class,
        "updates": choices.updates,
        "epochs": options.epochs,
        "model": options.model,
    }


def compare_outcomes(first: Evaluation, second: Evaluation) -> list[dict[str, float]]:
    """The gain in accuracy of the first model over the second on the same images: clean (eps 0), and at each eps."""
    pairs = [(first.clean, second.clean), *zip(first.worst, second.worst, strict=True)]
    return [{"eps": a.eps, **paired_difference(~a.broken, ~b.broken)} for a, b in pairs]


def count_classes(coreset: Coreset) -> list[dict[str, Any]]:
    """The number of samples of each class before and after selection."""
    before, after = coreset.class_counts()
    names = coreset.provenance["class_names"]
    return [{"class": name, "before": int(b), "after": int(a)} for name, b, a in zip(names, before, after, strict=True)]


def _audit(options: PipelineOptions, out: Path) -> None:
    """Audit the scores; repeats the audit if the list of wrong samples has changed since an earlier start."""

    def run_audit(overwrite: bool) -> None:
        audit(
            **{name: getattr(options, name) for name in MACHINE},
            scores=out / "scores",
            model=user_factory(options.model),
            wrong=options.wrong,
            out=out / "audit",
            overwrite=overwrite,
        )

    try:
        run_audit(overwrite=False)
    except OtherRunError:
        run_audit(overwrite=True)


def describe(result: Evaluation) -> dict[str, Any]:
    """Clean and worst-case accuracy with confidence intervals, and warnings."""
    summary = result.summary()
    return {"clean": summary["clean"], "worst": summary["worst"], "warnings": summary["warnings"]}
