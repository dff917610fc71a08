"""Options of `analyze`."""

from dataclasses import dataclass

from easycoreset.errors import require
from easycoreset.options.kinds import Integer, Names, Number, Numbers
from easycoreset.options.training import ComputeOptions


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions(ComputeOptions):
    """Options of `analyze`; its scoring runs, models and evaluations go into folders of their own within `out`."""

    model: str | None = None
    """The model whose scores are analysed; left out: one that fits."""
    others: Names = ()
    """Further architectures, whose scores are compared; the first is attacked too."""
    adversarial: str | None = "trades"
    """An adversarial objective, whose scores are compared too; `none` for none."""
    transfer: str | None = None
    """A larger model that is trained on the coreset that the small one's scores choose; left out: none."""
    epochs: Integer = 15
    """Epochs of every scoring run."""
    batch_size: Integer = 128
    """Samples a training step."""
    eps: Numbers = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii (linf), with commas between."""
    attack: Names = ("pgd",)
    """Attacks, with commas between."""
    limit: Integer = 2000
    """Samples of each split that are attacked."""
    margins: Integer = 500
    """Samples of each split whose margin is measured by FMN (l2)."""
    bins: Integer = 10
    """Equal parts of a hardness."""
    fraction: Number = 0.5
    """Share of the coreset of the transfer."""
    updates: Integer | None = None
    """Training steps of the transfer; left out: as many as a scoring run has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "adversarial", None if self.adversarial == "none" else self.adversarial)
        for name in ("epochs", "batch_size", "limit", "margins", "updates"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, ">= 1", value)
        require(self.bins >= 2, "bins", ">= 2", self.bins)
        require(0 < self.fraction <= 1, "fraction", "in (0, 1]", self.fraction)
        require(len(set(self.others)) == len(self.others), "others", "named once each", self.others)
        require(self.model not in self.others, "others", "other models than model", self.others)
        require(self.transfer is not None or self.updates is None, "updates", "left out without transfer", self.updates)
        for value in self.eps:
            require(0 < value <= 1, "eps", "in (0, 1]", value)
