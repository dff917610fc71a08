"""A manifest: a CSV or Parquet table that lists image files, with columns filepath, label and, where given, split."""

import csv
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from easycoreset.console import say_name
from easycoreset.data.listed import TEST, TRAIN, Listed, Reading, hold_out_listed, open_listed
from easycoreset.data.source import Source
from easycoreset.errors import EasycoresetWarning, UsageError, nearest, quote
from easycoreset.parquet import read_table

COLUMNS = ("filepath", "label")
INTEGER = re.compile(r"0|-?[1-9][0-9]*")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
NAMED = 5  # of the things that are wrong
Columns = dict[str, list[str | int]]


def load_manifest(file: Path, reading: Reading) -> Source:
    """Open the images that a manifest lists; their ids are the paths as they are written there.

    Labels are strings or whole numbers; the classes are the sorted ones that occur. Without test rows a seeded,
    stratified fifth is held out. A CSV file may be divided by semicolons or tabs, as spreadsheets write it.

    Raises:
        UsageError: a broken table, columns, paths, labels or splits that are wrong, or broken images, all named.
    """
    columns = _read(file)
    notes: list[str] = []
    rows = _distinct(file, columns, notes)
    columns = {name: [values[row] for row in rows] for name, values in columns.items()}
    parts = _parts(file, columns, notes)
    training = [columns["label"][row] for row in parts["train"]]
    names, labels = _classes(file, columns["label"], training, notes)
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
    columns = _read_csv(file) if file.suffix.lower() == ".csv" else _read_parquet(file)
    if not columns["filepath"]:
        raise UsageError(f"data: {file}: holds no row")
    return columns


def _read_csv(file: Path) -> Columns:
    """Read a CSV file as strings; labels that are all whole numbers become numbers."""
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
                    raise UsageError(f"data: {file}: line {reader.line_num} has {len(row)} fields; the header has "
                                     f"{len(header)}")  # fmt: skip
                for name, place in places.items() if row else ():
                    columns[name].append(row[place] if name == "filepath" else row[place].strip())
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"data: {file}: not a readable CSV file: {error}") from None
    if all(INTEGER.fullmatch(str(label)) for label in columns["label"]):
        columns["label"] = [int(label) for label in columns["label"]]
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
    _check_columns(file, table.column_names)
    columns: Columns = {}
    for name in (name for name in (*COLUMNS, "split") if name in table.column_names):
        kind = table[name].type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        if not (text or (name == "label" and pa.types.is_integer(kind))):
            raise UsageError(f"data: {file}: {name} must be strings{' or integers' * (name == 'label')}; got {kind}")
        columns[name] = table[name].to_pylist()
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
            raise UsageError(f"data: {file}: {name} must not be empty; it is in {len(empty)} rows (first: row "
                             f"{empty[0] + 1})")  # fmt: skip
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
            row, place = wrong[0], others[wrong[0]]
            raise UsageError(f"data: {file}: one path must have one {name}; {len(wrong)} rows repeat a path with "
                             f"another (first: {say_name(columns['filepath'][row])}, {quote(values[place])} and "
                             f"{quote(values[row])})")  # fmt: skip
    if others:
        notes.append(f"{len(others)} rows that repeat others are left out")
    return sorted(first.values())


def _parts(file: Path, columns: Columns, notes: list[str]) -> dict[str, list[int]]:
    """The rows of train and, where there are such, of test."""
    if "split" not in columns:
        return {"train": list(range(len(columns["filepath"])))}
    values = [str(value).lower() for value in columns["split"]]
    unknown = Counter(value for value in values if value not in (*TRAIN, *TEST))
    if unknown:
        value, rows = unknown.most_common(1)[0]
        raise UsageError(f"data: {file}: split must be one of {', '.join((*TRAIN, *TEST))}; got {quote(value)} in "
                         f"{rows} rows: {nearest(value, (*TRAIN, *TEST))}")  # fmt: skip
    parts = {"train": [row for row, value in enumerate(values) if value in TRAIN]}
    if not parts["train"]:
        raise UsageError(f"data: {file}: no row is of split train")
    present = [name for name in TEST if name in values]
    if present:
        parts["test"] = [row for row, value in enumerate(values) if value == present[0]]
        notes += [f"the {values.count(other)} rows of split {other!r} are not used: {present[0]!r} is the test part"
                  for other in present[1:]]  # fmt: skip
    return parts


def _classes(file: Path, labels: Sequence[str | int], training: Sequence[str | int],
             notes: list[str]) -> tuple[list[str], np.ndarray]:  # fmt: skip
    """The names of the classes, and all labels as their numbers."""
    numeric = not isinstance(labels[0], str)
    known = sorted(set(training)) if numeric else sorted(set(training), key=str)
    if numeric and int(min(labels)) < 0:
        raise UsageError(f"data: {file}: label must be >= 0; got {min(labels)}")
    strange = sorted(set(map(str, labels)) - set(map(str, known)))
    if strange:
        raise UsageError(f"data: {file}: classes that the training rows lack: {_say_all(strange)}")
    if numeric and known != list(range(len(known))):
        notes.append(f"the {len(known)} classes are the numbers that occur: {_say_all(map(str, known))}")
    alike = [names for names in _spelt_alike(known) if len(names) > 1]
    if alike:
        said = f"{file}: classes that differ in spaces or capitals alone: {_say_all(alike[0])}"
        warnings.warn(said, EasycoresetWarning, stacklevel=6)
    numbers = {name: number for number, name in enumerate(known)}
    return [str(name) for name in known], np.array([numbers[label] for label in labels], np.int64)


def _spelt_alike(names: Sequence[str | int]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in map(str, names):
        groups.setdefault("".join(name.lower().split()), []).append(name)
    return list(groups.values())


def _find(file: Path, written: Sequence[str]) -> list[Path]:
    """The files: paths are relative to the manifest's folder."""
    urls = [path for path in written if URL.match(path)]
    if urls:
        raise UsageError(f"data: {file}: filepath must be a path; {len(urls)} rows hold a URL: {_say_all(urls)} (fetch "
                         "the files first)")  # fmt: skip
    paths = [file.parent / path for path in written]
    if os.sep == "/" and not any(map(os.path.isfile, paths)) and all("\\" in path for path in written):
        paths = [file.parent / path.replace("\\", "/") for path in written]  # as Windows writes them
    missing = [name for name, path in zip(written, paths, strict=True) if not os.path.isfile(path)]
    if missing:
        raise UsageError(f"data: {file}: {len(missing)} of {len(written)} files do not exist: {_say_all(missing)}")
    return paths


def _say_all(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(map(say_name, listed[:NAMED])) + (", ..." if len(listed) > NAMED else "")
