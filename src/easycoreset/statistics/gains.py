"""Gains of one row over another, image by image: at equal updates, or at the same clean accuracy."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from easycoreset.statistics.outcomes import Row

Floats = npt.NDArray[np.float64]


class NotMeasurableError(ValueError):
    """A gain cannot be measured; the message gives the reason and is shown after "not measurable: "."""


@dataclass(frozen=True)
class Gains:
    """Gains in robust accuracy.

    Attributes:
        seeds: seeds that both rows have.
        by_image: [seeds, images] gain on each image, as a share: 0.01 is one point.
        off_frontier: seeds whose clean accuracy lies beyond the ends of random's frontier.
    """

    seeds: tuple[int, ...]
    by_image: Floats
    off_frontier: tuple[int, ...] = ()


def gain_at_equal_budget(row: Row, other: Row) -> Gains:
    """Robust accuracy of a row minus the robust accuracy of another row of the same budget, seed by seed.

    Raises:
        NotMeasurableError: the rows have no seed in common.
    """
    seeds = _common_seeds(row, other)
    return Gains(seeds, row.select_seeds(seeds).robust.astype(float) - other.select_seeds(seeds).robust)


def gain_at_matched_clean(row: Row, frontier: Mapping[int, Row]) -> Gains:
    """Robust accuracy above random's frontier at the row's mean clean accuracy, seed by seed.

    The frontier is a curve of robust against clean accuracy: random's means over seeds, one point for each budget, in
    the order of clean accuracy, interpolated linearly. Budgets 0 and 1 are the neighbours on it whose mean clean
    accuracies enclose the row's mean clean accuracy. They give the interpolation weight w of budget 1 and the slope.
    A seed's gain is r - ((1-w) r0 + w r1) - slope (c - ((1-w) c0 + w c1)), where r and c are the robust and clean
    accuracy of the row at this seed, and r0, c0, r1 and c1 are random's at the two budgets.

    Args:
        row: the row.
        frontier: budget -> random's row.

    Raises:
        NotMeasurableError: the row's mean lies off the frontier, or fewer than two budgets have seeds in common.
    """
    random_rows = [
        random_row.select_seeds(_common_seeds(row, random_row))
        for random_row in frontier.values()
        if set(row.seeds) & set(random_row.seeds)
    ]
    if len(random_rows) < 2:
        raise NotMeasurableError("fewer than two of random's budgets have a seed in common with it")
    random_rows.sort(key=lambda random_row: random_row.clean.mean())
    ends = random_rows[0].clean.mean(), random_rows[-1].clean.mean()
    off_frontier = tuple(
        seed for seed, clean in zip(row.seeds, row.clean.mean(1), strict=True) if not ends[0] <= clean <= ends[1]
    )
    for below, above in itertools.pairwise(random_rows):
        seeds = _common_seeds(row, below, above)
        method_row = row.select_seeds(seeds)
        low = below.select_seeds(seeds)
        high = above.select_seeds(seeds)
        c, c0, c1 = (float(part.clean.mean()) for part in (method_row, low, high))
        if not c0 <= c <= c1 or c0 == c1:
            continue
        weight = (c - c0) / (c1 - c0)
        slope = (float(high.robust.mean()) - float(low.robust.mean())) / (c1 - c0)
        robust_difference = method_row.robust - ((1 - weight) * low.robust + weight * high.robust)
        clean_difference = method_row.clean - ((1 - weight) * low.clean + weight * high.clean)
        gains = robust_difference - slope * clean_difference
        return Gains(seeds, gains, tuple(seed for seed in off_frontier if seed in seeds))
    mean = float(row.clean.mean())
    accuracies = f"{100 * mean:.1f}%, random's frontier from {100 * ends[0]:.1f} to {100 * ends[1]:.1f}%"
    needed = "smaller" if mean < ends[0] else "larger"
    raise NotMeasurableError(
        f"the mean clean accuracy lies off random's frontier ({accuracies}, of budgets {sorted(frontier)}): declare "
        f"{needed} budgets in a new folder"
    )


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
