"""Parquet tables that carry where they come from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from easycoreset.errors import UsageError
from easycoreset.files import read_json, write_atomic


def with_provenance(table: pa.Table, provenance: dict[str, Any]) -> pa.Table:
    """Put `provenance` into the table's own metadata."""
    return table.replace_schema_metadata({"easycoreset": json.dumps(provenance, sort_keys=True)})


def read_provenance(table: pa.Table, path: Path, beside: str | None) -> dict[str, Any]:
    """Provenance from the table's metadata, else from the JSON file `beside` it, else nothing.

    Raises:
        UsageError: what is there is not a JSON object.
    """
    metadata = table.schema.metadata or {}
    if b"easycoreset" in metadata:
        try:
            provenance = json.loads(metadata[b"easycoreset"])
        except ValueError:
            provenance = None
        if not isinstance(provenance, dict):
            raise UsageError(f"{path}: its metadata are no provenance")
        return provenance
    file = path.with_name(beside) if beside else None
    record = read_json(file) if file is not None and file.exists() else {}
    return dict(record.get("provenance", {}))


def strings(table: pa.Table, name: str) -> list[str]:
    """One column as strings, whatever its type; the row numbers where it is absent."""
    if name not in table.column_names:
        return [str(row) for row in range(table.num_rows)]
    return [str(value) for value in table[name].to_pylist()]


def write_table(table: pa.Table, path: Path, before: Callable[[Path], object] = lambda temporary: None) -> None:
    """Write a Parquet file (zstd) at once; `before` is called with the temporary file before that gets its name."""

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary, compression="zstd")
        before(temporary)

    write_atomic(path, write)


def read_table(path: Path, needs: dict[str, str]) -> pa.Table:
    """Read a Parquet file with the columns `needs`, name -> integer or bool.

    Raises:
        UsageError: missing, not Parquet, truncated, or of another schema.
    """
    try:
        table = pq.ParquetFile(path).read()
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    checks = {"integer": pa.types.is_integer, "bool": pa.types.is_boolean}
    for name, kind in needs.items():
        if name not in table.column_names or not checks[kind](table[name].type):
            raise UsageError(f"{path}: needs a column {name!r} of type {kind}; it has {', '.join(table.column_names)}")
    return table


def integers(table: pa.Table, name: str, path: Path) -> npt.NDArray[np.int64]:
    """One column as int64.

    Raises:
        UsageError: it is not of integers >= 0.
    """
    column = table[name]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise UsageError(f"{path}: column {name!r} must be integers without gaps")
    values = np.asarray(column.to_numpy(), np.int64)
    if len(values) and values.min() < 0:
        raise UsageError(f"{path}: column {name!r} must be >= 0; got {values.min()}")
    return values
