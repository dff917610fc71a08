"""Moderate coresets: samples whose distance to the class mean is near its median."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.selection.geometry import read_rows, squared_norms
from easycoreset.selection.row_selection import choose_rows, sort_rows
from easycoreset.tables import Coreset, Ints, Scores


@dataclass(frozen=True, kw_only=True)
class Moderate:
    """Keeps the samples whose distance to their class mean is nearest to the class's median distance.

    Xia et al. 2023. A departure: they use the median over all classes together, and their code uses the vector of
    medians as the centre. Distances are Euclidean, between features.
    """

    needs: ClassVar[tuple[str, ...]] = ("features",)
    cost: ClassVar[str] = "n d"
    per_class: bool = False

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        deviation = np.zeros(len(scores), np.float32)
        for k in np.unique(scores.labels):
            rows = np.flatnonzero(scores.labels == k)
            h = read_rows(scores, "features", rows)
            distance = np.sqrt(squared_norms(h - h.mean(0, dtype=np.float64).astype(np.float32)))
            deviation[rows] = np.abs(distance - np.median(distance))

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            return sort_rows(deviation, rows, rng)[:n]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)
