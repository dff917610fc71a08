"""Analysis: hardness against vulnerability and margin, and its agreement between models."""

from easycoreset.analysis.agreement import agreement_matrix
from easycoreset.analysis.margins import against_margin
from easycoreset.analysis.vulnerability import by_quantile

__all__ = ["against_margin", "agreement_matrix", "by_quantile"]
