"""A manifest: a CSV, TSV or Parquet table of image files with the columns filepath, label and, optionally, split."""

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import printable_name
from easycoreset.data.classes import format_names, number_classes
from easycoreset.data.image_files import ListedImages, hold_out_listed, open_listed
from easycoreset.data.source import Reading, Source
from easycoreset.data.split_names import TEST, TRAIN, choose_splits, parse_split_name
from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.parquet import read_table

COLUMNS = ("filepath", "label")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
Columns = dict[str, list[Any]]


def load_manifest(location: str, reading: Reading) -> Source:
    """Open the images that a manifest lists; sample ids are the paths as written in it.

    `number_classes` interprets the labels; without test rows a seeded, stratified fifth is held out. Column names may
    be in any case; the delimiter of a CSV file may be a semicolon or a tab, as spreadsheets write it.

    Raises:
        UsageError: an unreadable table, invalid columns, paths, labels or splits, or unreadable images; the message
            names them.
    """
    file = Path(location)
    columns = _read(file)
    notes: list[str] = []
    rows = _distinct_rows(file, columns, notes)
    columns = {name: [values[row] for row in rows] for name, values in columns.items()}
    rows_by_split = _rows_by_split(file, columns, notes)
    split_labels = {split: [columns["label"][row] for row in split_rows] for split, split_rows in rows_by_split.items()}
    names, numbers, class_notes = number_classes(split_labels, str(file), reading.classes)
    notes += class_notes
    labels = np.zeros(len(rows), np.int64)
    for split, split_rows in rows_by_split.items():
        labels[split_rows] = numbers[split]
    ids = [str(path) for path in columns["filepath"]]
    samples = ListedImages(_resolve_paths(file, ids), labels, ids)
    if "test" in rows_by_split:
        listed = {split: samples.take(np.array(split_rows, np.int64)) for split, split_rows in rows_by_split.items()}
    else:
        listed, note = hold_out_listed(samples.take(np.array(rows_by_split["train"], np.int64)))
        notes.append(f"no test rows: {note}")
    return open_listed(str(file), listed, names, reading, notes)


def list_manifest(file: Path) -> list[Path]:
    """The paths of the files that a manifest lists."""
    return _resolve_paths(file, [str(path) for path in _read(file)["filepath"]])


def _read(file: Path) -> Columns:
    columns = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_csv(file)
    if not columns["filepath"]:
        raise UsageError(f"data: {file}: holds no row")
    return columns


def _read_csv(file: Path) -> Columns:
    """Read a CSV file as strings."""
    try:
        with open(file, encoding=_encoding(file), newline="") as opened:
            reader = csv.reader(opened, delimiter=_delimiter(opened.readline()), strict=True)
            opened.seek(0)
            header = [name.strip().lower() for name in next(reader, [])]
            _check_columns(file, header)
            positions = {name: header.index(name) for name in (*COLUMNS, "split") if name in header}
            columns: Columns = {name: [] for name in positions}
            for row in reader:
                if row and len(row) != len(header):
                    raise UsageError(
                        f"data: {file}: line {reader.line_num} has {len(row)} fields; the header has {len(header)}"
                    )
                for name, position in positions.items() if row else ():
                    columns[name].append(row[position].strip())
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"data: {file}: not a readable CSV file: {error}") from None
    return columns


def _encoding(file: Path) -> str:
    """UTF-16 if the file starts with its byte order mark, else UTF-8 with or without one."""
    with open(file, "rb") as opened:
        return "utf-16" if opened.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _delimiter(header: str) -> str:
    """The first of comma, semicolon and tab that occurs in the header; else a comma."""
    return next((delimiter for delimiter in ",;\t" if delimiter in header), ",")


def _read_parquet(file: Path) -> Columns:
    table = read_table(file, {})
    header = [name.strip().lower() for name in table.column_names]
    _check_columns(file, header)
    columns: Columns = {}
    for name in (name for name in (*COLUMNS, "split") if name in header):
        column = table.column(header.index(name))
        value_type = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        is_text = (
            pa.types.is_string(value_type)
            or pa.types.is_large_string(value_type)
            or pa.types.is_string_view(value_type)
        )
        is_number = (
            pa.types.is_integer(value_type) or pa.types.is_floating(value_type) or pa.types.is_boolean(value_type)
        )
        if not (is_text or (name == "label" and is_number)):
            alternative = " or numbers" * (name == "label")
            raise UsageError(f"data: {file}: {name} must be strings{alternative}; got {value_type}")
        values = column.to_pylist()
        columns[name] = [value.strip() if isinstance(value, str) else value for value in values]
    return columns


def _check_columns(file: Path, header: Sequence[str]) -> None:
    for name in COLUMNS:
        if name not in header:
            suggestion = suggest_name(name, header) if header else "it is empty"
            raise UsageError(f"data: {file}: a manifest needs a column {quote(name)}: {suggestion}")
    for name in (*COLUMNS, "split"):
        if header.count(name) > 1:
            raise UsageError(
                f"data: {file}: column {quote(name)} must occur once; it occurs {header.count(name)} times"
            )


def _distinct_rows(file: Path, columns: Columns, notes: list[str]) -> list[int]:
    """The rows to read: for each path, the first; refuses empty fields and paths with two labels or splits."""
    for name, values in columns.items():
        empty = [row for row, value in enumerate(values) if value is None or value == ""]
        if empty:
            raise UsageError(
                f"data: {file}: {name} must not be empty; it is in {len(empty)} rows (first: row {empty[0] + 1})"
            )
    first: dict[str, int] = {}
    repeated: dict[int, int] = {}  # row -> the first row with the same path
    for row, path in enumerate(columns["filepath"]):
        first_row = first.setdefault(os.path.normpath(file.parent / str(path)), row)
        if first_row != row:
            repeated[row] = first_row
    for name in (name for name in ("label", "split") if name in columns):
        values = columns[name]
        conflicts = [row for row, first_row in repeated.items() if values[row] != values[first_row]]
        if conflicts:
            row = conflicts[0]
            first_row = repeated[conflicts[0]]
            raise UsageError(
                f"data: {file}: one path must have one {name}; {len(conflicts)} rows repeat a path with "
                f"another {name} (first: {printable_name(columns['filepath'][row])}, {quote(values[first_row])} and "
                f"{quote(values[row])})"
            )
    if repeated:
        notes.append(f"{len(repeated)} rows that repeat others are left out")
    return sorted(first.values())


def _rows_by_split(file: Path, columns: Columns, notes: list[str]) -> dict[str, list[int]]:
    """The row numbers of train and, if it has rows, of test."""
    if "split" not in columns:
        return {"train": list(range(len(columns["filepath"])))}
    values = [str(value).lower() for value in columns["split"]]
    unknown = Counter(value for value in values if parse_split_name(value) is None)
    if unknown:
        value, rows = unknown.most_common(1)[0]
        raise UsageError(
            f"data: {file}: split must be one of {', '.join((*TRAIN, *TEST))}; got {quote(value)} in "
            f"{rows} rows: {suggest_name(value, (*TRAIN, *TEST))}"
        )
    train, test = choose_splits(set(values))
    if not train:
        raise UsageError(f"data: {file}: no row is of split train")
    if len(train) > 1:
        raise UsageError(f"data: {file}: several splits may be the training split: {format_names(train)}")
    rows_by_split = {"train": [row for row, value in enumerate(values) if value == train[0]]}
    if test:
        rows_by_split["test"] = [row for row, value in enumerate(values) if value == test[0]]
        notes += [
            f"the {values.count(other)} rows of split {other!r} are not used: {test[0]!r} is the test split"
            for other in test[1:]
        ]
    return rows_by_split


def _resolve_paths(file: Path, names: Sequence[str]) -> list[Path]:
    """The paths of the files, which are relative to the manifest's folder; all must exist."""
    urls = [name for name in names if URL.match(name)]
    if urls:
        raise UsageError(
            f"data: {file}: filepath must be a path; {len(urls)} rows hold a URL: {format_names(urls)} (fetch "
            "the files first)"
        )
    paths = [file.parent / name for name in names]
    if os.sep == "/" and not any(map(os.path.isfile, paths)) and all("\\" in name for name in names):
        paths = [file.parent / name.replace("\\", "/") for name in names]  # Windows paths
    missing = [name for name, path in zip(names, paths, strict=True) if not os.path.isfile(path)]
    if missing:
        raise UsageError(f"data: {file}: {len(missing)} of {len(names)} files do not exist: {format_names(missing)}")
    return paths
