"""Data sets that say which sample they yield."""

from collections.abc import Mapping
from typing import Any, cast

from easycoreset.errors import UsageError
from easycoreset.tables.coreset import View


def with_index(dataset: Any) -> "Indexed":
    """Add each sample's index to what a map-style data set yields: (x, y) becomes (x, y, index).

    Of samples that are dicts it is the item `index`.

    Of what `Coreset.apply` gave, the indices are those of the whole data set; but a Hugging Face data set's selection
    does not know it, so of one take `coreset.apply(with_index(dataset))`.

    Raises:
        UsageError: it is not map-style, or its samples have an item `index` already.

    >>> with_index([("a", 0), ("b", 1)])[1]
    ('b', 1, 1)
    >>> with_index([{"x": "a", "y": 0}])[0]
    {'x': 'a', 'y': 0, 'index': 0}
    """
    return Indexed(dataset)


class Indexed:
    """A map-style data set that yields indices too."""

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
        own = self._own(index)
        if isinstance(sample, Mapping):
            if "index" in sample:
                raise UsageError("with_index: samples must have no item 'index' of their own: rename that column")
            return {**cast("Mapping[str, Any]", sample), "index": own}
        parts: tuple[Any, ...] = tuple(cast(Any, sample)) if isinstance(sample, tuple | list) else (sample,)
        return (*parts, own)

    def _own(self, index: int) -> int:
        return int(self.dataset.index[index]) if isinstance(self.dataset, View) else index
