"""Coverage of the hardness range: equal shares of its strata (CCS, and strata of equal count)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from easycoreset.console import log
from easycoreset.errors import UsageError, require
from easycoreset.selection.row_selection import ColumnSelector, choose_rows, interleave, sort_rows
from easycoreset.tables import Coreset, Ints, Scores

STRATA = 50
BOUNDS = (0.6, 0.4, 0.25, 0.15, 0.0)  # between the published shares 70, 50, 30, 20 and 10%
BETAS = {
    "cifar10": (0.0, 0.0, 0.1, 0.1, 0.3),
    "cifar100": (0.1, 0.2, 0.2, 0.4, 0.5),
    "imagenet": (0.0, 0.1, 0.2, 0.2, 0.3),
}


@dataclass(frozen=True, kw_only=True)
class CCS:
    """Drops the hardest share beta, then keeps equal shares of strata of equal width (Zheng et al. 2023).

    Strata of the hardness `by` (AUM, as in the paper); the quota that a small one cannot fill goes to larger ones.
    `beta` defaults to the paper's cutoff at the nearest published share, for CIFAR-100 and ImageNet; all other data
    sets use that for CIFAR-10. The paper's cutoffs are for AUM, and are used for any `by`; only that of CIFAR-10 at 10%
    was verified. Departures: the last stratum is closed (the authors' `max * 1.0001` loses the hardest row if hardness
    is negative); samples that were never observed belong to no stratum.
    """

    version: ClassVar[int] = 2
    cost: ClassVar[str] = "n log n"
    by: str = "aum"
    beta: float | None = None
    per_class: bool = False

    def __post_init__(self) -> None:
        require(self.beta is None or 0 <= self.beta < 1, "beta", "in [0, 1)", self.beta)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def resolve(self, scores: Scores, count: int) -> "CCS":
        """A copy for use within each class, with the beta for the share that is kept of all samples."""
        return replace(self, beta=self._choose_beta(scores, count), per_class=True)

    def _choose_beta(self, scores: Scores, count: int) -> float:
        if self.beta is not None:
            return self.beta
        published, beta = choose_beta(count / len(scores), str(scores.provenance.get("data", "")))
        log.info("ccs: the hardest %.0f%% are dropped first (beta=%g, of %s)", 100 * beta, beta, published)
        return beta

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = scores[self.by]
        beta = self._choose_beta(scores, count)
        observed = int(np.sum(~np.isnan(values)))
        remaining = observed - int(np.floor(beta * observed))
        if remaining < count <= observed:
            raise UsageError(f"ccs: beta={beta:g} leaves {remaining} samples, fewer than the {count} to be kept")

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            ordered = sort_rows(values, rows, rng)
            n_observed = int(np.sum(~np.isnan(values[rows])))
            kept = n_observed - int(np.floor(beta * n_observed))
            pool = ordered[:kept]
            k = min(STRATA, n)
            chosen = draw_strata(equal_width(values[pool].astype(np.float64), k), k, min(n, kept), rng)
            return np.concatenate([pool[chosen], ordered[kept:]])[:n]  # a small class takes dropped rows back

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


@dataclass(frozen=True, kw_only=True)
class Stratified(ColumnSelector):
    """Keeps equal shares of 50 strata of equal count of a hardness (a control, which covers the whole range)."""

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        values = scores[self.by]

        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            ordered = sort_rows(values, rows, rng)
            n_observed = int(np.sum(~np.isnan(values[rows])))
            k = min(STRATA, n)
            strata = np.concatenate([np.full(len(s), i) for i, s in enumerate(np.array_split(ordered[:n_observed], k))])
            chosen = draw_strata(strata.astype(np.int64), k, min(n, n_observed), rng)
            return np.concatenate([ordered[chosen], ordered[n_observed:]])[:n]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


def choose_beta(fraction: float, data: str) -> tuple[str, float]:
    """The data set whose beta is taken, and the paper's beta at the published share nearest to `fraction`.

    >>> choose_beta(0.3, "cifar100:data"), choose_beta(0.5, "photos"), choose_beta(0.1, "cifar10")
    (('cifar100', 0.2), ('cifar10', 0.0), ('cifar10', 0.3))
    """
    name = data.lower().replace("-", "")
    known = next((published for published in ("cifar100", "imagenet") if published in name), "cifar10")
    return known, next(beta for bound, beta in zip(BOUNDS, BETAS[known], strict=True) if fraction >= bound)


def equal_width(values: np.ndarray, strata: int) -> Ints:
    """Cut a range into strata of equal width, the last one closed; [n] values -> [n] strata from 0.

    >>> equal_width(np.array([-4.0, -3.9, -2.0, 0.0]), 2).tolist()
    [0, 0, 1, 1]
    """
    low = values.min(initial=np.inf)
    width = np.ptp(values) if len(values) else 0.0
    if width == 0:
        return np.zeros(len(values), np.int64)
    return np.minimum((values - low) / width * strata, strata - 1).astype(np.int64)


def share_strata(sizes: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Equal quotas; what small strata cannot fill goes to larger ones (ascending size, ties in seeded order).

    >>> share_strata(np.array([1, 9, 5]), 9, np.random.default_rng(0)).tolist()
    [1, 4, 4]
    """
    quotas = np.zeros(len(sizes), np.int64)
    remaining = count
    seeded = rng.permutation(len(sizes))
    for done, k in enumerate(seeded[np.argsort(sizes[seeded], kind="stable")]):
        quotas[k] = min(int(sizes[k]), remaining // (len(sizes) - done))
        remaining -= quotas[k]
    return quotas


def draw_strata(strata: Ints, k: int, count: int, rng: np.random.Generator) -> Ints:
    """Draw `count` positions, equal quotas from each of `k` strata, interleaved so that prefixes are balanced too."""
    quotas = share_strata(np.bincount(strata, minlength=k), count, rng)
    drawn = [rng.permutation(np.flatnonzero(strata == s))[:n] for s, n in enumerate(quotas) if n]
    return interleave(drawn, rng) if drawn else np.zeros(0, np.int64)
