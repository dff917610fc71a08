"""Options of `run`: from data to a report."""

from dataclasses import dataclass, field

from easycoreset.options.fields import AT_LEAST_1, NEUTRAL, with_default
from easycoreset.options.groups import (
    AttackOptions,
    ComputeOptions,
    FractionOptions,
    ModelOptions,
    ReadingOptions,
    RunnerOptions,
    SelectionOptions,
    check_radii,
)
from easycoreset.options.objects import MEMBER, GivenPath, Named, Several


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(AttackOptions, FractionOptions, SelectionOptions, ModelOptions, ComputeOptions, RunnerOptions):
    """Options of `run`."""

    out: GivenPath = field(metadata=NEUTRAL)
    skip_unreadable: bool = with_default(ReadingOptions, "skip_unreadable", True)
    """List unreadable images and leave them out; with --no-skip-unreadable they are an error."""
    per_class: bool = True
    """Keep the fraction within each class; --no-per-class keeps it over all classes together, as the paper does."""
    objective: Named = field(default="standard", metadata=MEMBER)
    """Training objective: standard, trades, ...[:key=value]... (`trades:eps=4/255`)."""
    epochs: int | None = field(default=None, metadata=AT_LEAST_1)
    """Epochs of the scoring run; later trainings take as many updates; default: by the size of the data."""
    batch_size: int | None = field(default=None, metadata=AT_LEAST_1)
    """Samples per training step; default: by the size of the data."""
    attack: Several[Named] = with_default(AttackOptions, "attack", ("pgd", "pgd:loss=margin"))
    limit: int | None = with_default(AttackOptions, "limit", 1000)
    """Number of test images that are attacked."""
    wrong: GivenPath | None = field(default=None, metadata=NEUTRAL)
    """A list of samples known to be mislabelled, for the audit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radii(self.eps, "linf")
