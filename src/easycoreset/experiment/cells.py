"""Experiments as data: cells of (method, fraction, objective, budget, seed, model, data), and products of them."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from easycoreset.attacks import ATTACKS
from easycoreset.data import name_data
from easycoreset.errors import require
from easycoreset.hardness.gradient import AIGN
from easycoreset.members import Table, find_member, split_spec
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import (
    READING,
    AttackOptions,
    ModelOptions,
    NormOptions,
    ReadingOptions,
    ScoringOptions,
    TrainingOptions,
    ValidationOptions,
    field_names,
    resolve_optimizer,
)
from easycoreset.options.groups import DEFAULTS
from easycoreset.own_modules import code_digest
from easycoreset.scoring.needs import FeatureKind, Needs, needs_of_scoring
from easycoreset.selection import SELECTORS, load_selector, required_inputs
from easycoreset.statistics.planned import FULL, Kind


@dataclass(frozen=True, kw_only=True)
class Cell(
    ScoringOptions, ValidationOptions, TrainingOptions, NormOptions, AttackOptions, ModelOptions, ReadingOptions
):
    """One training run of a comparison and its evaluation, by the options of `compare` with one value each.

    A cell is named by the hash of its options that are off their default and of its members' versions: a new
    option orphans no finished cell.

    Attributes:
        data: as `--data` spells it.
        method: `NAME[:key=value]...`, `full`, `file:PATH` or `package.module:name`.
        method_digest: of the file that `file:PATH` names.
        init_digest: of the weights that `init` names; empty for none and for published ones.
        model_code: digest of the code of a user's own model and data; empty for others.
        code: likewise of the user's own method, objective and attacks.
        fraction: kept.
        objective: what training minimises.
        epochs: budget (this or updates).
        updates: budget.
        seed: of selection, initialisation, order and augmentation.
        scoring_epochs: of the run that the scores come from.
        feature_layer: whose input the scoring run saves as features; None for the last linear layer.
        eps: radii.
        main_eps: the radius that is measured on all test images; None for all of them.
        limit: test images at the other radii; None for all.
        strong: attacks that are run at the main radius alone, each on so many test images: `ATTACK@IMAGES`, or `ATTACK`
            for all of them. They are told beside the table, and are no part of its worst case.
    """

    data: str
    method: str = "random"
    method_digest: str = ""
    init_digest: str = ""
    model_code: str = ""
    code: str = ""
    fraction: float = 1.0
    objective: str = "standard"
    epochs: int | None = None
    updates: int | None = None
    seed: int = 0
    scoring_epochs: int = 15
    feature_layer: str | None = None
    eps: tuple[float, ...] = (8 / 255,)
    main_eps: float | None = None
    strong: tuple[str, ...] = ()

    @property
    def main(self) -> float:
        """The radius that the contrasts are about."""
        return self.eps[0] if self.main_eps is None else self.main_eps

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks of the evaluation, the strong ones too."""
        return (*self.attack, *(attack for attack, _ in map(split_strong, self.strong)))

    def key(self) -> dict[str, Any]:
        """The options that make its result and are off their default."""
        options = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        options["data"] = name_data(self.data)
        if self.method_digest:
            options["method"] = "file"  # what is in it counts, not where it lies
        if self.init_digest:
            options["init"] = "file"
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        for name, value in resolve_optimizer(self).items():  # the optimizer's default, whether it is spelled or not
            if value == DEFAULTS[self.optimizer][name]:
                options[name] = defaults[name]
        return {RECORDED.get(name, name): options[name] for name in MAKING if options[name] != defaults[name]}

    @property
    def name(self) -> str:
        """16 hex digits."""
        members: list[tuple[str, str, Table]] = [("objective", self.objective, OBJECTIVES)]
        if not self.method.startswith("file:") and self.method != FULL:
            members.append(("method", self.method, SELECTORS))
        members += [("attack", spec, ATTACKS) for spec in self.attacks]
        made = [getattr(find_member(kind, split_spec(spec)[0], table), "version", 1) for kind, spec, table in members]
        return _hash([self.key(), made])

    @property
    def scoring_name(self) -> str:
        """16 hex digits of what its scores depend on: one scoring run serves all methods of a seed."""
        made = {"aign": AIGN.version} if AIGN.version > 1 else {}
        return _hash({key: value for key, value in self.key().items() if key in SCORING} | made)

    @cached_property
    def needs(self) -> Needs | None:
        """What the method reads; None where a user's own does not say."""
        if self.method == FULL or self.method.startswith("file:"):
            return Needs((), (), (), ())
        selector = load_selector(self.method)[1]
        return None if required_inputs(selector) is None else needs_of_scoring(selector)

    @property
    def needs_scores(self) -> bool:
        """Whether the method reads hardness or features at all."""
        return self.needs is None or any(self.needs)

    @property
    def needs_hardness(self) -> tuple[str, ...]:
        """Columns that the scoring run must measure, as far as the method says."""
        return self.needs.hardness if self.needs else ()

    @property
    def needs_expensive(self) -> tuple[str, ...]:
        """Those of them that the scoring run must be asked for."""
        return self.needs.expensive if self.needs else ()

    @property
    def needs_features(self) -> FeatureKind | None:
        """Which features the scoring run must save for the method."""
        return self.needs.features if self.needs else None


MAKING = field_names(Cell, neutral=False)  # options that make the result of a cell
NOT_OF_SCORING = {"schedule", "ema"}  # options of training that a scoring run has its own defaults of
RECORDED = {"skip_unreadable": "skip_broken"}  # options that had another name in the keys of version 0.1
SCORING = {  # options that a scoring run shares with the cells that it serves
    "data",
    "init_digest",
    "model_code",
    "seed",
    "scoring_epochs",
    "feature_layer",
    *(RECORDED.get(name, name) for name in READING),
    *field_names(ModelOptions),
    *field_names(ScoringOptions, neutral=False),
    *(set(field_names(TrainingOptions, neutral=False)) - NOT_OF_SCORING),
}


@dataclass(frozen=True, kw_only=True)
class Product:
    """Every combination of these options, the rest as in `base`, and the contrast that was declared beforehand.

    Attributes:
        base: the options that all its cells share.
        methods: what is compared.
        fractions: kept.
        objectives: of training.
        updates: budgets in updates; empty where they are in epochs.
        epochs: budgets in epochs.
        seeds: 0 to seeds - 1.
        first_seed: strong attacks that seed 0 alone has, beside those of `base`.
        contrast: how each method is compared with random, declared beforehand; None where the experiment's own
            declarations are all.
    """

    base: Cell
    methods: tuple[str, ...]
    fractions: tuple[float, ...]
    objectives: tuple[str, ...] = ("standard",)
    updates: tuple[int, ...] = ()
    epochs: tuple[int, ...] = ()
    seeds: int
    first_seed: tuple[str, ...] = ()
    contrast: Kind | None = None

    def cells(self, seed: int) -> list[Cell]:
        """Its cells of one seed."""
        base = self.base
        if self.first_seed and seed == 0:
            base = dataclasses.replace(base, strong=(*base.strong, *self.first_seed))
        budgets = [{"updates": u} for u in self.updates] or [{"epochs": e} for e in self.epochs]
        found = [
            dataclasses.replace(base, method=m, fraction=f, objective=o, seed=seed, **budget)
            for o in self.objectives
            for f in self.fractions
            for m in self.methods
            for budget in budgets
        ]
        found = [dataclasses.replace(cell, fraction=1.0) if cell.method == FULL else cell for cell in found]
        return _with_code(found)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A comparison as data: products of options, what it declares, and the fingerprint of its data where it is known.

    Attributes:
        name: of the recipe.
        products: of options.
        fingerprint: of the training split; empty where it is not known.
        declares: contrasts beyond those of the products, as `--declare` spells them.
        primary: the one that is tested alone, before the others; none where it is empty.
    """

    name: str
    products: tuple[Product, ...]
    fingerprint: str = ""
    declares: tuple[str, ...] = ()
    primary: str = ""

    def cells(self) -> list[Cell]:
        """All cells, each once, in order of importance: every product's first seed, then the second, ..."""
        seeds = max(product.seeds for product in self.products)
        found = (
            c for seed in range(seeds) for product in self.products if seed < product.seeds for c in product.cells(seed)
        )
        return list(dict.fromkeys(found))

    def record(self) -> dict[str, Any]:
        """What a report needs to know of the experiment."""
        products = [dataclasses.asdict(product) for product in self.products]
        for product, record in zip(self.products, products, strict=True):
            record["base"] |= resolve_optimizer(product.base)
        return {"name": self.name, "products": products}

    def identity(self) -> dict[str, Any]:
        """What another experiment would differ in; methods, fractions, objectives, budgets and seeds only extend it."""
        bases = [dataclasses.replace(product.base, method_digest="").key() for product in self.products]
        return {
            "experiment": self.name,
            "bases": [base for place, base in enumerate(bases) if base not in bases[:place]],
        }


def split_strong(spec: str) -> tuple[str, int | None]:
    """The attack and the images of `ATTACK[@IMAGES]`.

    >>> split_strong("apgd@500"), split_strong("autoattack")
    (('apgd', 500), ('autoattack', None))

    Raises:
        UsageError: the images are no whole number of at least 1.
    """
    attack, mark, images = spec.partition("@")
    if not mark:
        return attack, None
    require(images.isdecimal() and int(images) >= 1, "strong", "ATTACK or ATTACK@IMAGES with IMAGES >= 1", spec)
    return attack, int(images)


def _with_code(cells: list[Cell]) -> list[Cell]:
    """The cells, with what tells the user's own code apart from what it was: another version is another cell."""
    digests = dict[tuple[str, ...], str]()

    def digest(*specs: str) -> str:
        if specs not in digests:
            digests[specs] = code_digest(specs)
        return digests[specs]

    return [
        dataclasses.replace(
            cell,
            code=digest(cell.method, cell.objective, *cell.attacks),
            model_code=digest(*([cell.model] if cell.model else []), cell.data),  # of the scoring run too
        )
        for cell in cells
    ]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
