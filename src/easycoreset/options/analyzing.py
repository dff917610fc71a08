"""Options of `analyze`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from easycoreset.errors import require
from easycoreset.options.fields import ABOVE_0, AT_LEAST_1, UNIQUE, rule, with_default
from easycoreset.options.groups import PIXELS, AttackOptions, ComputeOptions, FractionOptions, check_radii


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions(AttackOptions, FractionOptions, ComputeOptions):
    """Options of `analyze`; its scoring runs, models and evaluations go into folders of their own within `out`."""

    model: str | None = None
    """The model whose scores are analysed; left out: one that fits."""
    others: Sequence[str] = field(default=(), metadata=UNIQUE)
    """Further architectures, whose scores are compared; the first is attacked too."""
    adversarial: str | None = "trades"
    """An adversarial objective, whose scores are compared too; `none` for none."""
    transfer: str | None = None
    """A larger model that is trained on the coreset that the small one's scores choose; left out: none."""
    epochs: int = field(default=15, metadata=AT_LEAST_1)
    """Epochs of every scoring run."""
    batch_size: int = field(default=128, metadata=AT_LEAST_1)
    """Samples a training step."""
    eps: Sequence[float] = field(default=PIXELS, metadata=UNIQUE | ABOVE_0)
    """Radii (linf), with commas between."""
    limit: int | None = with_default(AttackOptions, "limit", 2000)
    """Samples of each split that are attacked."""
    margins: int = field(default=500, metadata=AT_LEAST_1)
    """Samples of each split whose margin is measured by FMN (l2)."""
    bins: int = field(default=10, metadata=rule(">= 2", lambda value: value >= 2))
    """Equal parts of a hardness."""
    updates: int | None = field(default=None, metadata=AT_LEAST_1)
    """Training steps of the transfer; left out: as many as a scoring run has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "adversarial", None if self.adversarial == "none" else self.adversarial)
        check_radii(self.eps, "linf")
        require(self.model not in self.others, "others", "other models than model", self.others)
        require(self.transfer is not None or self.updates is None, "updates", "left out without transfer", self.updates)
