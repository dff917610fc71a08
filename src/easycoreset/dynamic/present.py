"""Methods that rank all rows by a present value: the easiest of now, and a share that grows or shrinks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from easycoreset.dynamic import LOSS, EpochChoice, EpochState
from easycoreset.errors import require
from easycoreset.selection.row_selection import class_quotas, sort_rows
from easycoreset.tables import Floats, Ints, kept_count


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Base of methods that rank all rows by present values; a pass measures them in epoch 1 and every `every` epochs.

    Without passes, rows that are not trained on would keep their old values, and the first choice would never change.
    """

    refreshes: ClassVar[bool] = True
    by: str = LOSS
    every: int = 1
    refresh: Literal["objective", "clean"] = "objective"
    per_class: bool = False

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", ">= 1", self.every)
        is_loss = self.by == LOSS
        require(is_loss or self.refresh == "objective", "refresh", f"left out with by={self.by}", self.refresh)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that rows are ranked by."""
        return (self.by,)

    def rank(self, state: EpochState, name: str, pick: Callable[[Floats, Ints, int], Ints], count: int) -> EpochChoice:
        """Choose `count` rows, or a quota within each class, by `pick(values, rows, count)`."""
        clean = self.refresh == "clean"
        values = state.values(self.by)
        if clean:  # losses from training are not clean ones: use those of the last pass
            before = None if state.previous is None else state.previous.values
            values = np.full_like(values, np.nan) if before is None else before
        if (state.epoch - 1) % self.every == 0:
            new = state.require_passes(name).refresh(self.by, clean)
            values = np.where(np.isfinite(new), new, values)
        kept = values if clean else None
        rows = np.arange(len(values), dtype=np.int64)
        if not self.per_class:
            return EpochChoice(pick(values, rows, count), values=kept)
        quotas = class_quotas(np.bincount(state.labels), count, state.rng())
        chosen = [pick(values, rows[state.labels == k], int(quota)) for k, quota in enumerate(quotas)]
        return EpochChoice(np.concatenate(chosen), values=kept)


@dataclass(frozen=True, kw_only=True)
class EasiestNow(Ranking):
    """The rows of lowest present loss; with `end=hard` of the highest.

    `by` is any recorded column. Class balance (`per_class`) is advised: early in training, the easiest rows come from
    few classes.
    """

    takes_fraction: ClassVar[bool] = True
    has_weights: ClassVar[bool] = False
    end: Literal["easy", "hard"] = "easy"

    def __call__(self, state: EpochState) -> EpochChoice:
        sign = 1 if self.end == "easy" else -1
        return self.rank(state, "easiest-now", lowest(state, sign), state.count)


@dataclass(frozen=True, kw_only=True)
class SelfPaced(Ranking):
    """The easiest share, which grows from `start` to 1 within the share `full` of the budget (Kumar et al. 2010).

    The paper relaxes a threshold of the loss; here the share is set. `reverse` begins with all rows and ends with the
    easiest share `start`.
    """

    takes_fraction: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False
    start: float = 0.5
    full: float = 0.5
    reverse: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.start <= 1, "start", "in (0, 1]", self.start)
        require(0 < self.full <= 1, "full", "in (0, 1]", self.full)

    def __call__(self, state: EpochState) -> EpochChoice:
        grown = min(1.0, state.progress / self.full)
        share = 1 - (1 - self.start) * grown if self.reverse else self.start + (1 - self.start) * grown
        return self.rank(state, "self-paced", lowest(state, 1), kept_count(share, len(state.labels)))


def lowest(state: EpochState, sign: int) -> Callable[[Floats, Ints, int], Ints]:
    """Pick the lowest values times `sign`, NaN last, ties in seeded order."""
    return lambda values, rows, count: sort_rows(sign * values, rows, state.rng(state.epoch))[:count]
