"""Helpers of all selectors: seeded ties, selection within each class, and selection within random parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.console import log
from easycoreset.errors import require
from easycoreset.tables import Coreset, Floats, Ints, Scores

Order = Callable[[Ints, int, np.random.Generator], Ints]  # (rows, count, rng) -> the rows chosen, first choice first


@dataclass(frozen=True, kw_only=True)
class ColumnSelector:
    """Base of selectors that rank by one column of the scores."""

    cost: ClassVar[str] = "n log n"
    by: str = "aign"
    per_class: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The column that the selector ranks by."""
        return (self.by,)


def no_progress(steps: int = 1) -> None:
    """Progress callback that does nothing."""


def choose_rows(
    scores: Scores, count: int, seed: int, order: Order, *, per_class: bool, weight: Floats | None = None
) -> Coreset:
    """Let `order` choose among all rows, or a quota within each class.

    Args:
        scores: scores of all rows.
        count: number of samples to keep.
        seed: seed of ties and random draws.
        order: the method, which returns the rows that it chooses, first choice first.
        per_class: choose within each class.
        weight: [N], which `order` fills in for the rows that it chooses.
    """
    rng = np.random.default_rng(seed)
    if per_class:
        quotas = class_quotas(np.bincount(scores.labels), count, rng)
        class_rows = [(np.flatnonzero(scores.labels == k).astype(np.int64), int(n)) for k, n in enumerate(quotas) if n]
        chosen = interleave([order(rows, n, rng) for rows, n in class_rows], rng)
    else:
        chosen = order(np.arange(len(scores), dtype=np.int64), count, rng)
    return Coreset.from_order(chosen, scores, None if weight is None else weight[chosen])


def in_parts(order: Order, part_size: int, name: str) -> Order:
    """Run `order` within seeded random parts of at most `part_size` rows, each with its quota: an approximation.

    It bounds the work of methods whose exact work grows with the square of the number of rows.
    """

    def order_in_parts(rows: Ints, count: int, rng: np.random.Generator) -> Ints:
        if len(rows) <= part_size:
            return order(rows, count, rng)
        parts = [np.sort(part) for part in np.array_split(rng.permutation(rows), -(-len(rows) // part_size))]
        log.info(
            "%s: %d rows are split into %d random parts (part=%d): an approximation",
            name,
            len(rows),
            len(parts),
            part_size,
        )
        quotas = class_quotas(np.array([len(part) for part in parts]), count, rng)
        return interleave([order(part, int(n), rng) for part, n in zip(parts, quotas, strict=True) if n], rng)

    return order_in_parts


def require_classes(name: str, per_class: bool) -> None:
    """Refuse `per_class=false` for a method that its paper defines within each class."""
    require(per_class, "per_class", f"true: {name} always runs within each class", per_class)


def sort_rows(values: Floats, rows: Ints, rng: np.random.Generator) -> Ints:
    """The rows by ascending value; ties in seeded order, NaN last."""
    rows = rng.permutation(rows)
    return rows[np.argsort(values[rows], kind="stable")]


def class_quotas(sizes: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Divide `count` among classes in proportion to their sizes, by largest remainder; ties in seeded order.

    >>> class_quotas(np.array([5, 3, 2]), 5, np.random.default_rng(0)).tolist() in ([3, 1, 1], [2, 2, 1])
    True
    """
    shares = count * sizes  # exact integers: share = shares / total
    total = int(sizes.sum())
    quotas = shares // total
    seeded = rng.permutation(len(sizes))
    by_remainder = seeded[np.argsort(-(shares % total)[seeded], kind="stable")]
    quotas[by_remainder[: count - int(quotas.sum())]] += 1
    return quotas


def interleave(groups: list[Ints], rng: np.random.Generator) -> Ints:
    """Merge ordered groups by (position + 1/2) / size, so that every prefix is balanced too.

    >>> interleave([np.array([1, 2, 3, 4]), np.array([9, 8])], np.random.default_rng(0)).tolist()
    [1, 9, 2, 3, 8, 4]
    """
    rows = np.concatenate(groups)
    positions = np.concatenate([(np.arange(len(group)) + 0.5) / max(len(group), 1) for group in groups])
    ties = np.concatenate(
        [np.full(len(group), tie) for group, tie in zip(groups, rng.random(len(groups)), strict=True)]
    )
    return rows[np.lexsort((ties, positions))]
