"""Statistics of results tables: what was measured, how sure it is, and what it says, in sentences."""

from easycoreset.statistics.contrasts import ENOUGH_SEEDS, Contrast, contrast_all
from easycoreset.statistics.frontiers import Point, load_points
from easycoreset.statistics.intervals import holm, interval, p_value, pooled_variance, resample_weights
from easycoreset.statistics.summary import Group, group_results, mean_std, tell_gains

__all__ = [
    "ENOUGH_SEEDS",
    "Contrast",
    "Group",
    "Point",
    "contrast_all",
    "group_results",
    "holm",
    "interval",
    "load_points",
    "mean_std",
    "p_value",
    "pooled_variance",
    "resample_weights",
    "tell_gains",
]
