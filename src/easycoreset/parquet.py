"""Read and write Parquet tables, with their provenance as metadata."""

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
    """Add `provenance` to the table's metadata."""
    return table.replace_schema_metadata({"easycoreset": json.dumps(provenance, sort_keys=True)})


def read_provenance(table: pa.Table, path: Path, beside: str | None) -> dict[str, Any]:
    """Read provenance from the table's metadata, else from the JSON file `beside` it; empty without either.

    Raises:
        UsageError: the provenance is not a JSON object.
    """
    metadata = table.schema.metadata or {}
    if b"easycoreset" in metadata:
        try:
            provenance = json.loads(metadata[b"easycoreset"])
        except (ValueError, RecursionError):
            provenance = None
        if not isinstance(provenance, dict):
            raise UsageError(f"{path}: its provenance must be a JSON object")
    else:
        file = path.with_name(beside) if beside else None
        provenance = read_record(file).get("provenance", {}) if file is not None and file.exists() else {}
    check_record(provenance, PROVENANCE, f"{path}: provenance")
    return dict(provenance)


def string_column(table: pa.Table, name: str) -> list[str]:
    """One column as strings, whatever its type; the row numbers where it is absent."""
    if name not in table.column_names:
        return [str(row) for row in range(table.num_rows)]
    return [str(value) for value in table[name].to_pylist()]


def write_table(table: pa.Table, path: Path, before: Callable[[Path], object] = lambda temporary: None) -> None:
    """Write a Parquet file (zstd) atomically; `before` is called with the temporary file before it is renamed."""

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary, compression="zstd")
        before(temporary)

    write_atomic(path, write)


def read_table(path: Path, needs: dict[str, str]) -> pa.Table:
    """Read a Parquet file with the columns `needs`, name -> a type of `KINDS`, with `?` to allow nulls.

    Raises:
        UsageError: the file is missing, not Parquet, truncated, or has another schema.
    """
    with _usage_errors(path):
        file = pq.ParquetFile(path)
        duplicates = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
        if duplicates:
            raise UsageError(f"{path}: column {quote(duplicates[0])} is there more than once")
        table = file.read()
        table.validate(full=True)
    require_columns(table, path, needs)
    return table


def to_pandas(table: pa.Table) -> Any:
    """A table as a pandas DataFrame.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        return table.to_pandas()
    except ImportError:
        raise UsageError("to_pandas needs pandas: pip install easycoreset[pandas]") from None


def read_shape(path: Path) -> tuple[list[str], int]:
    """Read the column names and the number of rows of a Parquet file; the rows are not read.

    Raises:
        UsageError: the file is missing, not Parquet, or truncated.
    """
    with _usage_errors(path):
        file = pq.ParquetFile(path)
        return file.schema_arrow.names, file.metadata.num_rows


@contextlib.contextmanager
def _usage_errors(path: Path) -> Iterator[None]:
    """Turn any error of Arrow into a `UsageError` that names the file."""
    try:
        yield
    except UsageError:
        raise
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: not a readable Parquet file: {shorten(reason)}") from None


def require_columns(table: pa.Table, path: Path, needs: dict[str, str]) -> None:
    """Refuse a table without the columns `needs`, specified as for `read_table`.

    Raises:
        UsageError: a column is missing or of another type, or has nulls.
    """
    for name, kind in needs.items():
        column = table[name] if name in table.column_names else None
        all_null = kind.endswith("?") and column is not None and pa.types.is_null(column.type)
        if column is None or not (all_null or KINDS[kind.removesuffix("?")](column.type)):
            raise UsageError(
                f"{path}: needs a column {quote(name)} of type {kind.removesuffix('?')}; it has "
                f"{shorten(', '.join(table.column_names))}"
            )
        if column.null_count and kind != "bool" and not kind.endswith("?"):
            raise UsageError(f"{path}: column {quote(name)} must have no missing values")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


KINDS = {"integer": pa.types.is_integer, "bool": pa.types.is_boolean, "number": _is_number, "text": _is_text}
KINDS |= {"binary": pa.types.is_binary}


def integer_column(table: pa.Table, name: str, path: Path) -> npt.NDArray[np.int64]:
    """One column as int64.

    Raises:
        UsageError: a value is not an integer >= 0.
    """
    column = table[name]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise UsageError(f"{path}: column {quote(name)} must be integers, with no missing values")
    values = np.asarray(column.to_numpy(), np.int64)
    if len(values) and values.min() < 0:
        raise UsageError(f"{path}: column {quote(name)} must be >= 0; got {values.min()}")
    return values
