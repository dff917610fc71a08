"""Ranks by hardness, and suspicion of a wrong label."""

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


def has_threshold(column: str) -> bool:
    """Whether a column has a threshold above which a label is likely wrong."""
    return column.startswith(("loss", "aum"))


def suspicion(values: Numbers, column: str, classes: int) -> Numbers:
    """Suspicion that each sample is mislabelled, likely above 0: by `loss`, where guessing does better on average.

    That is a mean cross-entropy above ln(classes): over training, the model gave the label less than 1 / classes. For
    any other column (aum: the mean margin of another class, Pleiss et al. 2020) it is the value itself. A sample that
    was never observed is not suspected.

    >>> (suspicion(np.array([2.0, 2.5, np.nan]), "loss", 10) > 0).tolist()
    [False, True, False]
    """
    finite = np.where(np.isfinite(values), values, -np.inf)
    return (finite - np.log(classes) if column.startswith("loss") else finite).astype(np.float32)
