"""Methods that ask the nearest neighbours in feature space: CAL and D2 pruning."""

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

from easycoreset.console import log, progress
from easycoreset.errors import EasycoresetWarning, require
from easycoreset.selection.classes import choose_rows, in_parts, sort_rows
from easycoreset.selection.geometry import CHUNK, in_chunks, read_rows, unit_rows
from easycoreset.tables import Coreset, Floats, Ints, Scores

LEAST = 1e-12  # probabilities are clipped there
SAME = 0.99  # rank correlation above which a graph has changed nothing


@dataclass(frozen=True, kw_only=True)
class CAL:
    """Keeps the samples that differ most in prediction from their neighbours in feature space (Margatina et al. 2021).

    The highest mean KL(p_neighbour, p_x) over `k` neighbours; some libraries keep the lowest, which is another method.
    More than `part` rows are cut at random.
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

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            rows = rng.permutation(rows)
            near, _ = find_neighbours(read_rows(scores, "features", rows), self.k, "cal")
            values[rows] = -contrast(read_rows(scores, "probabilities", rows), near)
            return sort_rows(values, rows, rng)[:n]

        return choose_rows(scores, count, seed, in_parts(order, self.part, "cal"), per_class=self.per_class)


@dataclass(frozen=True, kw_only=True)
class D2:
    """Hard samples, spread out: hardness passes along a graph of neighbours, and a pick lowers its own (D2 pruning).

    Maharana et al. 2024. Features L2-normalised, weights exp(-gamma d^2) to `k` neighbours. Departures: directed edges
    (theirs are undirected); their code uses exp(-d). More than `part` rows are cut at random; hardness is brought to
    [0, 1] within the class or part.
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
        """Its column, and features."""
        return (self.by, "features")

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = scores[self.by]
        passed = np.full(len(scores), np.nan)

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            rows = rng.permutation(rows)
            observed = ~np.isnan(values[rows])
            rows = np.concatenate([rows[observed], rows[~observed]])
            h = read_rows(scores, "features", rows)
            near, distance = find_neighbours(unit_rows(h), self.k, "d2")
            weight = np.exp(-self.gamma * distance.astype(np.float64) ** 2)
            hardness = to_unit(values[rows].astype(np.float64))
            total = hardness + (weight * hardness[near]).sum(1)
            passed[rows] = total
            seen = int(observed.sum())
            picks = pick_and_lower(total, near, weight, min(n, seen), seen)
            return np.concatenate([rows[picks], rows[seen:]])[:n]

        coreset = choose_rows(scores, count, seed, in_parts(order, self.part, "d2"), per_class=self.per_class)
        _warn_if_nothing_passed(values, passed)
        return coreset


def find_neighbours(h: Floats, k: int, name: str) -> tuple[Ints, Floats]:
    """The k nearest other rows of each row [n, d] and their distances, both [n, min(k, n - 1)]; scikit-learn's."""
    most = min(k, len(h) - 1)
    if most < k:
        log.info("%s: %d rows have only %d neighbours, not %d", name, len(h), most, k)
    near = np.zeros((len(h), most), np.int64)
    distance = np.zeros((len(h), most), np.float32)
    search = NearestNeighbors(n_neighbors=most + 1, algorithm="brute").fit(h)
    with progress(f"{name}: neighbours", -(-len(h) // CHUNK)) as bar:
        for (rows,) in in_chunks(np.arange(len(h))):
            found, places = search.kneighbors(h[rows])
            own = places == rows[:, None]
            own[~own.any(1), -1] = True  # among more equal rows than neighbours: itself is not there, one too many is
            near[rows] = places[~own].reshape(len(rows), most)
            distance[rows] = found[~own].reshape(len(rows), most)
            bar.advance()
    return near, distance


def contrast(p: Floats, near: Ints) -> Floats:
    """Mean KL(p_neighbour, p_x) over the neighbours [n, k] of each row, [n]; 0 where there are none."""
    log_p = np.log(np.maximum(p, LEAST))
    own = np.einsum("nc,nc->n", np.maximum(p, LEAST), log_p)  # sum p log p
    found = np.zeros(len(p), np.float32)
    for (rows,) in in_chunks(np.arange(len(p))):
        if near.shape[1]:
            mean = np.maximum(p, LEAST)[near[rows]].mean(1)
            found[rows] = own[near[rows]].mean(1) - np.einsum("nc,nc->n", mean, log_p[rows])
    return found


def to_unit(values: np.ndarray) -> np.ndarray:
    """Min-max to [0, 1]; 0 where all are equal, and for NaN."""
    low, high = (np.nanmin(values), np.nanmax(values)) if not np.isnan(values).all() else (0.0, 0.0)
    return np.nan_to_num((values - low) / ((high - low) or 1.0), nan=0.0)


def pick_and_lower(total: np.ndarray, near: Ints, weight: np.ndarray, count: int, observed: int) -> Ints:
    """Pick the highest, lower its neighbours by weight times its score, and so on; the first of equal ones first.

    Args:
        total: [n].
        near: [n, k].
        weight: [n, k].
        count: how many.
        observed: so many of the first rows may be picked.
    """
    total = total.copy()
    picked = np.zeros(len(total), bool)
    heap = [(-score, row) for row, score in enumerate(total[:observed].tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        score, row = heapq.heappop(heap)
        if picked[row] or -score != total[row]:
            continue  # an old entry
        picked[row] = True
        chosen.append(row)
        total[near[row]] -= weight[row] * total[row]
        for other in near[row].tolist():
            if other < observed and not picked[other]:
                heapq.heappush(heap, (-float(total[other]), other))
    return np.array(chosen, np.int64)


def _warn_if_nothing_passed(values: Floats, passed: np.ndarray) -> None:
    """Say so where the scores rank after the passing as they did before it."""
    known = ~np.isnan(values) & ~np.isnan(passed)
    if len(np.unique(values[known])) < 2 or len(np.unique(passed[known])) < 2:
        return
    rank = float(spearmanr(values[known], passed[known]).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    if rank > SAME:
        warnings.warn(
            f"d2: the graph changed nothing (rank correlation {rank:.3f} with the hardness itself)",
            EasycoresetWarning,
            stacklevel=4,
        )
