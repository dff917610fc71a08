"""The exceptions and the warning of easycoreset, and the wording of their messages."""

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

MAX_MESSAGE = 80  # characters of a value that a message quotes


class UsageError(ValueError):
    """Wrong use, detected before the work starts; the command line exits with 2."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython and notebooks show instead of a traceback; `%debug` still leads to the call."""
        return [f"{type(self).__name__}: {self}"]


class OtherRunError(UsageError):
    """A folder holds a run that was made with other options, or by a version with other options."""


class RunError(RuntimeError):
    """A failure during the work; the last good state is kept and the command line exits with 1."""


class GridError(RunError):
    """Part of a grid failed; the rest is done and the command line exits with 3."""


class EasycoresetWarning(UserWarning):
    """Something that the user should know and that does not stop the work."""


_reprs = reprlib.Repr()
_reprs.maxstring = _reprs.maxother = MAX_MESSAGE


def quote(value: Any) -> str:
    """The `repr` of a value, on one line of at most 80 characters.

    >>> len(quote("a" * 1000)), quote("cat")
    (80, "'cat'")
    >>> quote(8 / 255), quote((1, 2)), quote(10**5000)
    ('0.03137254901960784', '(1, 2)', 'a value of type int')
    """
    try:
        return shorten(" ".join(_reprs.repr(value).split()) if not isinstance(value, str) else _reprs.repr(value))
    except Exception:  # an integer of too many digits, or a user's __repr__
        return f"a value of type {type(value).__name__}"


def shorten(text: str, longest: int = MAX_MESSAGE) -> str:
    """Shorten a text to at most `longest` characters: its beginning and its end."""
    return text if len(text) <= longest else f"{text[: longest // 2 - 1]}...{text[-(longest // 2 - 2) :]}"


def describe_error(error: Exception) -> str:
    """The message of an exception, on one shortened line; of a TorchScript error the last line, which has the cause.

    >>> describe_error(ValueError("no such layer:" + chr(10) + " conv7"))
    'no such layer: conv7'
    """
    lines = str(error).split("\n")
    relevant = [lines[-1] or lines[-2]] if "TorchScript" in lines[0] and len(lines) > 1 else lines
    return shorten(" ".join(" ".join(relevant).split()), 300) or type(error).__name__


def require(holds: bool, option: str, rule: str, value: Any) -> None:
    """Raise a `UsageError` that names option, rule and value, unless `holds`.

    >>> require(False, "fraction", "in (0, 1]", 1.5)
    Traceback (most recent call last):
    easycoreset.errors.UsageError: fraction must be in (0, 1]; got 1.5
    """
    if not holds:
        raise UsageError(f"{option} must be {rule}; got {quote(value)}")


def suggest_name(name: str, names: Iterable[str]) -> str:
    """Suggest the one of `names` that is closest to `name`, else list them all.

    >>> suggest_name("esycore", ["easycore", "random"])
    "did you mean 'easycore'?"
    """
    names = sorted(names)
    matches = difflib.get_close_matches(name[:MAX_MESSAGE], names, n=1, cutoff=0.5)
    return f"did you mean {matches[0]!r}?" if matches else "choose from " + ", ".join(names)
