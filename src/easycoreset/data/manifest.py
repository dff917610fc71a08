"""A manifest: a CSV, TSV or Parquet table that lists image files: columns filepath, label and, where given, split."""

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import say_name
from easycoreset.data.classes import number_classes, say_all
from easycoreset.data.listed import Listed, Reading, hold_out_listed, open_listed
from easycoreset.data.parts import TEST, TRAIN, choose_parts, part_of
from easycoreset.data.source import Source
from easycoreset.errors import UsageError, nearest, quote
from easycoreset.parquet import read_table

COLUMNS = ("filepath", "label")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
Columns = dict[str, list[Any]]


def load_manifest(file: Path, reading: Reading) -> Source:
    """Open the images that a manifest lists; their ids are the paths as they are written there.

    Labels are what `number_classes` takes; without test rows a seeded, stratified fifth is held out. Columns are named
    in any case; a CSV file may be divided by semicolons or tabs, as spreadsheets write it.

    Raises:
        UsageError: a broken table, columns, paths, labels or splits that are wrong, or broken images, all named.
    """
    columns = _read(file)
    notes: list[str] = []
    rows = _distinct(file, columns, notes)
    columns = {name: [values[row] for row in rows] for name, values in columns.items()}
    parts = _parts(file, columns, notes)
    written = {part: [columns["label"][row] for row in own] for part, own in parts.items()}
    names, numbers, more = number_classes(written, str(file), reading.classes)
    notes += more
    labels = np.zeros(len(rows), np.int64)
    for part, own in parts.items():
        labels[own] = numbers[part]
    ids = [str(path) for path in columns["filepath"]]
    whole = Listed(_find(file, ids), labels, ids)
    if "test" in parts:
        listed = {part: whole.take(np.array(own, np.int64)) for part, own in parts.items()}
    else:
        listed, note = hold_out_listed(whole.take(np.array(parts["train"], np.int64)))
        notes.append(f"no test rows: {note}")
    return open_listed(str(file), listed, names, reading, notes)


def list_manifest(file: Path) -> list[Path]:
    """The files that a manifest lists."""
    return _find(file, [str(path) for path in _read(file)["filepath"]])


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
            places = {name: header.index(name) for name in (*COLUMNS, "split") if name in header}
            columns: Columns = {name: [] for name in places}
            for row in reader:
                if row and len(row) != len(header):
                    raise UsageError(
                        f"data: {file}: line {reader.line_num} has {len(row)} fields; the header has {len(header)}"
                    )
                for name, place in places.items() if row else ():
                    columns[name].append(row[place].strip())
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"data: {file}: not a readable CSV file: {error}") from None
    return columns


def _encoding(file: Path) -> str:
    """UTF-8, with or without a mark, or UTF-16 with one."""
    with open(file, "rb") as opened:
        return "utf-16" if opened.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _delimiter(header: str) -> str:
    """A comma, or what the header is divided by where it has none."""
    return next((mark for mark in ",;\t" if mark in header), ",")


def _read_parquet(file: Path) -> Columns:
    table = read_table(file, {})
    header = [name.strip().lower() for name in table.column_names]
    _check_columns(file, header)
    columns: Columns = {}
    for name in (name for name in (*COLUMNS, "split") if name in header):
        column = table.column(header.index(name))
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        if not (text or (name == "label" and number)):
            said = " or numbers" * (name == "label")
            raise UsageError(f"data: {file}: {name} must be strings{said}; got {kind}")
        values = column.to_pylist()
        columns[name] = [value.strip() if isinstance(value, str) else value for value in values]
    return columns


def _check_columns(file: Path, found: Sequence[str]) -> None:
    for name in COLUMNS:
        if name not in found:
            offered = nearest(name, found) if found else "it is empty"
            raise UsageError(f"data: {file}: a manifest needs a column {quote(name)}: {offered}")
    for name in (*COLUMNS, "split"):
        if found.count(name) > 1:
            raise UsageError(
                f"data: {file}: column {quote(name)} must be there once; it is there {found.count(name)} times"
            )


def _distinct(file: Path, columns: Columns, notes: list[str]) -> list[int]:
    """The rows to be read, of those that say the same the first; nothing may be missing, no file mean two things."""
    for name, values in columns.items():
        empty = [row for row, value in enumerate(values) if value is None or value == ""]
        if empty:
            raise UsageError(
                f"data: {file}: {name} must not be empty; it is in {len(empty)} rows (first: row {empty[0] + 1})"
            )
    first: dict[str, int] = {}
    others: dict[int, int] = {}
    for row, path in enumerate(columns["filepath"]):
        place = first.setdefault(os.path.normpath(file.parent / str(path)), row)
        if place != row:
            others[row] = place
    for name in (name for name in ("label", "split") if name in columns):
        values = columns[name]
        wrong = [row for row, place in others.items() if values[row] != values[place]]
        if wrong:
            row = wrong[0]
            place = others[wrong[0]]
            raise UsageError(
                f"data: {file}: one path must have one {name}; {len(wrong)} rows repeat a path with "
                f"another (first: {say_name(columns['filepath'][row])}, {quote(values[place])} and "
                f"{quote(values[row])})"
            )
    if others:
        notes.append(f"{len(others)} rows that repeat others are left out")
    return sorted(first.values())


def _parts(file: Path, columns: Columns, notes: list[str]) -> dict[str, list[int]]:
    """The rows of train and, where there are such, of test."""
    if "split" not in columns:
        return {"train": list(range(len(columns["filepath"])))}
    values = [str(value).lower() for value in columns["split"]]
    unknown = Counter(value for value in values if part_of(value) is None)
    if unknown:
        value, rows = unknown.most_common(1)[0]
        raise UsageError(
            f"data: {file}: split must be one of {', '.join((*TRAIN, *TEST))}; got {quote(value)} in "
            f"{rows} rows: {nearest(value, (*TRAIN, *TEST))}"
        )
    train, test = choose_parts(set(values))
    if not train:
        raise UsageError(f"data: {file}: no row is of split train")
    if len(train) > 1:
        raise UsageError(f"data: {file}: several splits may be the training part: {say_all(train)}")
    parts = {"train": [row for row, value in enumerate(values) if value == train[0]]}
    if test:
        parts["test"] = [row for row, value in enumerate(values) if value == test[0]]
        notes += [
            f"the {values.count(other)} rows of split {other!r} are not used: {test[0]!r} is the test part"
            for other in test[1:]
        ]
    return parts


def _find(file: Path, written: Sequence[str]) -> list[Path]:
    """The files: paths are relative to the manifest's folder."""
    urls = [path for path in written if URL.match(path)]
    if urls:
        raise UsageError(
            f"data: {file}: filepath must be a path; {len(urls)} rows hold a URL: {say_all(urls)} (fetch "
            "the files first)"
        )
    paths = [file.parent / path for path in written]
    if os.sep == "/" and not any(map(os.path.isfile, paths)) and all("\\" in path for path in written):
        paths = [file.parent / path.replace("\\", "/") for path in written]  # as Windows writes them
    missing = [name for name, path in zip(written, paths, strict=True) if not os.path.isfile(path)]
    if missing:
        raise UsageError(f"data: {file}: {len(missing)} of {len(written)} files do not exist: {say_all(missing)}")
    return paths
