"""Options of `audit`."""

from dataclasses import dataclass, field

from easycoreset.options.groups import ComputeOptions, InferenceOptions
from easycoreset.options.objects import MODEL, SCORES, GivenPath, Named


@dataclass(frozen=True, kw_only=True)
class AuditOptions(InferenceOptions, ComputeOptions):
    """Options of `audit`."""

    scores: GivenPath = field(metadata=SCORES)
    """A folder written by `score` (its model makes the predictions), or a scores.parquet."""
    model: Named | None = field(default=None, metadata=MODEL)
    """package.module:factory of the folder's model; it is imported only if named here again."""
    by: str | None = None
    """Column that ranks samples by hardness; default: aign."""
    suspect_by: str | None = None
    """Column that flags likely mislabelled samples (loss: above ln(classes); aum: above 0); default: loss."""
    allow_subset: bool = False
    """Accept scores of data that has changed since; samples are matched by sample_id, and counts are reported."""
    wrong: GivenPath | None = None
    """A list of samples (indices or ids) known to be mislabelled, to report precision and recall of every column."""
