"""`run`: from a folder of images to a report, in one command."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easycoreset.auditing.by_folds import affordable_epochs
from easycoreset.auditing.judging import CHEAP_EPOCHS
from easycoreset.console import log
from easycoreset.data import Source, cached_sources
from easycoreset.data.unscored import unscored_table
from easycoreset.dynamic import require_static
from easycoreset.errors import UsageError
from easycoreset.models import user_factory
from easycoreset.objectives import load_objective
from easycoreset.options import READING_FIELDS, PipelineOptions, ReportOptions, accept_options
from easycoreset.paths import sha256_of_file
from easycoreset.plan_folders import COMPARISON, TRAINED_ON
from easycoreset.process_group import preserve_rng
from easycoreset.reporting import report
from easycoreset.scoring.needs import MethodInputs
from easycoreset.selection import load_selector, require_reads_features
from easycoreset.tables.foreign_features import with_features
from easycoreset.workflow.defaults import RunDefaults, choose_defaults, log_defaults
from easycoreset.workflow.earlier_scoring import EarlierScoring, find_scorings
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.option_checks import check_attacks, check_sample_list
from easycoreset.workflow.plans import run_plan
from easycoreset.workflow.run_summary import summarise
from easycoreset.workflow.steps import External, Step, check_options, is_done

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


@dataclass(frozen=True)
class RunPlan:
    """What `run` does.

    Attributes:
        choices: the defaults that fit the data and the machine.
        steps: the steps by name.
        earlier: the scoring run on an earlier state of the data whose scores are reused, if any.
    """

    choices: RunDefaults
    steps: dict[str, Step]
    earlier: EarlierScoring | None = None

    @property
    def links(self) -> dict[str, tuple[str, str] | None]:
        """The links in the folder: path -> (step, path within it), or None for a link to remove.

        Without an earlier scoring run, the scoring model is also the model of all samples.
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

    If the folder has scores of nearly the same pictures (some of them cleaned, moved or new), these scores are reused:
    the pictures are matched by content, the models are trained on the data as they are now, and the earlier model is
    evaluated on the same test images (`evaluation/before`).

    Returns:
        The content of `comparison.json`; None if the time limit `minutes` was reached first.

    Raises:
        UsageError: invalid options or data, before work starts.
        GridError: some steps failed; the others are done.
    """
    plan = plan_run(options)
    log_defaults(plan.choices)
    earlier = None if plan.earlier is None else plan.earlier.folder

    def show_audit(step: Step) -> None:
        if step.kind == "audit":
            report(**vars(ReportOptions(out=step.folder(options.out))))

    def sum_up(out: Path) -> dict[str, Any]:
        return summarise(plan.choices, plan.steps, earlier, out)

    return run_plan("run", plan.steps, options, COMPARISON, sum_up, show_audit, links=plan.links)


def plan_run(options: PipelineOptions) -> RunPlan:
    """The defaults that fit the data and the machine, and the steps by name; nothing is written.

    Raises:
        UsageError: wrong use.
    """
    _check(options)
    for earlier in find_scorings(options.out):
        try:
            plan = _plan_with_scores_of(earlier, options)
        except (UsageError, OSError) as error:  # the earlier run had other data or options, or is damaged
            log.info("cannot continue from %s: %s", earlier.folder, error)
            continue
        if plan is not None:
            return plan
    return _plan(options, choose_defaults(options))


def _plan_with_scores_of(earlier: EarlierScoring, options: PipelineOptions) -> RunPlan | None:
    """The plan that reuses an earlier scoring run of the same or nearly the same data; None if it cannot be reused."""
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
    """The plan; with an earlier scoring run, its scores are carried over and a model of all samples is trained."""
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
            title=f"choosing {TRAINED_ON[name]}",
        )
    objectives = dict.fromkeys(choosing, load_objective(options.objective)[0])
    for name, objective in (objectives if earlier is None else {**objectives, "all": "standard"}).items():
        chosen = {"coreset": steps[f"choose {name}"]} if name in choosing else {}
        steps[f"train {name}"] = Step(
            kind="train",
            options=training | {"objective": objective, "updates": choices.updates},
            inputs=training_inputs | chosen,
            title=f"training on {TRAINED_ON[name]}",
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
        what = "from before the data were changed" if name == "before" else f"of {TRAINED_ON[name]}"
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
