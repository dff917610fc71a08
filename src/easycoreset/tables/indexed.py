"""Data sets that say which sample they yield."""

from typing import Any, cast


def with_index(dataset: Any) -> "Indexed":
    """Add each sample's index to what a map-style data set yields: (x, y) becomes (x, y, index).

    >>> with_index([("a", 0), ("b", 1)])[1]
    ('b', 1, 1)
    """
    return Indexed(dataset)


class Indexed:
    """A map-style data set that yields indices too."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        sample = self.dataset[index]
        parts: tuple[Any, ...] = tuple(cast(Any, sample)) if isinstance(sample, tuple | list) else (sample,)
        return (*parts, index)
