"""What every selector shares: seeded ties, and a method that runs within each class."""

from collections.abc import Callable

import numpy as np

from easycoreset.tables import Coreset, Floats, Ints, Scores

Order = Callable[[Ints, int, np.random.Generator], Ints]  # (rows, count, rng) -> the rows chosen, first choice first


def choose_rows(scores: Scores, count: int, seed: int, order: Order, *, per_class: bool) -> Coreset:
    """Let `order` choose among all rows, or its quota within each class."""
    rng = np.random.default_rng(seed)
    if not per_class:
        return Coreset.from_order(order(np.arange(len(scores), dtype=np.int64), count, rng), scores)
    quotas = class_quotas(np.bincount(scores.labels), count, rng)
    chosen = [order(np.flatnonzero(scores.labels == k).astype(np.int64), int(n), rng) for k, n in enumerate(quotas)]
    return Coreset.from_order(interleave(chosen, rng), scores)


def sort_rows(values: Floats, rows: Ints, rng: np.random.Generator) -> Ints:
    """The rows by ascending value; ties in seeded order, NaN last."""
    rows = rng.permutation(rows)
    return rows[np.argsort(values[rows], kind="stable")]


def class_quotas(sizes: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Share `count` over classes in proportion to their sizes, by largest remainder, equal remainders in seeded order.

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
    """Merge ordered groups by (place + 1/2) / quota, so that a prefix of the whole is a smaller balanced whole.

    >>> interleave([np.array([1, 2, 3, 4]), np.array([9, 8])], np.random.default_rng(0)).tolist()
    [1, 9, 2, 3, 8, 4]
    """
    rows = np.concatenate(groups)
    places = np.concatenate([(np.arange(len(group)) + 0.5) / max(len(group), 1) for group in groups])
    seeded = np.concatenate(
        [np.full(len(group), tie) for group, tie in zip(groups, rng.random(len(groups)), strict=True)]
    )
    return rows[np.lexsort((seeded, places))]
