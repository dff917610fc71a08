"""Rows that are held out of a split: a test part where a data set has none, a validation part where it is asked for."""

import numpy as np

from easycoreset.tables.scores import Ints


def hold_out(labels: Ints, share: float = 0.2) -> tuple[Ints, Ints]:
    """Split row numbers into (training, test): a stratified draw that depends on the labels alone, both ascending.

    A class with at least two samples leaves one on either side.
    """
    rng = np.random.default_rng(0)
    test = np.zeros(len(labels), bool)
    for k in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == k))
        test[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
