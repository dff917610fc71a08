"""Options of `audit`."""

from dataclasses import dataclass
from pathlib import Path

from easycoreset.errors import require
from easycoreset.options.groups import ComputeOptions, InferenceOptions


@dataclass(frozen=True, kw_only=True)
class AuditOptions(InferenceOptions, ComputeOptions):
    """Options of `audit`."""

    scores: Path
    """Folder that `score` wrote (its model predicts), or a scores.parquet."""
    model: str | None = None
    """package.module:factory of the folder's model, which is imported only when repeated here."""
    by: str | None = None
    """Column by which samples are hardest; left out: aign."""
    suspect_by: str | None = None
    """Column that suspects mislabelled samples (loss: above ln(classes); aum: above 0); left out: loss."""
    allow_subset: bool = False
    """Take scores of data that changed since: samples are matched by sample_id, and the counts are reported."""
    wrong: Path | None = None
    """A list of samples that are known to be mislabelled (indices or ids): precision and recall of every column."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scores.exists(), "scores", "a folder that score wrote, or a scores.parquet", str(self.scores))
