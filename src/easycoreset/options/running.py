"""Options of `run`: from data to a report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from easycoreset.options.fields import AT_LEAST_1, NEUTRAL, with_default
from easycoreset.options.groups import (
    AttackOptions,
    ComputeOptions,
    FractionOptions,
    ModelOptions,
    SelectionOptions,
    check_radii,
)


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(AttackOptions, FractionOptions, SelectionOptions, ModelOptions, ComputeOptions):
    """Options of `run`."""

    per_class: bool = True
    """Keep that share of every class; --no-per-class keeps it of all samples together, as the paper does."""
    objective: str = "standard"
    """What training minimises: standard, trades, ...[:key=value]... (`trades:eps=4/255`)."""
    epochs: int | None = field(default=None, metadata=AT_LEAST_1)
    """Epochs of the scoring run; what is trained after it takes as many updates; left out: by the data's size."""
    batch_size: int | None = field(default=None, metadata=AT_LEAST_1)
    """Samples a training step; left out: by the data's size."""
    attack: Sequence[str] = with_default(AttackOptions, "attack", ("pgd", "pgd:loss=margin"))
    limit: int | None = with_default(AttackOptions, "limit", 1000)
    """Test images that are attacked."""
    wrong: Path | None = field(default=None, metadata=NEUTRAL)
    """A list of samples that are known to be mislabelled, for the audit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radii(self.eps, "linf")
