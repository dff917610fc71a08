"""Groups of options that several commands share; a command's options are composed of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from easycoreset.devices import PASS_BATCH
from easycoreset.errors import UsageError, require
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
    out_field,
    rule,
    validate,
)
from easycoreset.options.objects import CLASSES, DATA, INITIAL_WEIGHTS, MEMBER, MODEL, GivenPath, Named, Several
from easycoreset.options.overlap import require_disjoint

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["auto", "onecycle", "cosine", "step", "constant"]
OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {  # per optimizer, where the option is None
    "sgd": {"lr": 0.1, "weight_decay": 5e-4},
    "adamw": {"lr": 0.001, "weight_decay": 0.01},
}
DEFAULT_EPS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Options of every command that writes results."""

    out: GivenPath = out_field()
    """Where the results are written."""

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """The random seed."""

    seed: int = field(default=0, metadata=rule("in [0, 2**31)", lambda value: 0 <= value < 2**31))
    """Seed of all random numbers, >= 0."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How the data set is read."""

    image_size: int | None = field(default=None, metadata=rule(">= 8", lambda value: value >= 8))
    """Side in pixels to which images of files or hf:NAME are resized; default: 64 for files, 224 with a GPU; audit and
    run choose by the images."""
    skip_unreadable: bool = False
    """Leave out unreadable images of a folder or a manifest and list them; without it they are an error."""
    classes: Named | None = field(default=None, metadata=CLASSES)
    """Number of classes, or a file of their names in order (or a model.json); default: the classes that occur."""
    decisions: GivenPath | None = field(default=None, metadata=NEUTRAL)
    """Decisions that an audit's page saved: pictures are left out or get another label; the data are not changed."""


READING_FIELDS = field_names(ReadingOptions)


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The machine that a command runs on; it does not change results."""

    device: Device = field(default="auto", metadata=NEUTRAL)
    """Where models run; auto takes a GPU if there is one."""
    num_workers: int = field(default=2, metadata=NEUTRAL | AT_LEAST_0)
    """Processes that decode images if the folder is too large for memory."""
    download: bool = field(default=False, metadata=NEUTRAL)
    """Let torchvision download a missing data set."""
    overwrite: bool = field(default=False, metadata=NEUTRAL)
    """Replace another or a damaged run of this command: only files that it wrote are deleted."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(MachineOptions, ReadingOptions, SeedOptions, CommandOptions):
    """Data and machine of commands that run a model."""

    host_option: ClassVar[str | None] = None  # name of an option whose folder may also be `out`

    data: Named = field(metadata=DATA)
    """A named data set (`--list`), as digits or cifar10:DIR; an image folder, a manifest (.csv, .parquet) or .npz."""
    threads: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_1)
    """CPU threads of this process; default: PyTorch's, but 1 or 2 for the small built-in models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_disjoint(self, self.host_option)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model is trained."""

    model: Named | None = field(default=None, metadata=MODEL)
    """Built-in (resnet18, ...), torchvision:NAME, timm:NAME or package.module:factory; default: chosen by the data."""
    init: Named | None = field(default=None, metadata=INITIAL_WEIGHTS)
    """Initial weights: a trained model's folder, a file of weights, or pretrained (published weights, downloaded)."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained."""

    batch_size: int = field(default=128, metadata=AT_LEAST_1)
    """Samples per training step."""
    optimizer: Optimizer = "sgd"
    """The optimizer of the weights."""
    lr: float | None = field(default=None, metadata=FINITE_AT_LEAST_0)
    """Peak learning rate; default: 0.1 for sgd, 0.001 for adamw."""
    momentum: float = field(default=0.9, metadata=rule("in [0, 1)", lambda value: 0 <= value < 1))
    """Momentum of sgd, first beta of adamw."""
    weight_decay: float | None = field(default=None, metadata=FINITE_AT_LEAST_0)
    """Weight decay; default: 0.0005 for sgd, 0.01 for adamw."""
    schedule: Schedule = "auto"
    """Learning rate schedule; auto is onecycle for the objective standard, and step decay for all others."""
    warmup: float | None = field(default=None, metadata=FINITE_AT_LEAST_0)
    """Epochs in which the learning rate rises to its peak; default: 30% of the epochs for onecycle, else none."""
    augment: Literal["auto", "none", "flip", "crop-flip"] = "auto"
    """Augmentation of training batches; auto is the data set's default."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the model; auto is bf16 autocast on CUDA devices that have it in hardware, and fp32 elsewhere."""
    ema: float | None = field(default=None, metadata=INNER_SHARE)
    """Decay of the moving average of weights (e.g. 0.999) that becomes the trained model; default: no average."""
    on_nan: Literal["stop", "continue"] = "stop"
    """What happens if a loss is not finite."""
    compile: bool = field(default=False, metadata=NEUTRAL)
    """Compile the model with torch.compile."""
    cuda_graphs: bool = field(default=False, metadata=NEUTRAL)
    """With compile, on a GPU: replay each pass as a CUDA graph (torch.compile's mode reduce-overhead)."""


def resolve_optimizer(options: TrainingOptions) -> dict[str, float]:
    """The learning rate and the weight decay; where an option is None, the default of its optimizer."""
    values = {"lr": options.lr, "weight_decay": options.weight_decay}
    return {
        name: OPTIMIZER_DEFAULTS[options.optimizer][name] if value is None else value for name, value in values.items()
    }


def check_training(options: TrainingOptions) -> None:
    """Check training options that depend on each other."""
    require(options.compile or not options.cuda_graphs, "cuda_graphs", "given with compile", True)


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """Held-out samples."""

    val_fraction: float | None = field(default=None, metadata=INNER_SHARE)
    """Share of the training split that is held out for validation: it is not selected and not trained on; `train` also
    keeps the epoch that is best on it."""


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How the samples are scored during training."""

    every: int = field(default=1, metadata=AT_LEAST_1)
    """Score only epochs k, 2k, ..."""
    first: int | None = field(default=None, metadata=AT_LEAST_1)
    """Score only the first k epochs; the schedule is unchanged."""
    scoring_batch_size: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_1)
    """Samples per batch of an exact scoring pass; default: 250, on a GPU up to 2000 by the size of the images."""
    scoring_precision: Literal["fp32", "bf16"] | None = None
    """Precision of the exact pass; bf16: autocast with float32 norms, in epochs where the rank correlation of AIGN with
    fp32 is above 0.999."""
    feature_layer: str | None = field(default=None, metadata=NEUTRAL)
    """Layer whose input is saved as features; default: the last linear layer."""


def check_scoring(options: ScoringOptions, epochs: int) -> None:
    """Check scoring options that depend on each other and on the number of epochs."""
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

    method: Named = field(default="easycore", metadata=MEMBER)
    """easycore, random, herding, ...[:key=value]... (see `select --list`), file:PATH, or package.module:name."""
    exclude: GivenPath | None = None
    """A list of indices or sample ids that are not selected, or decisions that an audit's page saved."""
    keep_leaked: bool = False
    """Also select from samples whose exact copies are in the test split; without it they are left out."""
    features: GivenPath | None = None
    """Features from elsewhere, for methods that read features: .npy in index order, or .parquet with sample ids."""


@dataclass(frozen=True, kw_only=True)
class FractionOptions:
    """How many samples are kept."""

    fraction: float = field(default=0.5, metadata=SHARE)
    """Share of the samples that is kept, in (0, 1]."""


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """The attacks on a model."""

    attack: Several[Named] = field(default=("pgd",), metadata=UNIQUE | MEMBER)
    """Attacks (`--list`), comma-separated: NAME[:key=value]..., file:PATH (images)."""
    eps: Several[float] = field(default=DEFAULT_EPS, metadata=UNIQUE | AT_LEAST_0)
    """Radii, comma-separated."""
    limit: int | None = field(default=None, metadata=AT_LEAST_1)
    """Attack a random subset (seeded) of this many samples; default: all."""


@dataclass(frozen=True, kw_only=True)
class NormOptions:
    """The norm of an attack."""

    norm: Norm = "linf"
    """Norm of the ball that the attack stays in."""


def check_radii(eps: Sequence[float], norm: Norm) -> None:
    """Check that radii are given, and that those of linf are within the pixel range."""
    require(len(eps) > 0, "eps", "given", eps)
    for value in eps:
        require(norm == "l2" or value <= 1, "eps", "in [0, 1] for linf, >= 0 for l2", value)


@dataclass(frozen=True, kw_only=True)
class RunnerOptions(CommandOptions):
    """Where the steps of a plan run, and for how long; it does not change results."""

    on: str | None = field(default=None, metadata=NEUTRAL)
    """`ray` or `ray:HOST:PORT`: run the steps on a Ray cluster; default: on this machine."""
    workers: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_0)
    """Steps run at once, each in a process with one thread; 0: one after the other in this process; default: one per
    GPU, else 2; with Ray, one per CPU."""
    workers_per_gpu: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_1)
    """Number of steps run at once on each GPU, whose memory must hold them all; default: 1."""
    minutes: float | None = field(default=None, metadata=NEUTRAL | ABOVE_0)
    """Stop after this many minutes; the same command resumes."""
    dry_run: bool = field(default=False, metadata=NEUTRAL)
    """Print the missing steps and an estimate of time, memory and disk, and run nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, _, address = (self.on or "ray").partition(":")
        require(name == "ray" and not address.startswith("/"), "on", "ray or ray:HOST:PORT", self.on)
        require(self.on is None or self.workers != 0, "workers", ">= 1 with on", self.workers)
        if self.on is not None and self.dry_run and self.workers is None:
            raise UsageError(
                "workers must be given with on and dry_run: an estimate does not ask a cluster for its size"
            )


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a model is run without training."""

    batch_size: int | None = field(default=None, metadata=NEUTRAL | AT_LEAST_1)
    """Samples per batch; default: 250, on a GPU up to 2000 by the size of the images."""

    @property
    def samples_per_batch(self) -> int:
        """Samples per batch where nothing is known of the device."""
        return self.batch_size or PASS_BATCH


@dataclass(frozen=True, kw_only=True)
class NormalisationOptions:
    """The input normalisation of weights from elsewhere."""

    input_mean: Several[float] = ()
    """Mean to subtract from the input, one number or one per channel; default: the model takes [0,1]."""
    input_std: Several[float] = field(default=(), metadata=ABOVE_0)
    """Standard deviation to divide the input by, one number or one per channel."""


def check_normalisation(options: NormalisationOptions) -> None:
    """Check that a mean and a standard deviation are given together."""
    together = bool(options.input_mean) == bool(options.input_std)
    require(together, "input_mean and input_std", "given together", (options.input_mean, options.input_std))
