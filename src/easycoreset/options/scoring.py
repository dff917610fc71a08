"""Options of `score`."""

from dataclasses import dataclass, field
from typing import Literal

from easycoreset.errors import UsageError, require
from easycoreset.options import groups
from easycoreset.options.fields import AT_LEAST_0, AT_LEAST_1, NEUTRAL
from easycoreset.options.groups import NormalisationOptions, ScoringOptions, check_normalisation, check_scoring
from easycoreset.options.objects import MEMBER, GivenPath, Named, Several
from easycoreset.options.training import RecipeOptions

AGREEMENT = 2000  # samples


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(NormalisationOptions, ScoringOptions, RecipeOptions):
    """Options of `score`."""

    epochs: int | None = field(default=None, metadata=AT_LEAST_1)
    """Epochs to train (give either epochs or checkpoints)."""
    checkpoints: GivenPath | None = None
    """A folder of weights saved by another training, one file per scored epoch, to score without training."""
    mode: Literal["exact", "online"] = "exact"
    """exact: gradients of all clean samples after each scored epoch; online: of each training batch during its step."""
    hardness: Several[Named] = field(default=(), metadata=MEMBER)
    """Hardness measures, comma-separated; default (or `cheap`): all that need no additional pass."""
    split: Literal["train", "test"] = field(default="train", metadata=NEUTRAL)
    """Split to score; test reuses the finished run of the folder."""
    keep_checkpoints: bool = field(default=True, metadata=NEUTRAL)
    """Keep the weights of every scored epoch; `--split test` needs them."""
    save_features: Literal["clean", "adversarial"] | None = field(default=None, metadata=NEUTRAL)
    """Also write penultimate features and probabilities; adversarial: also at PGD examples (the flag alone: clean)."""
    agreement: int = field(default=AGREEMENT, metadata=NEUTRAL | AT_LEAST_0)
    """In mode online, number of samples compared with an exact pass after every scored epoch; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epochs is None) == (self.checkpoints is None):
            received = "both" if self.epochs is not None else "neither"
            raise UsageError(f"exactly one of epochs and checkpoints must be given; got {received}")
        exact = self.mode == "exact"
        require(not exact or self.agreement == AGREEMENT, "agreement", "left out in mode exact", self.agreement)
        precision = self.scoring_precision
        require(exact or precision is None, "scoring_precision", "left out in mode online", precision)
        check_normalisation(self)
        mean_allowed = self.checkpoints is not None or not self.input_mean
        require(mean_allowed, "input_mean", "left out without checkpoints", self.input_mean)
        check_scoring(self, self.epochs or 1)
        require(exact or self.split == "train", "split", "train in mode online", self.split)

    def scored_epochs(self) -> list[int]:
        """The epochs, from 1, after which the samples are scored."""
        return groups.scored_epochs(self, self.epochs or 1)
