"""Cells: one training of a plan with its evaluations, as steps."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from easycoreset.attacks import load_attack, needs_surrogate
from easycoreset.dynamic import has_own_share, is_dynamic, load_dynamic_method
from easycoreset.errors import require
from easycoreset.models import user_factory
from easycoreset.objectives import load_objective
from easycoreset.options import (
    READING_FIELDS,
    TrainingOptions,
    ValidationOptions,
    field_names,
)
from easycoreset.options.comparing import FULL
from easycoreset.options.groups import OPTIMIZER_DEFAULTS
from easycoreset.plan_folders import CHECKPOINT, IMAGES_OF, SPLIT
from easycoreset.selection import load_selector, required_inputs
from easycoreset.statistics.settings import OWN_SHARE, STEP_PREFIXES, Setting
from easycoreset.workflow.beyond import plan_beyond, split_images
from easycoreset.workflow.inputs import Data, Inputs
from easycoreset.workflow.steps import KINDS, External, Step, check_options, hash_json, result_defaults

SCORING_EPOCHS = 15
TRAINING_ONLY = ("schedule", "ema")  # training options for which a scoring run uses its defaults
SCORING_SEED = 1000  # added to the seed: the model that scores is another one than the model that is attacked
EVALUATION_PREFIX = "evaluate."  # prefix of the options of evaluation
CHECKPOINTS = {"checkpoint_minutes": 1.0}


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One training of a plan with its evaluations.

    Attributes:
        data: the data set.
        model: the model.
        method: the method in its canonical spelling, or `full`.
        fraction: share of the samples that is kept; OWN_SHARE for a method that determines its share itself.
        objective: the objective in its canonical spelling.
        epochs: budget in epochs (either this or updates).
        updates: budget in updates.
        seed: seed of selection, initialisation, order and augmentation.
        options: the options of training and evaluation that are off their default.
        choice_options: the options of scoring and choosing that are off their default, by `STEP.OPTION`; None where the
            method reads no scores.
        main_eps: the radius at which contrasts are tested.
        steps: the steps up to the training, by kind.
        evaluations: evaluations of the model; each has a flag that is true if its attack is not part of the worst case.
        beyond: evaluations on corrupted images and of certified radii.
    """

    data: Data
    model: str
    method: str
    fraction: float
    objective: str
    epochs: int | None
    updates: int | None
    seed: int
    options: Mapping[str, Any]
    choice_options: Mapping[str, Any] | None
    main_eps: float
    steps: Mapping[str, Step]
    evaluations: tuple[tuple[Step, bool], ...]
    beyond: tuple[Step, ...] = ()

    @property
    def name(self) -> str:
        """The key of the training, or its hash with the options of evaluation that are off their default."""
        key = self.steps["train"].key
        evaluation = [
            part for part in sorted(self.options.items()) if part[0] == "norm" or part[0].startswith(EVALUATION_PREFIX)
        ]
        return hash_json([key, evaluation]) if evaluation else key

    @property
    def variant(self) -> str:
        """The options of training and evaluation off their defaults, as text."""
        return _as_text(self.options)

    @property
    def scoring(self) -> str | None:
        """The options of scoring and choosing off their defaults, as text; None where no scores are read."""
        return None if self.choice_options is None else _as_text(self.choice_options)

    @property
    def setting(self) -> Setting:
        """What it shares with the cells that it is compared with."""
        return Setting(self.data.name, self.model, self.objective, self.fraction, self.variant, self.scoring)

    @property
    def targets(self) -> list[Step]:
        """The training and its evaluations."""
        return [self.steps["train"], *(step for step, _ in self.evaluations), *self.beyond]

    def to_json(self) -> dict[str, Any]:
        """The cell as `plan.json` keeps it."""
        names = (
            "model",
            "method",
            "fraction",
            "objective",
            "epochs",
            "updates",
            "seed",
            "main_eps",
            "variant",
            "scoring",
        )
        return {
            "name": self.name,
            "data": self.data.name,
            **{name: getattr(self, name) for name in names},
            "options": {**self.options, **(self.choice_options or {})},
            "classes": self.data.class_counts,
            "superseded": False,
            "steps": {kind: step.key for kind, step in self.steps.items()},
            "evaluations": [
                {"key": step.key, "attack": step.options["attack"][0], "eps": step.options["eps"][0], "strong": strong}
                | ({"surrogate": step.steps["surrogate"].key} if "surrogate" in step.steps else {})
                for step, strong in self.evaluations
            ],
            "beyond": [
                {"key": step.key, **{name: list(step.options.get(name, ())) for name in ("corruptions", "certify")}}
                for step in self.beyond
            ],
        }


def build_cell(values: Mapping[str, Any], inputs: Inputs) -> Cell:
    """Build the cell for one value of every option.

    Args:
        values: the options of training by their names, those of other steps by `STEP.OPTION`, and `first_seed`,
            whether the seed is the first: its evaluations have all checks.
        inputs: opens the data, the model and the method.

    Raises:
        UsageError: an unknown method, objective or attack, or data or a model that do not fit.
    """
    data = inputs.open(values["data"], {name: values[name] for name in READING_FIELDS})
    model, init, network = inputs.model(values["model"], values["init"], data)
    training = _training_options(values, inputs)
    shared = {
        "options": {**data.reading, "model": model, **CHECKPOINTS},
        "inputs": {"data": data.external} | ({} if init is None else {"init": init}),
    }
    seed = values["seed"]
    objective = load_objective(values["objective"])[0]
    method, fraction, published = values["method"], values["fraction"], {}
    dynamic: dict[str, Any] = {}  # the options of training by a method that chooses each epoch
    if method == FULL:
        fraction = 1.0
    elif is_dynamic(method):
        method, loaded = load_dynamic_method(method)
        dynamic = {"method": method} | ({} if has_own_share(loaded) else {"fraction": fraction})
        fraction = dynamic.get("fraction", OWN_SHARE)
        inputs.check_dynamic(method, objective, network, data)
    elif method.startswith("file:"):
        external, fraction = inputs.published(method, data)
        method, published = external.value, {"method": external}
    else:
        method = load_selector(method)[0]
    checkpoint = values.get(CHECKPOINT, "last")
    require(checkpoint == "last" or bool(values["val_fraction"]), CHECKPOINT, "last without val_fraction", checkpoint)
    split = values.get(SPLIT, "test")
    require(split != "val" or bool(values["val_fraction"]), SPLIT, "train or test without val_fraction", split)
    off = _off_default(values, training, {"evaluate.attack_precision": inputs.precision})
    choice_options = {name: off.pop(name) for name in list(off) if name.startswith(STEP_PREFIXES)}
    facts = f"{method} at {fraction:g}, {objective}, seed {seed}" if fraction else f"{method}, {objective}, seed {seed}"
    steps: dict[str, Step] = {}
    if method != FULL and not dynamic:
        scores = {} if published else _scores_of(values, training, shared, inputs, network, data, steps)
        choice = {"fraction": fraction, "seed": seed, "val_fraction": values["val_fraction"]}
        choice |= {} if published else {"method": method}
        steps["select"] = Step(
            kind="select",
            options={**data.reading, **choice, **_options_of("select", values)},
            inputs={"data": data.external, **scores, **published},
            title=f"choosing {facts}",
        )
    steps["train"] = Step(
        kind="train",
        options=shared["options"]
        | training
        | dynamic
        | {"objective": objective, "seed": seed, "epochs": values["epochs"], "updates": values["updates"]},
        inputs=shared["inputs"] | ({"coreset": steps["select"]} if "select" in steps else {}),
        title=f"training on {facts}",
    )
    read = {"scores", "features"} & set(steps["select"].inputs) if "select" in steps else set[str]()
    given = {f"select.{name}": str(values[name]) for name in ("scores", "features") if read and values[name]}
    main_eps = values["eps"][0] if values["main_eps"] is None else values["main_eps"]
    surrogate = functools.cache(functools.partial(_surrogate, values, inputs))
    evaluations = _evaluations(values, steps["train"], data, model, main_eps, inputs.precision, facts, surrogate)
    beyond = plan_beyond(values, steps["train"], data, model, main_eps, facts)
    for step in (*steps.values(), *(step for step, _ in evaluations), *beyond):
        check_options(step)
    return Cell(
        data=data,
        model=model,
        method=method,
        fraction=fraction,
        objective=objective,
        epochs=values["epochs"],
        updates=values["updates"],
        seed=seed,
        options=off,
        choice_options=choice_options | given if read else None,
        main_eps=main_eps,
        steps=steps,
        evaluations=tuple(evaluations),
        beyond=beyond,
    )


def _scores_of(
    values: Mapping[str, Any],
    training: Mapping[str, Any],
    shared: Mapping[str, Any],
    inputs: Inputs,
    network: nn.Module,
    data: Data,
    steps: dict[str, Step],
) -> dict[str, Step | External]:
    """The scores and features that a method chooses by, as inputs of its step; new steps are added to `steps`."""
    method, seed, features = values["method"], values["seed"], values["features"]
    own = _options_of("score", values)
    requested = (method, network, data, own.get("feature_layer"), own.get("hardness", ()))
    needs = None if values["scores"] else inputs.needs(*requested, has_features=features is not None)
    reads = required_inputs(load_selector(method)[1])
    given: dict[str, Step | External] = {}
    if features is not None and (reads is None or "features" in reads):
        given["features"] = inputs.given_features(features, data)
    if values["scores"]:
        if reads is None or reads:
            given["scores"] = inputs.given_scores(values["scores"], seed, method, data, "features" in given)
        return given
    if needs is None or any(needs):
        steps["score"] = _scoring_step(values, training, shared, seed)
    if needs is not None and (needs.expensive or needs.features):
        steps["measure"] = _measuring_step(values, steps["score"], shared, needs.expensive, needs.features)
    return given | {name: steps[kind] for name, kind in (("scores", "score"), ("measured", "measure")) if kind in steps}


def _training_options(values: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """The options of training and validation; options without a value keep the default of the optimizer."""
    training = {name: values[name] for name in (*field_names(TrainingOptions), *field_names(ValidationOptions))}
    for name, default in OPTIMIZER_DEFAULTS[training["optimizer"]].items():
        training[name] = None if training[name] == default else training[name]
    training["precision"] = inputs.precision if training["precision"] == "auto" else training["precision"]
    return training


def _scoring_step(values: Mapping[str, Any], training: Mapping[str, Any], shared: Mapping[str, Any], seed: int) -> Step:
    """The scoring run that all methods of a seed share; it follows training where nothing else is said."""
    followed = {name: training[name] for name in field_names(TrainingOptions) if name not in TRAINING_ONLY}
    own = _options_of("score", values)
    epochs = own.get("epochs", SCORING_EPOCHS)
    return Step(
        kind="score",
        options=shared["options"] | followed | own | {"epochs": epochs, "seed": SCORING_SEED + seed},
        inputs=shared["inputs"],
        title=f"scoring of seed {seed}",
    )


def _measuring_step(
    values: Mapping[str, Any],
    scoring: Step,
    shared: Mapping[str, Any],
    hardness: Sequence[str],
    features: str | None,
) -> Step:
    """Columns and features that a method needs beyond those of the scoring run."""
    options = {name: shared["options"][name] for name in READING_FIELDS if name in shared["options"]}
    options |= {"hardness": tuple(hardness), "feature_layer": values.get("score.feature_layer")}
    options |= {"save_features": features, "model": user_factory(shared["options"]["model"])}
    what = ", ".join([*hardness, *([f"{features} features"] if features else [])])
    return Step(
        kind="measure",
        options=options,
        inputs={"data": shared["inputs"]["data"], "scores": scoring},
        title=f"{what} for the {scoring.title}",
    )


def _evaluations(
    values: Mapping[str, Any],
    trained: Step,
    data: Data,
    model: str,
    main_eps: float,
    precision: str,
    facts: str,
    surrogate: Callable[[], Step],
) -> list[tuple[Step, bool]]:
    """The evaluations of a model: each attack at each radius, and the strong ones at the main radius."""
    limit = values["limit"]
    has_main = values["main_eps"] is not None
    parts = [
        (a, e, None if has_main and e == main_eps else limit, False) for a in values["attack"] for e in values["eps"]
    ]
    for attack, images in (split_images("strong", text) for text in values["strong"]):
        if not has_main and limit is not None:
            images = limit if images is None else min(limit, images)
        parts.append((attack, main_eps, images, True))
    evaluations: list[tuple[Step, bool]] = []
    for attack, eps, images, strong in parts:
        name, loaded = load_attack(attack, norm=values["norm"], eps=eps)
        on = f"{'all' if images is None else images} {IMAGES_OF[values.get(SPLIT, 'test')]}"
        step = Step(
            kind="evaluate",
            options={
                **data.reading,
                "attack_precision": precision if getattr(loaded, "climbs_in_bf16", False) else "fp32",
                **_options_of("evaluate", values),
                "model": user_factory(model),
                "attack": (name,),
                "norm": values["norm"],
                "eps": (eps,),
                "limit": images,
                "checks": "all" if values["first_seed"] and not strong else "quick",
            },
            inputs={"data": data.external, "weights": trained}
            | ({"surrogate": surrogate()} if needs_surrogate(loaded) else {}),
            title=f"{name} at eps {eps:.4g} on {on} for {facts}",
        )
        evaluations.append((step, strong))
    return evaluations


def _surrogate(values: Mapping[str, Any], inputs: Inputs) -> Step:
    """The training on all data with the seed before (of 0 it is 1), all else equal.

    It is the same for all methods and fractions, and does not depend on which other seeds a plan has.
    """
    seed = values["seed"] - 1 if values["seed"] else 1
    unattacked = {"attack": (), "strong": (), "corruptions": (), "certify": ()}
    return build_cell({**values, **unattacked, "method": FULL, "seed": seed}, inputs).steps["train"]


def at_best_epoch(cell: Cell) -> Cell:
    """The same training at its best epoch instead of its last, evaluated at the main radius."""

    def evaluate_best(step: Step) -> Step:
        changed = {"checkpoint": "best", "checks": "quick"}
        title = f"{step.title}, at its best epoch"
        return Step(kind=step.kind, options={**step.options, **changed}, inputs=step.inputs, title=title)

    evaluations = [
        (evaluate_best(step), strong)
        for step, strong in cell.evaluations
        if not strong and step.options["eps"] == (cell.main_eps,)
    ]
    options = {**cell.options, CHECKPOINT: "best"}
    return dataclasses.replace(cell, options=options, evaluations=tuple(evaluations), beyond=())


def _as_text(options: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}={value}" for name, value in sorted(options.items()))


def _options_of(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given for the steps of one kind alone."""
    prefix = f"{kind}."
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _off_default(values: Mapping[str, Any], training: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The options, other than those that tables have a column for, that are off their default."""
    defaults = vars(TrainingOptions()) | vars(ValidationOptions()) | {"precision": training["precision"]}
    names = field_names(TrainingOptions, neutral=False) + field_names(ValidationOptions)
    off = {name: training[name] for name in names if training[name] != defaults[name]}
    of_machine = {f"{kind}.{name}" for kind in KINDS for name in KINDS[kind].of_machine}
    named = {name: value for name, value in values.items() if "." in name and name not in of_machine}
    own = {n: value for n, value in named.items() if value != resolved.get(n, _default_of(n, training))}
    reading = {name: values[name] for name in (*READING_FIELDS, "init") if values[name]}
    norm = {} if values["norm"] == "linf" else {"norm": values["norm"]}
    return off | own | reading | norm


def _default_of(name: str, training: Mapping[str, Any]) -> Any:
    """The value of `STEP.OPTION` where it is not given."""
    kind, _, option = name.partition(".")
    if kind == "score" and option == "epochs":
        return SCORING_EPOCHS
    followed = kind == "score" and option in training and option not in TRAINING_ONLY
    return training[option] if followed else result_defaults(KINDS[kind].options).get(option)
