"""Options of the commands that train: `score` and `train`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

from easycoreset.errors import UsageError, require
from easycoreset.options.apart import require_apart
from easycoreset.options.kinds import NEUTRAL, Device, Integer, Names, Number, Numbers, Schedule, Switch, check_types

AGREEMENT = 2000  # samples
READING = ("image_size", "skip_broken", "classes")  # options that say how data are read


def check_val_fraction(value: float | None) -> None:
    """Validate a share that is held out."""
    require(value is None or 0 < value < 1, "val_fraction", "in (0, 1)", value)


def check_input(mean: Sequence[float], std: Sequence[float]) -> None:
    """Validate the normalisation that somebody's model wants."""
    require(bool(mean) == bool(std), "input_mean and input_std", "given together", (mean, std))


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every command that computes takes."""

    out: Annotated[Path, Parameter(show_default=False)] = field(metadata=NEUTRAL)
    """Where the results go."""
    seed: Integer = 0
    """Seed of everything random, >= 0."""

    def __post_init__(self) -> None:
        check_types(self)
        require(0 <= self.seed < 2**31, "seed", "in [0, 2**31)", self.seed)


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(RunOptions):
    """Data and machine of the commands that run a model."""

    host: ClassVar[str | None] = None  # an option whose folder `out` may be

    data: str
    """digits, cifar10:DIR, cifar100:DIR, mnist:DIR, fashion-mnist:DIR, hf:NAME, an image folder, a manifest (.csv or
    .parquet of filepath, label[, split]), or an .npz file."""
    device: Device = field(default="auto", metadata=NEUTRAL)
    """Where the model runs; auto takes a GPU where there is one."""
    threads: Integer | None = field(default=None, metadata=NEUTRAL)
    """CPU threads of this process; left out: 1 for the small built-in models, else torch's own number."""
    image_size: Integer | None = None
    """Side in pixels to which images of files or hf:NAME are brought; left out: 64 for files, 224 with a GPU."""
    skip_broken: Switch = False
    """Leave out images of a folder or a manifest that cannot be read, and name them; without it they are an error."""
    classes: str | None = None
    """How many classes there are, or a file of their names in order (a model.json too); left out: those that occur."""
    num_workers: Integer = field(default=2, metadata=NEUTRAL)
    """Processes that decode images of a folder too large for memory."""
    download: Switch = field(default=False, metadata=NEUTRAL)
    """Let torchvision fetch a data set that is not there."""
    overwrite: Switch = field(default=False, metadata=NEUTRAL)
    """Begin anew where another or a broken run of this command was: what that one wrote is deleted, and no more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_apart(self, self.host)
        require(self.threads is None or self.threads >= 1, "threads", ">= 1", self.threads)
        require(self.image_size is None or self.image_size >= 8, "image_size", ">= 8", self.image_size)
        require(self.num_workers >= 0, "num_workers", ">= 0", self.num_workers)


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(ComputeOptions):
    """How a model is trained: shared by `score` and `train`."""

    model: str | None = None
    """Built in (resnet18, ...), torchvision:NAME, timm:NAME or package.module:factory; left out: one that fits."""
    coreset: Path | None = None
    """A coreset.parquet to train on; left out: all of the training split."""
    allow_subset: Switch = field(default=False, metadata=NEUTRAL)
    """Take a coreset of data that changed since: samples are matched by sample_id, and the counts are said."""
    init: str | None = None
    """Weights to start from: a trained model's folder, a file of weights, or pretrained (published, fetched)."""
    objective: str = "standard"
    """What a step minimises: standard, trades, pgd-at, mart or fgsm-rs[:key=value]..."""
    eps: Number | None = None
    """Radius of the objective's inner attack (a number, or a fraction like 8/255)."""
    batch_size: Integer = 128
    """Samples a training step."""
    lr: Number = 0.1
    """Peak learning rate of SGD."""
    momentum: Number = 0.9
    """Momentum of SGD."""
    weight_decay: Number = 5e-4
    """Weight decay of SGD."""
    schedule: Schedule = "auto"
    """Learning rate over time; auto is onecycle for standard training and step decay for adversarial training."""
    augment: Literal["auto", "none", "flip", "crop-flip"] = "auto"
    """Augmentation of training batches; auto is the data set's own."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the model; auto is bf16 autocast on CUDA and fp32 elsewhere."""
    compile: Switch = field(default=False, metadata=NEUTRAL)
    """Compile the model with torch.compile."""
    cuda_graphs: Switch = field(default=False, metadata=NEUTRAL)
    """With compile, on a GPU: replay the kernels of each pass as CUDA graphs (torch.compile's reduce-overhead)."""
    profile: Switch = field(default=False, metadata=NEUTRAL)
    """Write where the time of some training steps goes: profile.txt, and profile.json (a trace for Perfetto)."""
    checkpoint_minutes: Number = field(default=10.0, metadata=NEUTRAL)
    """Minutes after which a checkpoint is written within an epoch (one is written after every epoch anyway)."""
    ema: Number | None = None
    """Decay of an average of the weights over updates (0.999, say), which becomes the trained model; left out: none."""
    on_nan: Literal["stop", "continue"] = "stop"
    """What a loss that is not finite does."""
    track: Literal["mlflow", "wandb", "tensorboard"] | None = field(default=None, metadata=NEUTRAL)
    """Log options and every epoch's metrics: offline in the folder, unless the tracker's own variables say where."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)
        require(self.coreset is not None or not self.allow_subset, "allow_subset", "given with a coreset", True)
        require(self.compile or not self.cuda_graphs, "cuda_graphs", "given with compile", True)
        require(self.lr >= 0 and math.isfinite(self.lr), "lr", "finite and >= 0", self.lr)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        require(self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay)
        require(self.ema is None or 0 < self.ema < 1, "ema", "in (0, 1)", self.ema)
        require(self.checkpoint_minutes > 0, "checkpoint_minutes", "> 0", self.checkpoint_minutes)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(RecipeOptions):
    """Options of `score`."""

    epochs: Integer | None = None
    """Epochs to train (this or checkpoints)."""
    checkpoints: Path | None = None
    """A folder of weights that somebody's training saved, one file a scored epoch, to score by without training."""
    input_mean: Numbers = ()
    """Mean that the model of these weights wants subtracted, a number or one a channel; left out: it takes [0,1]."""
    input_std: Numbers = ()
    """Standard deviation that it wants the input divided by, likewise."""
    mode: Literal["exact", "online"] = "exact"
    """exact: gradients of all clean samples after an epoch; online: of each training batch as it passes."""
    every: Integer = 1
    """Score epochs k, 2k, ... only."""
    first: Integer | None = None
    """Score the first k epochs of the unchanged schedule only."""
    hardness: Names = ()
    """Hardness measures, with commas between; left out (or `cheap`): all that cost nothing."""
    split: Literal["train", "test"] = field(default="train", metadata=NEUTRAL)
    """Split to score; test reuses the folder's run."""
    scoring_batch_size: Integer = field(default=250, metadata=NEUTRAL)
    """Samples a batch of an exact scoring pass."""
    scoring_precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the exact pass; bf16: autocast with float32 norms, in epochs where AIGN keeps its ranks (0.999)."""
    keep_checkpoints: bool = field(default=True, metadata=NEUTRAL)
    """Keep the weights of every scored epoch, which `--split test` needs."""
    save_features: Literal["clean", "adversarial"] | None = field(default=None, metadata=NEUTRAL)
    """Write penultimate features and probabilities too; adversarial: at PGD examples as well (alone it means clean)."""
    feature_layer: str | None = field(default=None, metadata=NEUTRAL)
    """Layer whose input is taken as features; left out: the last linear layer."""
    agreement: Integer = field(default=AGREEMENT, metadata=NEUTRAL)
    """In mode online, samples that are compared with an exact pass after every scored epoch; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epochs is None) == (self.checkpoints is None):
            given = "both" if self.epochs is not None else "neither"
            raise UsageError(f"exactly one of epochs and checkpoints must be given; got {given}")
        require(self.agreement >= 0, "agreement", ">= 0", self.agreement)
        require(
            self.mode == "online" or self.agreement == AGREEMENT, "agreement", "left out in mode exact", self.agreement
        )
        require(
            self.mode == "exact" or self.scoring_precision is None,
            "scoring_precision",
            "left out in mode online",
            self.scoring_precision,
        )
        check_input(self.input_mean, self.input_std)
        require(
            self.checkpoints is not None or not self.input_mean,
            "input_mean",
            "left out without checkpoints",
            self.input_mean,
        )
        limit = 1 if self.epochs is None else self.epochs
        require(limit >= 1, "epochs", ">= 1", self.epochs)
        require(1 <= self.every <= limit, "every", f"in [1, epochs={limit}]", self.every)
        require(self.first is None or 1 <= self.first <= limit, "first", f"in [1, epochs={limit}]", self.first)
        require(self.scoring_batch_size >= 1, "scoring_batch_size", ">= 1", self.scoring_batch_size)
        require(bool(self.scored_epochs()), "first", f">= every={self.every}, so that an epoch is scored", self.first)
        require(self.mode == "exact" or self.split == "train", "split", "train in mode online", self.split)

    def scored_epochs(self) -> list[int]:
        """The epochs, from 1, after which the samples are scored."""
        last = self.epochs or 1
        return list(range(self.every, min(self.first or last, last) + 1, self.every))


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RecipeOptions):
    """Options of `train`."""

    epochs: Integer | None = None
    """Epochs to train (this or updates)."""
    updates: Integer | None = None
    """Training steps (this or epochs)."""
    val_fraction: Number | None = None
    """Share of the training split that is held out: its accuracies are reported and the best epoch is kept by them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epochs is None) == (self.updates is None):
            given = "both" if self.epochs is not None else "neither"
            raise UsageError(f"exactly one of epochs and updates must be given; got {given}")
        check_val_fraction(self.val_fraction)
        require(self.epochs is None or self.epochs >= 1, "epochs", ">= 1", self.epochs)
        require(self.updates is None or self.updates >= 1, "updates", ">= 1", self.updates)
