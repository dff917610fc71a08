"""Which classes labels name: one rule for every kind of data set."""

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from easycoreset.console import say_name
from easycoreset.data.parts import fold_name
from easycoreset.data.source import Ints
from easycoreset.errors import EasycoresetWarning, UsageError, quote, shorten
from easycoreset.records import read_record

WHOLE = re.compile(r"(0|-?[1-9][0-9]*)(\.0*)?")
NAMED = 5  # classes that a message names
MOST = 2**20  # classes, and bytes of a file that names them
Label = int | str


def number_classes(
    labels: Mapping[str, Iterable[Any]],
    what: str,
    classes: str | None = None,
    *,
    named: Sequence[str] = (),
    as_text: bool = False,
) -> tuple[list[str], dict[str, Ints], list[str]]:
    """Number the classes that occur in the training split from 0, in the order of their numbers or names.

    Whole numbers, spelled as integers, floats or text, are numbers and their own names; booleans and other text are
    names.

    Args:
        labels: of every split, train among them.
        what: the data set's name, for messages.
        classes: fixes the classes instead: how many there are (labels are 0..N-1), or a file of their names in order:
            a line each, a JSON list, or a trained model's model.json.
        named: names of the classes 0, 1, ... where the data set brings them.
        as_text: labels are names, also where they look like numbers, as folders' are.

    Returns:
        The classes' names, each split's labels [N] int64, and what a user should be told.

    Raises:
        UsageError: a label that is missing or no label, a negative one, or one that the training split lacks.
    """
    plain = {split: _plain(values, what) for split, values in labels.items()}
    every = [label for values in plain.values() for label in values]
    if not as_text and all(isinstance(label, int) or WHOLE.fullmatch(label) for label in every):
        plain = {
            split: [_whole(label) if isinstance(label, str) else label for label in values]
            for split, values in plain.items()
        }
    elif any(isinstance(label, int) for label in every):
        plain = {split: [str(label) for label in values] for split, values in plain.items()}
    lowest = min((label for values in plain.values() for label in values if isinstance(label, int)), default=0)
    if lowest < 0:
        raise UsageError(f"data: {what}: label must be >= 0; got {lowest}")
    if named:
        plain = {split: [_name_of(label, named, what) for label in values] for split, values in plain.items()}
    occurring = sorted(set(plain["train"]), key=named.index if named else None)  # pyright: ignore[reportArgumentType, reportCallIssue]
    known, names = (occurring, [str(label) for label in occurring]) if classes is None else _fixed(classes, occurring)
    numbers = {label: number for number, label in enumerate(known)}
    strange = sorted({str(label) for values in plain.values() for label in values if label not in numbers})
    if strange:
        lacking = "the training rows lack" if classes is None else f"classes {quote(classes)} lacks"
        raise UsageError(f"data: {what}: classes that {lacking}: {say_all(strange)}")
    notes: list[str] = []
    if classes is None and isinstance(known[0], int) and known != list(range(len(known))):
        notes.append(f"the {len(known)} classes are the numbers that occur: {say_all(map(str, known))} (--classes)")
    if named and len(known) < len(named) and classes is None:
        absent = [name for name in named if name not in numbers]
        notes.append(f"{len(absent)} classes that do not occur are left out: {say_all(absent)} (--classes)")
    _warn_of_alike(names, what)
    return names, {split: np.array([numbers[v] for v in values], np.int64) for split, values in plain.items()}, notes


def _whole(text: str) -> int:
    """The number that `WHOLE` matches, exactly, however large."""
    return int(text.partition(".")[0])


def _plain(values: Iterable[Any], what: str) -> list[Label]:
    """Labels as integers and text; whole floats are integers, booleans text."""
    found: list[Label] = []
    for row, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, bool | str | bytes):
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            found.append(fold_name(text.strip()))
        elif isinstance(value, int | float) and value == value and abs(value) < 2**53 and value == int(value):
            found.append(int(value))
        elif value is None or value != value:
            raise UsageError(f"data: {what}: label must not be empty; it is in row {row}")
        else:
            raise UsageError(f"data: {what}: labels must be whole numbers or text; got {quote(value)} in row {row}")
        if found[-1] == "":
            raise UsageError(f"data: {what}: label must not be empty; it is in row {row}")
    return found


def _name_of(label: Label, named: Sequence[str], what: str) -> str:
    if isinstance(label, int) and label >= len(named):
        raise UsageError(f"data: {what}: labels must be below {len(named)}, the classes that it names; got {label}")
    return named[label] if isinstance(label, int) else label


def _fixed(classes: str, occurring: Sequence[Label]) -> tuple[Sequence[Label], list[str]]:
    """The labels of the classes that an option fixes, and their names.

    Labels that are numbers are places in a list of names, unless the names are numbers too.
    """
    if classes.isdecimal():
        if not 2 <= int(classes) <= MOST:
            raise UsageError(f"classes must be in [2, {MOST}]; got {shorten(classes)}")
        names = [str(number) for number in range(int(classes))]
    else:
        names = _read_names(Path(classes))
    if len(set(names)) != len(names) or len(names) < 2:
        raise UsageError(f"classes must be two or more, named once each; got {quote(classes)}")
    if not isinstance(occurring[0], int):
        return names, names
    numbered = all(WHOLE.fullmatch(name) for name in names)
    return [_whole(name) for name in names] if numbered else range(len(names)), names


def _read_names(file: Path) -> list[str]:
    """The names of classes in order.

    Raises:
        UsageError: no such file, or one of another kind.
    """
    if file.name == "model.json":
        return [str(name) for name in read_record(file)["class_names"]]
    try:
        if file.stat().st_size > MOST * 64:
            raise ValueError("too large")
        text = fold_name(file.read_text(encoding="utf-8-sig"))
        names = json.loads(text) if file.suffix == ".json" else text.splitlines()
        if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
            raise ValueError("not a list of names")
        return [str(name).strip() for name in names if str(name).strip()]
    except FileNotFoundError:
        raise UsageError(f"classes must be a number, or a file of names; got {quote(str(file))}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"classes: {file}: not a list of names: {quote(str(error))}") from None


def _warn_of_alike(names: Sequence[str], what: str) -> None:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("".join(name.lower().split()), []).append(name)
    alike = next((group for group in groups.values() if len(group) > 1), None)
    if alike:
        said = f"{what}: classes that differ in spaces or capitals alone: {say_all(alike)}"
        warnings.warn(said, EasycoresetWarning, stacklevel=7)


def say_all(names: Iterable[str]) -> str:
    """Names for people, the first five of them."""
    listed = list(names)
    return ", ".join(map(say_name, listed[:NAMED])) + (", ..." if len(listed) > NAMED else "")
