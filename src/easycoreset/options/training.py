"""Options of `train`, and of every command that trains one model."""

from dataclasses import dataclass, field
from typing import Literal

from easycoreset.errors import UsageError, require
from easycoreset.options.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, NEUTRAL, SHARE
from easycoreset.options.groups import ComputeOptions, ModelOptions, TrainingOptions, ValidationOptions, check_training
from easycoreset.options.objects import CORESET, MEMBER, GivenPath, Named


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(TrainingOptions, ModelOptions, ComputeOptions):
    """How a model is trained: shared by `score` and `train`."""

    coreset: GivenPath | None = field(default=None, metadata=CORESET)
    """A coreset.parquet to train on; default: the whole training split."""
    allow_subset: bool = field(default=False, metadata=NEUTRAL)
    """Accept a coreset of data that has changed since; samples are matched by sample_id, and counts are reported."""
    objective: Named = field(default="standard", metadata=MEMBER)
    """Training objective: standard, trades, pgd-at, mart, fgsm-rs or noise[:key=value]..."""
    eps: float | None = field(default=None, metadata=AT_LEAST_0)
    """Radius of the objective's inner attack (a number, or a fraction like 8/255)."""
    profile: bool = field(default=False, metadata=NEUTRAL)
    """Profile some training steps: profile.txt, and profile.json (a trace for Perfetto)."""
    checkpoint_minutes: float = field(default=10.0, metadata=NEUTRAL | ABOVE_0)
    """Minutes between checkpoints within an epoch (one is always written after each epoch)."""
    track: Literal["mlflow", "wandb", "tensorboard"] | None = field(default=None, metadata=NEUTRAL)
    """Log options and each epoch's metrics: offline in the folder, unless the tracker's environment says otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.coreset is not None or not self.allow_subset, "allow_subset", "given with a coreset", True)
        check_training(self)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ValidationOptions, RecipeOptions):
    """Options of `train`."""

    epochs: int | None = field(default=None, metadata=AT_LEAST_1)
    """Epochs to train (give either epochs or updates)."""
    updates: int | None = field(default=None, metadata=AT_LEAST_1)
    """Training steps (give either updates or epochs)."""
    method: Named | None = field(default=None, metadata=MEMBER)
    """A dynamic method, which chooses the samples of each epoch (see `train --list`), instead of a coreset."""
    fraction: float | None = field(default=None, metadata=SHARE)
    """With method: share of the samples that an epoch trains on, in (0, 1]; some methods set the share themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.method is None or self.coreset is None, "method", "left out with a coreset", self.method)
        require(self.method is not None or self.fraction is None, "fraction", "given with a method", self.fraction)
        if (self.epochs is None) == (self.updates is None):
            received = "both" if self.epochs is not None else "neither"
            raise UsageError(f"exactly one of epochs and updates must be given; got {received}")
