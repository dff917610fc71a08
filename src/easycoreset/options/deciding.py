"""Options of the commands that look at data and models rather than make them: `audit` and `predict`."""

from dataclasses import dataclass, field
from pathlib import Path

from easycoreset.errors import require
from easycoreset.options.kinds import NEUTRAL, Integer, Switch
from easycoreset.options.training import ComputeOptions


@dataclass(frozen=True, kw_only=True)
class AuditOptions(ComputeOptions):
    """Options of `audit`."""

    scores: Path
    """Folder that `score` wrote (its model predicts), or a scores.parquet."""
    model: str | None = None
    """package.module:factory of the folder's model, which is imported only when repeated here."""
    by: str | None = None
    """Column by which samples are hardest; left out: aign."""
    suspect_by: str | None = None
    """Column that suspects mislabelled samples (loss: above ln(classes); aum: above 0); left out: loss."""
    allow_subset: Switch = False
    """Take scores of data that changed since: samples are matched by sample_id, and the counts are said."""
    wrong: Path | None = None
    """A list of samples that are known to be mislabelled (indices or ids): precision and recall of every column."""
    batch_size: Integer = field(default=250, metadata=NEUTRAL)
    """Samples a batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scores.exists(), "scores", "a folder that score wrote, or a scores.parquet", str(self.scores))
        require(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ComputeOptions):
    """Options of `predict`."""

    data: str
    """A folder of images, with or without class folders, or an .npz with x; labels are not looked at."""
    weights: Path
    """Folder of a trained model, as `train` and `score` write it."""
    model: str | None = None
    """package.module:factory of the model, which is imported only when repeated here."""
    batch_size: Integer = field(default=250, metadata=NEUTRAL)
    """Images a batch."""
    raw: Switch = False
    """Leave names in labels.csv as they are; without it what a spreadsheet would take for a formula begins with '."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weights.is_dir(), "weights", "a trained model's folder", str(self.weights))
        require(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)
