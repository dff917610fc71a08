"""Options of `compare`, which are also those of a recipe's products."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from easycoreset.errors import UsageError, require
from easycoreset.options.fields import AT_LEAST_1, NEUTRAL, SHARE, UNIQUE, rule, with_default
from easycoreset.options.groups import (
    AttackOptions,
    MachineOptions,
    NormOptions,
    ReadingOptions,
    RunnerOptions,
    TrainingOptions,
    ValidationOptions,
    check_radii,
    check_training,
)
from easycoreset.options.objects import DATA, INITIAL_WEIGHTS, MEMBER, MODEL, SCORES, GivenPath, Named, Several
from easycoreset.options.overlap import require_disjoint

FULL = "full"  # training on all data
BALANCED = "random:per_class=true"
CONTROLS = (FULL, BALANCED)
MAX_SEED = 2**31
MAX_SEEDS = 10_000
SEEDS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(
    ValidationOptions, TrainingOptions, NormOptions, AttackOptions, MachineOptions, ReadingOptions, RunnerOptions
):
    """Options of `compare`: the axes of a grid; beside a recipe they replace its values, or add to them (+VALUE)."""

    given: ClassVar[frozenset[str]] = frozenset()  # the options that were given

    recipe: str | None = None
    """A recipe by name (`compare --list`), or a YAML file in the form that `compare --show-recipe NAME` prints."""
    data: Several[Named] = field(default=(), metadata=UNIQUE | DATA)
    """Data sets, comma-separated, as `score` takes them."""
    model: Several[Named] = field(default=(), metadata=UNIQUE | MODEL)
    """Models, comma-separated: resnet18, ..., torchvision:NAME, timm:NAME; default: chosen by the data."""
    init: Named | None = field(default=None, metadata=INITIAL_WEIGHTS)
    """Initial weights: a trained model's folder, a file of weights, or pretrained (published weights, downloaded)."""
    methods: Several[Named] = field(default=(), metadata=UNIQUE | MEMBER)
    """Coreset methods (see `compare --list`), comma-separated; also file:PATH (a coreset, or indices or ids)."""
    controls: Several[str] = CONTROLS
    """Controls added to the methods: all data at the same budgets, class-balanced random, both, or none."""
    fractions: Several[float] = field(default=(), metadata=UNIQUE | SHARE)
    """Shares of the samples that are kept, comma-separated."""
    scores: Named | None = field(default=None, metadata=SCORES)
    """Scores instead of a scoring run: a score table or its folder (`{seed}` in the path stands for the seed), or
    published:NAME, which comes with the package."""
    features: GivenPath | None = None
    """Features from elsewhere, for methods that read features: .npy in index order, or .parquet with sample ids."""
    objectives: Several[Named] = field(default=("standard",), metadata=UNIQUE | MEMBER)
    """Training objectives, comma-separated."""
    epochs: Several[int] = field(default=(), metadata=UNIQUE | AT_LEAST_1)
    """Budgets in epochs, comma-separated (give either epochs or updates)."""
    updates: Several[int] = field(default=(), metadata=UNIQUE | AT_LEAST_1)
    """Budgets in updates, comma-separated, each trained with a full schedule."""
    seeds: Named = field(default="3", metadata=rule("N, FROM-TO or a list like 0,3", lambda text: bool(_seeds(text))))
    """Seeds of every combination: a number of seeds (0, 1, ...), or 5-9, or 0,3."""
    eps: Several[float] = with_default(AttackOptions, "eps", (8 / 255,))
    """Radii of the evaluation, comma-separated; the first is the main one unless main_eps names another."""
    main_eps: float | None = None
    """The radius at which contrasts are tested, on all images; default: the first of eps, on limit images."""
    limit: int | None = with_default(AttackOptions, "limit", None)
    """Number of images, of all radii but main_eps; default: all."""
    strong: Several[str] = field(default=(), metadata=UNIQUE)
    """Attacks at the main radius only, comma-separated, as ATTACK or ATTACK@IMAGES (`apgd@500`, at most limit)."""
    corruptions: Several[Named] = field(default=(), metadata=UNIQUE)
    """Also measure accuracy on corrupted images, comma-separated, as `evaluate` takes them, or NAME@IMAGES."""
    certify: Several[str] = field(default=(), metadata=UNIQUE)
    """Also certify l2 radii by randomized smoothing, as `evaluate` does, on IMAGES: sigma=0.25@500."""
    contrast: Literal["auto", "matched clean", "equal updates", "none"] = "auto"
    """The test of each method; auto: matched clean if there are several budgets, else equal updates."""
    vary: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values of one more option: `lr=0.05,0.1` (of training), or STEP.OPTION=V,V (of another step); repeatable."""
    extend: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values added to those of a recipe, as OPTION=V,V; `--seeds +3-4` is short for `--extend seeds=3-4`."""
    declare: Several[str] = field(default=(), metadata=NEUTRAL | UNIQUE)
    """Contrasts in addition to each method against random, comma-separated: 'easiest:loss vs easycore'."""
    primary: str | None = field(default=None, metadata=NEUTRAL)
    """The contrast tested first and alone, written as in declare; others can support a claim only if this does."""
    shard: str = field(default="1/1", metadata=NEUTRAL | rule("I/N with 1 <= I <= N", lambda text: bool(_shard(text))))
    """I/N: run every N-th cell, starting with the I-th, for job arrays."""
    discard_weights: bool = field(default=False, metadata=NEUTRAL)
    """Delete each model when its evaluations are done; a later evaluation must train it again."""
    prune: bool = field(default=False, metadata=NEUTRAL)
    """Delete the steps in the folder that neither this start nor an earlier start of the comparison needs."""
    preregister: bool = field(default=False, metadata=NEUTRAL)
    """Write the plan, its declared contrasts and its seeds into out, and run nothing."""

    def __new__(cls, **given: Any) -> "CompareOptions":
        """Remember which options were given: beside a recipe, these replace its values."""
        options = super().__new__(cls)
        object.__setattr__(options, "given", frozenset(given))
        return options

    def __post_init__(self) -> None:
        given: Any = self.seeds
        if not isinstance(given, str):  # a number or several, from Python or YAML
            seeds = given if isinstance(given, int) else ",".join(f"{seed}-{seed}" for seed in given)
            object.__setattr__(self, "seeds", str(seeds))
        super().__post_init__()
        for name in ("dry_run", "overwrite"):
            require(not (self.preregister and getattr(self, name)), name, "left out with preregister", True)
        require_disjoint(self)
        if tuple(self.controls) == ("none",):
            object.__setattr__(self, "controls", ())
        for name in self.controls:
            require(name in CONTROLS, "controls", f"one of {', '.join(CONTROLS)}, or none", name)
        require(self.recipe is not None or not self.extend, "extend", "given with a recipe", dict(self.extend))
        check_training(self)
        check_radii(self.eps, self.norm)
        if self.recipe is None:
            self._check_grid()

    def _check_grid(self) -> None:
        for name in ("data", "methods", "fractions"):
            require(bool(getattr(self, name)), name, "given (or a recipe)", getattr(self, name))
        if bool(self.epochs) == bool(self.updates):
            received = "both" if self.epochs else "neither"
            raise UsageError(f"exactly one of epochs and updates must be given; got {received}")
        require(self.main_eps is None or self.main_eps in self.eps, "main_eps", f"one of eps={self.eps}", self.main_eps)
        if self.contrast == "matched clean" and len(self.epochs or self.updates) < 2 and "random" in self.methods:
            raise UsageError("contrast 'matched clean' needs several budgets (updates or epochs) for random's frontier")

    def list_seeds(self) -> tuple[int, ...]:
        """The seeds."""
        seeds = _seeds(self.seeds)
        assert seeds is not None  # validated in __post_init__
        return seeds

    def parse_shard(self) -> tuple[int, int]:
        """(I, N)."""
        shard = _shard(self.shard)
        assert shard is not None  # validated in __post_init__
        return shard


def _seeds(text: str) -> tuple[int, ...] | None:
    """The seeds of N, FROM-TO or a list of numbers and ranges; None if the text is none of them.

    >>> _seeds("3"), _seeds("5-6"), _seeds("0,3"), _seeds("2,1-2"), _seeds("3-1")
    ((0, 1, 2), (5, 6), (0, 3), None, None)
    """
    if SEEDS.fullmatch(text) is None:
        return None
    if text.isdecimal():
        return tuple(range(int(text))) if 1 <= int(text) <= MAX_SEEDS else None
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) >= MAX_SEED or int(last or first) - int(first) > MAX_SEEDS:
            return None
        seeds += range(int(first), int(last or first) + 1)
    return tuple(seeds) if seeds and len(set(seeds)) == len(seeds) else None


def _shard(text: str) -> tuple[int, int] | None:
    """(I, N) of I/N; None if the text is not a shard."""
    numbers = [int(part) for part in text.split("/") if part.isdecimal()]
    valid = text.count("/") == 1 and len(numbers) == 2 and 1 <= numbers[0] <= numbers[1]
    return (numbers[0], numbers[1]) if valid else None
