"""Lists of samples in files of any usual kind: one reader, which takes what is unmistakable and nothing else."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from easycoreset.arrays import list_npz, open_npy, read_npz
from easycoreset.errors import UsageError, quote, shorten

INDICES = ("index", "idx", "indices", "kept")
IDS = ("sample_id", "sample_ids", "id", "ids", "filepath")
KEEP = "keep"  # a column of a coreset's whole table
MARKS = ",;\t"  # that divide columns; blanks do too, between numbers
LARGEST = 2**28  # bytes of a text


def read_list(path: Path, what: str, size: int) -> list[Any]:
    """The indices or sample ids that a file lists, or the indices where its mask is true.

    Args:
        path: .npy or .npz (one array, or one by a usual name), .json (a list), or text: one a line or divided by
            commas, semicolons, tabs or blanks, comments after #, with or without a header. Of a table the column is
            taken that a usual name tells.
        what: names the option and the file in messages.
        size: N, as many as a mask must have.

    Raises:
        UsageError: missing, broken, or not unmistakably such a list.
    """
    try:
        if path.suffix in (".npy", ".npz"):
            return _from_array(_read_array(path, what), what, size)
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix != ".json":
            return _from_text(text, what, size)
        listed: Any = json.loads(text)
    except FileNotFoundError:
        raise UsageError(f"{what}: no such file") from None
    except UsageError:
        raise
    except Exception as error:  # a broken file raises almost anything
        raise UsageError(f"{what}: not a list of indices or ids: {shorten(str(error))}") from None
    if not isinstance(listed, list):
        raise UsageError(f"{what}: not a list of indices or ids: not a JSON list")
    values = cast("list[Any]", listed)
    return _from_array(np.array(values), what, size) if values and _all_bools(values) else values


def whole_number(value: Any) -> int:
    """An index, also where it is spelled 960.0.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool | np.bool_):
        raise ValueError
    number = float(value) if not isinstance(value, int) else value
    if number != int(number):
        raise ValueError
    return int(number)


def _read_array(path: Path, what: str) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return open_npy(path)
        names = list_npz(path)
        place = _choose([name.lower() for name in names]) if len(names) > 1 else 0
        if names and place is not None:
            values = read_npz(path, [names[place]])[names[place]]
            unnamed = names[place].startswith("arr_") or names[place].lower() in (*INDICES, *IDS)
            if unnamed or values.dtype.kind != "f":  # numbers of another name are hardly indices
                return values
    except UsageError as error:
        raise UsageError(f"{what}: not a list of indices or ids: {str(error).rpartition(': ')[2]}") from None
    raise UsageError(f"{what}: which array is meant? It holds {shorten(', '.join(names)) or 'none'}; call it index")


def _choose(names: Sequence[str]) -> int | None:
    """The place of the one name that says that indices are listed, else ids; None where none or several do."""
    for usual in (INDICES, IDS):
        places = [place for place, name in enumerate(names) if name in usual]
        if places:
            return places[0] if len(places) == 1 else None
    return None


def _from_array(values: np.ndarray, what: str, size: int) -> list[Any]:
    """The items of an array [n], or [n,1]; of a mask [N] the indices where it is true."""
    if values.ndim != 1 and values.size != max(values.shape, default=0):
        raise UsageError(f"{what}: must be one-dimensional; got {values.shape}")
    values = np.ravel(values)
    if values.dtype != np.bool_:
        return values.tolist()
    if len(values) != size:
        raise UsageError(f"{what}: a mask must have as many values as there are samples, {size}; got {len(values)}")
    return np.flatnonzero(values).tolist()


def _all_bools(values: Sequence[Any]) -> bool:
    return all(isinstance(value, bool) for value in values)


def _from_text(text: str, what: str, size: int) -> list[Any]:
    """Read lines, or one column of a table."""
    lines = [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()) if line]
    rows = _split(lines)
    widths = {len(row) for row in rows}
    if len(rows) == 1 or (len(widths) > 1 and all(_is_number(cell) for row in rows for cell in row)):
        values = [cell for row in rows for cell in row]  # numbers that go on from line to line
    elif widths <= {1}:
        values = [row[0] for row in rows]
    elif len(widths) > 1:
        raise UsageError(f"{what}: lines have {min(widths)} to {max(widths)} values: give one a line")
    else:
        return _from_table(rows, what)
    if len(values) > 1 and values[0].lower() in (*INDICES, *IDS):  # a header
        values = values[1:]
    return _from_bools(values, what, size)


def _split(lines: Sequence[str]) -> list[list[str]]:
    """The values of each line; blanks divide numbers alone, since names may hold them."""
    mark = next((mark for mark in MARKS if any(mark in line for line in lines)), None)
    if mark is None:
        words = [line.split() for line in lines]
        numbers = all(_is_number(word) for line in words for word in line)
        return words if numbers else [[line.strip('"')] for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark, skipinitialspace=True)]


def _from_table(rows: Sequence[Sequence[str]], what: str) -> list[Any]:
    """The column that a header names; a table of numbers alone might mean its row numbers or its values."""
    header = [cell.lower() for cell in rows[0]]
    place = _choose(header)
    if place is None:
        said = shorten(", ".join(cell or "(no name)" for cell in rows[0]))
        raise UsageError(f"{what}: which of {len(header)} columns is meant ({said})? Give one, or call it index")
    keep = header.index(KEEP) if KEEP in header else None
    if keep is None:
        return [row[place] for row in rows[1:]]
    strange = {row[keep].lower() for row in rows[1:]} - {"true", "1", "1.0", "false", "0", "0.0"}
    if strange:
        raise UsageError(f"{what}: column {KEEP} must be true or false; got {quote(min(strange))}")
    return [row[place] for row in rows[1:] if row[keep].lower() in ("true", "1", "1.0")]


def _from_bools(values: list[str], what: str, size: int) -> list[Any]:
    """A column of true and false is a mask."""
    if not values or not {value.lower() for value in values} <= {"true", "false"}:
        return [value for value in values if value]
    return _from_array(np.array([value.lower() == "true" for value in values], np.bool_), what, size)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
