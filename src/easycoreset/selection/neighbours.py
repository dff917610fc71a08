"""Methods that use nearest neighbours in feature space: CAL and D2 pruning."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (scikit-learn carries no types)

import heapq
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from easycoreset.console import log
from easycoreset.errors import EasycoresetWarning, require
from easycoreset.progress import progress
from easycoreset.selection.geometry import CHUNK, in_chunks, normalise_rows, read_rows
from easycoreset.selection.row_selection import choose_rows, in_parts, sort_rows
from easycoreset.tables import Coreset, Floats, Ints, Scores

MIN_PROBABILITY = 1e-12  # smaller ones are clipped to it
MAX_RANK_CORRELATION = 0.99  # of D2's scores with the hardness; above it D2's graph made no difference


@dataclass(frozen=True, kw_only=True)
class CAL:
    """Keeps the samples that differ most in prediction from their neighbours in feature space (Margatina et al. 2021).

    The highest mean KL(p_neighbour, p_x) over `k` neighbours; some libraries keep the lowest, which is another method.
    Neighbours are looked for within random parts of at most `part` rows.
    """

    needs: ClassVar[tuple[str, ...]] = ("features", "probabilities")
    cost: ClassVar[str] = "n^2 d"
    k: int = 10
    part: int = 100_000
    per_class: bool = False

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", ">= 1", self.k)
        require(self.part >= 1, "part", ">= 1", self.part)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = np.zeros(len(scores), np.float32)

        def pick(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            rows = rng.permutation(rows)
            neighbours, _ = find_neighbours(read_rows(scores, "features", rows), self.k, "cal")
            values[rows] = -neighbour_divergence(read_rows(scores, "probabilities", rows), neighbours)
            return sort_rows(values, rows, rng)[:n]  # ascending, ties in random order

        return choose_rows(scores, count, seed, in_parts(pick, self.part, "cal"), per_class=self.per_class)


@dataclass(frozen=True, kw_only=True)
class D2:
    """Keeps hard, diverse samples by a graph of nearest neighbours (D2 pruning, Maharana et al. 2024).

    A sample's score is its hardness plus that of its `k` neighbours, with weights exp(-gamma d^2) of the distance d of
    L2-normalised features; picking a sample lowers the scores of its neighbours. Departures: edges are directed (in the
    paper: undirected); weights follow the paper's formula (the authors' code: exp(-d)). Neighbours are looked for
    within random parts of at most `part` rows; hardness is scaled to [0, 1] within the class or part.
    """

    cost: ClassVar[str] = "n^2 d"
    by: str = "forgetting"
    k: int = 10
    gamma: float = 1.0
    part: int = 100_000
    per_class: bool = False

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", ">= 1", self.k)
        require(self.gamma >= 0, "gamma", ">= 0", self.gamma)
        require(self.part >= 1, "part", ">= 1", self.part)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column of hardness that `by` names, and features."""
        return (self.by, "features")

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = scores[self.by]
        propagated = np.full(len(scores), np.nan)

        def pick(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            rows = rng.permutation(rows)
            has_hardness = ~np.isnan(values[rows])
            rows = np.concatenate([rows[has_hardness], rows[~has_hardness]])
            features = read_rows(scores, "features", rows)
            neighbours, distance = find_neighbours(normalise_rows(features), self.k, "d2")
            weight = np.exp(-self.gamma * distance.astype(np.float64) ** 2)
            hardness = min_max_scale(values[rows].astype(np.float64))
            total = hardness + (weight * hardness[neighbours]).sum(1)
            propagated[rows] = total
            n_pickable = int(has_hardness.sum())
            picks = pick_greedily(total, neighbours, weight, min(n, n_pickable), n_pickable)
            # samples without hardness come last, only if the others do not suffice
            return np.concatenate([rows[picks], rows[n_pickable:]])[:n]

        coreset = choose_rows(scores, count, seed, in_parts(pick, self.part, "d2"), per_class=self.per_class)
        _warn_if_unchanged(values, propagated)
        return coreset


def find_neighbours(h: Floats, k: int, name: str) -> tuple[Ints, Floats]:
    """Find the k nearest other rows of each row [n, d], and their distances, both [n, min(k, n - 1)]."""
    available = min(k, len(h) - 1)
    if available < k:
        log.info("%s: %d rows have only %d neighbours, not %d", name, len(h), available, k)
    neighbours = np.zeros((len(h), available), np.int64)
    distance = np.zeros((len(h), available), np.float32)
    search = NearestNeighbors(n_neighbors=available + 1, algorithm="brute").fit(h)
    with progress(f"{name}: neighbours", -(-len(h) // CHUNK)) as bar:
        for (rows,) in in_chunks(np.arange(len(h))):
            distances, indices = search.kneighbors(h[rows])
            is_self = indices == rows[:, None]
            # a row with more duplicates than neighbours may not have found itself: the farthest is dropped instead
            is_self[~is_self.any(1), -1] = True
            neighbours[rows] = indices[~is_self].reshape(len(rows), available)
            distance[rows] = distances[~is_self].reshape(len(rows), available)
            bar.advance()
    return neighbours, distance


def neighbour_divergence(p: Floats, neighbours: Ints) -> Floats:
    """Mean KL(p_neighbour, p_x) over the neighbours [n, k] of each row, [n]; 0 if there are none."""
    log_p = np.log(np.maximum(p, MIN_PROBABILITY))
    negative_entropy = np.einsum("nc,nc->n", np.maximum(p, MIN_PROBABILITY), log_p)  # sum p log p
    divergence = np.zeros(len(p), np.float32)
    for (rows,) in in_chunks(np.arange(len(p))):
        if neighbours.shape[1]:
            mean = np.maximum(p, MIN_PROBABILITY)[neighbours[rows]].mean(1)
            divergence[rows] = negative_entropy[neighbours[rows]].mean(1) - np.einsum("nc,nc->n", mean, log_p[rows])
    return divergence


def min_max_scale(values: np.ndarray) -> np.ndarray:
    """Scale to [0, 1] by minimum and maximum; 0 if all are equal, and for NaN."""
    low, high = (np.nanmin(values), np.nanmax(values)) if not np.isnan(values).all() else (0.0, 0.0)
    return np.nan_to_num((values - low) / ((high - low) or 1.0), nan=0.0)


def pick_greedily(total: np.ndarray, neighbours: Ints, weight: np.ndarray, count: int, n_pickable: int) -> Ints:
    """Repeatedly pick the highest score, and subtract weight times that score from its neighbours' scores.

    Of equal scores the first row is picked.

    Args:
        total: [n] scores.
        neighbours: [n, k] rows.
        weight: [n, k] edge weights.
        count: number of rows to pick.
        n_pickable: only this many of the first rows may be picked.
    """
    total = total.copy()
    picked = np.zeros(len(total), bool)
    heap = [(-score, row) for row, score in enumerate(total[:n_pickable].tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        negative_score, row = heapq.heappop(heap)
        if picked[row] or -negative_score != total[row]:
            continue  # an outdated entry
        picked[row] = True
        chosen.append(row)
        total[neighbours[row]] -= weight[row] * total[row]
        for neighbour in neighbours[row].tolist():
            if neighbour < n_pickable and not picked[neighbour]:
                heapq.heappush(heap, (-float(total[neighbour]), neighbour))
    return np.array(chosen, np.int64)


def _warn_if_unchanged(values: Floats, propagated: np.ndarray) -> None:
    """Warn if the propagated scores rank the samples as the original ones do."""
    known = ~np.isnan(values) & ~np.isnan(propagated)
    if len(np.unique(values[known])) < 2 or len(np.unique(propagated[known])) < 2:
        return
    correlation = float(spearmanr(values[known], propagated[known]).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    if correlation > MAX_RANK_CORRELATION:
        warnings.warn(
            f"d2: the graph has no effect (rank correlation {correlation:.3f} with the hardness itself)",
            EasycoresetWarning,
            stacklevel=4,
        )
