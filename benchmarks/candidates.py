"""Candidates of the search for something better than EasyCore, as users' methods (`benchmarks.candidates:NAME`).

They are tried by `compare --recipe benchmarks/search.yaml` on samples that are held out of the training split. The
static ones read any table of scores; the dynamic ones read the scores of CIFAR-10 that come with the package, because
a dynamic method is given present values alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import rankdata

from easycoreset.dynamic import EpochChoice, EpochState
from easycoreset.errors import require
from easycoreset.selection.extremes import Easiest
from easycoreset.selection.row_selection import choose_rows, class_quotas, sort_rows
from easycoreset.selection.submodular import Facility
from easycoreset.tables import Coreset, Floats, Scores, kept_count
from easycoreset.tables.holdout import hold_out

DATA = "cifar10"
VAL_FRACTION = 0.1
COLUMNS = ("aign", "loss", "el2n", "aum", "forgetting", "uncertainty")
BINS = 50  # of equal count, within which samples have about the same loss


def rank_shares(values: Floats) -> Floats:
    """Ranks of values from 0, the easiest, to 1; ties share their mean, and NaN is hardest."""
    return (rankdata(np.nan_to_num(values, nan=np.inf)) - 1) / (len(values) - 1)


@dataclass(frozen=True, kw_only=True)
class MeanRank:
    """Easiest by the mean rank of six measures: what they agree on is less noisy than each of them."""

    needs: ClassVar[tuple[str, ...]] = COLUMNS

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        mean = np.mean([rank_shares(scores[name]) for name in COLUMNS], axis=0)
        return choose_rows(scores, count, seed, lambda rows, n, rng: sort_rows(mean, rows, rng)[:n], per_class=False)


@dataclass(frozen=True, kw_only=True)
class WithoutEasiest:
    """The easiest without the very easiest, which may teach nothing."""

    by: str = "loss"
    skip: float = 0.1

    @property
    def needs(self) -> tuple[str, ...]:
        """The column that it ranks by."""
        return (self.by,)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        first = round(self.skip * len(scores))
        require(first + count <= len(scores), "skip", "at most 1 minus the fraction", self.skip)
        values = scores[self.by]
        return choose_rows(
            scores, count, seed, lambda rows, n, rng: sort_rows(values, rows, rng)[first : first + n], per_class=False
        )


@dataclass(frozen=True, kw_only=True)
class PartlyBalanced:
    """The easiest within classes, by quotas between the class's share and what the easiest over all come to."""

    by: str = "loss"
    balance: float = 0.5

    @property
    def needs(self) -> tuple[str, ...]:
        """The column that it ranks by."""
        return (self.by,)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        rng = np.random.default_rng(seed)
        sizes, unbalanced = Easiest(by=self.by)(scores, count, seed).class_counts()
        weights = self.balance * count * sizes / sizes.sum() + (1 - self.balance) * unbalanced
        quotas = class_quotas(np.round(1e6 * weights).astype(np.int64), count, rng)
        ordered = [
            sort_rows(scores[self.by], np.flatnonzero(scores.labels == k).astype(np.int64), rng)[:quota]
            for k, quota in enumerate(quotas)
        ]
        return Coreset.from_order(np.concatenate(ordered), scores)


@dataclass(frozen=True, kw_only=True)
class SmoothForItsLoss:
    """The lowest AIGN among samples of the same loss: what AIGN knows beyond the loss."""

    needs: ClassVar[tuple[str, ...]] = ("aign", "loss")

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        order = np.argsort(scores["loss"], kind="stable")
        within = np.empty(len(scores))
        for rows in np.array_split(order, BINS):
            within[rows] = rank_shares(scores["aign"][rows])
        return choose_rows(scores, count, seed, lambda rows, n, rng: sort_rows(within, rows, rng)[:n], per_class=False)


@dataclass(frozen=True, kw_only=True)
class SpreadEasy:
    """Facility location among the easier `part` of the samples: easy, but not copies of each other."""

    needs: ClassVar[tuple[str, ...]] = ("loss", "features")
    part: float = 0.7

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        easy = Easiest(by="loss")(scores, kept_count(self.part, len(scores)), seed).index
        require(count <= len(easy), "part", "at least the fraction", self.part)
        return Facility()(scores.take_rows(easy), count, seed).to_full_table(easy, scores)


def pool_ranks(state: EpochState, by: str) -> Floats:
    """Rank of each row of the pool by a published column, from 0, the easiest, to 1.

    Raises:
        UsageError: the pool is neither the training split nor what `val_fraction` leaves of it.
    """
    scores = Scores.published(DATA)
    rows = np.arange(len(scores))
    if len(state.labels) < len(rows):
        rows = hold_out(scores.labels, VAL_FRACTION)[0]
    same = np.array_equal(scores.labels[rows], state.labels)
    require(same, "data", f"{DATA}, all of it or without val_fraction {VAL_FRACTION}", f"{len(state.labels)} samples")
    return rank_shares(scores[by][rows])


@dataclass(frozen=True, kw_only=True)
class SoftDraw:
    """A draw for each epoch, whose probability falls with hardness to `lowest` of the easiest's: none is lost."""

    takes_fraction: ClassVar[bool] = True
    has_weights: ClassVar[bool] = False
    by: str = "loss"
    lowest: float = 0.1

    def __call__(self, state: EpochState) -> EpochChoice:
        ranks = pool_ranks(state, self.by)
        weight = 1 - (1 - self.lowest) * ranks
        keys = state.rng(state.epoch).exponential(size=len(weight)) / weight  # the smallest are a draw by weight
        return EpochChoice(np.sort(np.argsort(keys)[: state.count]).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class LighterHard:
    """All data, the weight falling with hardness to `lowest` of the easiest's."""

    takes_fraction: ClassVar[bool] = False
    has_weights: ClassVar[bool] = True
    by: str = "loss"
    lowest: float = 0.1

    def __call__(self, state: EpochState) -> EpochChoice:
        weight = 1 - (1 - self.lowest) * pool_ranks(state, self.by)
        return EpochChoice(state.everything.rows, (weight / weight.mean()).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class EasyPart:
    """All data for a part of the budget and the easiest for the rest: `easy` says which comes last."""

    takes_fraction: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False
    by: str = "loss"
    easy: str = "last"
    part: float = 0.5
    share: float = 0.5

    def __post_init__(self) -> None:
        require(self.easy in ("first", "last"), "easy", "first or last", self.easy)

    def __call__(self, state: EpochState) -> EpochChoice:
        is_easy = state.progress < self.part if self.easy == "first" else state.progress >= 1 - self.part
        if not is_easy:
            return state.everything
        count = round(self.share * len(state.labels))
        order = np.argsort(pool_ranks(state, self.by), kind="stable")
        return EpochChoice(np.sort(order[:count]).astype(np.int64))
