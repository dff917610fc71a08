"""Statistics of results tables: what was measured, how sure it is, and what it says, in sentences."""

from easycoreset.statistics.summary import Group, group_results, mean_std, tell_gains

__all__ = ["Group", "group_results", "mean_std", "tell_gains"]
