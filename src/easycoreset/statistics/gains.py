"""Gains of one row over another, image by image: at equal updates, or at the same clean accuracy."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from easycoreset.statistics.outcomes import Row

Floats = npt.NDArray[np.float64]


class NotMeasurableError(ValueError):
    """A gain cannot be measured; the message is the reason, to follow "not measurable: "."""


@dataclass(frozen=True)
class Gains:
    """Gains in robust accuracy.

    Attributes:
        seeds: those that both rows have.
        by_image: [seeds, images] gain of each image.
        off: seeds whose clean accuracy lies beyond the ends of random's frontier.
    """

    seeds: tuple[int, ...]
    by_image: Floats
    off_frontier: tuple[int, ...] = ()


def gain_at_equal_budget(row: Row, other: Row) -> Gains:
    """Robust accuracy minus that of another row of the same budget, seed by seed.

    Raises:
        NotMeasurableError: the rows have no seed in common.
    """
    seeds = _common_seeds(row, other)
    return Gains(seeds, row.select_seeds(seeds).robust.astype(float) - other.select_seeds(seeds).robust)


def gain_at_matched_clean(row: Row, frontier: Mapping[int, Row]) -> Gains:
    """Robust accuracy above random's frontier at the row's mean clean accuracy, seed by seed.

    There is one frontier: random's means over the row's seeds, linear between its budgets in the order of their clean
    accuracy. A seed's gain is r - ((1-w) r0 + w r1) - slope (c - ((1-w) c0 + w c1)): w and the slope come from the
    means, r and c are the seed's own robust and clean accuracies, 0 and 1 the budgets around the mean.

    Args:
        row: the row.
        frontier: budget -> random's row.

    Raises:
        NotMeasurableError: the row's mean lies off the frontier, or fewer than two budgets have seeds in common.
    """
    budgets = [
        budget.select_seeds(_common_seeds(row, budget))
        for budget in frontier.values()
        if set(row.seeds) & set(budget.seeds)
    ]
    if len(budgets) < 2:
        raise NotMeasurableError("fewer than two of random's budgets have a seed in common with it")
    budgets.sort(key=lambda budget: budget.clean.mean())
    ends = budgets[0].clean.mean(), budgets[-1].clean.mean()
    off = tuple(
        seed for seed, clean in zip(row.seeds, row.clean.mean(1), strict=True) if not ends[0] <= clean <= ends[1]
    )
    for below, above in itertools.pairwise(budgets):
        seeds = _common_seeds(row, below, above)
        subset = row.select_seeds(seeds)
        low = below.select_seeds(seeds)
        high = above.select_seeds(seeds)
        c, c0, c1 = (float(part.clean.mean()) for part in (subset, low, high))
        if not c0 <= c <= c1 or c0 == c1:
            continue
        weight = (c - c0) / (c1 - c0)
        slope = (float(high.robust.mean()) - float(low.robust.mean())) / (c1 - c0)
        robust = subset.robust - ((1 - weight) * low.robust + weight * high.robust)
        clean = subset.clean - ((1 - weight) * low.clean + weight * high.clean)
        return Gains(seeds, robust - slope * clean, tuple(seed for seed in off if seed in seeds))
    accuracies = f"{100 * row.clean.mean():.1f}%, random's frontier from {100 * ends[0]:.1f} to {100 * ends[1]:.1f}%"
    raise NotMeasurableError(f"the mean clean accuracy lies off random's frontier ({accuracies})")


def difference(first: Gains, second: Gains) -> Gains:
    """The first row's gain above the frontier minus the second's, seed by seed.

    Raises:
        NotMeasurableError: they have no seed in common.
    """
    seeds = tuple(seed for seed in first.seeds if seed in second.seeds)
    if not seeds:
        raise NotMeasurableError("no seed in common")
    left, right = (gains.by_image[[gains.seeds.index(seed) for seed in seeds]] for gains in (first, second))
    return Gains(
        seeds, left - right, tuple(seed for seed in seeds if seed in (*first.off_frontier, *second.off_frontier))
    )


def _common_seeds(*rows: Row) -> tuple[int, ...]:
    seeds = tuple(seed for seed in rows[0].seeds if all(seed in row.seeds for row in rows))
    if not seeds:
        raise NotMeasurableError("no seed in common")
    return seeds
