"""Ranks by hardness."""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating]


def rank_hardest_first(hardness: Numbers, groups: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """Rank of each sample, 0 for the hardest, within its group if groups are given; without a value: last.

    >>> rank_hardest_first(np.array([1.0, np.nan, 3.0])).tolist()
    [1, 2, 0]
    """
    groups = np.zeros(len(hardness), np.int64) if groups is None else groups
    keys = np.where(np.isfinite(hardness), -hardness, np.inf)
    order = np.lexsort((np.arange(len(keys)), keys, groups))
    starts = np.searchsorted(groups[order], groups[order])
    ranks = np.empty(len(keys), np.int64)
    ranks[order] = np.arange(len(keys)) - starts
    return ranks
