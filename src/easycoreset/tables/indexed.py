"""Data sets that yield the index of each sample."""

from collections.abc import Mapping
from typing import Any, cast

from easycoreset.errors import UsageError
from easycoreset.tables.coreset import SubsetView


def with_index(dataset: Any) -> Any:
    """Add the index to each sample of a map-style data set: (x, y) becomes (x, y, index).

    A sample that is a dict gets the item `index`.

    For a result of `Coreset.apply`, indices are those of the whole data set; Hugging Face selections do not keep
    them, so use `coreset.apply(with_index(dataset))` there.

    Returns:
        A map-style data set, which data loaders take.

    Raises:
        UsageError: the data set is not map-style, or its samples already have an item `index`.

    >>> with_index([("a", 0), ("b", 1)])[1]
    ('b', 1, 1)
    >>> with_index([{"x": "a", "y": 0}])[0]
    {'x': 'a', 'y': 0, 'index': 0}
    """
    return IndexedDataset(dataset)


class IndexedDataset:
    """A map-style data set that also yields indices."""

    def __init__(self, dataset: Any) -> None:
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise UsageError(
                f"with_index: data must be map-style, with a length and items; got {type(dataset).__name__}"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        original = self._original_index(index)
        if isinstance(sample, Mapping):
            if "index" in sample:
                raise UsageError("with_index: samples must not have an item 'index' already: rename that column")
            return {**cast("Mapping[str, Any]", sample), "index": original}
        parts: tuple[Any, ...] = tuple(cast(Any, sample)) if isinstance(sample, tuple | list) else (sample,)
        return (*parts, original)

    def _original_index(self, index: int) -> int:
        return int(self.dataset.index[index]) if isinstance(self.dataset, SubsetView) else index
