"""Random subsets, a new one each epoch."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.dynamic import EpochChoice, EpochState
from easycoreset.selection.row_selection import class_quotas
from easycoreset.tables import Ints


@dataclass(frozen=True, kw_only=True)
class RS2:
    """The next rows of a random permutation, so that all are seen before any is seen again (Okanovic et al. 2024).

    At equal updates this is training on all data, up to the order. `replace` draws afresh in each epoch.
    """

    takes_fraction: ClassVar[bool] = True
    has_weights: ClassVar[bool] = False
    replace: bool = False
    per_class: bool = False

    def __call__(self, state: EpochState) -> EpochChoice:
        if not self.per_class:
            return EpochChoice(self._draw(np.arange(len(state.labels), dtype=np.int64), state.count, state, 0))
        sizes = np.bincount(state.labels)
        quotas = class_quotas(sizes, state.count, state.rng())
        drawn = [
            self._draw(np.flatnonzero(state.labels == k).astype(np.int64), int(quota), state, k)
            for k, quota in enumerate(quotas)
            if quota
        ]
        return EpochChoice(np.concatenate(drawn))

    def _draw(self, rows: Ints, count: int, state: EpochState, group: int) -> Ints:
        """The rows of one group for this epoch."""
        if self.replace:
            return state.rng(1, group, state.epoch).permutation(rows)[:count]
        epochs = -(-len(rows) // count)  # of one pass; its last epoch is filled up from the same permutation
        number, position = divmod(state.epoch - 1, epochs)
        permutation = state.rng(2, group, number).permutation(rows)
        return np.resize(permutation, epochs * count)[position * count : (position + 1) * count]
