"""Read lists of samples from files of the usual kinds; an ambiguous file is refused."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from easycoreset.arrays import list_npz, open_npy, read_npz
from easycoreset.decisions import is_decisions, read_decisions
from easycoreset.errors import UsageError, quote, shorten

INDICES = ("index", "idx", "indices", "kept")
IDS = ("sample_id", "sample_ids", "id", "ids", "filepath")
KEEP = "keep"  # the column of a coreset table that tells which samples are kept
SEPARATORS = ",;\t"  # column separators; blanks separate numbers too
MAX_TEXT_BYTES = 2**28  # bytes of a text file


def read_list_file(path: Path, option: str, size: int) -> list[Any]:
    """Read the indices or sample ids that a file lists, or the indices where its mask is true.

    Args:
        path: .npy or .npz (one array, or one with a usual name), .json (a list, or decisions of an audit's page, which
            list the training samples that they leave out), or text: one value per line, or values separated by commas,
            semicolons, tabs or blanks, with comments after #, with or without a header. In a table with several
            columns, the column with a usual name is read.
        option: the option and the file, for messages.
        size: N, the length of a mask.

    Raises:
        UsageError: the file is missing, damaged, or not clearly a list of samples.
    """
    try:
        if path.suffix in (".npy", ".npz"):
            return _from_array(_read_array(path, option), option, size)
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise ValueError("too large")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix != ".json":
            return _from_text(text, option, size)
        content: Any = json.loads(text)
    except FileNotFoundError:
        raise UsageError(f"{option}: no such file") from None
    except UsageError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        raise UsageError(f"{option}: not a list of indices or ids: {shorten(str(error))}") from None
    if is_decisions(content):
        return [one.sample_id for one in read_decisions(path) if one.leave_out and one.part == "train"]
    if not isinstance(content, list):
        raise UsageError(f"{option}: not a list of indices or ids: not a JSON list")
    values = cast("list[Any]", content)
    return _from_array(np.array(values), option, size) if values and _all_bools(values) else values


def to_integer(value: Any) -> int:
    """Convert an index, which may be written as 960.0, to int.

    Raises:
        ValueError: the value is not a whole number.
    """
    if isinstance(value, bool | np.bool_):
        raise ValueError
    number = float(value) if not isinstance(value, int) else value
    if number != int(number):
        raise ValueError
    return int(number)


def _read_array(path: Path, option: str) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return open_npy(path)
        names = list_npz(path)
        position = _find_usual_name([name.lower() for name in names]) if len(names) > 1 else 0
        if names and position is not None:
            values = read_npz(path, [names[position]])[names[position]]
            has_usual_name = names[position].startswith("arr_") or names[position].lower() in (*INDICES, *IDS)
            if has_usual_name or values.dtype.kind != "f":  # floats with another name are hardly indices
                return values
    except UsageError as error:
        raise UsageError(f"{option}: not a list of indices or ids: {str(error).rpartition(': ')[2]}") from None
    raise UsageError(
        f"{option}: it is unclear which array is meant ({shorten(', '.join(names)) or 'none'}): name it index"
    )


def _find_usual_name(names: Sequence[str]) -> int | None:
    """Find the only name that is usual for indices, or else for ids; None if there are none or several."""
    for usual_names in (INDICES, IDS):
        positions = [position for position, name in enumerate(names) if name in usual_names]
        if positions:
            return positions[0] if len(positions) == 1 else None
    return None


def _from_array(values: np.ndarray, option: str, size: int) -> list[Any]:
    """The values of an array [n] or [n,1], or the indices where a mask [N] is true."""
    if values.ndim != 1 and values.size != max(values.shape, default=0):
        raise UsageError(f"{option}: must be one-dimensional; got {values.shape}")
    values = np.ravel(values)
    if values.dtype != np.bool_:
        return values.tolist()
    if len(values) != size:
        raise UsageError(f"{option}: a mask must have as many values as there are samples, {size}; got {len(values)}")
    return np.flatnonzero(values).tolist()


def _all_bools(values: Sequence[Any]) -> bool:
    return all(isinstance(value, bool) for value in values)


def _from_text(text: str, option: str, size: int) -> list[Any]:
    """Read lines, or one column of a table."""
    lines = [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()) if line]
    rows = _split(lines)
    widths = {len(row) for row in rows}
    if len(rows) == 1 or (len(widths) > 1 and all(_is_number(cell) for row in rows for cell in row)):
        values = [cell for row in rows for cell in row]  # one list of numbers that is broken into lines
    elif widths <= {1}:
        values = [row[0] for row in rows]
    elif len(widths) > 1:
        raise UsageError(f"{option}: lines have {min(widths)} to {max(widths)} values: give one per line")
    else:
        return _from_table(rows, option)
    if len(values) > 1 and values[0].lower() in (*INDICES, *IDS):  # a header
        values = values[1:]
    return _from_bools(values, option, size)


def _split(lines: Sequence[str]) -> list[list[str]]:
    """Split lines into values; blanks separate only numbers, since names may hold blanks."""
    separator = next((separator for separator in SEPARATORS if any(separator in line for line in lines)), None)
    if separator is None:
        rows = [line.split() for line in lines]
        all_numbers = all(_is_number(cell) for row in rows for cell in row)
        return rows if all_numbers else [[line.strip('"')] for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]


def _from_table(rows: Sequence[Sequence[str]], option: str) -> list[Any]:
    """Read the column with a usual name; a table without one is refused, because any column may be meant."""
    header = [cell.lower() for cell in rows[0]]
    column = _find_usual_name(header)
    if column is None:
        shown = shorten(", ".join(cell or "(no name)" for cell in rows[0]))
        raise UsageError(
            f"{option}: it is unclear which of {len(header)} columns is meant ({shown}): name it index, or give only it"
        )
    keep = header.index(KEEP) if KEEP in header else None
    if keep is None:
        return [row[column] for row in rows[1:]]
    invalid = {row[keep].lower() for row in rows[1:]} - {"true", "1", "1.0", "false", "0", "0.0"}
    if invalid:
        raise UsageError(f"{option}: column {KEEP} must be true or false; got {quote(min(invalid))}")
    return [row[column] for row in rows[1:] if row[keep].lower() in ("true", "1", "1.0")]


def _from_bools(values: list[str], option: str, size: int) -> list[Any]:
    """Read a column as values, or as a mask if it holds only true and false."""
    if not values or not {value.lower() for value in values} <= {"true", "false"}:
        return [value for value in values if value]
    return _from_array(np.array([value.lower() == "true" for value in values], np.bool_), option, size)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
