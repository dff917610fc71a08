"""Options of `analyze`."""

from dataclasses import dataclass, field

from easycoreset.errors import require
from easycoreset.options.fields import ABOVE_0, AT_LEAST_1, UNIQUE, rule, with_default
from easycoreset.options.groups import (
    DEFAULT_EPS,
    AttackOptions,
    ComputeOptions,
    FractionOptions,
    RunnerOptions,
    check_radii,
)
from easycoreset.options.objects import MEMBER, MODEL, SCORES, TRAINED_MODEL, GivenPath, Named, Several


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions(AttackOptions, FractionOptions, ComputeOptions, RunnerOptions):
    """Options of `analyze`, whose scoring runs, models and evaluations are steps in `out`."""

    model: Named | None = field(default=None, metadata=MODEL)
    """The model whose scores are analysed; default: chosen by the data."""
    scores: GivenPath | None = field(default=None, metadata=SCORES)
    """The folder of a finished scoring run of `model`, with its checkpoints; the model is then not trained again."""
    attacked: Several[GivenPath] = field(default=(), metadata=UNIQUE | TRAINED_MODEL)
    """Folders of trained models to attack, comma-separated; default: new models are trained for the attacks."""
    others: Several[Named] = field(default=(), metadata=UNIQUE | MODEL)
    """Other architectures whose scores are compared, comma-separated; the first is also attacked."""
    adversarial: Named | None = field(default="trades", metadata=MEMBER)
    """An adversarial objective whose scores are also compared; `none` for none."""
    transfer: Named | None = field(default=None, metadata=MODEL)
    """A larger model, which is trained on the coreset chosen by the scores of `model`; default: none."""
    epochs: int = field(default=15, metadata=AT_LEAST_1)
    """Epochs of every scoring run."""
    batch_size: int = field(default=128, metadata=AT_LEAST_1)
    """Samples per training step."""
    eps: Several[float] = field(default=DEFAULT_EPS, metadata=UNIQUE | ABOVE_0)
    """Radii (linf), comma-separated."""
    limit: int | None = with_default(AttackOptions, "limit", 2000)
    """Number of samples of each split that are attacked."""
    margins: int = field(default=500, metadata=AT_LEAST_1)
    """Number of samples of each split whose margin FMN measures (l2)."""
    bins: int = field(default=10, metadata=rule(">= 2", lambda value: value >= 2))
    """Number of equal parts (quantiles) into which a hardness is divided."""
    updates: int | None = field(default=None, metadata=AT_LEAST_1)
    """Training steps of the transfer; default: as many as a scoring run has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "adversarial", None if self.adversarial == "none" else self.adversarial)
        if self.scores is not None and self.scores.is_file():
            of_run = self.scores.name == "scores.parquet"
            require(of_run, "scores", "the folder of a scoring run, or its scores.parquet", str(self.scores))
            object.__setattr__(self, "scores", self.scores.parent)
        is_folder = self.scores is None or self.scores.is_dir()
        require(is_folder, "scores", "the folder of a scoring run with its checkpoints", str(self.scores))
        check_radii(self.eps, "linf")
        require(self.model not in self.others, "others", "different from model", self.others)
        require(self.transfer is not None or self.updates is None, "updates", "left out without transfer", self.updates)
