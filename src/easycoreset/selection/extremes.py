"""The easy end, the hard end and the middle of one hardness: EasyCore and its controls."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.console import log
from easycoreset.errors import require
from easycoreset.selection.row_selection import ColumnSelector, choose_rows, require_classes, sort_rows
from easycoreset.tables import Coreset, Ints, Scores


@dataclass(frozen=True, kw_only=True)
class EasyCore:
    """Keeps the samples of the lowest AIGN (EasyCore, arXiv 2510.11018).

    Over the whole set, as in the paper, unless `per_class`. If the table has only `aign_online`, that is used
    and logged.
    """

    needs: ClassVar[tuple[str, ...]] = ("aign",)
    cost: ClassVar[str] = "n log n"
    per_class: bool = False

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        by = "aign"
        if "aign" not in scores.columns and "aign_online" in scores.columns:
            by = "aign_online"
            log.info("easycore: the scores have no exact aign; aign_online is used, which is another quantity")
        return Easiest(by=by, per_class=self.per_class)(scores, count, seed)


@dataclass(frozen=True, kw_only=True)
class Easiest(ColumnSelector):
    """Keeps the lowest values of a hardness (a control, to test whether AIGN does better than other hardnesses)."""

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = scores[self.by]
        return choose_rows(
            scores, count, seed, lambda rows, n, rng: sort_rows(values, rows, rng)[:n], per_class=self.per_class
        )


@dataclass(frozen=True, kw_only=True)
class Hardest(ColumnSelector):
    """Keeps the highest values of a hardness; never observed samples come last."""

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = -scores[self.by]
        return choose_rows(
            scores, count, seed, lambda rows, n, rng: sort_rows(values, rows, rng)[:n], per_class=self.per_class
        )


@dataclass(frozen=True, kw_only=True)
class Middle(ColumnSelector):
    """Keeps the middle of a hardness: of n observed samples those ranked from floor((n - count) / 2) on."""

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = scores[self.by]

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            ordered = sort_rows(values, rows, rng)
            observed = int(np.sum(~np.isnan(values[rows])))
            positions = middle_out(observed)
            return ordered[np.concatenate([positions, np.arange(observed, len(rows))])][:n]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


@dataclass(frozen=True, kw_only=True)
class SLoCurves:
    """Keeps the lowest input loss curvature within each class (SLo-curves, Garg & Roy 2023).

    EasyCore's nearest relative. A departure: selection only, without their regulariser.
    """

    needs: ClassVar[tuple[str, ...]] = ("curvature",)
    cost: ClassVar[str] = "n log n"
    per_class: bool = True

    def __post_init__(self) -> None:
        require_classes("slocurves", self.per_class)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        return Easiest(by="curvature", per_class=True)(scores, count, seed)


@dataclass(frozen=True, kw_only=True)
class DoubleEnd(ColumnSelector):
    """Drops the hardest share `beta`, then keeps the hardest of the rest (ELFS, Zheng et al. 2025)."""

    beta: float

    def __post_init__(self) -> None:
        require(0 <= self.beta < 1, "beta", "in [0, 1)", self.beta)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = -scores[self.by]

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            ordered = sort_rows(values, rows, rng)
            observed = int(np.sum(~np.isnan(values[rows])))
            dropped = int(np.floor(self.beta * observed))
            rule = f"at most {max(0.0, 1 - n / max(observed, 1)):.4g}, so that {n} of {observed} samples remain"
            require(observed - dropped >= n or n > observed, "beta", rule, self.beta)
            rest = np.concatenate([ordered[dropped:observed], ordered[observed:], ordered[:dropped]])
            return rest[:n]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


def middle_out(n: int) -> Ints:
    """The positions 0..n-1 from the middle outwards: the first k are those from floor((n - k) / 2) on, for every k.

    >>> middle_out(5).tolist()
    [2, 1, 3, 0, 4]
    """
    k = np.arange(1, n + 1)
    start = (n - k) // 2
    return np.where((n - k) % 2 == 0, start + k - 1, start)
