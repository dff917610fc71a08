"""Options of `audit`."""

from dataclasses import dataclass, field
from typing import Literal

from easycoreset.errors import require
from easycoreset.options.fields import AT_LEAST_1, with_default
from easycoreset.options.groups import ComputeOptions, InferenceOptions, ModelOptions, ReadingOptions
from easycoreset.options.objects import SCORES, GivenPath


@dataclass(frozen=True, kw_only=True)
class AuditOptions(ModelOptions, InferenceOptions, ComputeOptions):
    """Options of `audit`."""

    scores: GivenPath | None = field(default=None, metadata=SCORES)
    """A folder written by `score`, a scores.parquet, or published:NAME: samples are ranked by these scores, and the
    models in the folder can judge the labels (judge epochs)."""
    skip_unreadable: bool = with_default(ReadingOptions, "skip_unreadable", True)
    """List unreadable images and audit the others; with --no-skip-unreadable they are an error."""
    judge: Literal["folds", "epochs"] | None = None
    """What judges the labels. folds: models trained on the other parts of the data; epochs: the models of the scored
    epochs of `scores`; default: folds, or epochs where `scores` has them and folds take too long."""
    features: GivenPath | None = None
    """Features from elsewhere (CLIP, DINO, ...): .npy in index order, or .parquet with sample ids. Logistic regression
    on the features of the other parts of the data then judges the labels."""
    epochs: int | None = field(default=None, metadata=AT_LEAST_1)
    """Epochs of the models of the folds, each trained once; default: epochs and repeats that fit in a few minutes."""
    by: str | None = None
    """Column of the scores that ranks samples by hardness; default: aign, or the judge's loss without scores."""
    allow_subset: bool = False
    """Accept scores of data that has changed since; samples are matched by sample_id, and counts are reported."""
    wrong: GivenPath | None = None
    """A list of samples (indices or ids) known to be mislabelled, to report precision and recall of every column."""

    def __post_init__(self) -> None:
        super().__post_init__()
        judged = self.judge is None or self.features is None
        require(judged, "judge", "left out with features", self.judge)
        require(self.judge != "epochs" or self.scores is not None, "judge", "folds without scores", self.judge)
        require(self.scores is not None or self.by is None, "by", "given with scores", self.by)
        require(self.scores is not None or not self.allow_subset, "allow_subset", "given with scores", True)
        trained = self.judge != "epochs" and self.features is None
        require(trained or self.init is None, "init", "given with judge folds", self.init)
        require(trained or self.epochs is None, "epochs", "given with judge folds", self.epochs)
