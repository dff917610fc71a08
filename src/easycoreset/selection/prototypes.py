"""Prototypes: the samples farthest from their k-means centres."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (scikit-learn carries no types)

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from sklearn.cluster import KMeans

from easycoreset.selection.geometry import read_rows, squared_norms
from easycoreset.selection.row_selection import choose_rows, sort_rows
from easycoreset.tables import Coreset, Floats, Ints, Scores


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Keeps the samples farthest from their k-means centre (Sorscher et al. 2022); `end=easy` keeps the nearest.

    scikit-learn's KMeans, 10 starts, as many clusters as classes, one per class with `per_class`. A departure: features
    are those of the scored model; the paper's are self-supervised.
    """

    needs: ClassVar[tuple[str, ...]] = ("features",)
    cost: ClassVar[str] = "n d classes, times the rounds of 10 k-means"
    end: Literal["hard", "easy"] = "hard"
    per_class: bool = False

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = np.zeros(len(scores), np.float32)

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            clusters = len(np.unique(scores.labels[rows]))
            distance = distance_to_centre(read_rows(scores, "features", rows), clusters, seed)
            values[rows] = distance if self.end == "easy" else -distance
            return sort_rows(values, rows, rng)[:n]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


def distance_to_centre(h: Floats, clusters: int, seed: int) -> Floats:
    """Distance of each row [n, d] to the centre of its k-means cluster, [n]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters
        kmeans = KMeans(clusters, n_init=10, random_state=seed).fit(h)  # pyright: ignore[reportArgumentType]
    return np.sqrt(squared_norms(h - kmeans.cluster_centers_[kmeans.labels_].astype(np.float32)))
