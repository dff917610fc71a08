"""Statistics of results tables: estimates with intervals, contrasts, and their verdicts in sentences."""

from easycoreset.statistics.contrasts import ENOUGH_SEEDS, Contrast
from easycoreset.statistics.intervals import Estimate, estimate, holm, sign_flip_p
from easycoreset.statistics.measurement import contrast_all
from easycoreset.statistics.outcomes import Outcomes, Row
from easycoreset.statistics.planned_contrasts import PlannedContrast
from easycoreset.statistics.starts import Plans, read_plans
from easycoreset.statistics.summary import Group, group_results, mean_std

__all__ = [
    "ENOUGH_SEEDS",
    "Contrast",
    "Estimate",
    "Group",
    "Outcomes",
    "PlannedContrast",
    "Plans",
    "Row",
    "contrast_all",
    "estimate",
    "group_results",
    "holm",
    "mean_std",
    "read_plans",
    "sign_flip_p",
]
