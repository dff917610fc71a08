"""Write tables as CSV files in which a spreadsheet takes no text for a formula."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

FORMULA_STARTS = tuple("=+-@\t\r\n")  # first characters of a formula


def write_csv(table: pa.Table, path: Path, raw: bool = False) -> None:
    """Write a CSV file; unless `raw`, a text that looks like a formula gets a `'` before it."""
    csv.write_csv(table if raw else without_formulas(table), path)


def without_formulas(table: pa.Table) -> pa.Table:
    """Put a `'` before every text and column name that begins with `=`, `+`, `-`, `@`, a tab or a line end.

    >>> without_formulas(pa.table({"=a": ["=1+1", "b", None], "n": [-1, 2, 3]})).to_pydict()
    {"'=a": ["'=1+1", 'b', None], 'n': [-1, 2, 3]}
    """
    for i, name in enumerate(table.column_names):
        dtype = table[name].type
        if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
            table = table.set_column(i, name, pa.array(map(_escape, table[name].to_pylist()), dtype))
    return table.rename_columns([_escape(name) for name in table.column_names])


def _escape(text: str | None) -> Any:
    return f"'{text}" if text is not None and text.startswith(FORMULA_STARTS) else text
