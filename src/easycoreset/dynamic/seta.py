"""SeTa: a window of loss groups that moves from easy to hard."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.dynamic import LOSS, EpochChoice, EpochState
from easycoreset.dynamic.infobatch import ANNEALED
from easycoreset.errors import require
from easycoreset.tables import Floats, Ints, kept_count


@dataclass(frozen=True, kw_only=True)
class SeTa:
    """Draws rows at random, groups them by loss, and trains on a window of groups from easy to hard (Zhou et al. 2025).

    K-means on the losses gives the groups, sorted from easy to hard; the window moves by one group each epoch, and
    starts again after the last one. In the last eighth of the budget, training uses the whole random share. Rows never
    seen are always trained on.
    """

    columns: ClassVar[tuple[str, ...]] = (LOSS,)
    takes_fraction: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False
    drop: float = 0.1
    groups: int = 5
    window: float = 0.8

    def __post_init__(self) -> None:
        require(0 <= self.drop < 1, "drop", "in [0, 1)", self.drop)
        require(self.groups >= 1, "groups", ">= 1", self.groups)
        require(0 < self.window <= 1, "window", "in (0, 1]", self.window)

    def __call__(self, state: EpochState) -> EpochChoice:
        n = len(state.labels)
        rows = state.rng(state.epoch).permutation(n)[: kept_count(1 - self.drop, n)].astype(np.int64)
        if state.progress >= ANNEALED:
            return EpochChoice(rows)
        loss = state.values(LOSS)[rows]
        seen = np.isfinite(loss) | ~np.isfinite(loss).any()  # before the first epoch all are alike
        groups = split_by_loss(rows[seen], loss[seen], self.groups, state)
        width = max(1, int(np.floor(self.groups * self.window + 0.5)))
        start = (state.epoch - 1) % (self.groups - width + 1)
        return EpochChoice(np.concatenate([rows[~seen], *groups[start : start + width]]))


def split_by_loss(rows: Ints, loss: Floats, groups: int, state: EpochState) -> list[Ints]:
    """Group rows by k-means on their losses, from easy to hard; at random if there are too few distinct losses."""
    if len(np.unique(loss[np.isfinite(loss)])) < max(groups, 2):
        return [part.astype(np.int64) for part in np.array_split(state.rng(state.epoch, 1).permutation(rows), groups)]
    from sklearn.cluster import KMeans  # slow to import

    values = loss.astype(np.float64)[:, None]
    clusters = KMeans(groups, random_state=state.seed, n_init="auto").fit(values)
    order = np.argsort(clusters.cluster_centers_[:, 0], kind="stable")
    return [rows[clusters.labels_ == group] for group in order]
