"""Greedy coverage of feature space: herding and k-center."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.errors import require
from easycoreset.progress import progress
from easycoreset.selection.geometry import CHUNK, read_rows, squared_distances, squared_norms
from easycoreset.selection.row_selection import choose_rows, in_parts, no_progress, require_classes
from easycoreset.tables import Coreset, Floats, Ints, Scores

CANDIDATES = 1024  # rows whose distances are kept up to date between updates of all rows


@dataclass(frozen=True, kw_only=True)
class Herding:
    """Matches the class mean greedily: the next sample is the one that brings the mean of the kept nearest to it.

    The mean-matching form (Rebuffi et al. 2017) of Welling 2009, which coreset papers use; taking the farthest point
    first, as some libraries do, is another method. Within each class, on features. More than `part` rows of a class are
    split at random.
    """

    needs: ClassVar[tuple[str, ...]] = ("features",)
    cost: ClassVar[str] = "count d n/classes"
    part: int = 100_000
    per_class: bool = True

    def __post_init__(self) -> None:
        require_classes("herding", self.per_class)
        require(self.part >= 1, "part", ">= 1", self.part)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        with progress("herding", count) as bar:

            def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
                rows = rng.permutation(rows)
                return rows[herd(read_rows(scores, "features", rows), n, bar.advance)]

            return choose_rows(scores, count, seed, in_parts(order, self.part, "herding"), per_class=True)


@dataclass(frozen=True, kw_only=True)
class KCenter:
    """Farthest-first traversal of the features (k-center greedy, Sener & Savarese 2018).

    Starts at the sample nearest to the mean, or at sample `start` (in its class or part). Exact: the running minimum
    distance of most rows is an upper bound, updated only when it could matter. More than `part` rows are split at
    random.
    """

    needs: ClassVar[tuple[str, ...]] = ("features",)
    cost: ClassVar[str] = "n count d"
    start: int | None = None
    part: int = 100_000
    per_class: bool = False

    def __post_init__(self) -> None:
        require(self.part >= 1, "part", ">= 1", self.part)
        require(self.start is None or self.start >= 0, "start", ">= 0", self.start)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        require(self.start is None or self.start < len(scores), "start", f"below {len(scores)}", self.start)
        with progress("kcenter", count) as bar:

            def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
                rows = rng.permutation(rows)
                first = np.flatnonzero(rows == self.start)
                start = int(first[0]) if len(first) else None
                return rows[farthest_first(read_rows(scores, "features", rows), n, start, bar.advance)]

            return choose_rows(scores, count, seed, in_parts(order, self.part, "kcenter"), per_class=self.per_class)


def herd(h: Floats, count: int, tick: Callable[..., None] = no_progress) -> Ints:
    """Choose positions of rows [n, d] whose running mean follows the mean of all; of equal rows the first wins.

    >>> herd(np.array([[0], [1], [2], [10]], np.float32), 4).tolist()
    [2, 1, 3, 0]
    """
    h = h - h.mean(0, dtype=np.float64).astype(np.float32)
    cost = squared_norms(h).astype(np.float64)  # |sum of the kept + h|^2 without the constant |sum of the kept|^2
    chosen = np.zeros(count, np.int64)
    for step in range(count):
        row = chosen[step] = int(cost.argmin())
        cost += 2 * (h @ h[row])
        cost[row] = np.inf
        tick()
    return chosen


def farthest_first(h: Floats, count: int, start: int | None = None, tick: Callable[..., None] = no_progress) -> Ints:
    """Choose positions of rows [n, d], each farthest from the previous ones; of equal rows the first wins.

    >>> h = np.array([[0], [1], [2], [10]], np.float32)
    >>> farthest_first(h, 4).tolist(), farthest_first(h, 4, start=0).tolist()
    ([2, 3, 0, 1], [0, 3, 2, 1])
    """
    h = h - h.mean(0, dtype=np.float64).astype(np.float32)
    nearest = np.full(len(h), np.inf, np.float32)
    chosen = [int(squared_norms(h).argmin()) if start is None else start]
    included = 0  # number of chosen rows that `nearest` takes into account
    while len(chosen) < count:
        _update_nearest(nearest, h, h[chosen[included:]])
        nearest[chosen] = -np.inf
        included = len(chosen)
        if nearest.max() <= 0:  # the remaining rows are equal to chosen ones
            rest = np.flatnonzero(nearest == 0)[: count - included]
            chosen += rest.tolist()
            tick(len(rest))
            break
        size = min(CANDIDATES, len(h))
        order = np.argpartition(-nearest, size - 1)
        candidates = np.sort(order[:size])
        bound = nearest[order[size:]].max(initial=-np.inf)
        distances = nearest[candidates]
        features = h[candidates]
        best = int(distances.argmax())
        while len(chosen) < count and (distances[best] > bound or len(chosen) == included):
            # on a tie with other rows, the first of all rows is right only while `nearest` is up to date
            row = int(candidates[best]) if distances[best] > bound else int(nearest.argmax())
            chosen.append(row)
            tick()
            if row != candidates[best]:
                break
            distances = np.minimum(distances, squared_distances(features, h[row : row + 1])[:, 0])
            distances[best] = -np.inf
            best = int(distances.argmax())
    return np.array(chosen[:count], np.int64)


def _update_nearest(nearest: Floats, h: Floats, added: Floats) -> None:
    """Update the running minimum `nearest` with the distances to the rows `added`."""
    for start in range(0, len(h), CHUNK):
        distances = squared_distances(h[start : start + CHUNK], added)
        nearest[start : start + CHUNK] = np.minimum(nearest[start : start + CHUNK], distances.min(1))
