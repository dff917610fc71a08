"""Options of `compare` and `report`."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from easycoreset.errors import UsageError, quote, require
from easycoreset.options.apart import require_apart
from easycoreset.options.kinds import (
    NEUTRAL,
    Device,
    Integer,
    Integers,
    Names,
    Norm,
    Number,
    Numbers,
    Schedule,
    Switch,
    check_types,
)
from easycoreset.options.training import RunOptions, check_val_fraction

CONTROLS = ("full", "random:per_class=true")
GRID = {"grid": True}  # what a recipe fixes
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
class CompareOptions(RunOptions):
    """Options of `compare`: a grid, or a recipe that fixes it."""

    recipe: Recipe | None = None
    """A named experiment, which fixes every option of the grid."""
    data: str | None = None
    """Data set, as `score` takes it; needed but for the recipe digits."""
    image_size: Integer | None = field(default=None, metadata=GRID)
    """Side to which images in files are resized and cropped; left out: 64 without a GPU, 224 with one."""
    skip_broken: Switch = field(default=False, metadata=GRID)
    """Leave out images in files that cannot be read."""
    classes: str | None = field(default=None, metadata=GRID)
    """How many classes there are, or a file of their names in order (a model.json too); left out: those that occur."""
    model: str | None = field(default=None, metadata=GRID)
    """Model, as `score` takes it; left out: one that fits."""
    methods: Names = field(default=(), metadata=GRID)
    """Coreset methods (`compare --list`), with commas between; also file:PATH (a coreset, or indices or ids)."""
    controls: Names = field(default=CONTROLS, metadata=GRID)
    """Rows that stand beside the methods: all data at the same budgets, class-balanced random, both, or none."""
    fractions: Numbers = field(default=(), metadata=GRID)
    """Shares that are kept, with commas between."""
    objectives: Names = field(default=("standard",), metadata=GRID)
    """Objectives, with commas between."""
    epochs: Integers = field(default=(), metadata=GRID)
    """Budgets in epochs, with commas between (these or updates)."""
    updates: Integers = field(default=(), metadata=GRID)
    """Budgets in updates, with commas between, each with its own full schedule."""
    seeds: Integer = field(default=3, metadata=GRID)
    """Runs of every cell, seeds 0, 1, ..."""
    attack: Names = field(default=("pgd",), metadata=GRID)
    """Attacks of the evaluation, with commas between."""
    norm: Norm = field(default="linf", metadata=GRID)
    """Norm of the ball."""
    eps: Numbers = field(default=(8 / 255,), metadata=GRID)
    """Radii of the evaluation, with commas between; the first is the main one unless main_eps says otherwise."""
    main_eps: Number | None = field(default=None, metadata=GRID)
    """The radius that is measured on all test images and that the contrasts are about."""
    limit: Integer | None = field(default=None, metadata=GRID)
    """Test images at the other radii, or at the only one; left out: all."""
    strong: Names = field(default=(), metadata=GRID)
    """Attacks at the main radius alone, with commas between, as ATTACK or ATTACK@IMAGES (`apgd@500`, at most limit)."""
    contrast: Literal["auto", "matched clean", "equal updates"] = field(default="auto", metadata=GRID)
    """What is tested for each method; auto: matched clean where there are several budgets, else equal updates."""
    declare: Names = field(default=(), metadata=NEUTRAL)
    """Contrasts beyond each method's with random, with commas between: 'easiest:loss vs easycore'."""
    primary: str | None = field(default=None, metadata=NEUTRAL)
    """The contrast that is tested alone, spelled likewise; the others claim only if it does."""
    scoring_epochs: Integer = field(default=15, metadata=GRID)
    """Epochs of the scoring runs."""
    batch_size: Integer = field(default=128, metadata=GRID)
    """Samples a training step."""
    lr: Number = field(default=0.1, metadata=GRID)
    """Peak learning rate of SGD."""
    weight_decay: Number = field(default=5e-4, metadata=GRID)
    """Weight decay of SGD."""
    schedule: Schedule = field(default="auto", metadata=GRID)
    """Learning rate over time."""
    val_fraction: Number | None = field(default=None, metadata=GRID)
    """Share of the training split that is held out of every method's choice and of training, and reported on."""
    device: Device = field(default="auto", metadata=NEUTRAL)
    """Where models run."""
    on: str | None = field(default=None, metadata=NEUTRAL)
    """`ray` or `ray:HOST:PORT`: do the cells as tasks of a Ray cluster, on one machine or many; left out: here."""
    workers: Integer | None = field(default=None, metadata=NEUTRAL)
    """Cells at once, one thread (or one GPU) each; left out: 2 processes, on Ray as many as its CPUs (or GPUs)."""
    num_workers: Integer = field(default=2, metadata=NEUTRAL)
    """Processes that decode pictures of a folder too large for memory, for each cell that runs."""
    minutes: Number | None = field(default=None, metadata=NEUTRAL)
    """Stop after so many minutes; the same command goes on."""
    shard: str = field(default="1/1", metadata=NEUTRAL)
    """I/N: every N-th cell from the I-th on, for job arrays."""
    keep_weights: Switch = field(default=False, metadata=NEUTRAL)
    """Keep each cell's model and coreset."""
    preregister: Switch = field(default=False, metadata=NEUTRAL)
    """Write the plan, what it declares and its seeds into out, and do nothing."""
    dry_run: Switch = field(default=False, metadata=NEUTRAL)
    """Print cells, updates, and an estimate of time and memory, and do nothing."""
    overwrite: Switch = field(default=False, metadata=NEUTRAL)
    """Begin anew in a folder of another experiment: what that one wrote is deleted, and no more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("methods", "objectives", "attack", "strong", "declare", "fractions", "eps", "epochs", "updates"):
            value: tuple[Any, ...] = getattr(self, name)
            require(len(set(value)) == len(value), name, "given once each", value)
        require(self.minutes is None or self.minutes > 0, "minutes", "> 0", self.minutes)
        check_val_fraction(self.val_fraction)
        require(self.workers is None or self.workers >= 1, "workers", ">= 1", self.workers)
        name, _, address = (self.on or "ray").partition(":")
        require(name == "ray" and not address.startswith("/"), "on", "ray or ray:HOST:PORT", self.on)
        if self.on is not None and self.dry_run and self.workers is None:
            raise UsageError("workers must be given with on and dry_run: an estimate asks no cluster how large it is")
        for name in ("dry_run", "overwrite"):
            require(not (self.preregister and getattr(self, name)), name, "left out with preregister", True)
        require(self.num_workers >= 0, "num_workers", ">= 0", self.num_workers)
        self.shard_of()
        require_apart(self)
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
            raise UsageError(
                f"exactly one of epochs and updates must be given; got {'both' if self.epochs else 'neither'}"
            )
        for value in self.fractions:
            require(0 < value <= 1, "fractions", "in (0, 1]", value)
        for name in ("seeds", "scoring_epochs", "batch_size"):
            require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        for value in (*self.epochs, *self.updates):
            require(value >= 1, "epochs and updates", ">= 1", value)
        require(len(self.eps) > 0, "eps", "given", self.eps)
        for value in self.eps:
            require(value >= 0 and (self.norm == "l2" or value <= 1), "eps", "in [0, 1] for linf, >= 0 for l2", value)
        require(self.limit is None or self.limit >= 1, "limit", ">= 1", self.limit)
        require(self.main_eps is None or self.main_eps in self.eps, "main_eps", f"one of eps={self.eps}", self.main_eps)

    def _check_recipe(self) -> None:
        for item in fields(self):
            if item.metadata.get("grid") and getattr(self, item.name) != item.default:
                raise UsageError(
                    f"recipe {quote(self.recipe)} fixes {item.name}; got {quote(getattr(self, item.name))}"
                )
        if self.recipe == "digits":
            require(self.data in (None, "digits"), "data", "digits for the recipe digits", self.data)
        elif self.recipe == "imagenet-paper":
            require(Path(self.data or "").is_dir(), "data", "an image folder for the recipe imagenet-paper", self.data)
        else:
            kind = (self.recipe or "").split("-")[0]
            require(
                (self.data or "").startswith(f"{kind}:"), "data", f"{kind}:DIR for the recipe {self.recipe}", self.data
            )

    def shard_of(self) -> tuple[int, int]:
        """(I, N)."""
        parts = self.shard.split("/")
        numbers = [int(part) for part in parts if part.isdecimal()]
        require(
            len(parts) == len(numbers) == 2 and 1 <= numbers[0] <= numbers[1],
            "shard",
            "I/N with 1 <= I <= N",
            self.shard,
        )
        return numbers[0], numbers[1]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Options of `report`."""

    out: Annotated[Path, Parameter(name=("--out",))]
    """Folder that is reported on; report.html is written into it."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.out.is_dir(), "out", "a folder that a command wrote", str(self.out))
