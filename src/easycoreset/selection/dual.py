"""DUAL: draws by difficulty, pulled towards easier samples where much is pruned."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from easycoreset.console import log
from easycoreset.errors import require
from easycoreset.selection.row_selection import choose_rows, sort_rows
from easycoreset.tables import Coreset, Ints, Scores

HARDEST = 10  # samples with the highest score; their mean confidence is mu in `log_weights`
TOTAL = 16.0  # a + b of the beta distribution
SMALL = 1e-6
PUBLISHED_EPOCHS = 60  # the shortest schedule


@dataclass(frozen=True, kw_only=True)
class Dual:
    """Draws without replacement by DUAL's score times a beta density of the mean confidence (Cho et al. 2025).

    The score is that of the first 30 scored epochs (`first`; the authors use 60 for ImageNet). c = 4 is the authors'
    value for CIFAR-100; their values for CIFAR-10 (5.5) and ImageNet (11) are quoted from memory. `sample=false` keeps
    the highest scores. If a scoring run has fewer epochs than `first`, all of them are used.
    """

    cost: ClassVar[str] = "n log n"
    first: int = 30
    c: float = 4.0
    sample: bool = True
    per_class: bool = False

    def __post_init__(self) -> None:
        require(self.first >= 2, "first", ">= 2", self.first)
        require(self.c > 0, "c", "> 0", self.c)

    @property
    def needs(self) -> tuple[str, ...]:
        """The score and the mean error of the same epochs."""
        ending = "" if self.first == 30 else f"_{self.first}"
        return f"dual{ending}", f"mean_error{ending}"

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        score, error = (scores[name] for name in self.needs)
        epochs = scores.provenance.get("options", {}).get("epochs")
        if isinstance(epochs, int) and epochs < PUBLISHED_EPOCHS:
            message = "warning: dual was published for schedules of at least %d epochs; this scoring run has %d"
            log.warning(message, PUBLISHED_EPOCHS, epochs)

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            keys = score[rows].astype(np.float64)
            if self.sample:
                keys = log_weights(keys, 1 - error[rows].astype(np.float64), 1 - n / len(rows), self.c)
                keys = keys + rng.gumbel(
                    size=len(rows)
                )  # Gumbel noise: the highest keys are a draw without replacement
            values = np.full(len(scores), np.nan)
            values[rows] = np.where(np.isfinite(score[rows]), -np.maximum(keys, -np.finfo(np.float64).max), np.nan)
            return sort_rows(values, rows, rng)[:n]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


def log_weights(
    score: npt.NDArray[np.float64], confidence: npt.NDArray[np.float64], pruned: float, c: float
) -> npt.NDArray[np.float64]:
    """Log of score times the density, up to a constant: Beta(a, b) at the mean confidence, b = 15 (1 - mu)(1 - r^c).

    mu is the mean confidence of the 10 samples with the highest score, and a = 16 - b.

    Args:
        score: [n].
        confidence: [n] mean p_y.
        pruned: r, the share that is not kept.
        c: see `Dual`.
    """
    seen = np.flatnonzero(~np.isnan(score))
    hardest = seen[np.argsort(-score[seen], kind="stable")[:HARDEST]]
    mu = float(np.mean(confidence[hardest])) if len(seen) else 0.5
    b = (TOTAL - 1) * (1 - mu) * (1 - pruned**c)
    a = TOTAL - b
    m = np.clip(confidence, SMALL, 1 - SMALL)
    with np.errstate(divide="ignore"):
        return np.log(score) + (a - 1) * np.log(m) + (b - 1) * np.log1p(-m)
