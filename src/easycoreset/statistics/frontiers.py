"""Gains of one row over another, image by image: at equal updates, or at the same clean accuracy."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from easycoreset.statistics.outcomes import Row

Floats = npt.NDArray[np.float64]


class NotMeasurableError(ValueError):
    """Why a gain cannot be measured, in words that follow "not measurable: "."""


@dataclass(frozen=True)
class Gains:
    """Gains in robust accuracy.

    Attributes:
        seeds: that both sides have.
        by_image: [seeds, images].
        off: seeds whose own clean accuracy lies beyond the ends of random's frontier.
    """

    seeds: tuple[int, ...]
    by_image: Floats
    off: tuple[int, ...] = ()


def gain_at_equal_budget(own: Row, other: Row) -> Gains:
    """Robust accuracy above that of another row of the same budget, seed by seed.

    Raises:
        NotMeasurableError: they have no seed in common.
    """
    seeds = _common(own, other)
    return Gains(seeds, own.take(seeds).robust.astype(float) - other.take(seeds).robust)


def gain_at_matched_clean(own: Row, frontier: Mapping[int, Row]) -> Gains:
    """Robust accuracy above random's frontier at the row's mean clean accuracy, seed by seed.

    One frontier is used, of random's means over the row's seeds, linear between its budgets in the order of their clean
    accuracy. A seed's gain is r - ((1-w) r0 + w r1) - slope (c - ((1-w) c0 + w c1)): w and the slope come from the
    means, r and c are the seed's own robust and clean accuracies, 0 and 1 the budgets around the mean.

    Args:
        own: the row.
        frontier: random's rows by their budgets.

    Raises:
        NotMeasurableError: the row's mean lies off the frontier, or there are no seeds in common.
    """
    budgets = [row.take(_common(own, row)) for row in frontier.values() if set(own.seeds) & set(row.seeds)]
    if len(budgets) < 2:
        raise NotMeasurableError("random has fewer than two budgets with seeds in common")
    budgets.sort(key=lambda row: row.clean.mean())
    ends = budgets[0].clean.mean(), budgets[-1].clean.mean()
    off = tuple(
        seed for seed, clean in zip(own.seeds, own.clean.mean(1), strict=True) if not ends[0] <= clean <= ends[1]
    )
    for below, above in itertools.pairwise(budgets):
        seeds = _common(own, below, above)
        mine = own.take(seeds)
        low = below.take(seeds)
        high = above.take(seeds)
        c, c0, c1 = (float(row.clean.mean()) for row in (mine, low, high))
        if not c0 <= c <= c1 or c0 == c1:
            continue
        share = (c - c0) / (c1 - c0)
        slope = (float(high.robust.mean()) - float(low.robust.mean())) / (c1 - c0)
        robust = mine.robust - ((1 - share) * low.robust + share * high.robust)
        clean = mine.clean - ((1 - share) * low.clean + share * high.clean)
        return Gains(seeds, robust - slope * clean, tuple(seed for seed in off if seed in seeds))
    where = f"{100 * own.clean.mean():.1f}%, random's frontier from {100 * ends[0]:.1f} to {100 * ends[1]:.1f}%"
    raise NotMeasurableError(f"the mean clean accuracy lies off random's frontier ({where})")


def difference(one: Gains, other: Gains) -> Gains:
    """How much more one row gains above the frontier than another, seed by seed.

    Raises:
        NotMeasurableError: they have no seed in common.
    """
    seeds = tuple(seed for seed in one.seeds if seed in other.seeds)
    if not seeds:
        raise NotMeasurableError("no seed in common")
    left, right = (gains.by_image[[gains.seeds.index(seed) for seed in seeds]] for gains in (one, other))
    return Gains(seeds, left - right, tuple(seed for seed in seeds if seed in (*one.off, *other.off)))


def _common(*rows: Row) -> tuple[int, ...]:
    seeds = tuple(seed for seed in rows[0].seeds if all(seed in row.seeds for row in rows))
    if not seeds:
        raise NotMeasurableError("no seed in common")
    return seeds
