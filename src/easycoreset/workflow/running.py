"""`run`: from a folder of images to a report, in one command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easycoreset.auditing.by_folds import affordable_epochs
from easycoreset.auditing.judging import CHEAP_EPOCHS
from easycoreset.data import cached_sources
from easycoreset.data.unscored import unscored_table
from easycoreset.dynamic import require_static
from easycoreset.evaluation.result import Evaluation, read_evaluation
from easycoreset.models import user_factory
from easycoreset.objectives import load_objective
from easycoreset.options import READING_FIELDS, PipelineOptions, ReportOptions, accept_options
from easycoreset.paths import sha256_of_file
from easycoreset.plan_folders import COMPARISON
from easycoreset.process_group import preserve_rng
from easycoreset.reporting import report
from easycoreset.scoring.needs import MethodInputs
from easycoreset.selection import load_selector, require_reads_features
from easycoreset.statistics.intervals import paired_difference
from easycoreset.tables import Coreset
from easycoreset.tables.foreign_features import with_features
from easycoreset.training.setup import choose_device
from easycoreset.workflow.defaults import RunDefaults, choose_defaults
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.option_checks import check_attacks, check_sample_list
from easycoreset.workflow.plans import run_plan
from easycoreset.workflow.steps import External, Step, check_options

LINKS = {  # path in the folder -> (step, path within it)
    "scores": ("score", ""),
    "audit": ("audit", ""),
    "coreset.parquet": ("choose coreset", "coreset.parquet"),
    "random.parquet": ("choose random", "coreset.parquet"),
    "model": ("train coreset", ""),
    "random": ("train random", ""),
    "evaluation/coreset": ("evaluate coreset", ""),
    "evaluation/random": ("evaluate random", ""),
    "evaluation/all": ("evaluate all", ""),
}


@accept_options(PipelineOptions)
@preserve_rng()
@cached_sources()
def run(options: PipelineOptions) -> dict[str, Any] | None:
    """Score, audit, select, train and evaluate; the same call again resumes, other options add steps.

    Every step has a folder in `steps/`; links in `out` lead to them: `scores/`, `audit/`, `coreset.parquet`, `model/`
    (trained on it), `random/` (trained on as many random samples, for the same number of updates), `evaluation/` of
    both and of the scoring model (trained on all samples). `comparison.json` compares them.

    Returns:
        The content of `comparison.json`; None if the time was up before.

    Raises:
        UsageError: wrong use, before work starts.
        GridError: some steps failed; the others are done.
    """
    choices, steps = plan_run(options)

    def show_audit(step: Step) -> None:
        if step.kind == "audit":
            report(**vars(ReportOptions(out=step.folder(options.out))))

    return run_plan(
        "run", steps, options, COMPARISON, lambda out: summarise(choices, steps, out), show_audit, links=LINKS
    )


def plan_run(options: PipelineOptions) -> tuple[RunDefaults, dict[str, Step]]:
    """The defaults that fit the data and the machine, and the steps by name; nothing is written.

    Raises:
        UsageError: wrong use.
    """
    objective = load_objective(options.objective)[0]
    choices = _check(options)
    given_epochs, options = options.epochs, choices.options
    inputs = Inputs(options.device, options.download, options.num_workers)
    data = inputs.open(options.data, {name: getattr(options, name) for name in READING_FIELDS})
    model, init, network = inputs.model(options.model, options.init, data)
    machine = {**data.reading, "seed": options.seed}
    outside = {"data": data.external}
    training = machine | {"model": model, "batch_size": options.batch_size}
    training_inputs = outside | ({} if init is None else {"init": init})
    scoring = {"epochs": options.epochs, "every": choices.every}
    score = Step(kind="score", options=training | scoring, inputs=training_inputs, title="scoring")
    scores = {"scores": score}
    affordable = affordable_epochs(network, choices.source, choose_device(options.device))
    by_folds = affordable >= CHEAP_EPOCHS or init is not None  # then it needs no scores, and comes first
    judge = {"judge": "folds", "epochs": given_epochs} if by_folds else {"judge": "epochs"}
    audited = (training_inputs if by_folds else outside | scores) | _file("wrong", options.wrong)
    audit = Step(kind="audit", options=machine | {"model": model} | judge, inputs=audited, title="auditing")
    steps = {"audit": audit, "score": score}
    method = load_selector(options.method, per_class=options.per_class or None)[0]
    needs = inputs.needs(method, network, data, None, (), has_features=options.features is not None)
    if needs is not None and (needs.expensive or needs.features):
        steps["measure"] = _measuring_step(machine, needs, outside | scores, model)
    methods = {"coreset": method, "random": load_selector("random", per_class=options.per_class or None)[0]}
    names = {"coreset": "the coreset", "random": "as many random samples", "all": "all samples"}
    for name, chosen_method in methods.items():
        features = _file("features", options.features) if name == "coreset" else {}
        measured = {"measured": steps["measure"]} if "measure" in steps and name == "coreset" else {}
        choice = {"method": chosen_method, "fraction": options.fraction, "keep_leaked": options.keep_leaked}
        steps[f"choose {name}"] = Step(
            kind="select",
            options=machine | choice,
            inputs=outside | scores | measured | _file("exclude", options.exclude) | features,
            title=f"choosing {names[name]}",
        )
        steps[f"train {name}"] = Step(
            kind="train",
            options=training | {"objective": objective, "updates": choices.updates},
            inputs=training_inputs | {"coreset": steps[f"choose {name}"]},
            title=f"training on {names[name]}",
        )
    size = len(choices.source.splits["test"])
    limit = min(options.limit or size, size)
    attack = {"attack": tuple(options.attack), "eps": tuple(options.eps), "limit": limit, "model": user_factory(model)}
    for name in names:
        weights = steps["score" if name == "all" else f"train {name}"]
        steps[f"evaluate {name}"] = Step(
            kind="evaluate",
            options=machine | attack,
            inputs=outside | {"weights": weights},
            title=f"evaluating the model of {names[name]}",
        )
    for step in steps.values():
        check_options(step)
    return choices, steps


def _check(options: PipelineOptions) -> RunDefaults:
    """Check the options, and fill in those that were not given.

    Raises:
        UsageError: wrong use.
    """
    require_static(options.method)
    load_selector(options.method, per_class=options.per_class or None)
    check_attacks(options.attack, options.eps)
    choices = choose_defaults(options)
    for name in ("exclude", "wrong"):
        check_sample_list(name, getattr(options, name), choices.source)
    if options.features is not None:
        require_reads_features(options.method, options.features)
        with_features(unscored_table(choices.source), options.features)  # raises if they do not fit
    return choices


def _measuring_step(machine: Mapping[str, Any], needs: MethodInputs, inputs: Mapping[str, Any], model: str) -> Step:
    asked = {"hardness": needs.expensive, "save_features": needs.features, "model": user_factory(model)}
    return Step(kind="measure", options={**machine, **asked}, inputs=inputs, title="what the method needs besides")


def _file(option: str, path: Path | None) -> dict[str, External]:
    """A file as an input; nothing if it is not given."""
    return {} if path is None else {option: External(str(path.resolve()), sha256_of_file(path))}


def summarise(choices: RunDefaults, steps: Mapping[str, Step], out: Path) -> dict[str, Any]:
    """The comparison of the three models."""
    options = choices.options
    results = {name: read_evaluation(steps[f"evaluate {name}"].folder(out)) for name in ("coreset", "random", "all")}
    objectives = dict.fromkeys(results, options.objective) | {"all": "standard"}
    rows = [{"trained_on": n, "objective": objectives[n], **describe(result)} for n, result in results.items()]
    against = {name: compare_outcomes(results["coreset"], results[name]) for name in ("random", "all")}
    return {
        "rows": rows,
        "against": against,
        "recommended": recommend(results),
        "classes": count_classes(Coreset.read(steps["choose coreset"].folder(out) / "coreset.parquet")),
        "method": options.method,
        "fraction": options.fraction,
        "per_class": options.per_class,
        "updates": choices.updates,
        "epochs": options.epochs,
        "model": options.model,
    }


def recommend(results: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The model for ordinary images, the one for images under attack, and what the second gains over the first.

    Under attack counts the accuracy at the middle one of the radii.
    """
    clean = max(results, key=lambda name: results[name].clean.accuracy)
    middle = (len(results[clean].worst) - 1) // 2
    robust = max(results, key=lambda name: (results[name].worst[middle].accuracy, name == clean))
    eps = results[clean].worst[middle].eps
    return {"clean": clean, "robust": robust, "eps": eps, "gains": compare_outcomes(results[robust], results[clean])}


def compare_outcomes(first: Evaluation, second: Evaluation) -> list[dict[str, float]]:
    """The gain in accuracy of the first model over the second on the same images: clean (eps 0), and at each eps."""
    pairs = [(first.clean, second.clean), *zip(first.worst, second.worst, strict=True)]
    return [{"eps": a.eps, **paired_difference(~a.broken, ~b.broken)} for a, b in pairs]


def count_classes(coreset: Coreset) -> list[dict[str, Any]]:
    """The number of samples of each class before and after selection."""
    before, after = coreset.class_counts()
    names = coreset.provenance["class_names"]
    return [{"class": name, "before": int(b), "after": int(a)} for name, b, a in zip(names, before, after, strict=True)]


def describe(result: Evaluation) -> dict[str, Any]:
    """Clean and worst-case accuracy with confidence intervals, and warnings."""
    summary = result.summary()
    return {"clean": summary["clean"], "worst": summary["worst"], "warnings": summary["warnings"]}
