"""Parquet tables that carry where they come from."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from easycoreset.errors import UsageError, quote, shorten
from easycoreset.files import write_atomic
from easycoreset.records import PROVENANCE, read_record
from easycoreset.schemas import check_record


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
        except (ValueError, RecursionError):
            provenance = None
        if not isinstance(provenance, dict):
            raise UsageError(f"{path}: its metadata are no provenance")
    else:
        file = path.with_name(beside) if beside else None
        provenance = read_record(file).get("provenance", {}) if file is not None and file.exists() else {}
    check_record(provenance, PROVENANCE, f"{path}: provenance")
    return dict(provenance)


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
    """Read a Parquet file with the columns `needs`, name -> integer, number, bool or text; `?` after it allows nulls.

    Raises:
        UsageError: missing, not Parquet, truncated, or of another schema.
    """
    with _named(path):
        file = pq.ParquetFile(path)
        twice = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
        if twice:
            raise UsageError(f"{path}: column {quote(twice[0])} is there more than once")
        table = file.read()
        table.validate(full=True)
    require_columns(table, path, needs)
    return table


def read_shape(path: Path) -> tuple[list[str], int]:
    """The names of a Parquet file's columns, and its number of rows; the rows are not read.

    Raises:
        UsageError: missing, not Parquet, or truncated.
    """
    with _named(path):
        file = pq.ParquetFile(path)
        return file.schema_arrow.names, file.metadata.num_rows


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file cannot be read, whatever Arrow raises."""
    try:
        yield
    except UsageError:
        raise
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: not a readable Parquet file: {shorten(said)}") from None


def require_columns(table: pa.Table, path: Path, needs: dict[str, str]) -> None:
    """Refuse a table without the columns `needs`, as `read_table` takes them.

    Raises:
        UsageError: the column is named.
    """
    for name, kind in needs.items():
        column = table[name] if name in table.column_names else None
        gaps = kind.endswith("?") and column is not None and pa.types.is_null(column.type)
        if column is None or not (gaps or KINDS[kind.removesuffix("?")](column.type)):
            raise UsageError(
                f"{path}: needs a column {quote(name)} of type {kind.removesuffix('?')}; it has "
                f"{shorten(', '.join(table.column_names))}"
            )
        if column.null_count and kind != "bool" and not kind.endswith("?"):
            raise UsageError(f"{path}: column {quote(name)} must be without gaps")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


KINDS = {"integer": pa.types.is_integer, "bool": pa.types.is_boolean, "number": _is_number, "text": _is_text}


def integers(table: pa.Table, name: str, path: Path) -> npt.NDArray[np.int64]:
    """One column as int64.

    Raises:
        UsageError: it is not of integers >= 0.
    """
    column = table[name]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise UsageError(f"{path}: column {quote(name)} must be integers without gaps")
    values = np.asarray(column.to_numpy(), np.int64)
    if len(values) and values.min() < 0:
        raise UsageError(f"{path}: column {quote(name)} must be >= 0; got {values.min()}")
    return values
