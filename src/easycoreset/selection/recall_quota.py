"""Class quotas by recall: classes that a model gets wrong keep more (DRoP), for any method."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from easycoreset.selection.geometry import read_rows
from easycoreset.selection.row_selection import interleave
from easycoreset.tables import Coreset, Floats, Ints, Scores

Recall = Literal["clean", "robust"]
OPTIONS = ("quota", "recall")  # options that every method takes


@dataclass(frozen=True, kw_only=True)
class RecallQuota:
    """Runs a method within each class, with quotas in proportion to N_k (1 - r_k), at most N_k.

    DRoP (Vysogorets et al. 2025), who draw at random within classes. r_k is the mean of p_y over the first 30 scored
    epochs, as (sum + 0.5) / (n + 1); with `recall=robust` it is the accuracy at the PGD examples that
    `score --save-features adversarial` saves. Departures: both recalls are measured on the scored samples, since a
    scoring run trains on held-out samples too, and the first one over at most 30 epochs.

    Attributes:
        method: the method.
        recall: the kind of recall.
    """

    method: Any
    recall: Recall = "clean"

    @property
    def cost(self) -> str:
        """The cost of the method."""
        return self.method.cost

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns and arrays that the method declares, and the one that gives the recall."""
        own = getattr(self.method, "needs", None)
        extra = "mean_error" if self.recall == "clean" else "probabilities_adv"
        names = () if own is None else (own,) if isinstance(own, str) else own
        return tuple(dict.fromkeys([*names, extra]))

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        rng = np.random.default_rng(seed)
        sizes = np.bincount(scores.labels)
        quotas = recall_quotas(sizes, self._recalls(scores, sizes), count, rng)
        weight = np.ones(len(scores), np.float32)
        resolve = getattr(self.method, "resolve", None)  # some defaults depend on the share that is kept of all samples
        method = self.method if resolve is None else resolve(scores, count)
        orders: list[Ints] = []
        for label in np.flatnonzero(quotas):
            rows = np.flatnonzero(scores.labels == label).astype(np.int64)
            chosen = method(scores.take_rows(rows), int(quotas[label]), seed)
            order = np.argsort(np.where(chosen.keep, chosen.rank, len(rows)), kind="stable")[: len(chosen)]
            if np.ptp(chosen.weight[order]) > 0:  # weights that count samples: each class has mean 1, so rescale them
                weight[rows[order]] = chosen.weight[order] * len(rows) / len(order)
            orders.append(rows[order])
        rows = interleave(orders, rng)
        return Coreset.from_order(rows, scores, weight[rows])

    def _recalls(self, scores: Scores, sizes: Ints) -> npt.NDArray[np.float64]:
        """The recall of each class."""
        if self.recall == "clean":
            hits: Floats = 1 - scores["mean_error"]
        else:
            rows = np.arange(len(scores), dtype=np.int64)
            hits = (read_rows(scores, "probabilities_adv", rows).argmax(1) == scores.labels).astype(np.float32)
        seen = np.isfinite(hits)
        sums = np.bincount(scores.labels[seen], hits[seen], len(sizes))
        return (sums + 0.5) / (np.bincount(scores.labels[seen], minlength=len(sizes)) + 1)


def recall_quotas(sizes: Ints, recalls: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> Ints:
    """Divide `count` in proportion to size * (1 - recall), at most the size, by largest remainder; ties seeded.

    >>> recall_quotas(np.array([10, 10]), np.array([0.5, 0.75]), 9, np.random.default_rng(0)).tolist()
    [6, 3]
    >>> recall_quotas(np.array([4, 10, 10]), np.array([0.0, 0.9, 0.9]), 12, np.random.default_rng(0)).tolist()
    [4, 4, 4]
    """
    quotas = np.zeros(len(sizes), np.float64)
    free = sizes > 0
    demand = sizes * np.maximum(1 - recalls, 1e-12)
    while free.any():
        left = count - quotas[~free].sum()
        quotas[free] = left * demand[free] / demand[free].sum()
        over = free & (quotas > sizes)
        if not over.any():
            break
        quotas[over] = sizes[over]
        free &= ~over
    whole = np.floor(quotas + 1e-9).astype(np.int64)
    seeded = rng.permutation(len(sizes))
    by_remainder = seeded[np.argsort(-np.where(whole < sizes, quotas - whole, -1)[seeded], kind="stable")]
    whole[by_remainder[: count - int(whole.sum())]] += 1
    return whole
