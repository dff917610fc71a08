"""The score table: hardness of every sample of one split."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow carries no types)

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.console import log
from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.members import load_attribute
from easycoreset.parquet import (
    integer_column,
    read_provenance,
    read_table,
    string_column,
    to_pandas,
    with_provenance,
    write_table,
)
from easycoreset.tables.agreement import Agreement, compare_columns
from easycoreset.tables.features import read_features
from easycoreset.tables.foreign_scores import read_foreign_scores
from easycoreset.tables.merging import merge
from easycoreset.tables.published_scores import PREFIX, is_published, published_file
from easycoreset.tables.same_data import Floats, Ints, check_same_data

MAX_CLASSES = 10**6
SHOWN = 5  # samples listed in a message
ARRAYS = ("features", "probabilities", "features_adv", "probabilities_adv")
NON_HARDNESS_COLUMNS = (
    "index",
    "sample_id",
    "label",
    "label_name",
    "n_obs",
    "in_test",
)  # columns that are not hardness


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Hardness of every sample of one split, one row per sample in index order; higher is always harder.

    Attributes:
        sample_ids: [N] stable ids.
        labels: [N] int64.
        class_names: the name of each class.
        n_obs: [N] int32, number of scored epochs in which the sample has a finite value (a gradient, if measured).
        columns: hardness name -> [N] float32; NaN if a sample was never observed (infinite values become NaN).
        provenance: fingerprint, split and options of the run.
        features: [N, d], the input of the last linear layer, or None if it was not saved.
        probabilities: [N, classes], or None.
        features_adv: [N, d] at PGD examples, or None.
        probabilities_adv: [N, classes] at PGD examples, or None.
        bias: whether the last linear layer has a bias: its gradient is then (p - 1_y) x (h, 1), else (p - 1_y) x h.
        features_problem: error message if the saved features cannot be used, else empty.
        in_test: [N] whether an exact copy is in the test split; None if no sample has one, or if it is not known.
        file: the file that it was read from, or None.

    Raises:
        UsageError: columns of different lengths.
    """

    sample_ids: Sequence[str]
    labels: Ints
    class_names: Sequence[str]
    n_obs: npt.NDArray[np.int32]
    columns: dict[str, Floats]
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    features: npt.NDArray[np.floating] | None = None
    probabilities: npt.NDArray[np.floating] | None = None
    features_adv: npt.NDArray[np.floating] | None = None
    probabilities_adv: npt.NDArray[np.floating] | None = None
    bias: bool = True
    features_problem: str = ""
    in_test: npt.NDArray[np.bool_] | None = None
    file: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        arrays = {"sample_ids": self.sample_ids, "n_obs": self.n_obs}
        for name, values in {**arrays, **self.columns}.items():
            require(len(values) == len(self.labels), name, f"of length {len(self.labels)}, as labels", len(values))
        for name, values in self.columns.items():
            if infinite := int(np.isinf(values).sum()):
                log.warning("warning: %d infinite values of %s count as never observed", infinite, name)
        columns = {
            name: np.where(np.isinf(v), np.float32(np.nan), v) if np.isinf(v).any() else v
            for name, v in self.columns.items()
        }
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """One line with its size and columns."""
        return f"Scores of {len(self)} samples: {', '.join(self.columns) or 'no hardness'}"

    def _repr_html_(self) -> str:
        return load_attribute("result", "easycoreset.reporting.notebook:show_scores")(self)

    def plot(self, column: str | None = None) -> Any:
        """A plotly histogram of a hardness, with lines where keeping the easiest 30, 50 and 70% would cut.

        Args:
            column: name of the hardness; None for AIGN if the table has it, else for the first column.

        Raises:
            UsageError: there is no such column.
        """
        return load_attribute("result", "easycoreset.reporting.notebook:plot_scores")(self, column)

    def __getitem__(self, name: str) -> Floats:
        """The values of one hardness, [N] float32 in index order.

        Raises:
            UsageError: there is no such column.
        """
        if name not in self.columns:
            recorded = next((column for column in self.columns if column.endswith("_online")), None)
            hint = (
                f"`easycoreset score --hardness {name}` computes it, if `score --list` lists it"
                if recorded is None
                else f"these were recorded in training: easiest:by={recorded} ranks by one of them"
            )
            raise UsageError(f"the scores have no column {quote(name)}: {suggest_name(name, self.columns)} ({hint})")
        return self.columns[name]

    def take_rows(self, rows: Ints) -> "Scores":
        """The table of the samples `rows` [n], ascending; features stay on disk until they are read."""
        arrays = {name: None if (array := getattr(self, name)) is None else LazyRows(array, rows) for name in ARRAYS}
        return replace(
            self,
            sample_ids=[self.sample_ids[row] for row in rows],
            labels=self.labels[rows],
            n_obs=self.n_obs[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            **arrays,
            file=None,
            in_test=None if self.in_test is None else self.in_test[rows],
        )

    @staticmethod
    def merge(tables: Sequence["Scores"]) -> "Scores":
        """Merge several seeds of the same samples, or several shards that do not overlap.

        Seeds are averaged (counts of events and `n_obs` are summed); shards are concatenated.

        Raises:
            UsageError: no table, tables of other data or other classes, or overlapping shards.
        """
        return merge(tables)

    def compare(self, other: "Scores | str | Path") -> "list[Agreement]":
        """Compare each column with the column of the same name in `other`; online columns also match exact ones.

        Args:
            other: scores of the same data; or the path of an .npz file with arrays of N numbers in index order, such as
                C-scores. Each column is then compared with each array; an array that falls as hardness rises, as
                C-scores do, is negated and named `-NAME`.

        Returns:
            The rank correlation and the overlap of the easiest samples for each pair of columns.

        Raises:
            UsageError: the tables are of other data, or the file is unreadable or does not fit.
        """
        if not isinstance(other, Scores):
            foreign = read_foreign_scores(Path(other), self.columns, self.labels)
            return [
                compare_columns(a, b, self.columns[a], values, self.labels, self.class_names)
                for a in self.columns
                for b, values in foreign.items()
            ]
        expected = (self.sample_ids, self.labels)
        check_same_data(
            other.provenance,
            str(self.provenance.get("fingerprint", "")),
            str(self.provenance.get("split", "train")),
            "compare: the other table",
            (other.sample_ids, other.labels),
            expected,
        )
        pairs = [
            (a, b)
            for a in self.columns
            for b in other.columns
            if a.removesuffix("_online") == b.removesuffix("_online")
        ]
        return [
            compare_columns(a, b, self.columns[a], other.columns[b], self.labels, self.class_names) for a, b in pairs
        ]

    def to_table(self) -> pa.Table:
        """Convert to a pyarrow table."""
        names = [self.class_names[label] if label < len(self.class_names) else str(label) for label in self.labels]
        table = pa.table(
            {
                "index": np.arange(len(self), dtype=np.int64),
                "sample_id": pa.array(self.sample_ids, pa.string()),
                "label": self.labels,
                "label_name": pa.array(names, pa.string()).dictionary_encode(),
                "n_obs": self.n_obs,
                **({} if self.in_test is None else {"in_test": self.in_test}),
                **self.columns,
            }
        )
        return with_provenance(table, {**self.provenance, "class_names": list(self.class_names)})

    def to_pandas(self) -> Any:
        """Convert to a pandas DataFrame (needs the extra `pandas`).

        Raises:
            UsageError: pandas is not installed.
        """
        return to_pandas(self.to_table())

    def write(self, path: str | Path) -> None:
        """Write as Parquet, with the provenance in the file's metadata.

        Raises:
            RunError: the file cannot be written.
        """
        write_table(self.to_table(), Path(path))

    @classmethod
    def published(cls, name: str) -> "Scores":
        """The scores of a data set that come with the package: means over seeds, without features.

        Args:
            name: cifar10, cifar100 or fashion-mnist; the training split.

        Raises:
            UsageError: none are published under this name.
        """
        return cls.read(f"{PREFIX}{name}")

    @classmethod
    def read(cls, path: str | Path) -> "Scores":
        """Read a table that `write`, or another program, wrote in this schema; rows may come in any order.

        Features that `score --save-features` wrote beside it are opened as memory-mapped arrays.

        Args:
            path: a score file, a folder that `score` or `run` wrote, or `published:NAME` for scores that come with the
                package.

        Raises:
            UsageError: the file is missing, unreadable or not a score table.
        """
        path = find_scores(Path(path))
        table = read_table(path, {"index": "integer", "label": "integer"})
        index = integer_column(table, "index", path)
        if not np.array_equal(np.sort(index), np.arange(len(index))) or not len(index):
            raise UsageError(f"{path}: index must hold 0..{len(index) - 1} once each")
        table = table.take(np.argsort(index))
        provenance = read_provenance(table, path, "run.json" if path.name == "scores.parquet" else None)
        labels = integer_column(table, "label", path)
        if labels.max() > MAX_CLASSES:
            raise UsageError(f"{path}: labels must be at most {MAX_CLASSES}; got {labels.max()}")
        columns = {
            name: np.asarray(table[name].to_numpy(zero_copy_only=False), np.float32)
            for name in table.column_names
            if name not in NON_HARDNESS_COLUMNS
            and (pa.types.is_floating(table[name].type) or pa.types.is_integer(table[name].type))
        }
        ids = string_column(table, "sample_id")
        n_obs = integer_column(table, "n_obs", path) if "n_obs" in table.column_names else np.ones(len(index), np.int64)
        in_test_column = table["in_test"] if "in_test" in table.column_names else None
        valid = (
            in_test_column is not None and pa.types.is_boolean(in_test_column.type) and not in_test_column.null_count
        )
        in_test = (
            np.asarray(in_test_column.to_numpy(zero_copy_only=False), np.bool_)
            if valid and in_test_column is not None
            else None
        )
        names = provenance.pop("class_names", None) or [str(k) for k in range(int(labels.max()) + 1)]
        return cls(
            sample_ids=ids,
            labels=labels,
            class_names=names,
            n_obs=n_obs.astype(np.int32),
            columns=columns,
            provenance=provenance,
            in_test=in_test,
            file=path,
            **read_features(path.parent, provenance, len(index)),
        )


def find_scores(path: Path) -> Path:
    """The score file of a path: the path itself, the file that `score` or `run` wrote into the folder, or published.

    Raises:
        UsageError: there is no such path, or it is a folder without a score file.
    """
    if is_published(path):
        return published_file(str(path))
    require(path.exists(), "scores", "a folder that score wrote, a scores.parquet, or published:NAME", str(path))
    candidates = [path / "scores.parquet", path / "scores" / "scores.parquet"] if path.is_dir() else [path]
    file = next((candidate for candidate in candidates if candidate.exists()), None)
    if file is None and path.is_dir():
        raise UsageError(f"{path}: holds no scores.parquet")
    return file or path


class LazyRows:
    """Some rows of an array, read on access."""

    def __init__(self, array: Any, rows: Ints) -> None:
        self.array = array
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        return self.array[self.rows[key]]
