"""The coreset table: which samples of one split are kept."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow carries no types)

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.errors import UsageError, quote, require
from easycoreset.members import load_attribute
from easycoreset.parquet import integer_column, read_provenance, read_table, string_column, with_provenance, write_table
from easycoreset.tables.same_data import Floats, Ints
from easycoreset.tables.scores import Scores


def kept_count(fraction: float, total: int) -> int:
    """The number of samples that a fraction keeps: floor(fraction * total + 0.5) in float64.

    Raises:
        UsageError: the fraction is outside (0, 1] or keeps nothing.

    >>> kept_count(0.25, 10), kept_count(0.1, 1437)
    (3, 144)
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"fraction must be in (0, 1]; got {quote(fraction)}")
    count = int(np.floor(np.float64(fraction) * total + 0.5))
    if count == 0:
        raise UsageError(f"fraction must keep at least one of {total} samples; got {quote(fraction)}")
    return count


@dataclass(frozen=True, kw_only=True)
class Coreset:
    """The kept samples of one split, their order and weights.

    Attributes:
        keep: [N] bool.
        rank: [N] int64, order of choice from 0; -1 if not kept.
        weight: [N] float32, with mean 1 over the kept samples; NaN if not kept.
        sample_ids: [N] stable ids.
        labels: [N] int64.
        provenance: fingerprint, split, method and its options.
    """

    keep: npt.NDArray[np.bool_]
    rank: Ints
    weight: Floats
    sample_ids: Sequence[str]
    labels: Ints
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def from_order(cls, order: Ints, scores: Scores, weight: Floats | None = None) -> "Coreset":
        """Make a coreset from the indices of the samples to keep.

        Args:
            order: [n] integers, indices of the kept samples, first choice first.
            scores: the table that the samples are chosen from.
            weight: [n] weights of the kept samples, which are scaled to mean 1; None for equal weights.

        Raises:
            UsageError: indices that are out of range or given twice; weights that are not finite and >= 0, or all 0.
        """
        order = np.asarray(order)
        is_index = order.ndim == 1 and np.issubdtype(order.dtype, np.integer)
        require(bool(is_index), "order", "[n] integers", f"{order.dtype} {order.shape}")
        outside = order[(order < 0) | (order >= len(scores))]
        require(not len(outside), "order", f"indices in 0..{len(scores) - 1}", outside[:1].tolist())
        require(
            len(np.unique(order)) == len(order), "order", "indices given once each", f"{len(order)} with repetitions"
        )
        if weight is not None:
            values = np.asarray(weight, np.float64)
            valid = values.shape == order.shape and bool((np.isfinite(values) & (values >= 0)).all()) and values.any()
            require(bool(valid), "weight", "[n], finite, >= 0 and not all 0", values)
        rank = np.full(len(scores), -1, np.int64)
        rank[order] = np.arange(len(order))
        weights = np.full(len(scores), np.nan, np.float32)
        weights[order] = 1.0 if weight is None else weight / np.mean(weight, dtype=np.float64)
        inherited = ("fingerprint", "split", "data", "shape")
        provenance = {key: scores.provenance[key] for key in inherited if key in scores.provenance}
        return cls(
            keep=rank >= 0,
            rank=rank,
            weight=weights,
            sample_ids=scores.sample_ids,
            labels=scores.labels,
            provenance={**provenance, "class_names": list(scores.class_names)},
        )

    def __len__(self) -> int:
        """The number of kept samples."""
        return int(self.keep.sum())

    def __repr__(self) -> str:
        """One line with its size and method."""
        return f"Coreset of {len(self)} of {len(self.keep)} samples by {self.provenance.get('method', 'hand')}"

    def _repr_html_(self) -> str:
        return load_attribute("result", "easycoreset.reporting.notebook:show_coreset")(self)

    def plot(self) -> Any:
        """A plotly figure: the number of samples of each class, before and after the choice."""
        return load_attribute("result", "easycoreset.reporting.notebook:plot_coreset")(self)

    def to_full_table(self, rows: Ints, scores: Scores) -> "Coreset":
        """Convert a coreset of some rows of a table into a coreset of the whole table.

        Args:
            rows: [n] the rows of `scores` that this coreset was chosen from.
            scores: the whole table.
        """
        order = np.argsort(np.where(self.keep, self.rank, np.iinfo(np.int64).max))[: len(self)]
        return Coreset.from_order(rows[order], scores, self.weight[order])

    @property
    def index(self) -> Ints:
        """Indices of the kept samples, ascending, int64."""
        return np.flatnonzero(self.keep).astype(np.int64)

    def apply(self, data: Any) -> Any:
        """Select the kept samples of `data`, in index order.

        Args:
            data: an array, tensor, DataFrame or Arrow table of N rows, a tuple of arrays, a Hugging Face data set, any
                map-style data set (torch, torchvision, timm), for which a `SubsetView` is returned, or an iterable of
                N items, for which a `FilteredIterable` is returned.

        Raises:
            UsageError: `data` does not have N rows, or has no order, as a set.
        """
        parts: tuple[Any, ...] = cast(Any, data) if type(data) is tuple else ()
        if parts and all(hasattr(part, "shape") for part in parts):
            return tuple(self.apply(part) for part in parts)
        if isinstance(data, set | frozenset) or (not hasattr(data, "__iter__") and not hasattr(data, "__len__")):
            raise UsageError(f"a coreset applies only to ordered data; got {type(data).__name__}")
        if not hasattr(data, "__len__"):
            return FilteredIterable(data, self.keep)
        if len(data) != len(self.keep):
            raise UsageError(f"the coreset is of {len(self.keep)} samples; got data of {len(data)}")
        if hasattr(data, "select") and hasattr(data, "features"):  # Hugging Face, without importing it
            return cast(Any, data).select(self.index)
        if hasattr(data, "iloc"):
            return cast(Any, data).iloc[self.index]
        if hasattr(data, "schema") and hasattr(data, "take"):  # Arrow
            return cast(Any, data).take(self.index)
        return data[self.index] if hasattr(data, "shape") else SubsetView(data, self.index)

    def class_counts(self) -> tuple[Ints, Ints]:
        """The number of samples of each class before and after the choice, both [classes]."""
        classes = int(self.labels.max()) + 1
        after = np.bincount(self.labels[self.keep], minlength=classes)
        return np.bincount(self.labels, minlength=classes), after

    def to_table(self) -> pa.Table:
        """Convert to a pyarrow table with every row of the split."""
        dropped = ~self.keep
        table = pa.table(
            {
                "index": np.arange(len(self.keep), dtype=np.int64),
                "sample_id": pa.array(self.sample_ids, pa.string()),
                "label": self.labels,
                "keep": self.keep,
                "rank": pa.array(self.rank, mask=dropped),
                "weight": pa.array(self.weight, mask=dropped),
            }
        )
        return with_provenance(table, self.provenance)

    def write(self, path: str | Path, before: Callable[[Path], object] = lambda temporary: None) -> None:
        """Write as Parquet, with the provenance in the file's metadata.

        Args:
            path: the file.
            before: called with the path of the complete temporary file, before it is renamed to `path`.

        Raises:
            RunError: the file cannot be written.
        """
        write_table(self.to_table(), Path(path), before)

    @classmethod
    def read(cls, path: str | Path) -> "Coreset":
        """Read a coreset from a Parquet file that `write` wrote; rows may come in any order.

        Raises:
            UsageError: the file is missing, unreadable or not a coreset.
        """
        path = Path(path)
        table = read_table(path, {"index": "integer", "keep": "bool"})
        index = integer_column(table, "index", path)
        if not np.array_equal(np.sort(index), np.arange(len(index))) or not len(index):
            raise UsageError(f"{path}: index must hold 0..{len(index) - 1} once each")
        table = table.take(np.argsort(index))
        keep = np.asarray(table["keep"].to_numpy(zero_copy_only=False), np.bool_)
        if not keep.any():
            raise UsageError(f"{path}: keeps no sample")
        names = table.column_names
        rank = np.where(keep, np.cumsum(keep) - 1, -1)
        if "rank" in names and pa.types.is_integer(table["rank"].type):
            ranks = np.asarray(table["rank"].to_numpy(zero_copy_only=False), np.float64)  # NaN if there is none
            if not np.all((ranks[keep] >= 0) & (ranks[keep] < 2**53)):
                raise UsageError(f"{path}: ranks of kept samples must be >= 0")
            rank = np.where(keep, np.nan_to_num(ranks, nan=-1.0), -1).astype(np.int64)
        weight = np.asarray(keep, np.float32)
        if "weight" in names and pa.types.is_floating(table["weight"].type):
            weight = np.asarray(table["weight"].to_numpy(zero_copy_only=False), np.float32)
        if not np.all(np.isfinite(weight[keep]) & (weight[keep] >= 0)):
            raise UsageError(f"{path}: weights of kept samples must be finite and >= 0")
        labels = integer_column(table, "label", path) if "label" in names else np.zeros(len(index), np.int64)
        ids = string_column(table, "sample_id")
        return cls(
            keep=keep,
            rank=rank.astype(np.int64),
            weight=weight,
            sample_ids=ids,
            labels=labels,
            provenance=read_provenance(table, path, path.with_suffix(".json").name),
        )


STARVED_DIVISOR = 10  # a class that keeps less than 1/10 of its proportional share is starved


class SubsetView:
    """A subset of a map-style data set.

    Its `transform` is the transform of the underlying data set, because timm's loaders set it.
    """

    def __init__(self, data: Any, index: Ints) -> None:
        self.data = data
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Any:
        return self.data[int(self.index[position])]

    @property
    def transform(self) -> Any:
        """The transform of the underlying data set."""
        return getattr(self.data, "transform", None)

    @transform.setter
    def transform(self, value: Any) -> None:
        self.data.transform = value


class FilteredIterable:
    """The kept items of an iterable, in order; if that is a generator, they can be iterated only once.

    Raises (during iteration):
        UsageError: the iterable does not have N items.
    """

    def __init__(self, data: Iterable[Any], keep: npt.NDArray[np.bool_]) -> None:
        self.data = data
        self.keep = keep

    def __iter__(self) -> Iterator[Any]:
        row = -1
        for row, item in enumerate(self.data):
            if row < len(self.keep) and self.keep[row]:
                yield item
        if row + 1 != len(self.keep):
            raise UsageError(f"the coreset is of {len(self.keep)} samples; got data of {row + 1}")


def find_lost_classes(before: Ints, after: Ints) -> tuple[Ints, Ints]:
    """The classes that a choice emptied, and those that it starved: fewer than a tenth of their proportional share.

    Args:
        before: [classes] samples of each class.
        after: [classes] kept samples of each class.

    >>> [classes.tolist() for classes in find_lost_classes(np.array([100, 100, 0]), np.array([0, 50, 0]))]
    [[0], []]
    """
    share = before * (after.sum() / before.sum())
    return np.flatnonzero((before > 0) & (after == 0)), np.flatnonzero((after > 0) & (after < share / STARVED_DIVISOR))
