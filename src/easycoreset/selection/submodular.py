"""Greedy maximisation of submodular functions: facility location, graph cut, and CRAIG's weighted gradients."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from easycoreset.errors import require
from easycoreset.progress import progress
from easycoreset.selection.geometry import GradientSum, gradient_arrays, read_gradients, read_rows, squared_distances
from easycoreset.selection.row_selection import choose_rows, in_parts, no_progress, require_classes
from easycoreset.tables import Coreset, Floats, Ints, Scores


@dataclass(frozen=True, kw_only=True)
class Facility:
    """Facility location: every sample of the class should be near a kept one (Iyer et al. 2021).

    Lazy greedy, within (1 - 1/e) of the optimum; similarity is the class's largest feature distance minus the
    distance. A class of more than `part` rows is split at random, which bounds the n x n table.
    """

    needs: ClassVar[tuple[str, ...]] = ("features",)
    cost: ClassVar[str] = "n d n/classes"
    part: int = 10_000
    per_class: bool = True

    def __post_init__(self) -> None:
        require_classes("facility", self.per_class)
        require(self.part >= 1, "part", ">= 1", self.part)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        with progress("facility", count) as bar:

            def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
                rows = rng.permutation(rows)
                h = read_rows(scores, "features", rows)
                h -= h.mean(0, dtype=np.float64).astype(np.float32)
                return rows[maximise_coverage(to_similarity(squared_distances(h, h)), n, bar.advance)]

            return choose_rows(scores, count, seed, in_parts(order, self.part, "facility"), per_class=True)


@dataclass(frozen=True, kw_only=True)
class GraphCut:
    """Graph cut: samples near to all of the class and far from those already kept (Iyer et al. 2021).

    Greedy on sum_{i in V, j in S} s_ij - lam * sum_{i, j in S} s_ij with s = (1 + cos) / 2 of features; within
    (1 - 1/e) of the optimum for lam <= 0.5, where it is monotone. The count is reached even if gains are negative. More
    than `part` rows of a class are split at random.
    """

    needs: ClassVar[tuple[str, ...]] = ("features",)
    cost: ClassVar[str] = "count d n/classes"
    lam: float = 0.5
    part: int = 100_000
    per_class: bool = True

    def __post_init__(self) -> None:
        require_classes("graphcut", self.per_class)
        require(self.part >= 1, "part", ">= 1", self.part)
        require(self.lam >= 0, "lam", ">= 0", self.lam)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        with progress("graphcut", count) as bar:

            def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
                rows = rng.permutation(rows)
                return rows[cut_graph(read_rows(scores, "features", rows), n, self.lam, bar.advance)]

            return choose_rows(scores, count, seed, in_parts(order, self.part, "graphcut"), per_class=True)


@dataclass(frozen=True, kw_only=True)
class CRAIG:
    """Facility location on last-layer gradients; a kept sample's weight is the number of samples that it represents.

    Mirzasoleiman et al. 2020, whose code takes p - 1_y alone; here (p - 1_y) x (h, 1). Train with the weights.
    `gradients=adversarial` uses PGD examples (Dolatabadi et al. 2022).
    """

    cost: ClassVar[str] = "n d n/classes"
    gradients: Literal["clean", "adversarial"] = "clean"
    part: int = 10_000
    per_class: bool = True

    def __post_init__(self) -> None:
        require_classes("craig", self.per_class)
        require(self.part >= 1, "part", ">= 1", self.part)

    @property
    def needs(self) -> tuple[str, ...]:
        """The arrays needed for the gradients."""
        return gradient_arrays(self.gradients)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        weight = np.ones(len(scores), np.float32)
        with progress("craig", count) as bar:

            def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
                rows = rng.permutation(rows)
                gradients = read_gradients(scores, rows, adversarial=self.gradients == "adversarial")
                similarity = to_similarity(GradientSum((gradients,)).pair_distances())
                chosen = maximise_coverage(similarity, n, bar.advance)
                weight[rows[chosen]] = cluster_sizes(similarity, chosen)
                return rows[chosen]

            order_in_parts = in_parts(order, self.part, "craig")
            return choose_rows(scores, count, seed, order_in_parts, per_class=True, weight=weight)


def to_similarity(squared: Floats) -> Floats:
    """Turn squared distances into similarities, in place: largest distance minus distance."""
    distance = np.sqrt(squared, out=squared)
    return np.subtract(distance.max(initial=0), distance, out=distance)


def maximise_coverage(similarity: Floats, count: int, tick: Callable[[], None] = no_progress) -> Ints:
    """Lazy greedy maximisation of sum_i max_{j kept} s_ij (Minoux 1978); of equal gains the first row wins.

    Args:
        similarity: [n, n], symmetric, >= 0.
        count: number of rows to choose.
        tick: progress callback, called for each choice.
    """
    best = np.zeros(len(similarity), np.float32)
    heap = [(-gain, row, 0) for row, gain in enumerate(similarity.sum(0, dtype=np.float64).tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, row, computed_at = heap[0]  # computed_at: number of rows chosen when the gain was computed
        if computed_at == len(chosen):
            heapq.heappop(heap)
            chosen.append(row)
            np.maximum(best, similarity[row], out=best)
            tick()
        else:
            gain = float(np.maximum(similarity[row] - best, 0).sum(dtype=np.float64))
            heapq.heapreplace(heap, (-gain, row, len(chosen)))
    return np.array(chosen, np.int64)


def cluster_sizes(similarity: Floats, chosen: Ints) -> Floats:
    """The number of rows that each chosen row represents; each row counts for its nearest chosen row."""
    nearest = np.argmax(similarity[:, chosen], 1)
    nearest[chosen] = np.arange(len(chosen))
    return np.bincount(nearest, minlength=len(chosen)).astype(np.float32)


def cut_graph(h: Floats, count: int, lam: float, tick: Callable[[], None] = no_progress) -> Ints:
    """Greedy maximisation of the graph cut of rows [n, d]; of equal gains the first row wins.

    In float64, since cosines of features with a large mean differ only in their last digits.
    """
    unit = h.astype(np.float64)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit /= np.where(norms > 0, norms, 1)
    gains = (len(unit) + unit @ unit.sum(0)) / 2 - lam * (1 + np.einsum("nd,nd->n", unit, unit)) / 2
    chosen = np.zeros(count, np.int64)
    for step in range(count):
        row = chosen[step] = int(gains.argmax())
        gains -= lam * (1 + unit @ unit[row])
        gains[row] = -np.inf
        tick()
    return chosen
