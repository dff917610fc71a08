"""What can go wrong, as types: wrong use, a failure during the work, a grid that failed in part, and a warning."""

import difflib
from collections.abc import Iterable
from typing import Any


class UsageError(ValueError):
    """Wrong use, found before work starts; the command line exits with 2."""


class OtherRunError(UsageError):
    """A folder that holds a run made with other options, or by a version that had others."""


class RunError(RuntimeError):
    """A failure during the work; the last good state is kept and the command line exits with 1."""


class GridError(RunError):
    """Part of a grid failed; the rest is done and the command line exits with 3."""


class EasycoresetWarning(UserWarning):
    """Something that the user should know and that does not stop the work."""


LONGEST = 80  # characters of a value that a message quotes


def quote(value: Any) -> str:
    """A value as Python writes it, on one line and of at most 80 characters.

    >>> quote("a" * 1000) == "'" + "a" * 38 + "..." + "a" * 37 + "'"
    True
    """
    if isinstance(value, str) and len(value) > LONGEST:
        value = value[:LONGEST] + value[-LONGEST:]  # the rest is not shown
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * LONGEST:
        return f"an integer of {value.bit_length()} bits"
    return shorten(repr(value))


def shorten(text: str) -> str:
    """At most 80 characters of a text: its beginning and its end."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 1]}...{text[-(LONGEST // 2 - 2) :]}"


def require(holds: bool, option: str, rule: str, value: Any) -> None:
    """Raise a `UsageError` that names option, rule and value, unless `holds`.

    >>> require(False, "fraction", "in (0, 1]", 1.5)
    Traceback (most recent call last):
    easycoreset.errors.UsageError: fraction must be in (0, 1]; got 1.5
    """
    if not holds:
        raise UsageError(f"{option} must be {rule}; got {quote(value)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Say which of `names` comes nearest to `name`, else list them all.

    >>> nearest("esycore", ["easycore", "random"])
    "did you mean 'easycore'?"
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "choose from " + ", ".join(names)
