"""Tables as CSV that a spreadsheet may open: no text in them is taken for a formula."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

FORMULA = tuple("=+-@\t\r\n")  # beginnings


def write_csv(table: pa.Table, path: Path, raw: bool = False) -> None:
    """Write a CSV file; a text that begins as a formula would gets a `'` before it, unless `raw`."""
    csv.write_csv(table if raw else without_formulas(table), path)


def without_formulas(table: pa.Table) -> pa.Table:
    """The table with a `'` before every text, and name of a column, that begins with `=`, `+`, `-`, `@` or a tab.

    >>> without_formulas(pa.table({"=a": ["=1+1", "b", None], "n": [-1, 2, 3]})).to_pydict()
    {"'=a": ["'=1+1", 'b', None], 'n': [-1, 2, 3]}
    """
    for place, name in enumerate(table.column_names):
        kind = table[name].type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            table = table.set_column(place, name, pa.array(map(_marked, table[name].to_pylist()), kind))
    return table.rename_columns([_marked(name) for name in table.column_names])


def _marked(text: str | None) -> Any:
    return f"'{text}" if text is not None and text.startswith(FORMULA) else text
