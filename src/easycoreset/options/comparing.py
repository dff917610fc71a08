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

CONTROLS = ("full", "random:per_class=true")
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
    """Options of `compare`: a grid, or a recipe that fixes it."""

    recipe: Recipe | None = None
    """A named experiment, which fixes every option of the grid."""
    data: str | None = None
    """Data set, as `score` takes it; needed but for the recipe digits."""
    methods: Sequence[str] = field(default=(), metadata=UNIQUE)
    """Coreset methods (`compare --list`), with commas between; also file:PATH (a coreset, or indices or ids)."""
    controls: Sequence[str] = CONTROLS
    """Rows that stand beside the methods: all data at the same budgets, class-balanced random, both, or none."""
    fractions: Sequence[float] = field(default=(), metadata=UNIQUE | SHARE)
    """Shares that are kept, with commas between."""
    objectives: Sequence[str] = field(default=("standard",), metadata=UNIQUE)
    """Objectives, with commas between."""
    epochs: Sequence[int] = field(default=(), metadata=UNIQUE | AT_LEAST_1)
    """Budgets in epochs, with commas between (these or updates)."""
    updates: Sequence[int] = field(default=(), metadata=UNIQUE | AT_LEAST_1)
    """Budgets in updates, with commas between, each with its own full schedule."""
    seeds: int = field(default=3, metadata=AT_LEAST_1)
    """Runs of every cell, seeds 0, 1, ..."""
    scoring_epochs: int = field(default=15, metadata=AT_LEAST_1)
    """Epochs of the scoring runs."""
    eps: Sequence[float] = with_default(AttackOptions, "eps", (8 / 255,))
    """Radii of the evaluation, with commas between; the first is the main one unless main_eps says otherwise."""
    main_eps: float | None = None
    """The radius that is measured on all test images and that the contrasts are about."""
    limit: int | None = with_default(AttackOptions, "limit", None)
    """Test images at the other radii, or at the only one; left out: all."""
    strong: Sequence[str] = field(default=(), metadata=UNIQUE)
    """Attacks at the main radius alone, with commas between, as ATTACK or ATTACK@IMAGES (`apgd@500`, at most limit)."""
    contrast: Literal["auto", "matched clean", "equal updates"] = "auto"
    """What is tested for each method; auto: matched clean where there are several budgets, else equal updates."""
    declare: Sequence[str] = field(default=(), metadata=NEUTRAL | UNIQUE)
    """Contrasts beyond each method's with random, with commas between: 'easiest:loss vs easycore'."""
    primary: str | None = field(default=None, metadata=NEUTRAL)
    """The contrast that is tested alone, spelled likewise; the others claim only if it does."""
    on: str | None = field(default=None, metadata=NEUTRAL)
    """`ray` or `ray:HOST:PORT`: do the cells as tasks of a Ray cluster, on one machine or many; left out: here."""
    workers: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_1)
    """Cells at once, one thread (or one GPU) each; left out: 2 processes, on Ray as many as its CPUs (or GPUs)."""
    minutes: float | None = field(default=None, metadata=NEUTRAL | ABOVE_0)
    """Stop after so many minutes; the same command goes on."""
    shard: str = field(default="1/1", metadata=NEUTRAL | rule("I/N with 1 <= I <= N", lambda text: bool(_shard(text))))
    """I/N: every N-th cell from the I-th on, for job arrays."""
    keep_weights: bool = field(default=False, metadata=NEUTRAL)
    """Keep each cell's model and coreset."""
    preregister: bool = field(default=False, metadata=NEUTRAL)
    """Write the plan, what it declares and its seeds into out, and do nothing."""
    dry_run: bool = field(default=False, metadata=NEUTRAL)
    """Print cells, updates, and an estimate of time and memory, and do nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, _, address = (self.on or "ray").partition(":")
        require(name == "ray" and not address.startswith("/"), "on", "ray or ray:HOST:PORT", self.on)
        if self.on is not None and self.dry_run and self.workers is None:
            raise UsageError("workers must be given with on and dry_run: an estimate asks no cluster how large it is")
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
            given = "both" if self.epochs else "neither"
            raise UsageError(f"exactly one of epochs and updates must be given; got {given}")
        check_radii(self.eps, self.norm)
        check_training(self)
        check_scoring(self, self.scoring_epochs)
        require(self.main_eps is None or self.main_eps in self.eps, "main_eps", f"one of eps={self.eps}", self.main_eps)

    def _check_recipe(self) -> None:
        for item in fields(self):
            free = item.metadata.get("neutral") or item.name in ("recipe", "data")
            if not free and getattr(self, item.name) != item.default:
                value = quote(getattr(self, item.name))
                raise UsageError(f"recipe {quote(self.recipe)} fixes {item.name}; got {value}")
        if self.recipe == "digits":
            require(self.data in (None, "digits"), "data", "digits for the recipe digits", self.data)
        elif self.recipe == "imagenet-paper":
            require(Path(self.data or "").is_dir(), "data", "an image folder for the recipe imagenet-paper", self.data)
        else:
            kind = (self.recipe or "").split("-")[0]
            fits = (self.data or "").startswith(f"{kind}:")
            require(fits, "data", f"{kind}:DIR for the recipe {self.recipe}", self.data)

    def shard_of(self) -> tuple[int, int]:
        """(I, N)."""
        shard = _shard(self.shard)
        assert shard is not None  # it was validated
        return shard


def _shard(text: str) -> tuple[int, int] | None:
    """(I, N) of I/N; None where the text is no shard."""
    numbers = [int(part) for part in text.split("/") if part.isdecimal()]
    valid = text.count("/") == 1 and len(numbers) == 2 and 1 <= numbers[0] <= numbers[1]
    return (numbers[0], numbers[1]) if valid else None
