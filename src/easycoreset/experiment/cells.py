"""Experiments as data: cells of (method, fraction, objective, budget, seed, model, data), and products of them."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from easycoreset.attacks import ATTACKS
from easycoreset.data import data_name
from easycoreset.errors import require
from easycoreset.hardness.gradient import AIGN
from easycoreset.members import Table, find_member, split_spec
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import (
    READING_FIELDS,
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
from easycoreset.options.comparing import FULL
from easycoreset.options.groups import OPTIMIZER_DEFAULTS
from easycoreset.scoring.needs import FeatureKind, MethodInputs, method_inputs
from easycoreset.selection import SELECTORS, load_selector, required_inputs
from easycoreset.statistics.planned_contrasts import Kind
from easycoreset.user_modules import code_digest


@dataclass(frozen=True, kw_only=True)
class Cell(
    ScoringOptions, ValidationOptions, TrainingOptions, NormOptions, AttackOptions, ModelOptions, ReadingOptions
):
    """One training run of a comparison and its evaluation: the options of `compare` with one value each.

    A cell's name is the hash of its options that differ from their defaults, and of the versions of its method,
    objective and attacks, so a new option does not invalidate finished cells.

    Attributes:
        data: the data set, as in `--data`.
        method: `NAME[:key=value]...`, `full`, `file:PATH` or `package.module:name`.
        method_digest: digest of the file of `file:PATH`; empty for other methods.
        init_digest: digest of the weights of `init`; empty for none and for published ones.
        model_code: digest of the code of a user's own model and data; empty for others.
        code: digest of the code of a user's own method, objective and attacks; empty for others.
        fraction: share of the samples that is kept.
        objective: the training objective.
        epochs: budget in epochs (either this or updates).
        updates: budget in updates.
        seed: seed of selection, initialisation, order and augmentation.
        scoring_epochs: epochs of the scoring run.
        feature_layer: layer whose input the scoring run saves as features; None for the last linear layer.
        eps: radii of the evaluation.
        main_eps: the radius that is evaluated on all test images; None if all radii are evaluated alike.
        limit: number of test images at the other radii; None for all.
        strong: attacks at the main radius only, as `ATTACK@IMAGES` with a number of test images, or as `ATTACK`
            for all of them. They are reported separately and are not part of the worst case.
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
    def contrast_eps(self) -> float:
        """The radius at which contrasts are tested."""
        return self.eps[0] if self.main_eps is None else self.main_eps

    @property
    def attacks(self) -> tuple[str, ...]:
        """All attacks of the evaluation, including the strong ones."""
        return (*self.attack, *(attack for attack, _ in map(parse_strong_attack, self.strong)))

    def key(self) -> dict[str, Any]:
        """The options that determine the result and differ from their defaults."""
        options = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        options["data"] = data_name(self.data)
        if self.method_digest:
            options["method"] = "file"  # the content matters, not the path
        if self.init_digest:
            options["init"] = "file"
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        for name, value in resolve_optimizer(self).items():  # its defaults are left out, whether they are given or not
            if value == OPTIMIZER_DEFAULTS[self.optimizer][name]:
                options[name] = defaults[name]
        return {
            FORMER_NAMES.get(name, name): options[name] for name in RESULT_OPTIONS if options[name] != defaults[name]
        }

    @property
    def name(self) -> str:
        """The cell's name: 16 hex digits."""
        members: list[tuple[str, str, Table]] = [("objective", self.objective, OBJECTIVES)]
        if not self.method.startswith("file:") and self.method != FULL:
            members.append(("method", self.method, SELECTORS))
        members += [("attack", spec, ATTACKS) for spec in self.attacks]
        versions = [
            getattr(find_member(kind, split_spec(spec)[0], table), "version", 1) for kind, spec, table in members
        ]
        return _hash([self.key(), versions])

    @property
    def scoring_name(self) -> str:
        """The scoring run's name: 16 hex digits; all methods of a seed share one scoring run."""
        versions = {"aign": AIGN.version} if AIGN.version > 1 else {}
        return _hash({key: value for key, value in self.key().items() if key in SCORING_OPTIONS} | versions)

    @property
    def needs(self) -> MethodInputs | None:
        """The inputs that the method reads; None if a user's own method does not declare them."""
        return _needs_of(self.method)

    @property
    def needs_scores(self) -> bool:
        """Whether the method reads hardness or features."""
        return self.needs is None or any(self.needs)

    @property
    def needs_hardness(self) -> tuple[str, ...]:
        """Hardness columns that the method declares as needed."""
        return self.needs.hardness if self.needs else ()

    @property
    def needs_expensive(self) -> tuple[str, ...]:
        """The needed columns that the scoring run measures only on request."""
        return self.needs.expensive if self.needs else ()

    @property
    def needs_features(self) -> FeatureKind | None:
        """The kind of features that the scoring run must save for the method."""
        return self.needs.features if self.needs else None


@cache
def _needs_of(method: str) -> MethodInputs | None:
    if method == FULL or method.startswith("file:"):
        return MethodInputs((), (), (), ())
    selector = load_selector(method)[1]
    return None if required_inputs(selector) is None else method_inputs(selector)


RESULT_OPTIONS = field_names(Cell, neutral=False)  # options that determine the result of a cell
TRAINING_ONLY = {"schedule", "ema"}  # training options for which a scoring run uses its defaults
FORMER_NAMES = {"skip_unreadable": "skip_broken"}  # option -> its former name, which cell keys still use
SCORING_OPTIONS = {  # options that a scoring run shares with its cells
    "data",
    "init_digest",
    "model_code",
    "seed",
    "scoring_epochs",
    "feature_layer",
    *(FORMER_NAMES.get(name, name) for name in READING_FIELDS),
    *field_names(ModelOptions),
    *field_names(ScoringOptions, neutral=False),
    *(set(field_names(TrainingOptions, neutral=False)) - TRAINING_ONLY),
}


@dataclass(frozen=True, kw_only=True)
class Product:
    """All combinations of these options; all other options are those of `base`.

    Attributes:
        base: the options that all cells share.
        methods: the methods that are compared.
        fractions: shares of the samples that are kept.
        objectives: training objectives.
        updates: budgets in updates; empty if they are in epochs.
        epochs: budgets in epochs.
        seeds: number of seeds, 0 to seeds - 1.
        first_seed: additional strong attacks of seed 0 only.
        contrast: kind of the contrast with random that is declared for each method; None to declare none.
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
        """The cells of one seed."""
        base = self.base
        if self.first_seed and seed == 0:
            base = dataclasses.replace(base, strong=(*base.strong, *self.first_seed))
        budgets = [{"updates": u} for u in self.updates] or [{"epochs": e} for e in self.epochs]
        cells = [
            dataclasses.replace(base, method=m, fraction=f, objective=o, seed=seed, **budget)
            for o in self.objectives
            for f in self.fractions
            for m in self.methods
            for budget in budgets
        ]
        cells = [dataclasses.replace(cell, fraction=1.0) if cell.method == FULL else cell for cell in cells]
        return _with_code(cells)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A comparison as data: products of options, declared contrasts, and the fingerprint of the data if known.

    Attributes:
        name: name of the recipe.
        products: the products of options whose cells it contains.
        fingerprint: fingerprint of the training split; empty if unknown.
        declares: contrasts in addition to those of the products, as in `--declare`.
        primary: the contrast that is tested alone, before the others; empty for none.
    """

    name: str
    products: tuple[Product, ...]
    fingerprint: str = ""
    declares: tuple[str, ...] = ()
    primary: str = ""

    def cells(self) -> list[Cell]:
        """All cells, each once, in order of importance: every product's first seed, then the second, ..."""
        seeds = max(product.seeds for product in self.products)
        cells = (
            c for seed in range(seeds) for product in self.products if seed < product.seeds for c in product.cells(seed)
        )
        return list(dict.fromkeys(cells))

    def record(self) -> dict[str, Any]:
        """The description of the experiment that reports read."""
        products = [dataclasses.asdict(product) for product in self.products]
        for product, record in zip(self.products, products, strict=True):
            record["base"] |= resolve_optimizer(product.base)
        return {"name": self.name, "products": products}

    def identity(self) -> dict[str, Any]:
        """The options that identify the experiment, without methods, fractions, objectives, budgets and seeds."""
        bases = [dataclasses.replace(product.base, method_digest="").key() for product in self.products]
        return {
            "experiment": self.name,
            "bases": [base for i, base in enumerate(bases) if base not in bases[:i]],
        }


def parse_strong_attack(spec: str) -> tuple[str, int | None]:
    """Split `ATTACK[@IMAGES]` into the attack and the number of images.

    >>> parse_strong_attack("apgd@500"), parse_strong_attack("autoattack")
    (('apgd', 500), ('autoattack', None))

    Raises:
        UsageError: IMAGES is not a whole number of at least 1.
    """
    attack, separator, images = spec.partition("@")
    if not separator:
        return attack, None
    require(images.isdecimal() and int(images) >= 1, "strong", "ATTACK or ATTACK@IMAGES with IMAGES >= 1", spec)
    return attack, int(images)


def _with_code(cells: list[Cell]) -> list[Cell]:
    """The cells with the digests of the user's own code, so that changed code makes other cells."""
    digests = dict[tuple[str, ...], str]()

    def digest(*specs: str) -> str:
        if specs not in digests:
            digests[specs] = code_digest(specs)
        return digests[specs]

    return [
        dataclasses.replace(
            cell,
            code=digest(cell.method, cell.objective, *cell.attacks),
            model_code=digest(*([cell.model] if cell.model else []), cell.data),  # the scoring run depends on it too
        )
        for cell in cells
    ]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
