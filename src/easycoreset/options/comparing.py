"""Options of `compare`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from easycoreset.errors import UsageError, quote, require
from easycoreset.options.fields import ABOVE_0, AT_LEAST_1, NEUTRAL, SHARE, UNIQUE, rule, with_default
from easycoreset.options.groups import (
    AttackOptions,
    CommandOptions,
    MachineOptions,
    ModelOptions,
    NormOptions,
    ReadingOptions,
    ScoringOptions,
    TrainingOptions,
    ValidationOptions,
    check_radii,
    check_scoring,
    check_training,
)
from easycoreset.options.overlap import require_disjoint

FULL = "full"  # training on all data
BALANCED = "random:per_class=true"
CONTROLS = (FULL, BALANCED)
Recipe = Literal[
    "digits",
    "cifar10-quick",
    "cifar100-quick",
    "cifar10-objectives",
    "cifar10-trades",
    "cifar10-main",
    "cifar100-main",
    "cifar10-paper",
    "cifar100-paper",
    "imagenet-paper",
]


@dataclass(frozen=True, kw_only=True)
class CompareOptions(
    ScoringOptions,
    ValidationOptions,
    TrainingOptions,
    NormOptions,
    AttackOptions,
    ModelOptions,
    MachineOptions,
    ReadingOptions,
    CommandOptions,
):
    """Options of `compare`: a grid of options, or a recipe that fixes the grid."""

    recipe: Recipe | None = None
    """A named experiment, which fixes all options of the grid."""
    data: str | None = None
    """Data set, as `score` takes it; required except for the recipe digits."""
    methods: Sequence[str] = field(default=(), metadata=UNIQUE)
    """Coreset methods (see `compare --list`), comma-separated; also file:PATH (a coreset, or indices or ids)."""
    controls: Sequence[str] = CONTROLS
    """Controls added to the methods: all data at the same budgets, class-balanced random, both, or none."""
    fractions: Sequence[float] = field(default=(), metadata=UNIQUE | SHARE)
    """Shares of the samples that are kept, comma-separated."""
    objectives: Sequence[str] = field(default=("standard",), metadata=UNIQUE)
    """Training objectives, comma-separated."""
    epochs: Sequence[int] = field(default=(), metadata=UNIQUE | AT_LEAST_1)
    """Budgets in epochs, comma-separated (give either epochs or updates)."""
    updates: Sequence[int] = field(default=(), metadata=UNIQUE | AT_LEAST_1)
    """Budgets in updates, comma-separated, each trained with a full schedule."""
    seeds: int = field(default=3, metadata=AT_LEAST_1)
    """Number of seeds (0, 1, ...) with which every combination is run."""
    scoring_epochs: int = field(default=15, metadata=AT_LEAST_1)
    """Epochs of each scoring run."""
    eps: Sequence[float] = with_default(AttackOptions, "eps", (8 / 255,))
    """Radii of the evaluation, comma-separated; the first is the main one unless main_eps names another."""
    main_eps: float | None = None
    """The radius that is evaluated on all test images and at which contrasts are tested."""
    limit: int | None = with_default(AttackOptions, "limit", None)
    """Number of test images at the other radii, or at the only one; default: all."""
    strong: Sequence[str] = field(default=(), metadata=UNIQUE)
    """Attacks at the main radius only, comma-separated, as ATTACK or ATTACK@IMAGES (`apgd@500`, at most limit)."""
    contrast: Literal["auto", "matched clean", "equal updates"] = "auto"
    """The test of each method; auto: matched clean if there are several budgets, else equal updates."""
    declare: Sequence[str] = field(default=(), metadata=NEUTRAL | UNIQUE)
    """Contrasts in addition to each method against random, comma-separated: 'easiest:loss vs easycore'."""
    primary: str | None = field(default=None, metadata=NEUTRAL)
    """The contrast that is tested first, alone, written like those of declare; others can claim only if it does."""
    on: str | None = field(default=None, metadata=NEUTRAL)
    """`ray` or `ray:HOST:PORT`: run the cells as tasks of a Ray cluster; default: on this machine."""
    workers: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_1)
    """Cells run in parallel, one thread (or GPU) each; default: 2 processes, or as many as Ray has CPUs (or GPUs)."""
    minutes: float | None = field(default=None, metadata=NEUTRAL | ABOVE_0)
    """Stop after this many minutes; the same command resumes."""
    shard: str = field(default="1/1", metadata=NEUTRAL | rule("I/N with 1 <= I <= N", lambda text: bool(_shard(text))))
    """I/N: run every N-th cell, starting with the I-th, for job arrays."""
    keep_weights: bool = field(default=False, metadata=NEUTRAL)
    """Keep the model and the coreset of each cell."""
    preregister: bool = field(default=False, metadata=NEUTRAL)
    """Write the plan, its declared contrasts and its seeds into out, and run nothing."""
    dry_run: bool = field(default=False, metadata=NEUTRAL)
    """Print the number of cells and updates and an estimate of time and memory, and run nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, _, address = (self.on or "ray").partition(":")
        require(name == "ray" and not address.startswith("/"), "on", "ray or ray:HOST:PORT", self.on)
        if self.on is not None and self.dry_run and self.workers is None:
            raise UsageError(
                "workers must be given with on and dry_run: an estimate does not ask a cluster for its size"
            )
        for name in ("dry_run", "overwrite"):
            require(not (self.preregister and getattr(self, name)), name, "left out with preregister", True)
        require_disjoint(self)
        if self.recipe is None:
            self._check_grid()
        else:
            self._check_recipe()

    def _check_grid(self) -> None:
        if tuple(self.controls) == ("none",):
            object.__setattr__(self, "controls", ())
        for name in self.controls:
            require(name in CONTROLS, "controls", f"one of {', '.join(CONTROLS)}, or none", name)
        for name in ("data", "methods", "fractions"):
            require(bool(getattr(self, name)), name, "given (or a recipe)", getattr(self, name))
        if bool(self.epochs) == bool(self.updates):
            received = "both" if self.epochs else "neither"
            raise UsageError(f"exactly one of epochs and updates must be given; got {received}")
        check_radii(self.eps, self.norm)
        check_training(self)
        check_scoring(self, self.scoring_epochs)
        require(self.main_eps is None or self.main_eps in self.eps, "main_eps", f"one of eps={self.eps}", self.main_eps)

    def _check_recipe(self) -> None:
        for option in fields(self):
            allowed = option.metadata.get("neutral") or option.name in ("recipe", "data")
            if not allowed and getattr(self, option.name) != option.default:
                value = quote(getattr(self, option.name))
                raise UsageError(f"recipe {quote(self.recipe)} fixes {option.name}; got {value}")
        if self.recipe == "digits":
            require(self.data in (None, "digits"), "data", "digits for the recipe digits", self.data)
        elif self.recipe == "imagenet-paper":
            require(Path(self.data or "").is_dir(), "data", "an image folder for the recipe imagenet-paper", self.data)
        else:
            dataset = (self.recipe or "").split("-")[0]
            matches = (self.data or "").startswith(f"{dataset}:")
            require(matches, "data", f"{dataset}:DIR for the recipe {self.recipe}", self.data)

    def parse_shard(self) -> tuple[int, int]:
        """(I, N)."""
        shard = _shard(self.shard)
        assert shard is not None  # validated in __post_init__
        return shard


def _shard(text: str) -> tuple[int, int] | None:
    """(I, N) of I/N; None if the text is not a shard."""
    numbers = [int(part) for part in text.split("/") if part.isdecimal()]
    valid = text.count("/") == 1 and len(numbers) == 2 and 1 <= numbers[0] <= numbers[1]
    return (numbers[0], numbers[1]) if valid else None
