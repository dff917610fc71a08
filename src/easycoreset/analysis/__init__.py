"""Analysis: hardness against vulnerability and margin, and its agreement between models."""

from easycoreset.analysis.agreement import agreement_matrix
from easycoreset.analysis.margins import correlate_with_margin
from easycoreset.analysis.vulnerability import outcomes_by_quantile

__all__ = ["agreement_matrix", "correlate_with_margin", "outcomes_by_quantile"]
