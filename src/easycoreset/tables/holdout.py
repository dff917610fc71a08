"""Hold rows out of a split: as test split if a data set has none, as validation split if requested."""

import hashlib
from collections.abc import Sequence

import numpy as np

from easycoreset.tables.scores import Ints


def hold_out(labels: Ints, share: float = 0.2) -> tuple[Ints, Ints]:
    """Split rows into (training, test), both ascending: a stratified draw that depends only on the labels.

    A class of at least two samples has one on either side.
    """
    rng = np.random.default_rng(0)
    test = np.zeros(len(labels), bool)
    for k in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == k))
        test[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def hold_out_by_id(labels: Ints, sample_ids: Sequence[str], share: float = 0.2) -> tuple[Ints, Ints]:
    """The same draw by sample ids: if samples are added or removed, hardly any other changes its part.

    >>> [names[hold_out_by_id(np.zeros(len(names), np.int64), names)[1][0]] for names in ("abcde", "bcdef", "abe")]
    ['e', 'e', 'e']
    """
    test = np.zeros(len(labels), bool)
    draws = np.array(
        [int(hashlib.blake2b(sample_id.encode(), digest_size=8).hexdigest(), 16) for sample_id in sample_ids]
    )
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        rows = rows[np.argsort(draws[rows], kind="stable")]
        test[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
