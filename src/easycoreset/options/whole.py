"""Options of `run`: from data to a report."""

from dataclasses import dataclass, field
from pathlib import Path

from easycoreset.errors import require
from easycoreset.options.kinds import NEUTRAL, Integer, Names, Number, Numbers, Switch
from easycoreset.options.training import ComputeOptions


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(ComputeOptions):
    """Options of `run`."""

    model: str | None = None
    """Built in, torchvision:NAME, timm:NAME or package.module:factory; left out: one that fits."""
    init: str | None = None
    """Weights to start from, in scoring and training: a model's folder, a file, or pretrained (published, fetched)."""
    method: str = "easycore"
    """Coreset method (`select --list`)."""
    fraction: Number = 0.5
    """Share of the samples that is kept, in (0, 1]."""
    per_class: Switch = True
    """Keep that share of every class; --no-per-class keeps it of all samples together, as the paper does."""
    objective: str = "standard"
    """What training minimises: standard, trades, ...[:key=value]... (`trades:eps=4/255`)."""
    epochs: Integer | None = None
    """Epochs of the scoring run; what is trained after it takes as many updates; left out: by the data's size."""
    batch_size: Integer | None = None
    """Samples a training step; left out: by the data's size."""
    attack: Names = ("pgd", "pgd:loss=margin")
    """Attacks of the evaluation, with commas between."""
    eps: Numbers = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the evaluation (linf), with commas between."""
    limit: Integer = 1000
    """Test images that are attacked."""
    exclude: Path | None = None
    """A list of indices or sample ids that are left out of the choice, as the report's page writes it."""
    wrong: Path | None = field(default=None, metadata=NEUTRAL)
    """A list of samples that are known to be mislabelled, for the audit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.fraction <= 1, "fraction", "in (0, 1]", self.fraction)
        for name in ("epochs", "batch_size", "limit"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, ">= 1", value)
        for value in self.eps:
            require(0 <= value <= 1, "eps", "in [0, 1]", value)
        require(len(set(self.eps)) == len(self.eps) > 0, "eps", "given, each value once", self.eps)
