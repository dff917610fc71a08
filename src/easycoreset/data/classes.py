"""Map labels to class numbers: one rule for every kind of data set."""

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from easycoreset.console import printable_name
from easycoreset.data.source import Ints
from easycoreset.data.split_names import normalise_name
from easycoreset.errors import EasycoresetWarning, UsageError, quote, shorten
from easycoreset.records import read_record

INTEGER = re.compile(r"(0|-?[1-9][0-9]*)(\.0*)?")
MAX_SHOWN = 5  # classes listed in a message
MAX_CLASSES = 2**20
Label = int | str


def number_classes(
    labels: Mapping[str, Iterable[Any]],
    what: str,
    classes: str | None = None,
    *,
    known_names: Sequence[str] = (),
    as_text: bool = False,
) -> tuple[list[str], dict[str, Ints], list[str]]:
    """Number the classes of the training split from 0, sorted by number or name.

    Labels that are all integers, also written as floats or text, are numbers and serve as class names. Otherwise all
    labels are names, booleans too.

    Args:
        labels: labels of every split, including train.
        what: name of the data set, for messages.
        classes: fixes the classes: their number (labels are 0..N-1), or a file of their names in order: one per line, a
            JSON list, or the model.json of a trained model. If it is None, the training labels are the classes.
        known_names: names of the classes 0, 1, ... if the data set provides them.
        as_text: labels are names even if they look like numbers, as folder names do.

    Returns:
        The class names, the labels [N] int64 of each split, and notes for the user.

    Raises:
        UsageError: a missing, invalid or negative label, or one that does not occur in the training split.
    """
    parsed = {split: _to_int_or_text(values, what) for split, values in labels.items()}
    all_labels = [label for values in parsed.values() for label in values]
    if not as_text and all(isinstance(label, int) or INTEGER.fullmatch(label) for label in all_labels):
        parsed = {
            split: [_parse_integer(label) if isinstance(label, str) else label for label in values]
            for split, values in parsed.items()
        }
    elif any(isinstance(label, int) for label in all_labels):
        parsed = {split: [str(label) for label in values] for split, values in parsed.items()}
    lowest = min((label for values in parsed.values() for label in values if isinstance(label, int)), default=0)
    if lowest < 0:
        raise UsageError(f"data: {what}: label must be >= 0; got {lowest}")
    if known_names:
        parsed = {split: [_name_of(label, known_names, what) for label in values] for split, values in parsed.items()}
    occurring = sorted(set(parsed["train"]), key=known_names.index if known_names else None)  # pyright: ignore[reportArgumentType, reportCallIssue]
    class_labels, names = (
        (occurring, [str(label) for label in occurring]) if classes is None else _fixed_classes(classes, occurring)
    )
    numbers = {label: number for number, label in enumerate(class_labels)}
    unknown = sorted({str(label) for values in parsed.values() for label in values if label not in numbers})
    if unknown:
        lacking = "not in the training rows" if classes is None else f"not in the option classes {quote(classes)}"
        raise UsageError(f"data: {what}: classes that are {lacking}: {format_names(unknown)}")
    notes: list[str] = []
    if classes is None and isinstance(class_labels[0], int) and class_labels != list(range(len(class_labels))):
        notes.append(
            f"the {len(class_labels)} classes are the numbers that occur: "
            f"{format_names(map(str, class_labels))} (--classes sets them)"
        )
    if known_names and len(class_labels) < len(known_names) and classes is None:
        absent = [name for name in known_names if name not in numbers]
        notes.append(
            f"{len(absent)} classes that do not occur are left out: {format_names(absent)} (--classes keeps them)"
        )
    _warn_of_similar_names(names, what)
    return names, {split: np.array([numbers[v] for v in values], np.int64) for split, values in parsed.items()}, notes


def _parse_integer(text: str) -> int:
    """The exact integer of a text that `WHOLE` matches, of any size."""
    return int(text.partition(".")[0])


def _to_int_or_text(values: Iterable[Any], what: str) -> list[Label]:
    """Labels as integers or text; whole floats become integers, booleans become text."""
    result: list[Label] = []
    for row, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, bool | str | bytes):
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            result.append(normalise_name(text.strip()))
        elif isinstance(value, int | float) and value == value and abs(value) < 2**53 and value == int(value):
            result.append(int(value))
        elif value is None or value != value:
            raise UsageError(f"data: {what}: label must not be empty; it is in row {row}")
        else:
            raise UsageError(f"data: {what}: labels must be whole numbers or text; got {quote(value)} in row {row}")
        if result[-1] == "":
            raise UsageError(f"data: {what}: label must not be empty; it is in row {row}")
    return result


def _name_of(label: Label, known_names: Sequence[str], what: str) -> str:
    if isinstance(label, int) and label >= len(known_names):
        raise UsageError(
            f"data: {what}: labels must be below {len(known_names)}, the number of class names; got {label}"
        )
    return known_names[label] if isinstance(label, int) else label


def _fixed_classes(classes: str, occurring: Sequence[Label]) -> tuple[Sequence[Label], list[str]]:
    """The class labels fixed by the option `classes`, and their names.

    Integer labels are positions in the list of names, unless the names are numbers too.
    """
    if classes.isdecimal():
        if not 2 <= int(classes) <= MAX_CLASSES:
            raise UsageError(f"classes must be in [2, {MAX_CLASSES}]; got {shorten(classes)}")
        names = [str(number) for number in range(int(classes))]
    else:
        names = _read_names(Path(classes))
    if len(set(names)) != len(names) or len(names) < 2:
        raise UsageError(f"classes must be two or more distinct names; got {quote(classes)}")
    if not isinstance(occurring[0], int):
        return names, names
    names_are_numbers = all(INTEGER.fullmatch(name) for name in names)
    return [_parse_integer(name) for name in names] if names_are_numbers else range(len(names)), names


def _read_names(file: Path) -> list[str]:
    """Read the class names, in order, from a file.

    Raises:
        UsageError: the file does not exist or is not a list of names.
    """
    if file.name == "model.json":
        return [str(name) for name in read_record(file)["class_names"]]
    try:
        if file.stat().st_size > MAX_CLASSES * 64:
            raise ValueError("too large")
        text = normalise_name(file.read_text(encoding="utf-8-sig"))
        names = json.loads(text) if file.suffix == ".json" else text.splitlines()
        if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
            raise ValueError("not a list of names")
        return [str(name).strip() for name in names if str(name).strip()]
    except FileNotFoundError:
        raise UsageError(f"classes must be a number, or a file of names; got {quote(str(file))}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"classes: {file}: not a list of names: {quote(str(error))}") from None


def _warn_of_similar_names(names: Sequence[str], what: str) -> None:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("".join(name.lower().split()), []).append(name)
    similar = next((group for group in groups.values() if len(group) > 1), None)
    if similar:
        message = f"{what}: classes that differ in spaces or capitals alone: {format_names(similar)}"
        warnings.warn(message, EasycoresetWarning, stacklevel=7)


def format_names(names: Iterable[str]) -> str:
    """Names as text for messages, at most the first five."""
    all_names = list(names)
    return ", ".join(map(printable_name, all_names[:MAX_SHOWN])) + (", ..." if len(all_names) > MAX_SHOWN else "")
