"""Groups of options that several commands share; a command's options are composed of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from easycoreset.errors import require
from easycoreset.options.fields import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    FINITE_AT_LEAST_0,
    INNER_SHARE,
    NEUTRAL,
    SHARE,
    UNIQUE,
    Device,
    Norm,
    field_names,
    rule,
    validate,
)
from easycoreset.options.overlap import require_disjoint

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["auto", "onecycle", "cosine", "step", "constant"]
DEFAULTS: dict[str, dict[str, float]] = {  # what an optimizer takes where it is not said
    "sgd": {"lr": 0.1, "weight_decay": 5e-4},
    "adamw": {"lr": 0.001, "weight_decay": 0.01},
}
PIXELS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """What every command takes that writes."""

    out: Path = field(metadata=NEUTRAL)
    """Where the results go."""

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """The seed."""

    seed: int = field(default=0, metadata=rule("in [0, 2**31)", lambda value: 0 <= value < 2**31))
    """Seed of everything random, >= 0."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How data are read."""

    image_size: int | None = field(default=None, metadata=rule(">= 8", lambda value: value >= 8))
    """Side in pixels to which images of files or hf:NAME are brought; left out: 64 for files, 224 with a GPU."""
    skip_unreadable: bool = False
    """Leave out images of a folder or a manifest that cannot be read, and name them; without it they are an error."""
    classes: str | None = None
    """How many classes there are, or a file of their names in order (a model.json too); left out: those that occur."""


READING = field_names(ReadingOptions)


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """On what a command runs: no result depends on it."""

    device: Device = field(default="auto", metadata=NEUTRAL)
    """Where models run; auto takes a GPU where there is one."""
    num_workers: int = field(default=2, metadata=NEUTRAL | AT_LEAST_0)
    """Processes that decode images of a folder too large for memory."""
    download: bool = field(default=False, metadata=NEUTRAL)
    """Let torchvision fetch a data set that is not there."""
    overwrite: bool = field(default=False, metadata=NEUTRAL)
    """Begin anew where another or a damaged run of this command was: what that one wrote is deleted, and no more."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(MachineOptions, ReadingOptions, SeedOptions, CommandOptions):
    """Data and machine of the commands that run a model."""

    host: ClassVar[str | None] = None  # an option whose folder `out` may be

    data: str
    """digits, cifar10:DIR, cifar100:DIR, mnist:DIR, fashion-mnist:DIR, hf:NAME, an image folder, a manifest (.csv or
    .parquet of filepath, label[, split]), or an .npz file."""
    threads: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_1)
    """CPU threads of this process; left out: 1 for the small built-in models, else torch's own number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_disjoint(self, self.host)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model is trained."""

    model: str | None = None
    """Built in (resnet18, ...), torchvision:NAME, timm:NAME or package.module:factory; left out: one that fits."""
    init: str | None = None
    """Weights to start from: a trained model's folder, a file of weights, or pretrained (published, fetched)."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained."""

    batch_size: int = field(default=128, metadata=AT_LEAST_1)
    """Samples a training step."""
    optimizer: Optimizer = "sgd"
    """What updates the weights."""
    lr: float | None = field(default=None, metadata=FINITE_AT_LEAST_0)
    """Peak learning rate; left out: 0.1 for sgd, 0.001 for adamw."""
    momentum: float = field(default=0.9, metadata=rule("in [0, 1)", lambda value: 0 <= value < 1))
    """Momentum of sgd, first beta of adamw."""
    weight_decay: float | None = field(default=None, metadata=FINITE_AT_LEAST_0)
    """Weight decay; left out: 0.0005 for sgd, 0.01 for adamw."""
    schedule: Schedule = "auto"
    """Learning rate over time; auto is onecycle for standard training and step decay for adversarial training."""
    warmup: float | None = field(default=None, metadata=FINITE_AT_LEAST_0)
    """Epochs in which the learning rate rises to its peak; left out: 30% of onecycle's, else none."""
    augment: Literal["auto", "none", "flip", "crop-flip"] = "auto"
    """Augmentation of training batches; auto is the data set's own."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the model; auto is bf16 autocast on CUDA and fp32 elsewhere."""
    ema: float | None = field(default=None, metadata=INNER_SHARE)
    """Decay of an average of the weights over updates (0.999, say), which becomes the trained model; left out: none."""
    on_nan: Literal["stop", "continue"] = "stop"
    """What a loss that is not finite does."""
    compile: bool = field(default=False, metadata=NEUTRAL)
    """Compile the model with torch.compile."""
    cuda_graphs: bool = field(default=False, metadata=NEUTRAL)
    """With compile, on a GPU: replay the kernels of each pass as CUDA graphs (torch.compile's reduce-overhead)."""


def resolve_optimizer(options: TrainingOptions) -> dict[str, float]:
    """The learning rate and the weight decay of options, where they leave them to their optimizer."""
    given = {"lr": options.lr, "weight_decay": options.weight_decay}
    return {name: DEFAULTS[options.optimizer][name] if value is None else value for name, value in given.items()}


def check_training(options: TrainingOptions) -> None:
    """Check options of training that depend on each other."""
    require(options.compile or not options.cuda_graphs, "cuda_graphs", "given with compile", True)


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """Held-out samples."""

    val_fraction: float | None = field(default=None, metadata=INNER_SHARE)
    """Share of the training split that is held out of choice and training, and reported on; `train` keeps the best
    epoch by it."""


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How the samples are scored during training."""

    every: int = field(default=1, metadata=AT_LEAST_1)
    """Score epochs k, 2k, ... only."""
    first: int | None = field(default=None, metadata=AT_LEAST_1)
    """Score the first k epochs of the unchanged schedule only."""
    scoring_batch_size: int = field(default=250, metadata=NEUTRAL | AT_LEAST_1)
    """Samples a batch of an exact scoring pass."""
    scoring_precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the exact pass; bf16: autocast with float32 norms, in epochs where AIGN keeps its ranks (0.999)."""
    feature_layer: str | None = field(default=None, metadata=NEUTRAL)
    """Layer whose input is taken as features; left out: the last linear layer."""


def check_scoring(options: ScoringOptions, epochs: int) -> None:
    """Check options of scoring that depend on each other and on the number of epochs."""
    require(options.every <= epochs, "every", f"in [1, epochs={epochs}]", options.every)
    require(options.first is None or options.first <= epochs, "first", f"in [1, epochs={epochs}]", options.first)
    scored = scored_epochs(options, epochs)
    require(bool(scored), "first", f">= every={options.every}, so that an epoch is scored", options.first)


def scored_epochs(options: ScoringOptions, epochs: int) -> list[int]:
    """The epochs, from 1, after which the samples are scored."""
    return list(range(options.every, min(options.first or epochs, epochs) + 1, options.every))


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """Which samples are kept."""

    method: str = "easycore"
    """easycore, random, herding, ...[:key=value]... (`select --list` shows all), file:PATH, or package.module:name."""
    exclude: Path | None = None
    """A list of indices or sample ids that are left out of the choice, as an audit's page writes it."""
    keep_leaked: bool = False
    """Choose from samples too whose exact copies are in the test part; without it they are left out."""


@dataclass(frozen=True, kw_only=True)
class FractionOptions:
    """How many samples are kept."""

    fraction: float = field(default=0.5, metadata=SHARE)
    """Share of the samples that is kept, in (0, 1]."""


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """What a model is attacked by."""

    attack: Sequence[str] = field(default=("pgd",), metadata=UNIQUE)
    """Attacks, with commas between: fgsm, pgd, noise, square, apgd, autoattack[:key=value]..., file:PATH (images)."""
    eps: Sequence[float] = field(default=PIXELS, metadata=UNIQUE | AT_LEAST_0)
    """Radii, with commas between."""
    limit: int | None = field(default=None, metadata=AT_LEAST_1)
    """Attack a seeded draw of so many samples; left out: all."""


@dataclass(frozen=True, kw_only=True)
class NormOptions:
    """The ball in which an attack stays."""

    norm: Norm = "linf"
    """Norm of the ball."""


def check_radii(eps: Sequence[float], norm: Norm) -> None:
    """Check that radii are given, and that those of linf lie within the range of the pixels."""
    require(len(eps) > 0, "eps", "given", eps)
    for value in eps:
        require(norm == "l2" or value <= 1, "eps", "in [0, 1] for linf, >= 0 for l2", value)


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a model is run that is not trained."""

    batch_size: int = field(default=250, metadata=NEUTRAL | AT_LEAST_1)
    """Samples a batch."""


@dataclass(frozen=True, kw_only=True)
class NormalisationOptions:
    """The normalisation of somebody's weights."""

    input_mean: Sequence[float] = ()
    """Mean that the model of these weights wants subtracted, a number or one a channel; left out: it takes [0,1]."""
    input_std: Sequence[float] = field(default=(), metadata=ABOVE_0)
    """Standard deviation that it wants the input divided by, likewise."""


def check_normalisation(options: NormalisationOptions) -> None:
    """Check that a mean and a standard deviation are given together."""
    together = bool(options.input_mean) == bool(options.input_std)
    require(together, "input_mean and input_std", "given together", (options.input_mean, options.input_std))
