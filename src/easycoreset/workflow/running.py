"""`run`: from a folder of images to a report, in one command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.auditing.by_folds import affordable_epochs
from easycoreset.auditing.judging import CHEAP_EPOCHS
from easycoreset.console import log
from easycoreset.data import Source, cached_sources
from easycoreset.data.content_hashes import find_training_samples
from easycoreset.data.unscored import unscored_table
from easycoreset.dynamic import require_static
from easycoreset.errors import UsageError
from easycoreset.evaluation.result import Evaluation, read_evaluation
from easycoreset.models import user_factory
from easycoreset.models.card import read_card
from easycoreset.objectives import load_objective
from easycoreset.options import READING_FIELDS, PipelineOptions, ReportOptions, accept_options
from easycoreset.paths import sha256_of_file
from easycoreset.plan_folders import COMPARISON
from easycoreset.process_group import preserve_rng
from easycoreset.records import read_summary
from easycoreset.reporting import report
from easycoreset.scoring.needs import MethodInputs
from easycoreset.selection import load_selector, require_reads_features
from easycoreset.statistics.intervals import paired_difference
from easycoreset.tables import Coreset, Scores
from easycoreset.tables.foreign_features import with_features
from easycoreset.workflow.defaults import RunDefaults, choose_defaults, log_defaults
from easycoreset.workflow.going_on import EarlierScoring, find_scorings
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.option_checks import check_attacks, check_sample_list
from easycoreset.workflow.plans import run_plan
from easycoreset.workflow.steps import External, Step, check_options, is_done, spell_command

LINKS = {  # path in the folder -> (step, path within it)
    "scores": ("score", ""),
    "audit": ("audit", ""),
    "coreset.parquet": ("choose coreset", "coreset.parquet"),
    "random.parquet": ("choose random", "coreset.parquet"),
    "model": ("train coreset", ""),
    "random": ("train random", ""),
    "all": ("train all", ""),
    "evaluation/coreset": ("evaluate coreset", ""),
    "evaluation/random": ("evaluate random", ""),
    "evaluation/all": ("evaluate all", ""),
    "evaluation/before": ("evaluate before", ""),
}
NAMES = {"coreset": "the coreset", "random": "as many random samples", "all": "all samples"}


@dataclass(frozen=True)
class RunPlan:
    """What `run` does.

    Attributes:
        choices: the defaults that fit the data and the machine.
        steps: the steps by name.
        earlier: the scoring run of an earlier state of the data that it goes on from, if any.
    """

    choices: RunDefaults
    steps: dict[str, Step]
    earlier: EarlierScoring | None = None

    @property
    def links(self) -> dict[str, tuple[str, str] | None]:
        """The links in the folder: path -> (step, path within it), None for one that goes.

        Without an earlier scoring run the scoring model is the one of all samples.
        """
        steps = {"train all": "score"} if self.earlier is None else {}
        links = {path: (steps.get(name, name), within) for path, (name, within) in LINKS.items()}
        return {path: link if link[0] in self.steps else None for path, link in links.items()}


@accept_options(PipelineOptions)
@preserve_rng()
@cached_sources()
def run(options: PipelineOptions) -> dict[str, Any] | None:
    """Score, audit, select, train and evaluate; the same call again resumes, other options add steps.

    Every step has a folder in `steps/`; links in `out` lead to them: `scores/`, `audit/`, `coreset.parquet`, `model/`
    (trained on it), `random/` (trained on as many random samples, for the same number of updates), `all/` (trained on
    all samples), `evaluation/` of the three. `comparison.json` compares them.

    Where the folder has scores of nearly the same pictures (cleaned, moved, some new), it goes on from them: they are
    matched by content, the models are trained on the data as they are now, and the model from before is evaluated on
    the same test images (`evaluation/before`).

    Returns:
        The content of `comparison.json`; None if the time was up before.

    Raises:
        UsageError: wrong use, before work starts.
        GridError: some steps failed; the others are done.
    """
    plan = plan_run(options)
    log_defaults(plan.choices)

    def show_audit(step: Step) -> None:
        if step.kind == "audit":
            report(**vars(ReportOptions(out=step.folder(options.out))))

    return run_plan(
        "run", plan.steps, options, COMPARISON, lambda out: summarise(plan, out), show_audit, links=plan.links
    )


def plan_run(options: PipelineOptions) -> RunPlan:
    """The defaults that fit the data and the machine, and the steps by name; nothing is written.

    Raises:
        UsageError: wrong use.
    """
    _check(options)
    for earlier in find_scorings(options.out):
        try:
            plan = _plan_after(earlier, options)
        except (UsageError, OSError) as error:  # other data or options than then; or it is damaged
            log.info("%s is not gone on from: %s", earlier.folder, error)
            continue
        if plan is not None:
            return plan
    return _plan(options, choose_defaults(options))


def _plan_after(earlier: EarlierScoring, options: PipelineOptions) -> RunPlan | None:
    """The steps where an earlier scoring run is of the same data, or may be gone on from; None where neither holds."""
    filled = earlier.fill(options)
    if filled is None:
        return None
    choices = choose_defaults(filled)
    plain = _plan(options, choices)
    if is_done(plain.steps["score"], options.out):
        return plain
    if not earlier.fits(choices.source):
        return None
    if "measure" in plain.steps or plain.steps["audit"].options["judge"] == "epochs":
        log.info("%s: its models are needed too, so the data are scored anew", earlier.folder)
        return None
    return _plan(options, replace(choices, every=earlier.every, updates=earlier.updates), earlier)


def _plan(given: PipelineOptions, choices: RunDefaults, earlier: EarlierScoring | None = None) -> RunPlan:
    """The steps; with an earlier scoring run its scores are taken over, and a model of all samples is trained."""
    options = choices.options
    _check_lists(options, choices.source)
    inputs = Inputs(options.device, options.download, options.num_workers)
    data = inputs.open(options.data, {name: getattr(options, name) for name in READING_FIELDS})
    model, init, network = inputs.model(options.model, options.init, data)
    machine = {**data.reading, "seed": options.seed}
    outside = {"data": data.external}
    training = machine | {"model": model, "batch_size": options.batch_size}
    training_inputs = outside | ({} if init is None else {"init": init})
    scoring = {"epochs": options.epochs, "every": choices.every}
    score = Step(kind="score", options=training | scoring, inputs=training_inputs, title="scoring")
    if earlier is not None:
        carried = outside | {"scores": earlier.scores}
        score = Step(kind="carry", options=machine, inputs=carried, title="taking over the scores")
    scores = {"scores": score}
    affordable = affordable_epochs(network, choices.source, choices.device)
    by_folds = affordable >= CHEAP_EPOCHS or init is not None  # then it needs no scores, and comes first
    judge = {"judge": "folds", "epochs": given.epochs} if by_folds else {"judge": "epochs"}
    audited = (training_inputs if by_folds else outside | scores) | _file("wrong", options.wrong)
    audit = Step(kind="audit", options=machine | {"model": model} | judge, inputs=audited, title="auditing")
    steps = {"audit": audit, "score": score}
    method = load_selector(options.method, per_class=options.per_class or None)[0]
    needs = inputs.needs(method, network, data, None, (), has_features=options.features is not None)
    if needs is not None and (needs.expensive or needs.features):
        steps["measure"] = _measuring_step(machine, needs, outside | scores, model)
    measured = {"measured": steps["measure"]} if "measure" in steps else {}
    random = load_selector("random", per_class=options.per_class or None)[0]
    choosing = {"coreset": (method, measured | _file("features", options.features)), "random": (random, {})}
    for name, (chosen_method, more) in choosing.items():
        choice = {"method": chosen_method, "fraction": options.fraction, "keep_leaked": options.keep_leaked}
        steps[f"choose {name}"] = Step(
            kind="select",
            options=machine | choice,
            inputs=outside | scores | more | _file("exclude", options.exclude),
            title=f"choosing {NAMES[name]}",
        )
    objectives = dict.fromkeys(choosing, load_objective(options.objective)[0])
    for name, objective in (objectives if earlier is None else {**objectives, "all": "standard"}).items():
        chosen = {"coreset": steps[f"choose {name}"]} if name in choosing else {}
        steps[f"train {name}"] = Step(
            kind="train",
            options=training | {"objective": objective, "updates": choices.updates},
            inputs=training_inputs | chosen,
            title=f"training on {NAMES[name]}",
        )
    _add_evaluations(steps, machine | {"model": user_factory(model)}, outside, choices, earlier)
    for step in steps.values():
        check_options(step)
    return RunPlan(choices, steps, earlier)


def _add_evaluations(
    steps: dict[str, Step],
    shared: Mapping[str, Any],
    outside: Mapping[str, External],
    choices: RunDefaults,
    earlier: EarlierScoring | None,
) -> None:
    """Add the evaluations of the models, also of the one from before the data were changed."""
    options = choices.options
    size = len(choices.source.splits["test"])
    attack = {"attack": tuple(options.attack), "eps": tuple(options.eps), "limit": min(options.limit or size, size)}
    weights: dict[str, Step | External] = {name: steps[f"train {name}"] for name in ("coreset", "random")}
    weights["all"] = steps["score"] if earlier is None else steps["train all"]
    if earlier is not None:
        weights["before"] = earlier.weights
    for name, model in weights.items():
        what = "from before the data were changed" if name == "before" else f"of {NAMES[name]}"
        steps[f"evaluate {name}"] = Step(
            kind="evaluate",
            options={**shared, **attack},
            inputs={**outside, "weights": model},
            title=f"evaluating the model {what}",
        )


def _check(options: PipelineOptions) -> None:
    """Check the options that do not depend on the data.

    Raises:
        UsageError: wrong use.
    """
    require_static(options.method)
    load_selector(options.method, per_class=options.per_class or None)
    check_attacks(options.attack, options.eps)
    if options.features is not None:
        require_reads_features(options.method, options.features)


def _check_lists(options: PipelineOptions, source: Source) -> None:
    """Check that lists of samples and features are of the data.

    Raises:
        UsageError: they do not fit.
    """
    for name in ("exclude", "wrong"):
        check_sample_list(name, getattr(options, name), source)
    if options.features is not None:
        with_features(unscored_table(source), options.features)  # raises if they do not fit


def _measuring_step(machine: Mapping[str, Any], needs: MethodInputs, inputs: Mapping[str, Any], model: str) -> Step:
    asked = {"hardness": needs.expensive, "save_features": needs.features, "model": user_factory(model)}
    return Step(kind="measure", options={**machine, **asked}, inputs=inputs, title="what the method needs besides")


def _file(option: str, path: Path | None) -> dict[str, External]:
    """A file as an input; nothing if it is not given."""
    return {} if path is None else {option: External(str(path.resolve()), sha256_of_file(path))}


def summarise(plan: RunPlan, out: Path) -> dict[str, Any]:
    """The comparison of the three models, and of the model of all samples with the one from before."""
    options, steps = plan.choices.options, plan.steps
    results = {name: read_evaluation(steps[f"evaluate {name}"].folder(out)) for name in NAMES}
    objectives = dict.fromkeys(results, options.objective) | {"all": "standard"}
    rows = [{"trained_on": n, "objective": objectives[n], **describe(result)} for n, result in results.items()]
    against = {name: compare_outcomes(results["coreset"], results[name]) for name in ("random", "all")}
    earlier: dict[str, Any] = {}
    if plan.earlier is not None:
        before = read_evaluation(steps["evaluate before"].folder(out))
        models = (plan.earlier.folder, steps["train all"].folder(out))
        earlier = compare_with_earlier(results["all"], before, plan.choices.source, models)
        earlier = {"earlier": read_summary(steps["score"].folder(out) / "run.json") | earlier}
        earlier["earlier"]["unscored"] = _count_unscored(steps, out)
    return earlier | {
        "rows": rows,
        "against": against,
        "recommended": recommend(results),
        "classes": count_classes(Coreset.read(steps["choose coreset"].folder(out) / "coreset.parquet")),
        "method": options.method,
        "fraction": options.fraction,
        "per_class": options.per_class,
        "command": spell_command(steps["train coreset"], coreset=out / "coreset.parquet", out=out.name + "-mine"),
        "updates": plan.choices.updates,
        "epochs": options.epochs,
        "model": options.model,
    }


def compare_with_earlier(now: Evaluation, before: Evaluation, source: Source, models: Sequence[Path]) -> dict[str, Any]:
    """What changing the data bought: both accuracies on the same test images, and the gain, of each class too.

    Images that one of the models was trained on are left out: a training image before may be a test image now.
    """
    split, rows = source.splits["test"], now.clean.index
    unseen = np.ones(len(rows), np.bool_)
    for folder in models:
        seen = find_training_samples(split, rows, read_card(folder).trained_on or {})
        unseen &= True if seen is None else ~seen
    labels = np.where(unseen, split.labels[rows], -1)
    classes = [
        {"class": str(source.class_names[k]), "samples": int((labels == k).sum()), **_compare(now, before, labels == k)}
        for k in np.unique(labels[unseen]).tolist()
    ]
    attacked = [
        {"eps": a.eps, **_compare_rows(~a.broken[unseen], ~b.broken[unseen])}
        for a, b in zip(now.worst, before.worst, strict=True)
    ]
    return {
        "samples": int(unseen.sum()),
        "seen": int((~unseen).sum()),
        "clean": _compare(now, before, unseen),
        "worst": attacked,
        "by_class": classes,
    }


def _count_unscored(steps: Mapping[str, Step], out: Path) -> dict[str, int]:
    """How many samples without a score are there, in the coreset, and among the random samples."""
    unscored = Scores.read(steps["score"].folder(out)).n_obs == 0
    chosen = {
        name: Coreset.read(steps[f"choose {name}"].folder(out) / "coreset.parquet").keep
        for name in ("coreset", "random")
    }
    return {"all": int(unscored.sum()), **{name: int((keep & unscored).sum()) for name, keep in chosen.items()}}


def _compare(now: Evaluation, before: Evaluation, rows: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Clean accuracy now and before on some of the images, and the gain."""
    return _compare_rows(~now.clean.broken[rows], ~before.clean.broken[rows])


def _compare_rows(now: npt.NDArray[np.bool_], before: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Two accuracies by who is right on each image, and the gain; 0 of no images."""
    shares = {"accuracy": float(now.mean()), "before": float(before.mean())} if len(now) else {}
    return {"accuracy": 0.0, "before": 0.0, **shares, **paired_difference(now, before)}


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
