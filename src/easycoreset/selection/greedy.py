"""Greedy coverage of feature space: herding and k-center."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.console import progress
from easycoreset.errors import require
from easycoreset.selection.classes import choose_rows, in_parts, no_tick, require_classes
from easycoreset.selection.geometry import CHUNK, read_rows, square_norms, squared_distances
from easycoreset.tables import Coreset, Floats, Ints, Scores

CANDIDATES = 1024  # rows whose distances are kept up to date between looks at all of them


@dataclass(frozen=True, kw_only=True)
class Herding:
    """Matches the class mean greedily: next is the sample that brings the mean of the kept nearest to it.

    The mean-matching form (Rebuffi et al. 2017), in which coreset papers use Welling 2009; to take the farthest point
    first, as some libraries do, is another method. Within each class, on features. More than `part` rows of a class are
    cut at random.
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

    From the sample nearest to the mean, or from sample `start` (in its own class or part). Exact: a running minimum,
    which for most rows is an upper bound that is brought up to date only when it could matter. More than `part` rows
    are cut at random.
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
                return rows[traverse(read_rows(scores, "features", rows), n, start, bar.advance)]

            return choose_rows(scores, count, seed, in_parts(order, self.part, "kcenter"), per_class=self.per_class)


def herd(h: Floats, count: int, tick: Callable[..., None] = no_tick) -> Ints:
    """Places of the rows [n, d] whose running mean follows the mean of all, the first of equal ones first.

    >>> herd(np.array([[0], [1], [2], [10]], np.float32), 4).tolist()
    [2, 1, 3, 0]
    """
    h = h - h.mean(0, dtype=np.float64).astype(np.float32)
    cost = square_norms(h).astype(np.float64)  # |sum of the kept + h|^2, but for the first term's own square
    chosen = np.zeros(count, np.int64)
    for place in range(count):
        row = chosen[place] = int(cost.argmin())
        cost += 2 * (h @ h[row])
        cost[row] = np.inf
        tick()
    return chosen


def traverse(h: Floats, count: int, start: int | None = None, tick: Callable[..., None] = no_tick) -> Ints:
    """Places of the rows [n, d], each farthest from those before it, the first of equal ones first.

    >>> h = np.array([[0], [1], [2], [10]], np.float32)
    >>> traverse(h, 4).tolist(), traverse(h, 4, start=0).tolist()
    ([2, 3, 0, 1], [0, 3, 2, 1])
    """
    h = h - h.mean(0, dtype=np.float64).astype(np.float32)
    near = np.full(len(h), np.inf, np.float32)
    chosen = [int(square_norms(h).argmin()) if start is None else start]
    fresh = 0  # so many of the chosen are in `near`
    while len(chosen) < count:
        _bring_near(near, h, h[chosen[fresh:]])
        near[chosen] = -np.inf
        fresh = len(chosen)
        if near.max() <= 0:  # what is left lies on the chosen
            left = np.flatnonzero(near == 0)[: count - fresh]
            chosen += left.tolist()
            tick(len(left))
            break
        most = min(CANDIDATES, len(h))
        order = np.argpartition(-near, most - 1)
        candidates = np.sort(order[:most])
        bound = near[order[most:]].max(initial=-np.inf)
        own = near[candidates]
        theirs = h[candidates]
        best = int(own.argmax())
        while len(chosen) < count and (own[best] > bound or len(chosen) == fresh):
            # on a tie with those outside, the first of all rows is right only while `near` is up to date
            row = int(candidates[best]) if own[best] > bound else int(near.argmax())
            chosen.append(row)
            tick()
            if row != candidates[best]:
                break
            own = np.minimum(own, squared_distances(theirs, h[row : row + 1])[:, 0])
            own[best] = -np.inf
            best = int(own.argmax())
    return np.array(chosen[:count], np.int64)


def _bring_near(near: Floats, h: Floats, added: Floats) -> None:
    """Take the distances to the rows `added` into the running minimum."""
    for start in range(0, len(h), CHUNK):
        found = squared_distances(h[start : start + CHUNK], added)
        near[start : start + CHUNK] = np.minimum(near[start : start + CHUNK], found.min(1))
