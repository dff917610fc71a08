"""The two tables that travel between commands: `Scores` (hardness of every sample) and `Coreset` (what is kept)."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow carries no types)

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.errors import UsageError, nearest
from easycoreset.parquet import integers, read_provenance, read_table, with_provenance, write_table

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
FIXED = ("index", "sample_id", "label", "label_name", "n_obs")


def kept_count(fraction: float, total: int) -> int:
    """Samples that a fraction keeps: floor(fraction * total + 0.5) in float64.

    Raises:
        UsageError: the fraction is outside (0, 1] or keeps nothing.

    >>> kept_count(0.25, 10), kept_count(0.1, 1437)
    (3, 144)
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"fraction must be in (0, 1]; got {fraction!r}")
    count = int(np.floor(np.float64(fraction) * total + 0.5))
    if count == 0:
        raise UsageError(f"fraction must keep at least one of {total} samples; got {fraction!r}")
    return count


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Hardness of every sample of one split, a row a sample in index order; higher is always harder.

    Attributes:
        sample_ids: [N] stable names.
        labels: [N] int64.
        class_names: a name for each class.
        n_obs: [N] int32, scored epochs with a finite gradient.
        columns: hardness name -> [N] float32; NaN where a sample was never observed.
        provenance: fingerprint, split and options of the run.
        features: [N, d] or None where they were not saved.
        probabilities: [N, classes] or None where they were not saved.
    """

    sample_ids: Sequence[str]
    labels: Ints
    class_names: Sequence[str]
    n_obs: npt.NDArray[np.int32]
    columns: dict[str, Floats]
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    features: npt.NDArray[np.floating] | None = None
    probabilities: npt.NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, name: str) -> Floats:
        """[N] float32 in index order.

        Raises:
            UsageError: there is no such column.
        """
        if name not in self.columns:
            raise UsageError(
                f"the scores have no column {name!r}: {nearest(name, self.columns)} "
                f"(another one is made by `easycoreset score --hardness {name}`)"
            )
        return self.columns[name]

    def to_table(self) -> pa.Table:
        """As a pyarrow table."""
        names = [self.class_names[label] if label < len(self.class_names) else str(label) for label in self.labels]
        table = pa.table(
            {
                "index": np.arange(len(self), dtype=np.int64),
                "sample_id": pa.array(self.sample_ids, pa.string()),
                "label": self.labels,
                "label_name": pa.array(names, pa.string()).dictionary_encode(),
                "n_obs": self.n_obs,
                **self.columns,
            }
        )
        return with_provenance(table, {**self.provenance, "class_names": list(self.class_names)})

    def to_pandas(self) -> Any:
        """As a pandas DataFrame (needs the extra `pandas`)."""
        try:
            return self.to_table().to_pandas()
        except ImportError:
            raise UsageError("to_pandas needs pandas: pip install easycoreset[pandas]") from None

    def write(self, path: Path) -> None:
        """Write as Parquet, provenance in the file's metadata."""
        write_table(self.to_table(), path)

    @classmethod
    def read(cls, path: Path) -> "Scores":
        """Read what `write`, or another program by the same schema, wrote; rows may come in any order.

        Raises:
            UsageError: the file is missing, broken, or no score table.
        """
        table = read_table(path, {"index": "integer", "label": "integer"})
        index = integers(table, "index", path)
        if not np.array_equal(np.sort(index), np.arange(len(index))) or not len(index):
            raise UsageError(f"{path}: index must hold 0..{len(index) - 1} once each")
        table = table.take(np.argsort(index))
        provenance = read_provenance(table, path, "run.json")
        labels = integers(table, "label", path)
        columns = {
            name: np.asarray(table[name].to_numpy(zero_copy_only=False), np.float32)
            for name in table.column_names
            if name not in FIXED and (pa.types.is_floating(table[name].type) or pa.types.is_integer(table[name].type))
        }
        ids = (
            table["sample_id"].to_pylist() if "sample_id" in table.column_names else [str(i) for i in range(len(index))]
        )
        n_obs = integers(table, "n_obs", path) if "n_obs" in table.column_names else np.ones(len(index), np.int64)
        names = provenance.pop("class_names", None) or [str(k) for k in range(int(labels.max()) + 1)]
        return cls(sample_ids=ids, labels=labels, class_names=names, n_obs=n_obs.astype(np.int32), columns=columns,
                   provenance=provenance)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Coreset:
    """Which samples of one split are kept, in which order, with which weights.

    Attributes:
        keep: [N] bool.
        rank: [N] int64, order of choice from 0; -1 where not kept.
        weight: [N] float32, mean 1 over the kept; NaN where not kept.
        sample_ids: [N] stable names.
        labels: [N] int64.
        provenance: fingerprint, split, method and what else made it.
    """

    keep: npt.NDArray[np.bool_]
    rank: Ints
    weight: Floats
    sample_ids: Sequence[str]
    labels: Ints
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def from_order(cls, order: Ints, scores: Scores, weight: Floats | None = None) -> "Coreset":
        """Make the coreset that keeps the samples `order`, first choice first; `weight` belongs to them."""
        rank = np.full(len(scores), -1, np.int64)
        rank[order] = np.arange(len(order))
        weights = np.full(len(scores), np.nan, np.float32)
        weights[order] = 1.0 if weight is None else weight / np.mean(weight, dtype=np.float64)
        facts = {key: scores.provenance[key] for key in ("fingerprint", "split", "data") if key in scores.provenance}
        return cls(keep=rank >= 0, rank=rank, weight=weights, sample_ids=scores.sample_ids, labels=scores.labels,
                   provenance={**facts, "class_names": list(scores.class_names)})  # fmt: skip

    def __len__(self) -> int:
        """Samples kept."""
        return int(self.keep.sum())

    @property
    def index(self) -> Ints:
        """Indices of the kept samples, ascending, int64."""
        return np.flatnonzero(self.keep).astype(np.int64)

    def apply(self, data: Any) -> Any:
        """Keep these samples of `data`, in index order.

        Args:
            data: an array or tensor of N rows, a tuple or list of such arrays, or a map-style data set.

        Raises:
            UsageError: `data` does not have N rows.
        """
        if isinstance(data, tuple | list) and all(hasattr(part, "shape") for part in data):
            return type(data)(self.apply(part) for part in data)  # pyright: ignore[reportUnknownArgumentType]
        if len(data) != len(self.keep):
            raise UsageError(f"the coreset is of {len(self.keep)} samples; got data of {len(data)}")
        return data[self.index] if hasattr(data, "shape") else View(data, self.index)

    def class_counts(self) -> tuple[Ints, Ints]:
        """Samples of each class before and after, both [classes]."""
        classes = int(self.labels.max()) + 1
        after = np.bincount(self.labels[self.keep], minlength=classes)
        return np.bincount(self.labels, minlength=classes), after

    def to_table(self) -> pa.Table:
        """As a pyarrow table with every row of the split."""
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

    def write(self, path: Path) -> None:
        """Write as Parquet, provenance in the file's metadata."""
        write_table(self.to_table(), path)

    @classmethod
    def read(cls, path: Path) -> "Coreset":
        """Read what `write` wrote.

        Raises:
            UsageError: the file is missing, broken, or no coreset.
        """
        table = read_table(path, {"index": "integer", "keep": "bool"})
        index = integers(table, "index", path)
        if not np.array_equal(np.sort(index), np.arange(len(index))) or not len(index):
            raise UsageError(f"{path}: index must hold 0..{len(index) - 1} once each")
        table = table.take(np.argsort(index))
        keep = np.asarray(table["keep"].to_numpy(zero_copy_only=False), np.bool_)
        if not keep.any():
            raise UsageError(f"{path}: keeps no sample")
        names = table.column_names
        rank = table["rank"].fill_null(-1).to_numpy() if "rank" in names else np.where(keep, np.cumsum(keep) - 1, -1)
        weight = np.asarray(table["weight"].to_numpy(zero_copy_only=False) if "weight" in names else keep, np.float32)
        if not np.all(np.isfinite(weight[keep]) & (weight[keep] >= 0)):
            raise UsageError(f"{path}: weights of kept samples must be finite and >= 0")
        labels = integers(table, "label", path) if "label" in names else np.zeros(len(index), np.int64)
        ids = table["sample_id"].to_pylist() if "sample_id" in names else [str(i) for i in range(len(index))]
        return cls(keep=keep, rank=rank.astype(np.int64), weight=weight, sample_ids=ids, labels=labels,
                   provenance=read_provenance(table, path, path.with_suffix(".json").name))  # fmt: skip


class View:
    """A map-style data set that shows some samples of another."""

    def __init__(self, data: Any, index: Ints) -> None:
        self.data, self.index = data, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> Any:
        return self.data[int(self.index[place])]


def check_same_data(provenance: dict[str, Any], fingerprint: str, split: str, what: str,
                    own: tuple[Sequence[str], Ints], other: tuple[Sequence[str], Ints]) -> None:  # fmt: skip
    """Refuse a table that belongs to other data; without a fingerprint, sample ids and labels are compared.

    Args:
        provenance: of the table.
        fingerprint: of the data.
        split: of the data.
        what: the table's name, for the message.
        own: the table's (sample_ids, labels).
        other: the data's (sample_ids, labels).

    Raises:
        UsageError: they differ; the counts are named.
    """
    if provenance.get("split", split) != split:
        raise UsageError(f"{what} is of split {provenance['split']!r}; needed is {split!r}")
    if provenance.get("fingerprint") == fingerprint:
        return
    if len(own[1]) != len(other[1]):
        raise UsageError(f"{what} is of other data: {len(own[1])} samples against {len(other[1])}")
    names = sum(a != b for a, b in zip(own[0], other[0], strict=True))
    labels = int(np.sum(own[1] != other[1]))
    if "fingerprint" in provenance or names or labels:
        raise UsageError(
            f"{what} is of other data: {names} sample ids and {labels} labels differ "
            f"(fingerprint {str(provenance.get('fingerprint'))[:12]} against {fingerprint[:12]})"
        )
