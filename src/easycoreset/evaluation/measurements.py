"""Measurements of a model besides attacks: distances, corruptions, certificates. They may be added later."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import nn

from easycoreset.data import Split
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.file_lists import check_free
from easycoreset.parquet import read_provenance, read_table, with_provenance, write_table
from easycoreset.run_folders import RunFolder

Measure = Callable[
    [nn.Module, Split, Outcome, int, Path], pa.Table
]  # the int is the batch size, the Path a partial file
Entries = Mapping[tuple[Hashable, ...], Measure]


@dataclass(frozen=True)
class Measurement:
    """A table with rows for each of several entries, and its summary in `evaluation.json`.

    Attributes:
        name: name of the summary's entry and of the table's file: margins, corruptions, ...
        by: the columns that tell the entries apart.
        entries: the values of these columns -> a function that measures the entry's rows and saves its progress.
        summarise: the table -> JSON values.
    """

    name: str
    by: tuple[str, ...]
    entries: Entries
    summarise: Callable[[pa.Table], Any]

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.name}.parquet"


def add_measurements(
    measurements: Sequence[Measurement],
    run: RunFolder,
    partial_folder: Path,
    model: nn.Module,
    split: Split,
    clean: Outcome,
    batch_size: int,
) -> None:
    """Measure the entries that an earlier start of this evaluation has not measured."""
    provenance = {"started": run.record["started"]}
    for measurement in measurements:
        if not measurement.entries:
            continue
        file = run.path / measurement.file
        check_free(file)
        tables: list[pa.Table] = []
        if file.exists() and read_provenance(table := read_table(file, {"index": "integer"}), file, None) == provenance:
            tables.append(table)
        measured = {key for table in tables for key in _keys(table, measurement.by)}
        for key, measure in measurement.entries.items():
            if key not in measured:
                stem = "-".join([measurement.name, *map(str, key)]).replace(":", "-").replace("/", "-")
                tables.append(measure(model, split, clean, batch_size, partial_folder / f"{stem}.parquet"))
        combined = pa.concat_tables([table.replace_schema_metadata() for table in tables])
        write_table(with_provenance(combined, provenance), file)
        run.finish(summary=run.record["summary"] | {measurement.name: measurement.summarise(combined)})


def _keys(table: pa.Table, by: Sequence[str]) -> set[tuple[Hashable, ...]]:
    values = table.select(list(by)).group_by(list(by)).aggregate([]).to_pylist()
    return {tuple(row[name] for name in by) for row in values}
