"""InfoBatch: random pruning of easy samples, unbiased by weights."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.dynamic import LOSS, EpochChoice, EpochState
from easycoreset.errors import require

ANNEALED = 0.875  # share of the budget after which everything is trained on


@dataclass(frozen=True, kw_only=True)
class InfoBatch:
    """Drops a random share of the rows below the mean loss, and gives the rest of these more weight (Qin et al. 2024).

    Of n_b rows strictly below the mean, floor(drop * n_b) are dropped and the others weigh n_b / kept, so that the
    expected gradient is that of all data (the authors' 1 / (1 - drop) is biased by the rounding). Rows never seen stay;
    in the last eighth of the budget everything is trained on. `normalise` divides the weights by their mean.
    """

    columns: ClassVar[tuple[str, ...]] = (LOSS,)
    takes_fraction: ClassVar[bool] = False
    has_weights: ClassVar[bool] = True
    drop: float = 0.5
    normalise: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.drop < 1, "drop", "in [0, 1)", self.drop)

    def __call__(self, state: EpochState) -> EpochChoice:
        loss = state.values(LOSS)
        seen = np.isfinite(loss)
        if state.progress >= ANNEALED or not seen.any():
            return state.everything
        below = seen & (loss < loss[seen].mean(dtype=np.float64))
        candidates = np.flatnonzero(below).astype(np.int64)
        kept = state.rng(state.epoch).permutation(candidates)[int(np.floor(self.drop * len(candidates))) :]
        rows = np.concatenate([np.flatnonzero(~below).astype(np.int64), kept])
        weight = np.ones(len(rows), np.float64)
        weight[len(rows) - len(kept) :] = len(candidates) / max(len(kept), 1)
        return EpochChoice(rows, (weight / weight.mean() if self.normalise else weight).astype(np.float32))
