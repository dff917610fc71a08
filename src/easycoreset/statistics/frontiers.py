"""Accuracies of cells as arrays over test images, and gains over random, seed by seed."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Load = Callable[[str], pa.Table]  # cell name -> its outcomes: index, attack, eps, broken


@dataclass(frozen=True)
class Point:
    """One cell at one radius, image by image.

    Attributes:
        method: its spelling.
        budget: in words; budgets sort by `size`.
        size: updates or epochs.
        seed: of the cell.
        clean: [N] 1 where the clean image is right.
        robust: [N] 1 where no attack broke it.
    """

    method: str
    budget: str
    size: int
    seed: int
    clean: Floats
    robust: Floats

    def accuracies(self, weights: Floats | None = None) -> tuple[Any, Any]:
        """(clean, robust) accuracy; with `weights` [R, N] that sum to 1, those of each resample, [R]."""
        if weights is None:
            return self._means
        return weights @ self.clean, weights @ self.robust

    @cached_property
    def _means(self) -> tuple[float, float]:
        return float(self.clean.mean()), float(self.robust.mean())


def load_points(rows: Sequence[dict[str, Any]], eps: float, load: Load) -> list[Point]:
    """The cells of `rows` at one radius; where there were several attacks, an image is broken if any broke it."""
    points: list[Point] = []
    for row in {row["cell"]: row for row in rows}.values():
        table = load(row["cell"])
        index, radius = (table[name].to_numpy() for name in ("index", "eps"))
        broken = table["broken"].to_numpy(zero_copy_only=False)
        clean = table["attack"].to_numpy(zero_copy_only=False) == "clean"
        attacked = ~clean & np.isclose(radius, eps)
        if not attacked.any():
            continue
        images = np.unique(index[attacked])
        fallen = np.zeros(len(images), bool)
        np.logical_or.at(fallen, np.searchsorted(images, index[attacked]), broken[attacked])
        order = np.argsort(index[clean])
        place = order[np.searchsorted(index[clean][order], images)]
        right = ~broken[clean][place]
        size = row["updates"] if row["updates"] is not None else row["epochs"]
        budget = f"{size} {'updates' if row['updates'] is not None else 'epochs'}"
        points.append(Point(row["method"], budget, size, row["seed"], right.astype(float), (~fallen).astype(float)))
    return points


def gain_at_equal_budget(own: Point, random: Sequence[Point], weights: Floats | None = None) -> Any:
    """Robust accuracy above random's at the same budget and seed; None where there is no such cell."""
    other = next((p for p in random if p.seed == own.seed and p.size == own.size), None)
    return None if other is None else own.accuracies(weights)[1] - other.accuracies(weights)[1]


def gain_at_matched_clean(own: Point, random: Sequence[Point], weights: Floats | None = None) -> Any:
    """Robust accuracy above random's frontier of the same seed at the same clean accuracy.

    The frontier is linear between random's budgets, in order of clean accuracy; None outside it. With `weights`, the
    segment stays the one of the whole test set.
    """
    frontier = sorted((p for p in random if p.seed == own.seed), key=lambda p: p.accuracies()[0])
    clean = own.accuracies()[0]
    for low, high in itertools.pairwise(frontier):
        left, right = low.accuracies()[0], high.accuracies()[0]
        if left <= clean <= right and right > left:
            share = (clean - left) / (right - left)
            slope = (high.accuracies()[1] - low.accuracies()[1]) / (right - left)
            (own_c, own_r), (c0, r0), (c1, r1) = (p.accuracies(weights) for p in (own, low, high))
            # to first order in the resample: share and slope stay those of the whole test set
            return own_r - ((1 - share) * r0 + share * r1) - slope * (own_c - ((1 - share) * c0 + share * c1))
    return None


GAINS = {"equal updates": gain_at_equal_budget, "matched clean": gain_at_matched_clean}
