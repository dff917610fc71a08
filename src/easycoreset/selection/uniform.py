"""The basic baseline: a uniform draw."""

from dataclasses import dataclass
from typing import ClassVar

from easycoreset.selection.row_selection import choose_rows
from easycoreset.tables import Coreset, Scores


@dataclass(frozen=True, kw_only=True)
class Random:
    """Keeps a uniform draw without replacement."""

    needs: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[str] = "n"
    per_class: bool = False

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        return choose_rows(
            scores, count, seed, lambda rows, n, rng: rng.permutation(rows)[:n], per_class=self.per_class
        )
