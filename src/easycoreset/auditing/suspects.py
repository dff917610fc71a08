"""Who is hard, and who is suspect."""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating]


def place_of(hardness: Numbers, groups: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """Place of each sample from the hardest, 0, on, within its group where there are groups; without a value: last.

    >>> place_of(np.array([1.0, np.nan, 3.0])).tolist()
    [1, 2, 0]
    """
    groups = np.zeros(len(hardness), np.int64) if groups is None else groups
    keys = np.where(np.isfinite(hardness), -hardness, np.inf)
    order = np.lexsort((np.arange(len(keys)), keys, groups))
    starts = np.searchsorted(groups[order], groups[order])
    places = np.empty(len(keys), np.int64)
    places[order] = np.arange(len(keys)) - starts
    return places


def has_threshold(column: str) -> bool:
    """Whether there is a value of a column above which a label is likely wrong."""
    return column.startswith(("loss", "aum"))


def suspicion(values: Numbers, column: str, classes: int) -> Numbers:
    """How likely each sample is mislabelled, above 0 likely: by `loss`, where on average guessing would do better.

    That is a mean cross-entropy above ln(classes): over training, the model gave the label less than its share. By any
    other column (aum: the mean margin of another class, Pleiss et al. 2020) the value itself. A sample that was never
    observed is not suspected.

    >>> (suspicion(np.array([2.0, 2.5, np.nan]), "loss", 10) > 0).tolist()
    [False, True, False]
    """
    known = np.where(np.isfinite(values), values, -np.inf)
    return (known - np.log(classes) if column.startswith("loss") else known).astype(np.float32)
