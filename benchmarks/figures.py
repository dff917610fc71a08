"""Figures that a result file records beside those of a rerun."""

from collections.abc import Iterator
from typing import Any, NamedTuple

ABOUT = (
    "command",
    "commit",
    "date",
    "hardware",
    "versions",
    "threads",
    "data",
    "minutes",
)  # of a run, not figures of it


class Verdict(NamedTuple):
    """Whether a result still holds (None: that was not looked at), and what was found."""

    holds: bool | None
    said: str


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every figure and word of nested JSON values, with its path.

    >>> dict(flatten({"a": [1, {"b": 2}], "seed": 0}))
    {'a.0': 1, 'a.1.b': 2, 'seed': 0}
    """
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from flatten(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def beside(recorded: Any, found: Any, *, absolute: float = 0.0, relative: float = 0.0) -> Verdict:
    """Compare nested JSON values: the same names, the same words, and figures within a tolerance.

    >>> beside({"precision": 0.97}, {"precision": 0.968}, absolute=0.02)
    Verdict(holds=True, said='1 figures within the tolerance, 0 of them the same')
    """
    old, new = (
        {path: value for path, value in flatten(whole) if path.split(".")[0] not in ABOUT}
        for whole in (recorded, found)
    )
    if old.keys() != new.keys():
        return Verdict(False, f"other figures: {', '.join(sorted(old.keys() ^ new.keys())[:3])}")
    for path, value in old.items():
        other = new[path]
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (value, other))
        if value != other and not (numbers and abs(value - other) <= max(absolute, relative * abs(value))):
            return Verdict(False, f"{path} is {other}; recorded is {value}")
    same = sum(value == new[path] for path, value in old.items())
    if same == len(old):
        return Verdict(True, f"all {same} figures are the same")
    return Verdict(True, f"{len(old)} figures within the tolerance, {same} of them the same")
